"""The status as text for a terminal: what a supervisor would look at first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agent.model import SlotProgress
from agent.status.absences import absence_lines
from agent.status.devices import device_lines
from agent.status.health import hold_of
from agent.status.reasons import both
from agent.status.rooms import room_lines
from agent.status.words import Hold

_AT_RISK_SHOWN: Final = 10
_DOCKINGS_SHOWN: Final = 5


def summary(status: Mapping[str, Any]) -> str:
    """Some twenty lines of what `/api/v1/status` says; nothing a recorder is named can steer the terminal."""
    return "\n".join(printable(line) for line in _lines(status))


def one_line(slots: Sequence[SlotProgress], uploads: int, problems: int, *, store_fails: bool) -> str:
    """What `systemctl status` shows: numbers, and nothing that names anybody."""
    holds = Counter(hold_of(slot) for slot in slots)
    counted = (
        ("being read", holds[Hold.KEEP]), ("may be taken", holds[Hold.TAKE]), ("need a person", holds[Hold.ASK]),
        ("being stored", uploads), ("problems", problems),
    )  # fmt: skip
    told = [f"{number} {what}" for what, number in counted if number]
    return ", ".join([*told, *(["the store fails"] if store_fails else [])]) or "nothing to do"


def printable(line: str) -> str:
    """Text without anything that could steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def _lines(status: Mapping[str, Any]) -> Iterator[str]:
    health = status["health"]
    yield f"{status['station']['name']}  {_both(health)}  {status['now']}"
    yield from (f"  ! {_both(problem)}" for problem in health["problems"])
    yield "  ".join(
        f"{tile['zh']} {tile['en']}: {tile['count']}{'+' if tile['or_more'] else ''}" for tile in status["tiles"]
    )
    yield from _slots(status["slots"])
    yield from lines_at_risk(status["at_risk"])
    yield from details(status)


def details(status: Mapping[str, Any]) -> Iterator[str]:
    """What comes below the slots and the recordings at risk, line by line, as it is: see `printable`."""
    yield from room_lines(status["rooms"])
    yield from _forecast(status["forecast"])
    yield from device_lines(status["devices"])
    yield from _activities(status["activities"])
    yield from _dockings(status["dockings"])


def _forecast(forecast: Mapping[str, Any]) -> Iterator[str]:
    yield _both(forecast)
    for miss in forecast["misses"]:
        yield f"  来不及 (not in time): {miss['files']} files due {miss['due_at']}, stored by {miss['stored_by']}"


def _slots(slots: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for slot in slots:
        files, size = slot["files"], slot["bytes"]
        yield (
            f"slot {slot['slot']}: {slot['device']}  {_both(slot['phase'])}  {files['done']}/{files['total']} files"
            f"  {size['done'] / 1e6:.0f}/{size['total'] / 1e6:.0f} MB  {_both(slot['hold'])}"
        )
        if slot["message_words"]:
            yield f"  {both(slot['message_words'])}"


def lines_at_risk(recordings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The most urgent recordings, line by line."""
    for recording in recordings[:_AT_RISK_SHOWN]:
        yield (
            f"at risk {recording['recording_id']}  {_both(recording['state'])}{_sent(recording)}"
            f"  {_both(recording['due_text'])}{_stored_by(recording)}  {recording['citation']}"
        )
        if recording["reason_words"]:
            yield f"  {both(recording['reason_words'])}"
    if len(recordings) > _AT_RISK_SHOWN:
        yield f"… and {len(recordings) - _AT_RISK_SHOWN} more at risk"


def _sent(recording: Mapping[str, Any]) -> str:
    if recording["sent_bytes"] is None:
        return ""
    return f" 上传中 (uploading {recording['sent_bytes'] / 1e6:.0f}/{recording['size_bytes'] / 1e6:.0f} MB)"


def _stored_by(recording: Mapping[str, Any]) -> str:
    return f"  预计入库 (stored by) {recording['stored_by']}" if recording["stored_by"] else ""


def _activities(activities: Mapping[str, Any]) -> Iterator[str]:
    for row in activities["rows"]:
        flag = "! " if row["red_flag"] else ""
        yield f"{flag}activity {row['activity_id']}  {row['stage']['zh']}  {row['arrived_at']}  {_both(row['warning'])}"


def _dockings(dockings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for docking in dockings[:_DOCKINGS_SHOWN]:
        accounts = docking["accounting"]
        parts = " + ".join(f"{count} {name}" for name, count in accounts.items() if name != "seen" and count)
        yield (
            f"docked {docking['opened_at']}  {docking['device']}  {docking['reason'] or 'open'}:"
            f" {accounts['seen']} seen = {parts or 0}"
        )
        yield from absence_lines(docking["absences"])


def _both(words: Mapping[str, Any]) -> str:
    return f"{words['zh']} ({words['en']})"
