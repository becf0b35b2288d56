"""How rows of the tables become values and back; shared by the projection and the reader."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Final

from agent.journal.codec import from_text, to_text
from agent.model import Asset, AssetState, Clip, Custody, Digests, Extent, Receipt, Role, Standing

_compact: Final = json.JSONEncoder(separators=(",", ":")).encode

ASSET_COLUMNS: Final = (
    "asset.asset_id, asset.recording_id, asset.role, asset.state, asset.expected_bytes, asset.size_bytes,"
    " asset.blake3, asset.sha256, asset.receipt, asset.reason, asset.resume_to, asset.same_as"
)
"""What `asset_of` takes, in order."""

SELECT_ASSET: Final = f"SELECT {ASSET_COLUMNS} FROM asset"  # noqa: S608
"""A query to which a WHERE is added."""

SELECT_STANDING: Final = "SELECT recorder_id, custody, issued_at, changed_at, unseen_since, back_by FROM custody"
"""As above; its rows are what `standing_of` takes."""

ACTIVITY_CHANGED: Final = (
    "max(changed_seq, coalesce((SELECT ended_seq FROM session WHERE session_id = activity.activity_id), 0))"
)
"""The newest event about an activity; with the end of a session in a room the last gaps of its sources are known."""


def asset_of(row: tuple[Any, ...]) -> Asset:
    """Return the asset of a row that begins with `ASSET_COLUMNS`."""
    asset_id, recording_id, role, state, expected, size, blake3, sha256, receipt, reason, resume_to, same_as = row[:12]
    return Asset(
        asset_id,
        recording_id,
        Role(role),
        AssetState(state),
        expected,
        size,
        Digests(blake3, sha256) if blake3 is not None else None,
        from_text(Receipt, receipt) if receipt is not None else None,
        reason,
        AssetState(resume_to) if resume_to is not None else None,
        same_as,
    )


def asset_changes(asset: Asset) -> tuple[object, ...]:
    """Return what an event may change: state, size, BLAKE3, SHA-256, receipt, reason, resume_to, same_as."""
    digests = asset.digests
    return (
        asset.state,
        asset.size_bytes,
        digests.blake3 if digests else None,
        digests.sha256 if digests else None,
        to_text(asset.receipt) if asset.receipt else None,
        storable(asset.reason),
        asset.resume_to,
        asset.same_as,
    )


def standing_of(row: tuple[Any, ...]) -> Standing:
    """Return where a recorder is by its row."""
    recorder_id, custody, *times = row
    issued_at, changed_at, unseen_since, back_by = (datetime.fromisoformat(time) if time else None for time in times)
    assert issued_at is not None, "the table says so"
    assert changed_at is not None, "as above"
    return Standing(recorder_id, Custody(custody), issued_at, changed_at, unseen_since, back_by)


def standing_row(standing: Standing) -> tuple[object, ...]:
    """Return the row of `standing_of`."""
    times = (standing.issued_at, standing.changed_at, standing.unseen_since, standing.back_by)
    return (standing.recorder_id, standing.custody, *(sortable(time) if time is not None else None for time in times))


CLOCK_SET: Final = (
    "(SELECT total(json_extract(detail, '$.step_ms')) / 1000 FROM event AS step"
    " WHERE step.subject = 'clock' AND step.subject <> '' AND step.seq"
)
"""By how many seconds the station's clock was set; what comes next compares `seq` with an event's and closes it."""


def sortable(time: datetime) -> str:
    """Return an aware time as UTC text of fixed width, so that text order is time order."""
    assert time.tzinfo is not None, "only aware times are journaled"
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def moment_of(text: str | None) -> datetime | None:
    """Return the time of a column that may be NULL."""
    return None if text is None else datetime.fromisoformat(text)


def storable(text: str) -> str:
    """Return a text that SQLite can keep; what a card or a helper said may hold lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def likeness(device_id: str, clip: Clip) -> bytes:
    """Return 16 bytes that are equal for clips which may be the same one again; never a proof, only a hint."""
    stamp = clip.modified
    key = [device_id, clip.path, clip.raw_name.hex(), clip.size_bytes, stamp.local, stamp.offset_min]
    return hashlib.sha256(_compact(key).encode("ascii")).digest()[:16]


def holes_text(holes: tuple[Extent, ...]) -> str:
    """Return holes as JSON for a column."""
    return _compact(holes)


def holes_of(text: str) -> tuple[Extent, ...]:
    """Return the holes of a column."""
    return tuple((offset, length) for offset, length in json.loads(text))
