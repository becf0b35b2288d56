"""Whether the service can look into its inboxes, and whether it can tell there who is still writing."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.config.inboxes import Inbox
from agent.doctor.finding import Case, Finding, Grade
from agent.drivers.folder_reader import Mark
from agent.inboxes.watcher import OpenFile, local_device

_TRIED_FILES: Final = 100


def look_at_inboxes(case: Case) -> Iterator[Finding]:
    """Each inbox; nothing in it is read but the list of its uppermost folder."""
    if not case.known.inboxes:
        yield Finding(Grade.GOOD, "没有配置收件夹", "no inbox is configured")
    for inbox in case.known.inboxes:
        yield from looked_into(inbox)


def looked_into(inbox: Inbox) -> Iterator[Finding]:
    """Whether it is there, may be listed and its files opened; and how long files must rest."""
    folder, zh, en = inbox.folder or Path(), f"收件夹 {inbox.title or inbox.name}", f"inbox {inbox.name}"
    grant = f"setfacl -R -m u:capture-agent:rX -m d:u:capture-agent:rX {folder}"
    try:
        with os.scandir(folder) as entries:
            names = [one.path for one in itertools.islice(entries, _TRIED_FILES) if one.is_file(follow_symlinks=False)]
        local_dev = local_device(str(folder), Path("/proc/self/mountinfo").read_text("utf-8", "replace"))
    except OSError as error:
        do = f"查看是否已挂载，或运行：{grant}", f"Is its disk or share mounted? Else run: {grant}"
        yield Finding(Grade.BAD, f"{zh}：无法查看 {folder}", f"{en}: {folder} can't be listed: {error.strerror}", *do)
        return
    told: dict[str, bool | None] = {}
    for name in names:
        try:
            told[name] = _is_written_to(name, local_dev)
        except PermissionError:
            yield Finding(Grade.BAD, f"{zh}：有文件无权读取", f"{en}: a file may not be read", grant, f"Run: {grant}")
            return
        except OSError:
            continue  # taken out since, or the reader's to be patient with
    if local_dev is None:
        why = "位于共享目录", "it lies on a share"
    elif None in told.values():
        why = "文件属于其他用户（docs/inbox.md，CAP_LEASE）", "files belong to other users (docs/inbox.md, CAP_LEASE)"
    else:
        yield Finding(Grade.GOOD, f"{zh}：可以查看", f"{en}: it can be looked into")
        return
    rest = f"{inbox.unsure_s:g}"
    zh, en = f"{zh}：{why[0]}，文件静止 {rest} 秒后采集", f"{en}: {why[1]}, so files must rest for {rest} s"
    yield Finding(Grade.GOOD, zh, en)


def _is_written_to(path: str, local_dev: int | None) -> bool | None:
    """As the watcher would find it; raises OSError."""
    with contextlib.ExitStack() as opened:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        opened.callback(os.close, fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        return OpenFile(fd, Mark(b"", 0, 0, 0, 0), set(), local_dev).is_written_to()
