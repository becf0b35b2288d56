"""What an ONVIF camera is asked: its clock, what it is, where its stream is, and for a key frame; nothing is set."""

from __future__ import annotations

import asyncio
import re
import socket
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from xml.sax.saxutils import escape

from yarl import URL

from agent.errors import RoomError
from agent.model import Clock
from agent.rooms.onvif.soap import FaultError, Talk, malformed, text
from agent.rooms.protocol import Cause

DEVICE: Final = "http://www.onvif.org/ver10/device/wsdl"
MEDIA: Final = "http://www.onvif.org/ver10/media/wsdl"
MEDIA2: Final = "http://www.onvif.org/ver20/media/wsdl"
EVENTS: Final = "http://www.onvif.org/ver10/events/wsdl"
_SCHEMA: Final = "http://www.onvif.org/ver10/schema"
_DEVICE_PATH: Final = "/onvif/device_service"
_RECORDABLE: Final = frozenset({"H264", "H265", "HEVC"})
_LONGEST_URL: Final = 1024
_URI: Final = re.compile(r"[!-z~]+")
"""Without braces: in rooms.toml they stand for user and password, which no camera may ask for."""
_PROFILES: Final = 512


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The camera's clock is `offset_us` ahead of this station's (behind if negative), give or take `uncertainty_us`.

    `at`: when this station's clock was compared.
    """

    offset_us: int
    uncertainty_us: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """What the camera says it is (GetDeviceInformation)."""

    manufacturer: str
    model: str
    firmware: str
    serial: str
    hardware: str


@dataclass(frozen=True, slots=True)
class Profile:
    """A stream that the camera offers; `encoding` as it names it, 0 x 0 if it doesn't say."""

    token: str
    encoding: str
    width: int
    height: int


class Camera:
    """One camera for as long as it is asked things; see Talk for how it learns who asks.

    `clock` is this station's. All calls raise RoomError, in words and with a cause for the ledger.
    """

    def __init__(self, host: str, port: int, user: str, password: str, clock: Clock) -> None:
        self.talk = Talk(host, port, user, password, clock)
        self._clock = clock
        self._services: dict[str, URL] = {}
        self._compared = False

    async def __aenter__(self) -> Self:
        await self.talk.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.talk.__aexit__(*raised)

    async def compare(self, rounds: int = 1) -> ClockReading:
        """Read the camera's clock (GetSystemDateAndTime, which needs no user) and how far it is ahead.

        It says whole seconds only. Each further round asks when its second must have turned if the best guess is true,
        and halves what is uncertain, down to half the way there and back; a round takes up to a second.
        """
        low, high = await self._bounds()
        for _ in range(rounds - 1):
            middle = low + (high - low) / 2
            there = self._clock() + middle
            await asyncio.sleep((1_000_000 - there.microsecond) / 1e6)
            next_low, next_high = await self._bounds()
            low, high = max(low, next_low), min(high, next_high)
            if low > high:  # one of the clocks was set while they were compared
                low, high = next_low, next_high
        self.talk.ahead, self._compared = low + (high - low) / 2, True
        microsecond = timedelta(microseconds=1)
        return ClockReading(self.talk.ahead // microsecond, (high - low) // (2 * microsecond), self._clock())

    async def _bounds(self) -> tuple[timedelta, timedelta]:
        asked = self._clock()
        answer = await self.talk.ask(_DEVICE_PATH, DEVICE, "GetSystemDateAndTime")
        now, there = self._clock(), _utc(answer)
        return there - now, there + timedelta(seconds=1) - min(asked, now)

    async def identify(self) -> Identity:
        """Maker, model, firmware, serial number."""
        answer = await self._ask(DEVICE, "GetDeviceInformation")
        names = "Manufacturer", "Model", "FirmwareVersion", "SerialNumber", "HardwareId"
        return Identity(*(text(answer, f"{{*}}{name}") for name in names))

    async def profiles(self) -> tuple[Profile, ...]:
        """What it can stream, in its own order; asked by Media2 where there is one, since Media1 can't name H.265."""
        media2 = await self._asks_media2()
        try:
            wanted = "<Type>VideoEncoder</Type>" if media2 else ""
            answer = await self._ask(MEDIA2 if media2 else MEDIA, "GetProfiles", wanted)
        except FaultError:
            if not media2 or MEDIA not in self._services:
                raise
            del self._services[MEDIA2]  # some name it and don't have it
            return await self.profiles()
        found = [profile for item in answer.iterfind("{*}Profiles") if (profile := _profile(item))]
        if not found:
            raise malformed("no profile that has video")
        return tuple(found[:_PROFILES])

    async def stream_address(self, profile: str = "") -> str:
        """Where the stream of a profile (the largest picture if none is named) is: rtsp://, without user and password.

        Raises RoomError if that is on another host than the camera: who asks for it would give it the password.
        """
        token = await self._chosen(profile)
        if await self._asks_media2():
            said = f"<Protocol>RTSP</Protocol><ProfileToken>{escape(token)}</ProfileToken>"
            address = text(await self._ask(MEDIA2, "GetStreamUri", said), "{*}Uri", _LONGEST_URL)
        else:
            setup = f'<Stream xmlns="{_SCHEMA}">RTP-Unicast</Stream>'
            setup += f'<Transport xmlns="{_SCHEMA}"><Protocol>RTSP</Protocol></Transport>'
            said = f"<StreamSetup>{setup}</StreamSetup><ProfileToken>{escape(token)}</ProfileToken>"
            address = text(await self._ask(MEDIA, "GetStreamUri", said), "{*}MediaUri/{*}Uri", _LONGEST_URL)
        return await self._own(address)

    async def synchronize(self, profile: str = "") -> None:
        """Ask for a key frame now (SetSynchronizationPoint), so that a new segment need not wait for one."""
        token = await self._chosen(profile)
        service = MEDIA2 if await self._asks_media2() else MEDIA
        await self._ask(service, "SetSynchronizationPoint", f"<ProfileToken>{escape(token)}</ProfileToken>")

    async def where(self, service: str) -> URL:
        """Where a service is, by its namespace; raises RoomError if the camera has none of it."""
        if not self._services:
            await self._learn()
        if service not in self._services:
            do = "Choose another camera, or write its rtsp:// address into rooms.toml."
            raise RoomError("The camera lacks an ONVIF service that is needed.", cause=Cause.REFUSED, do=do)
        return self._services[service]

    async def has(self, service: str) -> bool:
        """Whether the camera has a service, by its namespace."""
        await self.where(DEVICE)
        return service in self._services

    async def _learn(self) -> None:
        if not self._compared:
            await self.compare()
        try:
            said = "<IncludeCapability>false</IncludeCapability>"
            answer = await self.talk.ask(_DEVICE_PATH, DEVICE, "GetServices", said)
            pairs = [(text(one, "{*}Namespace"), text(one, "{*}XAddr")) for one in answer.iterfind("{*}Service")]
        except FaultError:  # before ONVIF 2.1 there is none
            said = "<Category>All</Category>"
            answer = await self.talk.ask(_DEVICE_PATH, DEVICE, "GetCapabilities", said)
            names = (MEDIA, "Media"), (EVENTS, "Events")
            pairs = [(name, text(answer, f"{{*}}Capabilities/{{*}}{part}/{{*}}XAddr")) for name, part in names]
        self._services = {name: self.talk.path_of(address) for name, address in pairs[:100] if name and address}
        self._services[DEVICE] = self.talk.path_of(_DEVICE_PATH)

    async def _asks_media2(self) -> bool:
        return await self.has(MEDIA2)

    async def _chosen(self, profile: str) -> str:
        if profile:
            return profile
        best = max(await self.profiles(), key=lambda one: (one.encoding in _RECORDABLE, one.width * one.height))
        return best.token

    async def _ask(self, service: str, call: str, inner: str = "") -> ET.Element:
        return await self.talk.ask(await self.where(service), service, call, inner)

    async def _own(self, address: str) -> str:
        """`address` without user and password, if it is an RTSP address of this camera."""
        try:
            url = URL(address, encoded=True) if _URI.fullmatch(address) else URL()
            is_rtsp = url.scheme == "rtsp" and url.host and url.explicit_port != 0
        except (ValueError, IndexError) as error:  # yarl raises both
            raise malformed("a stream address that is none") from error
        if not is_rtsp:
            raise malformed("a stream address that is none")
        if url.host != self.talk.host and url.host not in await _addresses(self.talk.host):
            do = "If that is meant (a recorder, an address translation), write the rtsp:// address into rooms.toml."
            what = (
                "The camera says that its stream is on another host: it is not asked, as it would learn the password."
            )
            raise RoomError(what, cause=Cause.GARBAGE, do=do)
        return str(url.with_user(None))


def _utc(answer: ET.Element) -> datetime:
    """The second that a GetSystemDateAndTime answer tells."""
    path = "{*}SystemDateAndTime/{*}UTCDateTime"
    names = "Date/{*}Year", "Date/{*}Month", "Date/{*}Day", "Time/{*}Hour", "Time/{*}Minute", "Time/{*}Second"
    said = [text(answer, f"{path}/{{*}}{name}", 4) for name in names]
    if not all(number.isascii() and number.isdecimal() for number in said):
        raise malformed("a clock without universal time")
    year, month, day, hour, minute, second = map(int, said)
    if not 1900 < year < 9000:  # what can be reckoned with
        raise malformed("a time that is none")
    try:
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)  # 60 is a leap second
    except ValueError as error:
        raise malformed("a time that is none") from error


def _profile(item: ET.Element) -> Profile | None:
    """A profile of Media or Media2; None if it has no video."""
    token = item.get("token", "")
    for path in ("{*}VideoEncoderConfiguration", "{*}Configurations/{*}VideoEncoder"):
        video = item.find(path)
        if video is not None and 0 < len(token) <= 256 and token.isprintable():
            width, height = (text(video, f"{{*}}Resolution/{{*}}{side}", 5) for side in ("Width", "Height"))
            return Profile(token, text(video, "{*}Encoding", 40).upper(), _number(width), _number(height))
    return None


def _number(said: str) -> int:
    return int(said) if said.isascii() and said.isdecimal() else 0


async def _addresses(host: str) -> frozenset[str]:
    """The addresses that a name stands for; none if it is unknown."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(str(address[0]) for *_, address in found)
