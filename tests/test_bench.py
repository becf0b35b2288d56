"""The bench measures every case to its end, writes the table, and leaves nothing behind; no speed is asserted."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.bench.measure import share_memory
from simulator.bench.report import HEADINGS, Row, markdown, table

MACHINE = [("processor", "one, 2 cores")]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


@pytest.fixture
def work() -> Iterator[Path]:
    """On a disk, and short: the name of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.mark.root
@pytest.mark.timeout(450)
def test_the_quick_bench_fills_every_row_of_the_table_and_cleans_up(tmp_path: Path, work: Path) -> None:
    page = tmp_path / "bench.md"
    done = subprocess.run(
        ["timeout", "400", sys.executable, "-m", "simulator.bench", "--quick", "--dir", work, "--markdown", page],
        capture_output=True, text=True, check=False, timeout=410,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [cells(line) for line in page.read_text("utf-8").splitlines() if line.startswith("| ")]
    assert [name.strip("| ") for name in rows[0]] == list(HEADINGS)
    cases = list("aaaccbbbdddddddcceeeffffffffffgggggghhhhhhhiiiijjkkkklllllll")
    assert [row[0].strip("| ") for row in rows[2:]] == cases
    assert all(row[2] for row in rows[2:]), "a row has no figure"
    assert not list(work.iterdir())
    assert not list(Path("/dev/shm").glob("capture-agent-bench-*"))


def test_a_case_that_does_not_exist_is_refused_before_anything_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simulator.bench", "--only", "a,z"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no such case: z" in done.stderr


def test_a_ratio_is_taken_round_by_round_and_judged_by_its_median() -> None:
    row = Row("a", "copy", "s", (2.0, 30.0, 4.4), "cp", (2.0, 10.0, 4.0), goal=1.1)
    assert row.ratios == pytest.approx((1.0, 3.0, 1.1))
    assert row.met
    assert not Row("a", "copy", "s", (2.0, 30.0, 4.5), "cp", (2.0, 10.0, 4.0), goal=1.1).met


def test_a_figure_without_comparison_is_judged_by_itself_and_limits_may_be_lower_ones() -> None:
    assert Row("e", "start", "s", (0.4, 0.5, 3.0), goal=1.0).met
    assert not Row("d", "rate", "MB/s", (28.0,), "dd", (30.0,), goal=0.95, at_least=True).met
    assert Row("d", "rate", "MB/s", (29.0,), "dd", (30.0,), goal=0.95, at_least=True).met


def test_what_has_no_goal_or_was_not_measured_is_not_judged() -> None:
    assert Row("a", "copy", "s", (1.0,), "ocopy", (2.0,)).met is None
    missing = Row("a", "copy", against="rclone", instead="rclone is not installed", goal=1.0)
    assert missing.met is None
    assert "not installed" in table([missing], judged=True)


def test_the_page_says_how_noisy_it_was_and_how_it_was_made() -> None:
    page = markdown([Row("a", "copy", "s", (1.0, 2.0, 4.0), goal=3)], MACHINE, "./run bench --only a", judged=True)
    assert "2.00 s (1.00 to 4.00)" in page
    assert "`./run bench --only a`" in page
    assert "- processor: one, 2 cores" in page
    assert "| yes |" in page


def test_small_sizes_are_never_judged() -> None:
    row = Row("a", "copy", "s", (9.0,), "cp", (1.0,), goal=1.1)
    assert row.cells()[-1] == "no"
    assert row.cells(judged=False)[-1] == ""
    assert "no" not in table([row], judged=False).splitlines()[1].split()


def test_memory_that_two_tasks_share_is_counted_once() -> None:
    """A helper between vfork and exec is such a task; a thread is another one that a test can hold on to."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    helper = subprocess.Popen(["sleep", "60"])
    try:
        assert thread.native_id is not None
        assert share_memory(thread.native_id, os.getpid())
        assert not share_memory(helper.pid, os.getpid())
    finally:
        helper.kill()
        helper.wait()
        ended.set()
        thread.join()
