"""Promise: a terminal of any width shows what the screens show, nobody can steer it, and it never shows what was."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from agent import cli
from agent.model import Phase
from agent.status.client import StatusUnavailable
from agent.status.terminal import screen, watch
from agent.status.views import slot_view
from tests.journal_entries import opened
from tests.status_station import HOSTILE, NOW, Served, footage, serve, slot

SGR = re.compile(r"\x1b\[[\d;]*m")
WIDTHS = (20, 60, 80, 100, 250)


@pytest.fixture
async def status(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """One slot that is read, one that was yanked, and a recording that is late."""
    async with serve(tmp_path) as served:
        await served.journal.record(opened(), footage(served.config, "a", 1, NOW.replace(day=10), path=HOSTILE))
        yanked = replace(slot(Phase.UNPLUGGED, total=9, pulled=1), slot="4", message="\x1b[2J坏块\u202e")
        served.world.show(slot(Phase.READING, total=37, pulled=12), yanked)
        yield await shown(served)


async def shown(served: Served) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await served.board.status())
    return found


def drawn(status: dict[str, Any], width: int, *, terminal: bool = True) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system="standard" if terminal else None)
    console.print(screen(status, width))
    return out.getvalue()


def plain(text: str) -> str:
    """Without colours and without what breaks lines, as columns of a table do too."""
    return re.sub(r"[\s━╸╺]", "", SGR.sub("", text))


@pytest.mark.parametrize("width", WIDTHS)
def test_all_that_counts_is_there_at_any_width_and_no_line_is_wider(status: dict[str, Any], width: int) -> None:
    text = drawn(status, width)
    assert all(cell_len(SGR.sub("", line)) <= width for line in text.splitlines())
    for words in ("测试站", "降级(degraded)", "逾期overdue:1", "12/37files", "应于11月"):
        assert words in plain(text), words
    if width != 100:  # there two columns of a table share the lines
        assert "已拔出，剩余8个未采集" in plain(text)
        assert "请勿拔出" in plain(text)


def test_what_is_overdue_is_red_and_nothing_else_among_the_tiles(status: dict[str, Any]) -> None:
    tiles = drawn(status, 250).split("\x1b[2m─")[0].splitlines()[2:]
    assert re.findall(r"\x1b\[1;31m(.*?) *\x1b", "\n".join(tiles)) == ["已逾期 overdue: 1"]


def test_colour_is_never_alone(status: dict[str, Any]) -> None:
    assert plain(drawn(status, 80)) == plain(drawn(status, 80, terminal=False))


def test_without_a_terminal_there_are_no_colours_and_nobody_can_steer_one(status: dict[str, Any]) -> None:
    text = drawn(status, 80, terminal=False)
    assert all(line.isprintable() for line in text.splitlines())
    assert all(line.isprintable() for line in SGR.sub("", drawn(status, 200)).splitlines())


@given(st.sampled_from(Phase), st.integers(0, 3), st.booleans(), st.text(max_size=20), st.sampled_from(WIDTHS))
def test_it_says_of_each_slot_what_the_screens_say(
    phase: Phase, pulled: int, may_remove: bool, label: str, width: int
) -> None:
    seen = replace(slot(phase, total=3, pulled=pulled, may_remove=may_remove), device_label=label)
    view = slot_view(seen, "")
    nothing = {"health": {"name": "ok", "zh": "正常", "en": "in order", "problems": []}, "tiles": [], "at_risk": []}
    around = {"station": {"name": "x"}, "now": "", "dockings": [], "forecast": {"zh": "", "en": "", "misses": []}}
    text = drawn(
        nothing
        | around
        | {"slots": [view], "rooms": [], "devices": {"recorders": [], "unregistered": []}, "activities": {"rows": []}},
        width,
        terminal=False,
    )
    assert all(line.isprintable() for line in text.splitlines())
    if "可" not in label:
        assert ("可" in text) == view["may_remove"]


class Station:
    """Answers, is away, answers; counts how often it was asked."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._answers: list[dict[str, Any] | None] = [status, None, status]

    def fetch(self) -> dict[str, Any]:
        answer = self._answers.pop(0)
        if answer is None:
            raise StatusUnavailable("The service is not running.", do="Start it.")
        return answer


@pytest.mark.parametrize("terminal", [True, False])
def test_while_the_service_is_away_nothing_of_before_is_shown(
    status: dict[str, Any], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: out.write("\n--next--\n"))
    out = io.StringIO()
    console = Console(file=out, width=120, height=60, force_terminal=terminal)
    watch(Station(status).fetch, console, 1, 3)
    before, away, after = out.getvalue().split("--next--")
    assert "测试站" in before
    assert "测试站" in after
    assert "The service is not running" in away
    assert "拔出" not in away


def commanded(tmp_path: Path, *words: str) -> int:
    return cli.main(["--config", str(tmp_path / "etc" / "agent.toml"), *words])


def test_scripts_get_one_object_a_line(
    status: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agent.verbs.service._fetched", lambda _: status)
    assert commanded(tmp_path, "top", "--json", "--count", "2", "--interval", "0.2") == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [status, status]


def test_a_name_that_is_no_text_does_not_break_the_json_of_the_status(
    status: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agent.verbs.service._fetched", lambda _: status)
    assert commanded(tmp_path, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["at_risk"][0]["name"] == HOSTILE


def test_in_a_pipe_the_status_is_the_plain_text_it_always_was(
    status: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agent.verbs.service._fetched", lambda _: status)
    assert commanded(tmp_path, "status") == 0
    text = capsys.readouterr().out
    assert "已拔出，剩余 8 个未采集" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("words", [["--count", "0"], ["--interval", "0"], ["--interval", "nan"], ["--count", "x"]])
def test_how_often_must_make_sense(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["top", *words])
    assert caught.value.code == 2
    assert f"argument {words[0]}" in capsys.readouterr().err
