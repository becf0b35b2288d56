"""The journal as the pipeline uses it: awaitable writes through one writer thread, and a reader beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import Self

from agent.journal.codec import encode
from agent.journal.lock import WriterLock
from agent.journal.log import Job
from agent.journal.reader import Reader
from agent.journal.telling import tell
from agent.journal.views import DurableBlock
from agent.journal.writer import QUEUE_JOBS, Writer
from agent.model import Clock, Extent, JournalEntry
from agent.vault import Settled


class Journal:
    """What happened to every recorder, clip and asset; the only truth that survives a restart.

    Every write is one transaction and durable when it returns. Calls from several tasks share one commit, and a call
    that is refused doesn't touch the others. Cancelling a call doesn't cancel its commit: it may happen a moment later
    or be refused, whole or not at all. A call that failed because of the disk left nothing to be seen, and later calls
    work again once the disk does. (If the disk wrote but could not sync, and the process ends before its next commit,
    a restart may find that call after all, whole: so callers look at the journal again instead of repeating blindly.)
    """

    def __init__(self, writer: Writer, reader: Reader, opened: ExitStack) -> None:
        """Use `Journal.open`."""
        self._writer = writer
        self._opened = opened
        self._room = asyncio.Semaphore(QUEUE_JOBS)
        self.reader = reader

    @classmethod
    def open(cls, path: Path, clock: Clock) -> Self:
        """Open or create the journal at `path` for writing; raises JournalError, also if another process writes it."""
        with ExitStack() as opened:
            opened.enter_context(WriterLock(path))
            writer = opened.enter_context(closing(Writer(path, clock)))
            # Closed first: only the last connection, if it may write, folds the -wal file into the database.
            reader = opened.enter_context(closing(Reader(path)))
            return cls(writer, reader, opened.pop_all())

    def is_alive(self) -> bool:
        """Whether anything can still be written; once false it stays so until the journal is opened again."""
        return self._writer.is_alive()

    @property
    def trouble(self) -> str:
        """Why the disk refused the last commit; empty if it didn't."""
        return self._writer.trouble

    async def close(self) -> None:
        """Commit what is queued and close; idempotent."""
        await asyncio.to_thread(self._opened.close)

    async def record(self, *entries: JournalEntry) -> int:
        """Append the entries as one atomic step and return the sequence number of the last event (0 for no entries).

        Raises:
            JournalError: an entry contradicts the tables (illegal transition, lost compare-and-swap, clip not
                pending, unknown docking), or the disk failed.
            EvidenceError: a proof is about other bytes than the asset's.
        """
        if not entries:
            return 0
        encoded = [encode(entry) for entry in entries]
        seqs = await self._do(lambda log: log.append(encoded))
        tell(encoded)
        return seqs[-1]

    async def begun(self, asset_ids: Sequence[str]) -> list[int]:
        """Count one more attempt for each asset, before its work starts.

        Returns, in order, how many attempts began since the asset last changed its state.
        """
        return await self._do(lambda log: log.begun(asset_ids))

    async def failed(self, asset_id: str, error: str, next_at: datetime) -> int:
        """Note that the attempt failed and when the next may begin; returns the failures since the last change."""
        return (await self._do(lambda log: log.failed(asset_id, error, next_at)))[0]

    async def block(self, asset_id: str, block: DurableBlock) -> None:
        """Note that a block of the asset's part is durable; blocks noted behind it become void."""
        await self._do(lambda log: log.block(asset_id, block))

    async def settled(self, parts: Sequence[tuple[Settled, tuple[Extent, ...]]]) -> None:
        """Note parts, with their holes, that were read back and are about to be renamed."""
        await self._do(lambda log: log.settled(parts))

    async def unsettled(self, asset_id: str) -> None:
        """Drop the blocks and the settled note of an asset whose part is void."""
        await self._do(lambda log: log.unsettled(asset_id))

    async def note(self, subject: str, notes: Mapping[str, str], *, anew: bool = False) -> None:
        """Note how far work on a subject has come, which is an asset or a lane; `anew` forgets its other notes first.

        The notes of an asset are forgotten when it is stored. Noting progress forgives attempts that were interrupted.
        """
        await self._do(lambda log: log.note(subject, notes, anew=anew))

    async def written_by_others(self) -> bool:
        """Tell whether another process has written to the journal since the last call."""
        return (await self._do(lambda log: log.written_by_others()))[0] == 1

    async def _do(self, job: Job) -> list[int]:
        await self._room.acquire()
        done = asyncio.wrap_future(self._writer.submit(job))
        done.add_done_callback(lambda _: self._room.release())
        return await asyncio.shield(done)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
