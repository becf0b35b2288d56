"""What the machine is and does while the bench runs: a figure without it says nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from agent import __version__


def state(folder: Path) -> list[tuple[str, str]]:
    """Names and values for the head of the report; `folder` is where everything lies."""
    cores = os.cpu_count()
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return [
        ("processor", f"{_processor()}, {cores} cores, load {load} at the end"),
        ("memory", f"{memory:.0f} GiB"),
        ("disk", _disk(folder)),
        ("system", f"{_distribution()}, kernel {platform.release()}"),
        ("versions", ", ".join(_versions())),
    ]


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _distribution() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")


def _disk(folder: Path) -> str:
    found = subprocess.run(
        ["findmnt", "-n", "-o", "SOURCE,FSTYPE,OPTIONS", "-T", str(folder)], capture_output=True, text=True, check=True
    )
    source, kind, options = found.stdout.split()[:3]
    free = shutil.disk_usage(folder).free / 1e9
    return f"{Path(source).name}, {kind} ({options}), {free:.0f} GB free"


def _versions() -> list[str]:
    tools = [("b3sum", "--version"), ("cp", "--version"), ("rclone", "version")]
    said = [_first_line(*tool) for tool in tools if shutil.which(tool[0])]
    python = f"Python {platform.python_version()}"
    return [f"capture-agent {__version__}", python, f"ocopy {version('ocopy')}", *said]


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    return (done.stdout or sys.platform).splitlines()[0]
