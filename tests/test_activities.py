"""Promise: an activity is what a person said, every version of it stays, and it makes no limit later than the law."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config import load
from agent.deadline import ZONE, Rules, Verdict, deadline_for, verdict
from agent.errors import AgentError, JournalError, UnknownError
from agent.journal import rebuild, verify
from agent.journal.segments import continuity_of
from agent.model import (
    AssetState,
    Derived,
    Explanation,
    Facts,
    FindingKind,
    Integrity,
    Measured,
    MediaFinding,
    Medium,
    Probed,
    Role,
    Stated,
    Voice,
)
from agent.pipeline.activities import confirm, explain, state
from agent.pipeline.limits import state_time
from agent.pipeline.station import Station
from agent.status.activities import activity_view
from agent.status.explain import Milestone, explanation
from agent.status.explain import explain as explain_limit
from tests.conftest import SettableClock
from tests.filming import docked, filmed, lost_in_time
from tests.journal_entries import assert_consistent
from tests.stations import SHIPPED
from tests.stations import opened as station_opened
from tests.status_station import configured

EVE = datetime(2026, 12, 31, tzinfo=ZONE)
MINUTE = timedelta(minutes=1)


def at(hours: float) -> datetime:
    """So many hours after the beginning of 20 November 2026, a Friday."""
    return datetime(2026, 11, 20, tzinfo=ZONE) + timedelta(hours=hours)


@pytest.fixture(scope="module")
def nanchang(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    config = configured(tmp_path_factory.mktemp("nanchang"), '[deadline]\nprofile = "nanchang"\n')
    return Rules(config.profile, config.calendars)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(at(72))


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock, nanchang: Rules) -> AsyncIterator[Station]:
    """A station of Nanchang; afterwards the log tells the same as the tables, also when they are made anew."""
    async with station_opened(tmp_path, clock) as made:
        made.rules = nanchang
        yield made
    assert_consistent(tmp_path / "journal.db")
    before = verify(tmp_path / "journal.db").head_hash
    rebuild(tmp_path / "journal.db")
    assert_consistent(tmp_path / "journal.db")
    assert verify(tmp_path / "journal.db").head_hash == before


def asked(arrived: datetime, left: datetime, *names: str, **changes: str) -> dict[str, str]:
    return {
        "stage": "S10", "arrived": arrived.isoformat(), "left": left.isoformat(), "who": "张三", "why": "查封",
        "recordings": " ".join(f"rec-{name}" for name in names),
    } | changes  # fmt: skip


async def stated(station: Station, arrived: datetime, left: datetime, *names: str, **changes: str) -> str:
    return str((await state(station, asked(arrived, left, *names, **changes)))["activity"])


def gap_of(station: Station, activity_id: str, number: int = 0) -> dict[str, str]:
    gap = continuity_of(station.journal.reader.activity(activity_id)).gaps[number]
    return {"id": activity_id, "from": gap.start.isoformat(), "to": gap.end.isoformat(), "who": "张三", "why": "说明"}


def due(station: Station, name: str) -> datetime:
    return station.journal.reader.recording(name).recording.deadline.due_at


# Stating.


async def test_two_recorders_make_one_activity_and_every_version_stays(station: Station) -> None:
    await docked(station, filmed(station.rules, "a", 1, (at(9), at(10))))
    await docked(
        station,
        filmed(station.rules, "b", 1, (at(9.9), at(11)), docking="d2", device="other"),
        docking="d2", device="other",
    )  # fmt: skip
    activity_id = await stated(station, at(9), at(11), "a", "b")
    view = station.journal.reader.activity(activity_id)
    assert continuity_of(view).at_least == 1
    assert await stated(station, at(9), at(12), "a", "b", id=activity_id, why="离开时间有误") == activity_id
    told = [event for event in station.journal.reader.events() if event.kind == "activity_stated"]
    assert [event.subject for event in told] == [activity_id] * 2
    assert station.journal.reader.activity(activity_id).stated.left_at == at(12)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"left": at(9).isoformat()}, "离开时间不能早于"),
        ({"left": at(8).isoformat()}, "needs the date of the next day in --left"),
        ({"left": at(100).isoformat()}, "in the future"),
        ({"stage": "S77"}, "is no stage"),
        ({"conditions": "重要"}, "knows no condition"),
        ({"recordings": "rec-nobody"}, "There is no recording"),
        ({"recordings": ""}, "1 to 6000 recordings"),
        ({"id": "nothing"}, "There is no activity"),
        ({"who": "\u202eliar"}, "visible characters"),
        ({"why": "x" * 100_000}, "visible characters"),
    ],
)
async def test_what_can_not_be_is_refused_in_words(station: Station, changes: dict[str, str], told: str) -> None:
    await docked(station, filmed(station.rules, "a", 1, (at(9), at(10))))
    with pytest.raises(AgentError) as error:
        await state(station, asked(at(9), at(10), "a") | changes)
    assert told in str(error.value)
    assert station.journal.reader.activity_heads(10) == []


async def test_a_recording_may_belong_to_two_visits_that_it_ran_through(station: Station) -> None:
    """Back to back: the camera was never switched off between them."""
    await docked(station, filmed(station.rules, "a", 1, (at(9), at(11))))
    first = await stated(station, at(9), at(10), "a")
    second = await stated(station, at(10), at(11), "a")
    for activity_id in (first, second):
        assert continuity_of(station.journal.reader.activity(activity_id)).at_least == 1
    assert station.journal.reader.activities_of("rec-a") == tuple(sorted((first, second)))


async def test_what_belongs_to_no_activity_is_proposed_until_it_does(station: Station) -> None:
    await docked(station, *(filmed(station.rules, name, n, (at(9 + n), at(10 + n))) for n, name in enumerate("abc", 1)))
    assert [row.recording.recording_id for row in station.journal.reader.unjoined(9)] == ["rec-c", "rec-b", "rec-a"]
    await stated(station, at(10), at(12), "a", "b")
    assert [row.recording.recording_id for row in station.journal.reader.unjoined(9)] == ["rec-c"]


# Limits that count from the end of the activity.


async def test_over_midnight_the_same_day_is_the_day_on_which_the_activity_ended(station: Station) -> None:
    """Nanchang art. 22: stored after the activities of the day; what began on the 20th ended on the 21st."""
    evening, night = (at(22), at(23.9)), (at(23.9), at(25))
    await docked(station, filmed(station.rules, "a", 1, evening), filmed(station.rules, "b", 2, night))
    assert due(station, "a") == at(24)
    answer = await state(station, asked(at(22), at(25), "a", "b"))
    assert (answer["limits_changed"], due(station, "a"), due(station, "b")) == (1, at(48), at(48))
    (event,) = [event for event in station.journal.reader.events() if event.kind == "activity_ended"]
    assert (event.subject, '"who"' in event.detail) == ("a", False), "who said so is told by the statement before it"
    row = station.journal.reader.recording("rec-a")
    told = explain_limit(row, station.rules, Milestone.CENTRAL, station.clock())
    assert told["differs"] is None
    assert "执法活动结束" in explanation(told)
    assert verdict(row.recording.deadline, at(47)) is Verdict.DUE_SOON


async def test_new_years_eve_ends_in_the_new_year(station: Station, clock: SettableClock) -> None:
    clock.now = EVE + timedelta(days=2)
    spans = (EVE + 23 * 60 * MINUTE, EVE + 24 * 60 * MINUTE), (EVE + 24 * 60 * MINUTE, EVE + 25 * 60 * MINUTE)
    await docked(
        station,
        *(filmed(station.rules, name, n, span) for n, (name, span) in enumerate(zip("ab", spans, strict=True), 1)),
    )
    await stated(station, spans[0][0], spans[1][1], "a", "b")
    # "a" ended at 24:00 sharp, which is the first moment of 1 January, and so its own day already.
    assert due(station, "a") == due(station, "b") == datetime(2027, 1, 2, tzinfo=ZONE)


async def test_a_departure_that_no_recording_bears_out_stretches_nothing(station: Station) -> None:
    await docked(
        station, filmed(station.rules, "a", 1, (at(22), at(23))), filmed(station.rules, "z", 2, (at(30), at(31)))
    )
    await stated(station, at(22), at(26), "a")
    assert due(station, "a") == at(24), "the last footage ended on the 20th"
    await stated(station, at(22), at(26), "a", "z")
    assert due(station, "a") == at(24), "footage of the next morning bears out nothing of that night"
    await stated(station, at(22), at(50), "a", "z")
    assert due(station, "a") == at(24), "an activity of more than a day is none of one day"


async def test_a_recorder_whose_clock_is_wrong_bears_out_nothing(station: Station) -> None:
    lost = lost_in_time(filmed(station.rules, "b", 2, (at(24), at(25))), at(40))
    await docked(station, filmed(station.rules, "a", 1, (at(22), at(23))), lost)
    await stated(station, at(22), at(26), "a", "b")
    assert due(station, "a") == at(24)
    await state_time(station, "b", Stated(at(25), "张三", "时钟复位"))
    await stated(station, at(22), at(26), "a", "b")
    assert due(station, "a") == at(24), "nor does a person's word on it"


async def test_a_persons_word_on_a_recordings_own_time_goes_before_its_activitys_end(station: Station) -> None:
    await docked(
        station, filmed(station.rules, "a", 1, (at(22), at(23))), filmed(station.rules, "b", 2, (at(23), at(25)))
    )
    await stated(station, at(22), at(25), "a", "b")
    limit = await state_time(station, "a", Stated(at(12), "张三", "时钟快了"))
    assert limit.due_at == at(24)


async def test_of_two_activities_the_one_that_ends_first_counts_and_a_correction_takes_it_back(
    station: Station,
) -> None:
    await docked(
        station, filmed(station.rules, "a", 1, (at(22), at(23))), filmed(station.rules, "b", 2, (at(23), at(25)))
    )
    long = await stated(station, at(22), at(25), "a", "b")
    assert due(station, "a") == at(48)
    await stated(station, at(22), at(23), "a")
    assert due(station, "a") == at(24)
    await stated(station, at(23), at(25), "b", id=long)
    assert due(station, "a") == at(24)


async def test_where_each_file_has_its_own_clock_an_activity_changes_no_limit(station: Station) -> None:
    station.rules = Rules(SHIPPED.profile, SHIPPED.calendars)
    await docked(
        station, filmed(station.rules, "a", 1, (at(22), at(23))), filmed(station.rules, "b", 2, (at(23), at(25)))
    )
    before = due(station, "a")
    await stated(station, at(22), at(25), "a", "b")
    assert due(station, "a") == before


HOURS = st.floats(20, 40).map(lambda hours: round(hours, 2))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    arrived=HOURS, lasts=st.floats(0.1, 60), spans=st.lists(st.tuples(HOURS, st.floats(0, 9)), min_size=1, max_size=4)
)
async def test_no_statement_makes_a_limit_later_than_the_day_of_the_last_footage(
    tmp_path_factory: pytest.TempPathFactory, nanchang: Rules, arrived: float, lasts: float,
    spans: list[tuple[float, float]],
) -> None:  # fmt: skip
    """Whatever is stated, in good faith or not: 24:00 of the day on which the last of its footage ended."""
    async with station_opened(tmp_path_factory.mktemp("station"), SettableClock(at(200))) as station:
        station.rules = nanchang
        names = [f"n{n}" for n in range(len(spans))]
        times = [(at(start), at(start + length)) for start, length in spans]
        clips = [
            filmed(station.rules, name, n, span) for n, (name, span) in enumerate(zip(names, times, strict=True), 1)
        ]
        await docked(station, *clips)
        before = {name: due(station, name) for name in names}
        await stated(station, at(arrived), at(arrived + lasts), *names)
        last = max(end for _, end in times)
        for name in names:
            assert before[name] <= due(station, name) <= deadline_for(nanchang, last, last).due_at
            assert due(station, name) <= before[name] + timedelta(days=1)


# Explaining and confirming.


async def broken(station: Station) -> str:
    """An activity from 9 to 12 whose recorder was off from 10 to 11."""
    await docked(
        station, filmed(station.rules, "a", 1, (at(9), at(10))), filmed(station.rules, "b", 2, (at(11), at(12)))
    )
    return await stated(station, at(9), at(12), "a", "b")


def judged(station: Station, activity_id: str) -> tuple[str, int]:
    view = activity_view(station.journal.reader.activity(activity_id), station.rules.profile)
    return view["gaps"][0]["state"]["name"], view["open"]


async def test_a_spoken_explanation_closes_a_gap_but_the_red_flag_stays(station: Station) -> None:
    activity_id = await broken(station)
    assert judged(station, activity_id) == ("unexplained", 1)
    spoken = gap_of(station, activity_id) | {"code": "INT-03", "voice": "rec-b", "offset_ms": "5000"}
    assert await explain(station, spoken) == {
        "activity": activity_id, "number": 1, "code": "INT-03", "to_confirm": False,
    }  # fmt: skip
    assert judged(station, activity_id) == ("explained", 0)
    view = activity_view(station.journal.reader.activity(activity_id), station.rules.profile)
    assert view["red_flag"], "what must be recorded in full was not"
    assert view["coverage"]["at_least"] == pytest.approx(2 / 3)


async def test_what_is_no_objective_cause_waits_for_another_person(station: Station) -> None:
    activity_id = await broken(station)
    spoken = gap_of(station, activity_id) | {"code": "INT-09", "voice": "rec-b", "offset_ms": "0"}
    assert (await explain(station, spoken))["to_confirm"]
    assert judged(station, activity_id) == ("unconfirmed", 1)
    verdict = {"id": activity_id, "number": "1", "why": "已核对"}
    with pytest.raises(JournalError, match="can't confirm"):
        await confirm(station, verdict | {"who": " 张三 "})
    await confirm(station, verdict | {"who": "李四", "refused": "yes"})
    assert judged(station, activity_id) == ("unexplained", 1)
    await confirm(station, verdict | {"who": "李四"})
    assert judged(station, activity_id) == ("explained", 0)
    with pytest.raises(JournalError, match="no explanation '7'"):
        await confirm(station, verdict | {"who": "李四", "number": "7"})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "第十九条"),
        ({"ended": "yes", "voice": "rec-b"}, "未恢复记录的"),
        ({"voice": "rec-z"}, "not one of this activity"),
        ({"voice": "rec-b", "offset_ms": "3600001"}, "not inside it"),
        ({"voice": "rec-a"}, "before recording went on"),
        ({"code": "INT-11", "voice": "rec-b"}, "found by the system only"),
        ({"code": "INT-77", "voice": "rec-b"}, "INT-03 电量不足"),
        ({"voice": "rec-b", "to": at(10.5).isoformat()}, "has no gap from"),
        ({"voice": "rec-b", "why": "a\nb"}, "visible characters"),
        ({"voice": "rec-b", "id": "nothing"}, "There is no activity"),
    ],
)
async def test_an_explanation_that_is_none_is_refused_in_words(
    station: Station, changes: dict[str, str], told: str
) -> None:
    activity_id = await broken(station)
    spoken = gap_of(station, activity_id) | {"code": "INT-03", "offset_ms": "1000"} | changes
    with pytest.raises(AgentError) as error:
        await explain(station, spoken)
    assert told in str(error.value)
    assert judged(station, activity_id) == ("unexplained", 1)


async def test_a_written_statement_is_a_document_about_the_recordings_beside_the_gap(station: Station) -> None:
    """Recording could not go on: the file is sealed and stored like any original, and its bytes are the document's."""
    activity_id = await broken(station)
    content = "因现场人员阻挠，无法继续记录。".encode()
    await explain(station, gap_of(station, activity_id) | {"code": "INT-06", "ended": "yes"}, content)
    (view,) = station.journal.reader.documents("rec-a")
    assert station.journal.reader.documents("rec-b") == (view,)
    assert (view.asset.role, view.asset.state) == (Role.EXPLANATION, AssetState.HELD)
    assert view.asset.digests is not None
    assert view.asset.digests.blake3 == blake3(content).hexdigest()
    (one,) = station.journal.reader.activity(activity_id).explanations
    assert (one.said.document, one.said.written, one.said.resumed) == (view.asset.asset_id, True, False)
    assert judged(station, activity_id) == ("explained", 0)


async def test_what_is_explained_by_voice_travels_with_the_recordings_too(station: Station) -> None:
    activity_id = await broken(station)
    spoken = gap_of(station, activity_id) | {"code": "INT-03", "voice": "rec-b", "offset_ms": "5000"}
    await explain(station, spoken)
    (view,) = station.journal.reader.documents("rec-b")
    assert isinstance(view.said, Explanation)
    assert (view.said.voice, view.said.code) == (Voice("rec-b", 5000), "INT-03")
    assert view.said.gap == f"{at(10).isoformat()}/{at(11).isoformat()}"
    assert view.asset.state is AssetState.HELD


async def test_where_no_article_asks_for_a_form_words_are_enough(station: Station) -> None:
    station.rules = Rules(SHIPPED.profile, SHIPPED.calendars)
    activity_id = await broken(station)
    await explain(station, gap_of(station, activity_id) | {"code": "INT-08"})
    view = activity_view(station.journal.reader.activity(activity_id), station.rules.profile)
    assert view["gaps"][0]["state"]["name"] == "explained"


async def test_footage_that_comes_later_fills_the_gap_and_the_explanation_stays_in_the_log(station: Station) -> None:
    activity_id = await broken(station)
    await docked(
        station,
        filmed(station.rules, "c", 1, (at(10), at(11)), docking="d2", device="other"),
        docking="d2",
        device="other",
    )
    await stated(station, at(9), at(12), "a", "b", "c", id=activity_id)
    view = activity_view(station.journal.reader.activity(activity_id), station.rules.profile)
    assert (view["gaps"], view["red_flag"], view["coverage"]["at_least"]) == ([], False, 1)


async def test_what_the_content_says_later_changes_what_is_said_of_the_activity(station: Station) -> None:
    """The file ends early: there is a gap now, and the status page knows that it must look again."""
    await docked(station, filmed(station.rules, "a", 1, (at(9), at(10))))
    activity_id = await stated(station, at(9), at(10), "a")
    ((_, before),) = station.journal.reader.activity_heads(9)
    row = station.journal.reader.recording("a")
    facts = Facts(Medium.VIDEO, Integrity.TRUNCATED, duration_ms=1_800_000, measured=Measured.PACKETS)
    time = replace(row.time, made_start=at(9.5), made_end=at(10))
    await station.journal.record(Probed("a", facts, time, row.recording.deadline, row.recording.deadline))
    ((_, now),) = station.journal.reader.activity_heads(9)
    assert now > before
    assert continuity_of(station.journal.reader.activity(activity_id)).at_least == 0.5


async def test_what_is_found_in_the_content_later_is_a_gap_that_can_be_explained(station: Station) -> None:
    """Its time stamps leave out ten minutes: known once somebody has looked, and explained like any other gap."""
    await docked(station, filmed(station.rules, "a", 1, (at(9), at(10))))
    activity_id = await stated(station, at(9), at(10), "a")
    row = station.journal.reader.recording("a")
    facts = Facts(Medium.VIDEO, Integrity.COMPLETE, duration_ms=3_600_000, measured=Measured.PACKETS)
    time = replace(row.time, made_start=at(9), made_end=at(10))
    await station.journal.record(Probed("a", facts, time, row.recording.deadline, row.recording.deadline))
    ((_, before),) = station.journal.reader.activity_heads(9)
    leap = MediaFinding(FindingKind.GAP, 600_000, 1_200_000, detail="video")
    await station.journal.record(Derived("a", (leap,), 1))
    ((_, now),) = station.journal.reader.activity_heads(9)
    assert now > before
    view = station.journal.reader.activity(activity_id)
    assert continuity_of(view).at_least == pytest.approx(5 / 6)
    (gap,) = activity_view(view, station.rules.profile)["gaps"]
    assert (gap["length_s"], gap["before"], gap["after"]) == (600, "rec-a", "rec-a")
    await explain(station, gap_of(station, activity_id) | {"code": "INT-01"}, "死机重启".encode())
    assert len(station.journal.reader.activity(activity_id).explanations) == 1


async def test_an_unknown_activity_is_named(station: Station) -> None:
    with pytest.raises(UnknownError, match="There is no activity 'x'"):
        station.journal.reader.activity("x")


def test_the_shipped_configuration_knows_the_codes() -> None:
    config = load(Path(__file__).parent.parent / "config" / "agent.toml")
    assert replace(config.profile).interruptions
