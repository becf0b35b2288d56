"""Who may read and write what: the configuration, the station's storage, and the immutable flag on originals."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from agent import durable
from agent.doctor.finding import Case, Finding, Grade

_LOOKED_AT: Final = 20_000
_SEALS: Final = 200
_WRITE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_ANY_WRITE: Final = 0o222


def look_at_permissions(case: Case) -> Iterator[Finding]:
    """Configuration and storage; of a large storage the first 20,000 entries."""
    yield from _configuration(case.path.parent)
    root = case.known.storage.root
    if not root.exists():
        do = "启动服务时会自动建立", "Starting the service makes it."
        yield Finding(Grade.WARNING, f"{root} 尚不存在", f"{root} is not there yet", *do)
        return
    wrong: Counter[str] = Counter()
    looked_at = 0
    for path, status in _entries(root):
        looked_at += 1
        wrong["foreign"] += status.st_uid != case.owner
        wrong["open"] += not stat.S_ISSOCK(status.st_mode) and bool(status.st_mode & _WRITE_BY_OTHERS)
        is_original = path.parent.parent.name == "vault" and stat.S_ISREG(status.st_mode)
        wrong["writable"] += is_original and bool(status.st_mode & _ANY_WRITE)
    yield from _storage(root, looked_at, wrong)


def _configuration(folder: Path) -> Iterator[Finding]:
    paths = [folder, *islice(folder.rglob("*"), _LOOKED_AT)]
    found = [path for path in paths if (status := path.lstat()).st_mode & _WRITE_BY_OTHERS and not _is_link(status)]
    if found:
        names = " ".join(map(str, found[:5]))
        do = f"运行 chmod -R go-w {folder}", f"Run `chmod -R go-w {folder}`."
        zh = f"配置可被管理员以外的人改写：{names}"
        yield Finding(Grade.BAD, zh, f"others than its owner may change the configuration: {names}", *do)
    else:
        told = f"{folder} 只有其所有者可以改写", f"{folder}: only its owner may change it"
        yield Finding(Grade.GOOD, *told)


def _is_link(status: os.stat_result) -> bool:
    return stat.S_ISLNK(status.st_mode)


def _entries(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The folder and what is beneath it, without files that vanish meanwhile; raises OSError if it can't be read."""

    def refuse(error: OSError) -> None:
        raise error

    yield root, root.lstat()
    left = _LOOKED_AT
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if name != "lost+found"]  # the filesystem's own
        for name in (*folders, *files)[:left]:
            left -= 1
            try:
                yield Path(folder, name), os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
        if left <= 0:
            return


def _storage(root: Path, looked_at: int, wrong: Counter[str]) -> Iterator[Finding]:
    give = "chown capture-agent: 这些文件；今后不要以 root 手工采集", "Give them to the service's user (`chown`)."
    close = f"运行 chmod -R go-w {root}", f"Run `chmod -R go-w {root}`."
    read = "运行 capture-agent verify，并联系维护人员", "Run `capture-agent verify`: the agent never leaves them so."
    bad = (
        ("foreign", "不属于服务的用户", "do not belong to the service's user, who may not read them", give),
        ("open", "他人可以改写", "may be changed by others", close),
        ("writable", "份原始资料可写", "originals are writable", read),
    )
    for name, zh, en, do in bad:
        if count := wrong[name]:
            yield Finding(Grade.BAD, f"{root}：{count} 个{zh}", f"{root}: {count} {en}", *do)
    if not sum(wrong.values()):
        more = " (the first ones)" if looked_at >= _LOOKED_AT else ""
        told = (
            f"{root}：检查 {looked_at} 项，所有者与权限无误",
            f"{root}: owner and rights of {looked_at} entries{more}",
        )
        yield Finding(Grade.GOOD, *told)


def look_at_seals(case: Case) -> Iterator[Finding]:
    """Whether originals that are here have the immutable flag; nothing is written to try it."""
    storage = case.known.storage
    if not storage.seal:
        yield Finding(Grade.GOOD, "按配置不设防改标志", "switched off by storage.seal")
        return
    paths = list(islice((storage.root / "vault").glob("??/*"), _SEALS))
    sealed = sum(map(durable.is_immutable, paths))
    if not paths:
        yield Finding(Grade.UNKNOWN, "尚无原始资料，无从检查", "nothing is held yet, so it can't be seen")
    elif sealed == len(paths):
        told = f"检查 {sealed} 份原始资料，均有防改标志", f"{sealed} originals were looked at, all immutable"
        yield Finding(Grade.GOOD, *told)
    else:
        zh = f"检查 {len(paths)} 份原始资料，{len(paths) - sealed} 份没有防改标志，只是只读"
        en = f"of {len(paths)} originals that were looked at {len(paths) - sealed} are not immutable, only read-only"
        do = (
            "storage.root 须在 ext4、xfs 或 btrfs 上，服务须有 CAP_LINUX_IMMUTABLE",
            "storage.root must be on ext4, xfs or btrfs, and the service needs CAP_LINUX_IMMUTABLE (see its unit).",
        )
        yield Finding(Grade.WARNING, zh, en, *do)
