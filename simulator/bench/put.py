"""Puts one original into an S3 store as the agent does, notes in a journal included, in a process that is measured."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.journal import Journal
from agent.model import Digests, Held
from agent.uploader.s3 import S3Store

_SUBJECT = "bench"


class Noted:
    """An errand (see `Errand`) whose notes are in a journal of their own."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.due_at = datetime.now(UTC)
        self.done_bytes = 0

    async def recall(self) -> Mapping[str, str]:
        """What earlier attempts noted."""
        return await asyncio.to_thread(self._journal.reader.notes, _SUBJECT)

    async def note(self, notes: Mapping[str, str], *, anew: bool = False) -> None:
        """Note durably how far it has come."""
        await self._journal.note(_SUBJECT, notes, anew=anew)

    def found(self, size_bytes: int) -> None:
        """Nothing is, in a new store."""

    def sent(self, done_bytes: int) -> None:
        """How far it is."""
        self.done_bytes = done_bytes


def main() -> None:
    """`python -m simulator.bench.put JSON`: path, size_bytes, digests, journal, and options of the store."""
    asyncio.run(_put(json.loads(sys.argv[1])))


async def _put(told: dict[str, Any]) -> None:
    held = Held(_SUBJECT, Path(told["path"]), told["size_bytes"], Digests(*told["digests"]), sealed=False)
    store = S3Store("bench", told["options"], vault_root=held.path.parent)
    async with Journal.open(Path(told["journal"]), lambda: datetime.now(UTC)) as journal:
        try:
            receipt = await store.put(held, Noted(journal))
        finally:
            await store.close()
    assert receipt.locked_until is not None
    assert receipt.locked_until > datetime.now(UTC)


if __name__ == "__main__":
    main()
