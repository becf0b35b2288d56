"""What is asked of the dock by a person: what is plugged in, a disk or image by hand, an image for training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Final

from agent.config import Config
from agent.control import Verb
from agent.drivers.detect import WORLD, recorders
from agent.drivers.dock import DockedPath, Seen
from agent.drivers.plugged import look
from agent.errors import DeviceError
from agent.model import SIMULATED, Device, Incident, SlotProgress
from agent.opening import BY_HAND, driver, hand_device, progress_fields
from agent.pipeline.runner import Runner
from agent.pipeline.station import Station
from agent.register import line

IN_TRAINING: Final = f"{SIMULATED}: "

Json = dict[str, object]


class DockOrders:
    """Answers for a running service, and remembers what detection told it; `configured` gives what is in force now."""

    def __init__(self, station: Station, runner: Runner, configured: Callable[[], Config]) -> None:
        self._station = station
        self._runner = runner
        self._configured = configured
        self._seen: dict[str, Seen] = {}

    def seen(self, docked: DockedPath, slot: str, refusal: str = "") -> None:
        """Detection found a recorder; `slot` is what the screens call its place."""
        self._seen[docked.key] = Seen(replace(docked, slot=slot), refusal)

    def gone(self, key: str) -> None:
        """It is there no longer."""
        self._seen.pop(key, None)

    def verbs(self) -> dict[str, Verb]:
        """What the control socket answers."""
        return {"dock": self._dock, "slot": self._slot, "plugged": self._plugged, "simulate": self._simulate}

    async def _dock(self, asked: Mapping[str, str]) -> Json:
        path = Path(asked["path"])
        return self._by_hand(path, hand_device(path), f"{BY_HAND}{path}")

    async def _simulate(self, asked: Mapping[str, str]) -> Json:
        """Dock the image `path` for training; `who` and `why` go into the journal."""
        if not self._configured().dock.simulate:
            raise DeviceError(
                "本站未配置为演练站 / this station is not configured for training (dock.simulate).",
                safe="Nothing was docked.",
                do="Train at a station whose agent.toml says dock.simulate = true; never at one that keeps evidence.",
            )
        who, why, path = line(asked["who"]), line(asked["why"]), Path(asked["path"])
        device = replace(_image(path), vendor=SIMULATED)
        await self._station.journal.record(Incident("simulated", {"who": who, "why": why}))
        return self._by_hand(path, device, f"{IN_TRAINING}{path}")

    def _by_hand(self, path: Path, device: Device, slot: str) -> Json:
        self._forget_ended()
        opener = partial(driver, self._configured(), self._station.vault.staging_dir, path, device)
        self._runner.dock(slot, slot, opener, once=True)
        self._seen[slot] = Seen(DockedPath(slot, path, slot, device))
        return {"slot": slot}

    async def _slot(self, asked: Mapping[str, str]) -> Json:
        shown = next((slot for slot in self._runner.slots() if slot.slot == asked["slot"]), None)
        return {} if shown is None else progress_fields(shown)

    async def _plugged(self, _asked: Mapping[str, str]) -> Json:
        self._forget_ended()
        return _plugged(self._seen.values(), self._runner.slots(), served=True)

    def _forget_ended(self) -> None:
        """What was docked by hand is shown as long as its slot is; nobody tells when it has gone."""
        shown = {slot.slot for slot in self._runner.slots()}
        self._seen = {key: one for key, one in self._seen.items() if key != one.docked.slot or key in shown}


def _image(path: Path) -> Device:
    device = hand_device(path)
    if path.is_file():
        return device
    raise DeviceError(
        f"{path} is no image file.",
        safe="Nothing was docked.",
        do="Give an image file; a recorder is docked by plugging it in.",
    )


def plugged_unserved(config: Config) -> Json:
    """What `plugged` says of a running service, without one: what it would find on USB if it began now."""
    try:
        seen = recorders() if config.dock.usb else []
    except WORLD:
        seen = []  # the look tells why
    return _plugged(seen, (), served=False)


def _plugged(seen: Iterable[Seen], shown: Sequence[SlotProgress], *, served: bool) -> Json:
    """What detection has found, with what the slots show, and a look at all that is plugged in; nothing is opened."""
    progress = {slot.slot: progress_fields(slot) for slot in shown}
    docked = [_docked(one, progress.get(one.docked.slot)) for one in seen]
    usb, trouble = [], []
    try:
        usb = [asdict(one) for one in look()]
    except WORLD as error:
        trouble = [f"udev can't be asked what is plugged in: {error}"]
    return {"served": served, "usb": usb, "docked": docked, "trouble": trouble}


def _docked(one: Seen, progress: Json | None) -> Json:
    docked, device = one.docked, asdict(one.docked.device)
    marks = {name: device[name] for name in ("driver", "vendor", "product", "serial", "port", "size_bytes")}
    where = {"key": docked.key, "path": str(docked.path), "slot": docked.slot, "link_mbit_s": docked.link_mbit_s}
    return where | marks | {"refusal": one.refusal, "progress": progress}
