"""The operations guide: nothing in it to type that isn't tried, and nothing red without a row that says what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import AT_START
from tests.guide import PAGES, blocks, page, table

ROOT = Path(__file__).resolve().parents[1]
TELLERS = {
    "agent/status/health.py": {"health_view", "_hindrances", "left_out"},
    "agent/status/outlook.py": {"problems_ahead"},
    "agent/status/clock.py": {"clock_problems"},
    "agent/service.py": None,
    "agent/drivers/detect.py": {"_step"},
    "agent/pipeline/checkpoint_store.py": None,
    "agent/pipeline/custody.py": None,
    "agent/pipeline/cosigning.py": None,
    "agent/pipeline/deriving.py": None,
    "agent/pipeline/guarding.py": None,
    "agent/pipeline/buttons.py": None,
    "agent/pipeline/scheduling.py": {"_problems", "_start", "serve"},
    "agent/pipeline/releasing.py": {"step", "_round", "_free"},
    "agent/pipeline/scrubbing.py": None,
    "agent/pipeline/sealing.py": None,
    "agent/pipeline/stamping.py": None,
}
"""Functions (None: all) in which problems of the status page are put into words."""


def literals(path: str, functions: set[str] | None) -> Iterator[str]:
    """The constant texts in these functions, parts of f-strings among them."""
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (functions is None or node.name in functions):
            said = {id(inner.value) for inner in ast.walk(node) if isinstance(inner, ast.Expr)}
            for inner in ast.walk(node):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and id(inner) not in said:
                    yield inner.value


def problems() -> set[str]:
    """What can stand on the page as a problem: the longest run of Chinese of each text, or the text's first words."""
    found = set()
    for path, functions in TELLERS.items():
        for text in literals(path, functions):
            chinese = max(re.findall(r"[\u4e00-\u9fff、，。（）]+", text), key=len, default="")
            if len(chinese) >= 5:
                found.add(chinese.strip("，。（"))
            elif re.match(r"[A-Z].*(,|\.|: )$", text) and path.endswith("detect.py"):
                found.add(text.split(",")[0].rstrip(": "))
    return found


def test_the_problems_are_found() -> None:
    assert {"个记录需要处理", "时钟未校准", "Recorders can't be detected", "Docking is noticed late"} <= problems()


@pytest.mark.parametrize("name", PAGES)
def test_every_problem_of_the_status_page_has_a_row_that_says_what_to_do(name: str) -> None:
    rows = table(name, "The page says" if name == PAGES[0] else "状态页显示")
    told = [row[0] for row in rows]
    missing = [problem for problem in problems() if not any(problem in text or text in problem for text in told)]
    assert missing == [], f"docs/{name} has no row for these"
    assert all(len(row) == 3 and row[2] for row in rows)


@pytest.mark.parametrize("name", PAGES)
def test_the_table_of_reloads_is_what_the_program_does(name: str) -> None:
    rows = table(name, "Changed" if name == PAGES[0] else "修改")
    told = {option for row in rows for option in re.findall(r"`(\w+\.\w+)`", row[0])} - {"agent.toml"}
    assert told == {f"{section}.{option}" for section, options in AT_START.items() for option in options}


def test_both_languages_have_the_same_blocks_and_no_other() -> None:
    english, chinese = map(blocks, PAGES)
    assert list(english.items()) == list(chinese.items())
    for name in PAGES:
        assert page(name).count("```") == 2 * len(english), "every block is one that is followed"


def test_every_block_is_followed_in_the_machine_in_its_order() -> None:
    source = (ROOT / "tests" / "vm_operations.py").read_text("utf-8")
    assert re.findall(r'follow\("([\w-]+)"', source) == list(blocks())
