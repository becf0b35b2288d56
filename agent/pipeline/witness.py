"""Witnesses the logs of neighbours (c2sp.org/tlog-witness): keeps what this station saw of them, then cosigns it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

from agent.errors import AgentError, RequestError
from agent.model import CheckpointWitnessed
from agent.pipeline.checkpoints import origin_of, verifiers
from agent.pipeline.station import Station
from agent.signing import WITNESS_FILE, made_key
from agent.tlog.checkpoint import Checkpoint
from agent.tlog.keys import Algorithm, Ed25519Verifier, Signer, Verifier
from agent.tlog.note import Note
from agent.tlog.texts import TEXT_LIMIT_BYTES
from agent.tlog.witness import Answer, answer

log: Final = logging.getLogger("capture-agent")

PATH: Final = "/add-checkpoint"
_HEADERS_LIMIT_BYTES: Final = 2048


async def witness_key(station: Station) -> Signer:
    """The key that this station cosigns with, made when first needed; raises ConfigError or RequestError."""
    origin = await origin_of(station)
    if not origin:
        raise RequestError("This station has signed nothing yet, so it has no name.", do="Start the service once.")
    key = await station.on_disk(made_key, station.vault.root / WITNESS_FILE)
    return Signer(f"{origin}/witness", key, Algorithm.COSIGNATURE)


async def log_keys(station: Station, _asked: Mapping[str, str]) -> dict[str, object]:
    """The public keys that neighbours write down: all that signed our log, the newest last, and what we cosign with."""
    witness = await witness_key(station)
    keys = await station.on_disk(verifiers, station.journal.reader, await origin_of(station))
    return {"log": [one.key.vkey for one in keys], "witness": witness.key.vkey}


async def cosign(station: Station, request: bytes) -> Answer:
    """Answer a request; what is cosigned is an event of our own log before anybody has the cosignature."""
    reader, logs = station.journal.reader, _logs(station)
    signer = await witness_key(station)
    async with station.custody.witnessing:
        seen = [await station.on_disk(reader.witnessed, origin) for origin in logs]
        latest = {one.origin: Checkpoint.parse(Note.parse(one.note.encode()).text) for one in seen if one is not None}
        told = answer(request, logs, latest, signer, station.clock())
        new = told.checkpoint
        if new is not None and (new.origin not in latest or latest[new.origin].size < new.size):
            note = request.partition(b"\n\n")[2].decode()
            await station.journal.record(CheckpointWitnessed(new.origin, note))
    return told


async def witness_answer(station: Station, asked: Mapping[str, str], content: bytes) -> dict[str, object]:
    """The same for a request on a stick: what is to be carried back; raises RequestError in words."""
    del asked
    told = await cosign(station, content)
    if told.status is not HTTPStatus.OK:
        raise RequestError(f"The request is not answered: {_why(told)}.", safe="Nothing was changed.", do="")
    return {"answer": told.body.decode()}


@contextlib.asynccontextmanager
async def listening(station: Station, host: str, port: int) -> AsyncIterator[int]:
    """Answer at an address until the block ends, and yield the port; one that can't be had is told and stops nobody."""

    async def handle(request: web.Request) -> web.Response:
        try:
            told = await cosign(station, await request.read())
        except AgentError as error:  # our own disk or key: the neighbour asks again
            log.warning("nothing is cosigned now: %s", error)
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        return web.Response(status=told.status, body=told.body, headers={"Content-Type": told.content_type})

    app = web.Application(client_max_size=TEXT_LIMIT_BYTES)
    app.router.add_post(PATH, handle)
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=5,
        shutdown_timeout=2,
        max_line_size=_HEADERS_LIMIT_BYTES,
        max_field_size=_HEADERS_LIMIT_BYTES,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=16).start()
        except OSError as error:
            log.error("no witness at %s port %s: %s", host, port, error.strerror)
            told = f"无法在 {host} 端口 {port} 为邻站见证 (no witness can listen there): {error.strerror}"
            station.custody.troubles["witness"] = told
        yield next(iter(runner.addresses), ("", 0))[1]
    finally:
        await runner.cleanup()


def _logs(station: Station) -> dict[str, list[Verifier]]:
    logs: dict[str, list[Verifier]] = {}
    for key in station.custody.neighbours.logs:
        logs.setdefault(key.name, []).append(Ed25519Verifier(key))
    return logs


def _why(told: Answer) -> str:
    if told.status is HTTPStatus.CONFLICT:
        return f"this witness has seen {told.body.decode().strip()} events of that log; have it ask for that size"
    return told.body.decode().strip().rstrip(".")
