"""The command line: the parser put together from its verbs, exit codes, and errors told as sentences."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Final

from agent import __version__
from agent.errors import (
    AgentError,
    ConfigError,
    DeviceError,
    EvidenceError,
    JournalError,
    RequestError,
    RoomError,
    StoreError,
)
from agent.status.client import StatusUnavailable
from agent.verbs.base import Exit, verbs

__all__ = ["DEFAULT_CONFIG", "EXIT_CODES", "Exit", "main"]

DEFAULT_CONFIG: Final = Path("/etc/capture-agent/agent.toml")
_EXIT_OF: Final[Mapping[type[AgentError], Exit]] = {
    ConfigError: Exit.CONFIG,
    DeviceError: Exit.DEVICE,
    RoomError: Exit.DEVICE,
    StoreError: Exit.STORE,
    EvidenceError: Exit.EVIDENCE,
    JournalError: Exit.JOURNAL,
    StatusUnavailable: Exit.NOT_RUNNING,
    RequestError: Exit.USAGE,
}
_VERBS: Final = (
    "run", "pull", "status", "top", "unstored", "verify", "resume", "deadline", "device", "camera", "room",
    "metadata", "transcript", "access", "activity", "stats", "recover", "release", "receipt", "export", "guard",
    "account", "key", "log", "checks", "doctor",
)  # fmt: skip
"""In the order of the help. What adds each is `add_…` of its module: all of them take longer than most verbs do."""

_MODULES: Final[Mapping[str, str]] = {
    "status": "service", "run": "service", "top": "service", "unstored": "service", "resume": "service",
    "checks": "check",
}  # fmt: skip
"""Where a verb's module has another name."""

_CLOCKED: Final = frozenset(
    {
        "deadline", "device", "camera", "room", "metadata", "transcript", "access", "activity", "receipt", "account",
        "key", "log",
    }
)  # fmt: skip
"""Those that read the clock while they read the command line."""

EXIT_CODES: Final = """exit codes:
  0  done, and true
  1  evidence: a file is missing, differs, or was left or unreadable on the recorder
  2  the command line is wrong
  3  the configuration is wrong
  4  the recorder, camera or image can't be read
  5  the store refused or could not prove that it keeps an original
  6  the journal is in use by another process, or contradicts itself
  7  the service is not running, or can't serve its status
  8  the doctor found something bad
  9  the doctor found nothing bad, but a warning, or something it could not look at
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `capture-agent`; prints errors as sentences, never as tracebacks."""
    _fill_standard_descriptors()
    words = sys.argv[1:] if argv is None else list(argv)
    options = _parser(_asked(words)).parse_args(words)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return int(command(options))
    except AgentError as error:
        return _complain(error, options)
    except KeyboardInterrupt:
        print("interrupted; nothing is lost, the next start goes on where this stopped", file=sys.stderr)
        return 130


def _fill_standard_descriptors() -> None:
    """One that is closed would be given to the next file, and what a library prints would be written into that."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is this one


def _complain(error: AgentError, options: argparse.Namespace) -> int:
    code = next((code for kind, code in _EXIT_OF.items() if isinstance(error, kind)), Exit.EVIDENCE)
    if getattr(options, "json", False):
        print(json.dumps({"error": error.what, "safe": error.safe, "do": error.do, "exit": int(code)}))
    else:
        print(f"capture-agent: {error}", file=sys.stderr)
    return int(code)


def _asked(words: Sequence[str]) -> str:
    """The first word behind --config FILE: a verb, if nobody asks for help and nothing is wrong."""
    options = 2 if words[:1] == ["--config"] else 0
    found = words[options] if len(words) > options else ""
    return "checks" if found in ("config", "store") else found


def _parser(asked: str = "") -> argparse.ArgumentParser:
    """All verbs, or only the one that is asked for."""
    parser = argparse.ArgumentParser(
        prog="capture-agent", epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Pulls enforcement recordings off docked recorders, proves them unaltered, stores them in time.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"capture-agent {__version__}")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")
    add = verbs(parser, _now, "commands", "COMMAND")
    for name in [asked] if asked in _VERBS else _VERBS:
        module = import_module(f"agent.verbs.{_MODULES.get(name, name)}")
        getattr(module, f"add_{name}")(add, *([_now] if name in _CLOCKED else []))
    return parser


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
