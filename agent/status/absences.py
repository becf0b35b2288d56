"""What is missing from a recorder as the screens tell it: how many, how long, by what, how sure; never by whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from agent.absence import Evidence, Sure
from agent.journal.views import ActivityView
from agent.status.words import named, words

Json = dict[str, Any]
Absences = Callable[[str], Iterable[Mapping[str, Any]]]
"""What the journal has of a docking."""

SHOWN: Final = 100
_REMARKS: Final[Mapping[str, tuple[str, str]]] = {
    "loop": ("可能为循环摄像覆盖了最早的录像", "loop recording may have overwritten the oldest ones"),
    "stepped": ("此处设备时钟倒退", "the recorder's clock goes backwards here"),
    "told": ("上次采集时已报告", "told at the docking before"),
}


def absence_view(detail: Mapping[str, Any]) -> Json:
    """One fact with its words, such as "缺 1 段，约 00:14，依据：序号 + 目录残留（确定）"."""
    by, sure = [named(Evidence(one)) for one in detail["by"]], named(Sure(detail["sure"]))
    zh, en = _what(detail)
    zh += f"，依据：{' + '.join(one['zh'] for one in by)}（{sure['zh']}）"
    en += f", by: {' + '.join(one['en'] for one in by)} ({sure['en']})"
    for name, remark in _REMARKS.items():
        if detail[name]:
            zh, en = f"{zh}；{remark[0]}", f"{en}; {remark[1]}"
    return {**detail, **words(zh, en), "by": by, "sure": sure}


def absence_lines(facts: Iterable[Mapping[str, Any]], *, everything: bool = False) -> Iterator[str]:
    """Facts as text for a terminal; without `everything` only what is new and was never pulled."""
    for fact in facts:
        if everything or not (fact["told"] or fact["held"]):
            between = f"  [{fact['before'] or '…'} → {fact['after'] or '…'}]" if fact["before"] or fact["after"] else ""
            yield f"  {fact['zh']} ({fact['en']}){between}"


def hints(view: ActivityView, absences: Absences) -> list[Json]:
    """What is missing beside the recordings of an activity, or in the time on site, at most `SHOWN`."""
    paths = {(row.docking_id, row.clip.path): row.recording.recording_id for row in view.recordings if row.clip}
    found = []
    for docking_id in dict.fromkeys(row.docking_id for row in view.recordings if row.docking_id):
        for detail in absences(docking_id):
            beside = {name: paths.get((docking_id, detail[name])) for name in ("before", "after")}
            if not detail["held"] and (any(beside.values()) or _is_inside(detail, view)):
                found.append(absence_view(detail) | {f"{name}_recording": known for name, known in beside.items()})
    return found[:SHOWN]


def _is_inside(detail: Mapping[str, Any], view: ActivityView) -> bool:
    since, until = (datetime.fromisoformat(at) if (at := detail[name]) else None for name in ("since", "until"))
    stated = view.stated
    return since is not None and until is not None and since <= stated.left_at and stated.arrived_at <= until


def _what(detail: Mapping[str, Any]) -> tuple[str, str]:
    count, proven, lasts_s = detail["segments"], detail["proven"], detail["lasts_s"]
    many = f"{count} segment{'s' * (count > 1)}"
    if detail["held"]:
        return f"此前已采集的 {count} 段已不在设备上", f"{many} pulled before, not on the recorder any more"
    if not count and detail["loop"]:
        return "最早的序号不在设备上", "the lowest numbers are not on the recorder"
    if not count:
        size = f"{detail['size_bytes'] / 1e6:.1f} MB"
        return f"{size} 已占用空间不属于任何文件", f"{size} in use that belong to no file"
    zh, en = f"缺 {count} 段", f"{many} missing"
    if 0 < proven < count:
        zh, en = f"{zh}（其中 {proven} 段确定）", f"{en} ({proven} of them certain)"
    return (zh, en) if lasts_s is None else (f"{zh}，约 {_clock(lasts_s)}", f"{en}, about {_clock(lasts_s)}")


def _clock(seconds: int) -> str:
    """mm:ss, with hours if there are any."""
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:" * bool(hours) + f"{rest // 60:02}:{rest % 60:02}"
