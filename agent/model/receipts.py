"""Custody receipts (交接回执): what a station says, for the officer, about one docking of a recorder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agent.model.evidence import Basis


class Clearing(StrEnum):
    """Whether a recorder may be cleared (清空) by what its docking took over; all but the first say why not.

    NOT_STORED: everything is held here, and not everything stored as the bureau demands. NOT_ALL_TAKEN: something is
    or may be on it that was not pulled whole. TRACES: recordings were deleted on it, and could be recovered from it.
    """

    CLEAR = "clear"
    NOT_STORED = "not_stored"
    NOT_ALL_TAKEN = "not_all_taken"
    TRACES = "traces"


@dataclass(frozen=True, slots=True)
class ReceiptIssued:
    """The receipt of that number of a docking: `taken` of the files `seen` are here, `stored` of these where they must.

    `list_sha256` is of the list of all files as the receipt shows it; `due_at` is the earliest time limit among them.
    `by`: who handed the recorder over, if somebody said so.
    """

    docking_id: str
    number: int
    clearing: Clearing
    recorder: str
    seen: int
    taken: int
    stored: int
    size_bytes: int
    list_sha256: str
    due_at: datetime | None = None
    basis: Basis | None = None
    by: str = ""
