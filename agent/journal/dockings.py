"""Queries about recorders and their dockings."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from agent.capture_time import LONGEST_STEP_S
from agent.errors import UnknownError
from agent.journal.codec import decode, from_text
from agent.journal.connection import Connection
from agent.journal.rows import (
    ASSET_COLUMNS,
    CLOCK_SET,
    SELECT_STANDING,
    asset_of,
    likeness,
    moment_of,
    standing_of,
)
from agent.journal.views import Accounting, DockingView, ReceiptView, TakenFile, Tally
from agent.model import (
    INBOX,
    Asset,
    AssetState,
    Clearing,
    Clip,
    Deadline,
    Device,
    DockingOpened,
    Outcome,
    ReceiptIssued,
    Standing,
)
from agent.uploader.base import DOUBT

_PAGE: Final = 500
_SELECT_DOCKING: Final = "SELECT seq, docking_id, opened_at, listed_at, closed_at, reason, clearing FROM docking"


class DockingQueries:
    """The part of the reader that knows recorders and dockings."""

    _db: Connection

    def devices(self) -> dict[str, Device]:
        """Return every recorder that was ever docked, as it was last seen, by device id."""
        rows = self._db.all("SELECT device_id, last_seq FROM device")
        return {device_id: self._opened(seq).device for device_id, seq in rows}

    def standings(self) -> dict[str, Standing]:
        """Return where each recorder is that was ever handed out, by its id in the inventory."""
        return {row[0]: standing_of(row) for row in self._db.all(SELECT_STANDING)}

    def last_dock_out(self, device_id: str) -> datetime | None:
        """Return when the newest docking of this device that was listed to the end and has ended did so.

        Only after such a docking is a clip that nobody has seen newer than it. If the clock was set back since, so much
        earlier, since it was too late then.
        """
        row = self._db.one(
            f"SELECT closed_at, {CLOCK_SET} > docking.seq) FROM docking"  # noqa: S608
            " WHERE device_id = ? AND listed_at IS NOT NULL AND closed_at IS NOT NULL ORDER BY seq DESC LIMIT 1",
            device_id,
        )
        return (
            datetime.fromisoformat(row[0]) + timedelta(seconds=min(0.0, max(row[1], -LONGEST_STEP_S))) if row else None
        )

    def batches_beside(self, docking_id: str, most: int) -> tuple[str, ...]:
        """Return other batches of the same inbox, listed and opened within a day of this one, the nearest first.

        At most so many before it and so many behind; none for a recorder, whose dockings each list all that is on it.
        """
        row = self._db.one("SELECT seq, device_id, opened_at FROM docking WHERE docking_id = ?", docking_id)
        if row is None or self._opened(row[0]).device.driver != INBOX:
            return ()
        found: list[tuple[int, str]] = []
        for side in ("< ? ORDER BY seq DESC", "> ? ORDER BY seq"):
            rows = self._db.all(
                "SELECT seq, docking_id, opened_at FROM docking"  # noqa: S608
                f" WHERE device_id = ? AND listed_at IS NOT NULL AND seq {side} LIMIT ?",
                row[1],
                row[0],
                most,
            )
            for seq, other_id, opened_at in rows:
                apart = datetime.fromisoformat(opened_at) - datetime.fromisoformat(row[2])
                if abs(apart) <= timedelta(days=1):
                    found.append((abs(seq - row[0]), other_id))
        return tuple(other_id for _, other_id in sorted(found))

    def listed_before(self, docking_id: str, device_id: str) -> str:
        """Return the docking of this device that was listed last before this one; "" if there is none."""
        row = self._db.one(
            "SELECT docking_id FROM docking WHERE device_id = ? AND listed_at IS NOT NULL AND seq <"
            " (SELECT seq FROM docking WHERE docking_id = ?) ORDER BY seq DESC LIMIT 1",
            device_id,
            docking_id,
        )
        return str(row[0]) if row else ""

    def gone(self, docking_id: str, later: str, limit: int) -> list[tuple[Clip, Asset | None]]:
        """Return clips of a docking that nothing listed in the `later` one looks like, with their assets."""
        rows = self._db.all(
            f"SELECT json_extract(detail, '$.clip'), {ASSET_COLUMNS} FROM clip JOIN event USING (seq)"  # noqa: S608
            " LEFT JOIN asset ON asset.asset_id = clip.asset_id WHERE docking_id = ? AND likeness NOT IN"
            " (SELECT likeness FROM clip WHERE docking_id = ?) ORDER BY number LIMIT ?",
            docking_id,
            later,
            limit,
        )
        return [(from_text(Clip, row[0]), asset_of(row[1:]) if row[1] else None) for row in rows]

    def fates(self, device_id: str, clips: Iterable[Clip]) -> list[Outcome | None]:
        """Tell of each clip what became of it when a docking of this device last had it as it is now, flags and all.

        PULLED, ALREADY_HELD or UNREADABLE; None if it was never so, or if what was pulled was damaged here since.
        """
        return [self._fate(device_id, clip) for clip in clips]

    def _fate(self, device_id: str, clip: Clip) -> Outcome | None:
        rows = self._db.all(
            "SELECT json_extract(detail, '$.clip.flags'), outcome, asset.state FROM clip JOIN event USING (seq)"
            " JOIN asset USING (asset_id) WHERE likeness = ? AND asset_id IS NOT NULL"
            " AND outcome IN ('pulled', 'already_held', 'unreadable') ORDER BY clip.seq DESC LIMIT ?",
            likeness(device_id, clip),
            _PAGE,
        )
        for flags, outcome, state in rows:
            if tuple(json.loads(flags or "[]")) == clip.flags:
                return Outcome(outcome) if outcome == Outcome.UNREADABLE or state != AssetState.STUCK else None
        return None

    def open_dockings(self) -> tuple[str, ...]:
        """Return the ids of dockings that have not ended, oldest first."""
        rows = self._db.all("SELECT docking_id FROM docking WHERE closed_at IS NULL ORDER BY seq")
        return tuple(row[0] for row in rows)

    def dockings(self, limit: int = 50) -> tuple[DockingView, ...]:
        """Return the newest dockings, newest first."""
        with self._db.snapshot():
            rows = self._db.all(f"{_SELECT_DOCKING} ORDER BY seq DESC LIMIT ?", limit)
            return tuple(self._docking_view(*row) for row in rows)

    def docking(self, docking_id: str) -> DockingView:
        """Return a docking; raises JournalError if there is none."""
        with self._db.snapshot():
            row = self._db.one(f"{_SELECT_DOCKING} WHERE docking_id = ?", docking_id)
            if row is None:
                what = f"没有这次采集 (there is no docking {docking_id})."
                raise UnknownError(what, do="`capture-agent receipt show` without an id takes the newest.")
            return self._docking_view(*row)

    # Receipts.

    def next_to_receipt(self, taken: Collection[str] = ()) -> str | None:
        """Return the oldest docking that has ended without a receipt, or whose receipt waits for stores that are done.

        Without those `taken`.
        """
        rows = self._db.all(
            "SELECT docking_id FROM docking INDEXED BY docking_to_receipt WHERE closed_at IS NOT NULL"
            " AND clearing IN ('', 'not_stored') AND listed_at IS NOT NULL AND (clearing = '' OR NOT EXISTS ("
            "SELECT 1 FROM clip JOIN asset USING (asset_id) LEFT JOIN asset AS kept ON kept.asset_id = asset.same_as"
            " WHERE clip.docking_id = docking.docking_id AND coalesce(kept.receipt, asset.receipt) IS NULL))"
            " ORDER BY seq LIMIT ?",
            len(taken) + 1,
        )
        return next((row[0] for row in rows if row[0] not in taken), None)

    def next_to_withdraw(self, taken: Collection[str] = ()) -> str | None:
        """Return a docking whose receipt says that all is stored, of which a store has lost something since.

        Without those `taken`.
        """
        rows = self._db.all(
            "SELECT DISTINCT docking_id FROM note CROSS JOIN asset AS kept ON kept.asset_id = subject"
            " CROSS JOIN asset AS own ON own.asset_id = kept.asset_id"
            " OR own.same_as = kept.asset_id AND own.same_as <> ''"
            " CROSS JOIN clip ON clip.asset_id = own.asset_id CROSS JOIN docking USING (docking_id)"
            " WHERE name = ? AND kept.receipt IS NULL AND clearing = 'clear' LIMIT ?",
            DOUBT,
            len(taken) + 1,
        )
        return next((row[0] for row in rows if row[0] not in taken), None)

    def is_lacking(self, docking_id: str) -> bool:
        """Tell whether a recording that was taken over in this docking has been damaged here since."""
        row = self._db.one(
            "SELECT 1 FROM asset AS kept CROSS JOIN asset AS own ON own.asset_id = kept.asset_id"
            " OR own.same_as = kept.asset_id AND own.same_as <> '' CROSS JOIN clip ON clip.asset_id = own.asset_id"
            " WHERE kept.state = 'stuck' AND kept.resume_to = 'wanted' AND docking_id = ?"
            " AND outcome IN ('pulled', 'already_held') LIMIT 1",
            docking_id,
        )
        return row is not None

    def taken_files(self, docking_id: str) -> Iterator[TakenFile]:
        """Yield the clips of a docking in the order of the card, each with the original that keeps its bytes."""
        after = -1
        while rows := self._db.all(
            f"SELECT json_extract(detail, '$.clip'), outcome, deadline, {ASSET_COLUMNS}, number"  # noqa: S608
            " FROM clip JOIN event USING (seq) LEFT JOIN asset AS own ON own.asset_id = clip.asset_id"
            " LEFT JOIN recording ON recording.recording_id = own.recording_id"
            " LEFT JOIN asset ON asset.asset_id = iif(own.same_as = '', own.asset_id, own.same_as)"
            " WHERE docking_id = ? AND number > ? ORDER BY number LIMIT ?",
            docking_id,
            after,
            _PAGE,
        ):
            yield from map(_taken_file, rows)
            after = rows[-1][-1]

    def is_listed(self, docking_id: str) -> bool:
        """Tell whether all clips of a docking are known."""
        row = self._db.one("SELECT listed_at FROM docking WHERE docking_id = ?", docking_id)
        return row is not None and row[0] is not None

    def listing(self, docking_id: str, numbers: Sequence[int] | None = None, limit: int = -1) -> list[tuple[Clip, str]]:
        """Return the clips of a docking in the order of the card, or those of these numbers in theirs.

        Each with its recording's id; "" if it has none.
        """
        places = () if numbers is None else numbers
        marks = "" if numbers is None else f" AND number IN ({', '.join('?' * len(places))})"
        rows = self._db.all(
            "SELECT json_extract(detail, '$.clip'), coalesce(recording_id, '') FROM clip JOIN event USING (seq)"  # noqa: S608
            " LEFT JOIN asset ON asset.asset_id = clip.asset_id"
            f" WHERE docking_id = ?{marks} ORDER BY number LIMIT ?",
            docking_id,
            *places,
            limit,
        )
        found = [(from_text(Clip, clip), recording_id) for clip, recording_id in rows]
        order = {number: place for place, number in enumerate(places)}
        return sorted(found, key=lambda one: order[one[0].number]) if order else found

    def newest_receipted(self) -> str:
        """Return the newest docking that has a receipt; raises JournalError if none has."""
        row = self._db.one("SELECT docking_id FROM docking WHERE receipts > 0 ORDER BY seq DESC LIMIT 1")
        if row is None:
            raise UnknownError("No docking has a receipt.", do="The service issues one when a docking has ended.")
        return str(row[0])

    def receipt_of(self, docking_id: str) -> ReceiptView | None:
        """Return the newest receipt of a docking; None if it has none."""
        row = self._db.one(
            "SELECT seq, at, detail FROM event WHERE seq = (SELECT receipt_seq FROM docking WHERE docking_id = ?)",
            docking_id,
        )
        return ReceiptView(row[0], datetime.fromisoformat(row[1]), from_text(ReceiptIssued, row[2])) if row else None

    def accounting(self, docking_id: str) -> Accounting:
        """Return where the clips of a docking went; all zero if the docking is unknown."""
        return Accounting(**{name: tally.files for name, tally in self._counters(docking_id).items()})

    def _docking_view(
        self, seq: int, docking_id: str, opened_at: str, listed_at: str | None, closed_at: str | None, *ended: str
    ) -> DockingView:
        reason, clearing = ended
        opened = self._opened(seq)
        times = (datetime.fromisoformat(opened_at), moment_of(listed_at), moment_of(closed_at))
        known = (*times, reason, self.accounting(docking_id), Clearing(clearing) if clearing else None)
        return DockingView(docking_id, opened.device, opened.slot, *known)

    def _opened(self, seq: int) -> DockingOpened:
        row = self._db.one("SELECT kind, detail FROM event WHERE seq = ?", seq)
        assert row is not None, "a row names the event that holds its facts"
        entry = decode(*row)
        assert isinstance(entry, DockingOpened), "a docking was opened by its event"
        return entry

    def _counters(self, scope: str) -> dict[str, Tally]:
        rows = self._db.all("SELECT name, files, bytes FROM counter WHERE scope = ?", scope)
        return {name: Tally(files, size) for name, files, size in rows}


def _taken_file(row: tuple[Any, ...]) -> TakenFile:
    clip, outcome, limit, *keeper = row
    return TakenFile(
        from_text(Clip, clip),
        Outcome(outcome),
        asset_of(tuple(keeper)) if keeper[0] is not None else None,
        from_text(Deadline, limit) if limit is not None else None,
    )
