"""What a camera notices by itself, asked for again and again: a pull point (ONVIF Core 9, WS-BaseNotification 1.3)."""

from __future__ import annotations

import asyncio
import contextlib
import xml.etree.ElementTree as ET
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Self
from xml.sax.saxutils import escape

from yarl import URL

from agent.errors import RoomError
from agent.model import Clock
from agent.rooms.onvif.camera import EVENTS, Camera
from agent.rooms.onvif.soap import Talk, malformed, text
from agent.rooms.protocol import Cause

_NOTIFICATION: Final = "http://docs.oasis-open.org/wsn/b-2"
_LIFE_S: Final = 120
"""How long a subscription outlives us: a camera has few of them."""
_RENEW_BEFORE_S: Final = 60.0
_PULL_S: Final = 5
"""Some cameras cut a question that stays open for ten seconds."""
_PACE_S: Final = 0.5
_LEAVE_S: Final = 2.0
_MESSAGES: Final = 64
_STATES_LIMIT: Final = 64
_REFERENCE_LIMIT: Final = 4096
_PAUSES_S: Final = (1.0, 5.0, 15.0, 60.0)
_LOCKED_S: Final = 900.0
"""The pause after a refused password: many cameras lock a user who is refused often."""


class Notices(StrEnum):
    """What a camera can notice, as far as anybody here wants to know."""

    TAMPER = "tamper"
    SIGNAL = "signal"
    MOTION = "motion"


_TOPICS: Final[Mapping[str, Notices]] = {
    "TamperDetector/Tamper": Notices.TAMPER,
    "VideoSource/GlobalSceneChange": Notices.TAMPER,
    "VideoSource/ImageTooBlurry": Notices.TAMPER,
    "VideoSource/ImageTooDark": Notices.TAMPER,
    "VideoSource/ImageTooBright": Notices.TAMPER,
    "VideoSource/SignalLoss": Notices.SIGNAL,
    "VideoSource/ConnectionFailed": Notices.SIGNAL,
    "CellMotionDetector/Motion": Notices.MOTION,
    "MotionRegionDetector/Motion": Notices.MOTION,
    "VideoSource/MotionAlarm": Notices.MOTION,
}
_STATES: Final[Mapping[str, bool]] = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Happening:
    """Something began (`on`) or ended; `at` is this station's time when it was heard.

    `topic`, `source` and `said_at` are the camera's words: what, seen by which of its parts, and when by its own clock.
    """

    what: Notices
    on: bool
    at: datetime
    topic: str
    source: str
    said_at: str


class Events:
    """Iterates over what the camera notices, for ever: subscribes anew whenever the camera refuses, forgets or is gone.

    A camera repeats at each subscription how things are; a Happening is a change of that alone. `trouble` says why
    nothing can be heard now, empty while it can; `is_able`: the camera has events, as far as is known.
    """

    def __init__(self, host: str, port: int, user: str, password: str, clock: Clock) -> None:
        self.trouble = ""
        self.is_able = True
        self._camera = host, port, user, password, clock
        self._clock = clock
        self._on: set[tuple[str, str]] = set()

    async def __aiter__(self) -> AsyncGenerator[Happening, None]:
        failures = 0
        while True:
            pause_s = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
            try:
                async with Camera(*self._camera) as camera:
                    self.is_able = await camera.has(EVENTS)
                    async with _subscribed(camera) as subscription:
                        while subscription.lives:
                            for told in self._changes(await subscription.pull()):
                                yield told
                            failures, self.trouble = 0, ""
            except RoomError as error:
                failures, self.trouble = failures + 1, str(error)
                pause_s = _LOCKED_S if error.cause == Cause.UNAUTHORISED else pause_s
            await asyncio.sleep(pause_s)

    def _changes(self, answer: ET.Element) -> Iterator[Happening]:
        for item in list(answer.iterfind("{*}NotificationMessage"))[:_MESSAGES]:
            told = _happening(item, self._clock())
            if told is not None and told.on != ((key := (told.topic, told.source)) in self._on):
                if told.on and len(self._on) >= _STATES_LIMIT:
                    continue
                (self._on.add if told.on else self._on.discard)(key)
                yield told


class _Subscription:
    """A pull point of a camera; `lives` until it would end and can't be renewed."""

    def __init__(self, talk: Talk, where: URL, headers: str, left_s: float) -> None:
        self.lives = True
        self._talk, self._where, self._headers = talk, where, headers
        self._renews = True
        self._ends_at = asyncio.get_running_loop().time() + left_s

    @classmethod
    async def made(cls, camera: Camera) -> Self:
        where = await camera.where(EVENTS)
        life = f"<InitialTerminationTime>PT{_LIFE_S}S</InitialTerminationTime>"
        action = f"{EVENTS}/EventPortType/CreatePullPointSubscriptionRequest"
        headers = f"<a:To>{escape(str(where))}</a:To><a:Action>{action}</a:Action>"
        call = EVENTS, "CreatePullPointSubscription", life
        answer = await camera.talk.ask(where, *call, action=action, headers=headers)
        reference = answer.find("{*}SubscriptionReference")
        address = text(reference, "{*}Address", 1024)
        if not address:
            raise malformed("a subscription without an address")
        parameters = reference.find("{*}ReferenceParameters") if reference is not None else None
        try:
            given = "".join(ET.tostring(item, "unicode") for item in parameters) if parameters is not None else ""
        except RecursionError as error:
            raise malformed("a subscription with a very deep name") from error
        if len(given) > _REFERENCE_LIMIT:
            raise malformed("a subscription with a very long name")
        return cls(camera.talk, camera.talk.path_of(address), f"<a:To>{escape(address)}</a:To>{given}", _left_s(answer))

    async def pull(self) -> ET.Element:
        """What was noticed since; waits for some seconds if it was nothing. Renews the subscription in time."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        said = f"<Timeout>PT{_PULL_S}S</Timeout><MessageLimit>{_MESSAGES}</MessageLimit>"
        answer = await self._ask(EVENTS, "PullMessages", "PullPointSubscription", said, _PULL_S)
        self._ends_at = max(self._ends_at, loop.time() + _left_s(answer, 0))
        if self._renews and self._ends_at < loop.time() + _RENEW_BEFORE_S:
            try:
                life = f"<TerminationTime>PT{_LIFE_S}S</TerminationTime>"
                renewed = await self._ask(_NOTIFICATION, "Renew", "SubscriptionManager", life)
                self._ends_at = loop.time() + _left_s(renewed)
            except RoomError:  # some cameras know no renewal; a new subscription does as well
                self._renews = False
        self.lives = self._ends_at > loop.time() + 2 * _PULL_S
        await asyncio.sleep(asked_at + _PACE_S - loop.time())
        return answer

    async def leave(self) -> None:
        """Give the subscription back, if the camera still listens."""
        with contextlib.suppress(RoomError, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._ask(_NOTIFICATION, "Unsubscribe", "SubscriptionManager")

    async def _ask(self, service: str, call: str, port: str, inner: str = "", patience_s: float = 0.0) -> ET.Element:
        action = f"{service.replace('/b-2', '/bw-2')}/{port}/{call}Request"
        headers = f"{self._headers}<a:Action>{action}</a:Action>"
        asked = self._where, service, call, inner
        return await self._talk.ask(*asked, action=action, headers=headers, patience_s=patience_s)


@contextlib.asynccontextmanager
async def _subscribed(camera: Camera) -> AsyncIterator[_Subscription]:
    subscription = await _Subscription.made(camera)
    try:
        yield subscription
    finally:
        await subscription.leave()


def _left_s(answer: ET.Element, unknown_s: float = _LIFE_S) -> float:
    """How long a subscription lasts by an answer, whatever the camera's clock is; `unknown_s` if it doesn't tell."""
    try:
        now, end = (datetime.fromisoformat(text(answer, f"{{*}}{name}")) for name in ("CurrentTime", "TerminationTime"))
        return min(max(0.0, (end - now).total_seconds()), 3600.0)
    except (ValueError, TypeError):
        return unknown_s


def _happening(item: ET.Element, now: datetime) -> Happening | None:
    """What a message tells; None if it is of no interest, or tells no state."""
    topic = "/".join(part.rpartition(":")[2] for part in text(item, "{*}Topic").split("/"))
    what = next((what for key, what in _TOPICS.items() if f"/{key}/" in f"/{topic}/"), None)
    message = item.find("{*}Message/{*}Message")
    if what is None or message is None:
        return None
    states = [one.get("Value", "").lower() for one in message.iterfind("{*}Data/{*}SimpleItem")]
    on = next((_STATES[state] for state in states if state in _STATES), None)
    if message.get("PropertyOperation") == "Deleted":
        on = False
    sources = [f"{one.get('Name', '')}={one.get('Value', '')}" for one in message.iterfind("{*}Source/{*}SimpleItem")]
    source, said_at = ", ".join(sources)[:256], message.get("UtcTime", "")[:40]
    if on is None or not (source + said_at).isprintable():
        return None
    return Happening(what, on, now, topic, source, said_at)
