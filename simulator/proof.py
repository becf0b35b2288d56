"""The demo's proofs, by tools that know nothing of the agent: sha256sum and b3sum."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from simulator.recorders import Original
from simulator.stage import DemoError

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


def differs(tool: str, root: Path, originals: Iterable[Original], checklist: Path) -> str:
    """What `sha256sum --check` or `b3sum --check` says if a folder doesn't have all these originals; empty if it has.

    The folder keeps each as `<first two hex>/<BLAKE3>`; `checklist` is written anew.
    """
    digests = {"sha256sum": lambda one: one.sha256, "b3sum": lambda one: one.blake3}
    lines = {f"{digests[tool](one)}  {root / one.blake3[:2] / one.blake3}\n" for one in originals}
    checklist.write_text("".join(sorted(lines)))
    return _refusal([tool, "--check", "--quiet", str(checklist)])


def kept_files(folder: Path) -> int:
    """How many originals lie in a vault or store."""
    return sum(1 for path in folder.glob("[0-9a-f][0-9a-f]/*") if path.is_file())


def _refusal(command: Sequence[str]) -> str:
    code, said = run(command)
    return (said or f"{command[0]} ended with {code}") if code else ""


def _noted(image: Path) -> Path:
    return image.with_suffix(".sha256")
