"""From a configuration to a station that can work: its owner, journal, vault and store, and recorders named by hand."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from agent.config import Config
from agent.config.dock import Unknown
from agent.deadline import Rules
from agent.drivers.base import Docked
from agent.drivers.detect import MTP, UsbDock, named_disk
from agent.drivers.dock import DockListener
from agent.drivers.folder import Batch, Folder, inbox_device
from agent.drivers.image_dock import ImageDock, image_device
from agent.drivers.mass_storage import Limits, MassStorage
from agent.drivers.mtp import Mtp
from agent.errors import ConfigError, DeviceError
from agent.inboxes.inbox import Fates, InboxDock
from agent.journal import Journal, device_id
from agent.lines.switchboard import Switchboard
from agent.model import Clip, Clock, Device, Incident, Outcome, SlotProgress
from agent.pipeline import limits
from agent.pipeline.acquire import Docking
from agent.pipeline.progress import Meter
from agent.pipeline.rooms import Rooms
from agent.pipeline.station import Station
from agent.rooms.addresses import CameraAddresses
from agent.rooms.engine import RoomRecorder
from agent.rooms.onvif import stream_address
from agent.uploader.base import Store
from agent.vault import Vault

BY_HAND: Final = "by hand: "
_DISK_THREADS: Final = 8


@contextlib.asynccontextmanager
async def opened(config: Config, clock: Clock) -> AsyncIterator[Station]:
    """Open everything a station works with; raises ConfigError, StoreError or JournalError with what to do."""
    _check_owner(config.storage.root)
    vault = Vault(config.storage.root, seal=config.storage.seal, verity=config.storage.verity)
    with ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="disk") as disk:
        async with (
            opened_store(config, clock) as store,
            Journal.open(config.storage.root / "journal.db", clock) as journal,
        ):
            rules = Rules(config.profile, config.calendars)
            station = Station(journal, vault, store, rules, clock, config.runner, config.storage.reserve_bytes, disk)
            use(station, config)
            if config.refused:
                await limits.doubt(station)
            yield station


def rooms_of(station: Station, config: Config) -> Rooms:
    """What it does for its rooms, of which there may be none; nothing that reads media is imported here."""
    return Rooms(station, config.rooms, CameraAddresses(stream_address), RoomRecorder)


def lines_of(station: Station, config: Config, record: Callable[[Incident], None]) -> Switchboard:
    """Who speaks to recorders over their serial lines; nobody, as long as there is no profile for one."""
    lines = Switchboard(record, config.recorders, config.slots)
    station.emptied = lines.emptied
    return lines


def use(station: Station, config: Config) -> None:
    """Give a station all that a reload can change, too."""
    station.rules = Rules(config.profile, config.calendars)
    station.inventory, station.forms = config.inventory, config.forms
    station.reserve_bytes, station.hours = config.storage.reserve_bytes, config.store.hours
    station.custody.settings, station.custody.neighbours = config.log, config.witness
    station.limits, station.gps, station.access = config.runner, config.privacy.gps, config.access
    station.scrub, station.rooms = config.scrub, config.rooms
    station.manifests, station.timestamp = config.manifest, config.timestamp
    station.terms = config.terms
    station.refuse_unknown = config.dock.unknown is Unknown.REFUSE
    station.satisfied_by = config.deadline.satisfied_by


def _check_owner(root: Path) -> None:
    """What one user writes into the vault another one could not read: only the owner works there."""
    try:
        owner = root.stat().st_uid
    except FileNotFoundError:
        return  # whoever makes it owns it
    except PermissionError:
        owner = -1
    if owner != os.geteuid():
        name = "somebody else" if owner < 0 else _name_of(owner)
        raise ConfigError(
            f"The storage {root} belongs to {name}, not to the user who runs this.",
            safe="Nothing was touched.",
            do=f"Run it as that user, for example with sudo -u {name}, or ask the running service.",
        )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


@contextlib.asynccontextmanager
async def opened_store(config: Config, clock: Clock) -> AsyncIterator[Store]:
    """The store that the configuration names, found by entry point; no other is imported. Raises ConfigError."""
    choice = config.store
    found = {point.name: point for point in entry_points(group="capture_agent.stores")}
    if choice.kind not in found:
        raise ConfigError(
            f"{config.path}: store.kind = {choice.kind!r}: no such store; known are {', '.join(sorted(found))}",
            safe="Nothing was changed.",
            do="Correct store.kind.",
        )
    kind = found[choice.kind].load()
    store: Store = kind(choice.name, choice.options, vault_root=config.storage.root, clock=clock)
    try:
        yield store
    finally:
        await store.close()


def driver(config: Config, folder: Path, path: Path, device: Device, batch: Batch | None = None) -> Docked:
    """The driver that `device.driver` names, for what is docked at `path`; it fetches into `folder`.

    Of an inbox it is for one `batch`.
    """
    if batch is not None:
        return Folder(path, device, folder, batch, _limits(config))
    return (Mtp if device.driver == MTP else MassStorage)(path, device, folder, _limits(config))


def mass_storage(config: Config, folder: Path, path: Path, device: Device) -> MassStorage:
    """The driver for a block device or an image file, which fetches into `folder`."""
    return MassStorage(path, device, folder, _limits(config))


def _limits(config: Config) -> Limits:
    dock = config.dock
    return Limits(dock.stall_limit_s, dock.parser_limit_s, dock.parser_memory_bytes, dock.rescue_limit_s)


async def fates(station: Station, inbox: str, clips: Sequence[Clip]) -> Sequence[Outcome | None]:
    """What the journal says became of files of an inbox, exactly as they are."""
    return await station.on_disk(station.journal.reader.fates, device_id(inbox_device(inbox)), clips)


def detections(
    config: Config, hears: Callable[[str], DockListener], fates: Fates
) -> Iterator[Coroutine[None, None, None]]:
    """What finds recorders here, each to be run until cancelled; `hears` gives each a listener of its own.

    `fates` tells what need not be taken from an inbox again.
    """
    dock = config.dock
    if dock.usb:
        yield UsbDock(hears("usb"), rescan_s=dock.rescan_s).run()
    if dock.image_dir is not None:
        yield ImageDock(dock.image_dir, hears("images"), rescan_s=dock.rescan_s).run()
    for inbox in config.inboxes:
        yield InboxDock(inbox, hears(f"inbox {inbox.name}"), fates, stall_s=dock.stall_limit_s).run()


async def pull_by_hand(config: Config, path: Path, clock: Clock, draw: Callable[[SlotProgress], None]) -> SlotProgress:
    """Dock one device or image without the daemon; what is held is stored when the daemon runs next."""
    device = hand_device(path)
    async with opened(config, clock) as station:
        meter = Meter(f"{BY_HAND}{path}", path.name, draw)
        await Docking(station, driver(config, station.vault.staging_dir, path, device), meter.state.slot, meter).run()
        return meter.state


def hand_device(path: Path) -> Device:
    """What is known of a path that a person named; raises DeviceError if it can't be a recorder."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _no_recorder(path, f"can't be found: {error.strerror}") from error
    if stat.S_ISBLK(mode):
        return named_disk(path).device
    if not stat.S_ISREG(mode):
        raise _no_recorder(path, "is neither a block device nor an image file")
    return image_device(path)


def _no_recorder(path: Path, why: str) -> DeviceError:
    return DeviceError(
        f"{path} {why}.",
        safe="Nothing was touched.",
        do="Give the path of the recorder's disk (for example /dev/sdb) or of an image file.",
    )


def progress_fields(shown: SlotProgress) -> dict[str, object]:
    """A slot's progress as JSON fields, for the control socket and `pull --json`."""
    return {
        "slot": shown.slot, "device_label": shown.device_label, "docking_id": shown.docking_id,
        "phase": shown.phase.value, "message": shown.message,
        "files_done": shown.files_done, "files_total": shown.files_total,
        "bytes_done": shown.bytes_done, "bytes_total": shown.bytes_total,
        "rate_bytes_s": shown.rate_bytes_s, "eta_s": shown.eta_s, "may_remove": shown.may_remove,
        "outcomes": {outcome.value: files for outcome, files in shown.outcomes.items()},
    }  # fmt: skip
