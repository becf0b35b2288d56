"""The command line: the parser put together from its verbs, exit codes, and errors told as sentences."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
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
from agent.verbs.access import add_access
from agent.verbs.account import add_account
from agent.verbs.activity import add_activity
from agent.verbs.base import Exit, verbs
from agent.verbs.camera import add_camera
from agent.verbs.check import add_checks
from agent.verbs.deadline import add_deadline
from agent.verbs.device import add_device
from agent.verbs.doctor import add_doctor
from agent.verbs.export import add_export
from agent.verbs.guard import add_guard
from agent.verbs.key import add_key
from agent.verbs.log import add_log
from agent.verbs.metadata import add_metadata
from agent.verbs.pull import add_pull
from agent.verbs.receipt import add_receipt
from agent.verbs.recover import add_recover
from agent.verbs.release import add_release
from agent.verbs.service import add_resume, add_run, add_status, add_top, add_unstored
from agent.verbs.stats import add_stats
from agent.verbs.transcript import add_transcript
from agent.verbs.verify import add_verify

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
    options = _parser().parse_args(argv)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="capture-agent", epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Pulls enforcement recordings off docked recorders, proves them unaltered, stores them in time.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"capture-agent {__version__}")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")
    add = verbs(parser, _now, "commands", "COMMAND")
    add_run(add)
    add_pull(add)
    add_status(add)
    add_top(add)
    add_unstored(add)
    add_verify(add)
    add_resume(add)
    add_deadline(add, _now)
    add_device(add, _now)
    add_camera(add, _now)
    add_metadata(add, _now)
    add_transcript(add, _now)
    add_access(add, _now)
    add_activity(add, _now)
    add_stats(add)
    add_recover(add)
    add_release(add)
    add_receipt(add, _now)
    add_export(add)
    add_guard(add)
    add_account(add, _now)
    add_key(add, _now)
    add_log(add, _now)
    add_checks(add)
    add_doctor(add)
    return parser


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
