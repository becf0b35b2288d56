"""Queries about recorders and their dockings."""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.capture_time import LONGEST_STEP_S
from agent.journal.codec import decode, from_text
from agent.journal.connection import Connection
from agent.journal.rows import ASSET_COLUMNS, CLOCK_SET, SELECT_STANDING, asset_of, moment_of, standing_of
from agent.journal.views import Accounting, DockingView, Tally
from agent.model import Asset, Clip, Device, DockingOpened, Standing


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

    def open_dockings(self) -> tuple[str, ...]:
        """Return the ids of dockings that have not ended, oldest first."""
        rows = self._db.all("SELECT docking_id FROM docking WHERE closed_at IS NULL ORDER BY seq")
        return tuple(row[0] for row in rows)

    def dockings(self, limit: int = 50) -> tuple[DockingView, ...]:
        """Return the newest dockings, newest first."""
        query = "SELECT seq, docking_id, opened_at, listed_at, closed_at, reason FROM docking ORDER BY seq DESC LIMIT ?"
        with self._db.snapshot():
            return tuple(self._docking_view(*row) for row in self._db.all(query, limit))

    def accounting(self, docking_id: str) -> Accounting:
        """Return where the clips of a docking went; all zero if the docking is unknown."""
        return Accounting(**{name: tally.files for name, tally in self._counters(docking_id).items()})

    def _docking_view(
        self, seq: int, docking_id: str, opened_at: str, listed_at: str | None, closed_at: str | None, reason: str
    ) -> DockingView:
        opened = self._opened(seq)
        times = (datetime.fromisoformat(opened_at), moment_of(listed_at), moment_of(closed_at))
        return DockingView(docking_id, opened.device, opened.slot, *times, reason, self.accounting(docking_id))

    def _opened(self, seq: int) -> DockingOpened:
        row = self._db.one("SELECT kind, detail FROM event WHERE seq = ?", seq)
        assert row is not None, "a row names the event that holds its facts"
        entry = decode(*row)
        assert isinstance(entry, DockingOpened), "a docking was opened by its event"
        return entry

    def _counters(self, scope: str) -> dict[str, Tally]:
        rows = self._db.all("SELECT name, files, bytes FROM counter WHERE scope = ?", scope)
        return {name: Tally(files, size) for name, files, size in rows}
