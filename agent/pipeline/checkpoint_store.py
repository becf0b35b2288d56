"""Brings signed checkpoints to the store, one by one, for ever: there nobody of this station can set them back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from agent import durable
from agent.errors import EvidenceError, StoreError
from agent.journal.views import CheckpointView
from agent.model import CheckpointStored, Held, Incident
from agent.pipeline.documents import refusing
from agent.pipeline.station import Station

log: Final = logging.getLogger("capture-agent")

_LOOK_AGAIN_S: Final = 60.0
_ATTEMPT_LIMIT_S: Final = 600.0
_BEHIND_ALL: Final = datetime(9999, 1, 1, tzinfo=UTC)
_TAKEN: Final = "centre"
_AWAY: Final = "centre-away"
_TOLD_AFTER: Final = 10


class _Errand:
    """A checkpoint on its way: behind every original; what its store notes is worth nothing after a restart."""

    due_at = _BEHIND_ALL

    def __init__(self) -> None:
        self._notes: dict[str, str] = {}

    async def recall(self) -> Mapping[str, str]:
        """What earlier attempts of this process noted."""
        return self._notes

    async def note(self, notes: Mapping[str, str], *, anew: bool = False) -> None:
        """Remember, as long as this process lives: two uploads of a few hundred bytes harm nobody."""
        self._notes = dict(notes) if anew else {**self._notes, **notes}

    def found(self, size_bytes: int) -> None:
        """Nobody watches."""

    def sent(self, done_bytes: int) -> None:
        """Nobody watches."""


class CheckpointStoreLane:
    """The oldest first. A number that the store has with other bytes means a log that was set back, or a forger."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._behind = 0
        self._failures = 0
        self._errand = _Errand()

    async def step(self) -> None:
        """Store the next checkpoint, or wait for one; raises JournalError and StoreError if our own disk refuses."""
        station = self._station
        signed = station.custody.signed
        view = await station.on_disk(station.journal.reader.checkpoint_to_store, self._behind)
        if view is None:
            await self._wait(signed)
            return
        try:
            await self._store(view)
        except (EvidenceError, StoreError, TimeoutError) as error:
            await self._not_stored(view, error)
            return
        self._errand, self._failures = _Errand(), 0
        station.custody.troubles.pop(_AWAY, None)

    async def _store(self, view: CheckpointView) -> None:
        station = self._station
        held = await station.on_disk(station.vault.lend, *_named(view, station.custody.origin))
        try:
            async with asyncio.timeout(_ATTEMPT_LIMIT_S):
                receipt = await station.store.put(held, self._errand)
        finally:
            await station.on_disk(_remove, held)
        await station.journal.record(CheckpointStored(view.number, receipt))

    async def _not_stored(self, view: CheckpointView, error: Exception) -> None:
        """A store that is away is tried for ever; one that refuses is told, and the next checkpoint is tried."""
        limits = self._station.limits
        if isinstance(error, StoreError) and not error.retry:
            await self._refused(view, error)
            return
        self._failures += 1
        if self._failures == _TOLD_AFTER:
            what = f"第 {view.number} 号日志签名尚未送达中心 (not at the centre: checkpoint {view.number}): {error}"
            self._station.custody.troubles[_AWAY] = what
        await asyncio.sleep(min(limits.backoff_max_s, limits.backoff_base_s * 2.0 ** min(self._failures - 1, 30)))

    async def _refused(self, view: CheckpointView, error: StoreError) -> None:
        self._errand, self._behind = _Errand(), view.number
        troubles = self._station.custody.troubles
        if _TAKEN not in troubles:
            log.critical("checkpoint %s was refused: %s", view.number, error)
            told = {"number": view.number, "what": error.what}
            await self._station.journal.record(Incident("checkpoint-refused", told))
        troubles[_TAKEN] = (
            f"中心已有不同的第 {view.number} 号日志签名，或拒绝接收：本站日志可能被回退或伪造，请联系管理员"
            f" (the centre refuses checkpoint {view.number}): {error.what}"
        )

    async def _wait(self, signed: asyncio.Event) -> None:
        """For the next one; then those that were refused have another chance, since a person may have mended it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await signed.wait()
        self._behind = 0


def _named(view: CheckpointView, origin: str) -> tuple[str, bytes, str]:
    """The name of its file while it is sent, its bytes as they were signed, and its key in every store."""
    return f"checkpoint-{view.number}", view.signed.encode(), f"checkpoints/{origin.replace('/', '-')}/{view.number:08}"


def _remove(held: Held) -> None:
    with refusing(held.path.name):
        durable.remove_part(held.path)
