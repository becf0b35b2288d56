"""The parser child: opens a device read-only, locks itself in, and prints what its filesystems hold as JSON lines."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType, TracebackType
from typing import Final

from agent.card import Finding, Space, Volume
from agent.drivers.exfat import ExFatVolume
from agent.drivers.fat import FatVolume
from agent.drivers.filesystem import SIZE_LIMIT_BYTES, Budget, File, Found
from agent.drivers.partition import FilesystemKind, Place, find_volumes
from agent.drivers.sandbox import lock_parser
from agent.drivers.source import FilesystemError, Source, open_read_only
from agent.drivers.tsk import TskVolume, load_tsk
from agent.drivers.walk import Walk

FLUSH_BYTES: Final = 32 * 1024
FIRST_EXTENTS: Final = 200
MORE_EXTENTS: Final = 1000
OUTPUT_FD: Final = 1
CODECS: Final = ("gbk", "utf-16-le", "utf-8", "ascii")

Line = Mapping[str, object]


class Output:
    """Writes JSON lines to a descriptor in large pieces; each line is ASCII and below 64 KiB."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pending = bytearray()

    def line(self, line: Line) -> None:
        """Add one line."""
        self._pending += json.dumps(line, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"
        if len(self._pending) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write out what is pending; raises OSError when nobody reads any more."""
        while self._pending:
            del self._pending[: os.write(self._fd, self._pending)]


class Report:
    """Turns what a walk finds into protocol lines; numbers clips from 1."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self.entries = 0
        self._space: Space | None = Space(0, 0, 0)

    def volume(self, volume: Volume) -> None:
        """One line for a filesystem."""
        self._output.line({"volume": volume._asdict()})

    def found(self, item: Found) -> None:
        """The line or lines for a file, a refused entry or a finding."""
        if isinstance(item, Finding):
            self.finding(item)
            return
        self.entries += 1
        if item.refusal:
            self._output.line({"refused": {"clip": self._clip(item), "reason": item.refusal}})
            return
        clip = {**self._clip(item), "zero_from": item.zero_from}
        self._output.line({"clip": clip, "extents": item.extents[:FIRST_EXTENTS]})
        for at in range(FIRST_EXTENTS, len(item.extents), MORE_EXTENTS):
            self._output.line({"more": item.extents[at : at + MORE_EXTENTS]})

    def finding(self, finding: Finding) -> None:
        """One line for a fact."""
        self._output.line({"finding": {"kind": finding.kind, "detail": finding.detail}})

    def space(self, space: Space | None) -> None:
        """What one filesystem has left; the sum of all is told at the end, if each is known."""
        known = self._space
        self._space = Space(*map(sum, zip(known, space, strict=True))) if known and space else None

    def end(self, metadata_blake3: str) -> None:
        """The line that says that this is all."""
        self._output.line({"end": {"entries": self.entries, "metadata_blake3": metadata_blake3, "space": self._space}})

    def _clip(self, item: File) -> Line:
        entry = item.entry
        return {
            "number": self.entries,
            "path": item.path,
            "raw_name": entry.raw_name.hex(),
            "size": min(entry.size_bytes, SIZE_LIMIT_BYTES),
            "readable": item.readable_bytes,
            "created": [entry.created.local, entry.created.offset_min],
            "modified": [entry.modified.local, entry.modified.offset_min],
            "flags": item.flags,
            "entry_offset": entry.entry_offset,
        }


def list_source(source: Source, report: Report, tsk: ModuleType | None) -> None:
    """Report all volumes of a device. Raises FilesystemError if there is none that can be read."""
    places = find_volumes(source)
    known = [place for place in places if _is_known(place, tsk)]
    if not known:
        kinds = ", ".join(sorted({place.kind.value for place in places}))
        kind = "no-filesystem" if kinds == FilesystemKind.UNKNOWN.value else "unsupported"
        raise FilesystemError(kind, f"No filesystem that can be read was found ({kinds}).")
    budget = Budget(2 * source.size_bytes)
    for number, place in enumerate(places, 1):
        if place not in known:
            detail = {"offset": place.offset, "size": place.size_bytes, "kind": place.kind.value}
            report.finding(Finding("unsupported", detail))
            continue
        # Two volumes may hold the same path; the first keeps the plain one, since nearly all cards have only one.
        listing = _open(source, place, tsk, budget, "" if number == 1 else f"volume-{number}")
        report.volume(listing.volume)
        for item in listing:
            report.found(item)
        report.space(listing.space() if isinstance(listing, Walk) else None)
    for offset, length in source.bad:
        report.finding(Finding("metadata-unreadable", {"offset": offset, "length": length}))


def _is_known(place: Place, tsk: ModuleType | None) -> bool:
    if place.kind in (FilesystemKind.NTFS, FilesystemKind.EXT):
        return tsk is not None
    return place.kind is not FilesystemKind.UNKNOWN


def _open(source: Source, place: Place, tsk: ModuleType | None, budget: Budget, prefix: str) -> Walk | TskVolume:
    if place.kind in (FilesystemKind.NTFS, FilesystemKind.EXT):
        return TskVolume(tsk, source, place, budget, prefix)
    reader = FatVolume if place.kind is FilesystemKind.FAT else ExFatVolume
    return Walk(reader(source, place.offset, place.boot_offset), budget, prefix)


def run(path: str, output: Output, *, cpu_s: int, memory_bytes: int) -> None:
    """List the device at `path`; the last line says that the listing is complete, or why it isn't."""
    try:
        fd, identity = open_read_only(path)
        output.line({"source": identity._asdict()})
        output.flush()
        tsk = load_tsk()
        has_seccomp = _lock(cpu_s, memory_bytes)
        source = Source(fd, identity.size)
        report = Report(output)
        list_source(source, report, tsk if has_seccomp else None)
        report.end(source.metadata_blake3())
    except FilesystemError as error:
        output.line({"error": {"kind": error.kind, "message": error.what}})
    except MemoryError:
        output.line({"error": {"kind": "limit", "message": "The card's directories need too much memory."}})
    output.flush()


def _lock(cpu_s: int, memory_bytes: int) -> bool:
    """Close the sandbox; whatever is imported later would be refused, codecs included."""
    for name in CODECS:
        codecs.lookup(name)
    try:
        return lock_parser(cpu_s=cpu_s, memory_bytes=memory_bytes)
    except OSError as error:
        raise FilesystemError("sandbox", f"The reader could not be locked in: {error}.") from error


def _report_bug(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    """Say what broke without a traceback, which would open source files and be killed for it."""
    os.write(2, f"{kind.__name__}: {error}\n".encode("ascii", "backslashreplace")[:1000])


def main(arguments: Sequence[str]) -> int:
    """Entry point: `python -I -m agent.drivers.parser <path> [<CPU seconds> <bytes of memory>]`."""
    sys.excepthook = _report_bug
    cpu_s, memory_bytes = map(int, arguments[1:]) if len(arguments) > 1 else (60, 768 << 20)
    run(arguments[0], Output(OUTPUT_FD), cpu_s=cpu_s, memory_bytes=memory_bytes)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
