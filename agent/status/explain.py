"""Why a recording must be stored when: rule, article, start, each day and why it counts, and what may be said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from agent.capture_time import limit_by
from agent.config import Milestone
from agent.deadline import (
    ZONE,
    Calendars,
    Limit,
    Rules,
    Verdict,
    counted_days,
    internal_target,
    is_official,
    is_working,
    limits,
    may_be_working,
    source_of,
    verdict,
)
from agent.journal.views import RecordingView
from agent.model import AssetState, Basis, ClockTrust, Deadline, Rule, RuleKind
from agent.states import is_kept
from agent.status.content import made_lines, made_view
from agent.status.words import at, named, words

Json = dict[str, Any]

_WEEKDAYS: Final = "一二三四五六日"
_DAY: Final = timedelta(days=1)
_CLOCKS: Final[Mapping[ClockTrust, tuple[str, str]]] = {
    ClockTrust.UNMEASURED: (
        "按记录设备写入的录制结束时间，未按设备时钟偏差更正",
        "the end of the recording as the recorder wrote it, not corrected by any offset of its clock",
    ),
    ClockTrust.UNTRUSTED: (
        "设备时钟不可信：录制完成于所示两个时间之间，提醒按最早、逾期按最晚计算",
        "the recorder's clock can't be trusted; alarms go by the earliest time, overdue by the latest",
    ),
    ClockTrust.CONTRADICTED: (
        "文件时间与内容、文件名或采集时比对的设备时钟相差 5 分钟以上：提醒按最早时间计算，人工说明前不判定",
        "content, file name or compared clock are 5 minutes or more from the file's time; alarms go by the earliest",
    ),
    ClockTrust.STATED: ("由人工说明录制完成时间", "a person stated when the recording was completed"),
}
_REASONS: Final[Mapping[Verdict, tuple[str, str]]] = {
    Verdict.OPEN: ("尚未入库，期限未到", "not stored yet, and the limit has not passed"),
    Verdict.DUE_SOON: ("尚未入库，24 小时内到期", "not stored yet, and due within 24 hours"),
    Verdict.UNDECIDED: (
        "已过最早可能的期限，但录制时间或放假安排尚不能确定，不得认定逾期",
        "behind the earliest possible limit, but the capture time or the calendar is not settled: not called overdue",
    ),
    Verdict.OVERDUE: ("期限已过，尚未入库，按正式日历计算", "the limit has passed on an official calendar; not stored"),
    Verdict.IN_TIME: ("入库时间早于期限", "it was stored before the limit"),
    Verdict.LATE: ("入库时间不早于期限，按正式日历计算", "it was stored after the limit, on an official calendar"),
    Verdict.NO_LIMIT: ("没有数字期限，只有内部目标", "no rule gives a number; there is only an internal target"),
    Verdict.PAST_TARGET: ("超过内部目标；没有法定期限，不是逾期", "past the internal target; no law gives a limit"),
}


def verdict_of(row: RecordingView, satisfied_by: Milestone, now: datetime) -> Verdict | None:
    """What may be said of a recording now; None if its limit went over to the one whose bytes it shares."""
    if row.asset.state is AssetState.MATCHED:
        return None
    return verdict(row.recording.deadline, now, _safe_at(row, satisfied_by))


def _safe_at(row: RecordingView, satisfied_by: Milestone) -> datetime | None:
    """When the milestone was reached that ends the time limit."""
    if satisfied_by is Milestone.LOCAL and row.held_at is not None and is_kept(row.asset):
        return row.held_at
    return row.asset.receipt.confirmed_at if row.asset.receipt is not None else None


def deadline_view(deadline: Deadline, trust: ClockTrust, rules: Rules) -> Json:
    """The limit of a recording in a list."""
    rule = _rule_of(deadline, rules)
    counted: Sequence[date] = ()
    if rule is not None and rule.kind is not RuleKind.HOURS_AFTER:
        counted = counted_days(rule, deadline.start.astimezone(ZONE).date(), rules.calendars)
    return {
        "due_at": at(deadline.due_at),
        "alarm_at": at(deadline.alarm_at),
        "basis": named(deadline.basis),
        "rule": deadline.rule,
        "citation": deadline.citation,
        "counted_days": [str(day) for day in counted],
        "due_text": _due_text(deadline, trust),
    }


def explain(row: RecordingView, rules: Rules, satisfied_by: Milestone, now: datetime) -> Json:
    """Everything a lawyer asks of the limit of one recording; `explanation` writes it as text."""
    deadline, rule = row.recording.deadline, _rule_of(row.recording.deadline, rules)
    earliest, latest, trust = row.captured
    found, safe_at = verdict_of(row, satisfied_by, now), _safe_at(row, satisfied_by)
    same = words(f"内容与 {row.asset.same_as} 相同，期限随该记录", f"same content as {row.asset.same_as}, which counts")
    return {
        "recording_id": row.recording.recording_id,
        "asset_id": row.asset.asset_id,
        "name": row.name,
        "profile": {"name": deadline.profile, "title": rules.profile.title},
        "completed": {
            "earliest": at(earliest), "latest": at(latest), "clock": named(trust), "why": words(*_CLOCKS[trust]),
            "stated": _said(row.stated.made_at, row.stated.who, row.stated.why) if row.stated else None,
        },
        "made": made_view(row.time),
        "declared": _said(row.declared.at, row.declared.who, row.declared.why)
        | {"event": row.declared.event, "cause": row.declared.cause} if row.declared else None,
        "activity_ended": at(row.activity_end),
        "rules": [
            _limit_view(limit, deadline) for limit in limits(rules, earliest, latest, row.declared, row.activity_end)
        ],
        "rule": deadline.rule,
        "citation": deadline.citation,
        "start": at(deadline.start),
        "days": _days(rule, deadline.start, rules, is_working),
        "alarm_days": _days(rule, earliest, rules, may_be_working) if deadline.alarm_at != deadline.due_at else [],
        "due_at": at(deadline.due_at),
        "alarm_at": at(deadline.alarm_at),
        "internal_target_at": at(internal_target(rules, deadline)),
        "due_text": _due_text(deadline, trust),
        "basis": named(deadline.basis),
        "computation": list(rules.profile.computation),
        "uncovered": list(rules.profile.uncovered),
        "calendar": {
            "years": [{"year": year.year, "complete": year.complete, "source": year.source}
                      for _, year in sorted(rules.calendars.items())],
            "digest": deadline.calendar,
        },
        "satisfied_by": satisfied_by.value,
        "held_at": at(row.held_at),
        "safe_at": at(safe_at),
        "now": at(now),
        "verdict": named(found) | {"why": words(*_REASONS[found])} if found else None,
        "same_as": same if row.asset.same_as else None,
        "differs": _differs(deadline, limit_by(rules, row.time, row.declared, row.activity_end)),
    }  # fmt: skip


def _rule_of(deadline: Deadline, rules: Rules) -> Rule | None:
    """The rule by which a limit was made, if it is still one of the profile's."""
    if deadline.profile != rules.profile.name:
        return None
    return next((rule for rule in rules.profile.rules if rule.name == deadline.rule), None)


def _differs(made: Deadline, now: Deadline) -> dict[str, str] | None:
    """What the rules and notices of today would say, where that is something else."""
    if (made.profile, made.rule, made.due_at, made.basis) == (now.profile, now.rule, now.due_at, now.basis):
        return None
    return words(
        f"按现行规则和日历计算将是 {_moment(now.due_at)}（{now.rule}）；以上为作出时的期限",
        f"by the rules and notices of now it would be {at(now.due_at)} ({now.rule}); above is the limit as it was made",
    )


def _said(time: datetime, who: str, why: str) -> Json:
    return {"at": at(time), "who": who, "why": why}


def _limit_view(limit: Limit, deadline: Deadline) -> Json:
    rule = limit.rule
    wins = limit.start is not None and rule.name == deadline.rule
    if limit.start is None and rule.kind is RuleKind.HOURS_AFTER:
        told = words("未申报，不适用", "not declared, so it does not apply")
    elif limit.start is None:
        told = words("由已申报的事由条款代替", "replaced by the article whose cause was declared")
    elif wins:
        told = words("适用，期限最早", "applies, and is the earliest")
    else:
        told = words("适用，但不是最早", "applies, but is not the earliest")
    return {
        "rule": rule.name,
        "citation": rule.citation,
        "binding": rule.binding,
        "causes": list(rule.causes),
        "applies": limit.start is not None,
        "wins": wins,
        "due_at": at(limit.due_at) if limit.start is not None else None,
        "why": told,
    }


def _days(
    rule: Rule | None, start: datetime | None, rules: Rules, counts: Callable[[date, Calendars], bool]
) -> list[Json]:
    """Each day from the first to the last one that counts, and why it does or doesn't."""
    if rule is None or start is None or rule.kind is RuleKind.HOURS_AFTER:
        return []
    first = start.astimezone(ZONE).date()
    counted = counted_days(rule, first, rules.calendars, counts)
    found, number = [], 0
    for offset in range((counted[-1] - first).days + 1):
        day = first + _DAY * offset
        number += day in counted
        told = _why(day, first, rule, rules, counts(day, rules.calendars))
        found.append({"day": str(day), "number": number if day in counted else None, "why": told})
    return found


def _why(day: date, first: date, rule: Rule, rules: Rules, counted: bool) -> dict[str, str]:
    if rule.kind is RuleKind.SAME_DAY:
        return words("录制完成当日", "the day it was completed")
    if day == first:
        return words("开始的当日不计入", "the day of the event is not counted")
    source = source_of(day, rules.calendars)
    if not is_official(day, rules.calendars):
        if counted:
            return words("放假安排未公布，按可能上班计入（暂定）", "no notice yet: counted as it may be worked")
        return words("放假安排未公布，暂按休息日不计（暂定）", "no notice yet: taken as a day off")
    if counted and source and day.weekday() > 4:
        return words(f"调休上班（{source}）", f"make-up working day ({source})")
    if counted:
        return words("工作日", "working day")
    if source:
        return words(f"放假，不计（{source}）", f"day off, not counted ({source})")
    return words("周休息日，不计", "weekend, not counted")


def _due_text(deadline: Deadline, trust: ClockTrust) -> dict[str, str]:
    alarm = deadline.alarm_at.astimezone(ZONE)
    zh, en = f"{_moment(alarm)} 前入库", f"store before {alarm:%H:%M} on {alarm:%a} {alarm.day} {alarm:%b}"
    if (alarm.hour, alarm.minute, alarm.second) == (0, 0, 0):
        day = alarm - _DAY
        en = f"store before 24:00 on {day:%a} {day.day} {day:%b}"
    elif deadline.rule.partition(":")[0] != RuleKind.HOURS_AFTER:
        return words("时间待核，请尽快入库", "time to be checked, store as soon as possible")
    if deadline.basis is Basis.TARGET:
        return words(f"内部目标（无法定期限）：{zh}", f"internal target, no legal limit: {en}")
    if deadline.basis is Basis.PROVISIONAL:
        return words(f"暂定：暂按最早可能期限提醒，{zh}", f"provisional, earliest possible: {en}")
    if trust in (ClockTrust.UNTRUSTED, ClockTrust.CONTRADICTED):
        return words(f"时间待核：{zh}", f"time to be checked: {en}")
    return words(f"应于 {zh}", en)


def _moment(time: datetime) -> str:
    """A time in Chinese; midnight is 24:00 of the day before."""
    midnight = (time.hour, time.minute, time.second) == (0, 0, 0)
    day = time - _DAY if midnight else time
    return f"{day.month}月{day.day}日（周{_WEEKDAYS[day.weekday()]}）{'24:00' if midnight else f'{time:%H:%M}'}"


def explanation(told: Json) -> str:
    """The same as text, Chinese with English beside it; what a card is named can't steer the terminal."""
    lines = "\n".join(_lines(told)).split("\n")
    return "\n".join("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines)


def _lines(told: Json) -> Iterator[str]:
    completed, declared = told["completed"], told["declared"]
    yield f"记录 recording  {told['recording_id']}  {told['name'] or '（来源不明 unknown origin）'}"
    if told["verdict"]:
        yield f"结论 verdict    {_both(told['verdict'])}：{_both(told['verdict']['why'])}"
    else:
        yield f"结论 verdict    {_both(told['same_as'])}"
    yield f"依据 rule       {told['citation']}  [{told['profile']['title']}, {told['rule']}]"
    span = completed["latest"] if completed["earliest"] == completed["latest"] else (
        f"{completed['earliest'] or '（不明 unknown）'} … {completed['latest']}"
    )  # fmt: skip
    yield f"制作完成 completed  {span}  {_both(completed['clock'])}"
    yield f"  {_both(completed['why'])}"
    if completed["stated"]:
        yield f"  说明人 stated by {completed['stated']['who']}：{completed['stated']['why']}"
    yield from made_lines(told["made"])
    if declared:
        yield f"申报 declared   {declared['event']} {declared['at']}，事由 cause {declared['cause']}"
        yield f"  申报人 declared by {declared['who']}：{declared['why']}"
    if told["activity_ended"]:
        yield f"执法活动结束 activity ended  {told['activity_ended']}（次日结束 on a later day than this recording）"
    yield from _counted(told)
    yield from _basis_lines(told)


def _counted(told: Json) -> Iterator[str]:
    yield f"起算 start      {told['start']}"
    for title, days in (("逐日 days", told["days"]), ("提醒 alarm, earliest bound", told["alarm_days"])):
        if days:
            yield title
        for day in days:
            weekday = _WEEKDAYS[date.fromisoformat(day["day"]).weekday()]
            number = f"第{day['number']}日 day {day['number']}" if day["number"] else "—"
            yield f"  {day['day']} 周{weekday}  {number:<11} {_both(day['why'])}"
    due = datetime.fromisoformat(told["due_at"])
    name = "内部目标 target" if told["basis"]["name"] == Basis.TARGET else "应入库期限 due"
    year = (due - timedelta(seconds=1)).year
    yield f"{name}  {year}年{_moment(due)}  ({told['due_at']}, exclusive)  {_both(told['basis'])}"
    if told["differs"]:
        yield f"  {_both(told['differs'])}"
    if told["alarm_at"] != told["due_at"]:
        yield f"提醒 alarm      {_moment(datetime.fromisoformat(told['alarm_at']))}  {_both(told['due_text'])}"
    if told["internal_target_at"]:
        target = _moment(datetime.fromisoformat(told["internal_target_at"]))
        yield f"内部目标 target {target}（不具约束力 binds nobody）"
    ends = {"central": "存储器确认收到 the store has it", "local": "本机入库 this station holds it"}
    yield f"入库 stored     {told['safe_at'] or '尚未 not yet'}  以{ends[told['satisfied_by']]} 为准 counts"


def _basis_lines(told: Json) -> Iterator[str]:
    yield "规则 all rules"
    for rule in told["rules"]:
        mark = "→" if rule["wins"] else " "
        binding = "" if rule["binding"] else "（不具约束力 not binding）"
        yield f" {mark} {rule['citation']}  [{rule['rule']}]{binding}  {rule['due_at'] or ''} {_both(rule['why'])}"
        yield from (f"     {cause}" for cause in rule["causes"])
    yield "计算 computation"
    yield from (f"   {article}" for article in told["computation"])
    years = "、".join(f"{year['year']} {year['source']}" for year in told["calendar"]["years"])
    yield f"日历 calendar   {years or '（无 none）'}"
    yield f"   计算时的日历摘要 digest of the calendar it was counted with: {told['calendar']['digest'] or '—'}"
    yield "未涵盖 not covered"
    yield from (f"   {text}" for text in told["uncovered"])


def _both(told: Mapping[str, Any]) -> str:
    return f"{told['zh']} ({told['en']})"
