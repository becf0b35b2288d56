"""Recordings and their assets: how they come in, and how an event changes one."""

from __future__ import annotations

from agent.errors import JournalError
from agent.journal.codec import to_text
from agent.journal.projection.metadata import enter_metadata
from agent.journal.projection.tables import UNCHANGED, Tables, limit_columns
from agent.journal.rows import SELECT_ASSET, asset_changes, asset_of, sortable
from agent.model import Acquired, Adopted, Asset, AssetEvent, AssetState, Matched, Recording, Role
from agent.states import is_kept, may_match, scope_of, transition


def apply_adopted(tables: Tables, seq: int, at: str, entry: Adopted) -> None:
    """A file of the vault that no row knew is a recording of unknown origin."""
    insert_footage(tables, seq, entry.recording, entry.asset, entry.held.asset_id)
    change_asset(tables, at, entry.asset.asset_id, Acquired(entry.held))


def insert_footage(tables: Tables, seq: int, recording: Recording, asset: Asset, asset_id: str) -> None:
    """Enter a new recording and its original, which must be `asset_id` and WANTED."""
    fresh = Asset(asset_id, recording.recording_id, Role.ORIGINAL, AssetState.WANTED, asset.expected_bytes)
    if asset != fresh:
        raise JournalError(f"Asset {asset.asset_id} can't be new: {asset}.", safe=UNCHANGED)
    limit = recording.deadline
    tables.db.execute(
        "INSERT INTO recording (recording_id, device_id, seq, deadline, medium) VALUES (?, ?, ?, ?, ?)",
        (recording.recording_id, recording.device_id, seq, to_text(limit), recording.medium),
    )
    insert_asset(tables, asset, *limit_columns(limit), sortable(recording.captured_latest))
    enter_metadata(tables, recording)


def insert_asset(tables: Tables, asset: Asset, alarm_at: str, late_at: str | None, captured_at: str = "") -> None:
    """Enter a new asset; `captured_at` of an original only."""
    key = (asset.asset_id, asset.recording_id, asset.role, asset.state, asset.expected_bytes)
    tables.db.execute(
        "INSERT INTO asset VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, 0,"
        " (SELECT device_id FROM recording WHERE recording_id = ?), '', NULL, ?)",
        (*key, *asset_changes(asset)[1:], alarm_at, late_at, asset.recording_id, captured_at),
    )
    tables.count(scope_of(asset.role), asset.state, 1, asset.expected_bytes)


def change_asset(tables: Tables, at: str, asset_id: str, event: AssetEvent) -> None:
    """Let an event change an asset, by the rules of `states.transition`."""
    before = tables.asset(asset_id)
    after = transition(before, event)
    if isinstance(event, Acquired):
        _check_single(tables, after)
    elif isinstance(event, Matched):
        _check_match(tables, after)
    tables.one(
        tables.db.execute(
            "UPDATE asset SET state = ?, size_bytes = ?, blake3 = ?, sha256 = ?, receipt = ?, reason = ?,"
            " resume_to = ?, same_as = ?, held_at = coalesce(?, held_at) WHERE asset_id = ? AND state = ?",
            (*asset_changes(after), at if isinstance(event, Acquired) else None, asset_id, before.state),
        ),
        f"Asset {asset_id} is no longer {before.state}.",
    )
    scope = scope_of(before.role)
    tables.count(scope, before.state, -1, -before.expected_bytes)
    tables.count(scope, after.state, 1, after.expected_bytes)


def _check_single(tables: Tables, asset: Asset) -> None:
    """Equal content exists once: who finds it again records Matched."""
    assert asset.digests is not None, "an acquired asset has digests"
    query = SELECT_ASSET + " WHERE blake3 = ? AND asset_id <> ?"
    for row in tables.db.execute(query, (asset.digests.blake3, asset.asset_id)):
        other = asset_of(row)
        if is_kept(other) and may_match(asset.role, other.role):
            what = f"The content of asset {asset.asset_id} is already held as asset {other.asset_id}."
            raise JournalError(what, safe=UNCHANGED, do="Record it as Matched.")


def _check_match(tables: Tables, asset: Asset) -> None:
    other = tables.asset(asset.same_as)
    if not is_kept(other) or other.digests != asset.digests or not may_match(asset.role, other.role):
        raise JournalError(f"Asset {asset.same_as} doesn't hold the content of {asset.asset_id}.", safe=UNCHANGED)
    # The bytes that are there must now be stored in time for both recordings.
    tables.db.execute(
        "UPDATE asset SET alarm_at = min(asset.alarm_at, twin.alarm_at),"
        " late_at = min(coalesce(asset.late_at, twin.late_at), coalesce(twin.late_at, asset.late_at))"
        " FROM asset AS twin WHERE asset.asset_id = ? AND twin.asset_id = ?",
        (other.asset_id, asset.asset_id),
    )
