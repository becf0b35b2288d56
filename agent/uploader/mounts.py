"""What the kernel says of the mount under an open file: its filesystem and options (proc(5), /proc/pid/mountinfo)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "fuse.sshfs", "fuse.rclone"})
_MODELESS: Final = frozenset({"cifs", "smb3", "smbfs", "vfat", "exfat", "ntfs", "ntfs3", "9p"})
_MOUNT_ID: Final = re.compile(r"^mnt_id:\s*(\d+)$", re.MULTILINE)
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount; `kind` is the filesystem's name as the kernel says it, `source` the device or share."""

    kind: str
    source: str
    options: frozenset[str]

    @property
    def is_network(self) -> bool:
        """Whether another machine keeps the bytes."""
        return self.kind in _NETWORK


def mount_of(fd: int) -> Mount | None:
    """The mount that a descriptor lies on; None if it was taken away meanwhile. Raises OSError."""
    found = _MOUNT_ID.search(Path(f"/proc/self/fdinfo/{fd}").read_text("ascii"))
    mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    return find(mounts, found[1]) if found else None


def find(mountinfo: str, mount_id: str) -> Mount | None:
    """The mount of this number in the text of a mountinfo file."""
    for line in mountinfo.splitlines():
        words = line.split(" ")
        if words[0] == mount_id:
            kind, source, *more = words[words.index("-", 6) + 1 :]
            options = ",".join((words[5], *more)).split(",")
            return Mount(kind, _ESCAPED.sub(lambda code: chr(int(code[1], 8)), source), frozenset(options))
    return None


def keeps_modes(fd: int) -> bool:
    """Whether the filesystem under a file remembers who may write to it; shares for Windows often don't."""
    mount = mount_of(fd)
    return mount is not None and mount.kind not in _MODELESS and not mount.kind.startswith("fuse")
