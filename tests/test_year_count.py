"""Promise: a year that was counted before and goes on is the same, to the last number, as one that is counted anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from agent.config import Milestone, load
from agent.journal.codec import from_text
from agent.journal.facts import Fact, Walk
from agent.model import (
    Acquired,
    ClockStepped,
    Deadline,
    DeadlineRecomputed,
    Declared,
    EventDeclared,
    GapExplained,
    JournalEntry,
    Stated,
    Statement,
    TimeStated,
)
from agent.statistics.report import Amount, Counted
from agent.status import counting
from agent.status.counting import Year, YearCount
from tests.journal_entries import NOW, activity, document, opened, seen
from tests.test_journal_property import AnyHistory

SHIPPED = load(Path(__file__).parent.parent / "config" / "agent.toml")
SAID = st.sampled_from(
    [{"stage": "S03"}, {"stage": "S08"}, {"stage": None}, {"late": {"code": "LATE-05"}}, {"place_text": "某药店"}]
)
PICKS = st.lists(st.integers(0, 9), min_size=1, max_size=3)


class AnyYear(AnyHistory):
    """Any history of a journal, with all that statistics count, while the years around it are counted now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.counts = {year: YearCount(year, part=1) for year in (2025, 2026)}
        self.config = replace(SHIPPED, storage=replace(SHIPPED.storage, root=self.folder))
        self.documents = 0

    def every_counter_is_the_count(self) -> None:
        """That is of histories without documents."""

    def record(self, *entries: JournalEntry) -> None:
        self.commit([[entry] for entry in entries])

    def chosen(self, picks: list[int]) -> list[str]:
        names = [row[0] for row in self.log.db.execute("SELECT asset_id FROM asset WHERE role = 'original'")]
        return list(dict.fromkeys(names[pick % len(names)] for pick in picks)) if names else []

    def limit_of(self, name: str) -> Deadline:
        query = "SELECT deadline FROM recording JOIN asset USING (recording_id) WHERE asset_id = ?"
        return from_text(Deadline, self.log.db.execute(query, (name,)).fetchone()[0])

    @rule(picks=PICKS, fields=SAID)
    def say(self, picks: list[int], fields: dict[str, object]) -> None:
        if names := self.chosen(picks):
            self.documents += 1
            said = Statement("张三", "补充", NOW, fields)
            self.record(document(f"doc-{self.documents}", *names, said=said))

    @rule(picks=PICKS, stage=st.sampled_from(["S03", "S08"]), days=st.integers(-200, 1))
    def state_activity(self, picks: list[int], stage: str, days: int) -> None:
        """It may lose recordings that it had before, and end on another day."""
        if names := self.chosen(picks):
            arrived_at = NOW + timedelta(days=days)
            times = {"arrived_at": arrived_at, "left_at": arrived_at + timedelta(hours=1)}
            self.record(activity(*names, stage=stage, **times))

    @rule(days=st.integers(-200, 1))
    def explain(self, days: int) -> None:
        start = NOW + timedelta(days=days)
        self.record(GapExplained("act", 1, start, start + timedelta(hours=1), "INT-03", "why", "officer", "doc"))

    @rule(picks=PICKS, days=st.sampled_from([-400, -200, -60, -1, 0]))
    def state_time(self, picks: list[int], days: int) -> None:
        for name in self.chosen(picks):
            old, made_at = self.limit_of(name), NOW + timedelta(days=days)
            self.record(
                TimeStated(name, Stated(made_at, "张三", "the clock was reset"), old, replace(old, start=made_at))
            )

    @rule(picks=PICKS, hours=st.sampled_from([-5, 10, 50]))
    def limit(self, picks: list[int], hours: int) -> None:
        for name in self.chosen(picks):
            old = self.limit_of(name)
            new = replace(old, due_at=NOW + timedelta(hours=hours), alarm_at=NOW + timedelta(hours=hours - 3))
            declared = Declared("return_to_unit", NOW, "LATE-02", "张三", "异地")
            self.record(DeadlineRecomputed(name, old, new), EventDeclared(name, declared, new, new))

    @rule(seconds=st.sampled_from([-3600, 7200]))
    def set_the_clock(self, seconds: int) -> None:
        self.record(ClockStepped(NOW, NOW + timedelta(seconds=seconds), seconds * 1000, len(self.accepted)))

    @rule(hours=st.integers(-10, 60))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(milestone=st.sampled_from(Milestone))
    def other_rules(self, milestone: Milestone) -> None:
        self.config = replace(self.config, deadline=replace(self.config.deadline, satisfied_by=milestone))

    @invariant()
    def what_is_counted_on_is_what_is_counted_anew(self) -> None:
        for year, known in self.counts.items():
            assert told(known.of(self.config, None, self.now)) == told(YearCount(year).of(self.config, None, self.now))


def told(year: Year) -> object:
    days = {day: dict(+counted) for day, counted in year.days.items()}
    return year.figures.tables, days


def sums(found: Iterable[Counted], year: int, now: datetime) -> object:
    """All that was counted, also what the published tables hide."""
    del year, now
    totals: dict[object, Amount] = {}
    for month, codes, amount in found:
        for subject, code in codes.items():
            totals[month, subject, code] = totals.get((month, subject, code), Amount()) + amount
    return totals


def test_what_is_counted_on_is_what_is_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "tables", sums)
    options = settings(
        max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(AnyYear, settings=options)


STEPS: dict[str, Callable[[AnyYear], None]] = {
    "a statement": lambda year: year.say([0], {"stage": "S03"}),
    "another one": lambda year: year.say([0, 1], {"stage": "S08", "late": {"code": "LATE-05"}}),
    "an activity": lambda year: year.state_activity([1, 2], "S03", -3),
    "the same without a recording": lambda year: year.state_activity([1], "S03", -3),
    "a stated time": lambda year: year.state_time([0], -60),
    "a stated time of another year": lambda year: year.state_time([2], -400),
    "a cause": lambda year: year.limit([2], 50),
    "another end of the activity": lambda year: year.state_activity([1], "S03", -90),
    "a limit that passed": lambda year: year.time_passes(60),
    "another milestone": lambda year: year.other_rules(Milestone.LOCAL),
    "a gap that is explained": lambda year: year.explain(-90),
    "bytes that are held": lambda year: year.go_on([(0, Acquired, "x")]),
    "a new recording": lambda year: year.record(opened("d2"), seen("a7", 1, "d2")),
}


def test_each_thing_that_is_told_is_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "tables", sums)
    year = AnyYear()
    try:
        year.some_footage(3)
        year.go_on([(1, Acquired, "x")])
        for what, step in STEPS.items():
            before = [told(known.of(year.config, None, year.now)) for known in year.counts.values()]
            step(year)
            after = [told(known.of(year.config, None, year.now)) for known in year.counts.values()]
            assert after != before, f"{what} changes nothing: it is no example"
            assert after == [told(YearCount(of).of(year.config, None, year.now)) for of in year.counts], what
    finally:
        year.teardown()


def test_a_count_that_goes_on_reads_only_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a station with years of recordings would spend its time counting."""
    pages: list[tuple[str | int, ...]] = []
    page = Walk.page

    def noted(walk: Walk, *where: str | int) -> list[tuple[str, Fact]]:
        pages.append(where)
        return page(walk, *where)  # type: ignore[arg-type]

    monkeypatch.setattr(Walk, "page", noted)
    year = AnyYear()
    try:
        year.some_footage(5)
        known = YearCount(2026, part=1)
        known.of(year.config, None, NOW)
        assert len(pages) == 6
        year.say([1], {"stage": "S03"})
        pages.clear()
        known.of(year.config, None, NOW)
        assert [last for _, last, _ in pages if str(last) < "b"] == ["a1", "a1"]
    finally:
        year.teardown()
