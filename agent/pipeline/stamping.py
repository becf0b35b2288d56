"""The stamp lane: asks the configured authority when each manifest existed, for ever, and nothing waits for it."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path

from agent import durable
from agent.errors import AgentError, ConfigError, StoreError
from agent.journal import sealing
from agent.model import Asset, Stamping
from agent.pipeline.documents import add_document
from agent.pipeline.station import Station
from agent.transcripts import read_sealed
from agent.uploader.network import Network, NetworkOptions

_ROOTS_LIMIT_BYTES = 1 << 20


class StampLane:
    """One manifest at a time, the oldest first. `trouble` says in two languages why the last one has no time stamp."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._failures = 0
        self.trouble = ""

    async def step(self) -> None:
        """Have the next manifest stamped, or wait a little; after a failure wait longer, as for a store."""
        station, asset = self._station, None
        if not station.timestamp.url:
            self.trouble = ""
        else:
            next_one = station.journal.reader.next_to_stamp
            asset = await station.on_disk(next_one, station.clock(), station.longest_pause)
        if asset is None:
            await asyncio.sleep(station.limits.probe_pause_s)
            return
        await station.journal.begun([sealing(asset.asset_id)])
        try:
            await self._stamp(asset)
        except AgentError as error:  # a disk that refuses refuses this too, and that ends the step
            self.trouble = f"时间戳服务不可用，稍后重试（不影响任何资料）(no time stamp: {error})"
            await station.failed(sealing(asset.asset_id), str(error))
            limits, self._failures = station.limits, self._failures + 1
            await asyncio.sleep(min(limits.backoff_max_s, limits.backoff_base_s * 2.0 ** min(self._failures - 1, 30)))
        else:
            self.trouble, self._failures = "", 0

    async def _stamp(self, asset: Asset) -> None:
        """Raises AgentError: no connection, an answer that proves nothing, a manifest that is damaged, a full disk."""
        from agent.timestamps import ASK_TYPE, proved, request_for  # 4 MB that few stations need

        station, settings = self._station, self._station.timestamp
        assert asset.digests is not None, "a document is entered with its fingerprints"
        assert settings.ca_file is not None, "the configuration was checked"
        path, digest = station.vault.address(asset.digests.blake3), asset.digests.blake3
        content = await station.on_disk(read_sealed, path, digest)
        roots = await station.on_disk(_roots, settings.ca_file)
        request = request_for(content)
        network = Network(NetworkOptions(stall_limit_s=settings.limit_s))
        try:
            answer = await network.ask("POST", settings.url, {"Content-Type": ASK_TYPE}, request.as_bytes())
        finally:
            await network.close()
        if answer.status != HTTPStatus.OK:
            raise StoreError(f"The authority answered with status {answer.status}.")
        stamp = proved(answer.body, content, roots, request)
        said = Stamping(asset.asset_id, stamp.at, stamp.authority)
        await add_document(station, said, [asset.recording_id], answer.body)


def _roots(path: Path) -> bytes:
    try:
        with durable.opened(path) as fd, open(fd, "rb", closefd=False) as file:
            return file.read(_ROOTS_LIMIT_BYTES)
    except OSError as error:
        raise ConfigError(f"timestamp.ca_file {path} can't be read: {error.strerror}.") from error
