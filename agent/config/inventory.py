"""Reads the inventory: which recorders the bureau owns, and the marks by which a docked one is recognised."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.config.options import NAME, TomlFile, choice, text, texts
from agent.model import Recorder, RecorderKind

_MARKS: Final = ("product", "serial", "volume_label", "filesystem_ids")
_OWN: Final = ("serial", "filesystem_ids")
"""Marks that are at least meant to belong to one recorder only."""


@dataclass(frozen=True, slots=True)
class RecorderEntry:
    """[recorder.<id>] of inventory.toml."""

    number: str = text("", 64, shortest=1)
    kind: RecorderKind = choice(RecorderKind.BODY_CAMERA)
    product: str = text("", 64)
    serial: str = text("", 128)
    volume_label: str = text("", 64)
    filesystem_ids: tuple[str, ...] = texts()


def read_inventory(path: Path, problems: list[str]) -> Mapping[str, Recorder]:
    """The recorders by id, none without the file; what is wrong with it goes to `problems`."""
    if not os.path.lexists(path):
        return {}
    file = TomlFile(path, problems)
    document = file.document()
    file.refuse("", document, ("recorder",))
    entries = document.get("recorder", {})
    if not isinstance(entries, dict):
        file.problem("recorder", entries, "must be tables like [recorder.DSJ-001]")
        return {}
    found: dict[str, Recorder] = {}
    for name, entry in entries.items():
        if not NAME.fullmatch(name):
            file.problem("recorder", name, "must be a name of letters, digits, - and _")
        elif isinstance(entry, dict):
            found[name] = _read_recorder(file, name, entry, found)
        else:
            file.problem(f"recorder.{name}", entry, "must be a table")
    return found


def _read_recorder(file: TomlFile, name: str, entry: Mapping[str, object], others: Mapping[str, Recorder]) -> Recorder:
    where = f"recorder.{name}"
    read = file.section(RecorderEntry, entry, where)
    recorder = Recorder(
        name, read.number, read.kind, read.product, read.serial, read.volume_label, tuple(sorted(read.filesystem_ids))
    )
    if "number" not in entry:
        file.problem(f"{where}.number", None, "is missing")
    marks = [mark for mark in _MARKS if getattr(recorder, mark)]
    if len(marks) < 2 or not set(marks) & set(_OWN):
        reason = "are too few marks to recognise it by: state serial or filesystem_ids, and at least one more"
        file.problem(where, ", ".join(marks), reason)
    for other in others.values():
        if replace(other, recorder_id=name, number=recorder.number, kind=recorder.kind) == recorder:
            file.problem(where, name, f"has the same marks as recorder.{other.recorder_id}")
    return recorder
