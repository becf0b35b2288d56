"""Queries of recordings: one by its id, and pages of all by what a person wants to see, read by indexes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, Final, NamedTuple

from agent.errors import UnknownError
from agent.journal.codec import decode, from_text
from agent.journal.connection import Connection
from agent.journal.derived import made_of
from agent.journal.metadata_queries import metadata_view
from agent.journal.rows import ASSET_COLUMNS, CLOCK_SET, SELECT_ASSET, asset_of, moment_of, sortable
from agent.journal.views import RecordingView
from agent.model import (
    Adopted,
    Asset,
    AssetState,
    ClipSeen,
    Completeness,
    Deadline,
    Declared,
    Medium,
    Probed,
    Role,
    SegmentTaken,
    Stated,
)


class Sort(StrEnum):
    """By what a page is in order: the newest, the most urgent, what was captured last, the largest first."""

    NEWEST = "newest"
    DEADLINE = "deadline"
    CAPTURED = "captured"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to see of all recordings; without a filter all of them.

    `captured_before` is exclusive, as is `due_before`; `id_begins` is the beginning of a recording's or its original's
    id. `unsafe`: only what no store has. `accepts` is asked last: it costs more than the others.
    """

    sort: Sort = Sort.NEWEST
    state: AssetState | None = None
    unsafe: bool = False
    due_before: datetime | None = None
    captured_from: datetime | None = None
    captured_before: datetime | None = None
    id_begins: str = ""
    completeness: Completeness | None = None
    device_id: str = ""
    accepts: Callable[[RecordingView], bool] | None = None


ALL: Final = Wanted()


class Page(NamedTuple):
    """Recordings, and the place behind them; None at the end. There may be fewer than asked for, and still more behind.

    A filter that little fits to is looked through in pieces, so that no question takes long.
    """

    rows: tuple[RecordingView, ...]
    after: str | None


class _Term(NamedTuple):
    """A filter in SQL; `through` an index (None: none) it finds what fits, in the order of `sort` if that is given."""

    clause: str
    values: tuple[object, ...]
    through: str | None = None
    sort: Sort | None = None


class _Source(NamedTuple):
    """Where rows come from: `by` a filter's index or, without one, that of the order; else they are few, and sorted."""

    by: _Term | None
    through: str
    is_ordered: bool


_SCANNED: Final = 2000
"""How many rows are looked at for one page; loading one from the log counts as eight."""

_LOADED: Final = 8
_CHUNK: Final = 200
_HIGHEST: Final = "\U0010ffff"
_NOT_SAFE: Final = "asset.receipt IS NULL AND asset.state <> 'matched'"
_ORDER: Final[Mapping[Sort, tuple[str, str, str]]] = {
    Sort.NEWEST: ("asset.asset_id", "DESC", ""),
    Sort.DEADLINE: ("asset.alarm_at", "ASC", "INDEXED BY asset_by_alarm"),
    Sort.CAPTURED: ("asset.captured_at", "DESC", "INDEXED BY asset_by_capture"),
    Sort.SIZE: ("coalesce(asset.size_bytes, asset.expected_bytes)", "DESC", "INDEXED BY asset_by_size"),
}
_ID_BEGINS: Final = "(asset.asset_id >= ? AND asset.asset_id < ? OR asset.recording_id >= ? AND asset.recording_id < ?)"
_COMPLETE: Final = "(SELECT completeness FROM metadata WHERE metadata.recording_id = asset.recording_id) = ?"
# The verdict may still change: not stored, or on a provisional calendar.
_UNDECIDED: Final = (
    "(asset.receipt IS NULL AND asset.state <> 'matched') OR json_extract(deadline, '$.basis') = 'provisional' OR"
    " EXISTS (SELECT 1 FROM asset AS kept WHERE kept.asset_id = asset.same_as AND kept.receipt IS NULL)"
)
_SELECT_RECORDING: Final = (
    f"SELECT {ASSET_COLUMNS}, asset.alarm_at, asset.held_at, deadline, stated, declared, ended, recording.medium"  # noqa: S608
    ", completeness, lacks, version, json_extract(made.detail, '$.found', '$.reason')"
    f", event.at, {CLOCK_SET} > event.seq), {CLOCK_SET} > event.seq AND json_extract(detail, '$.run') <= event.seq)"
    ", event.kind, event.detail, told.kind, told.detail FROM asset"
    " JOIN recording USING (recording_id) JOIN metadata USING (recording_id) JOIN event ON event.seq = recording.seq"
    " LEFT JOIN event AS told ON told.seq = recording.probed_seq"
    " LEFT JOIN asset AS kept ON kept.asset_id = asset.same_as"
    " LEFT JOIN event AS made ON made.seq = coalesce(kept.derived_seq, asset.derived_seq)"
)


class RecordingQueries:
    """The part of the reader that knows recordings."""

    _db: Connection

    def asset(self, identifier: str) -> Asset:
        """Return an asset by its id or that of its recording; raises JournalError if there is none."""
        row = self._db.one(
            SELECT_ASSET + " WHERE asset_id = coalesce("  # noqa: S608
            "(SELECT asset_id FROM asset WHERE recording_id = ?1 AND role = 'original'), ?1)",
            identifier,
        )
        if row is None:
            raise UnknownError(f"There is no recording or asset {identifier}.", do="Check the id; the status shows it.")
        return asset_of(row)

    def recordings(
        self, *, state: AssetState | None = None, due_before: datetime | None = None, after: str = "", limit: int = 50
    ) -> tuple[RecordingView, ...]:
        """Return one page of recordings; `after` is that of the last one of the page before.

        Without filter the newest come first; else the most urgent. `due_before`: alarm before that time, without what
        is safe.
        """
        sort = Sort.NEWEST if state is None and due_before is None else Sort.DEADLINE
        return self.page(Wanted(sort, state, due_before is not None, due_before), after, limit).rows

    def page(self, wanted: Wanted, after: str = "", limit: int = 50) -> Page:
        """Return what is wanted from behind a place on, "" is the beginning; any text is one.

        Pages are stable: a recording that keeps its place is neither skipped nor repeated while others come and go.
        """
        found: list[RecordingView] = []
        cost, place = 0, after
        with self._db.snapshot():
            terms = _terms(wanted)
            source = self._source(wanted, terms)
            others = [term for term in terms if term is not source.by]
            is_plain = not others and wanted.accepts is None
            chunk = _SCANNED if not source.is_ordered else limit if is_plain else _CHUNK
            while cost < _SCANNED:
                keys = self._keys(wanted.sort, source, others, place, chunk)
                fitting = {asset_id: f"{key}/{asset_id}" for asset_id, key, fits in keys if fits}
                for view in self._views(fitting, chunk if wanted.accepts else limit - len(found)):
                    if wanted.accepts is None or wanted.accepts(view):
                        found.append(view)
                    if len(found) == limit:
                        return Page(tuple(found), view.after)
                if len(keys) < chunk:
                    return Page(tuple(found), None)
                cost += len(keys) + (_LOADED * len(fitting) if wanted.accepts else 0)
                place = f"{keys[-1][1]}/{keys[-1][0]}"
        return Page(tuple(found), place)

    def _source(self, wanted: Wanted, terms: Sequence[_Term]) -> _Source:
        ordered = next((term for term in terms if term.sort is wanted.sort), None)
        if ordered is None or len(terms) > 1:
            for term in terms:
                if term.through is not None and self._is_rare(term):
                    return _Source(term, term.through, is_ordered=False)
        if ordered is not None and ordered.through is not None:
            return _Source(ordered, ordered.through, is_ordered=True)
        return _Source(None, _ORDER[wanted.sort][2], is_ordered=True)

    def _is_rare(self, term: _Term) -> bool:
        rows = f"SELECT 1 FROM asset {term.through} WHERE asset.role = 'original' AND {term.clause} LIMIT ?"  # noqa: S608
        return bool(self._db.all(f"SELECT count(*) FROM ({rows})", *term.values, _SCANNED)[0][0] < _SCANNED)  # noqa: S608

    def _keys(
        self, sort: Sort, source: _Source, others: Sequence[_Term], place: str, limit: int
    ) -> list[tuple[str, Any, int]]:
        """Return asset id, key and whether all others fit, of the rows behind a place."""
        key, direction, _ = _ORDER[sort]
        terms, values = ["asset.role = 'original'"], [value for term in others for value in term.values]
        if source.by is not None:
            terms.append(source.by.clause)
            values += source.by.values
        if place:
            before, _, asset_id = place.partition("/")
            terms.append(f"({key}, asset.asset_id) {'<' if direction == 'DESC' else '>'} (?, ?)")
            values += [int(before[:18]) if sort is Sort.SIZE and before.isdecimal() else before, asset_id]
        fits = " AND ".join(f"({term.clause})" for term in others) or "TRUE"
        where, plus = (
            " AND ".join(terms),
            "" if source.is_ordered else "+",
        )  # few rows: found by their filter, not by order
        return self._db.all(
            f"SELECT asset.asset_id, {key}, {fits} FROM asset {source.through} WHERE {where}"  # noqa: S608
            f" ORDER BY {plus}{key} {direction}, {plus}asset.asset_id {direction} LIMIT ?",
            *values,
            limit,
        )

    def _views(self, places: Mapping[str, str], limit: int) -> Iterator[RecordingView]:
        """Yield the first of the recordings with these originals, in their order, each with its place."""
        chosen = list(islice(places, limit))
        if not chosen:
            return iter(())
        marks = ", ".join("?" * len(chosen))
        rows = {row[0]: row for row in self._db.all(f"{_SELECT_RECORDING} WHERE asset.asset_id IN ({marks})", *chosen)}
        return (replace(_recording_view(rows[name]), after=places[name]) for name in chosen)

    def recording(self, identifier: str) -> RecordingView:
        """Return a recording by its id or that of its original; raises JournalError if there is none."""
        asset = self.asset(identifier)
        if asset.role is not Role.ORIGINAL:
            raise UnknownError(f"{identifier} is a document, no recording.", do="Give the id of a recording.")
        row = self._db.one(f"{_SELECT_RECORDING} WHERE asset.asset_id = ?", asset.asset_id)
        assert row is not None, "an asset has a recording, and that an event"
        return _recording_view(row)

    def undecided(self, after: str, limit: int) -> tuple[RecordingView, ...]:
        """Return recordings whose verdict may still change, by asset id from behind `after` on."""
        where = f"asset.asset_id > ? AND asset.role = 'original' AND ({_UNDECIDED})"
        query = f"{_SELECT_RECORDING} WHERE {where} ORDER BY asset.asset_id LIMIT ?"
        return tuple(map(_recording_view, self._db.all(query, after, limit)))


def _terms(wanted: Wanted) -> list[_Term]:
    found: list[_Term] = []
    if wanted.id_begins:
        between = (wanted.id_begins, wanted.id_begins + _HIGHEST)
        found.append(_Term(_ID_BEGINS, (*between, *between), ""))
    if wanted.unsafe:
        before = sortable(wanted.due_before) if wanted.due_before is not None else _HIGHEST
        found.append(_Term(f"{_NOT_SAFE} AND asset.alarm_at < ?", (before,), "INDEXED BY asset_unsafe", Sort.DEADLINE))
    if wanted.state is not None:
        found.append(_Term("asset.state = ?", (wanted.state,), "INDEXED BY asset_by_state", Sort.DEADLINE))
    if wanted.captured_from is not None or wanted.captured_before is not None:
        since = sortable(wanted.captured_from) if wanted.captured_from is not None else ""
        until = sortable(wanted.captured_before) if wanted.captured_before is not None else _HIGHEST
        clause = "asset.captured_at >= ? AND asset.captured_at < ?"
        found.append(_Term(clause, (since, until), "INDEXED BY asset_by_capture", Sort.CAPTURED))
    if wanted.completeness is not None:
        found.append(_Term(_COMPLETE, (wanted.completeness,)))
    if wanted.device_id:
        found.append(_Term("asset.device_id = ?", (wanted.device_id,)))
    return found


def _recording_view(row: tuple[Any, ...]) -> RecordingView:
    asset = asset_of(row)
    alarm_at, held_at, deadline, stated, declared, ended, medium, *metadata, made = row[12:23]
    seen_at, set_s, set_in_run_s, kind, detail, *told = row[23:]
    entry = decode(kind, detail)
    assert isinstance(entry, ClipSeen | Adopted | SegmentTaken), "a recording names the event that brought it"
    assert entry.recording is not None, "as above"
    probed = decode(*told) if told[0] is not None else None
    assert isinstance(probed, Probed | None), "a recording names the event that tells of its content"
    clip, docking_id = (entry.clip, entry.docking_id) if isinstance(entry, ClipSeen) else (None, "")
    return RecordingView(
        replace(entry.recording, deadline=from_text(Deadline, deadline), medium=Medium(medium)),
        asset,
        clip,
        docking_id,
        f"{alarm_at}/{asset.asset_id}",
        moment_of(held_at),
        from_text(Stated, stated) if stated is not None else None,
        from_text(Declared, declared) if declared is not None else None,
        moment_of(ended),
        probed.facts if probed else None,
        probed.time if probed else None,
        metadata_view(*metadata),
        made_of(made),
        seen_at=datetime.fromisoformat(seen_at),
        # A step of a later run may only have put right what was wrong since a start: it makes nothing later.
        set_by_s=set_s if set_s < 0 else max(0.0, set_in_run_s),
        segment=entry if isinstance(entry, SegmentTaken) else None,
    )
