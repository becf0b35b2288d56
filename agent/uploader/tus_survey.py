"""Finds out with a probe what a collecting service that speaks tus does, for the person who sets it up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from hashlib import sha256
from typing import Final

from blake3 import blake3

from agent.errors import StoreError
from agent.model import Clock, Digests
from agent.uploader.base import Trait
from agent.uploader.layout import PROBES
from agent.uploader.tus_protocol import GUIDE, VERSION, TusServer

_PROBE_BYTES: Final = 8 << 20
_SLICE_BYTES: Final = 512 << 10
_CLOCK_LIMIT_S: Final = 60


async def survey(server: TusServer, limit_bytes: int, clock: Clock) -> Sequence[Trait]:
    """What the service at an endpoint can do; raises StoreError if it can't be reached."""
    offer = await server.offer()
    most = "any size" if offer.max_bytes is None else f"at most {offer.max_bytes} bytes"
    traits = [
        Trait("protocol", good=True, what=f"tus {VERSION} with {', '.join(sorted(offer.extensions))}; takes {most}."),
        _connection(server),
        _clock(offer.date, clock),
        Trait(
            "lock",
            good=None,
            what="tus has no lock: whether finished uploads can be removed there is up to the service.",
            do=f"Have it lock what it keeps; see {GUIDE}.",
        ),
    ]
    try:
        return [*traits, *await _tried(server, limit_bytes)]
    except StoreError as error:
        return [*traits, Trait("probe", good=False, what=error.what, do=error.do)]


async def _tried(server: TusServer, limit_bytes: int) -> Sequence[Trait]:
    content = os.urandom(_PROBE_BYTES)
    digests = Digests(blake3(content).hexdigest(), sha256(content).hexdigest())
    place, _ = await server.create(len(content), f"{PROBES}/{digests.blake3[:2]}/{digests.blake3}", digests)
    began_s = asyncio.get_running_loop().time()
    given = ""
    for offset in range(0, len(content), limit_bytes):
        piece = content[offset : offset + limit_bytes]
        given = await server.append(place, offset, len(piece), partial(_slices, piece), len(content))
    took_s = asyncio.get_running_loop().time() - began_s
    speed = f"{len(content) / took_s / 1e6:.1f} MB/s for {len(content)} bytes, finishing included."
    found = await server.progress(place)
    if found is None or not found.is_whole(len(content)):
        return [Trait("probe", good=False, what="A finished upload is not there afterwards.", do=f"See {GUIDE}.")]
    given = given or found.sha256
    back = await server.read_back(place)
    traits = [_digest(given, digests), _reading(given, back, (len(content), digests)), Trait("speed", None, speed)]
    # Only what proved to be our probe: an address that the server made up could be that of evidence.
    if given == digests.sha256 or back == (len(content), digests):
        traits.append(await _removal(server, place))
    return traits


def _connection(server: TusServer) -> Trait:
    if server.is_encrypted:
        return Trait("connection", good=True, what="Encrypted (TLS).")
    what = "Not encrypted: footage and token can be read, and answers made up, by anybody on the way."
    return Trait("connection", good=False, what=what, do="Use an https endpoint.")


def _clock(date: str, clock: Clock) -> Trait:
    try:
        offset_s = (parsedate_to_datetime(date) - clock()).total_seconds()
    except (ValueError, TypeError):
        return Trait("clock", good=None, what="The server tells no time.")
    near = abs(offset_s) <= _CLOCK_LIMIT_S
    return Trait(
        "clock", near, f"The server's clock is {offset_s:+.0f} s from ours.", "" if near else "Mend the clocks."
    )


def _digest(given: str, digests: Digests) -> Trait:
    if given == digests.sha256:
        return Trait("digest", good=True, what="The service says what it has (Repr-Digest), and it was right.")
    if given:
        return Trait("digest", good=False, what="The service says that it has other bytes.", do=f"See {GUIDE}.")
    what = "tus compares nothing, and the service doesn't say what it has: all is read back after each upload."
    return Trait("digest", good=None, what=what, do=f"Have its finish hook answer Repr-Digest; see {GUIDE}.")


def _reading(given: str, back: tuple[int, Digests] | None, sent: tuple[int, Digests]) -> Trait:
    match back:
        case None if given:
            return Trait("reading back", good=None, what="Uploads can't be read back; the digest is the only proof.")
        case None:
            what = "Uploads can't be read back, and the service gives no digest: nothing can be proven."
            return Trait("reading back", good=False, what=what, do=f"Allow one of both; see {GUIDE}.")
        case same if same == sent:
            return Trait("reading back", good=True, what="Uploads can be read back, and the probe was the same.")
    return Trait("reading back", good=False, what="The probe came back with other bytes.", do="Have its disks checked.")


async def _removal(server: TusServer, probe: str) -> Trait:
    if await server.lets_remove_probe(probe):
        what = "The service removed a finished upload because a client asked for it."
        return Trait("removal", good=False, what=what, do=f"Forbid DELETE for finished uploads; see {GUIDE}.")
    return Trait("removal", good=True, what="The service refuses to remove a finished upload.")


async def _slices(content: bytes) -> AsyncIterator[bytes]:
    for offset in range(0, len(content), _SLICE_BYTES):
        yield content[offset : offset + _SLICE_BYTES]
