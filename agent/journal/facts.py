"""What statistics count: a few facts of each recording and interruption, in one slow walk, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.continuity import GapState, judge
from agent.deadline import ZONE
from agent.journal.codec import decode, from_text
from agent.journal.connection import Connection
from agent.journal.reader import Reader
from agent.journal.rows import ACTIVITY_CHANGED, moment_of, sortable
from agent.journal.segments import continuity_of
from agent.model import ActivityStated, Deadline, DocumentAdded, Interruption, Statement

_WORDS_KEPT: Final = 4096
_EVENTS_TOLD: Final = 50_000
_LASTS: Final = (
    "(SELECT json_extract(probed.detail, '$.facts.duration_ms') FROM event AS probed WHERE seq = probed_seq)"
)
_KEPT: Final = "asset.state IN ('held', 'stored', 'released') OR asset.resume_to = 'held'"
# Recordings whose bytes are those of another one are counted with it.
_FACTS: Final = (
    "SELECT asset_id, recording_id, asset.device_id, captured_at, deadline,"  # noqa: S608
    f" json_extract(receipt, '$.confirmed_at'), CASE WHEN {_KEPT} THEN held_at END,"
    f" json_extract(declared, '$.cause'), coalesce(size_bytes, expected_bytes), {_LASTS}"
    " FROM asset JOIN recording USING (recording_id)"
    " WHERE asset_id > ? AND asset_id <= ? AND role = 'original' AND state <> 'matched'"
    " AND captured_at >= ? AND captured_at < ? ORDER BY asset_id LIMIT ?"
)
_SAID: Final = (
    "SELECT recording_id, activity.seq FROM segment JOIN activity USING (activity_id) WHERE recording_id IN ({0})"
    " UNION ALL SELECT recording_id, document.seq FROM about JOIN document USING (asset_id)"
    " WHERE document.kind = 'statement' AND recording_id IN ({0}) ORDER BY 2"
)
# A statement tells of the recordings it is about; an activity of those it has, and of those that it had before.
_CHANGED: Final = (
    "WITH fresh AS (SELECT kind, subject FROM event WHERE seq > ?), told AS ("
    " SELECT about.recording_id FROM fresh JOIN about ON about.asset_id = subject WHERE kind = 'document_added'"
    " UNION SELECT named.value FROM fresh JOIN event AS stated ON stated.subject = fresh.subject"
    " AND stated.subject <> '' AND stated.kind = 'activity_stated', json_each(stated.detail, '$.recordings') AS named"
    " WHERE fresh.kind = 'activity_stated')"
    " SELECT subject FROM fresh UNION SELECT asset_id FROM told JOIN asset USING (recording_id)"
)
_ACTIVITIES: Final = (
    f"SELECT substr(left_at, 1, 10), count(*), max({ACTIVITY_CHANGED}) FROM activity"  # noqa: S608
    " WHERE left_at > ? GROUP BY 1"
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


class Walk:
    """A walk over the recordings and interruptions of a span of time; raises JournalError.

    Each page is a query of its own: a long walk must not keep the journal of a running service from tidying up.
    """

    def __init__(self, path: Path, first: datetime, end: datetime) -> None:
        self._db, self._reader = Connection(path), Reader(path)
        self._first, self._end = first, end
        self._said = _Said(self._db)

    def close(self) -> None:
        """Idempotent."""
        self._db.close()
        self._reader.close()

    def head(self) -> int:
        """The newest event."""
        return self._reader.log_size()

    def changed(self, after: int) -> frozenset[str] | None:
        """The originals of which a fact may have changed behind event `after`, among ids of others; None: too many."""
        if self.head() - after > _EVENTS_TOLD:
            return None
        return frozenset(row[0] for row in self._db.all(_CHANGED, after))

    def page(self, after: str, last: str, limit: int) -> list[tuple[str, Fact]]:
        """The first recordings that were completed in the span, each once, by the id of its original up to `last`."""
        rows = self._db.all(_FACTS, after, last, sortable(self._first), sortable(self._end), limit)
        said = self._said.of([row[1] for row in rows])
        return [(row[0], _fact(row, *said.get(row[1], ("", "")))) for row in rows]

    def activities(self) -> list[tuple[str, int, int]]:
        """The days on which activities ended since the span began: how many, and the newest event about them."""
        return [(day, number, seq) for day, number, seq in self._db.all(_ACTIVITIES, sortable(self._first))]

    def interruptions(self, day: str, codes: Sequence[Interruption]) -> Iterator[Interrupted]:
        """The gaps of a day's activities that began in the span, without those too short to need a word."""
        known = {one.code: one for one in codes}
        query = "SELECT activity_id FROM activity WHERE left_at > ? AND left_at BETWEEN ? AND ? ORDER BY 1"
        for (activity_id,) in self._db.all(query, sortable(self._first), day, f"{day}~"):
            view = self._reader.activity(activity_id)
            found = continuity_of(view)
            for one in (judge(gap, view.explanations, known) for gap in (*found.gaps, *found.of_sources)):
                if self._first <= one.gap.start < self._end and one.state is not GapState.AUTOMATIC:
                    yield Interrupted(one.gap.start, one.explained.said.code if one.explained else "")


def _fact(row: tuple[Any, ...], stage: str, cause: str) -> Fact:
    _, _, device_id, made_at, deadline, stored_at, held_at, declared, size_bytes, lasts_ms = row
    made_at, limit, seconds = datetime.fromisoformat(made_at), from_text(Deadline, deadline), (lasts_ms or 0) // 1000
    times = (moment_of(stored_at), moment_of(held_at))
    return Fact(device_id, made_at.astimezone(ZONE), limit, *times, cause or declared or "", size_bytes, seconds, stage)


def first_year(path: Path) -> int | None:
    """The year of China's calendar in which the first recording was completed; None if there is none."""
    query = "SELECT min(captured_at) FROM asset INDEXED BY asset_by_capture WHERE role = 'original'"
    with closing(Connection(path)) as db:
        ((made_at,),) = db.all(query)
    return None if made_at is None else datetime.fromisoformat(made_at).astimezone(ZONE).year


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
