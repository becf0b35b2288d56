"""Tells the log what was committed, as fields that can be searched: ids and kinds, nothing that a person has said."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from agent.journal.codec import Encoded
from agent.logs import EVENTS
from agent.model import Asset, Recording

LEVELS: Final[Mapping[str, int]] = {
    "docking_opened": logging.INFO, "docking_listed": logging.INFO, "docking_closed": logging.INFO,
    "clip_seen": logging.INFO, "clip_refused": logging.WARNING, "acquired": logging.INFO, "matched": logging.INFO,
    "confirmed": logging.INFO, "released": logging.INFO, "blocked": logging.WARNING, "resumed": logging.INFO,
    "session_started": logging.INFO, "segment_taken": logging.INFO, "session_ended": logging.INFO,
    "damaged": logging.ERROR, "lost": logging.ERROR, "adopted": logging.WARNING, "incident": logging.INFO,
}  # fmt: skip
"""What IT may search for; incidents that need a person are logged in words where they happen, too."""

_log: Final = logging.getLogger(EVENTS)


def tell(events: Iterable[Encoded]) -> None:
    """Log those of the events that LEVELS names."""
    for event in events:
        level = LEVELS.get(event.kind, logging.NOTSET)
        if level and _log.isEnabledFor(level):
            fields = {f"CAPTURE_AGENT_{name.upper()}": value for name, value in fields_of(event).items() if value}
            _log.log(level, "%s", " ".join(fields.values()), extra=fields)


def fields_of(event: Encoded) -> dict[str, str]:
    """Ids and kinds of an event; empty where it has none."""
    entry = event.entry
    asset, recording = getattr(entry, "asset", None), getattr(entry, "recording", None)
    return {
        "event": event.kind,
        "incident": getattr(entry, "kind", ""),
        "docking": getattr(entry, "docking_id", ""),
        "session": getattr(entry, "session_id", ""),
        "device": recording.device_id if isinstance(recording, Recording) else getattr(entry, "device_id", ""),
        "recording": recording.recording_id if isinstance(recording, Recording) else "",
        "asset": asset.asset_id if isinstance(asset, Asset) else getattr(entry, "asset_id", ""),
    }
