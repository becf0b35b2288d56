"""`capture-agent camera`: find the ONVIF cameras of this network, and what one says before it is configured."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final
from urllib.parse import urlsplit

from agent.errors import RequestError
from agent.model import Clock
from agent.rooms.onvif import Camera, discover
from agent.verbs.base import Add, Exit, Fields, group, json_option, show

_LONGEST_S: Final = 60.0
_ROUNDS: Final = 6
_PASSWORD_LIMIT: Final = 1024


def add_camera(add: Add, clock: Clock) -> None:
    """`capture-agent camera` and its verbs."""
    own = group(add, clock, "camera", "find ONVIF cameras, and ask one for stream and clock")
    found = own("find", _find, "which ONVIF cameras answer in this network; exit code 4 if none does")
    found.add_argument("--seconds", type=float, default=3.0, help="how long to wait: up to 60, default 3")
    asked = own("ask", _ask, "what a camera says of itself; changes nothing there")
    asked.add_argument("address", metavar="HOST[:PORT]", help="the camera, as camera find tells it")
    asked.add_argument("--user", default="", help="a user of the camera; its password is asked for")
    for verb in (found, asked):
        json_option(verb)


def _find(options: argparse.Namespace, _clock: Clock) -> int:
    found = asyncio.run(discover(min(max(options.seconds, 0.1), _LONGEST_S)))
    lines = [f"onvif://{one.host}:{one.port}  {one.name}  {one.hardware}".rstrip() for one in found]
    show(options, {"cameras": [asdict(one) for one in found]}, lines or ["no camera answered"])
    return Exit.OK if found else Exit.DEVICE


def _ask(options: argparse.Namespace, clock: Clock) -> int:
    try:
        parts = urlsplit(f"//{options.address}")
        host, port = "" if parts.path else parts.hostname or "", parts.port or 80
    except ValueError:
        host, port = "", 0
    if not host:
        raise RequestError("That is no HOST or HOST:PORT.", safe="Nothing was asked.", do="Write it like 10.1.2.3:80.")
    password = _password() if options.user else ""
    told = asyncio.run(_asked(Camera(host, port, options.user, password, clock)))
    return show(options, told, _lines(told))


def _password() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("password: ")
    return sys.stdin.readline(_PASSWORD_LIMIT).rstrip("\r\n")


async def _asked(asked: Camera) -> Fields:
    async with asked as camera:
        reading = await camera.compare(_ROUNDS)
        identity, profiles = await camera.identify(), await camera.profiles()
        stream = await camera.stream_address()
    ahead = {"ahead_s": reading.offset_us / 1e6, "uncertainty_s": reading.uncertainty_us / 1e6}
    return {"camera": asdict(identity), "clock": ahead, "profiles": [asdict(one) for one in profiles], "stream": stream}


def _lines(told: Fields) -> Iterator[str]:
    yield " ".join(word for word in told["camera"].values() if word)
    yield f"clock: {told['clock']['ahead_s']:+.3f} s from ours, give or take {told['clock']['uncertainty_s']:.3f} s"
    for one in told["profiles"]:
        yield f"profile {one['token']}: {one['encoding']} {one['width']}x{one['height']}"
    yield f"records: {told['stream']}"
