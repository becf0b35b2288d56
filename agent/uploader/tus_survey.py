"""Finds out with a probe what a collecting service that speaks tus does, for the person who sets it up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final

from blake3 import blake3

from agent.errors import StoreError
from agent.model import Clock, Digests
from agent.uploader.base import PROBES, Trait, clock_trait, trait
from agent.uploader.network import sliced
from agent.uploader.tus_protocol import GUIDE, VERSION, TusServer

_PROBE_BYTES: Final = 8 << 20


async def survey(server: TusServer, limit_bytes: int, clock: Clock) -> Sequence[Trait]:
    """What the service at an endpoint can do; raises StoreError if it can't be reached."""
    offer = await server.offer()
    most = "any size" if offer.max_bytes is None else f"at most {offer.max_bytes} bytes"
    safe = server.is_encrypted
    spied = "Not encrypted: footage and token can be read, and answers made up, by anybody on the way."
    traits = [
        trait("protocol", True, f"tus {VERSION} with {', '.join(sorted(offer.extensions))}; takes {most}."),
        trait("connection", safe, "Encrypted (TLS)." if safe else spied, "Use an https endpoint."),
        clock_trait(None if offer.date is None else (offer.date - clock()).total_seconds()),
        trait(
            "lock",
            None,
            "tus has no lock: whether finished uploads can be removed there is up to the service.",
            f"Have it lock what it keeps; see {GUIDE}.",
        ),
    ]
    try:
        return [*traits, *await _tried(server, limit_bytes)]
    except StoreError as error:
        return [*traits, trait("probe", False, error.what, error.do)]


async def _tried(server: TusServer, limit_bytes: int) -> Sequence[Trait]:
    content = os.urandom(_PROBE_BYTES)
    digests = Digests(blake3(content).hexdigest(), sha256(content).hexdigest())
    place, _ = await server.create(len(content), f"{PROBES}/{digests.blake3[:2]}/{digests.blake3}", digests)
    began_s = asyncio.get_running_loop().time()
    given = ""
    for offset in range(0, len(content), limit_bytes):
        piece = content[offset : offset + limit_bytes]
        given = await server.append(place, offset, len(piece), sliced(piece), len(content))
    took_s = asyncio.get_running_loop().time() - began_s
    speed = f"{len(content) / took_s / 1e6:.1f} MB/s for {len(content)} bytes, finishing included."
    found = await server.progress(place)
    if found is None or not found.is_whole(len(content)):
        return [trait("probe", False, "A finished upload is not there afterwards.", f"See {GUIDE}.")]
    given = given or found.sha256
    back = await server.read_back(place)
    is_same = None if back is None else back == (len(content), digests)
    traits = [*_proof(given, digests, is_same), trait("speed", None, speed)]
    # Only what proved to be our probe: an address that the server made up could be that of evidence.
    if is_same or given == digests.sha256:
        removed = await server.lets_remove_probe(place)
        what = f"The service {'removed' if removed else 'refuses to remove'} a finished upload for a client."
        traits.append(trait("removal", not removed, what, f"Forbid DELETE for finished uploads; see {GUIDE}."))
    return traits


def _proof(given: str, digests: Digests, is_same: bool | None) -> Iterator[Trait]:
    """How the service proves what it has: by the digest that it gives, and by giving the bytes back."""
    if given:
        is_right = given == digests.sha256
        what = f"The service says what it has (Repr-Digest), and it was {'right' if is_right else 'wrong'}."
        yield trait("digest", is_right, what, f"See {GUIDE}.")
    else:
        what = "tus compares nothing, and the service doesn't say what it has: all is read back after each upload."
        yield trait("digest", None, what, f"Have its finish hook answer Repr-Digest; see {GUIDE}.")
    if is_same is not None:
        what = f"Uploads can be read back, and the probe {'was the same' if is_same else 'came with other bytes'}."
        yield trait("reading back", is_same, what, "Have its disks checked.")
    elif given:
        yield trait("reading back", None, "Uploads can't be read back; the digest is the only proof.")
    else:
        what = "Uploads can't be read back, and the service gives no digest: nothing can be proven."
        yield trait("reading back", False, what, f"Allow one of both; see {GUIDE}.")
