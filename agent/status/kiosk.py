"""What an officer sees at the dock: each slot in its place, its time limit, and what is still to fill in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from agent.config import Config
from agent.deadline import Rules, Verdict
from agent.journal import Reader
from agent.journal.views import RecordingView
from agent.model import Basis, Phase
from agent.status.explain import deadline_view, verdict_of
from agent.status.words import named, words

Json = dict[str, Any]

SHOWN: Final = 6
"""How many of the latest dockings wait for an entry on the screen."""


def kiosk_view(status: Json, dock: Sequence[str], brought: Mapping[str, Json]) -> Json:
    """The screen out of the whole status; no name of a recording and of no person in it.

    `dock` are the slots as they follow each other on it, `brought` is what each docking brought (`brought_view`).
    """
    slots = [
        slot | {"brought": brought.get(slot["docking_id"]), "progress": _progress(slot)} for slot in status["slots"]
    ]
    known = ("docking_id", "slot", "device", "closed_at", "receipt")
    dockings = [
        {name: docking[name] for name in known}
        | {"files": docking["accounting"]["seen"], "brought": brought[docking["docking_id"]]}
        for docking in status["dockings"]
        if docking["closed_at"] and docking["accounting"]["seen"] and docking["docking_id"] in brought
    ]
    return {
        "station": {name: status["station"][name] for name in ("name", "contact", "version")},
        "now": status["now"],
        "health": status["health"],
        "centre": _centre(status["store"]),
        "facts": [status["facts"][0], words(*_free(status["storage"]["free_bytes"]))],
        "slots": _arranged(slots, dock),
        "dockings": dockings[:SHOWN],
    }


def docking_ids(status: Json) -> list[str]:
    """The dockings that the screen speaks of."""
    ended = [one["docking_id"] for one in status["dockings"] if one["closed_at"]][: 2 * SHOWN]
    return list(dict.fromkeys([slot["docking_id"] for slot in status["slots"] if slot["docking_id"]] + ended))


def brought_view(reader: Reader, config: Config, docking_id: str, missing: int | None, now: datetime) -> Json:
    """How many recordings a docking brought, how many lack something, and the limit of the one to be stored first.

    `missing` is the year whose holiday notice isn't known. Without a name of a recording.
    """
    recordings, incomplete, urgent = reader.to_fill_in(docking_id)
    row = reader.recording(urgent) if urgent else None
    due = _due(row, config, missing, now) if row is not None else None
    return {"recordings": recordings, "incomplete": incomplete, "due": due}


def _due(row: RecordingView, config: Config, missing: int | None, now: datetime) -> Json:
    """The line about a time limit: until when, how long that is or what became of it, and which article."""
    limit, found = row.recording.deadline, verdict_of(row, config.deadline.satisfied_by, now)
    shown = deadline_view(limit, row.captured[2], Rules(config.profile, config.calendars))
    if found in (None, Verdict.OPEN, Verdict.DUE_SOON, Verdict.NO_LIMIT):
        left = _left(limit.alarm_at - now)
        more = words(f"剩余 {left[0]}", f"{left[1]} left")
    else:
        more = named(found)
    year = missing if limit.basis is Basis.PROVISIONAL else None
    note = words(f"（{year} 年放假安排尚未导入）", f" (no holiday notice of {year} yet)") if year else words("", "")
    told = {tongue: f"{shown['due_text'][tongue]}{note[tongue]} · {more[tongue]}" for tongue in ("zh", "en")}
    return {**told, "citation": limit.citation, "verdict": found.value if found else ""}


def _arranged(slots: Sequence[Json], dock: Sequence[str]) -> list[Json]:
    """All slots of the dock in its order, also those without a recorder; behind them what has no place there."""
    places = {name: [slot for slot in slots if slot["slot"].partition(" ")[0] == name] for name in dict.fromkeys(dock)}
    arranged = [slot for name, found in places.items() for slot in found or [{"slot": name, "phase": None}]]
    return arranged + [slot for slot in slots if slot["slot"].partition(" ")[0] not in places]


def _progress(slot: Json) -> Json:
    """Files, bytes, and the time left by the rate that was measured."""
    files, size = slot["files"], slot["bytes"]
    amount = f"{size['done'] / 1e9:.1f}/{size['total'] / 1e9:.1f} GB"
    left = ("", "")
    if slot["eta_s"] is not None and slot["phase"]["name"] == Phase.READING:
        left = _left(timedelta(seconds=max(60, slot["eta_s"] + 59)))
        left = (f" · 约 {left[0]}", f"about {left[1]}")
    return words(f"{files['done']}/{files['total']} 个文件 · {amount}{left[0]}", left[1])


def _centre(store: Json) -> Json:
    if store["error"]:
        zh = f"{store['name']} 未连接（数据已在本机安全保存，可继续采集）"
        return {
            "ok": False,
            **words(zh, "the store is not connected; what was pulled is safe here, go on docking"),
        }
    if store["answers"] is None:
        return {"ok": False, **words(f"{store['name']} 尚未联系", "the store was not asked yet")}
    return {"ok": True, **words(f"{store['name']} 已连接", "store connected")}


def _free(free_bytes: int | None) -> tuple[str, str]:
    if free_bytes is None:
        return ("本机剩余空间 未知", "free space unknown")
    return (f"本机剩余空间 {free_bytes / 1e9:.1f} GB", f"{free_bytes / 1e9:.1f} GB free here")


def _left(left: timedelta) -> tuple[str, str]:
    """A time span in its two largest units, rounded down."""
    minutes = max(0, int(left.total_seconds())) // 60
    parts = ((minutes // 1440, "天", "d"), (minutes // 60 % 24, "小时", "h"), (minutes % 60, "分钟", "min"))
    first = next((place for place, part in enumerate(parts) if part[0]), 2)
    shown = parts[first : first + 2]
    return " ".join(f"{n} {zh}" for n, zh, _ in shown), " ".join(f"{n} {en}" for n, _, en in shown)
