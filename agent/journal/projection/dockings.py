"""What happens between recorder and station: dockings, their clips, and what became of each."""

from __future__ import annotations

from typing import assert_never

from agent.errors import JournalError
from agent.journal.projection.assets import change_asset, insert_footage
from agent.journal.projection.tables import UNCHANGED, Tables
from agent.journal.rows import likeness, storable
from agent.model import (
    Acquired,
    AssetChanged,
    AssetState,
    Blocked,
    ClipAccounted,
    ClipRefused,
    ClipSeen,
    DockingClosed,
    DockingListed,
    DockingOpened,
    Matched,
    Mode,
    Observed,
    Outcome,
    ReceiptIssued,
)
from agent.states import is_kept

DockingEntry = (
    DockingOpened
    | ClipSeen
    | ClipRefused
    | ClipAccounted
    | Observed
    | DockingListed
    | DockingClosed
    | AssetChanged
    | ReceiptIssued
)


def apply_docking(tables: Tables, seq: int, at: str, entry: DockingEntry) -> None:
    """Change the tables as event `seq`, recorded `at`, says."""
    match entry:
        case DockingOpened():
            _docking_opened(tables, seq, at, entry)
        case ClipSeen():
            _clip_seen(tables, seq, entry)
        case ClipRefused():
            _clip_refused(tables, seq, entry)
        case ClipAccounted():
            _clip_accounted(tables, entry)
        case Observed():
            _open_docking(tables, entry.docking_id)  # the event is all there is to keep
        case DockingListed():
            _docking_listed(tables, at, entry)
        case DockingClosed():
            _docking_closed(tables, at, entry)
        case AssetChanged():
            _asset_changed(tables, at, entry)
        case ReceiptIssued():
            _receipt_issued(tables, seq, entry)
        case _:
            assert_never(entry)


def _docking_opened(tables: Tables, seq: int, at: str, entry: DockingOpened) -> None:
    tables.db.execute(
        "INSERT INTO device VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET last_seq = excluded.last_seq",
        (entry.device_id, seq, seq),
    )
    tables.db.execute(
        "INSERT INTO docking (seq, docking_id, device_id, opened_at) VALUES (?, ?, ?, ?)",
        (seq, entry.docking_id, entry.device_id, at),
    )


def _open_docking(tables: Tables, docking_id: str) -> tuple[str, bool]:
    """Return (device_id, whether the listing is complete) of a docking that must be open."""
    query = "SELECT device_id, listed_at, closed_at FROM docking WHERE docking_id = ?"
    row = tables.db.execute(query, (docking_id,)).fetchone()
    if row is None or row[2] is not None:
        raise JournalError(f"Docking {docking_id} is {'closed' if row else 'unknown'}.", safe=UNCHANGED)
    return row[0], row[1] is not None


def _clip_seen(tables: Tables, seq: int, entry: ClipSeen) -> None:
    device_id, listed = _open_docking(tables, entry.docking_id)
    if (entry.recording is None) != (entry.asset is None):
        raise JournalError("New footage needs both its recording and its asset.", safe=UNCHANGED)
    if entry.recording is not None and entry.asset is not None:
        insert_footage(tables, seq, entry.recording, entry.asset, entry.asset_id)
    (alarm_at,) = tables.asset_row(entry.asset_id, "alarm_at")
    if not listed and _insert_clip(tables, seq, device_id, entry, alarm_at):
        return
    # The clip was thought to be known, and its bytes say that it is other footage under the same name.
    place = (entry.docking_id, entry.clip.number, likeness(device_id, entry.clip))
    tables.one(
        tables.db.execute(
            "UPDATE clip SET seq = ?, asset_id = ?, mode = ?, alarm_at = ?"
            " WHERE docking_id = ? AND number = ? AND likeness = ? AND outcome = 'pending'",
            (seq, entry.asset_id, entry.mode, alarm_at, *place),
        ),
        f"Clip {entry.clip.number} of docking {entry.docking_id} can't be listed now.",
    )


def _insert_clip(tables: Tables, seq: int, device_id: str, entry: ClipSeen, alarm_at: str) -> bool:
    row = (entry.asset_id, likeness(device_id, entry.clip), entry.clip.readable_bytes)
    cursor = tables.db.execute(
        "INSERT INTO clip VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', ?) ON CONFLICT DO NOTHING",
        (entry.docking_id, entry.clip.number, seq, *row, entry.mode, Outcome.PENDING, alarm_at),
    )
    if cursor.rowcount == 1:
        _count_clip(tables, entry.docking_id, Outcome.PENDING, 1, entry.clip.readable_bytes)
    return cursor.rowcount == 1


def _count_outcome(tables: Tables, docking_id: str, outcome: Outcome, files: int, size_bytes: int) -> None:
    """Pending clips became something."""
    _count_clip(tables, docking_id, Outcome.PENDING, -files, -size_bytes)
    _count_clip(tables, docking_id, outcome, files, size_bytes)


def _count_clip(tables: Tables, docking_id: str, outcome: Outcome, files: int, size_bytes: int) -> None:
    tables.count(docking_id, outcome, files, size_bytes)
    tables.count("clip", outcome, files, size_bytes)


def _pending_clip(tables: Tables, docking_id: str, number: int) -> tuple[str, int]:
    """Return (asset id, bytes) of a clip that must be pending."""
    query = "SELECT asset_id, bytes FROM clip WHERE docking_id = ? AND number = ? AND outcome = 'pending'"
    row = tables.db.execute(query, (docking_id, number)).fetchone()
    if row is None:
        raise JournalError(f"Clip {number} of docking {docking_id} isn't pending.", safe=UNCHANGED)
    return row[0], row[1]


def _clip_refused(tables: Tables, seq: int, entry: ClipRefused) -> None:
    device_id, listed = _open_docking(tables, entry.docking_id)
    if listed:
        raise JournalError(f"Docking {entry.docking_id} is listed; no entry can be added.", safe=UNCHANGED)
    clip = entry.clip
    row = (likeness(device_id, clip), clip.readable_bytes, Mode.PULL, Outcome.REFUSED, storable(entry.reason))
    tables.db.execute(
        "INSERT INTO clip VALUES (?, ?, ?, NULL, ?, ?, ?, ?, ?, '')", (entry.docking_id, clip.number, seq, *row)
    )
    _count_clip(tables, entry.docking_id, Outcome.REFUSED, 1, clip.readable_bytes)


def _clip_accounted(tables: Tables, entry: ClipAccounted) -> None:
    asset_id, size_bytes = _pending_clip(tables, entry.docking_id, entry.number)
    if entry.outcome is Outcome.PULLED:
        raise JournalError("A clip counts as pulled only with the proof that it is held.", safe=UNCHANGED)
    if entry.outcome is Outcome.ALREADY_HELD:
        _check_already_held(tables, asset_id)
    tables.db.execute(
        "UPDATE clip SET outcome = ?, mode = ?, reason = ? WHERE docking_id = ? AND number = ?",
        (entry.outcome, entry.mode, storable(entry.reason), entry.docking_id, entry.number),
    )
    _count_outcome(tables, entry.docking_id, entry.outcome, 1, size_bytes)


def _check_already_held(tables: Tables, asset_id: str) -> None:
    asset = tables.asset(asset_id)
    if asset.state is AssetState.MATCHED:
        asset = tables.asset(asset.same_as)
    if not is_kept(asset):
        raise JournalError(f"Asset {asset_id} isn't held.", safe=UNCHANGED)


def _docking_listed(tables: Tables, at: str, entry: DockingListed) -> None:
    query = "SELECT count(*) FROM clip WHERE docking_id = ?"
    (seen,) = tables.db.execute(query, (entry.docking_id,)).fetchone()
    if seen != entry.seen:
        what = f"Docking {entry.docking_id} lists {entry.seen} clips, {seen} of them are recorded."
        raise JournalError(what, safe=UNCHANGED)
    tables.one(
        tables.db.execute(
            "UPDATE docking SET listed_at = ?, metadata_blake3 = ?"
            " WHERE docking_id = ? AND listed_at IS NULL AND closed_at IS NULL",
            (at, entry.metadata_blake3, entry.docking_id),
        ),
        f"Docking {entry.docking_id} is unknown, listed already or closed.",
    )


def _docking_closed(tables: Tables, at: str, entry: DockingClosed) -> None:
    _open_docking(tables, entry.docking_id)
    query = "SELECT count(*), coalesce(sum(bytes), 0) FROM clip WHERE docking_id = ? AND outcome = 'pending'"
    files, size_bytes = tables.db.execute(query, (entry.docking_id,)).fetchone()
    tables.db.execute(
        "UPDATE clip SET outcome = 'left' WHERE docking_id = ? AND outcome = 'pending'", (entry.docking_id,)
    )
    _count_outcome(tables, entry.docking_id, Outcome.LEFT, files, size_bytes)
    tables.db.execute(
        "UPDATE docking SET closed_at = ?, reason = ? WHERE docking_id = ?",
        (at, storable(entry.reason), entry.docking_id),
    )


def _receipt_issued(tables: Tables, seq: int, entry: ReceiptIssued) -> None:
    tables.one(
        tables.db.execute(
            "UPDATE docking SET receipts = ?2, receipt_seq = ?3, clearing = ?4 WHERE docking_id = ?1"
            " AND listed_at IS NOT NULL AND closed_at IS NOT NULL AND receipts = ?2 - 1",
            (entry.docking_id, entry.number, seq, entry.clearing),
        ),
        f"Docking {entry.docking_id} can't have a receipt number {entry.number} now.",
    )


def _asset_changed(tables: Tables, at: str, entry: AssetChanged) -> None:
    change_asset(tables, at, entry.asset_id, entry.event)
    if not entry.docking_id:
        return
    outcome = _settling(entry)
    asset_id, size_bytes = _pending_clip(tables, entry.docking_id, entry.number)
    if asset_id != entry.asset_id:
        what = f"Clip {entry.number} of docking {entry.docking_id} isn't asset {entry.asset_id}."
        raise JournalError(what, safe=UNCHANGED)
    query = "UPDATE clip SET outcome = ? WHERE docking_id = ? AND number = ?"
    tables.db.execute(query, (outcome, entry.docking_id, entry.number))
    _count_outcome(tables, entry.docking_id, outcome, 1, size_bytes)


def _settling(entry: AssetChanged) -> Outcome:
    """Return what becomes of the clip; only what the event proves may be said of it."""
    event = entry.event
    whole = not (isinstance(event, Acquired | Matched) and event.holes)
    possible = {
        Outcome.PULLED: whole and isinstance(event, Acquired),
        Outcome.UNREADABLE: not whole or isinstance(event, Blocked),
        Outcome.ALREADY_HELD: whole and isinstance(event, Matched),
    }
    if entry.outcome is None or not possible.get(entry.outcome, True):
        raise JournalError(f"{type(event).__name__} can't settle a clip as {entry.outcome}.", safe=UNCHANGED)
    return entry.outcome
