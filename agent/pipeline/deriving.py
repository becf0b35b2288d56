"""The derive lane: has copies, pictures and findings made of what is held, behind all else, and takes them in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from agent import durable
from agent.access.certificate import AGENT, certificate, fingerprinted
from agent.access.made import Everything, Made, Original
from agent.access.scanning import ChangedError, ScanError
from agent.access.tool import ToolError, version
from agent.config import AccessCopies
from agent.errors import JournalError, StoreError
from agent.journal import Reader, deriving, new_id
from agent.journal.views import RecordingView
from agent.model import (
    FINDINGS_LIMIT,
    Asset,
    AssetState,
    Derivation,
    Derived,
    DocumentAdded,
    Incident,
    Integrity,
    Role,
)
from agent.pipeline.documents import add_made, refusing
from agent.pipeline.station import Station

ATTEMPTS: Final = 3
_TAKEN_LIMIT: Final = 1000
_ROOM_BYTES: Final = 64 * 1024 * 1024
"""So much besides a copy as large as its original: pictures, and what is written while a copy is made."""

_NEIGHBOURS: Final = 50

Busy = Callable[[], bool]
Make = Callable[[Original, Path, AccessCopies, Busy], Awaitable[Everything]]
Version = Callable[[], Awaitable[str]]


class DeriveLane:
    """One original at a time, the most urgent first, never beginning while a recorder is being read.

    Where it stands is in the journal alone. `given_up` are originals that can't be read, or at which this lane has a
    bug: they are tried again after the next start. `trouble` says in two languages why nothing can be made at all.
    """

    def __init__(self, station: Station, is_busy: Busy, make: Make, version: Version = version) -> None:
        self._station = station
        self._is_busy = is_busy
        self._make = make
        self._version = version
        self._too_large: set[str] = set()
        self.given_up: set[str] = set()
        self.trouble = ""

    async def step(self) -> None:
        """Make everything of the next original, or wait a little if there is none or others need the station."""
        station, asset, taken = self._station, None, self.given_up | self._too_large
        if station.access.enabled and not self._is_busy() and len(taken) < _TAKEN_LIMIT:
            asset = await station.on_disk(station.journal.reader.next_to_derive, taken)
        if asset is None:
            self._too_large.clear()
        if asset is None or not await self._may_begin(asset):
            await asyncio.sleep(station.limits.probe_pause_s)
            return
        self.given_up.add(asset.asset_id)
        try:
            done = await self._derive(asset)
        except (JournalError, StoreError):  # the disk refuses: making it again at once would only be for nothing
            done = True
            await asyncio.sleep(station.limits.backoff_max_s)
        if done:
            self.given_up.discard(asset.asset_id)

    async def _may_begin(self, asset: Asset) -> bool:
        try:
            await self._version()
        except ToolError as error:
            self.trouble = f"无法制作查阅副本，请安装 ffmpeg（原始资料不受影响）(no access copies: {error})"
            return False
        self.trouble = ""
        has_room = await self._station.on_disk(_has_room, self._station, asset)
        if not has_room:  # a smaller one may fit; after all others it is looked at again
            self._too_large.add(asset.asset_id)
        return has_room

    async def _derive(self, asset: Asset) -> bool:
        """Whether that is settled for this asset. Counted before the work: what kills the process does so thrice."""
        station, subject = self._station, deriving(asset.asset_id)
        before = await station.on_disk(station.journal.reader.attempt, subject)
        if before is not None and before.begun >= ATTEMPTS:
            reason = f"{ATTEMPTS} attempts to make copies of it did not come to an end"
            await station.journal.record(Derived(asset.asset_id, reason=reason))
            return True
        original = await station.on_disk(_original, station, asset)
        await station.journal.begun([subject])
        folder = station.vault.work_dir / asset.asset_id
        try:
            await station.on_disk(ready, folder)
            await self._make_all(original, folder)
        except ScanError as error:
            return await self._unread(asset, error)
        except asyncio.CancelledError:
            with contextlib.suppress(JournalError):
                await station.journal.note(subject, {})  # that the service ends is not the fault of this original
            raise
        finally:
            await station.on_disk(clear, folder)
        return True

    async def _make_all(self, original: Original, folder: Path) -> None:
        station = self._station
        with refusing(folder.name):
            made = await self._make(original, folder, station.access, self._is_busy)
        if made.reason and not await station.on_disk(_has_room, station, original.asset):
            raise StoreError("The storage became full while copies were made.", safe="No original is affected.")
        files = await station.on_disk(entries_of, station, original.asset, made, folder)
        told = Derived(original.asset.asset_id, made.findings[:FINDINGS_LIMIT], made.found, made.reason)
        await add_made(station, files, told)

    async def _unread(self, asset: Asset, error: ScanError) -> bool:
        """From bytes that aren't the original's nothing is made; what can't be read now is tried at the next start."""
        if not isinstance(error, ChangedError):
            await self._station.journal.note(deriving(asset.asset_id), {})  # a disk that is slow is no fact about it
            return False
        what = {"asset": asset.asset_id, "what": f"{error}; no copies are made of it"}
        reason = "its bytes here are not those that were held"
        await self._station.journal.record(Incident("vault-damaged", what), Derived(asset.asset_id, reason=reason))
        return True


def _has_room(station: Station, asset: Asset) -> bool:
    """Whether a copy as large as the original leaves the room that recorders need."""
    return station.vault.free_bytes() - station.reserve_bytes > asset.expected_bytes + _ROOM_BYTES


def clear(folder: Path) -> None:
    """Remove a work folder with all that is in it; raises StoreError, as below."""
    with refusing(folder.name):
        durable.remove_work(folder)


def ready(folder: Path) -> None:
    """An empty work folder."""
    clear(folder)
    with refusing(folder.name):
        durable.make_dir(folder)


def _original(station: Station, asset: Asset) -> Original:
    reader = station.journal.reader
    row = reader.recording(asset.asset_id)
    assert row.facts is not None, "it was probed"
    reference = _reference(station, reader, row) if row.facts.integrity is not Integrity.COMPLETE else None
    return Original(asset, _path(station, asset), row.facts, reference)


def _reference(station: Station, reader: Reader, row: RecordingView) -> Path | None:
    """A whole MP4 of the same docking: what that is encoded with, a cut one without its index is, too."""
    assert row.facts is not None, "as above"
    for recording_id in reader.brought_by(row.docking_id)[:_NEIGHBOURS]:
        other = reader.recording(recording_id)
        if (
            other.facts is not None
            and other.facts.integrity is Integrity.COMPLETE
            and other.recording.medium is row.recording.medium
            and "mov" in other.facts.container
            and other.asset.state in (AssetState.HELD, AssetState.STORED)
        ):
            return _path(station, other.asset)
    return None


def _path(station: Station, asset: Asset) -> Path:
    assert asset.digests is not None, "what is held has digests"
    return station.vault.address(asset.digests.blake3)


def entries_of(
    station: Station, original: Asset, made: Everything, folder: Path, session: tuple[str, str] = ("", "")
) -> list[tuple[Path, DocumentAdded]]:
    """Every file with the event that tells of it; the last is the certificate, whose BLAKE3 all others carry.

    `session`: of which session, and of which source of it.
    """
    now = station.clock()
    paper = Made(Role.CERTIFICATE, folder / f"certificate{'-'.join(filter(None, session))}.json", AGENT)
    with refusing(folder.name):
        assets = [_asset(station, original, one) for one in made.files]
        paper.path.write_bytes(certificate(original, made, assets, now))
        proof = _asset(station, original, paper)
    assert proof.digests is not None, "it was read"
    digest = proof.digests.blake3
    said = [
        Derivation(one.role, original.asset_id, now, one.tool, digest, one.complete, *session) for one in made.files
    ]
    said.append(Derivation(Role.CERTIFICATE, original.asset_id, now, AGENT, "", True, *session))
    files = zip((*made.files, paper), (*assets, proof), said, strict=True)
    return [(one.path, DocumentAdded(asset, (original.recording_id,), word)) for one, asset, word in files]


def _asset(station: Station, original: Asset, made: Made) -> Asset:
    size, digests = fingerprinted(made.path)
    key = (new_id(station.clock), original.recording_id, made.role, AssetState.WANTED, size)
    return Asset(*key, digests=digests)
