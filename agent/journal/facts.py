"""What statistics count: a few facts of each recording, in one slow walk through the tables, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from agent.deadline import ZONE
from agent.journal.codec import from_text
from agent.journal.connection import Connection
from agent.model import Deadline

_PAGE: Final = 5000
# A person's word on when it was completed goes first, then what the content says, then what the recorder wrote.
_MADE: Final = "coalesce(json_extract(stated, '$.made_at'), json_extract(event.detail, '$.recording.captured_latest'))"
_KEPT: Final = "asset.state IN ('held', 'stored', 'released') OR asset.resume_to = 'held'"
# Recordings whose bytes are those of another one are counted with it.
_FACTS: Final = (
    f"SELECT asset_id, device_id, unixepoch({_MADE}) AS made, deadline, json_extract(receipt, '$.confirmed_at'),"  # noqa: S608
    f" CASE WHEN {_KEPT} THEN held_at END, json_extract(declared, '$.cause'), coalesce(size_bytes, expected_bytes)"
    " FROM asset JOIN recording USING (recording_id) JOIN event ON event.seq = recording.seq"
    " WHERE asset_id > ? AND role = 'original' AND state <> 'matched' AND made >= ? AND made < ?"
    " ORDER BY asset_id LIMIT ?"
)


class Fact(NamedTuple):
    """One recording as statistics see it: when it was completed, and since when it is held and stored."""

    device_id: str
    made_at: datetime
    deadline: Deadline
    stored_at: datetime | None
    held_at: datetime | None
    cause: str
    size_bytes: int
    seconds: int
    stage: str


def facts(path: Path, first: datetime, end: datetime) -> Iterator[Fact]:
    """The recordings that were completed from `first` on and before `end`, each once; raises JournalError.

    Each page is a query of its own: a long walk must not keep the journal of a running service from tidying up.
    """
    after, span = "", (int(first.timestamp()), int(end.timestamp()))
    with closing(Connection(path)) as db:
        while rows := db.all(_FACTS, after, *span, _PAGE):
            after = rows[-1][0]
            for _, device_id, made, deadline, stored_at, held_at, cause, size_bytes in rows:
                yield Fact(
                    device_id,
                    datetime.fromtimestamp(made, ZONE),
                    from_text(Deadline, deadline),
                    _time(stored_at),
                    _time(held_at),
                    cause or "",
                    size_bytes,
                    0,
                    "",
                )


def first_year(path: Path) -> int | None:
    """The year of China's calendar in which the first recording was completed; None if there is none."""
    query = f"SELECT min(unixepoch({_MADE})) FROM recording JOIN event ON event.seq = recording.seq"  # noqa: S608
    with closing(Connection(path)) as db:
        ((made,),) = db.all(query)
    return None if made is None else datetime.fromtimestamp(made, ZONE).year


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
