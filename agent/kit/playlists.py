"""Lists for a player of what a recorder cut into parts: the originals of a kit one behind the other, nothing joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from agent.access.parts import Part, parts_m3u8
from agent.families import Kin
from agent.kit.bag import DATA
from agent.kit.reports import Reviewed

FOLDER = f"{DATA}/reports"


def playlists(reviewed: Sequence[Reviewed]) -> Iterator[tuple[str, bytes]]:
    """Name and content of one list for each recording in parts of which the kit has any, with what it hasn't."""
    here = {one.item.known.row.recording.recording_id: one for one in reviewed}
    told: set[tuple[str, ...]] = set()
    for one in reviewed:
        for family in one.record["fields"].get("related", {"value": ()})["value"]:
            members = tuple(member["recording_id"] for member in family["members"])
            if family["kind"]["name"] == Kin.PARTS and members not in told:
                told.add(members)
                parts = [_part(member, here) for member in family["members"]]
                yield f"{FOLDER}/parts-{len(told):03}.m3u8", parts_m3u8(parts, family["count"] - len(members))


def _part(member: Mapping[str, str], here: Mapping[str, Reviewed]) -> Part:
    found = here.get(member["recording_id"])
    if found is None:
        return Part(member["path"], "")
    row = found.item.known.row
    name = found.given.names.get(row.asset.asset_id, "")
    address = f"..{name.removeprefix(DATA)}" if name else ""
    return Part(member["path"], address, row.facts.duration_ms if row.facts is not None else None)
