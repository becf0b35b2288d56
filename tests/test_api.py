"""Promise: a program that asks the API gets what it asked for, once, and never more than it can take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.deadline import Verdict
from agent.model import DockingClosed, DockingListed, Incident, Phase
from agent.screens import stream
from agent.screens.stream import Feed
from agent.screens.who import Role
from agent.status.explain import verdict_of
from tests.journal_entries import acquired, confirmed, opened
from tests.status_station import NOW, Served, footage, serve, slot


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path) as station:
        yield station


async def get(served: Served, path: str) -> dict[str, Any]:
    return await asyncio.to_thread(served.get, path)


async def names(served: Served, query: str) -> list[str]:
    return [row["asset_id"] for row in (await get(served, f"/api/v1/recordings?{query}"))["recordings"]]


async def docked(served: Served) -> None:
    """Six recordings from three days ago to now, of all fates."""
    days = (0, 0, 4, 5, 1, 6)
    made = [footage(served.config, name, n, NOW - timedelta(days=days[n])) for n, name in enumerate("abcdef")]
    await served.journal.record(opened(), *made, DockingListed("d1", 6, "ab" * 32))
    await served.journal.record(*(acquired(name, n) for n, name in enumerate("abcdef") if name not in "cf"))
    await served.journal.record(confirmed("b"), confirmed("d"), DockingClosed("d1", "unplugged"))


# Recordings.


async def test_recordings_are_filtered_and_sorted_as_asked(served: Served) -> None:
    await docked(served)
    assert await names(served, "") == list("fedcba")
    assert await names(served, "sort=captured") == ["b", "a", "e", "c", "d", "f"]
    assert (await names(served, "sort=deadline&completeness=incomplete"))[:3] == ["f", "d", "c"]
    assert await names(served, "state=held&sort=newest") == ["e", "a"]
    assert await names(served, "from=2026-11-18&to=2026-11-19") == ["d", "c"]
    assert await names(served, "id=rec-c") == ["c"]
    assert await names(served, "device=device&state=stored") == ["d", "b"]
    assert await names(served, "device=nobody") == []


async def test_each_verdict_finds_those_of_which_it_may_be_said_and_all_of_them_together_are_all(
    served: Served,
) -> None:
    await docked(served)
    rows = served.journal.reader.recordings()
    by = served.config.deadline.satisfied_by
    for verdict in Verdict:
        said = {row.asset.asset_id for row in rows if verdict_of(row, by, NOW) is verdict}
        assert set(await names(served, f"verdict={verdict}")) == said, verdict
        assert set(await names(served, f"verdict={verdict}&sort=size")) == said, verdict
    found = [await names(served, f"verdict={verdict}") for verdict in Verdict]
    assert sum(map(len, found)) == len(rows)
    assert sum(map(bool, found)) >= 3, "the rows differ"


async def test_recorders_that_were_docked_have_the_id_that_recordings_are_filtered_by(served: Served) -> None:
    await docked(served)
    devices = await get(served, "/api/v1/devices")
    assert [one["device_id"] for one in devices["docked"]] == ["device"]
    assert devices["recorders"] == []


async def test_of_one_recording_everything_is_told_but_not_to_it_since_it_names_persons(served: Served) -> None:
    await docked(served)
    told = await get(served, "/api/v1/recordings/rec-b")
    assert (told["recording"]["asset_id"], told["record"]["recording_id"]) == ("b", "rec-b")
    assert told["deadline"]["verdict"]["name"] == told["recording"]["verdict"]["name"]
    kinds = [event["kind"] for event in told["custody"]]
    assert [kind for kind in kinds if kind in ("clip_seen", "acquired", "confirmed")] == [
        "clip_seen",
        "acquired",
        "confirmed",
    ]
    assert all(len(event["hash"]) == 64 for event in told["custody"])
    for path, status in (("/api/v1/recordings/rec-b", 403), ("/api/v1/recordings", 200)):
        found, _, _ = await asyncio.to_thread(served.signed_in(Role.IT).ask, path)
        assert found == status
    found, _, body = await asyncio.to_thread(served.ask, "/api/v1/recordings/nobody")
    assert (found, b"There is no recording" in body) == (404, True)


# Conditional requests.


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/recordings", "/api/v1/devices", "/healthz", "/readyz"])
async def test_who_has_the_answer_already_gets_no_body_again(served: Served, path: str) -> None:
    await docked(served)
    _, headers, body = await asyncio.to_thread(served.ask, path)
    for known in (headers["etag"], f'"other", W/{headers["etag"]}', "*"):
        status, again, nothing = await asyncio.to_thread(served.ask, path, If_None_Match=known)
        assert (status, nothing, again["etag"]) == (304, b"", headers["etag"])
    status, _, same = await asyncio.to_thread(served.ask, path, If_None_Match='"other"')
    assert (status, same) == (200, body)


async def test_another_state_has_another_tag(served: Served) -> None:
    tags = set()
    for change in (Incident("a"), Incident("b"), Incident("c")):
        await served.journal.record(change)
        served.board._answer = None
        _, headers, _ = await asyncio.to_thread(served.ask, "/api/v1/status")
        tags.add(headers["etag"])
    assert len(tags) == 3


# Readiness.


@pytest.mark.parametrize(("lacks", "ready"), [({}, True), ({"writes": False}, False), ({"moves": False}, False)])
async def test_a_station_is_ready_while_its_journal_and_its_lanes_work(
    served: Served, lacks: dict[str, bool], ready: bool
) -> None:
    served.world.live = replace(served.world.live, store_error="no route", **lacks)
    status, _, body = await asyncio.to_thread(served.ask, "/readyz")
    told = json.loads(body)
    assert (status, told["ready"], told["store"]) == (200 if ready else 503, ready, False)
    assert (told["journal"], told["lanes"]) == (lacks.get("writes", True), lacks.get("moves", True))


# Events: one reading for all.


async def follow(feed: Feed, after: int | None, until: str, **options: bool) -> bytes:
    """What a follower gets until a text comes."""
    got = b""
    async with asyncio.timeout(20):
        async for frame in feed.follow(after, **options):
            got += frame
            if until.encode() in got:
                break
    return got


async def test_many_followers_share_one_reading_and_one_encoding(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty who follow ask the journal no oftener than one does."""
    feed, asked, made = Feed(served.board), [], []
    events, frame = served.board.events, stream._frame

    async def counted(after: int, limit: int) -> list[dict[str, Any]]:
        asked.append(after)
        return await events(after, limit)

    monkeypatch.setattr(served.board, "events", counted)
    monkeypatch.setattr(stream, "_frame", lambda *told: made.append(told) or frame(*told))
    tasks = [asyncio.create_task(follow(feed, None, '"seq": 3,')) for _ in range(50)]
    while feed._followers < 50 or feed._reading is None:
        await asyncio.sleep(0.01)
    await served.journal.record(*(Incident("test", {"n": n}) for n in range(3)))
    got = await asyncio.gather(*tasks)
    assert [text.count(b"event: journal") for text in got] == [3] * 50
    assert (len(asked), len(made)) == (1, 3)


async def test_who_comes_from_far_behind_misses_nothing_and_gets_nothing_twice(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From before what is kept, from within it, and from its end; while the journal goes on."""
    monkeypatch.setattr(stream, "_KEPT", 20)
    monkeypatch.setattr(stream, "_BATCH", 7)
    feed = Feed(served.board)
    first = asyncio.create_task(follow(feed, None, '"seq": 100,'))
    while feed._reading is None:
        await asyncio.sleep(0.01)
    others = []
    for wave in range(4):
        await served.journal.record(*(Incident("test", {"n": n}) for n in range(25)))
        others += [(after, asyncio.create_task(follow(feed, after, '"seq": 100,'))) for after in (0, 11, 25 * wave)]
    for after, task in [(0, first), *others]:
        ids = [int(line[4:]) for line in (await task).split(b"\n") if line.startswith(b"id: ")]
        assert ids == list(range(after + 1, 101))


async def test_who_may_see_no_recording_gets_slots_alone(served: Served) -> None:
    feed = Feed(served.board)
    served.world.show(slot(Phase.READING))
    task = asyncio.create_task(follow(feed, 0, "校验中", only_slots=True))
    await served.journal.record(Incident("secret"))
    await asyncio.sleep(0)
    served.world.show(slot(Phase.VERIFYING))
    got = await task
    assert b"event: slots" in got
    assert b"journal" not in got


@pytest.mark.parametrize("role", [None, Role.OFFICER, Role.SUPERVISOR, Role.IT])
async def test_the_kiosk_and_officers_follow_slots_and_others_the_journal_too(
    served: Served, role: Role | None
) -> None:
    who = served.signed_in(role) if role else replace(served, cookie="")
    headers = who.headers | {"Last-Event-ID": "0"}
    await served.journal.record(Incident("secret"))
    url = f"http://127.0.0.1:{served.port}/api/v1/events"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer, asyncio.timeout(20):
        got = b""
        while b"event: slots" not in got:
            got += await answer.content.readany()
    assert (b"event: journal" in got) == (role in (Role.SUPERVISOR, Role.IT))


async def test_the_reading_ends_with_the_last_follower_and_begins_with_the_next(served: Served) -> None:
    feed = Feed(served.board)
    for _ in range(2):
        assert b"slots" in await follow(feed, None, "slots")
        async with asyncio.timeout(10):
            while feed._reading is not None:
                await asyncio.sleep(0.05)
