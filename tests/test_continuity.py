"""Promise: what a recorder covered of the time on site is told truly; what clocks can't tell is said as such."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.continuity import (
    GAP_LIMIT,
    LONGEST,
    Continuity,
    Gap,
    GapState,
    Segment,
    in_order,
    join,
    judge,
    obligation_of,
    propose,
    proven_end,
)
from agent.deadline import CLOCK_TOLERANCE, ZONE
from agent.model import Duty, Explained, GapConfirmed, GapExplained, Interruption, Obligation

NOON = datetime(2026, 11, 20, 12, tzinfo=ZONE)
MINUTE = timedelta(minutes=1)
CODES = {
    "INT-03": Interruption("INT-03", "电量不足", "battery low", "art. 19"),
    "INT-09": Interruption("INT-09", "误操作", "handling mistake", confirm=True),
}


def after(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def part(start: float, end: float, device: str = "a", name: str = "", **changes: object) -> Segment:
    """A segment from minute to minute after noon."""
    return Segment(name or f"{device}{start}-{end}", device, after(start), after(end), **changes)  # type: ignore[arg-type]


def spans(found: Continuity) -> list[tuple[datetime, datetime]]:
    return [(gap.start, gap.end) for gap in found.gaps]


# What is covered.


def test_one_file_from_arrival_to_departure_covers_all() -> None:
    found = join(NOON, after(60), [part(-5, 65)])
    assert (found.at_least, found.at_most, found.gaps, found.covered) == (1, 1, (), 60 * MINUTE)


def test_two_recorders_count_together() -> None:
    """The camera's battery failed while the voice recorder went on: nothing is missing."""
    found = join(NOON, after(60), [part(0, 20), part(40, 60), part(15, 45, "b")])
    assert (found.at_least, found.gaps) == (1, ())
    assert [(one.first, one.second, one.same_device) for one in found.overlaps] == [
        ("a0-20", "b15-45", False),
        ("b15-45", "a40-60", False),
    ]


def test_a_gap_names_the_recordings_beside_it_and_is_as_long_as_it_is() -> None:
    found = join(NOON, after(60), [part(40, 50), part(10, 30)])
    assert [(gap.before, gap.after, gap.length) for gap in found.gaps] == [
        ("", "a10-30", 10 * MINUTE),
        ("a10-30", "a40-50", 10 * MINUTE),
        ("a40-50", "", 10 * MINUTE),
    ]
    assert found.at_least == 0.5


def test_what_was_recorded_before_arrival_and_after_departure_counts_for_nothing() -> None:
    """Two activities back to back: each takes of the file that runs on only what is its own."""
    running = part(-30, 30)
    first, second = join(after(-60), NOON, [running]), join(NOON, after(60), [running])
    assert (first.at_least, second.at_least) == (0.5, 0.5)
    assert spans(first) == [(after(-60), after(-30))]
    assert spans(second) == [(after(30), after(60))]


def test_no_recording_at_all_is_one_gap() -> None:
    found = join(NOON, after(60), [])
    assert (spans(found), found.at_least, found.at_most) == ([(NOON, after(60))], 0, 0)


def test_a_photo_lies_in_a_gap_and_neither_covers_nor_divides_it() -> None:
    """One interruption in which photos were taken is explained once."""
    found = join(NOON, after(10), [part(0, 2), part(4, 4, name="photo"), part(5, 5, "b"), part(8, 10)])
    assert found.at_least == 0.4
    assert [(gap.before, gap.after) for gap in found.gaps] == [("a0-2", "a8-10")]
    assert not found.gaps[0].doubtful


def test_recordings_of_identical_times_are_ordered_by_their_names_and_flagged() -> None:
    """One recorder can't record twice at a time: a clock was set back, or a file was copied."""
    found = join(NOON, after(10), [part(0, 10, name="y"), part(0, 10, name="x")])
    assert [one.recording_id for one in found.segments] == ["x", "y"]
    assert [(one.first, one.second, one.same_device) for one in found.overlaps] == [("x", "y", True)]
    assert found.at_least == 1


def test_over_midnight_and_over_the_new_year_time_runs_on() -> None:
    eve = datetime(2026, 12, 31, 23, 30, tzinfo=ZONE)
    files = [
        Segment("1", "a", eve, eve + 30 * MINUTE),
        Segment("2", "a", eve + 30 * MINUTE, eve + 90 * MINUTE),
    ]
    found = join(eve, eve + 90 * MINUTE, files)
    assert (found.at_least, found.gaps) == (1, ())


def test_a_gap_of_two_seconds_is_the_recorders_own_and_a_longer_one_is_not() -> None:
    for seconds, state in ((2, GapState.AUTOMATIC), (2.001, GapState.UNEXPLAINED)):
        (gap,) = join(NOON, after(20), [part(0, 10), part(10 + seconds / 60, 20)]).gaps
        assert judge(gap, (), CODES).state is state


# What clocks can't tell.


def test_a_recorder_with_a_wrong_clock_proves_nothing_and_rules_nothing_out() -> None:
    """Its clock said 1970: the file lies somewhere since the last docking, and may fill the gap or not."""
    lost = part(-1000, 90, "b", placed=False, lasts=5 * MINUTE)
    found = join(NOON, after(60), [part(0, 30), lost])
    assert (found.at_least, found.at_most) == (0.5, pytest.approx(35 / 60))
    assert [gap.may_be_covered for gap in found.gaps] == [True]
    without = join(NOON, after(60), [part(0, 30), part(-1000, 90, "b", placed=False)])
    assert (without.at_least, without.at_most) == (0.5, 1), "how long it lasts isn't known either"


def test_a_file_without_a_place_says_nothing_of_a_gap_it_can_not_lie_in() -> None:
    found = join(NOON, after(60), [part(0, 30), part(10, 20, "b", placed=False)])
    assert ([gap.may_be_covered for gap in found.gaps], found.at_most) == ([False], 0.5)


def test_device_clocks_five_minutes_apart_may_make_a_gap_that_was_none() -> None:
    loose = {"slack": CLOCK_TOLERANCE}
    for minutes, doubtful in ((4, True), (10, True), (11, False)):
        found = join(NOON, after(60), [part(0, 20, **loose), part(20 + minutes, 60, "b", **loose)])
        assert [gap.doubtful for gap in found.gaps] == [doubtful], minutes
        assert spans(found) == [(after(20), after(20 + minutes))], "as the clocks say it, until somebody explains it"


def test_a_gap_between_two_files_of_one_recorder_is_sure_however_wrong_its_clock() -> None:
    loose = {"slack": CLOCK_TOLERANCE}
    (gap,) = join(NOON, after(60), [part(0, 20, **loose), part(21, 60, **loose)]).gaps
    assert not gap.doubtful
    (gap,) = join(NOON, after(60), [part(0, 20, **loose), part(21, 60, **loose), part(15, 18, "b", **loose)]).gaps
    assert gap.doubtful, "the other recorder's file may lie in it"


def test_a_clip_that_is_shorter_than_the_gap_can_not_close_it_wherever_its_clock_puts_it() -> None:
    loose = {"slack": CLOCK_TOLERANCE}
    for length, doubtful in ((3, False), (4, True)):
        files = [part(0, 20, **loose), part(24, 60, **loose), part(19 - length, 19, "b", **loose)]
        assert [gap.doubtful for gap in join(NOON, after(60), files).gaps] == [doubtful]


def test_a_late_start_by_an_unmeasured_clock_is_doubtful_only_within_its_tolerance() -> None:
    for minutes, doubtful in ((5, True), (6, False)):
        (gap,) = join(NOON, after(60), [part(minutes, 60, slack=CLOCK_TOLERANCE)]).gaps
        assert gap.doubtful is doubtful


def test_a_cut_off_file_is_named_at_the_gap_behind_it() -> None:
    first, second = join(NOON, after(60), [part(0, 20, truncated=True), part(30, 50)]).gaps
    assert (first.truncated, second.truncated) == (True, False)


# Properties.

SECONDS = st.integers(-600, 4200)


@st.composite
def any_segment(draw: st.DrawFn) -> Segment:
    start, length = draw(SECONDS), draw(st.integers(0, 1200))
    begins = NOON + timedelta(seconds=start)
    lasts = draw(st.none() | st.integers(0, 600).map(lambda seconds: timedelta(seconds=seconds)))
    device = draw(st.sampled_from("abc"))
    return Segment(
        f"{device}{draw(st.integers(0, 10**9))}",
        device,
        begins,
        begins + timedelta(seconds=length),
        placed=draw(st.booleans()),
        lasts=lasts,
        slack=timedelta(seconds=draw(st.sampled_from([0, 60, 300]))),
        truncated=draw(st.booleans()),
    )


SEGMENTS = st.lists(any_segment(), max_size=8, unique_by=lambda one: one.recording_id)
HOUR = after(60)


@given(SEGMENTS)
def test_what_is_covered_and_the_gaps_are_together_the_time_on_site(segments: list[Segment]) -> None:
    found = join(NOON, HOUR, segments)
    assert found.covered + sum((gap.length for gap in found.gaps), timedelta()) == HOUR - NOON
    assert 0 <= found.at_least <= found.at_most <= 1
    assert all(gap.length > timedelta() for gap in found.gaps)
    assert all(one.end <= two.start for one, two in pairwise(found.gaps))
    placed = [one for one in segments if one.placed and one.start < one.end]
    for gap in found.gaps:
        assert not any(one.start < gap.end and gap.start < one.end for one in placed)


@given(SEGMENTS, st.randoms())
def test_the_order_in_which_files_arrive_changes_nothing(segments: list[Segment], random: object) -> None:
    shuffled = list(segments)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert join(NOON, HOUR, shuffled) == join(NOON, HOUR, segments)


@given(SEGMENTS, any_segment())
def test_one_more_file_never_lowers_what_is_covered(segments: list[Segment], more: Segment) -> None:
    before, now = join(NOON, HOUR, segments), join(NOON, HOUR, [*segments, more])
    assert now.at_least >= before.at_least
    assert now.at_most >= before.at_most
    assert now.covered >= before.covered


@given(SEGMENTS, st.data())
def test_a_file_in_two_pieces_covers_what_it_covered_in_one(segments: list[Segment], data: st.DataObject) -> None:
    whole = Segment("whole", "a", NOON + 5 * MINUTE, NOON + 25 * MINUTE, slack=MINUTE)
    cut = NOON + timedelta(seconds=data.draw(st.integers(300, 1500)))
    pieces = [
        Segment("piece-1", "a", whole.start, cut, slack=MINUTE),
        Segment("piece-2", "a", cut, whole.end, slack=MINUTE),
    ]
    one, two = join(NOON, HOUR, [*segments, whole]), join(NOON, HOUR, [*segments, *pieces])
    assert spans(one) == spans(two)
    assert (one.at_least, one.at_most) == (two.at_least, two.at_most)


@given(SEGMENTS)
def test_in_a_gap_that_no_clock_could_close_no_file_was_shifted_as_far_as_it_may(segments: list[Segment]) -> None:
    """Every recorder's clock off by as much as it may be, one way: what was sure stays open."""
    sure = [gap for gap in join(NOON, HOUR, segments).gaps if not gap.doubtful and gap.length > GAP_LIMIT]
    for sign in (1, -1):
        for device in "abc":
            moved = [
                one if one.device_id != device else
                Segment(one.recording_id, device, one.start + sign * one.slack, one.end + sign * one.slack, one.placed)
                for one in segments
            ]  # fmt: skip
            for gap in sure:
                beside = {one.device_id for one in segments if one.recording_id in (gap.before, gap.after)}
                if device not in beside:
                    inside = join(gap.start, gap.end, moved)
                    assert inside.covered < gap.length


def most_seconds(placed: list[Segment], floating: list[Segment]) -> int:
    """How many open seconds the others can fill, by looking for augmenting ways second by second."""
    seconds = [NOON + timedelta(seconds=n) for n in range(60)]
    open_ = [now for now in seconds if not any(one.start <= now < one.end for one in placed)]
    lasting = [(one, 60.0 if one.lasts is None else one.lasts.total_seconds()) for one in floating]
    pieces = [one for one, seconds_long in lasting for _ in range(min(60, round(seconds_long)))]
    taken: dict[datetime, int] = {}

    def place(number: int, seen: set[datetime]) -> bool:
        for now in open_:
            if now not in seen and pieces[number].start <= now < pieces[number].end:
                seen.add(now)
                if now not in taken or place(taken[now], seen):
                    taken[now] = number
                    return True
        return False

    return 60 - len(open_) + sum(place(number, set()) for number in range(len(pieces)))


@settings(deadline=None)
@given(st.lists(any_segment(), max_size=5, unique_by=lambda one: one.recording_id))
def test_what_may_be_covered_is_the_most_that_any_arrangement_covers(segments: list[Segment]) -> None:
    """The same files, a minute for an hour, so that all ways to lay them can be tried."""

    def scaled(time: datetime) -> datetime:
        return NOON + timedelta(seconds=(time - NOON) // MINUTE)

    short = [
        replace(one, start=scaled(one.start), end=scaled(one.end), lasts=one.lasts and scaled(NOON + one.lasts) - NOON)
        for one in segments
    ]
    most = most_seconds([one for one in short if one.placed], [one for one in short if not one.placed])
    assert join(NOON, after(1), short).at_most == pytest.approx(most / 60)


@pytest.mark.timeout(20)
def test_ten_thousand_files_of_many_recorders_half_of_them_without_a_place_are_joined() -> None:
    """Far within the bound, which work that grows with the square of the files would break."""
    loose = {"slack": CLOCK_TOLERANCE}
    parts = [part(10 * n, 10 * n + 9, f"d{n % 7}", f"r{n}", **loose) for n in range(5_000)]
    lost = [part(7 * n, 50_000, "x", f"x{n}", placed=False, lasts=MINUTE) for n in range(5_000)]
    found = join(NOON, after(50_000), parts + lost)
    assert (len(found.gaps), found.at_least, found.at_most) == (5_000, pytest.approx(0.9), 1)
    assert all(gap.may_be_covered for gap in found.gaps)
    assert len(propose(parts, timedelta(minutes=90))) > 1


# Explanations.


def explained(start: float, end: float, code: str, number: int = 1, accepted: bool | None = None) -> Explained:
    said = GapExplained("act", number, after(start), after(end), code, "words", "张三", "doc")
    return Explained(said, None if accepted is None else GapConfirmed("act", number, "李四", "seen", accepted))


@pytest.mark.parametrize(
    ("code", "accepted", "state"),
    [
        ("INT-03", None, GapState.EXPLAINED),
        ("INT-09", None, GapState.UNCONFIRMED),
        ("INT-09", True, GapState.EXPLAINED),
        ("INT-09", False, GapState.UNEXPLAINED),
        ("INT-03", False, GapState.UNEXPLAINED),
        ("GONE", None, GapState.UNCONFIRMED),
    ],
)
def test_what_is_no_objective_cause_waits_for_a_supervisor(code: str, accepted: bool | None, state: GapState) -> None:
    judged = judge(Gap(after(10), after(20)), [explained(10, 20, code, accepted=accepted)], CODES)
    assert judged.state is state


def test_an_explanation_holds_for_the_gap_that_it_was_given_for_and_for_what_is_left_of_it() -> None:
    """More footage may make a gap smaller; one that is longer than what was explained is a new one."""
    said = [explained(10, 20, "INT-03")]
    assert judge(Gap(after(12), after(18)), said, CODES).state is GapState.EXPLAINED
    assert judge(Gap(after(9), after(20)), said, CODES).state is GapState.UNEXPLAINED
    assert judge(Gap(after(30), after(40)), said, CODES).state is GapState.UNEXPLAINED


def test_the_latest_explanation_counts_and_a_refused_one_gives_way_to_the_one_before() -> None:
    both = [explained(10, 20, "INT-03", 1), explained(10, 20, "INT-09", 2)]
    assert judge(Gap(after(10), after(20)), both, CODES).state is GapState.UNCONFIRMED
    refused = [both[0], explained(10, 20, "INT-09", 2, accepted=False)]
    judged = judge(Gap(after(10), after(20)), refused, CODES)
    assert (judged.state, judged.explained) == (GapState.EXPLAINED, both[0])


# Obligations.


def test_of_what_is_said_of_a_stage_the_strictest_that_holds_counts() -> None:
    rules = (
        Obligation("S10", Duty.MAY, "art. 11"),
        Obligation("S10", Duty.MUST_FULL, "art. 11", "重大财产"),
        Obligation("S13", Duty.SHOULD, "art. 3"),
    )
    plain, others = obligation_of(rules, "S10")
    assert (plain.duty, [one.condition for one in others]) == (Duty.MAY, ["重大财产"])
    strict, others = obligation_of(rules, "S10", ["重大财产"])
    assert (strict.duty, others) == (Duty.MUST_FULL, ())
    assert obligation_of(rules, "S18") == (Obligation("S18", Duty.SILENT), ())


# Until when an activity lasted.


def test_a_departure_that_is_stated_too_late_is_not_believed_beyond_the_footage() -> None:
    files = [part(0, 20), part(30, 40)]
    assert proven_end(NOON, after(35), files) == after(35)
    assert proven_end(NOON, after(600), files) == after(40)
    assert proven_end(NOON, NOON + LONGEST + MINUTE, files) is None, "longer than a day is no activity of that day"


def test_footage_without_a_place_bears_out_no_departure() -> None:
    assert proven_end(NOON, after(60), [part(0, 50, placed=False)]) is None
    assert proven_end(NOON, after(60), [part(-90, -30)]) is None, "it ended before they arrived"
    assert proven_end(NOON, after(600), [part(0, 40), part(700, 720)]) == after(40), "that is of another day"


@given(SEGMENTS, st.integers(0, 3000))
def test_the_end_that_counts_is_never_behind_what_was_stated_or_recorded(segments: list[Segment], late: int) -> None:
    left = NOON + timedelta(minutes=late)
    end = proven_end(NOON, left, segments)
    if end is not None:
        assert end <= left
        assert any(end <= one.end for one in segments if one.placed)


# Proposals.


def test_files_of_one_recorder_that_follow_each_other_are_proposed_together() -> None:
    groups = propose([part(0, 10), part(10, 20), part(51, 60), part(5, 15, "b"), part(0, 9, "c", placed=False)])
    assert [[one.recording_id for one in group] for group in groups] == [["a0-10", "a10-20"], ["b5-15"], ["a51-60"]]


def test_what_runs_on_behind_midnight_stays_together_and_never_more_than_a_day_does() -> None:
    late = datetime(2026, 12, 31, 23, 50, tzinfo=ZONE)
    over = [Segment("1", "a", late, late + 9 * MINUTE), Segment("2", "a", late + 11 * MINUTE, late + 30 * MINUTE)]
    assert [len(group) for group in propose(over)] == [2]
    always = [part(60 * n, 60 * n + 60) for n in range(50)]
    assert [len(group) for group in propose(always)] == [24, 24, 2]


@given(SEGMENTS)
def test_every_file_with_a_place_is_proposed_once_and_nothing_else(segments: list[Segment]) -> None:
    groups = propose(segments)
    assert in_order(one for group in groups for one in group) == in_order(one for one in segments if one.placed)
    assert all(len({one.device_id for one in group}) == 1 for group in groups)


def test_a_hole_in_a_recording_is_a_gap_within_it() -> None:
    holed = part(0, 30, holes=((after(5), after(8)), (after(6), after(10)), (after(28), after(30))), truncated=True)
    found = join(NOON, after(40), [holed, part(33, 40)])
    assert spans(found) == [(after(5), after(10)), (after(28), after(33))]
    assert [(gap.before, gap.after, gap.truncated) for gap in found.gaps] == [
        ("a0-30", "a0-30", False),
        ("a0-30", "a33-40", False),
    ]
    assert found.at_least == 30 / 40
    assert found.segments[0] == holed


def test_another_recorder_covers_a_hole() -> None:
    found = join(NOON, after(30), [part(0, 30, holes=((after(5), after(8)),)), part(4, 9, "b")])
    assert (found.at_least, found.gaps) == (1, ())
    assert join(NOON, after(30), [part(0, 30, holes=((after(0), after(8)),))]).gaps[0].before == ""


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted), max_size=6).map(sorted))
def test_holes_take_away_just_what_they_are(holes: list[list[int]]) -> None:
    holed = part(0, 20, holes=tuple((after(start), after(end)) for start, end in holes))
    found = join(NOON, after(20), [holed])
    missing = {minute for start, end in holes for minute in range(start, end)}
    assert found.covered == (20 - len(missing)) * MINUTE
    assert {minute for gap in found.gaps for minute in range(20) if gap.start <= after(minute) < gap.end} == missing
