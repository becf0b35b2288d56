"""Promise: what a file's name says is a proposal with its rule; a wrong rule stops nobody, none costs much."""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.config.names import read_names
from agent.deadline import ZONE
from agent.model import Confidence, Forms, NamingRule, Officer
from agent.naming import LONGEST, proposed
from agent.pipeline.acquire import End
from agent.pipeline.station import Station
from agent.screens.pages import said
from agent.status.naming import name_view
from agent.status.record import known_of, record_lines, record_view, sealed_view
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder
from tests.stations import SHIPPED, dock
from tests.stations import opened as station_of

NAMES = Path(__file__).parent.parent / "config" / "names"
RULES = SHIPPED.forms.names
CLIP = "DCIM/100ANDRO/001234_0000217_20261123101500_0002.mp4"
COPY = "DCIM/101ANDRO/001234_0000217_20261123101500_0002IMP.mp4"
HEAD = 'title = "x"\nsource = "x"\n'
RULE = '[[rule]]\nid = "one"\nconfidence = "high"\n'
EXAMPLE = '[[rule.example]]\npath = "A1234.mp4"\nnumber = "1234"\n'
GOOD = f"{HEAD}{RULE}name = 'A(?P<number>\\d{{4}})'\n{EXAMPLE}"


def read(folder: Path, *files: str) -> tuple[tuple[NamingRule, ...], str]:
    for number, text in enumerate(files):
        (folder / f"{number}.toml").write_text(text)
    problems: list[str] = []
    return read_names(folder, problems), "\n".join(problems)


def pattern(folder: Path, name: str) -> str:
    return read(folder, f"{HEAD}{RULE}name = '{name}'\n{EXAMPLE}")[1]


def test_the_shipped_rules_are_in_order_and_no_rule_hides_the_examples_of_another() -> None:
    assert SHIPPED.forms.refused == ()
    shown = [
        (path.stem, rule["id"], example["path"])
        for path in sorted(NAMES.glob("*.toml"))
        for rule in tomllib.loads(path.read_text("utf-8"))["rule"]
        for example in rule["example"]
    ]
    assert len(shown) >= len(RULES) >= 15
    for file, rule_id, path in shown:
        found = proposed(RULES, path)
        assert found is not None
        assert found.rule_id == f"{file}/{rule_id}", path
    order = [list(Confidence).index(rule.confidence) for rule in RULES]
    assert order == sorted(order)


@pytest.mark.parametrize(
    "path",
    [
        "医保稽核_李四_20261123_购药现场.mp4", "DCIM/100ANDRO/001234_0000217_20261123251500_0002.mp4", "readme.txt", "",
        "DCIM/100ANDRO/١٢٣٤٥٦_0000217_20261123101500_0002.mp4", "V/" + "1" * 300 + ".mp4", f"{'d/' * LONGEST}{CLIP}",
        "DCIM/100ANDRO/001234_0000217_19991123101500_0002.mp4",
    ],
)  # fmt: skip
def test_of_a_name_that_no_rule_knows_nothing_is_said(path: str) -> None:
    assert proposed(RULES, path) is None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.from_regex(r"[A-Z_]{0,8}[0-9_-]{0,40}(IMP)?\.[a-z]{3}"))
@example("\ud800" * 100 + ".mp4")
@example("1" * 1023)
def test_any_name_is_answered(path: str) -> None:
    found = proposed(RULES, path)
    assert found is None or found.time is None or found.time.tzinfo is not None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (r"(\\d+)+A", "can't have"),
        (r"A.*", "can't have"),
        (r"A(?P<number>\\d{4}){2}", "can't have"),
        (r"A(?=\\d)", "can't have"),
        (r"A\\1", "can't have"),
        (r"(A)", "can't have"),
        (r"A\\d{4}?", "can't have"),
        (r"A\\d{100}", "can't have"),
        (r"[^_]{0,60}[^_]{0,60}[^_]{0,60}", "can be matched in 226981 ways"),
        (r"(?:A?B?){2}", "can't have"),
        (r"(?P<name>\\d{4})", "has a group name"),
        (r"A(?P<number>\\d{4}", "is no pattern"),
        (r"A)", "is no pattern"),
        (r"A{4,2}", "is no pattern"),
        ("A" * 201, "at most 200"),
        ("", "at most 200"),
        (r"A(?P<time>\\d{4})", "needs a group day or time and the key time"),
        (r"B(?P<number>\\d{4})", "does not fit"),
        (r"A(?P<device>\\d{4})", "gives another device"),
    ],
)
def test_a_pattern_that_could_take_long_or_reads_its_example_otherwise_is_refused(
    tmp_path: Path, name: str, why: str
) -> None:
    told = pattern(tmp_path, name.replace("\\\\", "\\"))
    assert why in told
    assert "A1234" not in told, "examples may hold somebody's number"


PIECES = st.sampled_from(
    [".", r"\d", "a", "[^_]", "[a-z0-9]", "(?:", ")", ")?", "|", "?", "{1,9}", "{0,60}", "{3}", "_", "(?P<number>", "*"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join), st.sampled_from(["a" * 255, "1" * 255, "a1_" * 85, "a" * 254 + "!"]))
@example("(?:" + ".{0,9}" * 4 + "|a)", "a" * 255)
@example("(?:a?)?" * 6 + "a{0,9}", "a" * 255)
def test_whatever_pattern_is_let_in_no_name_takes_long(tmp_path_factory: Any, name: str, stem: str) -> None:  # noqa: ANN401
    folder = tmp_path_factory.mktemp("names")
    (folder / "x.toml").write_text(f"{HEAD}{RULE}name = '{name}'\n")
    problems: list[str] = []
    read_names(folder, problems)
    if not re.search("can't have|ways|is no pattern|at most", "".join(problems)):
        began = time.process_time()
        re.compile(name, re.ASCII | re.IGNORECASE).fullmatch(stem)
        assert time.process_time() - began < 10, name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[rule", "is not a TOML file"),
        ("title = 'x'\nsource = 'x'\n", "rule = …: is missing"),
        (f"{RULE}name = 'A'\n{EXAMPLE}", "title = …: is missing"),
        (f"{HEAD}{RULE}{EXAMPLE}", "name = …: is missing"),
        (f"{HEAD}{RULE}name = 'A'\n", "example = …: is missing"),
        (f"{HEAD}{RULE}name = 'A'\nexample = []\n", "there must be at least one"),
        (f"{HEAD}{RULE}name = 'A'\nmaker = 'x'\n{EXAMPLE}", "there is no such option"),
        (f"{HEAD}{RULE}name = 'A'\ntime = '%Y%c'\n{EXAMPLE}", "must be a time like"),
        (
            f"{HEAD}{RULE}name = 'A(?P<number>\\d{{4}})'\nother = ['A7777.x']\n{EXAMPLE}",
            "fits rule 0/one, and must not",
        ),
        (f"{GOOD}{RULE}name = 'B'\n[[rule.example]]\npath = 'B'\n", "is there twice"),
        (f"{HEAD}{RULE}name = '\\d(?P<number>\\d)'\nfolder = '(?P<number>\\d)'\n{EXAMPLE}", "has number twice"),
    ],
)
def test_a_rule_that_is_wrong_is_left_out_and_told_and_the_others_stay(tmp_path: Path, text: str, why: str) -> None:
    rules, told = read(tmp_path, text, GOOD)
    assert why in told
    assert "1/one" in {rule.rule_id for rule in rules}


def test_more_rules_and_files_than_anybody_has_are_told(tmp_path: Path) -> None:
    many = GOOD + "".join(f"{GOOD[len(HEAD) :].replace('one', f'r{n}')}" for n in range(250))
    rules, told = read(tmp_path, many, *["title = 1\n"] * 70)
    assert len(rules) == 200
    assert "one too many" in told
    assert "only the first 64" in told


def test_the_surest_rule_speaks_and_folders_count_only_as_many_as_the_rule_names(tmp_path: Path) -> None:
    weak = GOOD.replace('"high"', '"low"')
    place = GOOD.replace("name = 'A", "folder = '[^/]{1,9}/(?P<device>\\d{3})'\nname = 'A").replace(
        'path = "', 'device = "217"\npath = "x/217/'
    )
    rules, told = read(tmp_path, weak, place)
    assert told == ""
    found = [proposed(rules, path) for path in ("DCIM/x/217/A0001.mp4", "217/A0001.mp4", "A0001")]
    assert [(one.rule_id, one.device) for one in found if one] == [("1/one", "217"), ("0/one", ""), ("0/one", "")]


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with station_of(tmp_path / "root", clock) as station:
        yield station


async def record(station: Station, path: str, clock: SettableClock, forms: Forms = SHIPPED.forms) -> dict[str, Any]:
    row = next(row for row in station.journal.reader.recordings() if row.name == path)
    known = known_of(station.journal.reader, row.recording.recording_id)
    config = replace(SHIPPED, forms=forms)
    return {"shown": record_view(known, config, clock()), "sealed": sealed_view(known, config, clock())}


async def test_a_name_proposes_and_states_nothing(station: Station, clock: SettableClock) -> None:
    bare = await dock(station, FakeRecorder({CLIP: b"one", "V/x.mp4": b"two"}, station.vault.staging_dir))
    assert bare is End.COMPLETE
    officers = {"A-17": Officer("A-17", "张三", badge="001234"), "A-18": Officer("A-18", "李四", badge="9")}
    forms = replace(SHIPPED.forms, officers=officers)
    shown = (await record(station, CLIP, clock, forms=forms))["shown"]
    assert shown["fields"]["from_name"] == {
        "zh": "文件名所示（仅供参考）", "en": "what its name says (a proposal)", "source": "D",
        "value": {
            "officer": "001234", "maker": "@A-17", "device": "0000217", "number": "0002",
            "time": "2026-11-23T10:15:00.000+08:00", "rule": "gat947/officer-device-time-number",
            "confidence": {"name": "high", "zh": "可信度高", "en": "high"},
        },
    }  # fmt: skip
    assert "from_name 文件名所示（仅供参考）: officer=001234" in "\n".join(record_lines(shown))
    assert {"makers", "mark"} <= set(shown["absent"])
    assert [one["name"] for one in shown["missing"]] == ["method", "makers", "proof_object"]
    other = await record(station, "V/x.mp4", clock)
    assert "from_name" in other["shown"]["absent"]
    assert other["shown"]["fields"]["made_end_at"] == shown["fields"]["made_end_at"], "the name moved no time"
    assert "from_name" not in other["sealed"]["fields"]


def test_two_officers_with_one_badge_propose_nobody() -> None:
    both = {name: Officer(name, name, badge="001234") for name in ("A-17", "A-18")}
    told = name_view(CLIP, Forms(names=RULES, officers=both))
    assert told is not None
    assert (told["officer"], "maker" in told) == ("001234", False)


async def test_a_copy_marked_as_important_is_kept_once_with_both_names(station: Station, clock: SettableClock) -> None:
    files = {CLIP: b"same" * 99, COPY: b"same" * 99, "DCIM/100ANDRO/other.mp4": b"other"}
    await dock(station, FakeRecorder(files, station.vault.staging_dir))
    kept = {row.asset.same_as or row.asset.asset_id for row in station.journal.reader.recordings()}
    assert len(kept) == 2
    for path in (CLIP, COPY):
        told = await record(station, path, clock)
        names = told["shown"]["fields"]["same_content"]["value"]
        assert {(one["path"], "mark" in one) for one in names} == {(CLIP, False), (COPY, True)}
        page = said(names, "zh")
        assert COPY in page
        assert page.count("重点") == 1
        assert "False" not in page + "".join(record_lines(told["shown"]))
        assert "same_content" not in told["sealed"]["fields"], "it would change with what comes later"
        assert told["sealed"]["fields"]["from_name"]["value"].get("mark", {}).get("name") == (
            "important" if path == COPY else None
        )
    assert "same_content" in (await record(station, "DCIM/100ANDRO/other.mp4", clock))["shown"]["absent"]


def test_a_time_in_a_name_is_chinas() -> None:
    found = proposed(RULES, CLIP)
    assert found is not None
    assert found.time == datetime(2026, 11, 23, 10, 15, tzinfo=ZONE)
