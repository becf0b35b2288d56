"""What every maker of derived files gives back: the file, and all that its certificate has to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.model import Asset, Facts, MediaFinding, Role

SOURCE: Final = "{source}"
OUTPUT: Final = "{output}"


@dataclass(frozen=True, slots=True)
class Made:
    """A finished, checked file in the work folder.

    `arguments` are the tool's exact words, with SOURCE and OUTPUT for the two paths; empty if `tool` is this agent.
    `repeatable`: the same tool makes the same bytes from them. `counts` is what was counted in source and file, as
    plain JSON. `remarks` say in English what is not as in the source.
    """

    role: Role
    path: Path
    tool: str
    arguments: tuple[str, ...] = ()
    repeatable: bool = True
    complete: bool = True
    remarks: tuple[str, ...] = ()
    counts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Original:
    """A held original, its file, what its content says; `reference`: a whole recording of its kind if it may be cut."""

    asset: Asset
    path: Path
    facts: Facts
    reference: Path | None = None


@dataclass(frozen=True, slots=True)
class Everything:
    """All that could be made from one original, in its work folder; `findings` are all that are kept of `found`.

    `reason` says why there is no access copy, `problems` what else went wrong, both in English; `source` is what was
    counted in the original, as plain JSON.
    """

    files: tuple[Made, ...] = ()
    findings: tuple[MediaFinding, ...] = ()
    found: int = 0
    reason: str = ""
    problems: tuple[str, ...] = ()
    source: Mapping[str, object] | None = None
