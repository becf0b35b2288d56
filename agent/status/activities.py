"""Activities as the screens tell them: what was to be recorded, what is covered, which gaps wait for a word."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from agent.continuity import GAP_LIMIT, Gap, GapState, JudgedGap, Overlap, Segment, judge, obligation_of, propose
from agent.deadline import ZONE
from agent.journal.segments import continuity_of, segment_of
from agent.journal.views import ActivityView, RecordingView
from agent.model import STAGES, Duty, Explained, FindingKind, Interruption, Medium, Obligation, Profile
from agent.status.access import finding_view
from agent.status.words import named, words

Json = dict[str, Any]

SHOWN: Final = 20
"""How many activities with unexplained gaps the status lists."""
CONSIDERED: Final = 2000
"""Among how many of the latest activities the status looks for them."""
LOOKED_AT: Final = 250
"""How many activities the status reads at most for one answer: a fraction of a second."""
TO_LOOK_AT: Final = 200
"""How many findings of an activity's recordings are listed."""
_TO_LOOK_AT: Final = (FindingKind.BLACK, FindingKind.FROZEN, FindingKind.SILENT, FindingKind.UNDECODABLE)
_OPEN: Final = (GapState.UNEXPLAINED, GapState.UNCONFIRMED)


def activity_view(view: ActivityView, profile: Profile) -> Json:
    """One activity with everything that follows from its recordings; `red_flag`: 全程 was asked for, and has a gap.

    `open` gaps wait for an officer or a supervisor. A gap waits only where recording was to be full or where an article
    asks for an explanation; that nothing was recorded is never called a violation here. A gap of one source of a room
    waits like others, but raises no red flag: another source shows the time, or that none does is a gap by itself.
    """
    stated, found = view.stated, continuity_of(view)
    duty, others = obligation_of(profile.obligations, stated.stage, stated.conditions)
    must_full = stated.must_full or duty.duty is Duty.MUST_FULL
    asked = must_full or bool(profile.interruption)
    codes = {one.code: one for one in profile.interruptions}
    gaps = [judge(gap, view.explanations, codes) for gap in (*found.gaps, *found.of_sources)]
    waiting = [one for one in gaps if asked and one.state in _OPEN]
    return {
        "activity_id": stated.activity_id,
        "stage": _stage(stated.stage),
        "arrived_at": _at(stated.arrived_at),
        "left_at": _at(stated.left_at),
        "obligation": _duty_view(duty) | {"must_full": must_full, "by_own_list": stated.must_full},
        "under_conditions": [_duty_view(one) for one in others],
        "explanation_citation": profile.interruption or (duty.citation if must_full else ""),
        "coverage": {
            "at_least": found.at_least,
            "at_most": found.at_most,
            "covered_s": found.covered.total_seconds(),
            "interval_s": (stated.left_at - stated.arrived_at).total_seconds(),
        },
        "red_flag": must_full and any(one.state is not GapState.AUTOMATIC for one in gaps if not one.gap.device_id),
        "open": len(waiting),
        "unexplained": sum(one.state is GapState.UNEXPLAINED for one in waiting),
        "unconfirmed": sum(one.state is GapState.UNCONFIRMED for one in waiting),
        "gaps": [_gap_view(number, one, codes, found.gaps) for number, one in enumerate(gaps, 1)],
        "to_look_at": _to_look_at(view.recordings),
        "overlaps": [_overlap_view(one) for one in found.overlaps],
        "recordings": [_segment_view(part) for part in found.segments],
    }


def place_view(view: Json, recording_id: str) -> Json:
    """Where a recording stands in an activity's view, what is asked for there, and the gaps before and after it."""
    order = [""] + [part["recording_id"] for part in view["recordings"]]
    number, name = order.index(recording_id), view["activity_id"]
    coverage = {part: view["coverage"][part] for part in ("at_least", "at_most")}
    return {
        "activity_id": name,
        "segment_no": {"activity_id": name, "segment_no": number, "prev_item": order[number - 1]},
        "obligation": {"activity_id": name, **view["obligation"]},
        "coverage_ratio": {"activity_id": name, **coverage},
        "interruptions": [gap for gap in view["gaps"] if recording_id in {gap["before"], gap["after"]}],
    }


def activity_row(view: Json) -> Json:
    """What of an activity stands in the list of those that wait."""
    keys = ("activity_id", "stage", "arrived_at", "left_at", "coverage", "red_flag", "unexplained", "unconfirmed")
    return {key: view[key] for key in keys} | {"warning": _warning(view)}


def activities_view(rows: Iterable[Json], *, or_more: bool) -> Json:
    """What the status page shows: the activities whose gaps wait for a word, those with a red flag first."""
    known = list(rows)
    waiting = [row for row in known if row["unexplained"] or row["unconfirmed"]]
    return {
        "unexplained": len(waiting),
        "red_flags": sum(row["red_flag"] for row in known),
        "or_more": or_more,
        "rows": sorted(waiting, key=lambda row: not row["red_flag"])[:SHOWN],
    }


def proposals_view(rows: Sequence[RecordingView], distance: timedelta) -> Json:
    """Which recordings without an activity may be one, for a person to accept; several may be accepted together.

    A file that is no recording by its name nor by its content is left out: a recorder's log.
    """
    parts = [segment_of(row) for row in rows if row.recording.medium is not Medium.OTHER]
    groups = {_key(group): group for group in propose(parts, distance)}
    spans = {key: (group[0].start, max(part.end for part in group)) for key, group in groups.items()}
    return {
        "proposals": [
            {
                "key": key,
                "device_id": group[0].device_id,
                "from": _at(spans[key][0]),
                "to": _at(spans[key][1]),
                "recordings": [part.recording_id for part in group],
                "at_the_same_time": [
                    other for other, span in spans.items() if other != key and _meet(span, spans[key])
                ],
            }
            for key, group in groups.items()
        ],
        "without_a_place": [part.recording_id for part in parts if not part.placed],
    }


def activity_lines(view: Json, *, everything: bool = False) -> Iterator[str]:
    """An activity as text for a terminal; without `everything` one line and what is wrong with it."""
    yield (
        f"activity {view['activity_id']}  {_both(view['stage'])}  {view['arrived_at']} to {view['left_at']}"
        f"  coverage {percent(view['coverage'])}"
    )
    if view["red_flag"] or view["open"]:
        yield f"  ! {_both(_warning(view))}"
    if not everything:
        return
    duty = view["obligation"]
    yield f"  {_both(duty)}  {duty['citation']}" + ("  本单位清单 own list" if duty["by_own_list"] else "")
    yield from (f"  if {one['condition']}: {_both(one)}  {one['citation']}" for one in view["under_conditions"])
    for part in view["recordings"]:
        unsure = "" if part["placed"] else "  时间待核，无法定位 (its clock can't be trusted: somewhere between these)"
        cut = "  尾部截断 (cut off)" if part["truncated"] else ""
        yield f"  recording {part['recording_id']}  {part['from']} to {part['to']}{unsure}{cut}"
    for gap in view["gaps"]:
        yield from _gap_lines(gap)
    for one in view["to_look_at"]["rows"]:
        yield f"  look at {one['recording_id']}  {_both(one['kind'])}  {one['from']} to {one['to']}"
    for one in view["overlaps"]:
        same = "同一设备 same recorder" if one["same_device"] else "两台设备 two recorders"
        yield f"  overlap {one['from']} to {one['to']}  {one['first']} {one['second']}  {same}"
    for hint in view.get("hints", ()):
        yield f"  hint {_both(hint)}  {' '.join(hint['names'])}".rstrip()


def _gap_lines(gap: Json) -> Iterator[str]:
    doubts = [_both(doubt) for doubt in gap["doubts"]]
    source = f"  {gap['source']}：{_both(gap['shown'])}" if gap["source"] else ""
    yield (
        f"  gap {gap['number']}: {gap['from']} to {gap['to']} ({gap['length_s']:g} s){source}  {_both(gap['state'])}"
        + "".join(f"  {doubt}" for doubt in doubts)
    )
    if said := gap["explanation"]:
        form = "语音 voice" if said["voice"] else "书面 in writing" if said["written"] else "文字 text"
        yield f"    explanation {said['number']}: {said['code']} {_both(said)}  {form}  {said['who']}：{said['text']}"
        if said["confirmed"]:
            yield f"    confirmed by {said['confirmed']['who']}：{said['confirmed']['why']}"


def _warning(view: Json) -> dict[str, str]:
    zh, en = (["全程音像记录有中断"], ["full-course recording has a gap"]) if view["red_flag"] else ([], [])
    if view["unexplained"]:
        zh.append(f"{view['unexplained']} 处中断未说明")
        en.append(f"{view['unexplained']} gaps not explained")
    if view["unconfirmed"]:
        zh.append(f"{view['unconfirmed']} 处说明待确认")
        en.append(f"{view['unconfirmed']} explanations to be confirmed")
    if not view["open"]:
        zh.append("已说明")
        en.append("explained")
    return words("，".join(zh), ", ".join(en))


def _gap_view(number: int, judged: JudgedGap, codes: Mapping[str, Interruption], gaps: Sequence[Gap]) -> Json:
    """`source`: of this source of a room alone; `shown` says whether others show the time.

    What a session's ledger knows of it (`title`, `causes`) comes with the session.
    """
    gap = judged.gap
    doubts = []
    if gap.doubtful:
        doubts.append(words("可能由设备时钟偏差造成", "may come from clocks that differ"))
    if gap.may_be_covered:
        doubts.append(words("可能有时间待核的音像记录", "a recording of unknown time may lie here"))
    if gap.before and gap.before == gap.after:
        doubts.append(words("同一段音像记录内时间戳间断", "within one recording, whose time stamps leap"))
    if gap.truncated:
        doubts.append(words("前一段尾部截断", "the recording before it is cut off"))
    return {
        "number": number,
        "from": _at(gap.start),
        "to": _at(gap.end),
        "length_s": gap.length.total_seconds(),
        "before": gap.before,
        "after": gap.after,
        "device_id": gap.device_id,
        "source": gap.device_id.rpartition(":")[2],
        "title": gap.device_id.rpartition(":")[2],
        "causes": [],
        "shown": _shown(gap, gaps) if gap.device_id else None,
        "state": named(judged.state),
        "doubts": doubts,
        "explanation": _explanation_view(judged.explained, codes) if judged.explained else None,
    }


def _shown(gap: Gap, gaps: Sequence[Gap]) -> dict[str, str]:
    if any(one.start < gap.end and gap.start < one.end and one.length > GAP_LIMIT for one in gaps):
        return words("其中部分时段另一路信号有录制", "another source shows a part of this time")
    return words("此时段另一路信号有录制", "another source shows this time")


def _to_look_at(rows: Iterable[RecordingView]) -> Json:
    """What was seen in the recordings that covers its time and yet may need a look; times since their beginning."""
    found = [
        finding_view(one) | {"recording_id": row.recording.recording_id}
        for row in rows
        for one in row.findings
        if one.kind in _TO_LOOK_AT and one.start_ms is not None
    ]
    return {"found": len(found), "rows": found[:TO_LOOK_AT]}


def _explanation_view(one: Explained, codes: Mapping[str, Interruption]) -> Json:
    said, known = one.said, codes.get(one.said.code)
    return {
        "number": said.number,
        "code": said.code,
        **words(known.zh if known else "", known.en if known else ""),
        "citation": known.citation if known else "",
        "text": said.text,
        "who": said.who,
        "resumed": said.resumed,
        "voice": {"recording_id": said.voice.recording_id, "offset_s": said.voice.offset_ms / 1000}
        if said.voice
        else None,
        "written": said.written,
        "document": said.document,
        "confirmed": {"who": one.confirmed.who, "why": one.confirmed.why} if one.confirmed else None,
    }


def _duty_view(one: Obligation) -> Json:
    return {**named(one.duty), "citation": one.citation, "condition": one.condition}


def _overlap_view(one: Overlap) -> Json:
    ends = {"first": one.first, "second": one.second, "from": _at(one.start), "to": _at(one.end)}
    return ends | {"same_device": one.same_device}


def _segment_view(part: Segment) -> Json:
    return {
        "recording_id": part.recording_id,
        "device_id": part.device_id,
        "from": _at(part.start),
        "to": _at(part.end),
        "placed": part.placed,
        "lasts_s": part.lasts.total_seconds() if part.lasts is not None else None,
        "truncated": part.truncated,
    }


def _stage(code: str) -> Json:
    known = STAGES.get(code)
    return {"code": code, **words(f"{code} {known.zh}" if known else code, known.en if known else "")}


def _key(group: Sequence[Segment]) -> str:
    """A name for just these recordings: once there are others, it is another proposal."""
    return hashlib.sha256("\n".join(part.recording_id for part in group).encode()).hexdigest()[:8]


def _meet(span: tuple[datetime, datetime], other: tuple[datetime, datetime]) -> bool:
    return span[0] < other[1] and other[0] < span[1]


def percent(coverage: Json) -> str:
    """Never 100 % for less than all."""
    least, most = (int(coverage[key] * 1000) / 10 for key in ("at_least", "at_most"))
    return f"{least:g} %" if least == most else f"{least:g} to {most:g} %"


def _both(told: Mapping[str, Any]) -> str:
    return f"{told['zh']} ({told['en']})" if told["en"] else str(told["zh"])


def _at(time: datetime) -> str:
    return time.astimezone(ZONE).isoformat()
