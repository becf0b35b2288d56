"""What statistics count: a few facts of each recording and interruption, in one slow walk, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from agent.continuity import GapState, judge
from agent.deadline import ZONE
from agent.journal.codec import decode, from_text
from agent.journal.connection import Connection
from agent.journal.reader import Reader
from agent.journal.rows import sortable
from agent.journal.segments import continuity_of
from agent.model import ActivityStated, Deadline, DocumentAdded, Interruption, Statement

_PAGE: Final = 5000
_WORDS_KEPT: Final = 4096
# A person's word on when it was completed goes first, then what the content says, then what the recorder wrote.
_MADE: Final = "coalesce(made_end_at, json_extract(event.detail, '$.recording.captured_latest'))"
_LASTS: Final = (
    "(SELECT json_extract(probed.detail, '$.facts.duration_ms') FROM event AS probed WHERE seq = probed_seq)"
)
_KEPT: Final = "asset.state IN ('held', 'stored', 'released') OR asset.resume_to = 'held'"
# Recordings whose bytes are those of another one are counted with it.
_FACTS: Final = (
    f"SELECT asset.asset_id, recording_id, recording.device_id, unixepoch({_MADE}) AS made, deadline,"  # noqa: S608
    f" json_extract(receipt, '$.confirmed_at'), CASE WHEN {_KEPT} THEN held_at END,"
    f" json_extract(declared, '$.cause'), coalesce(size_bytes, expected_bytes), {_LASTS}"
    " FROM asset JOIN recording USING (recording_id) JOIN event ON event.seq = recording.seq"
    " WHERE asset.asset_id > ? AND asset.role = 'original' AND asset.state <> 'matched' AND made >= ? AND made < ?"
    " ORDER BY asset.asset_id LIMIT ?"
)
_SAID: Final = (
    "SELECT recording_id, activity.seq FROM segment JOIN activity USING (activity_id) WHERE recording_id IN ({0})"
    " UNION ALL SELECT recording_id, document.seq FROM about JOIN document USING (asset_id)"
    " WHERE document.kind = 'statement' AND recording_id IN ({0}) ORDER BY 2"
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


class Interrupted(NamedTuple):
    """One interruption of an activity: when it began, and the code that explains it; "" while nobody has."""

    start: datetime
    code: str


_Words = tuple[str | None, str | None]
"""The stage, and the cause of being late; "" withdraws, None leaves what was said before."""


def facts(path: Path, first: datetime, end: datetime) -> Iterator[Fact]:
    """The recordings that were completed from `first` on and before `end`, each once; raises JournalError.

    Each page is a query of its own: a long walk must not keep the journal of a running service from tidying up.
    """
    after, span = "", (int(first.timestamp()), int(end.timestamp()))
    with closing(Connection(path)) as db:
        words = _Said(db)
        while rows := db.all(_FACTS, after, *span, _PAGE):
            after = rows[-1][0]
            said = words.of([row[1] for row in rows])
            for _, recording_id, device_id, made, deadline, stored_at, held_at, declared, size_bytes, lasts_ms in rows:
                stage, cause = said.get(recording_id, ("", ""))
                yield Fact(
                    device_id,
                    datetime.fromtimestamp(made, ZONE),
                    from_text(Deadline, deadline),
                    _time(stored_at),
                    _time(held_at),
                    cause or declared or "",
                    size_bytes,
                    (lasts_ms or 0) // 1000,
                    stage,
                )


def interruptions(path: Path, first: datetime, end: datetime, codes: Sequence[Interruption]) -> Iterator[Interrupted]:
    """The gaps of activities that began from `first` on and before `end`, without those too short to need a word."""
    known = {one.code: one for one in codes}
    query = "SELECT activity_id, left_at FROM activity WHERE (left_at, activity_id) > (?, ?) ORDER BY 2, 1 LIMIT ?"
    left_at, activity_id = sortable(first), ""
    with closing(Reader(path)) as reader, closing(Connection(path)) as db:
        while rows := db.all(query, left_at, activity_id, _PAGE):
            activity_id, left_at = rows[-1]
            for view in map(reader.activity, (row[0] for row in rows)):
                for one in (judge(gap, view.explanations, known) for gap in continuity_of(view).gaps):
                    if first <= one.gap.start < end and one.state is not GapState.AUTOMATIC:
                        yield Interrupted(one.gap.start, one.explained.said.code if one.explained else "")


def first_year(path: Path) -> int | None:
    """The year of China's calendar in which the first recording was completed; None if there is none."""
    query = f"SELECT min(unixepoch({_MADE})) FROM recording JOIN event ON event.seq = recording.seq"  # noqa: S608
    with closing(Connection(path)) as db:
        ((made,),) = db.all(query)
    return None if made is None else datetime.fromtimestamp(made, ZONE).year


class _Said:
    """What persons said of recordings; one document may speak of a thousand of them, and is read once."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self._words = lru_cache(_WORDS_KEPT)(self._read)

    def of(self, recordings: Sequence[str]) -> dict[str, tuple[str, str]]:
        """The last word on each, for those of which somebody said anything."""
        marks = ", ".join(f"?{number}" for number in range(1, len(recordings) + 1))
        found: dict[str, tuple[str, str]] = {}
        for recording_id, seq in self._db.all(_SAID.format(marks), *recordings):
            stage, cause = self._words(seq)
            before = found.get(recording_id, ("", ""))
            found[recording_id] = (before[0] if stage is None else stage, before[1] if cause is None else cause)
        return found

    def _read(self, seq: int) -> _Words:
        row = self._db.one("SELECT kind, detail FROM event WHERE seq = ?", seq)
        assert row is not None, "a row names the event that holds its facts"
        match decode(*row):
            case ActivityStated(stage=stage):
                return stage, None
            case DocumentAdded(said=Statement(fields=fields)):
                late = fields.get("late")
                cause = late.get("code") if isinstance(late, Mapping) else ""
                said = str(fields.get("stage") or "")
                return said if "stage" in fields else None, str(cause) if "late" in fields else None
        return None, None


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
