"""Changes limits after footage was listed: a person's word on a time or an event, other holiday notices or rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from agent.capture_time import limit_by
from agent.deadline import CLOCK_TOLERANCE, ZONE, codes_of
from agent.errors import JournalError
from agent.journal.views import RecordingView
from agent.model import Deadline, DeadlineRecomputed, Declared, EventDeclared, Stated, TimeStated
from agent.pipeline.station import Station

_BATCH: Final = 500
_LANE: Final = "deadline"
_TEXT_LIMIT: Final = 500
_UNCHANGED: Final = "Nothing was changed."


async def state_time(station: Station, identifier: str, stated: Stated) -> Deadline:
    """A person states when a recording was completed; returns its limit. Raises JournalError if that can't be.

    Only a time that is not later than the latest one that the clocks allow: it may make the limit earlier or certain,
    never later than the law.
    """
    check_words(stated.who, stated.why)

    def entry(row: RecordingView) -> TimeStated:
        latest = row.witnessed.later or row.witnessed.latest
        if stated.made_at > latest:
            raise JournalError(
                f"It was completed at {latest.isoformat()} at the latest; {stated.made_at.isoformat()} is behind that.",
                safe=_UNCHANGED,
                do="Give the time at which the recording ended, or an earlier one.",
            )
        now_said = replace(row, stated=stated)
        return TimeStated(row.asset.asset_id, stated, row.recording.deadline, limit_of(station, now_said))

    return await _said(station, identifier, entry)


async def declare(station: Station, identifier: str, declared: Declared) -> Deadline:
    """A person declares an event from which a rule counts; returns the limit. Raises JournalError if none does.

    Only for a cause that the article names: nothing else makes a limit later.
    """
    check_words(declared.who, declared.why)
    rules = [rule for rule in station.rules.profile.rules if rule.event and rule.event == declared.event]
    causes = [cause for rule in rules for cause in rule.causes]
    if not any(declared.cause in codes_of(rule) for rule in rules):
        known = ", ".join(rule.event for rule in station.rules.profile.rules if rule.event) or "none"
        raise JournalError(
            f"No rule of the profile {station.rules.profile.name!r} counts from {declared.event!r} for the cause"
            f" {declared.cause!r}; events: {known}; causes: {', '.join(causes) or 'none'}.",
            safe=_UNCHANGED,
            do="Any other cause explains a delay, and changes no limit.",
        )

    def entry(row: RecordingView) -> EventDeclared:
        made_at = row.captured[0] or row.captured[1]
        if not made_at <= declared.at <= station.clock() + CLOCK_TOLERANCE:
            raise JournalError(
                f"{declared.event} at {declared.at.isoformat()} is before the recording"
                f" ({made_at.isoformat()}) or in the future.",
                safe=_UNCHANGED,
                do="Give the time of the event; if the recorder's clock was wrong, state the recording's time first.",
            )
        now_said = replace(row, declared=declared)
        return EventDeclared(row.asset.asset_id, declared, row.recording.deadline, limit_of(station, now_said))

    return await _said(station, identifier, entry)


async def recompute(station: Station) -> int:
    """Compute every limit again whose verdict may still change; returns how many became another.

    Does nothing if rules and notices are those of the last time. Goes on where it was if the process ends.
    """
    digest = station.rules.digest
    noted = await station.on_disk(station.journal.reader.notes, _LANE)
    if noted.get("rules") == digest:
        return 0
    changed, after = 0, ""
    while True:
        async with station.commit:
            rows = await station.on_disk(station.journal.reader.undecided, after, _BATCH)
            entries = [entry for row in rows if (entry := _recomputed(station, row)) is not None]
            await station.journal.record(*entries)
        changed += len(entries)
        if len(rows) < _BATCH:
            break
        after = rows[-1].asset.asset_id
    await station.journal.note(_LANE, {"rules": digest})
    return changed


async def doubt(station: Station) -> None:
    """A notice was refused: what is computed without it has to be computed again when the rules are whole."""
    await station.journal.note(_LANE, {"rules": ""})


def _recomputed(station: Station, row: RecordingView) -> DeadlineRecomputed | None:
    old = row.recording.deadline
    new = limit_of(station, row)
    if replace(new, calendar="") == replace(old, calendar=""):
        return None
    return DeadlineRecomputed(row.asset.asset_id, old, new)


def limit_of(station: Station, row: RecordingView) -> Deadline:
    """The limit of a recording by the rules in force, and by all that was said of it."""
    return limit_by(station.rules, row.time, row.declared, row.activity_end)


async def _said(
    station: Station, identifier: str, make: Callable[[RecordingView], TimeStated | EventDeclared]
) -> Deadline:
    async with station.commit:
        row = await station.on_disk(station.journal.reader.recording, identifier)
        entry = make(row)
        await station.journal.record(entry)
    station.held_news.set()
    return entry.new


def check_words(*texts: str) -> None:
    """Who says something and why is text that a screen can show; raises JournalError."""
    for text in texts:
        if not text.strip() or len(text) > _TEXT_LIMIT or not text.isprintable():
            raise JournalError(
                f"填写人、说明各为一行，至多 {_TEXT_LIMIT} 字 (a line of 1 to {_TEXT_LIMIT} visible characters each).",
                safe=_UNCHANGED,
                do="Give the name of who says so, and the reason.",
            )


def moment(text: str) -> datetime:
    """A time that a person wrote, with its zone or of China; raises JournalError."""
    try:
        time = datetime.fromisoformat(text)
        time = time if time.tzinfo is not None else time.replace(tzinfo=ZONE)
        return time.astimezone(ZONE)
    except (ValueError, OverflowError):
        raise JournalError(
            f"{text[:40]!r} is no time.", safe=_UNCHANGED, do='Write it like "2026-11-20 16:30".'
        ) from None
