"""Queries of the status page: numbers, pages of recordings, one recording's history, dockings, incidents."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from agent.errors import JournalError
from agent.journal.codec import decode
from agent.journal.connection import Connection
from agent.journal.rows import ASSET_COLUMNS, SELECT_ASSET, asset_of, sortable
from agent.journal.views import (
    Accounting,
    ClipView,
    DockingView,
    EventView,
    FindingView,
    Overview,
    RecordingHistory,
    RecordingView,
    Tally,
)
from agent.model import (
    Adopted,
    Asset,
    AssetState,
    ClipRefused,
    ClipSeen,
    DockingOpened,
    Mode,
    Observed,
    Outcome,
    Role,
)
from agent.states import is_late

LATE_LIMIT: Final = 10_000
_HISTORY: Final = 500
_UNSAFE: Final = "asset.receipt IS NULL AND asset.state <> 'matched'"
_SELECT_DOCKING: Final = "SELECT seq, docking_id, device_id, opened_at, listed_at, closed_at, reason FROM docking"
_SELECT_EVENT: Final = "SELECT seq, at, kind, subject, detail, hash FROM event"
_SELECT_RECORDING: Final = (
    f"SELECT {ASSET_COLUMNS}, asset.alarm_at, asset.late_at, event.kind, event.detail FROM asset"  # noqa: S608
    " JOIN recording USING (recording_id) JOIN event ON event.seq = recording.seq"
)
_SELECT_CLIP: Final = (
    "SELECT clip.docking_id, clip.mode, clip.outcome, clip.reason, event.kind, event.detail"
    " FROM clip JOIN event USING (seq)"
)


class StatusQueries:
    """The questions a person asks; each answers from one snapshot, in milliseconds with a million recordings."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def overview(self, now: datetime) -> Overview:
        """Return the station in numbers."""
        with self._db.snapshot():
            assets = self._counters("asset")
            clips = self._counters("clip")
            late = self._db.all(
                "SELECT count(*) FROM (SELECT 1 FROM asset"
                " WHERE receipt IS NULL AND state <> 'matched' AND late_at <= ? LIMIT ?)",
                sortable(now),
                LATE_LIMIT,
            )[0][0]
            alarm = self._db.all("SELECT min(alarm_at) FROM asset WHERE receipt IS NULL AND state <> 'matched'")[0][0]
            dockings = self._db.all("SELECT count(*) FROM docking WHERE closed_at IS NULL")[0][0]
            head = self._db.one("SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1") or (0, b"")
        return Overview(
            {state: assets.get(state, Tally()) for state in AssetState},
            {outcome: clips.get(outcome, Tally()) for outcome in Outcome},
            late,
            _time(alarm),
            dockings,
            head[0],
            head[1].hex(),
        )

    def recordings(
        self,
        now: datetime,
        *,
        state: AssetState | None = None,
        late: bool = False,
        due_before: datetime | None = None,
        after: str = "",
        limit: int = 50,
    ) -> tuple[RecordingView, ...]:
        """Return one page of recordings; `after` is that of the last one of the page before.

        Without filter the newest come first; else the most urgent. `late`: overdue on an official calendar;
        `due_before`: alarm before that time; both leave out what is safe. Pages are stable: a recording that keeps
        its place is neither skipped nor repeated while others come and go.
        """
        terms, values = _filter(now, state, late, due_before)
        key = "late_at" if late else "alarm_at"
        order = f"asset.{key}, asset.asset_id" if terms else "asset.asset_id DESC"
        if after:
            place, _, asset_id = after.partition("/")
            values += [place, asset_id] if terms else [asset_id]
            terms.append(f"(asset.{key}, asset.asset_id) > (?, ?)" if terms else "asset.asset_id < ?")
        where = " AND ".join(terms) or "true"
        rows = self._db.all(f"{_SELECT_RECORDING} WHERE {where} ORDER BY {order} LIMIT ?", *values, limit)
        return tuple(_recording_view(row, now, late=late) for row in rows)

    def recording(self, identifier: str, now: datetime) -> RecordingHistory:
        """Return the history of a recording, given its id or that of its original; raises JournalError if unknown."""
        with self._db.snapshot():
            row = self._db.one(
                _SELECT_RECORDING + " WHERE asset.asset_id ="  # noqa: S608
                " coalesce((SELECT asset_id FROM asset WHERE recording_id = ? AND role = ?), ?)",
                identifier,
                Role.ORIGINAL,
                identifier,
            )
            if row is None:
                raise JournalError(f"There is no recording {identifier}.", do="Check the id; the status shows it.")
            clips = self._db.all(
                _SELECT_CLIP + " WHERE clip.asset_id = ? ORDER BY clip.seq DESC LIMIT ?", row[0], _HISTORY
            )
            events = self._db.all(
                _SELECT_EVENT + " WHERE subject = ? AND subject <> '' ORDER BY seq DESC LIMIT ?", row[0], _HISTORY
            )
        return RecordingHistory(
            _recording_view(row, now),
            tuple(map(_clip_view, reversed(clips))),
            tuple(map(_event_view, reversed(events))),
        )

    def accounting(self, docking_id: str) -> Accounting:
        """Return where the clips of a docking went; all zero if the docking is unknown."""
        tallies = self._counters(docking_id)
        count = {outcome: tallies.get(outcome, Tally()) for outcome in Outcome}
        return Accounting(
            docking_id,
            **{outcome.value: tally.files for outcome, tally in count.items()},
            bytes={outcome: tally.bytes for outcome, tally in count.items()},
        )

    def docking(self, docking_id: str) -> DockingView:
        """Return a docking; raises JournalError if there is none."""
        with self._db.snapshot():
            row = self._db.one(_SELECT_DOCKING + " WHERE docking_id = ?", docking_id)
            if row is None:
                raise JournalError(f"There is no docking {docking_id}.")
            return self._docking_view(row)

    def dockings(
        self, *, only_open: bool = False, before_seq: int | None = None, limit: int = 50
    ) -> tuple[DockingView, ...]:
        """Return dockings, newest first; `before_seq` is the seq of the last one of the page before."""
        terms = ["closed_at IS NULL"] if only_open else []
        if before_seq is not None:
            terms.append("seq < ?")
        values = () if before_seq is None else (before_seq,)
        where = " AND ".join(terms) or "true"
        with self._db.snapshot():
            rows = self._db.all(f"{_SELECT_DOCKING} WHERE {where} ORDER BY seq DESC LIMIT ?", *values, limit)
            return tuple(map(self._docking_view, rows))

    def clips(self, docking_id: str, *, after: int = -1, limit: int = 100) -> tuple[ClipView, ...]:
        """Return clips of a docking by number, those behind number `after`."""
        rows = self._db.all(
            _SELECT_CLIP + " WHERE clip.docking_id = ? AND number > ? ORDER BY number LIMIT ?", docking_id, after, limit
        )
        return tuple(map(_clip_view, rows))

    def findings(self, docking_id: str, limit: int = 1000) -> tuple[FindingView, ...]:
        """Return the findings of a docking, oldest first."""
        rows = self._db.all(
            "SELECT seq, at, kind, detail FROM event"
            " WHERE subject = ? AND subject <> '' AND kind = 'observed' ORDER BY seq LIMIT ?",
            docking_id,
            limit,
        )
        entries = [(seq, at, decode(kind, detail)) for seq, at, kind, detail in rows]
        return tuple(
            FindingView(seq, datetime.fromisoformat(at), docking_id, entry.finding)
            for seq, at, entry in entries
            if isinstance(entry, Observed)
        )

    def incidents(self, limit: int = 50) -> tuple[EventView, ...]:
        """Return the newest incidents, newest first."""
        rows = self._db.all(_SELECT_EVENT + " WHERE kind = 'incident' ORDER BY seq DESC LIMIT ?", limit)
        return tuple(map(_event_view, rows))

    def events(self, after_seq: int = 0, limit: int = 100) -> tuple[EventView, ...]:
        """Return the events behind `after_seq`, oldest first."""
        rows = self._db.all(_SELECT_EVENT + " WHERE seq > ? ORDER BY seq LIMIT ?", after_seq, limit)
        return tuple(map(_event_view, rows))

    def _asset(self, asset_id: str) -> Asset:
        row = self._db.one(SELECT_ASSET + " WHERE asset_id = ?", asset_id)
        if row is None:
            raise JournalError(f"There is no asset {asset_id}.", do="Check the id; the status shows it.")
        return asset_of(row)

    def _counters(self, scope: str) -> dict[str, Tally]:
        rows = self._db.all("SELECT name, files, bytes FROM counter WHERE scope = ?", scope)
        return {name: Tally(files, size) for name, files, size in rows}

    def _opened(self, seq: int) -> DockingOpened:
        row = self._db.one("SELECT kind, detail FROM event WHERE seq = ?", seq)
        assert row is not None, "a docking names its event"
        entry = decode(*row)
        assert isinstance(entry, DockingOpened), "a docking was opened by its event"
        return entry

    def _docking_view(self, row: tuple[Any, ...]) -> DockingView:
        seq, docking_id, device_id, opened_at, listed_at, closed_at, reason = row
        opened = self._opened(seq)
        return DockingView(
            seq,
            docking_id,
            device_id,
            opened.device,
            opened.slot,
            datetime.fromisoformat(opened_at),
            _time(listed_at),
            _time(closed_at),
            reason,
            self.accounting(docking_id),
        )


def _filter(
    now: datetime, state: AssetState | None, late: bool, due_before: datetime | None
) -> tuple[list[str], list[object]]:
    terms: list[str] = []
    values: list[object] = []
    if late or due_before is not None:
        terms.append(_UNSAFE)
    if state is not None:
        terms.append("+asset.state = ?" if late else "asset.state = ?")  # +: the order by late_at needs its own index
        values.append(state)
    if late:
        terms.append("asset.late_at <= ?")
        values.append(sortable(now))
    if due_before is not None:
        terms.append("asset.alarm_at < ?")
        values.append(sortable(due_before))
    return terms, values


def _recording_view(row: tuple[Any, ...], now: datetime, *, late: bool = False) -> RecordingView:
    asset = asset_of(row)
    alarm_at, late_at, kind, detail = row[12:]
    entry = decode(kind, detail)
    assert isinstance(entry, ClipSeen | Adopted), "a recording names the event that brought it"
    assert entry.recording is not None, "as above"
    clip, docking_id = (entry.clip, entry.docking_id) if isinstance(entry, ClipSeen) else (None, "")
    overdue = is_late(asset, entry.recording.deadline, now)
    place = f"{late_at if late else alarm_at}/{asset.asset_id}"
    return RecordingView(entry.recording, asset, clip, docking_id, overdue, place)


def _clip_view(row: tuple[Any, ...]) -> ClipView:
    docking_id, mode, outcome, reason, kind, detail = row
    entry = decode(kind, detail)
    assert isinstance(entry, ClipSeen | ClipRefused), "a clip names the event that listed it"
    asset_id = entry.asset_id if isinstance(entry, ClipSeen) else ""
    return ClipView(docking_id, entry.clip, Mode(mode), Outcome(outcome), reason, asset_id)


def _event_view(row: tuple[Any, ...]) -> EventView:
    seq, at, kind, subject, detail, digest = row
    return EventView(seq, datetime.fromisoformat(at), kind, subject, detail, digest.hex())


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
