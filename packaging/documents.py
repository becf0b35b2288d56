"""Man pages and completion out of what exists: the command line's parser and the commented configuration."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from agent import __version__
from agent.cli import _parser

_SEE_ALSO = """.SH FILES
.TP
.I /etc/capture-agent/agent.toml
the configuration, see
.BR agent.toml (5)
.TP
.I /var/lib/capture-agent
originals, unfinished parts and the journal
.SH SEE ALSO
.BR agent.toml (5),
.BR systemctl (1),
.BR b3sum (1)
"""


def program_page() -> str:
    """capture-agent(1); its date is SOURCE_DATE_EPOCH."""
    parser = _parser()
    parser.man_short_description = "dock station of enforcement recordings"  # type: ignore[attr-defined]
    about = {"project_name": f"capture-agent {__version__}", "manual_title": "System Commands"}
    return f"{Manpage(parser, _data=about)}".replace('.SH "COMMENTS"', '.SH "EXIT STATUS"').rstrip() + "\n" + _SEE_ALSO


def completion() -> str:
    """What bash completes: verbs, options, choices, and files where a file is expected."""
    parser = _parser()
    for action in _actions(parser):
        if action.type is Path or action.metavar == "DEVICE|IMAGE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, "bash"))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for verb in action.choices.values():
                yield from _actions(verb)


def config_page(text: str, epoch_s: int) -> str:
    """agent.toml(5) out of the file's own comments: those of a section, then each option below what is said of it."""
    date = datetime.fromtimestamp(epoch_s, UTC).date()
    lines = [
        f'.TH AGENT.TOML 5 {date} "capture-agent {__version__}" "File Formats"', ".SH NAME",
        r"agent.toml \- configuration of capture-agent", ".SH DESCRIPTION",
    ]  # fmt: skip
    said: list[str] = []
    for line in [*text.splitlines(), ""]:
        if section := re.fullmatch(r"\[.+\]|# (\[\[.+\]\])", line):  # a table of which there is none is an example
            lines += [f'.SH "{section[1] or line}"', *_filled(said)]
            said = []
        elif option := re.fullmatch(r"(?:# )?(\w+) = .*", line):
            lines += [".TP", f".B {_roff(option[1])}", *_filled(said)]
            said = []
        elif line.startswith("#"):
            said.append(line[1:])
        elif said:
            lines += _filled(said)
            said = []
    return "\n".join([*lines, ".SH SEE ALSO", ".BR capture\\-agent (1)"]) + "\n"


def _filled(said: list[str]) -> Iterator[str]:
    """Indented lines as they are, the last line (what an option takes) on a line of its own, all others filled."""
    for number, line in enumerate(said):
        if number and (line.startswith("  ") or number == len(said) - 1):
            yield ".br"
        yield _roff(line[1:])


def _roff(text: str) -> str:
    """Text that man shows as it is."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text[:1] in {".", "'", " "} else text
