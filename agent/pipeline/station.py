"""What all steps share: the journal, the vault, the store, the rules, the clock, and who works on which asset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, ParamSpec, TypeVar

from agent.accounts.book import Book
from agent.config import AccessCopies, Milestone, Runner, Scrub
from agent.config.manifests import Manifests, Timestamps
from agent.config.release import Release
from agent.config.rooms import Room
from agent.deadline import Rules
from agent.hours import Span
from agent.journal import Journal
from agent.manifest import Background
from agent.model import Clock, DockingClosed, Forms, Terms
from agent.pipeline.custody import Custody
from agent.register import Inventory
from agent.uploader.base import Store
from agent.vault import Vault

_NO_COPIES: Final = AccessCopies(enabled=False)
_NO_SCRUB: Final = Scrub(enabled=False)
_MANIFESTS: Final = Manifests()
_NO_STAMPS: Final = Timestamps()
_SURPLUS_LIMIT: Final = 10_000
_NOTHING_GOES: Final = Release().terms

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class Station:
    """One dock station at work. `claims` are the assets a docking is pulling; `commit` orders duplicate checks.

    `background` is asked, in a thread, for what manifests say; without it none are made.
    `terms` are those on which local copies go. `freeing` is held while one goes: nothing is taken into the vault
    meanwhile. `surplus` are the fingerprints of files that are still there though their copy was freed. `damages`
    counts the files that were put aside. `wanted_bytes` is the room that dockings wait for, and `room_wanted` tells of
    a new one. Before `clock_is_kept` says that somebody keeps the clock right, nothing goes. While it `is_recording` in
    any of its `rooms`, no films are made. `emptied` hears of each slot in which all that was there was taken over.
    """

    journal: Journal
    vault: Vault
    store: Store
    rules: Rules
    clock: Clock
    limits: Runner
    reserve_bytes: int
    disk: Executor
    hours: Sequence[Span] = ()
    inventory: Inventory = field(default_factory=dict)
    forms: Forms = field(default_factory=Forms)
    gps: bool = False
    refuse_unknown: bool = False
    satisfied_by: Milestone = Milestone.CENTRAL
    access: AccessCopies = _NO_COPIES
    scrub: Scrub = _NO_SCRUB
    custody: Custody = field(default_factory=Custody)
    manifests: Manifests = _MANIFESTS
    timestamp: Timestamps = _NO_STAMPS
    background: Callable[[], Background] | None = None
    terms: Terms = _NOTHING_GOES
    clock_is_kept: Callable[[], bool] = lambda: False
    rooms: Mapping[str, Room] = field(default_factory=dict)
    is_recording: Callable[[], bool] = lambda: False
    emptied: Callable[[str], None] = lambda _slot: None
    claims: set[str] = field(default_factory=set)
    unclosed: set[str] = field(default_factory=set)
    commit: asyncio.Lock = field(default_factory=asyncio.Lock)
    held_news: asyncio.Event = field(default_factory=asyncio.Event)
    damages: int = 0
    freeing: asyncio.Lock = field(default_factory=asyncio.Lock)
    surplus: set[str] = field(default_factory=set)
    wanted_bytes: dict[str, int] = field(default_factory=dict)
    room_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    book: Book = field(init=False)

    def __post_init__(self) -> None:
        self.book = Book(self.vault.root)

    @property
    def longest_pause(self) -> timedelta:
        """After so long everything that failed is tried again."""
        return timedelta(seconds=self.limits.backoff_max_s)

    async def on_disk(self, work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Run blocking vault work in the small disk pool; the GIL is released while it reads and hashes.

        A thread can't be cancelled, so whoever is cancelled waits for it: nobody closes or renames under its feet.
        """
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self.disk, lambda: work(*arguments, **options))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            done.exception()  # its outcome is no news to anybody any more
            raise

    def still_here(self, blake3: str) -> None:
        """Note that a file is still, or again, in the vault whose copy was freed; it goes when nothing keeps it."""
        if len(self.surplus) < _SURPLUS_LIMIT:
            self.surplus.add(blake3)

    async def close_left_open(self) -> None:
        """Journal the end of dockings that could not say it themselves."""
        for docking_id in sorted(self.unclosed):
            await self.journal.record(DockingClosed(docking_id, "failed"))
            self.unclosed.discard(docking_id)

    async def failed(self, asset_id: str, why: str) -> int:
        """Note a failed attempt and when the next may begin; returns how often it has failed now."""
        before = await self.on_disk(self.journal.reader.attempt, asset_id)
        failures = before.failed + 1 if before is not None else 1
        pause_s = min(self.limits.backoff_max_s, self.limits.backoff_base_s * 2.0 ** min(failures - 1, 30))
        await self.journal.failed(asset_id, why, self.clock() + timedelta(seconds=pause_s))
        return failures
