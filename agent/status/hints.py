"""What recorders show of files that are not there: missing numbers and deleted entries beside an activity's recordings.

Facts, never accusations: a photo that was taken back leaves the same trace as a piece of evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agent.deadline import instant
from agent.drivers.sequence import split_counter
from agent.journal.views import ActivityView, RecordingView
from agent.model import Finding, Stamp
from agent.status.words import words

Json = dict[str, Any]
Findings = Callable[[str, tuple[str, ...]], Sequence[Finding]]
"""What was found in a docking, of the kinds asked for."""

SHOWN: Final = 100
_KINDS: Final = ("gap", "deleted")


@dataclass(frozen=True, slots=True)
class _Numbered:
    """The recordings of an activity from one folder of one docking, by the number in their names."""

    pattern: str
    by_number: Mapping[int, str]


def hints(view: ActivityView, findings: Findings) -> list[Json]:
    """The traces beside the recordings of an activity, at most `SHOWN`."""
    found: list[Json] = []
    for docking_id in dict.fromkeys(row.docking_id for row in view.recordings if row.docking_id):
        rows = [row for row in view.recordings if row.docking_id == docking_id]
        folders = _by_folder(rows)
        for finding in findings(docking_id, _KINDS):
            if finding.kind == "gap":
                found += _missing(finding.detail, folders)
            else:
                found += _deleted(finding.detail, folders, view.stated.arrived_at, view.stated.left_at)
            if len(found) >= SHOWN:
                return found[:SHOWN]
    return found


def _by_folder(rows: Iterable[RecordingView]) -> Mapping[str, Sequence[_Numbered]]:
    numbers: dict[tuple[str, str], dict[int, str]] = {}
    for row in rows:
        folder, name = _folder_and_name(row.clip.path if row.clip else "")
        if (counter := split_counter(folder, name)) is not None:
            numbers.setdefault((folder, counter[0]), {})[counter[1]] = row.recording.recording_id
    folders: dict[str, list[_Numbered]] = {}
    for (folder, pattern), by_number in numbers.items():
        folders.setdefault(folder, []).append(_Numbered(pattern, by_number))
    return folders


def _missing(detail: Mapping[str, object], folders: Mapping[str, Sequence[_Numbered]]) -> Iterator[Json]:
    """Missing numbers with a recording of the activity on at least one side; a card may say anything in `detail`."""
    ranges = detail.get("ranges")
    for numbered in folders.get(str(detail.get("folder")), ()):
        if numbered.pattern != detail.get("pattern") or not isinstance(ranges, list | tuple):
            continue
        for span in ranges:
            match span:
                case [int(first), int(last)]:
                    before, after = numbered.by_number.get(first - 1), numbered.by_number.get(last + 1)
                    if before or after:
                        yield _missing_view(first, last, before, after)


def _missing_view(first: int, last: int, before: str | None, after: str | None) -> Json:
    where = (
        ("两段之间", "between two recordings")
        if before and after
        else ("首段之前或末段之后", "beside the first or last one")
    )
    count = last - first + 1
    told = words(
        f"文件编号缺 {first}–{last}（{count} 个，{where[0]}）",
        f"numbers {first} to {last} are missing ({count}, {where[1]})",
    )
    return {"kind": "numbers-missing", **told, "inside": bool(before and after), "before": before, "after": after}


def _deleted(
    detail: Mapping[str, object], folders: Mapping[str, Sequence[_Numbered]], arrived_at: datetime, left_at: datetime
) -> Iterator[Json]:
    """A deleted entry from the time on site, or with a number between those of the activity."""
    folder, name = _folder_and_name(str(detail.get("path", "")))
    counter = split_counter(folder, name)
    inside = any(
        counter is not None and counter[0] == one.pattern and min(one.by_number) < counter[1] < max(one.by_number)
        for one in folders.get(folder, ())
    )
    modified = _time(detail.get("modified"))
    in_time = modified is not None and arrived_at <= modified <= left_at
    if (inside or in_time) and not detail.get("is_directory"):
        told = words("有已删除的目录项", "a deleted entry is still to be seen")
        at = modified.isoformat() if modified is not None else None
        yield {"kind": "deleted", **told, "inside": inside, "name": name, "modified": at, "state": detail.get("state")}


def _folder_and_name(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def _time(stamp: object) -> datetime | None:
    match stamp:
        case [str(local), int() | None as offset_min]:
            return instant(Stamp(local, offset_min))
    return None
