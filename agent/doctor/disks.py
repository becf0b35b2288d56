"""The disks beneath the station's storage and a store that is a folder: room, filesystem, and what they say (SMART)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from agent.config import Config
from agent.doctor.finding import Case, Finding, Grade, ask
from agent.uploader.mounts import Mount, mount_of

_GB: Final = 1_000_000_000
_FEW_INODES: Final = 0.05
_USED_UP_PERCENT: Final = 90
_VOLATILE: Final = frozenset({"tmpfs", "ramfs", "overlay"})
_UNSAFE_OPTIONS: Final = frozenset({"nobarrier", "barrier=0", "data=writeback"})
_FAILING, _WORN = 0x08, 0x30
"""Bits of smartctl's exit code: the disk says that it fails; an attribute is or was at its threshold."""
_SECTORS: Final[Mapping[int, tuple[str, str]]] = {
    5: ("已重映射扇区", "reallocated sectors"),
    197: ("待处理扇区", "pending sectors"),
    198: ("无法修复扇区", "uncorrectable sectors"),
}
"""Attributes of ATA disks that tell of lost sectors; vendors agree on these numbers."""


def look_at_disks(case: Case) -> Iterator[Finding]:
    """Each place, then each disk once."""
    config = case.known
    disks: dict[str, None] = {}
    numbers: dict[int, Path] = {}
    for path in _places(config):
        with_fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mount, space, number = mount_of(with_fd), os.statvfs(with_fd), os.fstat(with_fd).st_dev
        finally:
            os.close(with_fd)
        if mount is None:
            yield Finding(Grade.UNKNOWN, f"{path} 刚被卸载", f"{path} was unmounted in this moment")
            continue
        yield from judged_mount(path, mount, is_own=path == config.storage.root)
        yield from judged_room(path, space, config.storage.reserve_bytes if path == config.storage.root else 0)
        if number in numbers:
            told = f"{path} 与 {numbers[number]} 在同一文件系统", f"{path} and {numbers[number]} are one filesystem"
            do = "把专用存储器放到另一块磁盘", "Put the store on another disk: one fault would take both copies."
            yield Finding(Grade.WARNING, *told, *do)
        found = physical(Path("/sys/dev/block") / f"{os.major(number)}:{os.minor(number)}")
        yield from _errors(path, number) if number not in numbers else ()
        disks.update(dict.fromkeys(found))
        numbers.setdefault(number, path)
    for disk in disks:
        yield from _smart(disk, is_root=case.is_root)


def _places(config: Config) -> Iterator[Path]:
    """Folders that exist; the store's is only looked at if it is a folder on this machine."""
    if config.storage.root.is_dir():
        yield config.storage.root
    path = config.store.options.get("path", "/srv/evidence") if config.store.kind == "directory" else None
    if isinstance(path, str) and Path(path).is_dir():
        yield Path(path)


def judged_mount(path: Path, mount: Mount, *, is_own: bool) -> Iterator[Finding]:
    """What the filesystem and its options mean for evidence."""
    named = f"{path}（{mount.kind}，{mount.source}）", f"{path} ({mount.kind} on {mount.source})"
    bad = False
    if "ro" in mount.options:
        do = "查看 journalctl -k；磁盘可能已损坏", "See `journalctl -k`: the kernel does this when a disk fails."
        yield Finding(Grade.BAD, f"{named[0]} 只读", f"{named[1]} is read-only", *do)
        bad = True
    if is_own and (mount.kind in _VOLATILE or mount.is_network):
        do = "把 storage.root 放到本机磁盘（ext4 或 xfs）", "Put storage.root on a disk of this machine, ext4 or xfs."
        en = f"{named[1]} does not survive a power cut, or is another machine's"
        yield Finding(Grade.BAD, f"{named[0]} 断电不保，或不在本机", en, *do)
        bad = True
    if unsafe := sorted(mount.options & _UNSAFE_OPTIONS):
        do = "从 /etc/fstab 去掉这些选项", "Remove these options from /etc/fstab."
        told = f"{named[0]} 的挂载选项断电不安全：{unsafe}", f"{named[1]} is mounted unsafely for power cuts: {unsafe}"
        yield Finding(Grade.BAD, *told, *do)
        bad = True
    if not bad:
        yield Finding(Grade.GOOD, *named)


def judged_room(path: Path, space: os.statvfs_result, reserve_bytes: int) -> Iterator[Finding]:
    """Free bytes against the reserve, and free inodes."""
    free = space.f_bavail * space.f_frsize
    told = f"{path} 剩余 {free / _GB:.1f} GB", f"{path}: {free / _GB:.1f} GB are free"
    do = "换用更大的磁盘；不要动原始资料", "Give it a larger disk; never remove originals by hand."
    if free <= reserve_bytes:
        reserve = f"{reserve_bytes / _GB:.1f} GB"
        zh, en = f"{told[0]}，不足预留的 {reserve}，已停止采集", f"{told[1]}, less than the reserve of {reserve}"
        yield Finding(Grade.BAD, zh, en, *do)
    elif free <= 2 * reserve_bytes or free < space.f_blocks * space.f_frsize // 20:
        yield Finding(Grade.WARNING, f"{told[0]}，即将不足", f"{told[1]}, which is little", *do)
    else:
        yield Finding(Grade.GOOD, *told)
    if space.f_files and space.f_favail < _FEW_INODES * space.f_files:
        zh, en = f"{path} 只剩 {space.f_favail} 个 inode", f"{path}: only {space.f_favail} inodes are free"
        yield Finding(Grade.WARNING, zh, en, *do)


def physical(disk: Path) -> list[str]:
    """Names of the disks beneath a block device of sysfs, through partitions, LVM, RAID and encryption."""
    try:
        here = disk.resolve(strict=True)
    except OSError:
        return []  # no disk: a share, or a filesystem over several of them
    slaves = sorted((here / "slaves").iterdir()) if (here / "slaves").is_dir() else []
    if slaves:
        return list(dict.fromkeys(name for slave in slaves for name in physical(slave)))
    return [here.parent.name if (here / "partition").exists() else here.name]


def _errors(path: Path, number: int) -> Iterator[Finding]:
    """Errors that ext4 itself has written down (Documentation/admin-guide/ext4.rst)."""
    name = Path("/sys/dev/block", f"{os.major(number)}:{os.minor(number)}").resolve().name
    counter = Path("/sys/fs/ext4", name, "errors_count")
    if counter.exists() and (count := int(counter.read_text("ascii"))):
        do = "停止服务，卸载后运行 e2fsck -f", "Stop the service, unmount it, run `e2fsck -f`."
        zh, en = f"{path}：文件系统记下 {count} 个错误", f"{path}: the filesystem has noted {count} errors"
        yield Finding(Grade.BAD, zh, en, *do)


def _smart(disk: str, *, is_root: bool) -> Iterator[Finding]:
    if not is_root:
        yield Finding(Grade.UNKNOWN, f"{disk}：只有 root 能查看 SMART", f"{disk}: only root can ask for SMART")
        return
    told = ask("smartctl", "--json=c", "-H", "-A", f"/dev/{disk}")
    if told is None:
        do = "apt install smartmontools", "Run `apt install smartmontools`."
        yield Finding(Grade.UNKNOWN, f"{disk}：没有 smartctl", f"{disk}: there is no smartctl, or no answer", *do)
        return
    try:
        shown = json.loads(told[1])
    except ValueError:
        shown = None
    yield from judged_smart(disk, told[0], shown)


def judged_smart(disk: str, code: int, shown: object) -> Iterator[Finding]:
    """What smartctl found out; its exit code is a set of bits (smartctl(8))."""
    do = "备好新盘，尽快更换", "Replace the disk soon; see the operations guide."
    passed = None
    match shown:
        case {"smart_status": {"passed": bool(told)}}:
            passed = told
    lost = [f"{zh} {en}: {count}" for zh, en, count in _lost(shown)]
    if passed is False or code & _FAILING:
        yield Finding(Grade.BAD, f"{disk}：磁盘自报即将失效", f"{disk} says itself that it fails", *do)
    elif lost or code & _WORN:
        what = ", ".join(lost) or "an attribute is or was at its threshold"
        yield Finding(Grade.WARNING, f"{disk}：磁盘有损耗（{what}）", f"{disk} shows wear: {what}", *do)
    elif passed:
        yield Finding(Grade.GOOD, f"{disk}：SMART 正常", f"{disk}: SMART passed")
    else:
        yield Finding(Grade.UNKNOWN, f"{disk}：不提供 SMART", f"{disk} tells no SMART status")


def _lost(shown: object) -> Iterator[tuple[str, str, int]]:
    match shown:
        case {"ata_smart_attributes": {"table": list(rows)}}:
            for row in rows:
                match row:
                    case {"id": int(number), "raw": {"value": int(count)}} if number in _SECTORS and count:
                        yield (*_SECTORS[number], count)
        case {"nvme_smart_health_information_log": {"media_errors": int(count), "percentage_used": int(used)}}:
            if count:
                yield "介质错误", "media errors", count
            if used >= _USED_UP_PERCENT:
                yield "寿命已用 %", "percent of its life used", used
