"""The operations guide as tests read it: its command blocks by name, its tables by heading."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = ("operations.md", "operations.zh-CN.md")


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def blocks(name: str = PAGES[0]) -> dict[str, str]:
    """The blocks that are followed in a machine, in their order."""
    return dict(re.findall(r"^<!-- vm: ([\w-]+) -->\n```sh\n(.*?)^```", page(name), re.DOTALL | re.MULTILINE))


def table(name: str, first: str) -> list[list[str]]:
    """The rows of the table whose first heading is this, as cells."""
    found = re.search(rf"^\| {first} \|.*?\n\|[ |-]*\n((?:\|.*\n)+)", page(name), re.MULTILINE)
    assert found, first
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
