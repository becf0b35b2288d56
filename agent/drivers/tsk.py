"""Lists NTFS and ext volumes through the optional pytsk3; only ever imported by the parser, inside its sandbox."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, Final

from agent.card import Extent, Finding, Stamp, Volume
from agent.drivers.filesystem import DEPTH_LIMIT, Budget, Entry, File, Found
from agent.drivers.names import join_path, safe_name
from agent.drivers.partition import FilesystemKind, Place
from agent.drivers.source import FilesystemError, Source

DOT_NAMES: Final = frozenset({b".", b".."})
Tsk = Any
"""An object of pytsk3, which is published without types."""


def load_tsk() -> ModuleType | None:
    """The pytsk3 module, or None if the `forensic` extra isn't installed. Call before the sandbox closes."""
    try:
        return importlib.import_module("pytsk3")
    except ImportError:
        return None


class TskVolume:
    """An NTFS or ext volume. The type is always given: detection would read a whole card looking for rare formats."""

    def __init__(self, tsk: Tsk, source: Source, place: Place, budget: Budget, prefix: str = "") -> None:
        self._tsk = tsk
        self._offset = place.offset
        self._prefix = prefix
        self._budget = budget
        self._device_bytes = source.size_bytes
        is_ntfs = place.kind is FilesystemKind.NTFS
        kind = tsk.TSK_FS_TYPE_NTFS if is_ntfs else tsk.TSK_FS_TYPE_EXT_DETECT
        try:
            self._filesystem = tsk.FS_Info(_image(tsk, source), offset=place.offset, type=kind)
        except OSError as error:
            raise FilesystemError("no-filesystem", "The volume's first sectors are damaged.") from error
        info = self._filesystem.info
        self._block_bytes = int(info.block_size)
        size = self._block_bytes * int(info.block_count)
        identifier = bytes(info.fs_id)[: int(info.fs_id_used)][::-1].hex()
        kind_name = "ntfs" if is_ntfs else "ext"
        self.volume = Volume(kind_name, identifier, "", self._block_bytes, size, dirty=False)

    def __iter__(self) -> Iterator[Found]:
        stack = [(self._prefix, int(self._filesystem.info.root_inum), 0)]
        seen: set[int] = set()
        while stack:
            path, inode, depth = stack.pop()
            if inode in seen or depth > DEPTH_LIMIT:
                continue
            seen.add(inode)
            for raw_name, file in self._children(inode, path):
                if file is None:
                    yield Finding("directory-damaged", {"path": path})
                    continue
                self._budget.take_entry()
                item_path = join_path(path, safe_name(raw_name.decode("utf-8", "surrogateescape")))
                if self._is_directory(file) and not self._is_deleted(file):
                    stack.append((item_path, int(file.info.name.meta_addr), depth + 1))
                else:
                    yield from self._describe(item_path, raw_name, file)

    def _children(self, inode: int, path: str) -> Iterator[tuple[bytes, Tsk]]:
        """(raw name, file) of a directory; (b"", None) where it can't be read on. Never the orphan folder."""
        try:
            for file in self._filesystem.open_dir(inode=inode):
                raw_name = bytes(file.info.name.name or b"")
                is_system = not path and (raw_name.startswith(b"$") or raw_name == b"lost+found")
                if raw_name and raw_name not in DOT_NAMES and not is_system:
                    yield raw_name, file
        except OSError:
            yield b"", None

    def _is_deleted(self, file: Tsk) -> bool:
        return bool(int(file.info.name.flags) & int(self._tsk.TSK_FS_NAME_FLAG_UNALLOC))

    def _is_directory(self, file: Tsk) -> bool:
        return int(file.info.name.type) == int(self._tsk.TSK_FS_NAME_TYPE_DIR)

    def _describe(self, path: str, raw_name: bytes, file: Tsk) -> Iterator[Found]:
        meta = file.info.meta
        size = max(0, int(meta.size)) if meta else 0
        modified, created = (_stamp(meta.mtime), _stamp(meta.crtime)) if meta else (Stamp(), Stamp())
        name = path.rpartition("/")[2]
        entry = Entry(name, raw_name, size, size, 0, -1, created=created, modified=modified)
        if self._is_deleted(file):
            self._budget.deleted -= 1
            if self._budget.deleted < 0:
                return
            detail = {"path": path, "raw_name": raw_name.hex(), "size": size, "modified": [modified.local, 0]}
            yield Finding("deleted", {**detail, "name_quality": "exact", "state": "unknown", "extents": []})
        elif not meta or int(file.info.name.type) != int(self._tsk.TSK_FS_NAME_TYPE_REG):
            yield File(path, entry, refusal="not-a-file")
        elif size == 0:
            yield File(path, entry)
        else:
            yield self._locate(path, entry, file)

    def _locate(self, path: str, entry: Entry, file: Tsk) -> File:
        attribute = next((one for one in file if self._is_data(one)), None)
        if attribute is None:
            return File(path, entry, refusal="no-content")
        flags = int(attribute.info.flags)
        if flags & int(self._tsk.TSK_FS_ATTR_RES):
            return File(path, entry, refusal="stored-inside-its-record")
        if flags & (int(self._tsk.TSK_FS_ATTR_COMP) | int(self._tsk.TSK_FS_ATTR_ENC)):
            return File(path, entry, refusal="compressed-or-encrypted")
        stored = self._extents(attribute, entry.size_bytes)
        if stored is None:
            return File(path, entry, refusal="has-holes")
        extents, ends_in_zeros = stored
        covered = sum(length for _, length in extents)
        readable = entry.size_bytes if ends_in_zeros else covered
        reason = self._budget.refusal(readable, len(extents)) if readable else "no-clusters"
        if reason:
            return File(path, entry, refusal=reason)
        if ends_in_zeros:
            return File(path, entry, readable, extents, ("valid-shorter",), covered)
        return File(path, entry, covered, extents, ("chain-short",) if covered < entry.size_bytes else ())

    def _extents(self, attribute: Tsk, size_bytes: int) -> tuple[tuple[Extent, ...], bool] | None:
        """Where the stored content is, and whether zeros that take no room follow; None if they lie in between."""
        unstored = int(self._tsk.TSK_FS_ATTR_RUN_FLAG_SPARSE) | int(self._tsk.TSK_FS_ATTR_RUN_FLAG_FILLER)
        extents: list[Extent] = []
        is_hole = False
        left = size_bytes
        for run in attribute:
            if int(run.flags) & unstored:
                is_hole = True
                continue
            offset = self._offset + int(run.addr) * self._block_bytes
            length = min(int(run.len) * self._block_bytes, left, self._device_bytes - offset)
            if length <= 0:
                break
            if is_hole:
                return None
            extents.append((offset, length))
            left -= length
        return tuple(extents), is_hole

    def _is_data(self, attribute: Tsk) -> bool:
        kinds = (self._tsk.TSK_FS_ATTR_TYPE_NTFS_DATA, self._tsk.TSK_FS_ATTR_TYPE_DEFAULT)
        return int(attribute.info.type) in {int(kind) for kind in kinds} and not attribute.info.name


def _image(tsk: Tsk, source: Source) -> Tsk:
    """Lets pytsk3 read through our source, so that its reads are bounded and fingerprinted too."""

    class Image(tsk.Img_Info):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(url="", type=tsk.TSK_IMG_TYPE_EXTERNAL)

        def close(self) -> None:
            """Nothing to close: the parser owns the descriptor."""

        def read(self, offset: int, length: int) -> bytes:
            return source.read(offset, length)

        def get_size(self) -> int:
            return source.size_bytes

    return Image()


def _stamp(seconds: int) -> Stamp:
    """NTFS and ext store UTC."""
    if not 0 < seconds < 1 << 33:
        return Stamp()
    return Stamp(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(), 0)
