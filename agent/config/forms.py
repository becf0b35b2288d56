"""Reads what the bureau lets officers say: roster, items that are recorded, and what names of files propose."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from agent.config.names import read_names
from agent.config.options import NAME, TomlFile, Unfit, option, text
from agent.model import STAGES, Forms, Item, Officer, Profile


def _day(value: object) -> date | None:
    if type(value) is date:
        return value
    raise Unfit("must be a day like 2026-10-01, without quotes")


@dataclass(frozen=True, slots=True)
class OfficerEntry:
    """[officer.<id>] of roster.toml."""

    name: str = text("", 40, shortest=1)
    cert_no: str = text("", 40)
    valid_from: date | None = option(None, "day", _day)
    valid_until: date | None = option(None, "day", _day)
    org: str = text("", 64)
    badge: str = text("", 20)


@dataclass(frozen=True, slots=True)
class ItemEntry:
    """[item.<code>] of items.toml."""

    title: str = text("", 200, shortest=1)
    stage: str = text("", 3, shortest=3)


def read_forms(folder: Path, profile: Profile) -> Forms:
    """Roster, items and the rules of file names beside agent.toml, each empty without its file.

    What is wrong is left out, and told in `refused`: none is needed to pull or to store.
    """
    problems: list[str] = []
    officers = {}
    for name, file, table in _tables(folder / "roster.toml", "officer", problems):
        before = len(problems)
        read = file.section(OfficerEntry, table, f"officer.{name}")
        if "name" not in table:
            file.problem(f"officer.{name}.name", None, "is missing")
        elif read.valid_from and read.valid_until and read.valid_until < read.valid_from:
            file.problem(f"officer.{name}.valid_until", read.valid_until, "is before valid_from")
        if len(problems) == before:
            officers[name] = Officer(
                name, read.name, read.cert_no, read.valid_from, read.valid_until, read.org, read.badge
            )
    items = {}
    for name, file, table in _tables(folder / "items.toml", "item", problems):
        before = len(problems)
        item = file.section(ItemEntry, table, f"item.{name}")
        if item.stage not in STAGES or not item.title:
            file.problem(f"item.{name}.stage", item.stage, "needs a title and a stage, S01 to S20 or S99")
        if len(problems) == before:
            items[name] = Item(name, item.title, item.stage)
    names = read_names(folder / "names", problems)
    return Forms(profile.stages, profile.case_no, officers, items, names, tuple(problems))


def _tables(path: Path, kind: str, problems: list[str]) -> Iterator[tuple[str, TomlFile, Mapping[str, Any]]]:
    if not os.path.lexists(path):
        return
    file = TomlFile(path, problems, names_people=True)
    document = file.document()
    file.refuse("", document, (kind,))
    entries = document.get(kind, {})
    if not isinstance(entries, dict):
        file.problem(kind, entries, f"must be tables like [{kind}.A-1]")
        return
    for name, entry in entries.items():
        if not NAME.fullmatch(name):
            file.problem(kind, name, "must be a name of letters, digits, - and _")
        elif not isinstance(entry, dict):
            file.problem(kind, name, "must be a table")
        else:
            yield name, file, entry
