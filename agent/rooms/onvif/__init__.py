"""ONVIF cameras (profiles S and T): found, asked for stream and clock, listened to, never configured (ADR 0054).

`user` and `password` may be empty where a camera asks for none; every call raises RoomError in words.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from agent.model import Clock
from agent.rooms.onvif.camera import Camera, ClockReading, Identity
from agent.rooms.onvif.discovery import Found, discover
from agent.rooms.onvif.events import Events, Happening, Notices

__all__ = [
    "Camera", "ClockReading", "Events", "Found", "Happening", "Identity", "Notices", "clock_offset", "discover",
    "identify", "stream_address", "synchronize",
]  # fmt: skip

_ROUNDS: Final = 6


def _present() -> datetime:
    return datetime.now(UTC)


async def stream_address(
    host: str, port: int, user: str, password: str, profile: str = "", *, clock: Clock = _present
) -> str:
    """The rtsp:// address, without user and password, of a profile; of the one with the largest picture without one."""
    async with Camera(host, port, user, password, clock) as camera:
        return await camera.stream_address(profile)


async def clock_offset(host: str, port: int, user: str, password: str, *, clock: Clock = _present) -> ClockReading:
    """How far the camera's clock is ahead of this station's; takes some seconds, since it tells whole seconds only.

    By ONVIF that needs no user; some cameras want one nevertheless.
    """
    async with Camera(host, port, user, password, clock) as camera:
        return await camera.compare(_ROUNDS)


async def identify(host: str, port: int, user: str, password: str, *, clock: Clock = _present) -> Identity:
    """What the camera says it is."""
    async with Camera(host, port, user, password, clock) as camera:
        return await camera.identify()


async def synchronize(
    host: str, port: int, user: str, password: str, profile: str = "", *, clock: Clock = _present
) -> None:
    """Have the camera send a key frame now."""
    async with Camera(host, port, user, password, clock) as camera:
        await camera.synchronize(profile)
