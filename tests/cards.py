"""Cards and dockings with the real helpers, for tests of a whole station on real media."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3

from agent.drivers.mass_storage import DEFAULT_LIMITS, Limits, MassStorage
from agent.journal.views import DockingView
from agent.model import Device, Outcome, SlotProgress
from agent.opening import progress_fields
from agent.pipeline.acquire import Docking, End
from agent.pipeline.progress import Meter
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from agent.status.board import Board
from agent.status.health import Live
from agent.status.summary import summary
from agent.verbs.pull import told
from simulator.card import Card
from simulator.content import Content
from tests.stations import SHIPPED

MIB = 1024 * 1024
KINDS = ("fat32", "exfat")

Publish = Callable[[SlotProgress], None]


def card(path: Path, files: dict[str, Content], kind: str = "fat32", size_bytes: int = 64 * MIB) -> Card:
    """A finished card; more may be done to it, then `finish()` and `close()` it again."""
    made = (Card.fat32 if kind == "fat32" else Card.exfat)(path, size_bytes, cluster_bytes=4096)
    for name, content in files.items():
        made.add(name, content)
    made.finish()
    return made


def image(path: Path, files: dict[str, Content], kind: str = "fat32", size_bytes: int = 64 * MIB) -> Path:
    """The image of such a card."""
    card(path, files, kind, size_bytes).close()
    return path


def driver(station: Station, path: Path, limits: Limits = DEFAULT_LIMITS) -> MassStorage:
    """The real driver for an image or a block device."""
    return MassStorage(path, Device("mass_storage", product="image", port=path.name), station.vault.staging_dir, limits)


async def docked(
    station: Station, path: Path, publish: Publish | None = None, limits: Limits = DEFAULT_LIMITS
) -> tuple[End, SlotProgress]:
    """One docking from plug to its end, and what the slot shows then; the card may be taken only at the very end."""
    shown: list[SlotProgress] = []

    def seen(progress: SlotProgress) -> None:
        shown.append(progress)
        if publish is not None:
            publish(progress)

    end = await Docking(station, driver(station, path, limits), "1", Meter("1", "card", seen)).run()
    assert not any(progress.may_remove for progress in shown[:-1])
    return end, shown[-1]


async def stored(station: Station) -> None:
    """Give the store lane everything that is due now."""
    lane = StoreLane(station)
    while station.journal.reader.next_to_store(station.clock(), frozenset()) is not None:
        asset = await lane.take()
        try:
            await lane.store(asset)
        finally:
            lane.give_back(asset)


def newest(station: Station) -> DockingView:
    return station.journal.reader.dockings(limit=1)[0]


def accounts(station: Station) -> dict[str, int]:
    """The accounting of the newest docking; what is zero is left out. Nothing is ever missing from the sum."""
    found = newest(station).accounting
    numbers = {outcome.value: getattr(found, outcome.value) for outcome in Outcome}
    assert found.seen == sum(numbers.values())
    return {name: number for name, number in numbers.items() if number}


def held(station: Station) -> dict[str, bytes]:
    """All originals of the vault by their BLAKE3, read as anybody would."""
    return {digest: path.read_bytes() for digest, path, _ in station.vault.originals()}


def expected(*contents: bytes) -> dict[str, bytes]:
    return {blake3(content).hexdigest(): content for content in contents}


def incidents(station: Station) -> list[str]:
    events = station.journal.reader.events(limit=100_000)
    return [event.detail for event in reversed(events) if event.kind == "incident"]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


async def said(station: Station, shown: SlotProgress, store_error: str = "") -> tuple[dict[str, Any], str]:
    """What the status endpoint and `capture-agent status` say while a slot shows this."""
    live = Live((shown,), station.vault.free_bytes(), store_error)
    board = Board(SHIPPED, station.journal.reader, station.clock, lambda: live, lambda: 0)
    try:
        status = json.loads(await board.status())
    finally:
        board.close()
    return status, summary(status)


async def assert_not_done(station: Station, shown: SlotProgress) -> None:
    """F25: nothing that anybody looks at says that this recorder may be taken away."""
    status, text = await said(station, shown)
    (slot,) = status["slots"]
    assert not shown.may_remove
    assert not slot["may_remove"]
    assert slot["hold"]["name"] != "take"
    assert "可以取走" not in json.dumps(status, ensure_ascii=False) + text
    assert "may be taken" not in json.dumps(status) + text
    fields = progress_fields(shown)
    assert "every file is safe" not in told(fields)
    assert not fields["may_remove"]
