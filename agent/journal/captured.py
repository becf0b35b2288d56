"""What pages of recordings are read by: when each original was captured, beside it, and an index for every order."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Final

from agent.journal.rows import sortable


def fill_captured(db: sqlite3.Connection) -> None:
    """Enter it for the originals there are, as `projection` does for those to come: by the content or a person, if any
    of them tells the end of the recording, else by the file.
    """
    db.create_function("sortable", 1, lambda text: sortable(datetime.fromisoformat(text)), deterministic=True)
    db.execute(
        "UPDATE asset SET captured_at = (SELECT coalesce(made_end_at, sortable(json_extract(event.detail,"
        " '$.recording.captured_latest'))) FROM recording JOIN event USING (seq)"
        " WHERE recording.recording_id = asset.recording_id) WHERE role = 'original'"
    )


PAGES: Final = (
    "ALTER TABLE asset ADD COLUMN captured_at TEXT NOT NULL DEFAULT ''",
    fill_captured,
    "CREATE INDEX asset_by_alarm ON asset (alarm_at, asset_id) WHERE role = 'original'",
    "CREATE INDEX asset_by_capture ON asset (captured_at, asset_id) WHERE role = 'original'",
    """
    CREATE INDEX asset_by_size ON asset (coalesce(size_bytes, expected_bytes), asset_id)
    WHERE role = 'original'
    """,
)
