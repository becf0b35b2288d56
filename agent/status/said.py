"""What a recorder said of itself and its clock over its serial line, as fields of a record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from agent.journal import Reader
from agent.lines.wire import SAID
from agent.model import ClockTrust
from agent.status.words import at, named, words


def said_in(reader: Reader, docking_id: str) -> Mapping[str, Any]:
    """What it said in a docking; empty if it was not spoken to."""
    found = reader.findings(docking_id, (SAID,))
    return found[0].detail if found else {}


def trust_words(trust: ClockTrust, said: Mapping[str, Any]) -> dict[str, str]:
    """What its clock is worth; without a comparison nothing of its offset is known."""
    if trust is not ClockTrust.UNMEASURED or "offset_ms" not in said:
        return named(trust)
    return {"name": trust.value, **words("时钟偏差已测，时间未更正", "clock offset measured; no time is corrected")}


def clock_fields(said: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """How far its clock was ahead, and how certain that is; no time is corrected by it."""
    if (offset_ms := said.get("offset_ms")) is not None:
        yield "device_clock_offset_ms", offset_ms
        measured = at(datetime.fromisoformat(said["measured_at"]))
        compared = {"uncertainty_ms": said["uncertainty_ms"], "measured_at": measured, "profile": said["profile"]}
        yield "device_clock_compared", compared
