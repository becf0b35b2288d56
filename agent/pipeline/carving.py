"""Copies what deleted entries of a recorder still point to, into a folder elsewhere: derivatives, never originals."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from agent import durable
from agent.absence import Sure
from agent.access.certificate import AGENT, canonical, fingerprinted
from agent.drivers.base import BlockWritten, Failed, FetchRequest, ListingEnd
from agent.drivers.mass_storage import MassStorage
from agent.errors import DeviceError, RequestError
from agent.model import Clip, Extent, Finding, Incident
from agent.pipeline.station import Station
from agent.sequence import name_of

REMNANTS_LIMIT: Final = 10_000
FILES_LIMIT: Final = 1000
_TOLD_LIMIT: Final = 64 * 1024
_SPARE_BYTES: Final = 64 * 1024 * 1024
_NUMBERS_FROM: Final = 1_000_000  # beyond those of files that are there
_WHOLE_NAMES: Final = frozenset({"exact", "long", "inferred"})
_LOST: Final[Mapping[str, str]] = {
    "empty": "it has no content",
    "start-lost": "where it began is not written any more",
    "beyond-volume": "it would reach beyond the card",
}
_ALWAYS: Final = (
    "A derivative, put together from what a deleted entry points to: no original, no proof of what was recorded.",
    "The clusters may hold other content: something may have been recorded there since and deleted again.",
    "It is taken to have lain in one piece; if it did not, what follows its first piece is something else.",
)


@dataclass(frozen=True, slots=True)
class Remnant:
    """A deleted entry, as its finding tells it, and what may be got of it: `refusal` says why nothing."""

    number: int
    detail: Mapping[str, Any]
    extents: tuple[Extent, ...] = ()
    sure: Sure = Sure.LIKELY
    doubts: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def size_bytes(self) -> int:
        """Bytes that a copy of it has."""
        return sum(length for _, length in self.extents)


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants copies, why, from where, and into which new folder; `journaled`: the service's journal has it."""

    source: Path
    folder: Path
    who: str
    why: str
    at: datetime
    journaled: bool = False


async def list_remnants(recorder: MassStorage) -> tuple[list[Remnant], str]:
    """The deleted files of a recorder, and the BLAKE3 of its metadata; raises DeviceError if it can't be listed."""
    found: list[Remnant] = []
    digest = ""
    async with aclosing(recorder.clips()) as items:
        async for item in items:
            match item:
                case Finding(kind="deleted", detail=detail) if detail.get("is_directory") is False:
                    if len(found) < REMNANTS_LIMIT:
                        found.append(_remnant(len(found) + 1, detail))
                case ListingEnd(metadata_blake3=digest):
                    pass
    return _with_clashes(found), digest


def _remnant(number: int, detail: Mapping[str, Any]) -> Remnant:
    """What the parser says of one, believed as far as it can be true; where it lies is checked before it is read."""
    match detail:
        case {
            "path": str(), "size": int(size), "state": str(state), "name_quality": str(quality),
            "flags": list(flags), "extents": [[int(offset), int(length)]],
        } if 0 < length <= size:  # fmt: skip
            refusal = "it lay in several pieces, which are not put together" * ("was-fragmented" in flags)
            taken, _, clusters = state.removeprefix("overwritten:").partition("/")
            refusal = refusal or "files that are there have taken all its place" * (taken == clusters)
            doubts = [f"{state.partition(':')[2]} of its clusters are taken by files that are there"] * (":" in state)
            doubts += ["whether its clusters are taken is not known"] * (state == "unknown")
            doubts += ["its name is not whole"] * (quality not in _WHOLE_NAMES)
            doubts += [f"its entry is damaged: {flag}" for flag in map(str, flags) if flag != "was-fragmented"]
            doubts += [f"the card ends {size - length} bytes before it does"] * (length < size)
            sure = Sure.POSSIBLE if doubts else Sure.LIKELY
            return Remnant(number, detail, ((offset, length),), sure, tuple(doubts), refusal)
    return Remnant(number, detail, refusal=_LOST.get(str(detail.get("state")), "its entry says nothing usable"))


def _with_clashes(found: Sequence[Remnant]) -> list[Remnant]:
    """Of deleted files that lay at the same place at most one can be got."""
    clash: set[int] = set()
    reach = owner = 0
    for (offset, length), number in sorted((place, one.number) for one in found for place in one.extents):
        if offset < reach:
            clash |= {owner, number}
        if offset + length > reach:
            reach, owner = offset + length, number
    both = ("another deleted file lay there too",)
    doubted = {one.number: replace(one, sure=Sure.POSSIBLE, doubts=one.doubts + both) for one in found}
    return [doubted[one.number] if one.number in clash else one for one in found]


def check_folder(folder: Path, source: Path, kept: Iterable[Path]) -> None:
    """Raises RequestError if copies must not be written there: only into a new folder, away from all evidence."""
    real = folder.parent.resolve() / folder.name
    if os.path.lexists(real) or not real.parent.is_dir():
        raise _refused(folder, "must not exist yet, and the folder above it must")
    if any(real.is_relative_to(one.resolve()) for one in kept):
        raise _refused(folder, "lies where this station keeps evidence")
    disk = os.stat(real.parent).st_dev
    backing = Path(f"/sys/dev/block/{os.major(disk)}:{os.minor(disk)}/loop/backing_file")
    if backing.exists() and Path(backing.read_text().strip()) == source.resolve():
        raise _refused(folder, "lies on the recorder itself")


def check_room(folder: Path, remnants: Sequence[Remnant]) -> None:
    """Raises RequestError if copies of so many files must not go into a new folder, or don't fit there."""
    wanted, free = sum(one.size_bytes for one in remnants), os.statvfs(folder.parent)
    if len(remnants) > FILES_LIMIT or wanted + _SPARE_BYTES > free.f_bavail * free.f_frsize:
        raise _refused(folder, f"has no room for {len(remnants)} files of {wanted} bytes, or they are more than 1000")


def _refused(folder: Path, why: str) -> RequestError:
    return RequestError(f"{folder} {why}.", safe="Nothing was written.", do="Name a new folder on another disk.")


async def carve(
    recorder: MassStorage, remnants: Sequence[Remnant], order: Order, digest: str
) -> AsyncGenerator[Mapping[str, Any], None]:
    """Copy each into the folder of the order, with its certificate beside it; gives the certificates.

    The folder is there, and is the one into which `recorder` fetches. Raises DeviceError, or OSError of the folder.
    """
    for one in remnants:
        name = f"deleted-{one.number:04d}{_suffix(one)}"
        part = order.folder / f"{name}{durable.PART_SUFFIX}"
        try:
            holes = await _copy(recorder, one, part.name)
            size_bytes, digests = fingerprinted(part)
            output = {"name": name, "size_bytes": size_bytes, **asdict(digests)}
            certificate = _certificate(one, holes, order, recorder, digest) | {"output": output}
            with durable.opened(part) as fd:
                durable.fsync_file(fd)
            durable.rename_no_replace(part, order.folder / name)
        finally:
            durable.remove_part(part)
        with (order.folder / f"{name}.json").open("xb") as file:
            file.write(canonical(certificate))
            file.flush()
            durable.fsync_file(file.fileno())
        durable.fsync_dir(order.folder)
        yield certificate


async def _copy(recorder: MassStorage, one: Remnant, part: str) -> list[Extent]:
    """Have the bytes written; returns what of them the medium would not give. Raises DeviceError."""
    clip = Clip(_NUMBERS_FROM + one.number, part, b"", one.size_bytes, one.size_bytes)
    recorder.locate(clip, one.extents)
    holes: list[Extent] = []
    async with aclosing(recorder.fetch([FetchRequest(clip, part, rescue=True)])) as reports:
        async for report in reports:
            if isinstance(report, BlockWritten):
                holes += report.holes
            elif isinstance(report, Failed):
                what = f"Deleted file {one.number} can't be copied: {report.message or report.reason}."
                do = "What has a certificate beside it is complete; the rest can be asked for again."
                raise DeviceError(what, safe="Nothing on the recorder was changed.", do=do)
    return holes


def _certificate(
    one: Remnant, holes: Sequence[Extent], order: Order, recorder: MassStorage, digest: str
) -> dict[str, object]:
    """What a copy is and isn't, for whoever finds it."""
    return {
        "kind": "recovered from a deleted entry",
        "derivative": True,
        "sure": one.sure.value,
        "doubts": [*one.doubts, *_ALWAYS],
        "source": {"path": str(order.source), **asdict(recorder.device), "metadata_blake3": digest},
        "entry": dict(one.detail),
        "extents": one.extents,
        "unreadable": holes,
        "tool": AGENT,
        "at": order.at.isoformat(),
        "who": order.who,
        "why": order.why,
        "journaled": order.journaled,
    }


def _suffix(one: Remnant) -> str:
    """What a recorder says of a name is not used for one, but for a plain extension."""
    suffix = name_of(str(one.detail["path"])).suffix.lower()
    return suffix if suffix[1:].isascii() and suffix[1:].isalnum() and len(suffix) <= 5 else ".bin"


async def journal_recovery(station: Station, asked: Mapping[str, str]) -> dict[str, object]:
    """Take down that somebody recovers deleted files: `source`, `folder`, `files`, `who`, `why`."""
    told = {name: asked[name][:_TOLD_LIMIT] for name in ("source", "folder", "files", "who", "why")}
    await station.journal.record(Incident("recovery", told))
    return {}
