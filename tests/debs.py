"""The Debian package for tests: really built, and a Debian 12 without network to install it in."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
EPOCH_S = 1_790_000_000
DEBIAN = CHECKOUT / ".cache" / "debian-12-amd64"
"""What `./run deb --check` makes of Debian's own packages: a minimal system, and what the package depends on."""

LIMIT_S = 500.0
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def tool(*words: str | Path, **environment: str) -> str:
    """What a tool prints; it must succeed."""
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(folder: Path, architecture: str = "amd64") -> Path:
    """A package as `./run deb` builds it, but not compressed."""
    words = ["--architecture", architecture, "--output", folder, "--compression", "none"]
    environment = {"SOURCE_DATE_EPOCH": f"{EPOCH_S}", "PYTHONPATH": f"{CHECKOUT}"}
    return Path(tool(sys.executable, CHECKOUT / "packaging" / "build.py", *words, **environment).strip())


def shared(factory: pytest.TempPathFactory) -> Path:
    """The package of this run of the tests, built once for all of its workers."""
    folder = factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "shared-deb"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return next(folder.glob("*.deb"), None) or built(folder)


def older(package: Path, folder: Path, version: str) -> Path:
    """The same package under another version."""
    tool("dpkg-deb", "-R", package, folder / version)
    control = folder / version / "DEBIAN" / "control"
    lines = control.read_text("utf-8").splitlines()
    control.write_text(
        "".join(f"Version: {version}\n" if line.startswith("Version:") else f"{line}\n" for line in lines)
    )
    tool("dpkg-deb", "-Znone", "--root-owner-group", "-b", folder / version, folder / f"{version}.deb")
    return folder / f"{version}.deb"


@dataclass(frozen=True, slots=True)
class Machine:
    """A Debian 12 that lasts as long as a test; every call runs without network, and leaves no process."""

    root: Path

    def call(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root, from /, with loopback as the only network."""
        inside = f"mount -t proc proc /proc; mount -t sysfs -o ro sysfs /sys; cd /; {script}"
        return subprocess.run(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-ec",
             'ip link set lo up; exec /usr/sbin/chroot "$0" /bin/bash -ec "$1"', self.root, inside],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S,
            check=False, env=ENVIRONMENT,
        )  # fmt: skip

    def run(self, script: str) -> str:
        """What a script prints; it must succeed."""
        done = self.call(script)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def agent(self, words: str) -> str:
        """What `capture-agent` prints to its own user."""
        return self.run(f"runuser -u capture-agent -- capture-agent {words}")

    def install(self, package: Path) -> str:
        """Install a package as people do."""
        name = f"/var/tmp/{package.name}"
        with (self.root / name[1:]).open("wb") as file:
            file.write(package.read_bytes())
        return self.run(f"apt-get install -q -y ./{name[1:]} 2>&1")


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A fresh one."""
    assert DEBIAN.is_dir(), "./run deb --check makes it"
    root, upper, work = folder / "root", folder / "upper", folder / "work"
    for path in (root, upper, work):
        path.mkdir()
    tool("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={DEBIAN},upperdir={upper},workdir={work}", root)
    try:
        for name in ("null", "zero", "full", "random", "urandom"):
            (root / "dev" / name).chmod(0o666)  # mmdebstrap makes them as the umask says
        yield Machine(root)
    finally:
        tool("umount", root)
