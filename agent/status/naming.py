"""What a recording's file name proposes, and under which other names its content was brought: never facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.journal import Reader
from agent.journal.views import RecordingView
from agent.model import Asset, Forms, Role
from agent.naming import is_important, proposed
from agent.status.words import at, named, words

Json = dict[str, Any]

_NAMES_LIMIT: Final = 20
_IMPORTANT: Final[Mapping[str, str]] = {"name": "important", **words("重点", "marked as important")}


def name_view(path: str, forms: Forms) -> Json | None:
    """What the bureau's rules read in the name, with the rule and its confidence; None if none fits.

    `maker` is the only officer of the roster with that 警号: a proposal, too, as every other part.
    """
    found = proposed(forms.names, path)
    if found is None:
        return None
    with_badge = [name for name, officer in forms.officers.items() if found.officer and officer.badge == found.officer]
    told = {
        "officer": found.officer,
        "maker": f"@{with_badge[0]}" if len(with_badge) == 1 else "",
        "device": found.device,
        "time": at(found.time),
        "number": found.number,
        "part": found.part,
        "channel": found.channel,
        "mark": _IMPORTANT if found.marked else "",
    }
    rule = {"rule": found.rule_id, "confidence": named(found.confidence)}
    return {name: value for name, value in told.items() if value} | rule


def twins_of(reader: Reader, kept: Asset) -> tuple[RecordingView, ...]:
    """All recordings with the content of an original, oldest first, at most 20; none if it is the only one."""
    same = reader.assets_with([kept.digests.blake3]) if kept.digests is not None else []
    ids = sorted(asset.asset_id for asset in same if asset.role is Role.ORIGINAL)
    return tuple(map(reader.recording, ids[:_NAMES_LIMIT])) if len(ids) > 1 else ()


def twins_view(twins: tuple[RecordingView, ...], forms: Forms) -> list[Json]:
    """Each name that the content was brought under; a copy that its recorder marked as important (重点) says so."""
    return [
        {"path": row.name, "recording_id": row.recording.recording_id}
        | ({"mark": _IMPORTANT} if is_important(forms.names, row.name) else {})
        for row in twins
    ]
