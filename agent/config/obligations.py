"""Reads what a jurisdiction asks to be recorded at each stage, and the codes that explain interruptions."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.config.options import TomlFile, choice, flag, identifier, tables, text, texts
from agent.model import STAGES, Duty, Interruption, Obligation


@dataclass(frozen=True, slots=True)
class ObligationTable:
    """[[obligation]] of a profile: what one article asks for at some stages."""

    stages: tuple[str, ...] = texts()
    duty: Duty = choice(Duty.SILENT)
    citation: str = text("", 200, shortest=1)
    condition: str = text("", 64)


@dataclass(frozen=True, slots=True)
class CodeTable:
    """[[code]] of interruptions.toml."""

    code: str = identifier("")
    zh: str = text("", 64, shortest=1)
    en: str = text("", 120, shortest=1)
    citation: str = text("", 200)
    objective: bool = flag(default=True)
    confirm: bool = flag(default=False)
    automatic: bool = flag(default=False)


@dataclass(frozen=True, slots=True)
class CodeFile:
    """interruptions.toml."""

    code: tuple[Mapping[str, object], ...] = tables()


def read_obligations(file: TomlFile, found: Iterable[Mapping[str, object]]) -> tuple[Obligation, ...]:
    """The obligations of a profile, one for each stage that an article speaks of."""
    known: dict[tuple[str, str], Obligation] = {}
    for table in found:
        for one in _obligations(file, table):
            if known.setdefault((one.stage, one.condition), one) is not one:
                file.problem("obligation.stages", one.stage, f"is spoken of twice for the condition {one.condition!r}")
    return tuple(known.values())


def _obligations(file: TomlFile, table: Mapping[str, object]) -> Iterator[Obligation]:
    read = file.section(ObligationTable, table, "obligation")
    file.require(table, ("stages", "duty", "citation"), "obligation.")
    for stage in read.stages:
        if stage not in STAGES:
            file.problem("obligation.stages", stage, 'must each be the code of a stage, like "S08"')
        yield Obligation(stage, read.duty, read.citation, read.condition)


def read_interruptions(path: Path, problems: list[str]) -> tuple[Interruption, ...]:
    """The codes of interruptions, none without the file; one that is wrong is left out and told in `problems`."""
    if not os.path.lexists(path):
        return ()
    file = TomlFile(path, problems)
    found: dict[str, Interruption] = {}
    for table in file.section(CodeFile, file.document()).code:
        before = len(problems)
        read = file.section(CodeTable, table, "code")
        file.require(table, ("code", "zh", "en"), "code.")
        if read.code in found:
            file.problem("code.code", read.code, "is there twice")
        if not read.objective and not read.confirm:
            file.problem("code.confirm", read.code, "is no objective cause, so a supervisor has to confirm it")
        if len(problems) == before:
            found[read.code] = Interruption(
                read.code, read.zh, read.en, read.citation, read.objective, read.confirm, read.automatic
            )
    return tuple(found.values())
