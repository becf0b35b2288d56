"""The statements of the first six versions of the tables; what has been released is never edited, only followed."""

from __future__ import annotations

from typing import Final

_VERSION_1: Final = (
    """
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT
    """,
    "CREATE INDEX event_by_subject ON event (subject, seq) WHERE subject <> ''",
    "CREATE INDEX event_incident ON event (seq) WHERE kind = 'incident'",
    """
    CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END
    """,
    """
    CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END
    """,
    # Also stops INSERT OR REPLACE, which fires no delete trigger.
    """
    CREATE TRIGGER event_comes_next BEFORE INSERT ON event
    WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM event)
    BEGIN SELECT RAISE(ABORT, 'events follow each other without gap'); END
    """,
    """
    CREATE TABLE device (
        device_id TEXT PRIMARY KEY,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE docking (
        seq INTEGER PRIMARY KEY,
        docking_id TEXT NOT NULL UNIQUE,
        device_id TEXT NOT NULL REFERENCES device,
        opened_at TEXT NOT NULL,
        listed_at TEXT,
        metadata_blake3 TEXT NOT NULL DEFAULT '',
        closed_at TEXT,
        reason TEXT NOT NULL DEFAULT ''
    ) STRICT
    """,
    "CREATE INDEX docking_open ON docking (seq) WHERE closed_at IS NULL",
    "CREATE INDEX docking_by_device ON docking (device_id, seq)",
    """
    CREATE TABLE recording (
        recording_id TEXT PRIMARY KEY,
        device_id TEXT NOT NULL,
        seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # alarm_at and late_at (null on a provisional calendar) are the earliest of all recordings with this content.
    """
    CREATE TABLE asset (
        asset_id TEXT PRIMARY KEY,
        recording_id TEXT NOT NULL REFERENCES recording,
        role TEXT NOT NULL,
        state TEXT NOT NULL,
        expected_bytes INTEGER NOT NULL,
        size_bytes INTEGER,
        blake3 TEXT,
        sha256 TEXT,
        receipt TEXT,
        reason TEXT NOT NULL,
        resume_to TEXT,
        same_as TEXT NOT NULL,
        alarm_at TEXT NOT NULL,
        late_at TEXT
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX asset_by_recording ON asset (recording_id)",
    "CREATE INDEX asset_by_state ON asset (state, alarm_at)",
    "CREATE INDEX asset_by_blake3 ON asset (blake3) WHERE blake3 IS NOT NULL",
    "CREATE INDEX asset_unsafe ON asset (alarm_at) WHERE receipt IS NULL AND state <> 'matched'",
    """
    CREATE INDEX asset_late ON asset (late_at)
    WHERE receipt IS NULL AND state <> 'matched' AND late_at IS NOT NULL
    """,
    """
    CREATE TABLE clip (
        docking_id TEXT NOT NULL REFERENCES docking (docking_id),
        number INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        asset_id TEXT REFERENCES asset,
        likeness BLOB NOT NULL,
        bytes INTEGER NOT NULL,
        mode TEXT NOT NULL,
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,
        alarm_at TEXT NOT NULL,
        PRIMARY KEY (docking_id, number)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX clip_pending ON clip (docking_id, mode, alarm_at, number) WHERE outcome = 'pending'",
    "CREATE INDEX clip_by_likeness ON clip (likeness, seq) WHERE asset_id IS NOT NULL",
    "CREATE INDEX clip_by_asset ON clip (asset_id) WHERE asset_id IS NOT NULL",
    """
    CREATE TABLE counter (
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (scope, name)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE attempt (
        asset_id TEXT PRIMARY KEY,
        begun INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        next_at TEXT NOT NULL,
        last_error TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE block (
        asset_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        blake3 TEXT NOT NULL,
        holes TEXT NOT NULL,
        PRIMARY KEY (asset_id, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE settled (
        asset_id TEXT PRIMARY KEY,
        size_bytes INTEGER NOT NULL,
        blake3 TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        holes TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX settled_by_blake3 ON settled (blake3)",
)

_VERSION_2: Final = (
    """
    CREATE TABLE note (
        subject TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (subject, name)
    ) STRICT, WITHOUT ROWID
    """,
)

# What is said of a recording after it was seen: its limit in force, and what persons said. When the vault got an asset.
_VERSION_3: Final = (
    "ALTER TABLE recording ADD COLUMN deadline TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE recording ADD COLUMN stated TEXT",
    "ALTER TABLE recording ADD COLUMN declared TEXT",
    """
    UPDATE recording SET deadline =
        (SELECT json_extract(detail, '$.recording.deadline') FROM event WHERE event.seq = recording.seq)
    """,
    "ALTER TABLE asset ADD COLUMN held_at TEXT",
    """
    UPDATE asset SET held_at = (
        SELECT at FROM event WHERE subject = asset.asset_id AND kind IN ('acquired', 'adopted')
        ORDER BY seq DESC LIMIT 1
    )
    """,
    "CREATE INDEX asset_same ON asset (same_as) WHERE same_as <> ''",
)

_VERSION_4: Final = (
    # Where each recorder of the inventory is that was ever handed out.
    """
    CREATE TABLE custody (
        recorder_id TEXT PRIMARY KEY,
        custody TEXT NOT NULL,
        issued_at TEXT NOT NULL,
        changed_at TEXT NOT NULL,
        unseen_since TEXT,
        back_by TEXT
    ) STRICT, WITHOUT ROWID
    """,
)

_VERSION_5: Final = (
    # What is said about recordings; the limits of law are about originals alone, so late_at of a document is null.
    """
    CREATE TABLE document (
        asset_id TEXT PRIMARY KEY REFERENCES asset,
        kind TEXT NOT NULL,
        seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE about (
        recording_id TEXT NOT NULL REFERENCES recording,
        asset_id TEXT NOT NULL REFERENCES asset,
        PRIMARY KEY (recording_id, asset_id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX about_by_asset ON about (asset_id)",
    "DROP INDEX asset_unsafe",
    """
    CREATE INDEX asset_unsafe ON asset (alarm_at)
    WHERE receipt IS NULL AND state <> 'matched' AND role = 'original'
    """,
    "CREATE INDEX asset_unheld_document ON asset (asset_id) WHERE role <> 'original' AND state IN ('wanted', 'stuck')",
    # Activities by when they ended; changed_seq is the newest event that may change what is to be said of one.
    "ALTER TABLE recording ADD COLUMN ended TEXT",
    """
    CREATE TABLE activity (
        activity_id TEXT PRIMARY KEY,
        seq INTEGER NOT NULL,
        changed_seq INTEGER NOT NULL,
        left_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX activity_by_end ON activity (left_at, activity_id)",
    """
    CREATE TABLE segment (
        activity_id TEXT NOT NULL REFERENCES activity,
        recording_id TEXT NOT NULL REFERENCES recording,
        PRIMARY KEY (activity_id, recording_id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX segment_by_recording ON segment (recording_id)",
    """
    CREATE TABLE explanation (
        activity_id TEXT NOT NULL REFERENCES activity,
        number INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        confirmed_seq INTEGER,
        PRIMARY KEY (activity_id, number)
    ) STRICT, WITHOUT ROWID
    """,
    # What the content says of a recording; `probed_seq` is the event that tells all of it.
    "ALTER TABLE recording ADD COLUMN medium TEXT NOT NULL DEFAULT 'other'",
    "ALTER TABLE recording ADD COLUMN made_start_at TEXT",
    "ALTER TABLE recording ADD COLUMN made_end_at TEXT",
    "ALTER TABLE recording ADD COLUMN time_basis TEXT",
    "ALTER TABLE recording ADD COLUMN integrity TEXT",
    "ALTER TABLE recording ADD COLUMN probed_seq INTEGER",
    """
    UPDATE recording SET
        medium = (SELECT json_extract(detail, '$.recording.medium') FROM event WHERE event.seq = recording.seq),
        made_end_at = strftime('%Y-%m-%dT%H:%M:%f', json_extract(stated, '$.made_at')) || '000+00:00',
        time_basis = CASE WHEN stated IS NOT NULL THEN 'officer' END
    """,
    "ALTER TABLE asset ADD COLUMN probed INTEGER NOT NULL DEFAULT 0",
    """
    CREATE INDEX asset_to_probe ON asset (alarm_at, asset_id)
    WHERE probed = 0 AND role = 'original' AND state IN ('held', 'stored', 'matched')
    """,
    # How complete the capture metadata of each recording is, and what it lacks of the four fields and the transcript.
    """
    CREATE TABLE metadata (
        recording_id TEXT PRIMARY KEY REFERENCES recording,
        completeness TEXT NOT NULL,
        lacks TEXT NOT NULL,
        version INTEGER NOT NULL,
        has_transcript INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    INSERT INTO metadata SELECT recording_id, 'incomplete',
        'method' || CASE WHEN json_extract(detail, '$.recording.clock_trust') = 'untrusted' AND stated IS NULL
            THEN ' made_at' ELSE '' END || ' makers proof_object' ||
        CASE WHEN json_extract(detail, '$.recording.medium') = 'audio' THEN ' transcript' ELSE '' END, 0, 0
    FROM recording JOIN event USING (seq)
    """,
    "INSERT INTO counter SELECT 'metadata', 'incomplete', count(*), 0 FROM recording HAVING count(*) > 0",
    # Which recorder brought an asset: of what is equally urgent each recorder has its share.
    "ALTER TABLE asset ADD COLUMN device_id TEXT NOT NULL DEFAULT ''",
    "UPDATE asset SET device_id = (SELECT device_id FROM recording WHERE recording.recording_id = asset.recording_id)",
    """
    CREATE INDEX asset_to_store ON asset
        (alarm_at, role <> 'original', device_id, asset_id, expected_bytes) WHERE state = 'held'
    """,
)

_VERSION_6: Final = (
    # What was made from an original, and the event that tells of it; '': something is to be made.
    "ALTER TABLE asset ADD COLUMN derived TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE asset ADD COLUMN derived_seq INTEGER",
    """
    CREATE INDEX asset_to_derive ON asset (alarm_at, asset_id)
    WHERE derived = '' AND probed = 1 AND role = 'original' AND state IN ('held', 'stored')
    """,
)

VERSIONS_1_TO_6: Final = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5, _VERSION_6)
