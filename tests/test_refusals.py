"""Promise: what a screen refuses is told in Chinese: what happened, whether the evidence is safe, what to do."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agent
from agent.errors import AwayError, CommitError, JournalError, RequestError, StoreError
from agent.screens import asking, login
from agent.screens.who import Role
from agent.status.refusals import refusal, told
from agent.status.words import words
from tests.conftest import SettableClock
from tests.test_kiosk_entry import Dock, standing

ROOT = Path(agent.__file__).parent
SAFE = re.compile("安全|不受影响|未作任何改动")
TO_DO = re.compile("请")
ENGLISH = re.compile(r"<(\w+)[^>]*\blang=\"en\"[^>]*>.*?</\1>", re.DOTALL)
TAGS = re.compile(r"<script.*?</script>|<[^>]*>", re.DOTALL)
SENTENCE = re.compile(r"[A-Za-z]+( [A-Za-z]+)+")
ALERT = re.compile(r"<div[^>]* role=\"alert\">(.*?)</div>", re.DOTALL)
FORM = "application/x-www-form-urlencoded"
CHINESE = re.compile("[\u4e00-\u9fff]")
NOBODY = words("", "")
SAID_AT_THE_KIOSK = """pipeline/documents journal/activity_queries journal/connection journal/dockings
    journal/metadata_queries journal/recordings journal/writer status/receipt vault_errors"""
"""What these raise an officer can meet, whoever asked for it."""

RAISED = {"AwayError", "CommitError", "EvidenceError", "JournalError", "RequestError", "StoreError", "UnknownError"}
OF_OTHERS = re.compile(r"older version|is a document, no recording|more than one list or code")


def raised() -> Iterator[str]:
    """The first sentence of each error, as it stands there; {} is 7."""
    for name in SAID_AT_THE_KIOSK.split():
        for node in ast.walk(ast.parse((ROOT / f"{name}.py").read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=kind), args=[(ast.Constant() | ast.JoinedStr()) as what, *_]):
                    if kind in RAISED:
                        yield _text(what)
                case ast.Assign(targets=[ast.Name(id="what")], value=(ast.Constant() | ast.JoinedStr()) as what):
                    yield _text(what)


def _text(node: ast.expr) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in parts)


SENTENCES = sorted(text for text in set(raised()) if not OF_OTHERS.search(text))
OTHERS = [  # of what is asked for at the kiosk alone
    "An activity lasts from arrival to departure and has 1 to 7 recordings.",
    "Activity 7 has 7 explanations; number 7 can't be the next.",
    "Of 1 to 7 recordings, not of 0.",
    "Recording 7 is at version 7, not 7.",
    "Recording 7 is at version 7, not 7: somebody else has spoken since.",
    "Recording 7 is unknown.",
    "'x' is no time.",
    "must be a time like 2026-11-22T08:30",
    "must be a time in the years 2000 to 2100",
    "must be 1..500 characters on one line, without control characters",
    "The journal is closed.",
]


def test_sentences_were_found_at_all() -> None:
    assert len(SENTENCES) >= 12


@pytest.mark.parametrize("sentence", [*SENTENCES, *OTHERS])
def test_each_sentence_that_an_officer_can_meet_has_chinese_words_of_its_own(sentence: str) -> None:
    said = told(sentence, NOBODY)
    assert CHINESE.search(said["zh"])
    assert not SENTENCE.search(said["zh"])
    assert said["en"]
    assert not CHINESE.search(said["en"])


@given(st.text(), st.sampled_from([400, 401, 403, 404, 405, 409, 410, 413, 422, 431, 500, 502, 503]), st.booleans())
def test_whatever_is_refused_says_what_whether_it_is_safe_and_what_to_do(text: str, status: int, writes: bool) -> None:
    said = refusal(status, text, writes=writes)
    assert CHINESE.search(said["what"]["zh"])
    assert SAFE.search(said["safe"]["zh"])
    assert TO_DO.search(said["do"]["zh"])
    assert all(SENTENCE.search(said[part]["en"]) for part in ("safe", "do"))


def test_what_may_have_been_saved_is_never_called_not_saved() -> None:
    """No answer in time is no answer: what was filled in may be written all the same."""
    assert "未作任何改动" not in refusal(503, "x", writes=True)["safe"]["zh"]


@pytest.mark.parametrize(
    "said",
    [
        *([one["zh"], one["en"]] for one in login._WORDS.values()),
        *(notice[1:] for notice in (asking._REFUSED, asking._NOT_KEPT, asking._AWAY, asking.MEANWHILE, asking.NO_GAP)),
    ],
    ids=lambda said: said[1][:40],
)
def test_each_message_of_the_kiosk_says_all_three(said: tuple[str, str]) -> None:
    zh, en = said
    assert CHINESE.match(zh)
    assert SAFE.search(zh), "whether the evidence is safe"
    assert TO_DO.search(zh), "what to do"
    assert SENTENCE.search(en)


def person_reads(page: str) -> str:
    """What is told on it that is not marked as English."""
    (alert,) = ALERT.findall(page)
    return " ".join(TAGS.sub(" ", ENGLISH.sub(" ", alert)).split())


async def asked(
    dock: Dock,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    kind: str = FORM,
) -> tuple[int, str]:
    """What the browser of the kiosk gets."""
    headers = {"Accept": "text/html", "Content-Type": kind}
    status, _, page = await asyncio.to_thread(dock.served.ask, path, method, body, **headers)
    return status, page.decode()


def is_told(page: str) -> None:
    """It is a page for persons, in Chinese beside English, that says all three."""
    assert page.lstrip().startswith("<!"), "no JSON, no bare line"
    text = person_reads(page)
    assert SAFE.search(text), text
    assert TO_DO.search(text), text
    assert not SENTENCE.search(text), text
    assert ENGLISH.search(ALERT.findall(page)[0]), "English stands beside it"


async def test_every_page_that_refuses_an_officer_says_what_whether_it_is_safe_and_what_to_do(
    tmp_path: Path, clock: SettableClock
) -> None:
    async with standing(tmp_path, clock) as dock:
        entry, token = "/kiosk/dockings/d1", dock.served.form_token.encode()
        gone = replace(dock, served=replace(dock.served, cookie="expired"))
        others = replace(dock, served=dock.served.signed_in(Role.IT))
        its = others.served.form_token.encode()
        met = {
            "an expired session": (401, await asked(gone, entry, "POST", b"token=%b&place_text=x" % token)),
            "an expired form": (403, await asked(dock, entry, "POST", b"token=0&place_text=x")),
            "another role": (403, await asked(others, entry, "POST", b"token=%b" % its)),
            "a page of others": (403, await asked(dock, "/")),
            "too long": (400, await asked(dock, entry, "POST", b"token=%b&place_text=%b" % (token, b"x" * 4001))),
            "no form": (400, await asked(dock, entry, "POST", b"x", "multipart/form-data")),
            "much too long": (413, await asked(dock, entry, "POST", b"token=%b&x=%b" % (token, b"x" * (1 << 17)))),
            "no such docking": (404, await asked(dock, "/kiosk/dockings/nobody")),
            "nothing to fill in": (
                404,
                await asked(dock, "/kiosk/dockings/nobody", "POST", b"token=%b" % token),
            ),
            "no receipt": (404, await asked(dock, "/kiosk/receipt/d1")),
            "no page": (404, await asked(dock, "/kiosk/nothing")),
            "no method": (405, await asked(dock, "/kiosk", "DELETE")),
            "unknown parameter": (400, await asked(dock, "/receipt/d1?x=1")),
            "no activity": (409, await asked(dock, f"{entry}/gap", "POST", b"token=%b&activity=x" % token)),
            "no time": (422, await asked(dock, f"{entry}/activity", "POST", b"token=%b&arrived=x&left=y" % token)),
        }
        for name, (expected, (status, page)) in met.items():
            assert status == expected, name
            is_told(page)
        assert "登录已失效" in met["an expired session"][1][1]
        assert f'href="{entry}"' in met["an expired session"][1][1], "the way back to what was filled in"


@pytest.mark.parametrize(
    "error",
    [
        CommitError("The journal could not commit: disk I/O error."),
        StoreError("The vault's disk refused x: No space left on device."),
        AwayError("The journal is closed."),
        JournalError("Recording x is at version 2, not 1: somebody else has spoken since."),
        RequestError("something that has no Chinese words yet"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_station_itself_refuses_is_told_in_the_form(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with standing(tmp_path, clock) as dock:

        async def refuse(*_: object) -> None:
            raise error

        monkeypatch.setattr("agent.pipeline.saying.add_document", refuse)
        seen = (await dock.entry())["seen"]
        body = f"token={dock.served.form_token}&seen={seen}&place_text=x".encode()
        status, page = await asked(dock, "/kiosk/dockings/d1", "POST", body)
        assert status in (409, 422, 503)
        assert "未保存" in page
        is_told(page)


async def test_a_journal_that_answers_no_more_is_told_on_every_page_of_the_kiosk(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standing(tmp_path, clock) as dock:

        def fail(*_: object) -> None:
            raise AwayError("The journal /x/journal.db can't be read: disk I/O error.")

        monkeypatch.setattr("agent.screens.kiosk.to_json", fail)
        for name in ("kiosk", "entry", "receipt_body"):
            monkeypatch.setattr(type(dock.served.board), name, fail)
        token = dock.served.form_token
        for path, method in (
            ("/kiosk", "GET"),
            ("/kiosk/dockings/d1", "GET"),
            ("/kiosk/dockings/d1", "POST"),
            ("/kiosk/receipt/d1", "GET"),
        ):
            status, page = await asked(dock, path, method, f"token={token}".encode() if method == "POST" else None)
            assert status == 503
            assert "流转记录无法读取" in page
            is_told(page)
