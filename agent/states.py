"""The state machine of an asset: one pure function from (asset, event) to asset, and what can be derived from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, assert_never

from agent.errors import EvidenceError, JournalError
from agent.model import (
    DERIVED_ROLES,
    SEAL_ROLES,
    Acquired,
    Adopted,
    Asset,
    AssetChanged,
    AssetEvent,
    AssetState,
    Blocked,
    ClipSeen,
    Confirmed,
    Damaged,
    Digests,
    DocumentAdded,
    Extent,
    JournalEntry,
    Lost,
    Matched,
    Released,
    Resumed,
    Role,
    SegmentTaken,
)

SEAL_SCOPE: Final = "seal"
"""Of the counters: manifests and time stamps."""

_UNCHANGED = "Nothing was changed."


def transition(asset: Asset, event: AssetEvent) -> Asset:
    """Return the asset as it is after the event.

    Size and digests are never forgotten once known: an asset that was damaged and is wanted again accepts only the
    same bytes. A receipt stays while the local copy is pulled again; only the store's own failure to prove it voids it.

    Raises:
        JournalError: the state does not allow this event.
        EvidenceError: the proof that comes with the event is about other bytes than the asset's.
    """
    match event:
        case Acquired():
            return _acquired(asset, event)
        case Matched():
            return _matched(asset, event)
        case Confirmed():
            return _confirmed(asset, event)
        case Released():
            return _released(asset, event)
        case Blocked():
            _allow(asset, event, AssetState.WANTED, AssetState.HELD)
            return replace(asset, state=AssetState.STUCK, reason=event.reason, resume_to=asset.state)
        case Resumed():
            return _resumed(asset, event)
        case Damaged():
            return _damaged(asset, event)
        case Lost():
            return _lost(asset, event)
        case _:
            assert_never(event)


def folded(told: Iterable[JournalEntry]) -> Asset | None:
    """Return an asset as all events of its own make it, whatever any table says; None: no event brings it.

    Raises JournalError or EvidenceError as `transition`, for events that can't follow each other.
    """
    asset: Asset | None = None
    for entry in told:
        match entry:
            case ClipSeen(asset=Asset() as new) | DocumentAdded(asset=new) | SegmentTaken(asset=new):
                asset = new
            case Adopted(asset=new, held=held):
                asset = transition(new, Acquired(held))
            case AssetChanged(event=event) if asset is not None:
                asset = transition(asset, event)
    return asset


def scope_of(role: Role) -> str:
    """Return what an asset of this role is counted as: an original, or what is said of it, made from it, its seal."""
    if role is Role.ORIGINAL:
        return "asset"
    if role in SEAL_ROLES:
        return SEAL_SCOPE
    return "derived" if role in DERIVED_ROLES else "document"


def may_match(role: Role, other: Role) -> bool:
    """Tell whether one asset may stand for another of equal content: no original ever depends on what is about it."""
    return scope_of(role) == scope_of(other)


def is_kept(asset: Asset) -> bool:
    """Tell whether the bytes are durable with us, or proved to be in the store after the local copy was freed."""
    match asset.state:
        case AssetState.HELD | AssetState.STORED | AssetState.RELEASED:
            return True
        case AssetState.STUCK:
            return asset.resume_to is AssetState.HELD
        case AssetState.WANTED | AssetState.MATCHED:
            return False
        case _:
            assert_never(asset.state)


def _acquired(asset: Asset, event: Acquired) -> Asset:
    _allow(asset, event, AssetState.WANTED)
    held = event.held
    if held.asset_id != asset.asset_id:
        raise EvidenceError(
            f"The proof of asset {held.asset_id} was offered for asset {asset.asset_id}.", safe=_UNCHANGED
        )
    if held.size_bytes != asset.expected_bytes:
        what = f"Asset {asset.asset_id} has {held.size_bytes} bytes where {asset.expected_bytes} were listed."
        raise EvidenceError(what, safe=_UNCHANGED)
    _check_same(asset, held.digests)
    _check_holes(asset, event.holes)
    return replace(asset, state=AssetState.HELD, size_bytes=held.size_bytes, digests=held.digests)


def _matched(asset: Asset, event: Matched) -> Asset:
    _allow(asset, event, AssetState.WANTED)
    if event.same_as == asset.asset_id:
        raise JournalError(f"Asset {asset.asset_id} was matched with itself.", safe=_UNCHANGED)
    _check_same(asset, event.digests)
    return replace(
        asset,
        state=AssetState.MATCHED,
        size_bytes=asset.expected_bytes,
        digests=event.digests,
        same_as=event.same_as,
    )


def _confirmed(asset: Asset, event: Confirmed) -> Asset:
    _allow(asset, event, AssetState.HELD)
    receipt = event.receipt
    if (receipt.size_bytes, receipt.digests) != (asset.size_bytes, asset.digests):
        raise EvidenceError(
            f"The receipt of store {receipt.store} is about other bytes than asset {asset.asset_id} has.",
            safe="The original is still held; it is not counted as stored.",
            do="Check what the store keeps under " + receipt.object + ".",
        )
    return replace(asset, state=AssetState.STORED, receipt=receipt)


def _released(asset: Asset, event: Released) -> Asset:
    _allow(asset, event, AssetState.STORED)
    if event.receipt != asset.receipt:
        raise EvidenceError(
            f"Asset {asset.asset_id} was to be released on a receipt that isn't its own.", safe=_UNCHANGED
        )
    return replace(asset, state=AssetState.RELEASED)


def _resumed(asset: Asset, event: Resumed) -> Asset:
    _allow(asset, event, AssetState.STUCK)
    assert asset.resume_to is not None, "a stuck asset knows where it resumes"
    return replace(asset, state=asset.resume_to, reason="", resume_to=None)


def _damaged(asset: Asset, event: Damaged) -> Asset:
    _allow(asset, event, AssetState.HELD, AssetState.STORED)
    if event.source_docked:
        return replace(asset, state=AssetState.WANTED)
    return replace(asset, state=AssetState.STUCK, reason=event.found, resume_to=AssetState.WANTED)


def _lost(asset: Asset, event: Lost) -> Asset:
    _allow(asset, event, AssetState.STORED, AssetState.RELEASED)
    lost = replace(asset, receipt=None)
    if asset.state is AssetState.STORED:
        return replace(lost, state=AssetState.HELD)
    return replace(lost, state=AssetState.STUCK, reason=event.found, resume_to=AssetState.WANTED)


def _allow(asset: Asset, event: AssetEvent, *states: AssetState) -> None:
    if asset.state not in states:
        raise JournalError(
            f"Asset {asset.asset_id} is {asset.state.value}: {type(event).__name__} is not possible"
            f" (only for {' or '.join(states)}).",
            safe=_UNCHANGED,
        )


def _check_same(asset: Asset, digests: Digests) -> None:
    if asset.digests is not None and asset.digests != digests:
        raise EvidenceError(
            f"Asset {asset.asset_id} was known with BLAKE3 {asset.digests.blake3} and now came with {digests.blake3}.",
            safe="What was known stays recorded; the new bytes are not taken for it.",
            do="Record the new bytes as a recording of their own.",
        )


def _check_holes(asset: Asset, holes: Sequence[Extent]) -> None:
    end = 0
    for offset, length in holes:
        if length <= 0 or offset < end or offset + length > asset.expected_bytes:
            raise JournalError(f"Asset {asset.asset_id}: the hole ({offset}, {length}) is impossible.", safe=_UNCHANGED)
        end = offset + length
