"""Signs the log: a checkpoint now and then, each only after it was proved to continue the one before."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import Final

from agent.config.environment import credential
from agent.errors import ConfigError, EvidenceError
from agent.journal import Reader
from agent.model import CheckpointSigned, Incident
from agent.pipeline.custody import Custody
from agent.pipeline.station import Station
from agent.signing import CREDENTIAL, SigningKey, station_key
from agent.tlog.checkpoint import Checkpoint, opened
from agent.tlog.keys import Verifier, is_name
from agent.tlog.note import Note
from agent.tlog.texts import NoteError
from agent.tlog.tree import EMPTY_ROOT, continues

log: Final = logging.getLogger("capture-agent")

_ORIGIN_DIGITS: Final = 16


async def start(station: Station) -> None:
    """Take the station's key and begin to sign; without one everything but signing goes on."""
    known = await station.on_disk(station.journal.reader.announced_keys)
    rotated = known[-1].public if known else ""
    try:
        key = await station.on_disk(station_key, station.vault.root, credential(CREDENTIAL), rotated)
    except ConfigError as error:
        log.error("%s", error)
        await station.journal.record(Incident("no-signing-key", {"what": error.what}))
        station.custody.troubles["key"] = f"签名密钥不可用，记录照常采集入库 (no signing key): {error}"
        return
    await begin(station, key)


async def begin(station: Station, key: SigningKey) -> None:
    """Announce a key and let the station sign with it, under the name its log has had since its first checkpoint."""
    known = await station.on_disk(station.journal.reader.announced_keys)
    told = {"algorithm": "Ed25519", "fingerprint": key.fingerprint, "public": key.public.hex()}
    await station.journal.record(Incident("signing-key", told))
    if known and known[-1].public != told["public"]:
        log.critical("another signing key than the log knows of: %s", key.fingerprint)
        await station.journal.record(Incident("signing-key-exchanged", {**told, "before": known[-1].public}))
        told_of = "签名密钥被更换且没有轮换记录，请核对指纹 (the signing key was exchanged without a rotation)"
        station.custody.troubles["key"] = f"{told_of}: {key.fingerprint}"
    station.custody.origin = await origin_of(station) or f"capture-agent/{key.fingerprint[:_ORIGIN_DIGITS]}"
    station.custody.key = key


async def sign(station: Station) -> CheckpointSigned | None:
    """Sign and journal a checkpoint over all events there are; None without a key, and for a log that is forked.

    Raises JournalError if the disk refuses.
    """
    custody = station.custody
    async with custody.signing:
        if custody.key is None or custody.fork:
            return None
        try:
            entry = await station.on_disk(_next, station.journal.reader, custody, station.clock())
        except EvidenceError as error:
            custody.fork = error.what
            log.critical("%s", error)
            await station.journal.record(Incident("log-forked", {"what": error.what}))
            return None
        await station.journal.record(entry)
        custody.last = entry
        custody.signed.set()
        custody.signed = asyncio.Event()
        return entry


class CheckpointLane:
    """Signs when the service starts, then at the latest after the configured pause: silence is visible."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._pause_s = 0.0

    async def step(self) -> None:
        """Wait until a checkpoint is due or asked for, and sign it."""
        custody = self._station.custody
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s):
                await custody.asked.wait()
        custody.asked.clear()
        await sign(self._station)
        self._pause_s = custody.settings.checkpoint_every_s


def verifiers(reader: Reader, origin: str) -> tuple[Verifier, ...]:
    """Return what verifies the station's signatures: all keys that its log ever told of, old ones too."""
    return reader.verifiers(origin)


async def origin_of(station: Station) -> str:
    """The name of the station's log: as it was signed before, else as it is configured; empty if neither is."""
    newest = await station.on_disk(station.journal.reader.newest_checkpoint)
    if newest is not None and is_name(kept := newest.note.partition("\n")[0]):
        return kept
    return station.custody.origin or station.custody.settings.origin


def _next(reader: Reader, custody: Custody, now: datetime) -> CheckpointSigned:
    """The next checkpoint; raises EvidenceError if the log no longer begins with what was signed last."""
    number, before = _last(reader, custody)
    size = reader.log_size()
    if size < before.size:
        raise _forked(f"it has {size} events where {before.size} were signed by checkpoint {number}")
    root, path = reader.log_root(size), reader.consistency(before.size, size)
    if not continues(before.size, before.root, size, root, path):
        raise _forked(f"its first {before.size} events are not those that checkpoint {number} was signed over")
    checkpoint = Checkpoint(custody.origin, size, root, (f"time {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",))
    return CheckpointSigned(number + 1, size, checkpoint.signed(*custody.signers).encode().decode())


def _last(reader: Reader, custody: Custody) -> tuple[int, Checkpoint]:
    """Number and content of the checkpoint that was signed last, which must be as this run signed it, or by our key."""
    newest, ours = reader.newest_checkpoint(), custody.last
    if ours is not None and (newest is None or newest.number != ours.number or not newest.note.startswith(ours.note)):
        raise _forked(f"checkpoint {ours.number}, which was signed last, is not its last one any more")
    if newest is None:
        return 0, Checkpoint(custody.origin, 0, EMPTY_ROOT)
    try:
        note = Note.parse(newest.note.encode())
        return newest.number, opened(note, custody.origin, verifiers(reader, custody.origin))
    except NoteError as error:
        raise _forked(f"checkpoint {newest.number} was changed: {error.what}") from error


def _forked(why: str) -> EvidenceError:
    return EvidenceError(
        f"The log is not the one that was signed: {why}.",
        safe="Recordings are pulled and stored all the same; nothing is signed any more.",
        do="Keep journal.db as it is, compare it with the checkpoints at the centre, and bring back the right one.",
    )
