"""Promise: screens tell what was to be recorded, what is covered and what is not known, and accuse nobody."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent.absence import Absence, Evidence, Sure
from agent.config.obligations import read_interruptions
from agent.config.rules import read_profile
from agent.deadline import ZONE
from agent.journal.segments import segment_of
from agent.journal.views import ActivityView, RecordingView
from agent.model import (
    ActivityStated,
    CaptureTime,
    ClockTrust,
    Explained,
    Facts,
    FindingKind,
    GapConfirmed,
    GapExplained,
    Integrity,
    Measured,
    MediaFinding,
    Medium,
    Profile,
    Stamp,
    Voice,
)
from agent.pipeline.absences import detail_of
from agent.status.absences import SHOWN as HINTS
from agent.status.absences import Absences, hints
from agent.status.activities import (
    SHOWN,
    TO_LOOK_AT,
    activities_view,
    activity_lines,
    activity_row,
    activity_view,
    place_view,
    proposals_view,
)
from agent.status.summary import printable
from tests.journal_entries import seen

SHIPPED = Path(__file__).parent.parent / "config"
NINE = datetime(2026, 11, 20, 9, tzinfo=ZONE)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def profile(name: str) -> Profile:
    problems: list[str] = []
    read = read_profile(SHIPPED / "profiles", name, problems)
    found = replace(read, interruptions=read_interruptions(SHIPPED / "interruptions.toml", problems))
    assert problems == []
    return found


SHANDONG, NANCHANG = profile("shandong"), profile("nanchang")


def row(name: str, begins: float, ends: float, *, path: str = "", device: str = "device") -> RecordingView:
    """A recording from minute to minute after nine."""
    plain = seen(name)
    assert plain.recording is not None
    assert plain.asset is not None
    start, end = NINE + begins * MINUTE, NINE + ends * MINUTE
    recording = replace(
        plain.recording, device_id=device, captured_earliest=end, captured_latest=end,
        clock_trust=ClockTrust.UNMEASURED,
    )  # fmt: skip
    stamps = [Stamp(time.replace(tzinfo=None).isoformat()) for time in (start, end)]
    clip = replace(plain.clip, path=path or plain.clip.path, created=stamps[0], modified=stamps[1])
    return RecordingView(recording, plain.asset, clip, "d1", "")


def activity(rows: Sequence[RecordingView], *explained: Explained, **changes: object) -> ActivityView:
    """From nine to ten at stage S08, which Shandong wants recorded in full."""
    ids = tuple(one.recording.recording_id for one in rows)
    stated = ActivityStated("act", "S08", NINE, NINE + HOUR, ids, "张三", "保存")
    return ActivityView(replace(stated, **changes), tuple(rows), explained, 7)  # type: ignore[arg-type]


def said(code: str, accepted: bool | None = None) -> Explained:
    entry = GapExplained(
        "act", 1, NINE + 20 * MINUTE, NINE + 40 * MINUTE, code, "没电了", "张三", "doc", voice=Voice("rec-b", 900)
    )
    return Explained(entry, None if accepted is None else GapConfirmed("act", 1, "李四", "看过", accepted))


BROKEN = [row("a", 0, 20), row("b", 40, 60)]


# What is asked for, and what waits.


def test_a_gap_in_what_must_be_full_raises_a_red_flag_and_waits_for_a_word() -> None:
    view = activity_view(activity(BROKEN), SHANDONG)
    assert (view["red_flag"], view["open"], view["unexplained"]) == (True, 1, 1)
    assert view["obligation"]["zh"] == "应当全程音像记录"
    assert view["obligation"]["citation"].endswith("第十一条")
    assert view["explanation_citation"] == view["obligation"]["citation"]
    (gap,) = view["gaps"]
    assert (gap["from"], gap["length_s"], gap["before"]) == ("2026-11-20T09:20:00+08:00", 1200, "rec-a")


def test_a_recording_has_its_place_and_the_gaps_beside_it() -> None:
    view = activity_view(activity([*BROKEN, row("c", 62, 63)], left_at=NINE + 2 * HOUR), SHANDONG)
    first, second = (place_view(view, name) for name in ("rec-a", "rec-b"))
    assert first["segment_no"] == {"activity_id": "act", "segment_no": 1, "prev_item": ""}
    assert second["segment_no"] == {"activity_id": "act", "segment_no": 2, "prev_item": "rec-a"}
    assert [(gap["before"], gap["after"]) for gap in first["interruptions"]] == [("rec-a", "rec-b")]
    assert [gap["after"] for gap in second["interruptions"]] == ["rec-b", "rec-c"]
    assert second["obligation"]["must_full"]
    assert second["coverage_ratio"]["at_least"] == pytest.approx(41 / 120)


def test_where_recording_may_be_left_out_a_gap_is_a_fact_and_nothing_waits() -> None:
    view = activity_view(activity(BROKEN, stage="S03"), SHANDONG)
    assert (view["red_flag"], view["open"], len(view["gaps"])) == (False, 0, 1)
    assert view["obligation"]["zh"] == "可以音像记录"


def test_where_an_article_asks_for_explanations_every_gap_waits_for_one() -> None:
    view = activity_view(activity(BROKEN, stage="S03"), NANCHANG)
    assert (view["red_flag"], view["open"]) == (False, 1)
    assert view["explanation_citation"].endswith("第十九条")


def test_the_bureaus_own_list_and_a_stated_condition_ask_for_more_and_never_for_less() -> None:
    own = activity_view(activity(BROKEN, stage="S14", must_full=True), SHANDONG)
    assert (own["red_flag"], own["obligation"]["by_own_list"]) == (True, True)
    plain = activity_view(activity(BROKEN, stage="S10"), SHANDONG)
    assert plain["red_flag"] is False
    assert [one["condition"] for one in plain["under_conditions"]] == ["直接涉及重大财产权益"]
    strict = activity_view(activity(BROKEN, stage="S10", conditions=("直接涉及重大财产权益",)), SHANDONG)
    assert (strict["red_flag"], strict["under_conditions"]) == (True, [])


@pytest.mark.parametrize(
    ("one", "state", "open_"),
    [
        (said("INT-03"), "explained", 0),
        (said("INT-99"), "unconfirmed", 1),
        (said("INT-99", accepted=True), "explained", 0),
    ],
)
def test_an_explanation_is_shown_with_its_code_and_article(one: Explained, state: str, open_: int) -> None:
    view = activity_view(activity(BROKEN, one), NANCHANG)
    (gap,) = view["gaps"]
    assert (gap["state"]["name"], view["open"], view["unconfirmed"]) == (state, open_, open_)
    assert gap["explanation"]["voice"] == {"recording_id": "rec-b", "offset_s": 0.9}
    assert gap["explanation"]["citation"] == next(
        known.citation for known in NANCHANG.interruptions if known.code == one.said.code
    )


def test_an_explained_gap_leaves_the_list_of_what_waits_but_is_counted_as_a_red_flag() -> None:
    done = activity_view(activity(BROKEN, said("INT-03")), SHANDONG)
    waits = activity_view(activity(BROKEN, stage="S03"), NANCHANG)
    shown = activities_view(map(activity_row, [waits, done, activity_view(activity(BROKEN), SHANDONG)]), or_more=False)
    assert (shown["unexplained"], shown["red_flags"]) == (2, 2)
    assert [one["red_flag"] for one in shown["rows"]] == [True, False], "red flags first"
    assert shown["rows"][0]["warning"]["zh"] == "全程音像记录有中断，1 处中断未说明"
    many = activities_view([activity_row(waits)] * 99, or_more=True)
    assert (many["unexplained"], len(many["rows"]), many["or_more"]) == (99, SHOWN, True)


def test_the_status_names_nobody() -> None:
    view = activity_view(activity(BROKEN, said("INT-99")), NANCHANG)
    shown = json.dumps(activities_view([activity_row(view)], or_more=False))
    for name in ("张三", "李四", "没电了"):
        assert json.dumps(name)[1:-1] not in shown


def test_what_no_clock_can_tell_is_said() -> None:
    lost = row("c", 25, 30, device="other")
    lost = replace(
        lost,
        recording=replace(
            lost.recording, captured_earliest=None, captured_latest=NINE + 5 * HOUR, clock_trust=ClockTrust.UNTRUSTED
        ),
    )
    view = activity_view(activity([*BROKEN, lost]), SHANDONG)
    assert (view["coverage"]["at_least"], view["coverage"]["at_most"]) == (pytest.approx(2 / 3), pytest.approx(0.75))
    assert "可能有时间待核的音像记录" in [doubt["zh"] for doubt in view["gaps"][0]["doubts"]]
    told = "\n".join(activity_lines(view, everything=True))
    assert "coverage 66.6 to 75 %" in told
    assert "时间待核" in told


def test_almost_all_is_never_shown_as_all() -> None:
    told = next(activity_lines(activity_view(activity([row("a", 0, 59.999)]), SHANDONG)))
    assert "coverage 99.9 %" in told


def test_the_lines_tell_everything_that_was_said() -> None:
    view = activity_view(activity(BROKEN, said("INT-09", accepted=True)), SHANDONG) | {"hints": []}
    told = "\n".join(map(printable, activity_lines(view, everything=True)))
    for words in (
        "S08 先行登记保存",
        "应当全程音像记录",
        "第十一条",
        "误操作",
        "语音 voice",
        "张三：没电了",
        "李四：看过",
    ):
        assert words in told
    assert len(list(activity_lines(view))) == 2


# What a recording's content says of its span.


def probed(
    one: RecordingView, lasts_s: float | None, integrity: Integrity = Integrity.COMPLETE, **told: object
) -> RecordingView:
    """The same once its content was read."""
    recording = one.recording
    length = timedelta(seconds=min(lasts_s or 0, 86_400))
    end = recording.captured_latest
    facts = Facts(
        Medium.VIDEO, integrity, duration_ms=None if lasts_s is None else round(lasts_s * 1000),
        measured=Measured.PACKETS,
    )  # fmt: skip
    time = CaptureTime(recording.captured_earliest, end, recording.clock_trust, made_start=end - length, made_end=end)
    return replace(one, facts=replace(facts, **told), by_content=time)  # type: ignore[arg-type]


def span(one: RecordingView) -> tuple[float, float, bool]:
    """From and to in minutes after nine, and whether that is certain."""
    part = segment_of(one)
    return (part.start - NINE) / MINUTE, (part.end - NINE) / MINUTE, part.placed


def test_content_tells_how_long_a_recording_lasts_and_stamps_do_until_it_was_read() -> None:
    plain = row("a", 0, 20)
    assert span(plain) == (0, 20, True)
    assert span(probed(plain, 900)) == (5, 20, True), "the file was made five minutes before anything was recorded"


def test_a_file_that_is_cut_off_covers_what_is_in_it_and_is_named_at_the_gap_behind_it() -> None:
    cut = probed(row("a", 0, 20), 600, Integrity.TRUNCATED)
    view = activity_view(activity([cut, row("b", 20, 60)]), SHANDONG)
    assert view["recordings"][0]["truncated"]
    assert [(gap["length_s"], gap["before"]) for gap in view["gaps"]] == [(600, "")]
    behind = activity_view(activity([cut, row("b", 30, 60)]), SHANDONG)
    assert [doubt["en"] for doubt in behind["gaps"][1]["doubts"]] == ["the recording before it is cut off"]


def test_content_that_nobody_can_read_has_no_place_but_may_fill_the_gap() -> None:
    broken = probed(row("a", 20, 40), None, Integrity.UNREADABLE, medium=None)
    assert span(broken) == (20, 40, False)
    view = activity_view(activity([row("c", 0, 20), broken, row("b", 40, 60)]), SHANDONG)
    assert (view["coverage"]["at_least"], view["coverage"]["at_most"]) == (pytest.approx(2 / 3), 1)


def test_a_photo_covers_nothing() -> None:
    assert span(probed(row("a", 0, 20), None, medium=Medium.PHOTO)) == (20, 20, True)


@pytest.mark.parametrize("claim_s", [7200, 10**12, -5])
def test_a_header_that_claims_more_than_the_stamps_is_not_believed(claim_s: int) -> None:
    start, end, placed = span(probed(row("a", 0, 20), claim_s, measured=Measured.HEADER))
    assert (start, end) == (0, 20)
    assert placed is (claim_s == 7200)


def test_content_that_contradicts_the_clock_takes_the_place_away() -> None:
    told = probed(row("a", 0, 20), 1200)
    assert told.by_content is not None
    doubted = replace(told.by_content, clock_trust=ClockTrust.CONTRADICTED, later=NINE + 50 * MINUTE)
    assert span(replace(told, by_content=doubted)) == (0, 50, False)


# Proposals.


def test_proposals_name_those_of_the_same_time_and_change_their_key_with_their_recordings() -> None:
    rows = [row("a", 0, 20), row("b", 20, 40), row("c", 10, 30, device="other")]
    both = proposals_view(rows, 30 * MINUTE)["proposals"]
    assert [one["recordings"] for one in both] == [["rec-a", "rec-b"], ["rec-c"]]
    assert [one["at_the_same_time"] for one in both] == [[both[1]["key"]], [both[0]["key"]]]
    grown = proposals_view([*rows, row("d", 45, 50)], 30 * MINUTE)["proposals"]
    assert grown[0]["key"] != both[0]["key"]
    assert grown[1]["key"] == both[1]["key"]


def test_a_recorders_log_is_proposed_as_nothing() -> None:
    log = row("a", 0, 20)
    log = replace(log, recording=replace(log.recording, medium=Medium.OTHER))
    assert proposals_view([log], 30 * MINUTE) == {"proposals": [], "without_a_place": []}


def test_what_has_no_time_is_named_and_joined_to_nothing() -> None:
    lost = replace(row("a", 0, 20), clip=None)
    shown = proposals_view([lost], 30 * MINUTE)
    assert (shown["proposals"], shown["without_a_place"]) == ([], ["rec-a"])


# Recordings that are not there.


def missing(before: str = "", after: str = "", minutes: tuple[float, float] = (900, 910), **more: object) -> Absences:
    """What a docking found missing between these, as it comes back from the journal."""
    since, until = (NINE + minute * MINUTE for minute in minutes)
    fact = Absence(
        1, (Evidence.NUMBERS,), Sure.LIKELY, before=before, after=after, since=since, until=until, lasts_s=14
    )
    detail = detail_of(fact) | {"told": False} | more
    return lambda _docking: [json.loads(json.dumps(detail))]


ROWS = [row(f"n{n}", 10 * n, 10 * n + 10, path=f"DCIM/100MEDIA/DSJ_{n:04}.MP4") for n in (0, 1, 3)]
FIRST, SECOND, THIRD = (f"DCIM/100MEDIA/DSJ_{n:04}.MP4" for n in (0, 1, 3))


def test_what_is_missing_belongs_to_the_activity_whose_recordings_stand_beside_it() -> None:
    (told,) = hints(activity(ROWS), missing(SECOND, THIRD))
    assert (told["before_recording"], told["after_recording"]) == ("rec-n1", "rec-n3")
    assert told["zh"] == "缺 1 段，约 00:14，依据：序号（很可能）"
    assert told["en"] == "1 segment missing, about 00:14, by: numbering (likely)"
    (told,) = hints(activity(ROWS), missing(THIRD))
    assert (told["before_recording"], told["after_recording"]) == ("rec-n3", None)


def test_what_is_missing_belongs_to_the_activity_of_its_time() -> None:
    assert hints(activity(ROWS), missing("elsewhere", minutes=(20, 30)))
    assert hints(activity(ROWS), missing("elsewhere")) == []
    assert hints(activity(ROWS), missing("elsewhere", since=None)) == []


def test_what_was_pulled_before_is_no_hint() -> None:
    assert hints(activity(ROWS), missing(SECOND, THIRD, held=True)) == []


def test_what_is_missing_never_changes_what_is_covered_and_is_no_accusation() -> None:
    view = activity([row("a", 0, 100)])
    before = activity_view(view, SHANDONG)
    told = hints(view, missing(minutes=(20, 30)))
    assert activity_view(view, SHANDONG) == before
    assert "违" not in json.dumps(told, ensure_ascii=False)
    assert any("hint 缺 1 段" in line for line in activity_lines(before | {"hints": told}, everything=True))


def test_a_card_with_thousands_of_traces_fills_no_screen() -> None:
    (one,) = missing(SECOND, THIRD)("d1")
    assert len(hints(activity(ROWS), lambda _docking: [one] * 5000)) == HINTS


# What was found in their content.


def found(kind: FindingKind, start_s: float, end_s: float) -> MediaFinding:
    return MediaFinding(kind, round(start_s * 1000), round(end_s * 1000), detail="video")


def test_a_time_that_its_own_time_stamps_leave_out_is_a_gap_of_the_recording() -> None:
    """Two seconds a recorder may lose by itself; what is black or silent was recorded."""
    leaps = found(FindingKind.GAP, 300, 420), found(FindingKind.GAP, 60, 62), found(FindingKind.SILENT, 0, 900)
    holed = replace(probed(row("a", 0, 60), 3600), findings=leaps)
    view = activity_view(activity([holed]), SHANDONG)
    (gap,) = view["gaps"]
    assert (gap["from"], gap["length_s"]) == ("2026-11-20T09:05:00+08:00", 120)
    assert (gap["before"], gap["after"]) == ("rec-a", "rec-a")
    assert [doubt["en"] for doubt in gap["doubts"]] == ["within one recording, whose time stamps leap"]
    assert (view["red_flag"], view["unexplained"]) == (True, 1)
    assert view["coverage"]["at_least"] == pytest.approx(58 / 60)
    assert place_view(view, "rec-a")["interruptions"] == [gap]


def test_what_is_found_in_a_recording_without_a_place_makes_no_gap() -> None:
    lost = replace(probed(row("a", 0, 60), 3600), findings=(found(FindingKind.GAP, 300, 420),))
    lost = replace(lost, by_content=replace(lost.by_content or lost.witnessed, clock_trust=ClockTrust.UNTRUSTED))
    assert segment_of(lost).holes == ()


def test_what_is_black_frozen_silent_or_undecodable_is_listed_to_be_looked_at_and_is_no_gap() -> None:
    kinds = (FindingKind.BLACK, FindingKind.FROZEN, FindingKind.SILENT, FindingKind.UNDECODABLE)
    odd = MediaFinding(FindingKind.UNDECODABLE, detail="no place"), found(FindingKind.BACKWARDS, 1, 2)
    told = (*(found(kind, 60 * at, 60 * at + 30) for at, kind in enumerate(kinds, 1)), *odd)
    view = activity_view(activity([replace(probed(row("a", 0, 60), 3600), findings=told)]), SHANDONG)
    assert (view["gaps"], view["open"], view["coverage"]["at_least"]) == ([], 0, 1)
    assert view["to_look_at"]["found"] == 4
    assert [(one["kind"]["zh"], one["from"], one["to"]) for one in view["to_look_at"]["rows"]] == [
        ("黑屏", "00:01:00", "00:01:30"),
        ("画面静止", "00:02:00", "00:02:30"),
        ("无声", "00:03:00", "00:03:30"),
        ("无法解码", "00:04:00", "00:04:30"),
    ]
    lines = list(activity_lines(view, everything=True))
    assert "  look at rec-a  黑屏 (black picture)  00:01:00 to 00:01:30" in lines


def test_of_very_many_findings_the_first_are_listed_and_all_are_counted() -> None:
    told = tuple(found(FindingKind.BLACK, at, at + 1) for at in range(TO_LOOK_AT + 5))
    view = activity_view(activity([replace(probed(row("a", 0, 60), 3600), findings=told)]), SHANDONG)
    assert (view["to_look_at"]["found"], len(view["to_look_at"]["rows"])) == (TO_LOOK_AT + 5, TO_LOOK_AT)
