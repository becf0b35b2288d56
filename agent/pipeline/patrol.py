"""The patrol: looks at every held file without reading it, round after round, for what the kernel does not tell."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Final

from agent.changes import Seen, seen
from agent.durable import READ_ONLY_MODE
from agent.model import Asset, AssetState
from agent.pipeline.station import Station
from agent.states import is_kept
from agent.vault_errors import world

_PAGE: Final = 64
_PAUSE_S: Final = 0.2
_ROUND_S: Final = 600.0
_AGAIN_S: Final = 1.0
_MANY: Final = 8
_REMEMBERED: Final = 4096

Wrong = tuple[Path, tuple[str, ...]]


class Patrol:
    """Compares kind, owner, rights, links, size, mount and flag of each file with what we left.

    A million files take an hour: each page of 64 is followed by a pause, so nothing else is slowed down.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self._at_once = asyncio.Event()
        self._known: dict[Path, tuple[str, ...]] = {}

    def look_at_all(self) -> None:
        """Something may have happened that nobody told: don't wait for the next round."""
        self._at_once.set()

    async def rest(self) -> None:
        """Wait until the next round is due."""
        try:
            async with asyncio.timeout(_ROUND_S):
                await self._at_once.wait()
        except TimeoutError:
            return

    async def round(self) -> AsyncIterator[list[Wrong]]:
        """What is wrong and was not wrong in the round before; a name that can't be mended is told once.

        Where nothing of many files is there, the wrong disk is: then only that is told.
        """
        self._at_once.clear()
        station, known, after = self._station, self._known, ""
        self._known = {}
        while page := await station.on_disk(station.journal.reader.known_bytes, after, _PAGE):
            wrong = await self._twice(page)
            if len(wrong) >= _MANY and len(wrong) == len(list(filter(is_here, page))) and _all_missing(wrong):
                wrong = [(station.vault.originals_dir, ("missing",))]
            self._known.update(wrong[: _REMEMBERED - len(self._known)])
            if fresh := [(path, what) for path, what in wrong if known.get(path) != what]:
                yield fresh
            after = page[-1].asset_id
            await asyncio.sleep(_PAUSE_S)

    async def _twice(self, page: tuple[Asset, ...]) -> list[Wrong]:
        """What we are changing just now is looked at again: only what stays wrong is."""
        wrong = await self._station.on_disk(lambda: list(self._wrong(page)))
        if not wrong:
            return []
        await asyncio.sleep(_AGAIN_S)
        names = {path.name for path, _ in wrong}
        again = await self._station.on_disk(self._station.journal.reader.assets_with, names)
        still = dict(await self._station.on_disk(lambda: list(self._wrong(again))))
        return [(path, what) for path, what in wrong if still.get(path) == what]

    def _wrong(self, assets: Iterable[Asset]) -> Iterator[Wrong]:
        vault = self._station.vault
        with world(vault.root):
            if not vault.place.is_same():
                return  # what lies elsewhere says nothing of what is held here
            yield from self._each_wrong(assets)

    def _each_wrong(self, assets: Iterable[Asset]) -> Iterator[Wrong]:
        vault = self._station.vault
        for asset in filter(is_here, assets):
            assert asset.digests is not None, "what is kept has fingerprints"
            path = vault.address(asset.digests.blake3)
            found = seen(path)
            what = tuple(_differences(found, asset, vault.place.mount))
            if found is not None and found.immutable is False and vault.seal and self._was_sealed(asset):
                what = (*what, "flag")
            if what:
                yield path, what

    def _was_sealed(self, asset: Asset) -> bool:
        acquired = self._station.journal.reader.acquired(asset.asset_id)
        return acquired is not None and acquired.held.sealed


def is_here(asset: Asset) -> bool:
    """Tell whether its bytes must lie in the vault."""
    return is_kept(asset) and asset.state is not AssetState.RELEASED and asset.digests is not None


def _all_missing(wrong: Iterable[Wrong]) -> bool:
    return all(what == ("missing",) for _, what in wrong)


def _differences(found: Seen | None, asset: Asset, mount: int) -> Iterator[str]:
    if found is None:
        yield "missing"
        return
    checks = (
        ("covered", found.mount == mount),
        ("kind", stat.S_ISREG(found.mode)),
        ("owner", found.uid == os.geteuid()),
        ("mode", stat.S_IMODE(found.mode) == READ_ONLY_MODE),
        ("links", found.links == 1),
        ("size", found.size_bytes == asset.size_bytes),
    )
    yield from (name for name, is_right in checks if not is_right)
