"""Cameras and recorders that speak MTP or PTP: one locked child lists them and reads their objects, in one session."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from agent.child import Child, ChildError
from agent.drivers.base import Listing, ListingEnd
from agent.drivers.listing import CheckedListing
from agent.drivers.mass_storage import MassStorage, reader_failed
from agent.errors import DeviceError
from agent.model import Volume

_TIMEOUTS_PER_STALL: Final = 2


class Mtp(MassStorage):
    """A docked device whose objects are read by their handles.

    What is mass storage's here: the orders and reports of a puller, and their checks. `clips()` ends a fetch under way.
    """

    _listed_blake3 = ""
    _left = False

    async def clips(self) -> AsyncGenerator[Listing, None]:
        """List everything on it; raises DeviceError."""
        await self._stop_puller()  # a device has one session
        async with aclosing(self._listed()) as items:
            async for item in items:
                yield item

    async def _listed(self) -> AsyncGenerator[Listing, None]:
        """List by a new child, which stays for the orders that follow."""
        listing = CheckedListing()
        volumes: list[Volume] = []
        try:
            self._parser = child = await self._start()
            while self._parser is not None:
                line = await child.line()
                if line is None:
                    raise ChildError("ended before the listing was complete")
                self._left = _says_gone(line)
                items = listing.feed(line) if line != {"alive": True} else []
                for item in items:
                    if isinstance(item, Volume):
                        volumes.append(item)
                        ids = tuple(f"{volume.kind}:{volume.filesystem_id}" for volume in volumes)
                        total = sum(volume.size_bytes for volume in volumes)
                        self.device = replace(self.device, filesystem_ids=ids, size_bytes=total)
                    elif isinstance(item, ListingEnd):
                        self._same_source(listing.source)
                        self._source, self._layouts = listing.source, listing.layouts
                        self._listed_blake3 = item.metadata_blake3
                        self._puller, self._parser = child, None
                    yield item
        except ChildError as error:
            raise reader_failed(error) from error
        finally:
            parser, self._parser = self._parser, None
            await self._stop(parser)

    async def _start(self) -> Child:
        stall_s = self._limits.stall_s
        staging_fd = os.open(self._staging_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            arguments = [str(self._path), str(stall_s / _TIMEOUTS_PER_STALL), str(staging_fd)]
            module = "agent.drivers.mtp_child"
            return await Child.start(module, arguments, stall_limit_s=stall_s, pass_fds=[staging_fd])
        finally:
            os.close(staging_fd)

    async def _started_puller(self) -> Child:
        """The child that has listed; one that is new must list the same. Raises ChildError."""
        if self._puller is None:
            before = self._listed_blake3
            try:
                async with aclosing(self._listed()) as items:
                    async for _ in items:
                        pass
            except DeviceError as error:
                self._gone |= self._left
                raise ChildError(f"could not go on: {error.what}") from error
            if self._listed_blake3 != before:
                raise ChildError("finds something else than was listed")
        assert self._puller is not None
        return self._puller


def _says_gone(line: object) -> bool:
    match line:
        case {"error": {"kind": "gone"}}:
            return True
    return False
