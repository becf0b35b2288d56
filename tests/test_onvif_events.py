"""What a camera notices is told once, whatever it does with its subscriptions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import RoomError
from agent.rooms.onvif import Events, Happening, Notices
from agent.rooms.onvif import events as events_module
from agent.rooms.onvif.soap import parsed
from simulator.stores.processes import HOST
from tests.conftest import SettableClock
from tests.onvif_cameras import (
    PASSWORD,
    USER,
    Puppet,
    Reply,
    envelope,
    fault,
    nothing_noticed,
    noticed,
    puppet,
    reply,
    subscribed,
)

TAMPER = "tns1:RuleEngine/TamperDetector/Tamper"
LOSS = "tns1:VideoSource/SignalLoss"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_PACE_S", 0.01)
    monkeypatch.setattr(events_module, "_PAUSES_S", (0.01, 0.02))
    monkeypatch.setattr(events_module, "_LOCKED_S", 0.02)


def present() -> datetime:
    return datetime.now(UTC)


def told_in_turn(*answers: Reply, then: Reply = "") -> Reply:
    left: Iterator[Reply] = iter(answers)

    async def answer(request: web.Request) -> web.StreamResponse:
        made = next(left, then or nothing_noticed())
        if callable(made):
            return await made(request)
        return reply(made) if isinstance(made, str | bytes) else made

    return answer


async def heard(camera: Puppet, count: int, *, asked: str = "", times: int = 0) -> list[Happening]:
    """The first `count` happenings, and go on until the camera was asked so often."""
    events, found = Events(HOST, camera.port, USER, PASSWORD, present), list[Happening]()

    async def listen() -> None:
        async with contextlib.aclosing(aiter(events)) as told:
            async for happening in told:
                found.append(happening)

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(60):
        while len(found) < count or camera.asked.count(asked) < times:
            assert not listening.done()
            await asyncio.sleep(0.01)
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening
    return found


def short(found: list[Happening]) -> list[tuple[Notices, bool]]:
    return [(one.what, one.on) for one in found]


def usual(camera: Puppet, **more: Reply) -> None:
    camera.replies |= {"CreatePullPointSubscription": subscribed(f"http://{HOST}:{camera.port}/sub?Idx=6")} | more


async def test_what_begins_and_what_ends_is_told_once_and_the_subscription_given_back() -> None:
    async with puppet(wants="token") as camera:
        pulls = told_in_turn(
            noticed(TAMPER, "false", operation="Initialized"), noticed(TAMPER, "true"), nothing_noticed(),
            noticed(TAMPER, "1"), noticed("tns1:Device/Trigger/Relay", "true"), noticed(LOSS, "true", source="b"),
            noticed(TAMPER, "0"), noticed(LOSS, "", source="b", operation="Deleted"),
        )  # fmt: skip
        usual(camera, PullMessages=pulls)
        found = await heard(camera, 4)
        assert short(found) == [
            (Notices.TAMPER, True), (Notices.SIGNAL, True), (Notices.TAMPER, False), (Notices.SIGNAL, False),
        ]  # fmt: skip
        assert found[0].topic == "RuleEngine/TamperDetector/Tamper"
        assert (found[0].source, found[0].said_at) == ("VideoSource=000", "2014-12-24T19:14:37Z")
        assert camera.asked[-1] == "Unsubscribe"
        assert camera.paths[-1] == "/sub?Idx=6"


async def test_the_camera_starts_anew_and_has_forgotten_us() -> None:
    async with puppet() as camera:
        gone = reply(fault("Sender", "ResourceUnknownFault"), 400)
        pulls = told_in_turn(noticed(TAMPER, "true"), gone, noticed(TAMPER, "true"), noticed(TAMPER, "false"))
        usual(camera, PullMessages=pulls)
        assert short(await heard(camera, 2)) == [(Notices.TAMPER, True), (Notices.TAMPER, False)]
        assert camera.asked.count("CreatePullPointSubscription") == 2


async def test_the_connection_breaks_again_and_again() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with puppet() as camera:
        usual(camera, PullMessages=told_in_turn(cut, cut, noticed(LOSS, "true"), cut, noticed(LOSS, "false")))
        assert short(await heard(camera, 2)) == [(Notices.SIGNAL, True), (Notices.SIGNAL, False)]


@pytest.mark.parametrize("answer", [fault("Sender", "InvalidArgVal"), "”no XML”", envelope("<x/>")])
async def test_a_camera_that_knows_no_renewal_is_asked_for_a_new_subscription(answer: str) -> None:
    async with puppet() as camera:
        usual(
            camera,
            CreatePullPointSubscription=subscribed(f"http://{HOST}:{camera.port}/sub", seconds=5),
            PullMessages=told_in_turn(noticed(LOSS, "true", seconds=5), then=nothing_noticed(seconds=5)),
            Renew=answer,
        )
        found = await heard(camera, 1, asked="CreatePullPointSubscription", times=3)
        assert short(found) == [(Notices.SIGNAL, True)]


async def test_a_subscription_is_renewed_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_RENEW_BEFORE_S", 300)
    async with puppet() as camera:
        usual(camera)
        camera.replies["PullMessages"] = nothing_noticed()
        await heard(camera, 0, asked="Renew", times=3)
        assert camera.asked.count("CreatePullPointSubscription") == 1


async def test_the_name_that_a_camera_gives_a_subscription_goes_with_each_question() -> None:
    async with puppet() as camera:
        name = '<dom0:SubscriptionId xmlns:dom0="http://www.axis.com/2009/event">7&amp;</dom0:SubscriptionId>'
        usual(
            camera,
            CreatePullPointSubscription=subscribed("http://192.0.2.9:81/event", parameters=name),
            PullMessages=noticed(LOSS, "true"),
        )
        await heard(camera, 1)
        assert camera.paths[-1] == "/event", "of the camera itself, whatever it says"
        assert "SubscriptionId" in camera.bodies[-1]
        assert ">7&amp;<" in camera.bodies[-1]
        assert "<a:To>http://192.0.2.9:81/event</a:To>" in camera.bodies[-1]


@pytest.mark.parametrize(
    "answer",
    [
        subscribed(""), subscribed("http://[/"), subscribed("x", parameters="<y>" + "z" * 5000 + "</y>"),
        subscribed("x", parameters="<y>" * 5000 + "</y>" * 5000),
        fault("Receiver", "MaxNumberOfSubscriptions"), envelope("<x/>"), "",
    ],
)  # fmt: skip
async def test_a_camera_without_a_pull_point_is_asked_later(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with puppet() as camera:
        camera.replies["CreatePullPointSubscription"] = answer
        events = Events(HOST, camera.port, USER, PASSWORD, present)
        listening = asyncio.create_task(anext(aiter(events)))  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            while camera.asked.count("CreatePullPointSubscription") < 3:
                await asyncio.sleep(0.01)
        assert events.trouble
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def test_a_refused_password_is_not_tried_until_the_camera_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_LOCKED_S", 3600)
    async with puppet(wants="token") as camera:
        listening = asyncio.create_task(anext(aiter(Events(HOST, camera.port, USER, "wrong", present))))  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            while len(camera.refused) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert len(camera.refused) == 2
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def test_a_flood_of_things_is_bounded(clock: SettableClock) -> None:
    events = Events(HOST, 80, USER, PASSWORD, clock)
    for source in range(200):
        for happening in events._changes(parsed(noticed(LOSS, "true", source=str(source)).encode())):
            assert happening.at == clock()
    assert len(events._on) <= 64


WORDS = st.sampled_from(["true", "false", "1", "TRUE", "", "\x0b", "&lt;", "é" * 300, TAMPER, LOSS, "a:b/c:d"])


@given(WORDS, WORDS, WORDS, WORDS)
def test_any_message_is_a_happening_or_nothing(topic: str, state: str, source: str, operation: str) -> None:
    content = noticed(topic, state, source=source, operation=operation)
    with contextlib.suppress(RoomError):  # what XML can't say
        item = parsed(content.encode()).find("{*}NotificationMessage")
        assert item is not None
        told = events_module._happening(item, present())
        assert told is None or (told.what in Notices and len(told.source) <= 256)
