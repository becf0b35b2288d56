"""Promise: `stats` writes numbers that may be published, in three forms, and says in words when it can't."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest

from agent import cli
from agent.config import Config
from agent.deadline import ZONE
from agent.journal import Journal
from agent.model import (
    LATE_CAUSES,
    STAGES,
    ActivityStated,
    AssetChanged,
    Confirmed,
    DeadlineRecomputed,
    Declared,
    DocumentAdded,
    EventDeclared,
    GapExplained,
    JournalEntry,
    Matched,
    Outcome,
    Stated,
    Statement,
    TimeStated,
)
from agent.statistics.report import Amount, Counted, Subject, tables
from agent.status.chart import figures_svg
from agent.status.statistics import Figures
from tests.journal_entries import DEVICE, acquired, digests_of, document, listed, opened, probed, receipt
from tests.status_station import configured, footage
from tests.test_statistics import unknowns

NOVEMBER = datetime(2026, 11, 10, 9, tzinfo=ZONE)
NOW = datetime(2026, 11, 23, 10, tzinfo=ZONE)
HOUR = timedelta(hours=1)
PRIVATE = ("张三", "DSJ-001", "固资", "DSJ-V8", DEVICE.serial, "DCIM", "视频", "rec-", "central", "1A2B", "asset")
INVENTORY = f"""
[recorder.DSJ-001]
number = "固资 001 张三"
kind = "body_camera"
product = "DSJ-V8"
serial = "{DEVICE.serial}"
"""

Run = Callable[..., tuple[int, str, str]]


class Footage(NamedTuple):
    """So many recordings that were completed at a time, and stored so long after it; None: not stored."""

    number: int
    made: datetime
    stored_after: timedelta | None = HOUR


async def record(config: Config, *found: Footage) -> None:
    """A journal that saw this footage of one recorder."""
    async with Journal.open(config.storage.root / "journal.db", lambda: NOVEMBER) as journal:
        await journal.record(opened("d1"))
        parts = [part for part in found for _ in range(part.number)]
        for number, part in enumerate(parts):
            name = f"asset-{number:04}"
            await journal.record(footage(config, name, number, part.made))
            if part.stored_after is not None:
                proof = replace(receipt(name), confirmed_at=part.made + part.stored_after)
                await journal.record(acquired(name, number), AssetChanged(name, Confirmed(proof)))
        await journal.record(listed(len(parts)))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "station").mkdir()
    return configured(tmp_path, f'[storage]\nroot = "{tmp_path}/station"\n', INVENTORY)


@pytest.fixture
def run(config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line at NOW."""

    def called(*arguments: str | Path, now: datetime = NOW) -> tuple[int, str, str]:
        monkeypatch.setattr(cli, "_now", lambda: now)
        capsys.readouterr()
        try:
            code = cli.main(["--config", str(config.path), "stats", *map(str, arguments)])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return called


def rows(text: str) -> list[dict[str, str]]:
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def number(text: str, table: str, code: str, period: str, column: str = "count") -> str:
    wanted = {"table": table, "code": code, "period": period}
    return next(row[column] for row in rows(text) if row | wanted == row)


def table(text: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(table for table in json.loads(text)["tables"] if table["table"] == name)
    return found


def test_a_year_is_told_by_month_kind_and_time_limit(config: Config, run: Run) -> None:
    """Shares of what is decided, the delay of what was late; China's months: 23:30 of the 31st is October."""
    october = datetime(2026, 10, 31, 23, 30, tzinfo=ZONE)
    late = Footage(
        5, NOVEMBER, timedelta(days=4, hours=15 + 3)
    )  # due at 24:00 of the 12th, stored at 03:00 of the 15th
    asyncio.run(record(config, Footage(8, october), Footage(12, NOVEMBER), late, Footage(6, NOW, None)))
    code, out, _ = run("--year", "2026")
    assert code == 0
    assert number(out, "timeliness", "total", "2026-10") == "8"
    assert number(out, "timeliness", "in_time", "2026-11") == "12"
    assert number(out, "timeliness", "late", "2026-11") == "5"
    assert number(out, "timeliness", "late", "2026-11", "mean_delay_hours") == "51.0"
    assert number(out, "timeliness", "open", "2026-11") == "6"
    assert number(out, "timeliness", "total", "2026-11", "in_time_percent") == "70.6"
    assert number(out, "timeliness", "total", "2026", "in_time_percent") == "80.0"
    assert number(out, "device", "body_camera", "2026") == "31"
    assert number(out, "device", "body_camera", "2026", "bytes") == "31000"
    assert [number(out, "stage", "total", period, "ended") for period in ("2026-10", "2026-11", "2026")] == [
        "yes", "no", "no",
    ]  # fmt: skip


def test_a_month_is_a_column_of_its_year(config: Config, run: Run) -> None:
    asyncio.run(record(config, Footage(8, NOVEMBER - timedelta(days=40)), Footage(12, NOVEMBER)))
    year, month = rows(run("--year", "2026")[1]), rows(run("--year", "2026", "--month", "11")[1])
    assert month == [row for row in year if row["period"] == "2026-11"]
    assert month


def test_nobody_and_nothing_can_be_told_by_it(config: Config, run: Run) -> None:
    """No name, number, serial, place or file of anybody, in any form."""
    asyncio.run(record(config, Footage(12, NOVEMBER)))
    for form in ("csv", "json", "svg"):
        _, out, _ = run("--year", "2026", "--format", form)
        assert [word for word in PRIVATE if word in out] == [], form


def test_nothing_hidden_follows_from_everything_published(config: Config, run: Run) -> None:
    """The sums of all tables together, of the year and of each month, are solved for what is hidden."""
    moments = [NOVEMBER - timedelta(days=days) for days in (100, 70, 40, 0)]
    late, missing = timedelta(days=6), None
    numbers = ((9, 3, 0), (30, 1, 1), (12, 5, 2), (9, 0, 4))
    found = [
        Footage(number, at, after)
        for at, many in zip(moments, numbers, strict=True)
        for number, after in zip(many, (HOUR, late, missing), strict=True)
    ]
    asyncio.run(record(config, *found))
    for now in (NOW, datetime(2027, 2, 1, tzinfo=ZONE)):
        published = [run("--year", "2026", now=now)[1]]
        published += [run("--year", "2026", "--month", str(month), now=now)[1] for month in range(8, 12)]
        cells = {(row["table"], row["code"], row["period"]): row["count"] for text in published for row in rows(text)}
        hidden = {place for place, count in cells.items() if count == "*"}
        assert hidden, "there is something to find"
        assert unknowns(sums_of(cells), hidden) == set()
        assert not any(0 < int(count) < 5 for count in cells.values() if count != "*")


def sums_of(cells: Mapping[tuple[str, str, str], str]) -> list[dict[tuple[str, str, str], int]]:
    """What everybody knows of the tables: rows make the total, months the year, and totals are the same."""
    found = []
    tables = {name for name, _, _ in cells}
    for name in tables:
        codes = {code for of, code, _ in cells if of == name}
        periods = {period for of, _, period in cells if of == name}
        found += [{(name, code, of): 1 if code != "total" else -1 for code in codes} for of in periods]
        found += [{(name, code, of): 1 if of != "2026" else -1 for of in periods} for code in codes]
        found += [{(name, "total", of): 1, ("stage", "total", of): -1} for of in periods if name != "stage"]
    return found


async def say(config: Config, *entries: JournalEntry) -> None:
    async with Journal.open(config.storage.root / "journal.db", lambda: NOVEMBER) as journal:
        await journal.record(*entries)


def names(first: int, end: int) -> list[str]:
    return [f"asset-{number:04}" for number in range(first, end)]


def said(name: str, *about: str, **fields: object) -> DocumentAdded:
    return document(name, *about, said=Statement("张三", "补充", NOVEMBER, fields))


def counts(out: str, name: str) -> dict[str, int]:
    return {row["code"]: row["cells"][-1]["count"] for row in table(out, name)["rows"]}


def test_the_stage_is_the_last_word_of_an_officer_or_of_an_activity(config: Config, run: Run) -> None:
    """One statement may be about many recordings; one that says nothing of the stage leaves it, null withdraws it."""
    asyncio.run(record(config, Footage(40, NOVEMBER)))
    span = (NOVEMBER - HOUR, NOVEMBER)
    ids = tuple(f"rec-{name}" for name in names(10, 25))
    entries = [
        said("s1", *names(0, 30), stage="S03", place_text="某某药店"),
        said("s2", *names(0, 10), proof_object="现场检查经过"),
        ActivityStated("act", "S08", *span, ids, "张三", "先行登记保存"),
        said("s3", *names(20, 25), stage=None),
        said("s4", *names(30, 35), stage="张三的环节"),
    ]
    asyncio.run(say(config, *entries))
    _, out, _ = run("--year", "2026", "--format", "json")
    assert counts(out, "stage") == {"S03": 15, "S08": 10, "unknown": 15}
    assert [row["zh"] for row in table(out, "stage")["rows"]] == ["现场检查", "先行登记保存", "待补充"]
    assert not [word for word in ("张三", "药店", "经过") if word in out]


def test_hours_and_month_are_those_of_the_content_once_it_was_read(config: Config, run: Run) -> None:
    """As the container says; what was not read yet, and photos, have no hours."""

    async def probe() -> None:
        async with Journal.open(config.storage.root / "journal.db", lambda: NOVEMBER) as journal:
            for name in names(0, 6):
                limit = journal.reader.recording(name).recording.deadline
                entry = probed(name, old=limit)
                made = replace(entry.time, made_end=NOVEMBER - timedelta(days=10), made_start=None)
                await journal.record(replace(entry, facts=replace(entry.facts, duration_ms=1_800_000), time=made))

    asyncio.run(record(config, Footage(16, NOVEMBER)))
    asyncio.run(probe())
    _, out, _ = run("--year", "2026")
    assert [number(out, "stage", "total", f"2026-{month}") for month in (10, 11)] == ["6", "10"]
    assert [number(out, "device", "body_camera", f"2026-{month}", "hours") for month in (10, 11)] == ["3.0", "0.0"]
    assert number(out, "device", "body_camera", "2026", "hours") == "3.0"


def test_causes_of_being_late_are_counted_as_stated_or_declared(config: Config, run: Run) -> None:
    async def declare() -> None:
        async with Journal.open(config.storage.root / "journal.db", lambda: NOVEMBER) as journal:
            for name in names(0, 6):
                limit = journal.reader.recording(name).recording.deadline
                declared = Declared("return_to_unit", NOVEMBER, "LATE-02", "张三", "异地")
                await journal.record(EventDeclared(name, declared, limit, limit))

    asyncio.run(record(config, Footage(20, NOVEMBER)))
    asyncio.run(declare())
    asyncio.run(say(config, said("s1", *names(6, 11), late={"code": "LATE-05", "text": "中心停机"})))
    _, out, _ = run("--year", "2026", "--format", "json")
    assert counts(out, "cause") == {"LATE-02": 6, "LATE-05": 5}
    assert "中心停机" not in out


def test_interruptions_are_counted_by_code_once_each(config: Config, run: Run) -> None:
    """Of each activity the gaps: explained, explained anew, and not explained; in the month in which they began."""
    asyncio.run(record(config, Footage(6, NOVEMBER)))
    entries: list[JournalEntry] = []
    for number in range(17):
        start = NOVEMBER - timedelta(days=2 + number % 5)
        name = f"act{number:02}"
        entries.append(ActivityStated(name, "S03", start, start + HOUR, ("rec-asset-0000",), "张三", "检查"))
        codes = ["INT-01"] * (number < 11) + ["INT-03"] * (number < 6)
        entries += [
            GapExplained(name, turn, start, start + HOUR, code, "电量不足", "张三", "doc")
            for turn, code in enumerate(codes, 1)
        ]
    asyncio.run(say(config, *entries))
    _, out, _ = run("--year", "2026", "--format", "json")
    assert counts(out, "interruption") == {"INT-01": 5, "INT-03": 6, "unknown": 6}
    assert "电量不足" in out, "the word of the code"
    assert "张三" not in out
    assert table(out, "interruption")["total"][-1] == {"count": 17}


def test_content_that_is_held_already_is_not_counted_twice(config: Config, run: Run) -> None:
    async def again() -> None:
        async with Journal.open(config.storage.root / "journal.db", lambda: NOVEMBER) as journal:
            await journal.record(opened("d2"), footage(config, "copy", 1, NOVEMBER, docking="d2"))
            matched = Matched("asset-0000", digests_of("asset-0000"))
            await journal.record(AssetChanged("copy", matched, "d2", 1, Outcome.ALREADY_HELD))

    asyncio.run(record(config, Footage(7, NOVEMBER)))
    asyncio.run(again())
    assert number(run("--year", "2026")[1], "stage", "total", "2026") == "7"


def test_a_stated_time_decides_the_month(config: Config, run: Run) -> None:
    async def state() -> None:
        async with Journal.open(config.storage.root / "journal.db", lambda: NOVEMBER) as journal:
            for name in (f"asset-{n:04}" for n in range(5)):
                old = journal.reader.recording(name).recording.deadline
                stated = Stated(NOVEMBER - timedelta(days=31), "张三", "the clock was reset")
                await journal.record(TimeStated(name, stated, old, replace(old, start=stated.made_at)))

    asyncio.run(record(config, Footage(10, NOVEMBER)))
    asyncio.run(state())
    out = run("--year", "2026")[1]
    assert [number(out, "stage", "total", period) for period in ("2026-10", "2026-11", "2026")] == ["5", "5", "10"]


def test_a_provisional_limit_is_counted_as_such_though_it_was_stored(config: Config, run: Run) -> None:
    async def recompute() -> None:
        async with Journal.open(config.storage.root / "journal.db", lambda: NOVEMBER) as journal:
            for name in (f"asset-{n:04}" for n in range(6)):
                old = journal.reader.recording(name).recording.deadline
                await journal.record(DeadlineRecomputed(name, old, replace(old, basis="provisional")))  # type: ignore[arg-type]

    asyncio.run(record(config, Footage(16, NOVEMBER)))
    asyncio.run(recompute())
    out = run("--year", "2026", "--format", "json")[1]
    told = table(out, "timeliness")
    assert {row["code"]: row["cells"][-1]["count"] for row in told["rows"]} == {"in_time": 10, "provisional": 6}
    assert told["in_time_percent"] == [100.0, 100.0]


def test_the_object_is_what_its_documentation_says(config: Config, run: Run) -> None:
    asyncio.run(record(config, Footage(6, NOVEMBER), Footage(2, NOVEMBER, None)))
    told = json.loads(run("--year", "2026", "--month", "11", "--format", "json")[1])
    assert told.keys() == {"year", "month", "made_at", "hidden_below", "tables"}
    assert (told["year"], told["month"], told["hidden_below"]) == (2026, 11, 5)
    assert [table["table"] for table in told["tables"]] == ["stage", "device", "timeliness", "cause", "interruption"]
    stage = told["tables"][0]
    assert stage["columns"] == [{"period": "2026-11", "ended": False}]
    assert stage["rows"][0]["cells"] == stage["total"] == [{"count": 8, "hours": 0.0, "bytes": 8000}]
    assert [row["cells"] for row in told["tables"][2]["rows"]] == [[None], [None]]
    page = (Path(__file__).parent.parent / "docs" / "statistics.md").read_text("utf-8")
    named = {key for part in (told, stage, told["tables"][2], stage["rows"][0], stage["total"][0]) for key in part}
    assert [name for name in sorted(named) if f"`{name}`" not in page] == []


def test_a_month_that_is_too_small_is_said_to_be_withheld(config: Config, run: Run) -> None:
    asyncio.run(record(config, Footage(9, NOVEMBER - timedelta(days=31)), Footage(3, NOVEMBER)))
    told = table(run("--year", "2026", "--month", "11", "--format", "json")[1], "stage")
    assert (told["columns"], told["rows"], told["total"], told["withheld_months"]) == ([], [], [], [11])
    assert number(run("--year", "2026", "--month", "11")[1], "stage", "total", "2026-11") == "*"
    assert "无可公布的数" in run("--year", "2026", "--month", "11", "--format", "svg")[1]


def test_the_chart_says_everything_in_words_and_runs_nothing(config: Config, run: Run, tmp_path: Path) -> None:
    asyncio.run(record(config, Footage(12, NOVEMBER), Footage(2, NOVEMBER, None)))
    _, out, _ = run("--year", "2026", "--format", "svg")
    root = ET.fromstring(out)
    spaced = "{http://www.w3.org/2000/svg}"
    assert {element.tag.removeprefix(spaced) for element in root.iter()} == {
        "svg", "title", "desc", "style", "rect", "text",
    }  # fmt: skip
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "title desc"
    words = " ".join(element.text or "" for element in root.iter(f"{spaced}text"))
    assert root.findtext(f"{spaced}title") == "音像记录统计 2026"
    for word in ("未完", "执法记录仪", "14", "不公布"):
        assert word in words
        assert word in (root.findtext(f"{spaced}desc") or "")


def test_every_name_and_number_has_room_beside_its_bar() -> None:
    """By the widths of a wide font: a Chinese character is as wide as high, a Latin one six tenths of that."""
    codes = [{Subject.STAGE: stage, Subject.DEVICE: "unknown", Subject.TIMELINESS: "late"} for stage in STAGES]
    codes += [{Subject.CAUSE: cause} for cause in LATE_CAUSES]
    codes += [{Subject.INTERRUPTION: code} for code in ("INT-01", "unknown")]
    amount = Amount(50_000, 10**8, 10**14, 10**10)
    long = {"INT-01": ("很长的原因" * 20, "a very long cause " * 20)}
    made = Figures(2026, None, NOW, tables([Counted(1, code, amount) for code in codes], 2026, NOW), long)
    for element in ET.fromstring(figures_svg(made)).iter("{http://www.w3.org/2000/svg}text"):
        style, x = element.get("class", ""), float(element.get("x", "0"))
        size = {"": 15, "l": 15, "e": 12, "h": 18, "t": 22, "n": 13}[style]
        width = sum(size if character > "\u2e7f" else 0.6 * size for character in element.text or "")
        assert width <= (x if style in {"l", "e"} else 960 - x), element.text


def test_an_output_is_a_new_file_that_is_never_overwritten(config: Config, run: Run, tmp_path: Path) -> None:
    asyncio.run(record(config, Footage(6, NOVEMBER)))
    output = tmp_path / "2026.csv"
    assert run("--year", "2026", "--output", output) == (0, "", "")
    written = output.read_bytes()
    assert written.startswith(b"\xef\xbb\xbftable,")
    assert written.count(b"\n") == written.count(b"\r\n") == len(rows(written.decode())) + 1
    code, out, err = run("--year", "2026", "--output", output)
    assert (code, out) == (2, "")
    assert "已存在 / exists already" in err
    assert output.read_bytes() == written


def test_a_folder_that_can_t_be_written_is_said(config: Config, run: Run, tmp_path: Path) -> None:
    asyncio.run(record(config, Footage(6, NOVEMBER)))
    code, _, err = run("--year", "2026", "--output", tmp_path / "missing" / "2026.csv")
    assert code == 2
    assert "无法写入 / can't be written: No such file or directory" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--year", "2026", "--month", "13"), "invalid choice: 13"),
        (("--year", "twenty"), "invalid int value"),
        (("--year", "2025"), "2025 没有音像记录 / has no recordings: the first recording is of 2026"),
        (("--year", "2027"), "2027 尚未开始 / has not begun yet. Nothing was written. Now it is 2026-11"),
        (("--year", "2026", "--month", "12"), "2026-12 尚未开始 / has not begun yet"),
        (("--year", "99999"), "has not begun yet"),
        (("--year", "-5"), "has no recordings"),
        (("--month", "11"), "--year"),
    ],
)
def test_what_can_t_be_told_is_said_in_words(config: Config, run: Run, arguments: tuple[str, ...], told: str) -> None:
    asyncio.run(record(config, Footage(6, NOVEMBER)))
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert told in err


def test_a_station_without_any_recording_says_so(config: Config, run: Run) -> None:
    asyncio.run(record(config))
    assert "there is no recording yet" in run("--year", "2026")[2]
