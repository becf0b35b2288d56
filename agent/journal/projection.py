"""What each event means for the tables: the one place where evidence tables are written, live and in every replay."""

from __future__ import annotations

import sqlite3
from typing import Any, Final, assert_never

from agent.errors import JournalError
from agent.journal.codec import from_text, to_text
from agent.journal.rows import (
    ASSET_COLUMNS,
    SELECT_ASSET,
    SELECT_STANDING,
    asset_changes,
    asset_of,
    likeness,
    sortable,
    standing_of,
    standing_row,
    storable,
)
from agent.model import (
    Acquired,
    Adopted,
    Asset,
    AssetChanged,
    AssetEvent,
    AssetState,
    Basis,
    Blocked,
    ClipAccounted,
    ClipRefused,
    ClipSeen,
    Deadline,
    DeadlineRecomputed,
    DeviceIssued,
    DeviceReturned,
    DockingClosed,
    DockingListed,
    DockingOpened,
    EventDeclared,
    Incident,
    JournalEntry,
    Matched,
    Mode,
    Observed,
    Outcome,
    Recording,
    TimeStated,
)
from agent.register import step
from agent.states import is_kept, transition

_UNCHANGED: Final = "Nothing was changed."


class Projection:
    """Applies entries to the evidence tables of one connection, inside the caller's transaction.

    It never reads `event`, clocks or notes, so that a replay gives the same rows. Raises JournalError or
    EvidenceError if an entry contradicts the tables; the caller rolls back.

    Counters are collected, by (scope, name), and added to their table once per job by `flush`, not at all after
    `forget`. One that was touched has a row, even if that is zero, so that a replay gives the same rows.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._of_event: list[tuple[str, str, int, int]] = []
        self._of_job: dict[tuple[str, str], tuple[int, int]] = {}

    def apply(self, seq: int, at: str, entry: JournalEntry) -> None:
        """Change the tables as event `seq`, recorded `at` (UTC text), says; counters wait for `flush`."""
        self._of_event.clear()
        self._apply(seq, at, entry)
        for scope, name, files, size_bytes in self._of_event:
            before = self._of_job.get((scope, name), (0, 0))
            self._of_job[scope, name] = before[0] + files, before[1] + size_bytes

    def flush(self) -> None:
        """The job is complete: add what it counted to the table."""
        self._db.executemany(
            "INSERT INTO counter VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET files = files + excluded.files, bytes = bytes + excluded.bytes",
            [(*key, *change) for key, change in self._of_job.items()],
        )
        self._of_job.clear()

    def forget(self) -> None:
        """The job was refused."""
        self._of_job.clear()

    def _apply(self, seq: int, at: str, entry: JournalEntry) -> None:
        match entry:
            case DockingOpened():
                self._docking_opened(seq, at, entry)
            case ClipSeen():
                self._clip_seen(seq, entry)
            case ClipRefused():
                self._clip_refused(seq, entry)
            case ClipAccounted():
                self._clip_accounted(entry)
            case DockingListed():
                self._docking_listed(at, entry)
            case DockingClosed():
                self._docking_closed(at, entry)
            case AssetChanged():
                self._asset_changed(at, entry)
            case Adopted():
                self._adopted(seq, at, entry)
            case TimeStated() | EventDeclared() | DeadlineRecomputed():
                self._limit_changed(entry)
            case DeviceIssued() | DeviceReturned():
                self._handed_over(entry)
            case Observed() | Incident():
                self._told(entry)
            case _:
                assert_never(entry)

    def _told(self, entry: Observed | Incident) -> None:
        """The event itself is all there is to keep; what is told of a docking needs it to be open."""
        if isinstance(entry, Observed):
            self._open_docking(entry.docking_id)

    def _docking_opened(self, seq: int, at: str, entry: DockingOpened) -> None:
        self._db.execute(
            "INSERT INTO device VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET last_seq = excluded.last_seq",
            (entry.device_id, seq, seq),
        )
        self._db.execute(
            "INSERT INTO docking (seq, docking_id, device_id, opened_at) VALUES (?, ?, ?, ?)",
            (seq, entry.docking_id, entry.device_id, at),
        )

    def _open_docking(self, docking_id: str) -> tuple[str, bool]:
        """Return (device_id, whether the listing is complete) of a docking that must be open."""
        query = "SELECT device_id, listed_at, closed_at FROM docking WHERE docking_id = ?"
        row = self._db.execute(query, (docking_id,)).fetchone()
        if row is None or row[2] is not None:
            raise JournalError(f"Docking {docking_id} is {'closed' if row else 'unknown'}.", safe=_UNCHANGED)
        return row[0], row[1] is not None

    def _clip_seen(self, seq: int, entry: ClipSeen) -> None:
        device_id, listed = self._open_docking(entry.docking_id)
        if (entry.recording is None) != (entry.asset is None):
            raise JournalError("New footage needs both its recording and its asset.", safe=_UNCHANGED)
        if entry.recording is not None and entry.asset is not None:
            self._insert_asset(seq, entry.recording, entry.asset, entry.asset_id)
        (alarm_at,) = self._asset_row(entry.asset_id, "alarm_at")
        if not listed and self._insert_clip(seq, device_id, entry, alarm_at):
            return
        # The clip was thought to be known, and its bytes say that it is other footage under the same name.
        place = (entry.docking_id, entry.clip.number, likeness(device_id, entry.clip))
        self._one(
            self._db.execute(
                "UPDATE clip SET seq = ?, asset_id = ?, mode = ?, alarm_at = ?"
                " WHERE docking_id = ? AND number = ? AND likeness = ? AND outcome = 'pending'",
                (seq, entry.asset_id, entry.mode, alarm_at, *place),
            ),
            f"Clip {entry.clip.number} of docking {entry.docking_id} can't be listed now.",
        )

    def _insert_clip(self, seq: int, device_id: str, entry: ClipSeen, alarm_at: str) -> bool:
        row = (entry.asset_id, likeness(device_id, entry.clip), entry.clip.readable_bytes)
        cursor = self._db.execute(
            "INSERT INTO clip VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', ?) ON CONFLICT DO NOTHING",
            (entry.docking_id, entry.clip.number, seq, *row, entry.mode, Outcome.PENDING, alarm_at),
        )
        if cursor.rowcount == 1:
            self._count_clip(entry.docking_id, Outcome.PENDING, 1, entry.clip.readable_bytes)
        return cursor.rowcount == 1

    def _count_outcome(self, docking_id: str, outcome: Outcome, files: int, size_bytes: int) -> None:
        """Pending clips became something."""
        self._count_clip(docking_id, Outcome.PENDING, -files, -size_bytes)
        self._count_clip(docking_id, outcome, files, size_bytes)

    def _count_clip(self, docking_id: str, outcome: Outcome, files: int, size_bytes: int) -> None:
        self._of_event += (docking_id, outcome, files, size_bytes), ("clip", outcome, files, size_bytes)

    def _pending_clip(self, docking_id: str, number: int) -> tuple[str, int]:
        """Return (asset id, bytes) of a clip that must be pending."""
        query = "SELECT asset_id, bytes FROM clip WHERE docking_id = ? AND number = ? AND outcome = 'pending'"
        row = self._db.execute(query, (docking_id, number)).fetchone()
        if row is None:
            raise JournalError(f"Clip {number} of docking {docking_id} isn't pending.", safe=_UNCHANGED)
        return row[0], row[1]

    def _clip_refused(self, seq: int, entry: ClipRefused) -> None:
        device_id, listed = self._open_docking(entry.docking_id)
        if listed:
            raise JournalError(f"Docking {entry.docking_id} is listed; no entry can be added.", safe=_UNCHANGED)
        clip = entry.clip
        row = (likeness(device_id, clip), clip.readable_bytes, Mode.PULL, Outcome.REFUSED, storable(entry.reason))
        self._db.execute(
            "INSERT INTO clip VALUES (?, ?, ?, NULL, ?, ?, ?, ?, ?, '')", (entry.docking_id, clip.number, seq, *row)
        )
        self._count_clip(entry.docking_id, Outcome.REFUSED, 1, clip.readable_bytes)

    def _clip_accounted(self, entry: ClipAccounted) -> None:
        asset_id, size_bytes = self._pending_clip(entry.docking_id, entry.number)
        if entry.outcome is Outcome.PULLED:
            raise JournalError("A clip counts as pulled only with the proof that it is held.", safe=_UNCHANGED)
        if entry.outcome is Outcome.ALREADY_HELD:
            self._check_already_held(asset_id)
        self._db.execute(
            "UPDATE clip SET outcome = ?, mode = ?, reason = ? WHERE docking_id = ? AND number = ?",
            (entry.outcome, entry.mode, storable(entry.reason), entry.docking_id, entry.number),
        )
        self._count_outcome(entry.docking_id, entry.outcome, 1, size_bytes)

    def _check_already_held(self, asset_id: str) -> None:
        asset = self._asset(asset_id)
        if asset.state is AssetState.MATCHED:
            asset = self._asset(asset.same_as)
        if not is_kept(asset):
            raise JournalError(f"Asset {asset_id} isn't held.", safe=_UNCHANGED)

    def _docking_listed(self, at: str, entry: DockingListed) -> None:
        query = "SELECT count(*) FROM clip WHERE docking_id = ?"
        (seen,) = self._db.execute(query, (entry.docking_id,)).fetchone()
        if seen != entry.seen:
            what = f"Docking {entry.docking_id} lists {entry.seen} clips, {seen} of them are recorded."
            raise JournalError(what, safe=_UNCHANGED)
        self._one(
            self._db.execute(
                "UPDATE docking SET listed_at = ?, metadata_blake3 = ?"
                " WHERE docking_id = ? AND listed_at IS NULL AND closed_at IS NULL",
                (at, entry.metadata_blake3, entry.docking_id),
            ),
            f"Docking {entry.docking_id} is unknown, listed already or closed.",
        )

    def _docking_closed(self, at: str, entry: DockingClosed) -> None:
        self._open_docking(entry.docking_id)
        query = "SELECT count(*), coalesce(sum(bytes), 0) FROM clip WHERE docking_id = ? AND outcome = 'pending'"
        files, size_bytes = self._db.execute(query, (entry.docking_id,)).fetchone()
        self._db.execute(
            "UPDATE clip SET outcome = 'left' WHERE docking_id = ? AND outcome = 'pending'", (entry.docking_id,)
        )
        self._count_outcome(entry.docking_id, Outcome.LEFT, files, size_bytes)
        self._db.execute(
            "UPDATE docking SET closed_at = ?, reason = ? WHERE docking_id = ?",
            (at, storable(entry.reason), entry.docking_id),
        )

    def _asset_changed(self, at: str, entry: AssetChanged) -> None:
        self._change(at, entry.asset_id, entry.event)
        if not entry.docking_id:
            return
        outcome = _settling(entry)
        asset_id, size_bytes = self._pending_clip(entry.docking_id, entry.number)
        if asset_id != entry.asset_id:
            what = f"Clip {entry.number} of docking {entry.docking_id} isn't asset {entry.asset_id}."
            raise JournalError(what, safe=_UNCHANGED)
        query = "UPDATE clip SET outcome = ? WHERE docking_id = ? AND number = ?"
        self._db.execute(query, (outcome, entry.docking_id, entry.number))
        self._count_outcome(entry.docking_id, outcome, 1, size_bytes)

    def _adopted(self, seq: int, at: str, entry: Adopted) -> None:
        self._insert_asset(seq, entry.recording, entry.asset, entry.held.asset_id)
        self._change(at, entry.asset.asset_id, Acquired(entry.held))

    def _limit_changed(self, entry: TimeStated | EventDeclared | DeadlineRecomputed) -> None:
        (recording_id,) = self._asset_row(entry.asset_id, "recording_id")
        stated = to_text(entry.stated) if isinstance(entry, TimeStated) else None
        declared = to_text(entry.declared) if isinstance(entry, EventDeclared) else None
        self._one(
            self._db.execute(
                "UPDATE recording SET deadline = ?, stated = coalesce(?, stated), declared = coalesce(?, declared)"
                " WHERE recording_id = ? AND deadline = ?",
                (to_text(entry.new), stated, declared, recording_id, to_text(entry.old)),
            ),
            f"The limit of recording {recording_id} is no longer what it was.",
        )
        asset_id = entry.asset_id
        while asset_id:  # who keeps the bytes keeps them for all recordings with this content
            self._set_limit(asset_id)
            (asset_id,) = self._asset_row(asset_id, "same_as")

    def _set_limit(self, asset_id: str) -> None:
        """The earliest of its own recording's limit and those of all recordings that share its content."""
        query = "SELECT deadline FROM recording JOIN asset USING (recording_id) WHERE asset_id = ?"
        own = _columns_of(from_text(Deadline, self._db.execute(query, (asset_id,)).fetchone()[0]))
        twins = self._db.execute("SELECT alarm_at, late_at FROM asset WHERE same_as = ?", (asset_id,)).fetchall()
        alarm_at = min(alarm for alarm, _ in (own, *twins))
        late_at = min((late for _, late in (own, *twins) if late is not None), default=None)
        row = (alarm_at, late_at, asset_id)
        self._db.execute("UPDATE asset SET alarm_at = ?, late_at = ? WHERE asset_id = ?", row)
        pending = "UPDATE clip SET alarm_at = ? WHERE asset_id = ? AND outcome = 'pending'"
        self._db.execute(pending, (alarm_at, asset_id))

    def _insert_asset(self, seq: int, recording: Recording, asset: Asset, asset_id: str) -> None:
        fresh = Asset(asset_id, recording.recording_id, asset.role, AssetState.WANTED, asset.expected_bytes)
        if asset != fresh:
            raise JournalError(f"Asset {asset.asset_id} can't be new: {asset}.", safe=_UNCHANGED)
        limit = recording.deadline
        self._db.execute(
            "INSERT INTO recording (recording_id, device_id, seq, deadline) VALUES (?, ?, ?, ?)",
            (recording.recording_id, recording.device_id, seq, to_text(limit)),
        )
        key = (asset.asset_id, asset.recording_id, asset.role, asset.state, asset.expected_bytes)
        self._db.execute(
            "INSERT INTO asset VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (*key, *asset_changes(asset)[1:], *_columns_of(limit)),
        )
        self._of_event.append(("asset", asset.state, 1, asset.expected_bytes))

    def _change(self, at: str, asset_id: str, event: AssetEvent) -> None:
        before = self._asset(asset_id)
        after = transition(before, event)
        if isinstance(event, Acquired):
            self._check_single(after)
        elif isinstance(event, Matched):
            self._check_match(after)
        self._one(
            self._db.execute(
                "UPDATE asset SET state = ?, size_bytes = ?, blake3 = ?, sha256 = ?, receipt = ?, reason = ?,"
                " resume_to = ?, same_as = ?, held_at = coalesce(?, held_at) WHERE asset_id = ? AND state = ?",
                (*asset_changes(after), at if isinstance(event, Acquired) else None, asset_id, before.state),
            ),
            f"Asset {asset_id} is no longer {before.state}.",
        )
        self._of_event.append(("asset", before.state, -1, -before.expected_bytes))
        self._of_event.append(("asset", after.state, 1, after.expected_bytes))

    def _check_single(self, asset: Asset) -> None:
        """Equal content exists once: who finds it again records Matched."""
        assert asset.digests is not None, "an acquired asset has digests"
        query = SELECT_ASSET + " WHERE blake3 = ? AND asset_id <> ?"
        for row in self._db.execute(query, (asset.digests.blake3, asset.asset_id)):
            other = asset_of(row)
            if is_kept(other):
                what = f"The content of asset {asset.asset_id} is already held as asset {other.asset_id}."
                raise JournalError(what, safe=_UNCHANGED, do="Record it as Matched.")

    def _check_match(self, asset: Asset) -> None:
        other = self._asset(asset.same_as)
        if not is_kept(other) or other.digests != asset.digests:
            raise JournalError(f"Asset {asset.same_as} doesn't hold the content of {asset.asset_id}.", safe=_UNCHANGED)
        # The bytes that are there must now be stored in time for both recordings.
        self._db.execute(
            "UPDATE asset SET alarm_at = min(asset.alarm_at, twin.alarm_at),"
            " late_at = min(coalesce(asset.late_at, twin.late_at), coalesce(twin.late_at, asset.late_at))"
            " FROM asset AS twin WHERE asset.asset_id = ? AND twin.asset_id = ?",
            (other.asset_id, asset.asset_id),
        )

    def _handed_over(self, entry: DeviceIssued | DeviceReturned) -> None:
        if isinstance(entry, DeviceReturned) and entry.docking_id:
            self._check_all_taken_over(entry.docking_id)
        row = self._db.execute(SELECT_STANDING + " WHERE recorder_id = ?", (entry.recorder_id,)).fetchone()
        standing = step(standing_of(row) if row else None, entry)
        self._db.execute("INSERT OR REPLACE INTO custody VALUES (?, ?, ?, ?, ?, ?)", standing_row(standing))

    def _check_all_taken_over(self, docking_id: str) -> None:
        """Only a docking that was listed to the end and left nothing behind ends the wait for a recorder."""
        row = self._db.execute(
            "SELECT 1 FROM docking WHERE docking_id = ?1 AND listed_at IS NOT NULL AND reason = 'complete'"
            " AND NOT EXISTS (SELECT 1 FROM clip WHERE docking_id = ?1 AND outcome NOT IN ('pulled', 'already_held'))",
            (docking_id,),
        ).fetchone()
        if row is None:
            raise JournalError(f"Docking {docking_id} didn't take over all that was there.", safe=_UNCHANGED)

    def _asset(self, asset_id: str) -> Asset:
        return asset_of(self._asset_row(asset_id, ASSET_COLUMNS))

    def _asset_row(self, asset_id: str, columns: str) -> tuple[Any, ...]:
        query = f"SELECT {columns} FROM asset WHERE asset_id = ?"  # noqa: S608  names of our own columns
        row: tuple[Any, ...] | None = self._db.execute(query, (asset_id,)).fetchone()
        if row is None:
            raise JournalError(f"Asset {asset_id} is unknown.", safe=_UNCHANGED)
        return row

    def _one(self, cursor: sqlite3.Cursor, otherwise: str) -> None:
        if cursor.rowcount != 1:
            raise JournalError(otherwise, safe=_UNCHANGED)


def _columns_of(limit: Deadline) -> tuple[str, str | None]:
    """Return alarm_at and late_at."""
    return sortable(limit.alarm_at), sortable(limit.due_at) if limit.basis is Basis.OFFICIAL else None


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
        raise JournalError(f"{type(event).__name__} can't settle a clip as {entry.outcome}.", safe=_UNCHANGED)
    return entry.outcome
