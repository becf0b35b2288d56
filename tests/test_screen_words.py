"""Promise: whatever the machine says on a screen begins in Chinese, has its English, and is never a traceback."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agent
from agent.journal.codec import _KINDS
from agent.status.custody import _named
from agent.status.reasons import on_screen

ROOT = Path(agent.__file__).parent
FIRST_CHINESE = re.compile("[^A-Za-z]*[\u4e00-\u9fff]")
NO_WORDS = "请联系管理员："
OF_COMMANDS = {"detect.py", "asked.py"}
"""What these raise is for who has typed a command."""


def said_of_slots() -> Iterator[str]:
    """What a docking shows: the errors that end it, and what it says of its phases; {} is 7."""
    for path in (
        *sorted((ROOT / "drivers").glob("*.py")),
        *(ROOT / "pipeline" / f"{n}.py" for n in ("acquire", "admit", "room")),
    ):
        if path.name in OF_COMMANDS:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="DeviceError" | "UnknownRecorderError"), args=[what, *_]):
                    yield _text(what)
                case ast.Call(func=ast.Attribute(attr="phase"), args=[_, (ast.Constant() | ast.JoinedStr()) as what]):
                    yield _text(what)


def _text(node: ast.expr) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in parts)


SENTENCES = sorted(set(said_of_slots()))


def test_sentences_were_found_at_all() -> None:
    assert len(SENTENCES) >= 9


@pytest.mark.parametrize("sentence", SENTENCES)
def test_each_sentence_of_a_slot_has_chinese_words_of_its_own(sentence: str) -> None:
    told = on_screen(sentence)
    assert FIRST_CHINESE.match(told["zh"])
    assert not told["zh"].startswith(NO_WORDS)
    assert told["en"] == sentence


@given(st.text())
def test_whatever_is_said_begins_in_chinese_and_keeps_its_words(text: str) -> None:
    told = on_screen(text)
    assert FIRST_CHINESE.match(told["zh"])
    assert told["en"] == text


def test_a_traceback_is_told_in_words() -> None:
    told = on_screen('Traceback (most recent call last):\n  File "x.py", line 1\nKeyError: 1')
    assert told["zh"].startswith("程序内部错误，资料安全")
    assert "KeyError" not in told["zh"] + told["en"]


@pytest.mark.parametrize("kind", [*_KINDS, "of a later version"])
def test_every_kind_of_event_has_its_words_and_an_unknown_one_says_so(kind: str) -> None:
    assert FIRST_CHINESE.match(str(_named(kind)["zh"]))
