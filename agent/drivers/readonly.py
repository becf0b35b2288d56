"""`python -m agent.drivers.readonly PARENT FOLDER PROGRAM…`: becomes a program that can write into one folder only.

Devices are an exception, since a program may compute on one.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from agent.drivers.sandbox import lock_writing

NICENESS: Final = 15


def main(arguments: list[str]) -> None:
    """Lock this process, then become the program; raises OSError if one of both can't be."""
    parent, folder, *command = arguments
    os.nice(NICENESS)
    fds = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in (folder, "/dev")]
    lock_writing(fds)
    if os.getppid() != int(parent):
        return  # it ended before the kernel was told that this ends with it
    os.execvp(command[0], command)  # noqa: S606 - the program is the administrator's


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"can't be started: {error.strerror}: {sys.argv[3]}")
