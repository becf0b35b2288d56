"""Where packets belong in time: whatever time stamps do, nothing is lost, nothing goes back, drift is only told."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from agent.rooms.timing import SECOND_US, Arrival, Clock, Line, Oddity, Shifts

RATE = 90_000
STEP = 3600
STEP_US = 40_000


def placed(stamps: Sequence[int], arrivals: Sequence[int], line: Line) -> list[int]:
    return [line.place(stamp, now) for stamp, now in zip(stamps, arrivals, strict=True)]


def steady(count: int, start: int = 0) -> tuple[list[int], list[int]]:
    return [start + at * STEP for at in range(count)], [at * STEP_US for at in range(count)]


@given(
    st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=60),
    st.lists(st.integers(0, 10 * SECOND_US), min_size=60, max_size=60),
)
def test_whatever_a_camera_stamps_each_packet_is_later_than_the_one_before(stamps: list[int], waits: list[int]) -> None:
    arrivals = [sum(waits[: at + 1]) for at in range(len(stamps))]
    times = placed(stamps, arrivals, Line(1, RATE, Shifts()))
    assert all(a < b for a, b in itertools.pairwise(times))
    ahead = (times[-1] - times[0]) / RATE * SECOND_US - (arrivals[-1] - arrivals[0])
    assert ahead <= (SECOND_US + STEP_US) * len(stamps), "no duration that nobody lived through"


@given(st.integers(20, 60), st.integers(-(2**33), 2**33), st.integers(0, 2**32))
def test_a_leap_moves_all_that_follows_to_when_it_came_and_is_told_once(at: int, leap: int, start: int) -> None:
    stamps, arrivals = steady(100, start)
    stamps[at:] = [one + leap for one in stamps[at:]]
    line = Line(1, RATE, Shifts())
    times = placed(stamps, arrivals, line)
    is_leap = leap < -RATE // 2 - STEP or leap > RATE
    assert [one.oddity for one in line.odd].count(Oddity.LEAP) <= 1
    if is_leap:
        assert [b - a for a, b in itertools.pairwise(times)] == [STEP] * 99
        (told,) = line.odd
        wrap_us = 2**32 * SECOND_US // RATE
        assert (told.value - leap * SECOND_US // RATE + 1000) % wrap_us < 2000
        assert abs(told.value) <= wrap_us // 2 + 1


@given(st.integers(1, RATE // 2 - 2 * STEP))
def test_a_small_step_back_is_squeezed_and_caught_up_with(back: int) -> None:
    stamps, arrivals = steady(100)
    stamps[50:] = [one - back for one in stamps[50:]]
    times = placed(stamps, arrivals, Line(1, RATE, Shifts()))
    assert all(a < b for a, b in itertools.pairwise(times))
    assert times[-1] == max(stamps[-1], times[49] + 50)


@given(st.integers(2, 100))
def test_a_hole_stays_a_hole_and_says_how_many_are_missing(missing: int) -> None:
    stamps, arrivals = steady(200)
    del stamps[50 : 50 + missing], arrivals[50 : 50 + missing]
    line = Line(1, RATE, Shifts())
    assert placed(stamps, arrivals, line) == stamps
    assert [(one.oddity, one.value, one.for_us) for one in line.odd] == [
        (Oddity.HOLE, missing, (missing + 1) * STEP_US)
    ]


@given(st.integers(1, 14), st.integers(1, 10))
def test_what_is_missing_before_the_rate_is_known_is_told_when_it_is(at: int, missing: int) -> None:
    stamps, arrivals = steady(60)
    del stamps[at : at + missing], arrivals[at : at + missing]
    line = Line(1, RATE, Shifts())
    assert placed(stamps, arrivals, line) == stamps
    assert [(one.oddity, one.value, one.at_us) for one in line.odd] == [(Oddity.HOLE, missing, arrivals[at])]


def test_a_hole_is_one_also_if_the_picture_before_it_is_given_out_with_the_one_after() -> None:
    stamps, arrivals = steady(200)
    del stamps[50:150], arrivals[50:150]
    arrivals = [*arrivals[1:], arrivals[-1] + STEP_US]
    line = Line(1, RATE, Shifts())
    assert placed(stamps, arrivals, line) == stamps
    assert [one.oddity for one in line.odd] == [Oddity.HOLE]


@given(st.integers(0, 4 * SECOND_US))
def test_a_stall_that_ends_in_a_burst_is_nothing_at_all(stall_us: int) -> None:
    stamps, arrivals = steady(200)
    arrivals[50:150] = [max(arrivals[50] + stall_us, one) for one in arrivals[50:150]]
    line = Line(1, RATE, Shifts())
    assert placed(stamps, arrivals, line) == stamps
    assert line.odd == []


@given(st.integers(2 * SECOND_US, 2**40), st.integers(0, 200_000))
def test_tracks_that_leap_together_stay_together(leap_us: int, between_us: int) -> None:
    shifts = Shifts()
    video, audio = Line(1, RATE, shifts), Line(1, 16_000, shifts)
    pictures, seen = steady(100)
    sound, heard = [at * 1024 for at in range(100)], [at * 64_000 for at in range(100)]
    pictures[50:] = [one + leap_us * RATE // SECOND_US for one in pictures[50:]]
    sound[31:] = [one + leap_us * 16_000 // SECOND_US for one in sound[31:]]
    last_picture = placed(pictures, seen, video)[-1]
    last_sound = placed(sound, [one + between_us for one in heard], audio)[-1]
    assert abs(video.us(last_picture) - 99 * 40_000) < 50_000
    assert abs((audio.us(last_sound) - 99 * 64_000) - (video.us(last_picture) - 99 * 40_000)) < 1000


def test_a_camera_without_a_fixed_rate_is_not_told_for_ever() -> None:
    line, stamp, now = Line(1, RATE, Shifts()), 0, 0
    for at in range(5000):
        step = STEP * (1 + at % 3)
        stamp, now = stamp + step, now + step * SECOND_US // RATE
        assert line.place(stamp, now) == stamp
    assert len(line.odd) < 40


@given(st.floats(0.98, 1.02), st.lists(st.integers(0, 100_000), min_size=300, max_size=300))
def test_drift_is_measured_and_told_seldom_whatever_the_network_delays(factor: float, delays: list[int]) -> None:
    clock, told = Clock(), []
    for second in range(300):
        media_us = int(second * SECOND_US * factor)
        drift_us = clock.look(media_us, second * SECOND_US + delays[second])
        told += [drift_us] if drift_us is not None else []
    expected_us = (factor - 1) * 290 * SECOND_US
    assert abs(clock.ahead_us - expected_us) < 600_000
    assert len(told) <= abs(expected_us) / 500_000 + 2
    assert (told == []) or abs(told[-1] - clock.ahead_us) < 500_000


def test_what_waited_in_buffers_at_the_start_did_not_arrive_late() -> None:
    arrival = Arrival()
    for late_us, media_us in ((800_000, 0), (400_000, 400_000), (2000, 800_000), (30_000, 1_000_000)):
        arrival.look(media_us, 10**15 + media_us + late_us, media_us + late_us)
    assert arrival.wall_us(0) == 10**15 + 2000
