"""Becomes a program that can read what it is told to, write into one folder, use threads and devices, nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
from collections.abc import Mapping, Sequence
from typing import Final

from agent.drivers.sandbox import (
    EXECUTE,
    IOCTL_DEV,
    MAKE_REG,
    READ_DIR,
    READ_FILE,
    REMOVE_FILE,
    TRUNCATE,
    WRITE_FILE,
    lock_tool,
    step_back,
)

_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_PROGRAMS: Final = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")
_OUTPUT: Final = READ_FILE | WRITE_FILE | READ_DIR | MAKE_REG | REMOVE_FILE | TRUNCATE
_DEVICE: Final = READ_FILE | WRITE_FILE | READ_DIR | IOCTL_DEV
_OF_FILES: Final = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV
# Else the C library may give the memory of each packet back to the kernel, to ask for it anew (mallopt(3)).
_KEEP_MEMORY: Final[Mapping[str, str]] = {
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
_ENVIRONMENT: Final[Mapping[str, str]] = {"PATH": _PATH, "TZ": "UTC", "LANG": "C.UTF-8", **_KEEP_MEMORY}


def _rule(path: str, rights: int) -> tuple[int, int]:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    return fd, rights if stat.S_ISDIR(os.fstat(fd).st_mode) else rights & _OF_FILES


def main(arguments: Sequence[str]) -> int:
    """Entry point: `agent.drivers.caged <cage> <program> <its words>…`; the cage is what `access.tool` writes."""
    cage, command = json.loads(arguments[0]), list(arguments[1:])
    rights = {EXECUTE | READ_FILE | READ_DIR: _PROGRAMS, READ_FILE: cage["reads"], _OUTPUT: cage["writes"]}
    if cage["devices"]:  # their drivers look up in /sys what they are
        rights |= {_DEVICE: cage["devices"], READ_DIR: ["/dev"], READ_DIR | READ_FILE: ["/sys"]}
    try:
        rules = [_rule(path, right) for right, paths in rights.items() for path in paths if os.path.exists(path)]
        if cage["writes"]:
            os.chdir(cage["writes"][0])  # so that a command may be written down without the name of its folder
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # a file that grows too large ends it, as it ought to
        step_back()
        with contextlib.suppress(OSError):  # it only wouldn't be polite
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        lock_tool(rules, **cage["limits"])
        if os.getppid() == cage["parent"]:  # else it ended before the kernel was told that this ends with it
            os.execvpe(command[0], command, _ENVIRONMENT)  # noqa: S606 - a fixed path
    except OSError as error:
        os.write(2, f"can't be started: {error.strerror}\n".encode("ascii", "replace"))
    return 127
