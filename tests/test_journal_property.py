"""Whatever is recorded, in whatever order and grouping: the tables follow from the log, and the counts are right."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.errors import AgentError
from agent.journal import rebuild, verify
from agent.journal.codec import encode
from agent.journal.log import Job, Log
from agent.journal.rows import SELECT_ASSET, asset_of
from agent.journal.schema import EVIDENCE_TABLES
from agent.model import (
    Acquired,
    ActivityEnded,
    Adopted,
    Asset,
    AssetChanged,
    AssetEvent,
    Blocked,
    Clearing,
    ClipAccounted,
    ClipRefused,
    Confirmed,
    Damaged,
    DockingClosed,
    Finding,
    GapConfirmed,
    GapExplained,
    Incident,
    JournalEntry,
    Matched,
    Mode,
    Observed,
    Outcome,
    ReceiptIssued,
    Released,
    Resumed,
)
from agent.states import is_kept
from tests.journal_entries import (
    NOW,
    activity,
    clip,
    deadline,
    digests_of,
    held,
    issued,
    listed,
    opened,
    probed,
    receipt,
    recording,
    returned,
    seen,
    seen_again,
    wanted,
)

MEMORY = Path("/dev/shm")  # thousands of commits; whether they survive is another test's question
DOCKINGS = st.sampled_from(["d1", "d2", "d3"])
NAMES = st.sampled_from([f"a{n}" for n in range(6)])
CONTENTS = st.sampled_from(["x", "y", "z"])
NUMBERS = st.integers(0, 4)
MODES = st.sampled_from(Mode)
HOURS = st.integers(0, 3)
DUE = st.sampled_from([-5, 10, 50])
ACTIVITIES = st.sampled_from(["act", "other"])
HOLES = st.sampled_from([(), ((0, 512),)])

ASSET_EVENTS = st.one_of(
    st.builds(lambda name, content, holes: Acquired(held(name, content=content), holes), NAMES, CONTENTS, HOLES),
    st.builds(lambda name, content: Matched(name, digests_of(content)), NAMES, CONTENTS),
    st.builds(lambda name, content: Confirmed(receipt(name, content=content)), NAMES, CONTENTS),
    st.builds(lambda name, content: Released(receipt(name, content=content)), NAMES, CONTENTS),
    st.just(Blocked("why")),
    st.just(Resumed("officer", "why")),
    st.builds(Damaged, st.just("a bit flipped"), st.booleans()),
)
ENTRIES: st.SearchStrategy[JournalEntry] = st.one_of(
    st.builds(opened, DOCKINGS, NAMES),
    st.builds(seen, NAMES, NUMBERS, DOCKINGS, hours=st.sampled_from([-5, 10, 50])),
    st.builds(seen_again, NAMES, NUMBERS, DOCKINGS, MODES),
    st.builds(lambda docking, number: ClipRefused(docking, clip(number), "a loop"), DOCKINGS, NUMBERS),
    st.builds(ClipAccounted, DOCKINGS, NUMBERS, st.sampled_from(Outcome), MODES),
    st.builds(lambda docking: Observed(docking, Finding("gap", {})), DOCKINGS),
    st.builds(listed, st.integers(0, 5), DOCKINGS),
    st.builds(DockingClosed, DOCKINGS, st.just("yanked")),
    st.builds(
        lambda docking, number, said: ReceiptIssued(docking, number, said, "V8", 1, 1, 0, 1, "ab" * 32),
        DOCKINGS, st.integers(1, 2), st.sampled_from(Clearing),
    ),
    st.builds(AssetChanged, NAMES, ASSET_EVENTS),
    st.builds(AssetChanged, NAMES, ASSET_EVENTS, DOCKINGS, NUMBERS, st.sampled_from(Outcome)),
    st.builds(
        lambda name, content: Adopted(recording(name), wanted(name), held(name, content=content)), NAMES, CONTENTS
    ),
    st.builds(lambda name, old, new: probed(name, old=deadline(old), new=deadline(new)), NAMES, DUE, DUE),
    st.just(Incident("tick")),
    st.builds(issued, NAMES, hours=HOURS),
    st.builds(returned, NAMES, hours=HOURS, docking=st.sampled_from(["", "d1", "d2"]), unread=st.booleans()),
    st.builds(activity, NAMES, NAMES, activity_id=ACTIVITIES),
    st.builds(
        lambda name, hours: ActivityEnded(name, "act", NOW, deadline(50), deadline(hours)),
        NAMES, DUE,
    ),
    st.builds(
        lambda act, number: GapExplained(act, number, NOW, NOW, "INT-03", "why", "officer", "doc"),
        ACTIVITIES, st.integers(1, 2),
    ),
    st.builds(GapConfirmed, ACTIVITIES, st.integers(1, 2), st.just("head"), st.just("why"), st.booleans()),
)  # fmt: skip
PLAUSIBLE = st.sampled_from([*get_args(AssetEvent), Acquired, Confirmed])
GROUPS = st.lists(st.lists(ENTRIES, min_size=1, max_size=3), min_size=1, max_size=4)


def job_of(entries: list[JournalEntry]) -> Job:
    encoded = [encode(entry) for entry in entries]
    return lambda log: log.append(encoded)


class AnyHistory(RuleBasedStateMachine):
    """Groups of calls as the writer commits them; some are refused, and the process may end at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.path = self.folder / "journal.db"
        self.log = Log(self.path, lambda: NOW)
        self.accepted: list[str] = []

    @initialize(count=st.integers(0, 5))
    def some_footage(self, count: int) -> None:
        """Random entries alone would rarely get past the first state."""
        first = [opened(), *(seen(f"a{n}", n) for n in range(count))]
        self.commit([[entry] for entry in first])

    @rule(group=GROUPS)
    def commit(self, group: list[list[JournalEntry]]) -> None:
        results = self.log.commit([job_of(entries) for entries in group])
        for entries, result in zip(group, results, strict=True):
            if isinstance(result, AgentError):
                continue
            assert result == list(range(len(self.accepted) + 1, len(self.accepted) + len(entries) + 1))
            self.accepted += [encode(entry).detail for entry in entries]

    @rule(steps=st.lists(st.tuples(st.integers(0, 9), PLAUSIBLE, CONTENTS), min_size=1, max_size=10))
    def go_on(self, steps: list[tuple[int, type[AssetEvent], str]]) -> None:
        """What the pipeline would do: the right proof for an asset that is there, if not always at the right time."""
        for pick, kind, content in steps:
            if assets := self.assets():
                asset = assets[pick % len(assets)]
                if event := self.event_for(asset, kind, content):
                    self.commit([[AssetChanged(asset.asset_id, event, *self.place_of(asset, event))]])

    def event_for(self, asset: Asset, kind: type[AssetEvent], content: str) -> AssetEvent | None:
        digests = asset.digests or digests_of(asset.asset_id + content)
        if kind is Acquired:
            return Acquired(replace(held(asset.asset_id), digests=digests))
        if kind is Matched:
            return next((Matched(o.asset_id, o.digests) for o in self.assets() if o.digests and is_kept(o)), None)
        if kind is Confirmed:
            return Confirmed(replace(receipt(asset.asset_id), digests=digests))
        if kind is Released:
            return Released(asset.receipt) if asset.receipt else None
        if kind is Damaged:
            return Damaged("a bit flipped", source_docked=content == "x")
        return Blocked("why") if kind is Blocked else Resumed("officer", "why")

    def place_of(self, asset: Asset, event: AssetEvent) -> tuple[str, int, Outcome | None]:
        query = "SELECT docking_id, number FROM clip WHERE asset_id = ? AND outcome = 'pending'"
        row = self.log.db.execute(query, (asset.asset_id,)).fetchone()
        outcome = {Acquired: Outcome.PULLED, Matched: Outcome.ALREADY_HELD}.get(type(event))
        return (row[0], row[1], outcome) if row and outcome else ("", -1, None)

    @rule()
    def restart(self) -> None:
        self.log.close()
        self.log = Log(self.path, lambda: NOW)

    @invariant()
    def the_log_has_exactly_what_was_accepted(self) -> None:
        assert [detail for (detail,) in self.log.db.execute("SELECT detail FROM event ORDER BY seq")] == self.accepted

    @invariant()
    def every_counter_is_the_count(self) -> None:
        counted: Counter[tuple[str, str]] = Counter()
        for docking, outcome in self.log.db.execute("SELECT docking_id, outcome FROM clip"):
            counted.update([(docking, outcome), ("clip", outcome)])
        counted.update(("asset", state) for (state,) in self.log.db.execute("SELECT state FROM asset"))
        states = self.log.db.execute("SELECT completeness FROM metadata")
        counted.update(("metadata", state) for (state,) in states)
        counters = self.log.db.execute("SELECT scope, name, files, bytes FROM counter").fetchall()
        assert {(scope, name): files for scope, name, files, _ in counters if files} == dict(counted)
        assert all(size == files * 1000 * (scope != "metadata") for scope, _, files, size in counters)

    @invariant()
    def equal_content_is_kept_once(self) -> None:
        kept = [asset.digests for asset in self.assets() if is_kept(asset)]
        assert len(kept) == len(set(kept))

    @invariant()
    def no_closed_docking_has_pending_clips(self) -> None:
        query = "SELECT 1 FROM clip JOIN docking USING (docking_id) WHERE outcome = 'pending' AND closed_at IS NOT NULL"
        assert self.log.db.execute(query).fetchall() == []

    def assets(self) -> list[Asset]:
        return [asset_of(row) for row in self.log.db.execute(SELECT_ASSET)]

    def tables(self) -> dict[str, list[tuple[object, ...]]]:
        return {table: self.log.db.execute(f"SELECT * FROM {table}").fetchall() for table in EVIDENCE_TABLES}

    def teardown(self) -> None:
        before = self.tables()
        self.log.close()
        try:
            assert verify(self.path).differences == ()
            assert rebuild(self.path) == len(self.accepted)
            self.log = Log(self.path, lambda: NOW)
            assert self.tables() == before
            self.log.close()
        finally:
            shutil.rmtree(self.folder)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(
    max_examples=120, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
