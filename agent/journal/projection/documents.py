"""Documents about recordings: how they come in, and that they are as urgent as the recordings they are about."""

from __future__ import annotations

from typing import Final

from agent.errors import JournalError
from agent.journal.projection.assets import insert_asset
from agent.journal.projection.derived import BEHIND_ORIGINALS, FAR_FUTURE, check_source
from agent.journal.projection.manifests import apply_seal
from agent.journal.projection.metadata import apply_statement, apply_transcript
from agent.journal.projection.tables import UNCHANGED, Tables
from agent.model import (
    RECORDINGS_LIMIT,
    Asset,
    AssetState,
    Derivation,
    DocumentAdded,
    NoSpeechFound,
    Role,
    Sealing,
    Stamping,
    Statement,
    Transcript,
    role_of,
)

_ALARM: Final = (
    "SELECT original.alarm_at FROM about JOIN asset AS original USING (recording_id)"
    " WHERE about.asset_id = {asset} AND original.role = 'original'"
)
# The earliest of its own recordings and of those of all documents that share its content.
_SET_ALARM: Final = (
    "UPDATE asset SET alarm_at = (SELECT min(alarm_at) FROM ("  # noqa: S608  our own names
    + _ALARM.format(asset="asset.asset_id")
    + " UNION ALL SELECT twin.alarm_at FROM asset AS twin WHERE twin.same_as = asset.asset_id)) WHERE asset_id IN "
)
_ABOUT: Final = "(SELECT asset_id FROM about WHERE recording_id = ?)"


def apply_document(tables: Tables, seq: int, entry: DocumentAdded) -> None:
    """Enter a new document, WANTED with known content, about one or more known recordings."""
    asset, about = entry.asset, entry.recordings
    key = (asset.asset_id, about[0] if about else "", role_of(entry.said), AssetState.WANTED, asset.expected_bytes)
    if asset.digests is None or asset != Asset(*key, digests=asset.digests):
        raise JournalError(f"Document {asset.asset_id} can't be new: {asset}.", safe=UNCHANGED)
    if not 1 <= len(set(about)) == len(about) <= RECORDINGS_LIMIT:
        what = f"A document is about 1 to {RECORDINGS_LIMIT} different recordings, not {len(about)}."
        raise JournalError(what, safe=UNCHANGED)
    if isinstance(entry.said, Sealing | Stamping):  # what the station vouches with waits for every original
        if len(about) != 1:
            raise JournalError(f"A {asset.role} of {len(about)} recordings.", safe=UNCHANGED)
        _enter(tables, seq, asset, BEHIND_ORIGINALS)
        apply_seal(tables, asset, entry.said)
        return
    if isinstance(entry.said, Derivation):  # what a machine makes of an original is nobody's document about it
        check_source(tables, about, entry.said)
        _enter(tables, seq, asset, FAR_FUTURE)
        return
    _enter(tables, seq, asset, min(_alarm_of(tables, recording_id) for recording_id in about))
    rows = [(recording_id, asset.asset_id) for recording_id in about]
    tables.db.executemany("INSERT INTO about VALUES (?, ?)", rows)
    if isinstance(entry.said, Statement):
        apply_statement(tables, about, entry.said)
    elif isinstance(entry.said, Transcript):
        apply_transcript(tables, about, entry.said)


def _enter(tables: Tables, seq: int, asset: Asset, alarm_at: str) -> None:
    insert_asset(tables, asset, alarm_at, None)
    tables.db.execute("INSERT INTO document VALUES (?, ?, ?)", (asset.asset_id, asset.role, seq))


def apply_silence(tables: Tables, entry: NoSpeechFound) -> None:
    """The event itself is all there is to keep; it is about an original that must be known."""
    if tables.asset(entry.asset_id).role is not Role.ORIGINAL:
        raise JournalError(f"Asset {entry.asset_id} is no original.", safe=UNCHANGED)


def follow_limit(tables: Tables, recording_id: str) -> None:
    """The limit of a recording changed: so does the urgency of the documents about it, and of who keeps their bytes."""
    tables.db.execute(_SET_ALARM + _ABOUT, (recording_id,))
    keepers = f"(SELECT same_as FROM asset WHERE same_as <> '' AND asset_id IN {_ABOUT})"  # noqa: S608  as above
    tables.db.execute(_SET_ALARM + keepers, (recording_id,))


def _alarm_of(tables: Tables, recording_id: str) -> str:
    query = "SELECT alarm_at FROM asset WHERE recording_id = ? AND role = 'original'"
    row: tuple[str] | None = tables.db.execute(query, (recording_id,)).fetchone()
    if row is None:
        raise JournalError(f"Recording {recording_id} is unknown.", safe=UNCHANGED)
    return row[0]
