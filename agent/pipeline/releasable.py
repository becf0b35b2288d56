"""What keeps a local copy here, and the proof that nothing does: judged from the log, never from a table alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agent.errors import EvidenceError, JournalError
from agent.journal import Reader
from agent.journal.release_queries import Told, Witness
from agent.journal.views import Tally
from agent.metadata.completeness import so_far
from agent.model import (
    Acquired,
    Adopted,
    Asset,
    AssetChanged,
    AssetState,
    ClipSeen,
    DeriveAsked,
    Derived,
    DocumentAdded,
    FreeWhen,
    Frozen,
    Matched,
    NamingRule,
    Probed,
    Releasable,
    Role,
    SegmentTaken,
    Stays,
    Terms,
)
from agent.naming import is_important
from agent.pipeline.station import Station
from agent.states import folded
from agent.uploader.base import DOUBT
from agent.vault import Vault

_PAGE: Final = 200
_FIRST: Final = 10_000
_AT_CENTRE: Final = frozenset({AssetState.STORED, AssetState.RELEASED})
_BUILT_IN: Final = Terms(FreeWhen.OFF, 36500, tuple(Role), True, 36500, True, 100, 1)
"""What is in force before two persons have agreed on anything: nothing is freed."""

_CHANGES: Final = (ClipSeen, SegmentTaken, Adopted, AssetChanged, DocumentAdded)


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of one file of the vault: every asset that they are, and all that hangs on these assets.

    `histories` by asset id. `belongings` are (recording, asset), a matched asset being the one that keeps its bytes.
    `under_way`: a part with the same bytes is being taken in. `unsealed`: a manifest is still to be made.
    """

    assets: tuple[Asset, ...]
    histories: Mapping[str, tuple[Told, ...]]
    belongings: tuple[tuple[str, Asset], ...]
    doubted: bool
    marked: bool
    under_way: bool
    unsealed: bool = False

    @property
    def originals(self) -> tuple[Asset, ...]:
        """The recordings with these bytes."""
        return tuple(asset for asset in self.assets if asset.role is Role.ORIGINAL)

    @property
    def keeper(self) -> Asset:
        """The recording for which the bytes are here; others stand on it."""
        return next(asset for asset in self.originals if not asset.same_as)


@dataclass(frozen=True, slots=True)
class Plan:
    """What would go now and what stays, and why; `first` are the first of them that would go, oldest first."""

    first: tuple[Asset, ...]
    goes: Tally
    stays: Mapping[Stays, Tally]
    stored: Tally


@dataclass(frozen=True, slots=True)
class Rule:
    """What copies are judged by: the terms, what the log knows of time, the present; `copies`: some are to be made.

    By `names` recorders mark what is important.
    """

    terms: Terms
    witness: Witness
    now: datetime
    copies: bool
    names: Sequence[NamingRule] = ()


def rule_of(station: Station) -> Rule:
    """What copies are judged by now."""
    return Rule(
        station.terms, station.journal.reader.witness(), station.clock(), station.access.enabled, station.forms.names
    )


def content_of(reader: Reader, blake3: str) -> Content:
    """Return all that the journal knows of the bytes with this BLAKE3."""
    assets = tuple(sorted(reader.assets_with([blake3]), key=lambda asset: asset.asset_id))
    recordings = {asset.recording_id for asset in assets if asset.role is Role.ORIGINAL}
    belongings = tuple(
        (recording_id, reader.asset(asset.same_as) if asset.same_as else asset)
        for recording_id, asset in reader.all_of(recordings)
    )
    said = [so_far(one.said.fields for one in views) for views in reader.statements(recordings).values()]
    return Content(
        assets,
        {asset.asset_id: reader.history(asset.asset_id) for asset in assets},
        belongings,
        reader.is_noted({asset.asset_id for _, asset in belongings}, DOUBT),
        any(isinstance(mark := one.get("mark"), dict) and mark.get("mark") != "none" for one in said),
        reader.is_settled(blake3),
        reader.wants_manifest(recordings),
    )


def judged(reader: Reader, blake3: str, rule: Rule) -> tuple[Content | None, frozenset[Stays]]:
    """Return what is known of a content, and what keeps it here; events that can't be read are a reason, too."""
    try:
        content = content_of(reader, blake3)
    except JournalError:
        return None, frozenset({Stays.DIFFERS})
    return content, what_keeps(content, rule)


def what_keeps(content: Content, rule: Rule) -> frozenset[Stays]:
    """Return every reason why these bytes stay here; none: they may go. That the policy is off is none of them."""
    terms, originals = rule.terms, content.originals
    histories = [content.histories[asset.asset_id] for asset in content.assets]
    told = [one for history in histories for one in history]
    keeps = {
        Stays.DIFFERS: content.assets != tuple(map(_by_the_log, histories)),
        Stays.SHARED: not originals or content.assets != originals,
        Stays.YOUNG: any(_is_young(history, rule) for history in histories),
        Stays.UNSTORED: not all(map(_is_at_centre, (asset for _, asset in content.belongings))),
        Stays.LACKING: (content.unsealed and Role.MANIFEST in terms.roles)
        or not all(_has_roles(content, asset.recording_id, terms.roles) for asset in originals),
        Stays.UNLOCKED: not all(_is_locked(asset, terms, rule.now) for asset in needed(content, terms)),
        Stays.FROZEN: any(map(_is_frozen, histories)),
        Stays.MARKED: terms.keep_marked and (content.marked or any(_is_marked(one, rule.names) for one in told)),
        Stays.DOUBTED: content.doubted,
        Stays.UNREAD: not all(_is_read(content.histories[one.asset_id], rule) for one in originals if not one.same_as),
        Stays.INCOMPLETE: any(map(_is_cut, told)),
        Stays.UNDER_WAY: content.under_way,
    }
    assert keeps.keys() == set(Stays), "every reason is looked at"
    return frozenset(reason for reason, is_so in keeps.items() if is_so)


def needed(content: Content, terms: Terms) -> tuple[Asset, ...]:
    """Return what the store must prove once more: the original, and every document of the roles that are asked for."""
    wanted = {asset.asset_id: asset for _, asset in content.belongings if asset.role in (Role.ORIGINAL, *terms.roles)}
    return tuple(wanted.values())


def _by_the_log(history: Sequence[Told]) -> Asset | None:
    try:
        return folded(one.entry for one in history)
    except (JournalError, EvidenceError):
        return None


def _is_at_centre(asset: Asset) -> bool:
    return asset.state in _AT_CENTRE and asset.receipt is not None


def _is_young(history: Sequence[Told], rule: Rule) -> bool:
    """Whether the last time these bytes came in is too short ago: by the clock, or by the days that were signed."""
    came = [one for one in history if _came(one)]
    if not came:
        return True
    too_short = rule.now - came[-1].at < rule.terms.retention
    return too_short or rule.witness.days_since(came[-1].seq) < rule.terms.retention_days


def _came(one: Told) -> bool:
    match one.entry:
        case Adopted() | AssetChanged(event=Acquired() | Matched()):
            return True
    return False


def _has_roles(content: Content, recording_id: str, roles: Sequence[Role]) -> bool:
    there = {asset.role for owner, asset in content.belongings if owner == recording_id}
    return there.issuperset(roles)


def _is_locked(asset: Asset, terms: Terms, now: datetime) -> bool:
    if not terms.lock_days:
        return True
    until = asset.receipt.locked_until if asset.receipt is not None else None
    return until is not None and until >= now + timedelta(days=terms.lock_days)


def _is_frozen(history: Sequence[Told]) -> bool:
    words = [one.entry.frozen for one in history if isinstance(one.entry, Frozen)]
    return bool(words) and words[-1]


def _is_marked(one: Told, names: Sequence[NamingRule]) -> bool:
    """Whether the recorder's officer marked it (重点), as far as its name tells."""
    return isinstance(one.entry, ClipSeen) and is_important(names, one.entry.clip.path)


def _is_read(history: Sequence[Told], rule: Rule) -> bool:
    """Whether its content was read, and all that is to be made of it is made: neither is possible afterwards."""
    made = [one.entry for one in history if isinstance(one.entry, Derived | DeriveAsked)]
    is_made = isinstance(made[-1], Derived) if made else not rule.copies
    return is_made and any(isinstance(one.entry, Probed) for one in history)


def _is_cut(one: Told) -> bool:
    """Whether the recorder may have more of it than came: what can't be read today may be tomorrow."""
    match one.entry:
        case AssetChanged(event=Acquired(holes=holes) | Matched(holes=holes)):
            return bool(holes)
        case ClipSeen(clip=clip):
            return clip.readable_bytes < clip.size_bytes
    return False


# Who may have how much freed.


def is_within(terms: Terms, agreed: Terms) -> bool:
    """Whether these terms free nothing that the others, on which two persons agreed, would not."""
    order = list(FreeWhen)
    return (
        order.index(terms.when) <= order.index(agreed.when)
        and terms.retention_days >= agreed.retention_days
        and set(terms.roles) >= set(agreed.roles)
        and terms.read_back >= agreed.read_back
        and terms.lock_days >= agreed.lock_days
        and terms.keep_marked >= agreed.keep_marked
        and terms.store == agreed.store
    )


def same_person(one: str, other: str) -> bool:
    """Whether two names are one, however they are written."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def too_many(reader: Reader, terms: Terms, goes: int) -> int | None:
    """Return how many may go at most before a second person has agreed with these terms; None: as many as would.

    What has gone since the last agreement counts, so that no row of small changes frees more than one large one.
    """
    agreed, freed = _agreed(reader)
    if is_within(terms, agreed):
        return None
    of_percent = min(terms.percent_max, agreed.percent_max) * reader.stored().files // 100
    left = max(0, min(terms.files_max, agreed.files_max, of_percent) - (reader.freed() - freed))
    return left if goes > left else None


def _agreed(reader: Reader) -> tuple[Terms, int]:
    """The terms on which two persons agreed last, and how many copies had gone until then."""
    found = reader.agreed()
    if found is None or same_person(found[0].who, found[1].who):
        return _BUILT_IN, 0
    return found[0].terms, found[1].freed


def plan(reader: Reader, rule: Rule, tell: Callable[[int, int], None] = lambda _done, _all: None) -> Plan:
    """Return what these terms would free now, the policy being on or off; `tell` hears how many were looked at."""
    stored, held_before = reader.stored(), rule.now - rule.terms.retention
    goes, stays, first = Tally(), dict[Stays, Tally](), list[Asset]()
    after, looked = "", Tally()
    while page := reader.stored_before(held_before, after, _PAGE):
        for asset in page:
            assert asset.digests is not None, "what is stored has digests"
            looked = _add(looked, asset)
            _, kept_by = judged(reader, asset.digests.blake3, rule)
            if not kept_by:
                goes = _add(goes, asset)
                first += [asset] if len(first) < _FIRST else []
            for reason in kept_by:
                stays[reason] = _add(stays.get(reason, Tally()), asset)
        after = page[-1].asset_id
        tell(looked.files, stored.files)
    young = Tally(max(0, stored.files - looked.files), max(0, stored.bytes - looked.bytes))
    before = stays.get(Stays.YOUNG, Tally())
    if young.files:
        stays[Stays.YOUNG] = Tally(before.files + young.files, before.bytes + young.bytes)
    return Plan(tuple(first), goes, stays, stored)


def _add(tally: Tally, asset: Asset) -> Tally:
    return Tally(tally.files + 1, tally.bytes + asset.expected_bytes)


# The proof.


def prove(
    reader: Reader, vault: Vault, content: Content, identity: tuple[int, int, int, int], signed: Callable[[int], bool]
) -> Releasable:
    """Make the proof for a content that `what_keeps` found free and the store has just proved again.

    `identity` is the file whose bytes were read meanwhile; `signed` tells whether an event is under a checkpoint that
    this station signed. Raises EvidenceError if one that counts here is not: then it is waited for.
    """
    for history in content.histories.values():
        for one in history:
            if isinstance(one.entry, _CHANGES) and not signed(one.seq):
                raise EvidenceError(
                    f"No signed checkpoint covers event {one.seq} yet.", safe="The local copy stays.",
                    do="Nothing: it is tried again when the log was signed.",
                )  # fmt: skip
    kept = [(asset.asset_id, asset.receipt) for asset in content.assets if asset.receipt is not None]
    digests = content.keeper.digests
    assert digests is not None, "it is known by them"
    return Releasable(vault.address(digests.blake3), digests.blake3, identity, tuple(kept))
