"""The state machine of an asset: every (state, event) pair, the proofs it checks, and what is derived from it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import AgentError, EvidenceError, JournalError
from agent.model import (
    Acquired,
    Asset,
    AssetEvent,
    AssetState,
    Blocked,
    Confirmed,
    Damaged,
    Lost,
    Matched,
    Released,
    Resumed,
)
from agent.states import is_kept, transition
from tests.journal_entries import digests_of, held, receipt, wanted

W, H, S, R, X, M = (
    AssetState.WANTED,
    AssetState.HELD,
    AssetState.STORED,
    AssetState.RELEASED,
    AssetState.STUCK,
    AssetState.MATCHED,
)

WANTED = wanted("a")
HELD = replace(WANTED, state=H, size_bytes=1000, digests=digests_of("a"))
STORED = replace(HELD, state=S, receipt=receipt("a"))
ASSETS = {
    "wanted": WANTED,
    "held": HELD,
    "stored": STORED,
    "released": replace(STORED, state=R),
    "stuck, was wanted": replace(WANTED, state=X, reason="why", resume_to=W),
    "stuck, was held": replace(HELD, state=X, reason="why", resume_to=H),
    "matched": replace(WANTED, state=M, size_bytes=1000, digests=digests_of("a"), same_as="b"),
}
EVENTS: dict[str, AssetEvent] = {
    "acquired": Acquired(held("a")),
    "matched": Matched("b", digests_of("a")),
    "confirmed": Confirmed(receipt("a")),
    "released": Released(receipt("a")),
    "blocked": Blocked("no space for weeks"),
    "resumed": Resumed("officer", "the card was cleaned"),
    "damaged, docked": Damaged("a bit flipped", source_docked=True),
    "damaged, gone": Damaged("a bit flipped", source_docked=False),
    "lost": Lost("the store has other bytes"),
}
LEGAL = {
    ("wanted", "acquired"): H,
    ("wanted", "matched"): M,
    ("wanted", "blocked"): X,
    ("held", "confirmed"): S,
    ("held", "blocked"): X,
    ("held", "damaged, docked"): W,
    ("held", "damaged, gone"): X,
    ("stored", "released"): R,
    ("stored", "damaged, docked"): W,
    ("stored", "damaged, gone"): X,
    ("stored", "lost"): H,
    ("released", "lost"): X,
    ("stuck, was wanted", "resumed"): W,
    ("stuck, was held", "resumed"): H,
}


def test_the_table_covers_every_state_and_every_event() -> None:
    assert {asset.state for asset in ASSETS.values()} == set(AssetState)
    assert {type(event) for event in EVENTS.values()} == set(get_args(AssetEvent))


@pytest.mark.parametrize(("state", "event"), list(product(ASSETS, EVENTS)))
def test_every_pair_goes_where_the_table_says_or_is_refused_in_words(state: str, event: str) -> None:
    asset, happened = ASSETS[state], EVENTS[event]
    if (state, event) in LEGAL:
        after = transition(asset, happened)
        assert after.state is LEGAL[state, event]
        assert (after.asset_id, after.recording_id, after.expected_bytes) == (
            asset.asset_id,
            asset.recording_id,
            asset.expected_bytes,
        )
        return
    with pytest.raises(JournalError) as refusal:
        transition(asset, happened)
    assert asset.asset_id in str(refusal.value)
    assert asset.state.value in str(refusal.value)
    assert type(happened).__name__ in str(refusal.value)


def test_what_the_store_lost_has_no_receipt_any_more_and_keeps_its_fingerprints() -> None:
    again = transition(STORED, EVENTS["lost"])
    assert (again.receipt, again.digests, again.size_bytes) == (None, STORED.digests, STORED.size_bytes)
    assert transition(again, Confirmed(receipt("a"))) == STORED
    gone = transition(ASSETS["released"], EVENTS["lost"])
    assert (gone.receipt, gone.reason, gone.resume_to) == (None, "the store has other bytes", W)


def test_acquired_takes_size_and_digests_from_the_proof() -> None:
    after = transition(WANTED, Acquired(held("a"), holes=((0, 512), (900, 100))))
    assert (after.size_bytes, after.digests) == (1000, digests_of("a"))


@pytest.mark.parametrize(
    "proof",
    [held("b", content="a"), held("a", size=999), held("a", size=0)],
    ids=["another asset's", "too short", "empty"],
)
def test_acquired_refuses_a_proof_about_something_else(proof: object) -> None:
    with pytest.raises(EvidenceError):
        transition(WANTED, Acquired(proof))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "holes",
    [((0, 0),), ((-1, 5),), ((0, 1001),), ((1000, 1),), ((10, 5), (12, 5)), ((10, 5), (0, 5))],
)
def test_acquired_refuses_impossible_holes(holes: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(JournalError, match="impossible"):
        transition(WANTED, Acquired(held("a"), holes))


def test_confirmed_refuses_a_receipt_about_other_bytes() -> None:
    for wrong in (
        receipt("b"),
        receipt("a", size=999),
        replace(receipt("a"), digests=replace(digests_of("a"), sha256="0")),
    ):
        with pytest.raises(EvidenceError, match="other bytes"):
            transition(HELD, Confirmed(wrong))


def test_released_needs_the_very_receipt_that_was_recorded() -> None:
    with pytest.raises(EvidenceError):
        transition(STORED, Released(replace(receipt("a"), store="elsewhere")))


def test_matched_refuses_itself() -> None:
    with pytest.raises(JournalError, match="itself"):
        transition(WANTED, Matched("a", digests_of("a")))


def test_matched_keeps_which_asset_has_the_bytes() -> None:
    after = transition(WANTED, Matched("b", digests_of("a")))
    assert (after.same_as, after.digests, after.size_bytes) == ("b", digests_of("a"), 1000)


def test_stuck_remembers_why_and_where_to_go_on_and_forgets_both_when_resumed() -> None:
    for before in (WANTED, HELD):
        stuck = transition(before, Blocked("the disk is full"))
        assert (stuck.reason, stuck.resume_to) == ("the disk is full", before.state)
        assert transition(stuck, Resumed("officer", "cleaned up")) == before


def test_a_damaged_original_is_only_replaced_by_the_same_bytes() -> None:
    again = transition(HELD, Damaged("a bit flipped", source_docked=True))
    assert transition(again, Acquired(held("a"))) == HELD
    with pytest.raises(EvidenceError, match="was known with"):
        transition(again, Acquired(held("a", content="something else")))
    with pytest.raises(EvidenceError, match="was known with"):
        transition(again, Matched("b", digests_of("something else")))


def test_a_damaged_copy_of_a_stored_original_stays_safe_and_can_be_proved_again() -> None:
    for damage in (Damaged("a bit flipped", source_docked=True), Damaged("a bit flipped", source_docked=False)):
        lost = transition(STORED, damage)
        assert lost.receipt == STORED.receipt
        wanted_again = lost if damage.source_docked else transition(lost, Resumed("officer", "docked again"))
        back = transition(transition(wanted_again, Acquired(held("a"))), Confirmed(receipt("a")))
        assert back == STORED


def test_kept_means_the_bytes_are_here_or_were_proved_there() -> None:
    assert {name for name, asset in ASSETS.items() if is_kept(asset)} == {
        "held",
        "stored",
        "released",
        "stuck, was held",
    }


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=30))
def test_no_sequence_of_events_loses_digests_and_only_the_stores_loss_voids_a_receipt(names: list[str]) -> None:
    asset: Asset = WANTED
    for name in names:
        try:
            after = transition(asset, EVENTS[name])
        except AgentError:
            continue
        assert asset.digests is None or after.digests == asset.digests
        assert asset.receipt is None or after.receipt == (None if name == "lost" else asset.receipt)
        assert (after.state is X) == (after.resume_to is not None)
        assert after.digests is not None or after.state in (W, X)
        asset = after
