"""Packs the initial memory disk of the test machine: the modules that its root needs, a check of it, the way on."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

MODULES = (
    "virtio_pci", "virtio_blk", "crc32c_generic", "crc32c_intel", "ext4", "virtio_console", "virtio_net", "virtio_rng",
    "9pnet_virtio", "9p", "autofs4", "xhci_pci",
)  # fmt: skip
FOLDERS = ("bin", "dev", "m", "proc", "root", "run", "sys")
APPLETS = ("cat", "insmod", "mkdir", "mount", "sh", "sleep", "switch_root", "umount")
SIGNED = b"~Module signature appended~\n"

INIT = b"""#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
mount -t tmpfs -o mode=755,nosuid,nodev run /run
for module in /m/*; do insmod $module; done
tries=0
until [ -b /dev/vda ]; do
  tries=$((tries+1)); [ $tries -lt 200 ] || { echo "initrd: no /dev/vda"; exec sh; }; sleep 0.05
done
mkdir -p /run/initramfs
e2fsck -p /dev/vda >/run/initramfs/fsck.log 2>&1; echo "rc=$?" >>/run/initramfs/fsck.log
: >/run/initramfs/fsck-root
mount -t ext4 -o ro,errors=remount-ro /dev/vda /root || { echo "initrd: /dev/vda can't be mounted"; exec sh; }
mount -o move /dev /root/dev; mount -o move /run /root/run; umount /proc; umount /sys
exec switch_root /root /sbin/init
"""


def pack(root: Path, modules: Path) -> bytes:
    """The archive (cpio "newc"): busybox and e2fsck of the Debian at `root`, kernel modules of the folder `modules`."""
    entries = [(folder, stat.S_IFDIR | 0o755, b"", (0, 0)) for folder in FOLDERS]
    entries += [("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)), ("dev/null", stat.S_IFCHR | 0o666, b"", (1, 3))]
    entries += [("bin/busybox", stat.S_IFREG | 0o755, (root / "bin/busybox").read_bytes(), (0, 0))]
    entries += [("bin/e2fsck", stat.S_IFREG | 0o755, (root / "sbin/e2fsck.static").read_bytes(), (0, 0))]
    entries += [(f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox", (0, 0)) for name in APPLETS]
    for index, path in enumerate(_in_order(modules)):
        entries.append((f"m/{index:02}-{Path(path).name}", stat.S_IFREG | 0o644, _unsigned(modules / path), (0, 0)))
    entries += [("init", stat.S_IFREG | 0o755, INIT, (0, 0)), ("TRAILER!!!", 0, b"", (0, 0))]
    return b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1))


def _in_order(modules: Path) -> list[str]:
    """Paths of the modules and of what they need, in the order in which they can be loaded."""
    needs = dict(line.split(":") for line in (modules / "modules.dep").read_text().splitlines())
    paths = {Path(path).stem.replace("-", "_"): path for path in needs}

    def with_needs(path: str) -> Iterator[str]:
        for needed in reversed(needs[path].split()):
            yield from with_needs(needed)
        yield path

    return list(dict.fromkeys(path for name in MODULES if name in paths for path in with_needs(paths[name])))


def _unsigned(path: Path) -> bytes:
    """A module without its signature, whose check is slow on an emulated processor; it taints the kernel."""
    module = path.read_bytes()
    if not module.endswith(SIGNED):
        return module
    module = module[: -len(SIGNED)]
    return module[: -12 - int.from_bytes(module[-4:], "big")]


def _entry(number: int, path: str, mode: int, content: bytes, device: tuple[int, int]) -> bytes:
    name = path.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
    head = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
