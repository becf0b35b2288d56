"""The store lane in simulated time: what can be in time is in time, everybody is served, and nothing is done twice."""

from __future__ import annotations

import random
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.bench.schedule import PART_BYTES, RATE_BYTES_S, Job, _ById, crowd, demand, load, longest_wait, simulated

HOUR_S = 3.6


def hours(held: float, due: float, hours_of_line: float, device: str = "a") -> Job:
    return Job(held * HOUR_S, due * HOUR_S, round(hours_of_line * HOUR_S * RATE_BYTES_S), device)


def late(jobs: list[Job], folder: Path) -> int:
    return sum(end_s > job.due_s for job, end_s in simulated(folder, jobs).stored)


@pytest.mark.parametrize("seed", range(1000, 1006))
def test_of_a_load_that_can_be_in_time_nothing_is_late_and_nobody_is_forgotten(tmp_path: Path, seed: int) -> None:
    jobs = load(random.Random(seed))
    assert 0.97 < demand(jobs) <= 0.98, "there is hardly any room"
    world = simulated(tmp_path, jobs)
    assert all(end_s <= job.due_s for job, end_s in world.stored)
    assert Counter(world.parts) == {f"asset-{n:06}": -(-job.size_bytes // PART_BYTES) for n, job in enumerate(jobs)}


@pytest.mark.parametrize("seed", range(2000, 2004))
def test_the_line_changes_hands_at_most_once_for_each_that_comes(tmp_path: Path, seed: int) -> None:
    """Each overtaking was asked for by somebody more urgent: what is large goes on as soon as nobody is."""
    jobs = [job for job in load(random.Random(seed)) if job.size_bytes > PART_BYTES]
    runs = [name for name, _ in groupby(simulated(tmp_path, jobs).parts)]
    assert len(runs) <= 2 * len(jobs)


def test_first_come_first_served_is_late_where_that_need_not_be(tmp_path: Path) -> None:
    jobs = [hours(0, 48, 20), hours(1, 3, 1), hours(2, 5, 1)]
    assert demand(jobs) < 1
    assert late(jobs, tmp_path) == 0
    served = simulated(tmp_path, jobs, by_deadline=False).stored
    assert sum(end_s > job.due_s for job, end_s in served) == 2


def test_a_chain_of_ever_nearer_deadlines_overtakes_every_time(tmp_path: Path) -> None:
    """Each comes while the one before is on its way; eleven are under way at the end, and none is late."""
    jobs = [hours(at * 0.1, 40 - 3 * at, 2) for at in range(11)]
    assert demand(jobs) < 1
    assert late(jobs, tmp_path) == 0


@given(
    st.lists(
        st.builds(hours, st.integers(0, 20), st.integers(21, 60), st.floats(0.1, 9)), min_size=1, max_size=8
    )
)  # fmt: skip
def test_what_demands_more_than_there_is_can_not_all_be_in_time(jobs: list[Job]) -> None:
    """Checked against a line of one-minute pieces that always serves the earliest deadline, which is the best."""
    left = {at: job.size_bytes / RATE_BYTES_S * 60 / HOUR_S for at, job in enumerate(jobs)}
    missed = False
    for minute in range(60 * 60):
        here = [at for at, job in enumerate(jobs) if left[at] > 0 and job.held_s <= minute * HOUR_S / 60]
        if here:
            left[min(here, key=lambda at: jobs[at].due_s)] -= 1
        missed |= any(left[at] > 0 and (minute + 1) * HOUR_S / 60 >= job.due_s for at, job in enumerate(jobs))
    if demand(jobs) <= 0.9:
        assert not missed
    if missed:
        assert demand(jobs) > 0.9


def test_of_equals_nobody_waits_longer_than_by_an_equal_share(tmp_path: Path) -> None:
    assert longest_wait(simulated(tmp_path, crowd(500)).stored) < 1.1
    assert longest_wait(simulated(tmp_path, crowd(500), _ById()).stored) > 2, "as it was"
