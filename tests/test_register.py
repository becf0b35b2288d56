"""Promise: the register says where a recorder is by what was entered and docked, and refuses what can't have been."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.deadline import ZONE
from agent.errors import JournalError
from agent.model import Custody, DeviceIssued, DeviceReturned, Recorder, RecorderKind, Standing
from agent.register import line, moment, recognise, step
from tests.journal_entries import DEVICE, NOW, issued, returned

Entry = DeviceIssued | DeviceReturned

# Where it is, and what happens.

BEFORE: dict[str, Standing | None] = {
    "never handed out": None,
    "here": Standing("DSJ-001", Custody.HERE, NOW, NOW + timedelta(hours=1)),
    "out": Standing("DSJ-001", Custody.OUT, NOW, NOW, NOW),
    "unpulled": Standing("DSJ-001", Custody.UNPULLED, NOW, NOW + timedelta(hours=1), NOW),
    "written off": Standing("DSJ-001", Custody.WRITTEN_OFF, NOW, NOW + timedelta(hours=1)),
}
EVENTS: dict[str, Entry] = {
    "issued": issued(hours=2),
    "returned": returned(hours=2),
    "docked": returned(hours=2, docking="d1"),
    "given up": returned(hours=2, unread=True),
}
ALLOWED = {
    ("never handed out", "issued"): Custody.OUT,
    ("here", "issued"): Custody.OUT,
    ("unpulled", "issued"): Custody.OUT,
    ("written off", "issued"): Custody.OUT,
    ("out", "returned"): Custody.UNPULLED,
    ("out", "docked"): Custody.HERE,
    ("unpulled", "docked"): Custody.HERE,
    ("written off", "docked"): Custody.HERE,
    ("out", "given up"): Custody.WRITTEN_OFF,
    ("unpulled", "given up"): Custody.WRITTEN_OFF,
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("before", BEFORE)
def test_every_pair_of_state_and_event(before: str, event: str) -> None:
    expected = ALLOWED.get((before, event))
    if expected is None:
        with pytest.raises(JournalError, match=r"DSJ-001 (is|was)") as caught:
            step(BEFORE[before], EVENTS[event])
        assert caught.value.safe == "Nothing was changed."
        return
    after = step(BEFORE[before], EVENTS[event])
    assert after.custody is expected
    assert after.changed_at == NOW + timedelta(hours=2)
    assert (after.unseen_since is not None) == (expected in {Custody.OUT, Custody.UNPULLED})


def test_what_was_recorded_before_a_return_without_docking_is_still_unseen_afterwards() -> None:
    """Handed out, back without docking, handed out again: the time limit runs from the first handover."""
    unpulled = step(step(None, issued()), returned(hours=8))
    again = step(unpulled, issued(hours=24, back_by=30))
    assert (again.unseen_since, again.issued_at, again.back_by) == (
        NOW,
        NOW + timedelta(hours=24),
        NOW + timedelta(hours=30),
    )
    assert step(again, returned(hours=40, docking="d1")).unseen_since is None


@pytest.mark.parametrize(
    ("before", "entry", "told"),
    [
        ("out", returned(hours=-1), "handed out later than that, at 2026-07-06T17:00"),
        ("out", returned(hours=-1, docking="d1"), "handed out later than that"),
        ("here", issued(hours=0.5), "came back later than that"),
        ("here", issued(hours=5, back_by=5), "can't be expected back before"),
    ],
)
def test_times_in_the_wrong_order_are_refused(before: str, entry: Entry, told: str) -> None:
    with pytest.raises(JournalError, match=told):
        step(BEFORE[before], entry)


HOURS = st.integers(0, 50)
ANY = st.one_of(
    st.builds(lambda hours: issued(hours=hours), HOURS),
    st.builds(lambda hours, docking, unread: returned(hours=hours, docking=docking, unread=unread),
              HOURS, st.sampled_from(["", "d1"]), st.booleans()),
)  # fmt: skip


@given(entries=st.lists(ANY, max_size=20))
def test_the_countdown_runs_from_the_first_handover_that_no_docking_has_answered(entries: list[Entry]) -> None:
    """Said again in the simplest way: what is unseen is forgotten only by a docking, or when a person gives it up."""
    standing: Standing | None = None
    unseen: list[Entry] = []
    for entry in entries:
        try:
            standing = step(standing, entry)
        except JournalError:
            continue
        if isinstance(entry, DeviceIssued):
            unseen.append(entry)
        elif entry.docking_id or entry.unread:
            unseen = []
        assert standing.unseen_since == (unseen[0].at if unseen else None)
        assert (standing.unseen_since is not None) == (standing.custody in {Custody.OUT, Custody.UNPULLED})


# Who a docked device is.

RECORDER = Recorder(
    "DSJ-001", "0117", RecorderKind.BODY_CAMERA, DEVICE.product, DEVICE.serial, "", DEVICE.filesystem_ids
)


def test_a_device_is_recognised_only_if_every_mark_agrees() -> None:
    inventory = {"DSJ-001": RECORDER, "DSJ-002": replace(RECORDER, recorder_id="DSJ-002", serial="other")}
    assert recognise(inventory, DEVICE) == RECORDER
    for change in ({"product": "X"}, {"serial": "cloned"}, {"filesystem_ids": ("fat32:FFFF-FFFF",)}):
        assert recognise(inventory, replace(DEVICE, **change)) is None  # type: ignore[arg-type]
    assert recognise({}, DEVICE) is None


def test_a_device_that_could_be_two_recorders_is_neither() -> None:
    vague = replace(RECORDER, recorder_id="DSJ-002", serial="")
    assert recognise({"DSJ-001": RECORDER, "DSJ-002": vague}, DEVICE) is None


# What a person types.


@pytest.mark.parametrize("text", ["", " ", "a\nb", "a\x1b[2J", "a\u202eb", "x" * 201, "x" * 100_000, "\udc80", "\0"])
def test_what_is_no_line_of_text_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be 1\.\.200 characters on one line") as caught:
        line(text)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "08:30", "2026-02-30T08:00", "0001-01-01", "9999-12-31T23:59", "1970-01-01", "x" * 100_000]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time"):
        moment(text)


def test_a_time_without_zone_is_chinas() -> None:
    assert moment("2026-11-22T08:30").isoformat() == "2026-11-22T08:30:00+08:00"
    assert moment("2026-11-22T00:30Z") == moment("2026-11-22T08:30")
    assert moment("2026-11-22").tzinfo is ZONE


@given(st.text())
def test_any_text_is_a_line_or_refused(text: str) -> None:
    try:
        taken = line(text)
    except ValueError:
        return
    assert taken.isprintable()
    assert taken == text.strip()
