"""The demo's proofs, by tools that know nothing of the agent: sha256sum and b3sum."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from simulator.recorders import Original
from simulator.stage import DemoError, Stage

TOOL_LIMIT_S: Final = 300


def run(command: Sequence[str]) -> tuple[int, str]:
    """(exit code, what it printed) of a command that can't hang the demo."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TOOL_LIMIT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DemoError(f"{command[0]} did not end within {TOOL_LIMIT_S} s") from None
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def note_checksum(image: Path) -> str:
    """Write `sha256sum`'s line about an image beside it, before any docking, and return the digest."""
    code, line = run(["sha256sum", str(image)])
    if code:
        raise DemoError(line)
    _noted(image).write_text(f"{line}\n")
    return line.split()[0]


def differs_from_note(image: Path) -> str:
    """What `sha256sum --check` says if the image is not what it was; empty if it is."""
    return _refusal(["sha256sum", "--check", "--quiet", "--strict", str(_noted(image))])


def differs_in_store(stage: Stage, originals: Iterable[Original]) -> str:
    """What `sha256sum --check` says about the store if it does not have these originals; empty if it has."""
    lines = {f"{original.sha256}  {_addressed(stage.store, original)}\n" for original in originals}
    return _check("sha256sum", stage.root / "store.sha256", lines)


def differs_in_vault(stage: Stage, originals: Iterable[Original]) -> str:
    """What `b3sum --check` says about the vault if it does not have these originals; empty if it has."""
    lines = {f"{original.blake3}  {_addressed(stage.station / 'vault', original)}\n" for original in originals}
    return _check("b3sum", stage.root / "vault.b3", lines)


def kept_files(folder: Path) -> int:
    """How many originals lie in a vault or store."""
    return sum(1 for path in folder.glob("[0-9a-f][0-9a-f]/*") if path.is_file())


def _addressed(root: Path, original: Original) -> Path:
    return root / original.blake3[:2] / original.blake3


def _check(tool: str, checklist: Path, lines: Iterable[str]) -> str:
    checklist.write_text("".join(sorted(lines)))
    return _refusal([tool, "--check", "--quiet", str(checklist)])


def _refusal(command: Sequence[str]) -> str:
    code, said = run(command)
    return (said or f"{command[0]} ended with {code}") if code else ""


def _noted(image: Path) -> Path:
    return image.with_suffix(".sha256")
