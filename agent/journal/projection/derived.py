"""What was made from an original: files that hurry nobody, and one row's word on whether there is an access copy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from agent.errors import JournalError
from agent.journal.projection.activities import touch_activities_of
from agent.journal.projection.tables import UNCHANGED, Tables
from agent.journal.rows import sortable
from agent.model import DERIVED_ROLES, FINDINGS_LIMIT, Asset, Derivation, DeriveAsked, Derived, Role

FAR_FUTURE: Final = sortable(datetime(9000, 1, 1, tzinfo=UTC))
"""The alarm of what is made: every original goes before it, whatever its limit."""

BEHIND_ORIGINALS: Final = sortable(datetime(8000, 1, 1, tzinfo=UTC))
"""The alarm of manifests and time stamps: behind every original and what is said of it, before what was made."""

SCOPE: Final = "copies"
"""Of the counters: how many originals have an access copy, and how many can't have one."""

COPY: Final = "copy"
FAILED: Final = "failed"


def check_source(tables: Tables, about: tuple[str, ...], said: Derivation) -> None:
    """What is made belongs to the one recording whose original it was made from."""
    if said.role not in DERIVED_ROLES or (_original(tables, said.source).recording_id,) != about:
        raise JournalError(f"No {said.role} of {about} can be made from {said.source}.", safe=UNCHANGED)


def apply_derived(tables: Tables, seq: int, entry: Derived | DeriveAsked) -> None:
    """All that can be made from an original is made, or is to be made again; what was found before stays until then."""
    original = _original(tables, entry.asset_id)
    shared = "SELECT recording_id FROM asset WHERE same_as = ? AND same_as <> ''"  # as its index says
    twins = tables.db.execute(shared, (entry.asset_id,)).fetchall()
    for recording_id in (original.recording_id, *(row[0] for row in twins)):
        touch_activities_of(tables, seq, recording_id)
    (before,) = tables.asset_row(entry.asset_id, "derived")
    if before:
        tables.count(SCOPE, before, -1, 0)
    if isinstance(entry, DeriveAsked):
        tables.db.execute("UPDATE asset SET derived = '' WHERE asset_id = ?", (entry.asset_id,))
        return
    if len(entry.findings) > min(entry.found, FINDINGS_LIMIT):
        raise JournalError(f"{len(entry.findings)} findings are not the first of {entry.found}.", safe=UNCHANGED)
    if entry.film and tables.asset(entry.film).role is not Role.ACCESS_COPY:
        raise JournalError(f"Asset {entry.film} is no film.", safe=UNCHANGED)
    after = FAILED if entry.reason else COPY
    row = (after, seq, entry.asset_id)
    tables.db.execute("UPDATE asset SET derived = ?, derived_seq = ? WHERE asset_id = ?", row)
    tables.count(SCOPE, after, 1, 0)


def _original(tables: Tables, asset_id: str) -> Asset:
    asset = tables.asset(asset_id)
    if asset.role is not Role.ORIGINAL:
        raise JournalError(f"Asset {asset_id} is no original.", safe=UNCHANGED)
    return asset
