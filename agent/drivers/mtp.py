"""Cameras and recorders that speak MTP or PTP: one locked child lists them and reads their objects, in one session."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from agent.child import Child, ChildError
from agent.drivers.base import Listing, ListingEnd
from agent.drivers.listing import CheckedListing
from agent.drivers.mass_storage import MassStorage, reader_failed
from agent.errors import DeviceError, UnpluggedError
from agent.model import Volume

_TIMEOUTS_PER_STALL: Final = 2


class Mtp(MassStorage):
    """A docked device whose objects are read by their handles.

    What is mass storage's here: the orders and reports of a puller, and their checks. `clips()` ends a fetch under way.
    """

    _listed_blake3 = ""

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
            stall_s = self._limits.stall_s
            arguments = (self._path, stall_s / _TIMEOUTS_PER_STALL)
            child = await self._start("agent.drivers.mtp_child", arguments, self._staging_dir, stall_s)
            self._parser = child
            while self._parser is not None:
                line = await child.line()
                if line is None:
                    raise ChildError("ended before the listing was complete")
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

    async def _started_puller(self) -> Child:
        """The child that has listed; one that is new must list the same. Raises ChildError."""
        if self._puller is None:
            before = self._listed_blake3
            try:
                async with aclosing(self._listed()) as items:
                    async for _ in items:
                        pass
            except DeviceError as error:
                self._gone |= isinstance(error, UnpluggedError)
                raise ChildError(f"could not go on: {error.what}") from error
            if self._listed_blake3 != before:
                raise ChildError("finds something else than was listed")
        assert self._puller is not None
        return self._puller
