"""Builds the disks of the test machine, once: a Debian 12 without the agent, and from it one that has it."""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.machine.drives import apart
from tests.machine.initrd import pack

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "vm"
PACKAGES = HERE / "packages.txt"
CONFIGURE = HERE / "configure.sh"
SIZE = "8G"
KEPT_INSTALLED = 16
LIMIT_S = 1500.0
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}
LEFT_OUT = ("man", "doc", "info", "locale", "icons")
LEFT_OUT_LIBRARIES = ("dri", "libLLVM", "libz3", "mfx")
ARCHIVES = (
    "deb http://deb.debian.org/debian bookworm main",
    "deb http://deb.debian.org/debian bookworm-updates main",
    "deb http://deb.debian.org/debian-security bookworm-security main",
)


@dataclass(frozen=True, slots=True)
class Image:
    """A disk (raw ext4, never written to: tests get overlays), and the kernel with its memory disk that boot it."""

    disk: Path
    kernel: Path
    initrd: Path


def base() -> Image:
    """The Debian without the agent; it is built if it isn't there yet, which takes minutes and Debian's archive."""
    assert os.geteuid() == 0, "the image of the test machine is built by root"
    folder = CACHE / f"base-{_digest(PACKAGES, CONFIGURE, HERE / 'initrd.py', Path(__file__))}"
    with alone():
        if not folder.is_dir():
            made = folder.with_suffix(".part")
            shutil.rmtree(made, ignore_errors=True)
            _make_base(_packages(), made)
            made.rename(folder)
    return Image(folder / "disk.ext4", folder / "vmlinux", folder / "initrd")


def installed(package: Path) -> Image:
    """The Debian with this package installed, without network; made once for each package, the last few are kept."""
    plain = base()
    disk = plain.disk.with_name(f"installed-{_digest(package)}.ext4")
    with alone():
        if not disk.exists():
            _install(plain.disk.parent / "root", package, disk)
        os.utime(disk)
        for old in sorted(disk.parent.glob("installed-*.ext4"), key=_age, reverse=True)[KEPT_INSTALLED:]:
            old.unlink()
            shutil.rmtree(old.with_suffix(".frozen"), ignore_errors=True)
    return Image(disk, plain.kernel, plain.initrd)


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _digest(*paths: Path) -> str:
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:12]


@contextmanager
def alone() -> Iterator[None]:
    """One build at a time, of all the clones that share the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*words: str | Path, **environment: str) -> None:
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
        env=ENVIRONMENT | environment,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "replace")[-4000:]


def _packages() -> Path:
    """Debian's own packages, unpacked and configured, as one archive."""
    archive = CACHE / f"packages-{_digest(PACKAGES)}.tar"
    if not archive.exists():
        names = [
            name for line in PACKAGES.read_text().splitlines() if not line.startswith("#") for name in line.split()
        ]
        without = [f"/usr/share/{name}/*" for name in LEFT_OUT]
        without += [f"/usr/lib/x86_64-linux-gnu/{name}*" for name in LEFT_OUT_LIBRARIES]
        part = archive.with_suffix(".part")
        _run(
            "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=tar", "--dpkgopt=force-confold",
            '--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "5"',
            *(f"--dpkgopt=path-exclude={path}" for path in without), f"--include={','.join(names)}",
            # The memory disk is ours, and far smaller.
            '--essential-hook=mkdir -p "$1/etc/initramfs-tools"; '
            'echo "do_initrd = no" >"$1/etc/kernel-img.conf"; '
            'echo update_initramfs=no >"$1/etc/initramfs-tools/update-initramfs.conf"',
            "bookworm", part, *ARCHIVES,
        )  # fmt: skip
        part.rename(archive)
    return archive


def _make_base(packages: Path, folder: Path) -> None:
    root = folder / "root"
    root.mkdir(parents=True)
    _run("tar", "-C", root, "--numeric-owner", "--xattrs", "-xf", packages)
    shutil.copy(CONFIGURE, root / "configure.sh")
    _inside(root, "sh /configure.sh")
    (root / "configure.sh").unlink()
    (modules,) = (root / "usr/lib/modules").iterdir()
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    (folder / "vmlinux").write_bytes(_uncompressed(kernel.read_bytes()))
    (folder / "initrd").write_bytes(pack(root, modules))
    _make_disk(root, folder / "disk.ext4")


def _uncompressed(kernel: bytes) -> bytes:
    """The kernel as QEMU starts it through its PVH note: unpacking it would take seconds without a real processor."""
    found = lzma.LZMADecompressor().decompress(kernel[kernel.index(b"\xfd7zXZ\0") :])
    assert found.startswith(b"\x7fELF")
    return found


def _install(root: Path, package: Path, disk: Path) -> None:
    """Install on an overlay at the speed of this machine: compiling its modules in the test machine takes minutes."""
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        upper, work, merged = (Path(made) / name for name in ("upper", "work", "merged"))
        for path in (upper, work, merged):
            path.mkdir()
        _run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={root},upperdir={upper},workdir={work}", merged)
        try:
            shutil.copy(package, merged / "var/tmp" / package.name)
            _inside(merged, f"apt-get install -q -y /var/tmp/{package.name}")
            (merged / "var/tmp" / package.name).unlink()
            _make_disk(merged, disk)
        finally:
            _run("umount", merged)


def _inside(root: Path, command: str) -> None:
    """Run a shell command as root in a Debian, without network; its mounts end with it."""
    script = (
        'mount -t proc proc "$0/proc"; mount -t tmpfs tmpfs "$0/run"; mount -t tmpfs tmpfs "$0/tmp"; '
        'mount --rbind /dev "$0/dev"; exec chroot "$0" /bin/sh -ec "$1"'
    )
    _run(
        "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
        "/bin/sh", "-ec", script, root, command,
    )  # fmt: skip


def _make_disk(root: Path, disk: Path) -> None:
    part = disk.with_suffix(".part")
    part.unlink(missing_ok=True)
    _run(
        *apart("mke2fs"), "-q", "-F", "-t", "ext4", "-d", root, "-L", "root", "-b", "4096", "-m", "1",
        "-O", "verity,^orphan_file,metadata_csum", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", part, SIZE,
    )  # fmt: skip
    part.rename(disk)
