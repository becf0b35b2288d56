"""Promise: an activity is proposed, stated, explained and confirmed on the command line, in words and as JSON."""

from __future__ import annotations

import asyncio
import io
import json
import random
import wave
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent import cli
from agent.cli import Exit
from agent.config import load
from agent.deadline import ZONE, Rules
from agent.journal import Reader
from simulator.card import Card
from simulator.stage import Stage
from tests.daemons import running, stage
from tests.filming import filmed
from tests.journal_entries import assert_consistent, listed, opened, write

NINE = datetime(2026, 11, 20, 9, tzinfo=ZONE)
MINUTE = timedelta(minutes=1)
SIGNED = ("--who", "张三", "--why", "先行登记保存")
Say = Callable[..., tuple[int, str]]


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    """Two recorders: one with a gap of twenty minutes, one whose file lies elsewhere in time."""
    made = stage(tmp_path, {"deadline.profile": '"nanchang"'})
    config = load(made.config)
    rules = Rules(config.profile, config.calendars)
    spans = {"a": (0, 20), "b": (40, 60)}
    clips = [
        filmed(rules, name, n, (NINE + start * MINUTE, NINE + end * MINUTE))
        for n, (name, (start, end)) in enumerate(spans.items(), 1)
    ]
    other = filmed(rules, "z", 1, (NINE + 600 * MINUTE, NINE + 610 * MINUTE), docking="d2", device="other")
    journal = config.storage.root / "journal.db"
    journal.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(write(journal, opened(), *clips, listed(2), opened("d2", "other"), other, listed(1, "d2")))
    return made


@pytest.fixture
def say(made: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setattr(cli, "_now", lambda: datetime(2026, 11, 23, 2, tzinfo=UTC))

    def said(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        try:
            code = cli.main(["--config", str(made.config), "activity", *arguments])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out + err

    return said


def told(say: Say, *arguments: str) -> dict[str, Any]:
    code, text = say(*arguments, "--json")
    assert code == Exit.OK, text
    found: dict[str, Any] = json.loads(text)
    return found


def state(say: Say, *more: str) -> str:
    """The proposal of the first recorder is accepted, from nine to ten."""
    key = told(say, "propose")["proposals"][0]["key"]
    times = ("--arrived", "2026-11-20 09:00", "--left", "2026-11-20 10:00", "--stage", "S10")
    return str(told(say, "state", "--proposal", key, *times, *SIGNED, *more)["activity"])


def test_from_a_proposal_to_a_confirmed_explanation(say: Say, made: Stage) -> None:
    code, text = say("propose")
    assert (code, text.count("proposal ")) == (0, 2)
    activity_id = state(say)
    assert [one["device_id"] for one in told(say, "propose")["proposals"]] == ["other"], (
        "what is joined is proposed no more"
    )
    code, text = say("show", activity_id)
    assert code == 0
    assert "coverage 66.6 %" in text
    assert "gap 1: 2026-11-20T09:20:00+08:00 to 2026-11-20T09:40:00+08:00 (1200 s)  中断未说明" in text
    assert [one["activity_id"] for one in told(say, "list", "--open")["activities"]] == [activity_id]
    code, text = say(
        "explain", activity_id, "--gap", "1", "--code", "INT-99", "--voice", "rec-b", "--offset", "4.5", *SIGNED
    )
    assert (code, text) == (0, "explanation 1: INT-99; 待监督人员确认 (waits for a supervisor)\n")
    confirmed = ("--explanation", "1", "--who", "李四", "--why", "已核对")
    assert say("confirm", activity_id, *confirmed, "--refuse")[1] == "explanation 1: refused, the gap is open again\n"
    assert say("confirm", activity_id, *confirmed) == (0, "explanation 1: accepted\n")
    assert told(say, "list", "--open")["activities"] == []
    (shown,) = told(say, "list")["activities"]
    assert (shown["red_flag"], shown["gaps"][0]["state"]["name"]) == (True, "explained")
    assert_consistent(load(made.config).storage.root / "journal.db")


def test_the_same_by_the_running_service(say: Say, made: Stage, tmp_path: Path) -> None:
    with running(made) as daemon:
        activity_id = state(say)
        daemon.until(lambda: daemon.status()["activities"]["unexplained"] == 1)
        tiles = {tile["zh"]: tile["count"] for tile in daemon.status()["tiles"]}
        assert tiles["中断未说明"] == 1
        assert say("explain", activity_id, "--gap", "1", "--code", "INT-03", "--voice", "rec-b", *SIGNED)[0] == 0
        daemon.until(lambda: daemon.status()["activities"]["unexplained"] == 0)
        code, text = say("explain", activity_id, "--gap", "1", "--code", "INT-03", *SIGNED)
        assert (code, "第十九条" in text) == (Exit.JOURNAL, True)
        statement = tmp_path / "说明.txt"
        statement.write_bytes(b"x" * 300_000)
        written = ("explain", activity_id, "--gap", "1", "--code", "INT-06", "--not-resumed", "--statement")
        assert say(*written, str(statement), *SIGNED) == (0, "explanation 2: INT-06\n")
        assert say(*written, str(tmp_path / "missing"), *SIGNED)[0] == Exit.JOURNAL
        daemon.until(lambda: daemon.status()["counters"]["assets"]["wanted"]["files"] == 3, 10)


@pytest.mark.parametrize(
    ("arguments", "code", "told_"),
    [
        (("show", "nothing"), Exit.JOURNAL, "There is no activity 'nothing'"),
        (("explain", "nothing", "--gap", "1", "--code", "INT-03", *SIGNED), Exit.JOURNAL, "There is no activity"),
        (("state", "--proposal", "x", "--arrived", "2026-11-20", "--left", "2026-11-21", "--stage", "S10", *SIGNED),
         Exit.JOURNAL, "There is no proposal 'x'; it may have grown"),
        (("state", "--recording", "rec-a", "--arrived", "nine", "--left", "ten", "--stage", "S10", *SIGNED),
         Exit.USAGE, "must be a time like"),
        (("state", "--recording", "rec-a", "--arrived", "2026-11-20T10:00", "--left", "2026-11-20T09:00", "--stage",
          "S10", *SIGNED), Exit.JOURNAL, "离开时间不能早于或等于到达时间"),
        (("propose", "--distance", "ages"), Exit.USAGE, "must be a number of minutes"),
        (("confirm", "nothing", "--explanation", "1", *SIGNED), Exit.JOURNAL, "There is no activity"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_words(say: Say, arguments: tuple[str, ...], code: Exit, told_: str) -> None:
    assert say(*arguments)[0] == code
    assert told_ in say(*arguments)[1]


def test_a_gap_that_is_not_there_is_said_with_how_many_there_are(say: Say) -> None:
    activity_id = state(say)
    code, text = say("explain", activity_id, "--gap", "4", "--code", "INT-03", *SIGNED)
    assert (code, "has no gap 4; it has 1" in text) == (Exit.JOURNAL, True)


def test_before_anything_was_docked_there_is_no_activity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = stage(tmp_path / "empty")
    code = cli.main(["--config", str(empty.config), "activity", "list"])
    assert code == Exit.JOURNAL
    assert "Dock a recorder first" in capsys.readouterr().err


def sound(seconds: int) -> bytes:
    """A real recording, so that its content tells how long it lasts."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 1, 2000, 0, "NONE", ""))
        file.writeframes(random.Random(seconds).randbytes(2000 * seconds))
    return made.getvalue()


def test_from_a_card_to_its_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a recorder brought, as its content tells it: the second file is shorter than its stamps."""
    made = stage(tmp_path)
    began = (datetime.now(ZONE) - timedelta(days=2)).replace(hour=9, minute=0, second=0, microsecond=0)
    path = tmp_path / "card.img"
    with Card.fat32(path, 64 << 20, cluster_bytes=4096) as card:
        for number, (start, end, lasts) in enumerate([(0, 10, 600), (10, 20, 540), (30, 40, 599)], 1):
            stamps = [(began + minutes * MINUTE).replace(tzinfo=None) for minutes in (start, end)]
            card.add(f"REC{number:04}.WAV", sound(lasts), created=stamps[0], modified=stamps[1])
        card.finish()
    with running(made) as daemon:

        def say(*arguments: str) -> dict[str, Any]:
            capsys.readouterr()
            assert cli.main(["--config", str(made.config), *arguments, "--json"]) == 0, capsys.readouterr()
            found: dict[str, Any] = json.loads(capsys.readouterr().out)
            return found

        say("pull", str(path))
        journal = load(made.config).storage.root / "journal.db"
        daemon.until(lambda: probed(journal) == 3)
        (proposal,) = say("activity", "propose")["proposals"]
        times = [(began + minutes * MINUTE).isoformat() for minutes in (0, 40)]
        activity_id = say(
            "activity", "state", "--proposal", proposal["key"], "--stage", "S08", "--arrived", times[0], "--left",
            times[1], *SIGNED,
        )["activity"]  # fmt: skip
        shown = say("activity", "show", str(activity_id))
    assert [(gap["length_s"], gap["state"]["name"]) for gap in shown["gaps"]] == [
        (60, "unexplained"), (601, "unexplained"),
    ]  # fmt: skip
    assert shown["red_flag"]
    assert shown["coverage"]["at_least"] == pytest.approx(29 / 40, abs=0.01)


def probed(journal: Path) -> int:
    with closing(Reader(journal)) as reader:
        return sum(event.kind == "probed" for event in reader.events())
