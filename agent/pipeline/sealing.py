"""The seal lane: signs a manifest of each recording once it is quiet around it, and anew when there is news of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from agent.errors import AgentError
from agent.journal import sealing
from agent.manifest import Background, Listed, Manifest
from agent.model import Asset, Sealing
from agent.pipeline.documents import add_document
from agent.pipeline.station import Station
from agent.signing import CommandKey
from agent.tlog.keys import Key, Signer

_BATCH: Final = 20
_INTERRUPTED: Final = 3


class SealLane:
    """A few recordings at a time, the oldest news first, never beginning while a recorder is being read.

    Where it stands is in the journal alone. `trouble` says in two languages why the last manifest could not be made.
    """

    def __init__(self, station: Station, is_busy: Callable[[], bool]) -> None:
        self._station = station
        self._is_busy = is_busy
        self.trouble = ""

    async def step(self) -> None:
        """Seal the next few recordings, or wait a little if there are none, or others need the station."""
        station, told = self._station, self._station.background
        due: Sequence[str] = ()
        if _may_sign(station) and not self._is_busy():
            due = await station.on_disk(_due, station)
        if not due or told is None:
            await asyncio.sleep(station.limits.probe_pause_s)
            return
        background = await station.on_disk(told)
        for recording_id in due:
            await self._seal(recording_id, background)
        station.custody.asked.set()

    async def _seal(self, recording_id: str, background: Background) -> None:
        """One attempt, counted before the work: what kills the process again and again must not do so at once.

        No other key takes over between the signature and its event: what a key signs after that counts for nothing.
        """
        station, subject = self._station, sealing(recording_id)
        before = await station.on_disk(station.journal.reader.attempt, subject)
        if before is not None and before.begun - before.failed >= _INTERRUPTED:
            await station.failed(subject, "the agent was interrupted while making this manifest")
            return
        await station.journal.begun([subject])
        try:
            async with station.custody.signing:
                if not _may_sign(station):
                    return
                said, content = await station.on_disk(_signed, station, recording_id, background)
                await add_document(station, said, [recording_id], content)
        except AgentError as error:  # a disk that refuses refuses this too, and that ends the step
            self.trouble = f"清单无法签名，稍后重试（原始资料不受影响）(no manifest of {recording_id}: {error})"
            await station.failed(subject, str(error))
        else:
            self.trouble = ""


def _due(station: Station) -> Sequence[str]:
    quiet = timedelta(seconds=station.manifests.quiet_s)
    return station.journal.reader.next_to_seal(station.clock(), quiet, station.longest_pause, _BATCH)


def _may_sign(station: Station) -> bool:
    return bool(station.custody.signers) and not station.custody.fork


def _signed(station: Station, recording_id: str, background: Background) -> tuple[Sealing, bytes]:
    reader, settings, signers = station.journal.reader, station.manifests, station.custody.signers
    if settings.command:
        key = Key.parse(settings.key)
        behind = CommandKey(settings.command, key.public, settings.command_limit_s)
        signers = (*signers, Signer(key.name, behind, key.algorithm))
    found = reader.belongings(recording_id)
    newest = reader.newest_checkpoint()
    manifest = Manifest(
        recording_id=recording_id,
        number=found.number,
        previous=found.previous,
        made_at=station.clock(),
        covers=found.covers,
        station=background.station,
        metadata=background.metadata(recording_id),
        assets=tuple(_listed(asset, is_sealed=is_sealed) for asset, is_sealed in found.assets),
        environment=background.environment,
        log=newest.note if newest is not None else "",
    )
    return Sealing(found.number, found.covers, found.previous), manifest.sealed(*signers)


def _listed(asset: Asset, *, is_sealed: bool) -> Listed:
    assert asset.digests is not None, "only such are asked for"
    digests = asset.digests
    return Listed(asset.asset_id, asset.role, asset.expected_bytes, digests.blake3, digests.sha256, is_sealed)
