"""Reads [[inbox]]: folders into which others put recordings, and how long their files are waited for."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.config.options import TomlFile, folder_or_off, identifier, number, text

_LIMIT: Final = 32


@dataclass(frozen=True, slots=True)
class Inbox:
    """One [[inbox]]: its name, once and for all, where it lies, and when a file in it counts as complete."""

    name: str = identifier("")
    folder: Path | None = folder_or_off()
    title: str = text("", 64)
    marker: str = text("", 16)
    settle_s: float = number(5, 0.1, 3600, "seconds")
    unsure_s: float = number(60, 0.1, 86400, "seconds")
    give_up_s: float = number(900, 0.1, 7 * 86400, "seconds")
    rescan_s: float = number(60, 0.1, 3600, "seconds")


def read_inboxes(file: TomlFile, found: object, ours: Sequence[Path]) -> tuple[Inbox, ...]:
    """The inboxes, none of which may lie in a folder of `ours`, above one, or in another one."""
    if not isinstance(found, list) or len(found) > _LIMIT:
        file.problem("inbox", found, f"must be at most {_LIMIT} tables, each written as [[inbox]]")
        return ()
    inboxes = tuple(file.section(Inbox, table, "inbox") for table in found)
    for one in inboxes:
        if not one.name:
            file.problem("inbox.name", one.name, "is missing")
        if one.folder is None:
            file.problem("inbox.folder", "", "is missing")
        elif any(_touch(one.folder, other) for other in ours):
            file.problem("inbox.folder", one.folder, "must not lie where this station keeps evidence, or above that")
        if not one.settle_s <= one.unsure_s <= one.give_up_s:
            file.problem("inbox.give_up_s", one.give_up_s, "must be at least unsure_s, and that at least settle_s")
        if one.marker and not (one.marker.startswith(".") and "/" not in one.marker):
            file.problem("inbox.marker", one.marker, "must be a suffix, like .done")
    for one, other in itertools.combinations(inboxes, 2):
        if one.name == other.name:
            file.problem("inbox.name", one.name, "is the name of two inboxes")
        if one.folder and other.folder and _touch(one.folder, other.folder):
            file.problem("inbox.folder", other.folder, "lies in the folder of another inbox, or above it")
    return inboxes


def _touch(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)
