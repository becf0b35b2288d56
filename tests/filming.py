"""Recordings with times for tests of activities: entered in the journal as a docking would, without any bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from agent.deadline import ZONE, Rules, deadline_for
from agent.model import ClipSeen, ClockTrust, JournalEntry, Stamp
from agent.pipeline.station import Station
from tests.journal_entries import clip, listed, opened, seen


def filmed(
    rules: Rules,
    name: str,
    number: int,
    span: Sequence[datetime],
    *,
    docking: str = "d1",
    device: str = "device",
    path: str = "",
) -> ClipSeen:
    """Recording `rec-<name>` from begin to end, by stamps of its file and with its real limit."""
    start, end = span
    plain = seen(name, number, docking)
    assert plain.recording is not None
    made = replace(
        plain.recording,
        device_id=device,
        captured_earliest=end,
        captured_latest=end,
        clock_trust=ClockTrust.UNMEASURED,
        deadline=deadline_for(rules, end, end),
    )
    stamps = {"created": _stamp(start), "modified": _stamp(end)}
    return replace(plain, recording=made, clip=replace(clip(number, path=path), **stamps))  # type: ignore[arg-type]


def lost_in_time(seen: ClipSeen, docked: datetime) -> ClipSeen:
    """The same from a recorder whose clock said 1970: made at some time before it was docked."""
    assert seen.recording is not None
    made = replace(
        seen.recording, captured_earliest=None, captured_latest=docked, clock_trust=ClockTrust.UNTRUSTED
    )  # fmt: skip
    start, end = (datetime.fromisoformat(stamp.local or "") for stamp in (seen.clip.created, seen.clip.modified))
    zero = datetime(1970, 1, 1)  # noqa: DTZ001  as a recorder writes it
    stamps = {"created": Stamp(zero.isoformat()), "modified": Stamp((zero + (end - start)).isoformat())}
    return replace(seen, recording=made, clip=replace(seen.clip, **stamps))


async def docked(station: Station, *clips: JournalEntry, docking: str = "d1", device: str = "device") -> None:
    """A docking with these clips, listed to the end."""
    await station.journal.record(opened(docking, device), *clips, listed(len(clips), docking))


def _stamp(time: datetime) -> Stamp:
    return Stamp(time.astimezone(ZONE).replace(tzinfo=None).isoformat())
