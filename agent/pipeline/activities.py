"""Enters what persons state of an activity: its times and recordings, and what explains and confirms its gaps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from agent.continuity import Gap, Segment, obligation_of, proven_end
from agent.deadline import CLOCK_TOLERANCE, ZONE
from agent.errors import JournalError
from agent.journal.ids import new_id
from agent.journal.segments import continuity_of, segment_of
from agent.journal.views import ActivityView, RecordingView
from agent.model import (
    RECORDINGS_LIMIT,
    STAGES,
    ActivityEnded,
    ActivityStated,
    ClockTrust,
    Explanation,
    GapConfirmed,
    GapExplained,
    Interruption,
    Voice,
)
from agent.pipeline.documents import add_document
from agent.pipeline.limits import check_words, limit_of
from agent.pipeline.station import Station
from agent.register import moment, shown

Asked = Mapping[str, str]
Answer = dict[str, object]

_UNCHANGED: Final = "Nothing was changed."
_SAME: Final = timedelta(seconds=1)
_OFFSET: Final = re.compile(r"[0-9]{1,9}")


async def state(station: Station, asked: Asked) -> Answer:
    """State an activity, or state it anew: `stage`, `arrived`, `left`, `recordings` (ids), `who`, `why`.

    `id` for one that is known, `conditions` (one a line) and `must_full` if they aren't empty. Limits that count from
    the end of the activity are computed again with it. Raises JournalError in words, ValueError for what is no time.
    """
    check_words(asked["who"], asked["why"])
    entry = ActivityStated(
        asked.get("id") or new_id(station.clock),
        asked["stage"],
        moment(asked["arrived"]),
        moment(asked["left"]),
        (),
        asked["who"],
        asked["why"],
        tuple(filter(None, asked.get("conditions", "").split("\n"))),
        bool(asked.get("must_full")),
    )
    _check_times(station, entry)
    _check_conditions(station, entry)
    entry = replace(entry, recordings=tuple(asked["recordings"].split()))
    changed = await enter(station, entry, known=bool(asked.get("id")))
    found = continuity_of(await station.on_disk(station.journal.reader.activity, entry.activity_id))
    return {"activity": entry.activity_id, "gaps": len(found.gaps) + len(found.of_sources), "limits_changed": changed}


async def enter(station: Station, entry: ActivityStated, *, known: bool = False, ends: bool = True) -> int:
    """Enter an activity whose recordings are named by any of their ids; returns how many limits changed with it.

    `known`: it must be known already. Not `ends`: recordings are named by their own ids, and limits wait until it has
    ended. Raises JournalError.
    """
    async with station.commit:
        changed: list[ActivityEnded] = []
        if ends:
            before = await station.on_disk(station.journal.reader.activity, entry.activity_id) if known else None
            rows = await station.on_disk(lambda: [station.journal.reader.recording(name) for name in entry.recordings])
            entry = replace(entry, recordings=tuple(dict.fromkeys(row.recording.recording_id for row in rows)))
            changed = await station.on_disk(_ends, station, entry, rows, before)
        await station.journal.record(entry, *changed)
    station.held_news.set()
    return len(changed)


async def explain(station: Station, asked: Asked, content: bytes | None = None) -> Answer:
    """Explain a gap: `id`, `from`, `to`, `code`, `who`, `why`; by `voice` and `offset_ms`, or in writing.

    `device`, if not empty: the source of a room that alone has the gap.
    In writing is the text `statement`, or a file's bytes as `content`. `ended`, if not empty: recording could not go
    on. What is said is a document too, sealed and stored like an original. Raises as `state` does, and StoreError if
    this station's disk refuses the document.
    """
    check_words(asked["who"], asked["why"])
    activity_id, code = asked["id"], _code(station, asked["code"])
    content = content or asked.get("statement", "").encode() or None
    view = await station.on_disk(station.journal.reader.activity, activity_id)
    gap = _gap(view, moment(asked["from"]), moment(asked["to"]), asked.get("device", ""))
    voice = _voice(view, gap, asked) if asked.get("voice") else None
    span = f"{gap.start.isoformat()}/{gap.end.isoformat()}"
    words = Explanation(
        activity_id, asked["who"], station.clock(), span, code.code, asked["why"], not asked.get("ended"), voice,
        gap.device_id,
    )  # fmt: skip
    _check_form(station, words, written=content is not None)
    beside = [name for name in (gap.before, gap.after) if name] or view.stated.recordings[:RECORDINGS_LIMIT]
    document = await add_document(station, words, tuple(dict.fromkeys(beside)), content)
    async with station.commit:
        number = len((await station.on_disk(station.journal.reader.activity, activity_id)).explanations) + 1
        entry = GapExplained(
            activity_id,
            number,
            gap.start,
            gap.end,
            code.code,
            asked["why"],
            asked["who"],
            document.asset_id,
            content is not None,
            words.resumed,
            voice,
            gap.device_id,
        )
        await station.journal.record(entry)
    return {"activity": activity_id, "number": number, "code": code.code, "to_confirm": code.confirm}


async def confirm(station: Station, asked: Asked) -> Answer:
    """A supervisor accepts explanation `number` of activity `id`, or refuses it (`refused`): `who`, `why`."""
    check_words(asked["who"], asked["why"])
    accepted = not asked.get("refused")
    async with station.commit:
        view = await station.on_disk(station.journal.reader.activity, asked["id"])
        said = next((one.said for one in view.explanations if str(one.said.number) == asked["number"]), None)
        if said is None:
            what = f"Activity {asked['id'][:64]} has no explanation {asked['number'][:8]!r}."
            raise JournalError(what, safe=_UNCHANGED, do="`capture-agent activity show` numbers them.")
        if said.who.strip() == asked["who"].strip():
            what = "Who explained a gap can't confirm the explanation."
            raise JournalError(what, safe=_UNCHANGED, do="A supervisor confirms it.")
        await station.journal.record(GapConfirmed(asked["id"], said.number, asked["who"], asked["why"], accepted))
    return {"activity": asked["id"], "number": said.number, "accepted": accepted}


# What an activity may be.


def _check_times(station: Station, entry: ActivityStated) -> None:
    if entry.left_at <= entry.arrived_at:
        raise JournalError(
            f"离开时间不能早于或等于到达时间 (departure {shown(entry.left_at)} is not after arrival"
            f" {shown(entry.arrived_at)}).",
            safe=_UNCHANGED,
            do="Correct --arrived or --left; an activity over midnight needs the date of the next day in --left.",
        )
    if entry.left_at > station.clock() + CLOCK_TOLERANCE:
        what = f"离开时间在将来 ({shown(entry.left_at)} is in the future)."
        raise JournalError(what, safe=_UNCHANGED, do="Correct --left.")


def _check_conditions(station: Station, entry: ActivityStated) -> None:
    if entry.stage not in STAGES:
        what = f"没有这个执法环节 ({entry.stage[:40]!r} is no stage)."
        raise JournalError(what, safe=_UNCHANGED, do="Stages are S01 to S20 and S99, like S08 先行登记保存.")
    _, others = obligation_of(station.rules.profile.obligations, entry.stage)
    known = [one.condition for one in others]
    for condition in entry.conditions:
        if condition not in known:
            raise JournalError(
                f"The profile {station.rules.profile.name!r} knows no condition {condition[:64]!r} for {entry.stage};"
                f" there are: {'; '.join(known) or 'none'}.",
                safe=_UNCHANGED,
                do="Leave it out; --must-full says that the bureau's own list asks for 全程音像记录.",
            )


# When it ended, for limits that count from the end of the activity.


Stay = tuple[ActivityStated, datetime | None]
"""An activity, and when it ended as far as its own footage bears that out."""


def _ends(
    station: Station, entry: ActivityStated, rows: Sequence[RecordingView], before: ActivityView | None
) -> list[ActivityEnded]:
    """For each recording whose activity now ends on another day than before, its limit counted again. Blocking."""
    reader, named = station.journal.reader, frozenset(entry.recordings)
    known = {row.recording.recording_id: row for row in (*(before.recordings if before else ()), *rows)}
    stays = {entry.activity_id: _stay(entry, rows)}
    entries = []
    for name, row in known.items():
        others = [one for one in reader.activities_of(name) if one != entry.activity_id]
        for other in others:
            if other not in stays:
                view = reader.activity(other)
                stays[other] = _stay(view.stated, view.recordings)
        ended = _ended(row, [stays[one] for one in (*others, *([entry.activity_id] if name in named else ()))])
        if ended != row.ended:
            old, new = row.recording.deadline, limit_of(station, replace(row, ended=ended))
            entries.append(ActivityEnded(row.asset.asset_id, entry.activity_id, ended, old, new))
    return entries


def _stay(stated: ActivityStated, rows: Iterable[RecordingView]) -> Stay:
    clocked = [part for row in rows if (part := _by_clock(row)) is not None]
    return stated, proven_end(stated.arrived_at, stated.left_at, clocked)


def _ended(row: RecordingView, stays: Iterable[Stay]) -> datetime | None:
    """When the first of its activities to end did so; None if that is no later day than its own, or can't be told."""
    own = _by_clock(row)
    if own is None:
        return None
    ended = min((_end_for(own, *stay) for stay in stays), default=own.end)
    return ended if ended.astimezone(ZONE).date() > own.end.astimezone(ZONE).date() else None


def _end_for(own: Segment, stated: ActivityStated, ended: datetime | None) -> datetime:
    belongs = stated.arrived_at <= own.end and own.start <= stated.left_at
    return max(own.end, ended) if ended is not None and belongs else own.end


def _by_clock(row: RecordingView) -> Segment | None:
    """Only what a recorder's own clock says bears out an end: no person's word may stretch a limit."""
    part = segment_of(row)
    return part if part.placed and row.captured[2] is ClockTrust.UNMEASURED else None


# What an explanation may be.


def _gap(view: ActivityView, start: datetime, end: datetime, device_id: str) -> Gap:
    found = continuity_of(view)
    gaps = [gap for gap in (*found.gaps, *found.of_sources) if gap.device_id == device_id]
    for gap in gaps:
        if abs(gap.start - start) <= _SAME and abs(gap.end - end) <= _SAME:
            return gap
    there = "; ".join(f"{gap.start.isoformat()} to {gap.end.isoformat()}" for gap in gaps[:5]) or "none"
    raise JournalError(
        f"该执法活动没有这段中断 (the activity has no gap from {start.isoformat()} to {end.isoformat()}; there are:"
        f" {there}).",
        safe=_UNCHANGED,
        do="`capture-agent activity show` numbers them; more footage may have changed them.",
    )


def _code(station: Station, code: str) -> Interruption:
    known = {one.code: one for one in station.rules.profile.interruptions}
    found = known.get(code)
    if found is None or found.automatic:
        usable = ", ".join(f"{one.code} {one.zh}" for one in known.values() if not one.automatic) or "none"
        why = "is found by the system only" if found else "is unknown"
        what = f"不能填写此中断原因 (the code {code[:20]!r} {why})."
        raise JournalError(what, safe=_UNCHANGED, do=f"There are: {usable}.")
    return found


def _voice(view: ActivityView, gap: Gap, asked: Asked) -> Voice:
    """A spoken explanation lies inside a recording of this activity, and was spoken when recording went on."""
    row = next(
        (row for row in view.recordings if asked["voice"] in (row.recording.recording_id, row.asset.asset_id)), None
    )
    if row is None:
        what = f"语音说明不在本次执法活动中 (recording {asked['voice'][:64]} is not one of this activity)."
        raise JournalError(what, safe=_UNCHANGED, do="Name the recording in which the cause was spoken.")
    if not _OFFSET.fullmatch(asked["offset_ms"]):
        what = "语音说明的位置应为秒数 (where it was spoken must be a number of seconds, like 12)."
        raise JournalError(what, safe=_UNCHANGED, do="Give the offset from the beginning of the recording.")
    part, offset = segment_of(row), timedelta(milliseconds=int(asked["offset_ms"]))
    lasts = part.end - part.start if part.placed else part.lasts
    if not timedelta() <= offset <= (lasts if lasts is not None else offset):
        what = f"语音说明的位置超出录制时长 (the recording lasts {lasts}; {offset} is not inside it)."
        raise JournalError(what, safe=_UNCHANGED, do="Give the offset from the beginning of the recording.")
    since = gap.start if gap.device_id else gap.end  # beside a source that is away, others hear what is said of it
    if part.placed and part.start + offset + CLOCK_TOLERANCE < since:
        what = f"语音说明早于恢复录制 (that was spoken at {shown(part.start + offset)}, before recording went on)."
        raise JournalError(what, safe=_UNCHANGED, do="Name the place where the cause was spoken after the gap.")
    return Voice(row.recording.recording_id, offset // timedelta(milliseconds=1))


def _check_form(station: Station, words: Explanation, *, written: bool) -> None:
    """Where an article asks for it: by voice when recording goes on, in writing when it can't (Nanchang art. 19)."""
    article = station.rules.profile.interruption
    if not words.resumed and words.voice is not None:
        raise JournalError(
            "未恢复记录的，不可能有语音说明 (recording did not go on, so nothing can have been spoken after the gap).",
            safe=_UNCHANGED,
            do="Give a written statement with --statement FILE.",
        )
    if article and words.voice is None and not written:
        raise JournalError(
            f"{article}：恢复记录时应当语音说明，无法继续的应当书面说明 (explain by voice, or in writing).",
            safe=_UNCHANGED,
            do="Give --voice RECORDING --offset SECONDS, or --statement FILE.",
        )
