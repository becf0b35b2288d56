"""What one source of a room has not recorded while another one has: each gap is asked for, explained and shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.continuity import START_LIMIT, Expected, Gap, GapState, Segment, join, judge
from agent.deadline import Rules
from agent.errors import JournalError, UnknownError
from agent.model import ActivityStated, ClockTrust, SessionEnded
from agent.pipeline import session as session_module
from agent.pipeline.activities import explain
from agent.pipeline.sessions import Sessions
from agent.pipeline.station import Station
from agent.rooms.protocol import Cause
from agent.status.activities import activity_lines, activity_view
from agent.status.strip import strip_svg
from tests.conftest import SettableClock
from tests.journal_entries import assert_consistent
from tests.room_station import BEGAN, MINUTE, ROOMS, recorded, standing, started, taken
from tests.stations import opened
from tests.status_station import NOW, Served, configured, serve
from tests.studio import LIMIT_S, ORDER, Scripted, Studio, until
from tests.test_continuity import CODES, NOON, after, explained, part

FRONT, SIDE = "room:xunwen:front", "room:xunwen:side"


def expected(device: str, start: float = 0, end: float | None = 60) -> Expected:
    until = None if end is None else after(end)
    return Expected(device, after(start), until, after(start) + START_LIMIT)


def of(segments: list[Segment], *sources: Expected, left: float = 60) -> list[tuple[str, datetime, datetime]]:
    found = join(NOON, after(left), segments, sources)
    return [(gap.device_id, gap.start, gap.end) for gap in found.of_sources]


# What is a gap of a source.


def test_what_another_source_covers_is_a_gap_of_its_own_and_none_of_all() -> None:
    found = join(NOON, after(60), [part(0, 60), part(0, 20, "b"), part(30, 60, "b")], [expected("a"), expected("b")])
    assert (found.gaps, found.at_least) == ((), 1)
    assert found.of_sources == (Gap(after(20), after(30), "b0-20", "b30-60", device_id="b"),)


def test_what_nothing_covers_is_asked_for_once() -> None:
    """Both lost the network; one takes seconds longer to come back, the other half an hour."""
    seconds = 1 / 60
    away = [part(0, 20), part(30, 60), part(0, 20 - seconds, "b"), part(30 + 12 * seconds, 60, "b")]
    assert of(away, expected("a"), expected("b")) == []
    longer = [*away[:3], part(50, 60, "b")]
    assert of(longer, expected("a"), expected("b")) == [("b", after(20 - seconds), after(50))]


def test_a_source_that_begins_late_ends_early_or_never_comes_has_a_gap() -> None:
    whole, seconds = part(0, 60), 1 / 60
    sources = expected("a"), expected("b")
    assert of([whole, part(15 * seconds, 60, "b")], *sources) == []
    assert of([whole, part(16 * seconds, 60, "b")], *sources) == [("b", NOON, after(16 * seconds))]
    assert of([whole, part(0, 60 - 3 * seconds, "b")], *sources) == [("b", after(60 - 3 * seconds), after(60))]
    assert of([whole], *sources) == [("b", NOON, after(60))]


def test_while_a_session_goes_on_only_what_has_ended_is_a_gap() -> None:
    running = [expected(one, end=None) for one in "abc"]
    assert of([part(0, 60), part(0, 20, "b"), part(30, 59, "b")], *running) == [("b", after(20), after(30))]


def test_sessions_of_one_room_in_one_activity_each_expect_their_sources_for_themselves() -> None:
    parts = [part(0, 10), part(40, 60), part(0, 10, "b"), part(40, 50, "b")]
    spans = [expected(one, *span) for one in "ab" for span in ((0, 10), (40, 60))]
    assert of(parts, *spans) == [("b", after(50), after(60))]


def test_a_recording_of_an_unknown_time_may_lie_in_the_gaps_of_its_own_source() -> None:
    somewhere = replace(part(25, 55, "b"), placed=False, lasts=timedelta(minutes=5))
    parts = [part(0, 60), part(0, 10, "b"), part(20, 30, "b"), part(40, 60, "b"), part(0, 40, "c"), somewhere]
    found = join(NOON, after(60), parts, [expected(one) for one in "abc"]).of_sources
    told = [(gap.device_id, gap.start, gap.may_be_covered) for gap in found]
    assert told == [("b", after(10), False), ("b", after(30), True), ("c", after(40), False)]


SPANS = st.lists(st.tuples(st.integers(0, 600), st.integers(1, 90)), max_size=12)


@given(first=SPANS, second=SPANS, start=st.integers(0, 60), lasts=st.integers(30, 640))
def test_each_second_of_a_source_is_recorded_or_asked_for(
    first: list[tuple[int, int]], second: list[tuple[int, int]], start: int, lasts: int
) -> None:
    """But for two seconds, and for 15 that it takes to answer or to come back after the others."""
    at = [NOON + timedelta(seconds=number) for number in range(1400)]
    spans, end = {"a": first, "b": second}, min(start + lasts, 650)
    parts = [
        Segment(f"{name}{number}", name, at[begin], at[begin + length])
        for name in spans for number, (begin, length) in enumerate(spans[name])
    ]  # fmt: skip
    found = join(at[start], at[start + lasts], parts, [Expected(one, at[0], at[650], at[15]) for one in spans])
    for name, own in spans.items():
        recorded = {second for begin, length in own for second in range(begin, begin + length)}
        asked = {second for gap in found.of_sources if gap.device_id == name for second in seconds_of(gap)}
        of_all = {second for gap in found.gaps for second in seconds_of(gap)}
        after_them = {second + more for second in of_all for more in range(-2, 16)}
        assert not asked & recorded
        left = set(range(start, end)) - recorded - asked - of_all - after_them - set(range(15))
        assert not any({second, second + 1, second + 2} <= left for second in left)


def seconds_of(gap: Gap) -> range:
    return range((gap.start - NOON) // timedelta(seconds=1), (gap.end - NOON) // timedelta(seconds=1))


def test_what_is_said_of_one_source_explains_nothing_of_another_and_what_is_said_of_all_holds_for_each() -> None:
    plain = explained(10, 20, "INT-03")
    own = replace(plain, said=replace(plain.said, device_id="b"))
    gap = Gap(after(10), after(20))
    states = [
        [judge(replace(gap, device_id=device), [said], CODES).state is GapState.EXPLAINED for device in ("", "a", "b")]
        for said in (plain, own)
    ]
    assert states == [[True, True, True], [False, False, True]]


# A session of two cameras.


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Studio:
    monkeypatch.setattr(session_module, "_BEAT_S", 0.01)
    return Studio()


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    config = configured(tmp_path / "nanchang", '[deadline]\nprofile = "nanchang"\n')
    async with opened(tmp_path / "station", clock) as made:
        made.rules = Rules(config.profile, config.calendars)
        yield made
    assert_consistent(tmp_path / "station" / "journal.db")


async def lost(recorder: Scripted, clock: SettableClock, sessions: Sessions, name: str, seconds: float) -> None:
    """A minute of both cameras, so many seconds of the others, and the lost one again."""
    recorder.begin()
    clock.advance(60)
    recorder.lose(name, Cause.CLOSED)
    recorder.close(name)
    await until(lambda: any(one.gaps for one in sessions.running()[0].sources))
    clock.advance(seconds)
    recorder.begin(name)
    recorder.back(name)
    await until(lambda: all(one.connected for one in sessions.running()[0].sources))
    clock.advance(60)


def view_of(station: Station, session_id: str) -> dict[str, Any]:
    return activity_view(station.journal.reader.activity(session_id), station.rules.profile)


async def test_the_gap_of_one_camera_waits_for_a_word_and_is_explained_by_it(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        await lost(await studio.recorder(), clock, sessions, "side", 30)
        await sessions.stop(session_id, "张三", "问完")
    view = view_of(station, session_id)
    (gap,) = view["gaps"]
    assert (gap["source"], gap["length_s"], gap["state"]["name"]) == ("side", 30, "unexplained")
    assert gap["shown"]["en"] == "another source shows this time"
    assert (view["open"], view["unexplained"], view["red_flag"]) == (1, 1, False)
    assert view["coverage"]["at_least"] == 1
    assert 'class="gap' not in strip_svg(view, "zh"), "something was recorded all the time"
    assert "side：此时段另一路信号有录制" in "\n".join(activity_lines(view, everything=True))

    said = {"id": session_id, "from": gap["from"], "to": gap["to"], "who": "张三", "why": "断电", "code": "INT-12"}
    with pytest.raises(JournalError, match="no gap"):
        await explain(station, said | {"statement": "侧面摄像机断电"})
    with pytest.raises(JournalError, match="恢复记录时应当语音说明"):
        await explain(station, said | {"device": SIDE})
    await explain(station, said | {"device": SIDE, "statement": "侧面摄像机断电"})
    view = view_of(station, session_id)
    assert (view["gaps"][0]["explanation"]["text"], view["open"]) == ("断电", 0)
    (told,) = station.journal.reader.activity(session_id).explanations
    assert told.said.device_id == SIDE


async def test_it_may_be_spoken_while_the_camera_is_away_since_another_one_hears_it(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        await lost(await studio.recorder(), clock, sessions, "side", 900)
        await sessions.stop(session_id, "张三", "问完")
    (gap,) = view_of(station, session_id)["gaps"]
    front = next(one for one in station.journal.reader.session(session_id).segments if one.source == "front")
    said = {
        "id": session_id, "from": gap["from"], "to": gap["to"], "who": "张三", "why": "断电", "code": "INT-12",
        "device": SIDE, "voice": front.recording.recording_id,
    }  # fmt: skip
    await explain(station, said | {"offset_ms": "120000"})
    assert view_of(station, session_id)["gaps"][0]["explanation"]["voice"]["offset_s"] == 120


async def test_a_gap_is_asked_for_once_what_follows_it_is_taken_however_long_the_session_goes_on(
    station: Station, studio: Studio, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quarter of an hour never comes here. Who has many segments to name speaks less often."""
    for name, value in (("_SPEAK_EACH", 10**9), ("_SPEAK_SOON", 5), ("_SAID_EACH", 10**-9)):
        monkeypatch.setattr(session_module, name, value)
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        recorder = await studio.recorder()
        await lost(recorder, clock, sessions, "side", 30)
        await segments_taken(recorder, station, session_id, "front", "side")
        with pytest.raises(UnknownError):
            view_of(station, session_id)
        monkeypatch.setattr(session_module, "_SAID_EACH", 10)
        await until(lambda: station.journal.reader.activity_heads(1))
        (gap,) = view_of(station, session_id)["gaps"]
        assert (gap["source"], gap["length_s"], gap["state"]["name"]) == ("side", 30, "unexplained")
        seen = station.journal.reader.activity_heads(1)
        recorder.begin()
        clock.advance(60)
        await segments_taken(recorder, station, session_id, "front", "side")
        assert station.journal.reader.activity_heads(1) == seen, "nothing was missing since"


async def segments_taken(recorder: Scripted, station: Station, session_id: str, *names: str) -> None:
    """And some beats later."""
    files = {(one.source, one.number) for one in map(recorder.close, names)}
    reader = station.journal.reader
    await until(lambda: files <= {(one.source, one.number) for one in reader.session(session_id).segments})
    await asyncio.sleep(0.3)


async def test_what_is_missing_at_the_end_is_known_with_the_end(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    """While the session runs nobody is asked about what goes on; the count of open activities follows its end."""
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        recorder = await studio.recorder()
        recorder.begin()
        clock.advance(60)
        recorder.close("side")
        recorder.lose("side")
        clock.advance(40)
        await sessions.stop(session_id, "张三", "问完")
    reader = station.journal.reader
    (gap,) = view_of(station, session_id)["gaps"]
    assert (gap["source"], gap["length_s"], gap["after"]) == ("side", 40, "")
    assert reader.activity_heads(1) == [(session_id, reader.activity(session_id).changed_seq)]
    (ended,) = [one.seq for one in reader.events(limit=1000) if one.kind == "session_ended"]
    assert reader.activity(session_id).changed_seq == ended


# On the screens.


async def ask(served: Served, path: str, **form: str) -> tuple[int, str]:
    if not form:
        status, _, body = await asyncio.to_thread(served.ask, path, Accept="text/html")
        return status, body.decode()
    body = urlencode({"token": served.form_token, **form}).encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _, text = await asyncio.to_thread(served.ask, path, "POST", body, **kind)
    return status, text.decode()


async def test_the_session_page_its_json_and_the_room_s_form_tell_of_each_source(tmp_path: Path) -> None:
    """Three minutes are missing of one camera, in two of them nothing was recorded at all."""
    asked: list[dict[str, str]] = []

    async def entered(said: dict[str, str]) -> dict[str, object]:
        asked.append(said)
        return {}

    async with standing(tmp_path, verbs={"activity_explain": entered}) as served:
        await recorded(served)
        view = json.loads((await ask(served, "/api/v1/sessions/s1"))[1])
        (activity,) = view["activities"]
        assert [(one["source"], one["title"]) for one in activity["gaps"]] == [("", ""), ("face", "正面摄像机")]
        own = activity["gaps"][1]
        assert (own["causes"][0]["name"], own["proposed"]) == ("stalled", "INT-12")
        assert own["shown"]["en"] == "another source shows a part of this time"
        told = {line["source"]: [gap["number"] for gap in line["gaps"]] for line in view["ledger"] if line["gaps"]}
        assert told == {"face": [1, 2], "wide": [1]}
        _, form = await ask(served, "/sessions/s1/gaps")
        assert '<input type="hidden" name="device" value="room:xunwen:face">' in form
        assert "正面摄像机 · 中断未说明" in form
        said = {"activity": "s1", "from": own["from"], "to": own["to"], "code": "INT-12", "why": "断电"}
        assert (await ask(served, "/sessions/s1/gaps", **said))[0] == 409, "all sources have no such gap"
        assert (await ask(served, "/sessions/s1/gaps", **said, device=own["device_id"]))[0] == 303
        assert asked[0]["device"] == "room:xunwen:face"
        assert (await ask(served, "/sessions/s1"))[0] == 200


async def test_the_pages_of_a_session_tell_that_a_recording_of_an_unknown_time_may_lie_in_a_gap(tmp_path: Path) -> None:
    async with standing(tmp_path) as served:
        await recorded(served)
        lost = taken(served, "lost", 4, NOW - MINUTE, NOW)
        unclear = replace(lost.recording, captured_earliest=None, clock_trust=ClockTrust.UNTRUSTED)
        stated = served.journal.reader.activity("s1").stated
        told = replace(stated, recordings=(*stated.recordings, "rec-lost"))
        ended = SessionEnded("s1", NOW, "李四", "问完", "stopped")
        await served.journal.record(replace(lost, recording=unclear), told, ended)
        for page in ("/sessions/s1", "/sessions/s1/gaps", "/recordings/rec-face1"):
            _, text = await ask(served, page)
            assert "可能有时间待核的音像记录" in text, page
        assert "face · 其中部分时段另一路信号有录制" in text, "and of which source it is"


async def test_unexplained_gaps_of_a_source_count_on_the_status_page_once_its_session_has_ended(tmp_path: Path) -> None:
    async with serve(tmp_path, '[deadline]\nprofile = "nanchang"\n', rooms=ROOMS) as served:
        face, wide = (
            taken(served, one, 1, BEGAN, BEGAN + end * MINUTE, one) for one, end in (("face", 10), ("wide", 8))
        )
        joined = ActivityStated("s1", "S05", BEGAN, NOW, ("rec-face", "rec-wide"), "张三", "询问")
        await served.journal.record(started(), face, wide, joined)
        assert await open_activities(served) == []
        await served.journal.record(SessionEnded("s1", NOW, "李四", "问完", "stopped"))
        served.world.version += 1
        async with asyncio.timeout(LIMIT_S):
            while not (rows := await open_activities(served)):
                await asyncio.sleep(0.1)
        assert [(one["unexplained"], one["red_flag"]) for one in rows] == [(1, False)]


async def open_activities(served: Served) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((await ask(served, "/api/v1/status"))[1])["activities"]["rows"]
    return rows
