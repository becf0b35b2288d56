"""Copies that leave the station with somebody's approval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exported:
    """A kit of these recordings was handed over, by approval number; `bag` names it among all (`docs/kit.md`).

    `missing` are recordings of which the original could not be given.
    """

    bag: str
    approval: str
    who: str
    why: str
    recordings: tuple[str, ...]
    files: int
    size_bytes: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyViewed:
    """An account was let see the access copy `copy` of an original, and why: told before the first byte is sent."""

    asset_id: str
    copy: str
    account: str
    why: str
