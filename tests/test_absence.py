"""What traces tell together: one fact for each hole, as sure as its evidence; nothing where nothing was taken."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.absence import Absence, Evidence, Fate, Sure, Trace, absences
from agent.model import Space
from tests.conftest import CHINA

DCF = "DCIM/100MEDIA"
NINE = datetime(2026, 11, 20, 9, 0, tzinfo=CHINA)
LONG = timedelta(minutes=5)
SIZE = 40_000_000
ROOMY = Space(64_000_000_000, 40_000_000_000, 0)
FULL = Space(64_000_000_000, 1_000_000_000, 0)

NUMBERS, REMAINS, LEDGER, SPACE = Evidence


def segment(number: int, folder: str = DCF, *, at: int | None = None, name: str = "MOVI{:04d}.MP4") -> Trace:
    """One of many that follow each other, five minutes each."""
    start = NINE + LONG * (number if at is None else at)
    return Trace(f"{folder}/{name.format(number)}", SIZE + number, start, start + LONG)


def segments(*numbers: int, folder: str = DCF) -> list[Trace]:
    return [segment(number, folder) for number in numbers]


def told(
    present: list[Trace],
    remains: list[Trace] | None = None,
    gone: list[Trace] | None = None,
    space: Space | None = ROOMY,
) -> tuple[Absence, ...]:
    return absences(present, remains or [], gone or [], space)


def without(numbers: range, *lost: int) -> list[Trace]:
    return segments(*(number for number in numbers if number not in lost))


def test_a_tombstone_in_a_numbering_gap_is_one_fact() -> None:
    (fact,) = told(without(range(1, 10), 4), segments(4))
    assert (fact.segments, fact.proven, fact.by, fact.sure) == (1, 1, (NUMBERS, REMAINS), Sure.CERTAIN)
    assert (fact.before, fact.after) == (f"{DCF}/MOVI0003.MP4", f"{DCF}/MOVI0005.MP4")
    assert (fact.lasts_s, fact.size_bytes, fact.names) == (300, SIZE + 4, (f"{DCF}/MOVI0004.MP4",))
    assert (fact.since, fact.until) == (NINE + 4 * LONG, NINE + 5 * LONG)


def test_all_traces_of_one_recording_are_one_fact() -> None:
    """Its entry, that of its important copy, its thumbnail's, and the ledger of the last docking."""
    name = "370100_1234567_20260131093015_{:04d}.mp4"
    card = [segment(number, "DCIM/100ANDRO", name=name) for number in (1, 2, 4, 5)]
    three = segment(3, "DCIM/100ANDRO", name=name)
    copy = replace(three, path="DCIM/101ANDRO/370100_1234567_20260131093015_0003IMP.mp4")
    thumbnail = Trace(three.path.replace(".mp4", ".jpg"), 9000, None, three.end, photo=True)
    (fact,) = told(card, [three, copy, thumbnail], [three])
    assert (fact.segments, fact.by, fact.sure) == (1, (NUMBERS, REMAINS, LEDGER), Sure.CERTAIN)


def test_a_number_alone_is_likely_where_there_is_time_for_it() -> None:
    (fact,) = told(without(range(1, 10), 4, 5))
    assert (fact.segments, fact.proven, fact.by, fact.sure) == (2, 0, (NUMBERS,), Sure.LIKELY)
    assert fact.lasts_s == 600
    assert (fact.since, fact.until) == (NINE + 4 * LONG, NINE + 6 * LONG)


def test_a_number_alone_is_possible_where_one_recording_joins_the_next() -> None:
    card = segments(1, 2, 3) + [segment(number, at=number - 1) for number in (5, 6, 7)]
    (fact,) = told(card)
    assert (fact.segments, fact.sure, fact.lasts_s) == (1, Sure.POSSIBLE, 0)


def test_a_hole_with_one_tombstone_says_how_many_are_certain() -> None:
    (fact,) = told(without(range(1, 12), 4, 5, 6), segments(5))
    assert (fact.segments, fact.proven, fact.sure, fact.lasts_s) == (3, 1, Sure.LIKELY, 900)


def test_the_last_recordings_leave_no_hole_but_an_entry_or_the_ledger() -> None:
    card = segments(1, 2, 3)
    assert told(card) == ()
    (fact,) = told(card, segments(4, 5))
    assert (fact.segments, fact.by, fact.sure, fact.after) == (2, (REMAINS,), Sure.CERTAIN, "")
    (fact,) = told(card, [], segments(4, 6))  # 5 has left nothing but its number
    assert (fact.segments, fact.proven, fact.by, fact.sure) == (3, 2, (NUMBERS, LEDGER), Sure.POSSIBLE)


def test_what_was_pulled_before_is_told_apart_and_explains_its_numbers() -> None:
    held = [replace(one, fate=Fate.HELD, asset_id=f"a{number}") for number, one in enumerate(segments(2, 3))]
    (fact,) = told(segments(1, 4, 5), [], held)
    assert (fact.held, fact.segments, fact.by, fact.assets) == (True, 2, (LEDGER,), ("a0", "a1"))


def test_between_two_dockings_numbers_may_have_gone_elsewhere() -> None:
    """The card was cleared after it was pulled; the next number it bears isn't the next."""
    held = [replace(one, fate=Fate.RELEASED) for one in segments(1, 2, 3, 4, 5)]
    (fact,) = told(segments(8, 9, 10, 11), [], held)
    assert (fact.segments, fact.sure, fact.before, fact.after) == (
        2, Sure.POSSIBLE, f"{DCF}/MOVI0005.MP4", f"{DCF}/MOVI0008.MP4",
    )  # fmt: skip


def test_a_damaged_entry_is_likely() -> None:
    damaged = replace(segment(4), path=f"{DCF}/?OVI0004.MP4", proven=False)
    (fact,) = told(without(range(1, 10), 4), [damaged])
    assert (fact.segments, fact.proven, fact.by, fact.sure) == (1, 0, (NUMBERS, REMAINS), Sure.LIKELY)


def test_space_that_belongs_to_no_file_speaks_for_a_hole_of_its_size() -> None:
    card = segments(1, 2, 3) + [segment(number, at=number - 1) for number in (5, 6, 7)]
    (fact,) = told(card, space=ROOMY._replace(lost_bytes=SIZE))
    assert (fact.by, fact.sure) == ((NUMBERS, SPACE), Sure.LIKELY)
    (fact,) = told(segments(1, 2, 3), space=ROOMY._replace(lost_bytes=SIZE))
    assert (fact.segments, fact.by, fact.sure, fact.size_bytes) == (0, (SPACE,), Sure.POSSIBLE, SIZE)
    assert told(segments(1, 2, 3), space=ROOMY._replace(lost_bytes=4096)) == ()
    assert told(segments(1, 2, 3), space=None) == ()


def test_the_oldest_missing_from_a_full_card_look_like_loop_recording() -> None:
    (fact,) = told(segments(*range(30, 60)), segments(28, 29), space=FULL)
    assert (fact.loop, fact.segments, fact.sure) == (True, 2, Sure.CERTAIN)
    (fact,) = told(segments(*range(30, 60)), space=FULL)
    assert (fact.loop, fact.segments, fact.by, fact.sure) == (True, 0, (NUMBERS, SPACE), Sure.POSSIBLE)
    (fact,) = told(without(range(30, 60), 40), segments(40), space=FULL)
    assert not fact.loop


def test_numbers_that_began_anew_over_the_oldest_of_a_full_card_look_like_loop_recording() -> None:
    over = [segment(number, at=100 + number) for number in range(1, 20)]
    older = [segment(number, at=number) for number in range(20, 60)]
    (fact,) = told(over + older, space=FULL)
    assert (fact.loop, fact.segments, fact.by, fact.sure) == (True, 0, (NUMBERS, SPACE), Sure.POSSIBLE)
    assert (fact.before, fact.after, fact.until) == ("", older[0].path, older[0].start)
    assert told(over + older, space=ROOMY) == (), "on a card with room nothing is overwritten"
    reset = [segment(number, at=number + 12 * 24 * 40) for number in range(1, 20)]
    assert told(reset + older, space=FULL) == (), "a clock that leaps tells nothing"
    twice = [segment(number, at=-number * 9) for number in range(60, 63)]
    assert told(over + older + twice, space=FULL) == ()
    assert told([replace(one, start=None, end=None) for one in over + older], space=FULL) == ()


def test_a_clock_that_was_set_back_makes_nothing_certain_and_nothing_long() -> None:
    after = [segment(number, at=number - 100) for number in range(6, 12)]
    (fact,) = told([*segments(1, 2, 3, 4), *after])
    assert (fact.segments, fact.stepped, fact.sure) == (1, True, Sure.POSSIBLE)


def test_a_counter_that_begins_anew_behind_9999_goes_on() -> None:
    old, new = range(9990, 10000), range(1, 9)
    card = [segment(number, at=number - 9990) for number in old] + [segment(number, at=10 + number) for number in new]
    assert told(card) == ()
    lost = {9998, 9999, 1}
    (fact,) = told([one for one in card if int(one.path[-8:-4]) not in lost])
    assert (fact.segments, fact.sure) == (3, Sure.LIKELY)
    assert (fact.before, fact.after) == (f"{DCF}/MOVI9997.MP4", f"{DCF}/MOVI0002.MP4")


def test_a_folder_that_goes_on_with_the_numbers_of_another_is_one_series() -> None:
    first, second = segments(1, 2, 3, folder="DCIM/100ANDRO"), segments(5, 6, 7, folder="DCIM/101ANDRO")
    (fact,) = told(first + second)
    assert (fact.segments, fact.before, fact.after) == (1, first[-1].path, second[0].path)


def test_recordings_without_numbers_have_their_place_by_time() -> None:
    card = [
        replace(segment(hour), path=f"DCIM/2026-11-20 {hour:02d}-00-00.mp4") for hour in (9, 10, 12)
    ]  # fmt: skip
    lost = replace(segment(11), path="DCIM/2026-11-20 11-00-00.mp4")
    (fact,) = told(card, [lost])
    assert (fact.before, fact.after, fact.by) == (card[1].path, card[2].path, (REMAINS,))


def test_a_recorder_without_lengths_is_measured_by_its_cadence() -> None:
    card = [replace(one, start=None) for one in without(range(1, 10), 4)]
    (fact,) = told(card, [replace(segment(4), start=None)])
    assert fact.lasts_s == 300
    photos = [replace(one, path=one.path.replace("MP4", "JPG"), start=None, photo=True) for one in segments(1, 2, 4, 5)]
    (fact,) = told(photos, [replace(segment(3), path=f"{DCF}/MOVI0003.JPG", photo=True)])
    assert fact.lasts_s is None


def test_a_thumbnail_that_was_left_behind_hides_nothing() -> None:
    thumbnail = Trace(f"{DCF}/MOVI0004.JPG", 9000, None, NINE, photo=True)
    (fact,) = told([*without(range(1, 10), 4), thumbnail], segments(4))
    assert (fact.segments, fact.sure, fact.names) == (1, Sure.CERTAIN, (f"{DCF}/MOVI0004.MP4",))


INNOCENT = {
    "nothing at all": ([], []),
    "renamed": (segments(1, 2, 3), [replace(segment(2), path=f"{DCF}/0002.tmp.MP4")]),
    "moved": (segments(1, 2, 3), segments(2, folder="DCIM/BUFFER")),
    "before recording began": (segments(1, 2), [segment(9, "DCIM/SEGTEMP")]),
    "a thumbnail": (segments(1, 2), [Trace(f"{DCF}/MOVI0002.JPG", 9000, None, NINE, photo=True)]),
    "a mark that was taken back": (
        [segment(1, name="A_{:04d}.mp4")], [replace(segment(1, name="A_{:04d}IMP.mp4"), end=NINE)],
    ),
    "marked copies": (
        [segment(n, "DCIM/100ANDRO", name="A_{:04d}.mp4") for n in range(1, 9)]
        + [segment(n, "DCIM/101ANDRO", name="A_{:04d}IMP.mp4") for n in (2, 7)], [],
    ),
    "photos between, in a folder of their own": (
        [segment(n, "VIDEO", name="VID_{:04d}.mp4") for n in (1, 2, 4, 6, 7)]
        + [segment(n, "PHOTO", name="IMG_{:04d}.jpg") for n in (3, 5)], [],
    ),
    "two folders that count by themselves": (
        segments(1, 2, 3, 4, folder="DCIM/100A") + segments(1, 2, folder="DCIM/101A"), [],
    ),
    "a counter that begins anew each day": (
        [
            segment(n, "V", at=n + 10 * d, name=f"DSJ_2026010{d}_{{:04d}}.mp4")
            for d in (1, 2, 3)
            for n in range(1, 3 + d)
        ],
        [],
    ),
    "times of day in the names": ([segment(n, "V", at=n, name="1M{:06d}.mp4") for n in (93015, 93115, 101500)], []),
    "no counter": ([segment(1000, "V", at=1), segment(9000, "V", at=2)], []),
    "a counter that was reset": (
        [segment(n, at=n - 5000) for n in range(5000, 5050)] + [segment(n, at=100 + n) for n in range(1, 20)], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INNOCENT)
def test_an_innocent_card_gives_nothing(name: str) -> None:
    present, remains = INNOCENT[name]
    assert told(present, remains) == ()
    assert told(list(reversed(present)), remains) == ()
    assert told(present, remains, present) == ()
    assert told(present, remains, [replace(one, fate=Fate.RELEASED) for one in segments(500, 501)]) == ()


@given(
    st.integers(1, 9999), st.integers(2, 60), st.data(), st.booleans(),
    st.sampled_from(["MOVI{:04d}.MP4", "A_1234567_20260131093015_{:04d}.mp4", "REC_{:05d}.wav"]),
)  # fmt: skip
def test_what_was_taken_out_is_counted_exactly(
    first: int, count: int, data: st.DataObject, leaves_entries: bool, name: str
) -> None:
    """Of any card that was recorded without pause: no more and no fewer, whatever number it began with."""
    top = 9999 if "04d" in name else 99999
    card = [segment((first + at - 1) % top + 1, at=at, name=name) for at in range(count)]
    taken = data.draw(st.sets(st.sampled_from(card[1:-1]), max_size=count // 3)) if count > 2 else set()
    left = [one for one in card if one not in taken]
    facts = told(data.draw(st.permutations(left)), list(taken) if leaves_entries else [])
    if leaves_entries:
        assert sum(fact.proven for fact in facts) == len(taken)
        assert all(fact.sure is Sure.CERTAIN for fact in facts)
    assert sum(fact.segments for fact in facts) == len(taken)
    for fact in facts:
        places = [one.path for one in left]
        assert places.index(fact.before) + 1 == places.index(fact.after)
        assert fact.lasts_s is not None
        assert abs(fact.lasts_s - 300 * fact.segments) < 3


times = st.none() | st.integers(-(1 << 30), 1 << 32).map(lambda second: datetime.fromtimestamp(second, CHINA))
traces = st.lists(
    st.builds(
        Trace,
        st.text(max_size=12) | st.builds("{}/MOV{:03d}.mp4".format, st.sampled_from("ab"), st.integers(0, 999)),
        st.integers(0, 1 << 63), times, times, st.booleans(), st.booleans(), st.sampled_from(Fate), st.text(max_size=2),
    ),
    max_size=12,
)  # fmt: skip
spaces = st.none() | st.builds(Space, *[st.integers(0, 1 << 63)] * 3)


@given(traces, traces, traces, spaces)
def test_any_card_is_answered(
    present: list[Trace], remains: list[Trace], gone: list[Trace], space: Space | None
) -> None:
    facts = absences(present, remains, gone, space)
    assert facts == absences(list(reversed(present)), remains, gone, space)
    known = {one.path for one in (*present, *remains, *gone)} | {""}
    for fact in facts:
        assert {fact.before, fact.after, *fact.names} <= known
        assert fact.by
        assert 0 <= fact.proven <= fact.segments or fact.segments == 0
        assert (fact.sure is Sure.CERTAIN) == (fact.proven == fact.segments > 0)
    assert sum(fact.proven for fact in facts) <= len(remains) + len(gone)
