"""Where a kit may be written: into a new folder, away from everything that this station keeps or reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.config import Config
from agent.drivers.detect import lies_on_recorder
from agent.durable import PART_SUFFIX
from agent.errors import RequestError


def part_of(folder: Path) -> Path:
    """Where a kit lies until it is complete."""
    return folder.with_name(folder.name + PART_SUFFIX)


def check_place(folder: Path, config: Config, size_bytes: int) -> None:
    """Raises RequestError if no kit of this size can be written to `folder`, which is absolute."""
    parent, part = folder.parent, part_of(folder)
    if not parent.is_dir() or not folder.name:
        raise _refused(folder, "上级目录不存在", "the folder above it is not there")
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
        raise _refused(folder, "已存在且不为空", "it is there, and not an empty folder")
    if os.path.lexists(part):
        raise _refused(part, "上次导出未完成，请先移走", "an export that did not end has left it: move it away first")
    if _is_inside(parent.resolve(), _kept(config)):
        raise _refused(folder, "位于本站保存原始资料的位置", "this station keeps its evidence there")
    if lies_on_recorder(parent) or _is_image_in(parent, config.dock.image_dir):
        raise _refused(folder, "位于记录设备上", "it lies on a recorder")
    free = os.statvfs(parent)
    if free.f_bavail * free.f_frsize < size_bytes:
        raise _refused(folder, f"空间不足，需要 {size_bytes} 字节", f"it has no room for {size_bytes} bytes")


def _kept(config: Config) -> Iterator[Path]:
    """The station's storage and the store's folder, with the folders below them: each may be a mount of its own."""
    stores = (Path(str(value)) for value in config.store.options.values() if str(value).startswith("/"))
    for root in (config.storage.root, *stores):
        yield root
        if root.is_dir():
            yield from (path for path in root.iterdir() if path.is_dir())


def _is_inside(place: Path, kept: Iterable[Path]) -> bool:
    """By what the folders are, not by their names: a bind mount or a link is the same folder."""
    above = {(one.st_dev, one.st_ino) for one in (path.stat() for path in (place, *place.parents))}
    return any((one.st_dev, one.st_ino) in above for one in (path.stat() for path in kept if path.is_dir()))


def _is_image_in(place: Path, images: Path | None) -> bool:
    """Whether a folder is on a loop device whose file counts as a docked recorder."""
    disk = os.stat(place).st_dev
    backing = Path(f"/sys/dev/block/{os.major(disk)}:{os.minor(disk)}/loop/backing_file")
    if images is None or not backing.exists():
        return False
    return Path(backing.read_text().strip()).is_relative_to(images.resolve())


def _refused(folder: Path, zh: str, en: str) -> RequestError:
    return RequestError(
        f"不能导出到 {folder}：{zh} / nothing can be exported to it: {en}.",
        safe="Nothing was exported.",
        do="Name a new folder on another disk.",
    )
