"""Builds the Debian package: the agent, what it runs on as the lock pins it, and files of systemd, udev, man, bash."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from documents import completion, config_page, program_page
from packaging.requirements import Requirement

from agent import __version__

ROOT: Final = Path(__file__).resolve().parents[1]
FILES: Final = Path(__file__).resolve().with_name("debian")
HOME: Final = "usr/lib/capture-agent"
SITE: Final = f"{HOME}/lib/python3.11/site-packages"
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
# Debian 12 has the very version that the lock pins, compiled for each architecture.
FROM_DEBIAN: Final = {"systemd-python"}
UNITS: Final = (
    "capture-agent.service",
    "capture-agent.socket",
    "capture-agent-failure.service",
    "capture-agent-again.timer",
)
PAGES: Final = ("operations.md", "operations.zh-CN.md", "metrics.md")
FLEET: Final = ("prometheus.yml", "capture-agent.rules.yml", "capture-agent.dashboard.json")
COPIES: Final = {
    **{f"systemd/{name}": f"lib/systemd/system/{name}" for name in UNITS},
    "systemd/capture-agent.sysusers": "usr/lib/sysusers.d/capture-agent.conf",
    "systemd/capture-agent.tmpfiles": "usr/lib/tmpfiles.d/capture-agent.conf",
    "systemd/62-capture-agent.rules": "lib/udev/rules.d/62-capture-agent.rules",
    "systemd/74-capture-agent.rules": "lib/udev/rules.d/74-capture-agent.rules",
    "packaging/kit/verify.py": f"{SITE}/agent/kit/verify.py",
    "packaging/debian/lintian-overrides": "usr/share/lintian/overrides/capture-agent",
    "packaging/debian/copyright": "usr/share/doc/capture-agent/copyright",
    **{f"docs/{name}": f"usr/share/doc/capture-agent/{name}" for name in PAGES},
    **{f"packaging/fleet/{name}": f"usr/share/capture-agent/fleet/{name}" for name in FLEET},
}


def needed() -> set[str]:
    """Names of the distributions that the agent runs on, with those that they need; the environment knows them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    waiting = [*project["dependencies"], *project["optional-dependencies"]["forensic"]]
    found: set[str] = set()
    while waiting:
        wanted = Requirement(waiting.pop())
        name = wanted.name.lower().replace("_", "-")
        if name not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            found.add(name)
            waiting += distribution(name).requires or ()
    return found


def locked(names: set[str]) -> Iterator[str]:
    """The lines of the lock, with all hashes, of these distributions."""
    keep = False
    for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines():
        if line[:1].isalnum():
            keep = line.partition("==")[0] in names
        if keep:
            yield line


def install(site: Path, architecture: str, work: Path) -> None:
    """Put the wheels of that architecture, and the agent's own, into the folder; nothing is compiled."""
    (work / "lock").write_text("\n".join(locked(needed() - FROM_DEBIAN)))
    run("-m", "hatchling", "build", "-t", "wheel", "-d", str(work))
    run(
        "-m", "uv", "pip", "install", "--quiet", "--no-config", "--no-deps", "--require-hashes", "--only-binary=:all:",
        "--link-mode=copy", "--target", str(site), "--python=/usr/bin/python3", "--python-version=3.11",
        f"--python-platform={MACHINES[architecture]}-manylinux_2_36", "-r", str(work / "lock"),
    )  # fmt: skip
    # Not by uv, which would note where and when it found it.
    with zipfile.ZipFile(next(work.glob("capture_agent-*.whl"))) as wheel:
        wheel.extractall(site)
    shutil.rmtree(site / "bin")  # programs of others, which name the Python of this machine
    (site / ".lock").unlink(missing_ok=True)


def run(*words: str) -> None:
    """Run a module of this environment."""
    subprocess.run([sys.executable, *words], check=True, cwd=ROOT, stdout=sys.stderr)


def stage(root: Path, architecture: str, work: Path, epoch_s: int) -> None:
    """Lay out the whole package below an empty folder, but for its control files."""
    site = root / SITE
    site.mkdir(parents=True)
    install(site, architecture, work)
    (root / HOME / "bin").mkdir()
    (root / HOME / "bin" / "python3").symlink_to("../../../bin/python3")
    (root / HOME / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = true\nversion = 3.11\n")
    write(root / "usr/bin/capture-agent", (FILES / "capture-agent").read_bytes(), 0o755)
    for source, target in COPIES.items():
        write(root / target, (ROOT / source).read_bytes())
    shutil.copytree(ROOT / "config", root / "etc/capture-agent")
    (root / "etc/capture-agent/calendar.d").mkdir(exist_ok=True)
    (root / "usr/share/bash-completion/completions").mkdir(parents=True)
    (root / "usr/share/bash-completion/completions/capture-agent").write_text(completion(), "utf-8")
    documents = {
        "man/man1/capture-agent.1": program_page(),
        "man/man5/agent.toml.5": config_page((ROOT / "config/agent.toml").read_text("utf-8"), epoch_s),
        "doc/capture-agent/changelog": (FILES / "changelog").read_text("utf-8").format(version=__version__),
        "doc/capture-agent/CHANGELOG.md": (ROOT / "CHANGELOG.md").read_text("utf-8"),
    }
    for name, text in documents.items():
        write(root / "usr/share" / f"{name}.gz", gzip.compress(text.encode(), 9, mtime=0))


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file, its folders too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def control(root: Path, architecture: str) -> None:
    """Write what dpkg reads: fields, sums, configuration files, maintainer scripts."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    names = [path.relative_to(root).as_posix() for path in files]
    size_kib = sum(-(-path.lstat().st_size // 1024) if path in files else 1 for path in root.rglob("*"))
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {name}\n"
        for path, name in zip(files, names, strict=True)
        if not name.startswith("etc/")
    ]
    fields = (FILES / "control").read_text("utf-8")
    fields = fields.format(version=__version__, architecture=architecture, size_kib=size_kib)
    write(root / "DEBIAN/control", fields.encode())
    write(root / "DEBIAN/md5sums", "".join(sums).encode())
    write(root / "DEBIAN/conffiles", "".join(f"/{name}\n" for name in names if name.startswith("etc/")).encode())
    for script in ("postinst", "prerm", "postrm"):
        write(root / "DEBIAN" / script, (FILES / script).read_bytes(), 0o755)


def settle(root: Path, epoch_s: int) -> None:
    """Give everything permissions and times that don't tell who built it, when, with which umask."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            is_open = path.is_dir() or (path.parent.name in {"bin", "DEBIAN"} and os.access(path, os.X_OK))
            path.chmod(0o755 if is_open else 0o644)
        os.utime(path, (epoch_s, epoch_s), follow_symlinks=False)


def main() -> int:
    """Build into `--output` and print the package's path; SOURCE_DATE_EPOCH is its time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", choices=MACHINES, default="amd64")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--compression", choices=["gzip", "none"], default="gzip", help="none: bigger and quicker")
    options = parser.parse_args()
    epoch_s = int(os.environ["SOURCE_DATE_EPOCH"])
    package = options.output.resolve() / f"capture-agent_{__version__}_{options.architecture}.deb"
    package.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="capture-agent-deb-") as folder:
        root, work = Path(folder) / "root", Path(folder) / "work"
        root.mkdir()
        work.mkdir()
        stage(root, options.architecture, work, epoch_s)
        control(root, options.architecture)
        settle(root, epoch_s)
        # xz would save a fifth and take sixteen times as long.
        words = ["dpkg-deb", "--root-owner-group", f"-Z{options.compression}", "--build", str(root), str(package)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    print(package)
    return 0


if __name__ == "__main__":
    sys.exit(main())
