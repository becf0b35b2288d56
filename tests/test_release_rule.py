"""What keeps a local copy here, as a pure rule: each reason alone is enough, and none hides another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.journal.release_queries import Told, Witness
from agent.model import (
    Acquired,
    Asset,
    AssetChanged,
    AssetState,
    Blocked,
    ClipSeen,
    Confirmed,
    Damaged,
    DeriveAsked,
    Derived,
    FreeWhen,
    Frozen,
    JournalEntry,
    Lost,
    Matched,
    Role,
    Stays,
    Terms,
)
from agent.pipeline.releasable import Content, Rule, is_within, same_person, what_keeps
from agent.states import folded
from tests.fakes import digests_of
from tests.journal_entries import NOW, held, probed, receipt, seen

DAY = timedelta(days=1)
TERMS = Terms(FreeWhen.DONE, 10, (Role.STATEMENT,), True, 30, True, 100, 1)
WITNESS = Witness(tuple(range(100, 150)), ())
PRESENT = NOW + 60 * DAY
RULE = Rule(TERMS, WITNESS, PRESENT, copies=True)
LOCKED = replace(receipt("a"), locked_until=PRESENT + 31 * DAY)


def clean() -> Content:
    """One recording of which nothing keeps the copy here."""
    first = seen("a")
    assert first.asset is not None
    held = acquired("a")
    told: list[JournalEntry] = [first, held, probed("a"), Derived("a"), AssetChanged("a", Confirmed(LOCKED))]
    return with_history(Content((), {}, (("rec-a", document()),), False, False, False), told)


def document() -> Asset:
    proof = replace(receipt("s"), locked_until=PRESENT + 31 * DAY)
    return Asset("s", "rec-a", Role.STATEMENT, AssetState.STORED, 10, 10, proof.digests, proof)


def acquired(name: str) -> AssetChanged:
    return AssetChanged(name, Acquired(held(name)))


def with_history(content: Content, told: list[JournalEntry], at: datetime = NOW) -> Content:
    """As the log and the table have it after these events."""
    history = tuple(Told(seq, at, entry) for seq, entry in enumerate(told, 1))
    asset = folded(told)
    assert asset is not None
    others = tuple(one for one in content.belongings if one[1].role is not Role.ORIGINAL)
    return replace(content, assets=(asset,), histories={"a": history}, belongings=(("rec-a", asset), *others))


def more(*entries: JournalEntry) -> Callable[[Content], Content]:
    """With more events."""
    return lambda content: with_history(content, [*(one.entry for one in content.histories["a"]), *entries])


def later(content: Content) -> Content:
    told = [one.entry for one in content.histories["a"]]
    return with_history(content, told, PRESENT - 9 * DAY)


def unlike(content: Content) -> Content:
    """Somebody wrote into the table."""
    (asset,) = content.assets
    return replace(content, assets=(replace(asset, reason="changed behind the log's back"),))


def less(content: Content) -> Content:
    return replace(content, belongings=tuple(one for one in content.belongings if one[1].role is Role.ORIGINAL))


def unstored(content: Content) -> Content:
    held = Asset("x", "rec-a", Role.ACCESS_COPY, AssetState.HELD, 10, 10, digests_of(b"x"))
    return replace(content, belongings=(*content.belongings, ("rec-a", held)))


def shared(content: Content) -> Content:
    twin = replace(document(), asset_id="t")
    histories = {**content.histories, "t": content.histories["a"]}
    return replace(content, assets=(*content.assets, twin), histories=histories)


def cut(content: Content) -> Content:
    told = [one.entry for one in content.histories["a"]]
    first = told[0]
    assert isinstance(first, ClipSeen)
    return with_history(content, [replace(first, clip=replace(first.clip, size_bytes=1 << 40)), *told[1:]])


HARMS: dict[str, tuple[Callable[[Content], Content], Stays]] = {
    "it came nine days ago": (later, Stays.YOUNG),
    "a copy is not stored": (unstored, Stays.UNSTORED),
    "nobody has said anything": (less, Stays.LACKING),
    "frozen": (more(Frozen("a", True, "w", "y")), Stays.FROZEN),
    "marked": (lambda content: replace(content, marked=True), Stays.MARKED),
    "doubted": (lambda content: replace(content, doubted=True), Stays.DOUBTED),
    "copies are to be made again": (more(DeriveAsked("a", "w", "y")), Stays.UNREAD),
    "the recorder said more": (cut, Stays.INCOMPLETE),
    "coming in": (lambda content: replace(content, under_way=True), Stays.UNDER_WAY),
}
"""Each can come with each other."""

FIRST = ("nobody", "frozen", "copies", "recorder", "nine days")
"""What makes belongings or events anew comes before what adds to them."""


def test_nothing_keeps_what_all_is_true_of() -> None:
    assert what_keeps(clean(), RULE) == frozenset()


@given(st.sets(st.sampled_from(sorted(HARMS)), min_size=1))
def test_any_reason_keeps_it_and_all_are_told(names: set[str]) -> None:
    chosen = sorted(names, key=lambda name: next((place for place, word in enumerate(FIRST) if word in name), 9))
    harmed = reduce(lambda content, name: HARMS[name][0](content), chosen, clean())
    assert what_keeps(harmed, RULE) == {HARMS[name][1] for name in names}


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (unlike, Stays.DIFFERS),
        (shared, Stays.SHARED),
        (more(AssetChanged("a", Lost("gone"))), Stays.UNSTORED),
        (more(AssetChanged("a", Damaged("bit", False))), Stays.UNSTORED),
        (lambda content: replace(content, histories={"a": ()}), Stays.YOUNG),
    ],
)
def test_more_that_keeps_it(harm: Callable[[Content], Content], reason: Stays) -> None:
    assert reason in what_keeps(harm(clean()), RULE)


def test_events_that_contradict_each_other_keep_it() -> None:
    content = clean()
    broken = (*content.histories["a"], Told(9, NOW, AssetChanged("a", Confirmed(LOCKED))))
    assert Stays.DIFFERS in what_keeps(replace(content, histories={"a": broken}), RULE)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (replace(RULE, now=NOW + 10 * DAY - timedelta(seconds=1)), Stays.YOUNG),
        (replace(RULE, now=NOW - DAY), Stays.YOUNG),
        (replace(RULE, witness=Witness(tuple(range(100, 109)), ())), Stays.YOUNG),
        (replace(RULE, witness=Witness(tuple(range(100, 110)), ((50, 3_600_000),))), Stays.YOUNG),
        (replace(RULE, witness=Witness((1,) * 50, ())), Stays.YOUNG),
        (replace(RULE, now=PRESENT + 2 * DAY), Stays.UNLOCKED),
        (replace(RULE, terms=replace(TERMS, roles=(Role.MANIFEST,))), Stays.LACKING),
    ],
)
def test_time_terms_and_locks_keep_it(rule: Rule, reason: Stays) -> None:
    assert what_keeps(clean(), rule) == {reason}


def test_a_step_before_it_came_and_small_ones_after_it_take_few_days() -> None:
    steps = ((1, 10**12), (50, 2_000), (51, 2_000), (52, 86_400_000 * 20000))
    witness = Witness(tuple(range(100, 112)), steps)
    assert witness.days_since(2) == 12 - 2, "the large one can have made one day, the small ones less than one"


def test_the_same_bytes_twice_are_judged_by_the_younger_and_by_both() -> None:
    content = clean()
    twin_told = (
        Told(20, NOW, seen("b")),
        Told(21, PRESENT - DAY, AssetChanged("b", Matched("a", content.assets[0].digests or digests_of(b"")))),
    )
    twin = folded(one.entry for one in twin_told)
    assert twin is not None
    both = replace(
        content,
        assets=(*content.assets, twin),
        histories={**content.histories, "b": twin_told},
        belongings=(*content.belongings, ("rec-b", content.assets[0])),
    )
    assert what_keeps(both, RULE) == {Stays.YOUNG, Stays.LACKING}


LOOSER: dict[str, Any] = {
    "retention_days": 9,
    "roles": (),
    "read_back": False,
    "lock_days": 0,
    "keep_marked": False,
    "store": "directory, another one",
}


def test_terms_are_within_themselves_and_stricter_ones_too() -> None:
    assert is_within(TERMS, TERMS)
    stricter = Terms(FreeWhen.FULL, 11, (Role.MANIFEST, Role.STATEMENT), True, 31, True, 5, 0)
    assert is_within(stricter, TERMS)
    assert not is_within(TERMS, stricter)


@pytest.mark.parametrize("name", LOOSER)
def test_terms_that_are_looser_in_anything_are_not(name: str) -> None:
    assert not is_within(replace(TERMS, **{name: LOOSER[name]}), TERMS)
    assert {one.name for one in fields(Terms)} == {*LOOSER, "when", "files_max", "percent_max"}, "all are looked at"


@given(st.text(st.characters(categories=["L"]), min_size=1), st.sampled_from(["", " ", "  ", "\u3000"]))
def test_one_person_is_one_however_the_name_is_written(name: str, space: str) -> None:
    assert same_person(name, f"{space}{name[:1]}{space}{name[1:]}{space}")
    assert same_person(name.casefold(), name)
    assert not same_person(name, name + "二")


def test_what_is_stuck_is_no_original_that_may_go() -> None:
    stuck = more(AssetChanged("a", Lost("gone")), AssetChanged("a", Blocked("why")))(clean())
    assert Stays.UNSTORED in what_keeps(stuck, RULE)
