"""Custody receipts: what may be said of a docking, whether its recorder may be cleared, and what proves a receipt."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from agent.config import Milestone
from agent.errors import EvidenceError, RequestError
from agent.journal import Reader
from agent.journal.codec import read_leaf
from agent.journal.views import DockingView, TakenFile
from agent.model import Clearing, Deadline, Outcome, ReceiptIssued
from agent.register import device_name, line
from agent.states import is_kept
from agent.tlog.checkpoint import Checkpoint
from agent.tlog.keys import Key, Verifier
from agent.tlog.proof import Proof

NOT_ALL_SEEN: Final = (
    "directory-damaged", "directory-loop", "metadata-unreadable", "size-differs", "too-deep", "truncated-volume",
    "unsupported",
)  # fmt: skip
"""Findings of a listing behind which there may be footage that was not listed, or is not as the recorder says."""

_TAKEN: Final = (Outcome.PULLED, Outcome.ALREADY_HELD)
_NAME_LIMIT: Final = 100
"""Of names as JSON in ASCII, so that the code of a receipt stays below 2000 bytes in a log of a million events."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A receipt that a log is proved to have as event `seq`, signed by `keys` in `checkpoint`."""

    seq: int
    at: datetime
    said: ReceiptIssued
    leaf: bytes
    checkpoint: Checkpoint
    keys: frozenset[Key]


def composed(reader: Reader, docking_id: str, satisfied_by: Milestone, by: str = "") -> ReceiptIssued:
    """Return what can be said of a docking now, under the next number; raises JournalError, RequestError if it is open.

    `satisfied_by` tells where a recording must be before its recorder may be cleared.
    """
    docking, before = reader.docking(docking_id), reader.receipt_of(docking_id)
    if docking.listed_at is None or docking.closed_at is None:
        raise RequestError(
            f"Docking {docking_id} is {'under way' if docking.closed_at is None else 'over, and was never listed'}.",
            safe="Nothing was changed.",
            do="A receipt is issued when all that is on the recorder was listed, and the docking has ended.",
        )
    total = _Total()
    for one in reader.taken_files(docking_id):
        total.add(one)
    is_whole = total.taken == total.files and not total.is_cut and _was_read_to_its_end(reader, docking)
    is_stored = satisfied_by is Milestone.LOCAL or total.stored == total.taken
    return ReceiptIssued(
        docking_id, before.said.number + 1 if before else 1,
        _clearing(is_whole, _has_traces(reader, docking_id), is_stored),
        _cut(device_name(docking.device)), total.files, total.taken, total.stored, total.size_bytes,
        total.digest.hexdigest(), total.due.due_at if total.due else None, total.due.basis if total.due else None,
        by or (before.said.by if before else ""),
    )  # fmt: skip


@dataclass(slots=True)
class _Total:
    """What a receipt says of all files of a docking, of which there may be too many to keep; `due` is the earliest."""

    files: int = 0
    taken: int = 0
    stored: int = 0
    size_bytes: int = 0
    is_cut: bool = False
    due: Deadline | None = None
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, one: TakenFile) -> None:
        self.files += 1
        self.is_cut |= one.clip.readable_bytes < one.clip.size_bytes
        self.digest.update(_line(one).encode())
        if one.outcome in _TAKEN and one.keeper is not None and is_kept(one.keeper):
            self.taken += 1
            self.stored += one.keeper.receipt is not None
            self.size_bytes += one.keeper.size_bytes or 0
            if one.deadline and (self.due is None or one.deadline.alarm_at < self.due.alarm_at):
                self.due = one.deadline


def list_of(files: Iterable[TakenFile]) -> str:
    """Return the list of a receipt, as `sha256sum --check` reads it: a line for each file, a comment if not taken."""
    return "".join(map(_line, files))


def list_digest(text: str) -> str:
    """Return the SHA-256 of a list."""
    return hashlib.sha256(text.encode()).hexdigest()


def origin_of(proof: Proof) -> str:
    """Return the name of the log that a proof is about; raises NoteError."""
    return Checkpoint.parse(proof.checkpoint.text).origin


def verified(proof: Proof, logs: Iterable[Verifier]) -> Verified:
    """Return what the receipt in a proof says, if a log of these keys is proved to have it.

    Raises NoteError, JournalError or EvidenceError that say what is wrong.
    """
    origin = origin_of(proof)
    ours = [one for one in logs if one.key.name == origin]
    checkpoint = proof.verified(proof.extra or b"", origin, ours)
    seq, at, entry = read_leaf(proof.extra or b"")
    if not isinstance(entry, ReceiptIssued) or seq != proof.index + 1:
        raise EvidenceError("What is proved is an event of the log, and no receipt.", do="Scan the code of a receipt.")
    return Verified(seq, at, entry, proof.extra or b"", checkpoint, proof.checkpoint.verified(ours))


def named(text: str) -> str:
    """Return a person's name for `by`; raises ValueError for what is no line, or too long for the code."""
    if len(json.dumps(line(text))) > _NAME_LIMIT:
        raise ValueError("must be at most 16 Chinese characters, or 98 letters")
    return line(text)


def _cut(name: str) -> str:
    while len(json.dumps(name)) > _NAME_LIMIT:
        name = name[:-1]
    return name


def _was_read_to_its_end(reader: Reader, docking: DockingView) -> bool:
    return docking.reason == "complete" and not reader.findings(docking.docking_id, NOT_ALL_SEEN)


def _has_traces(reader: Reader, docking_id: str) -> bool:
    """Whether recordings are known to have been deleted on the recorder, of which nothing was ever pulled."""
    return any(one["proven"] and not one["held"] for one in reader.absences(docking_id))


def _clearing(is_whole: bool, has_traces: bool, is_stored: bool) -> Clearing:
    if not is_whole:
        return Clearing.NOT_ALL_TAKEN
    if has_traces:
        return Clearing.TRACES
    return Clearing.CLEAR if is_stored else Clearing.NOT_STORED


def _line(one: TakenFile) -> str:
    name = "".join(map(_shown, one.clip.path))
    if one.outcome in _TAKEN and one.keeper is not None and one.keeper.digests is not None:
        return f"{one.keeper.digests.sha256}  {name}\n"
    return f"# {one.outcome.value}  {name}\n"


def _shown(char: str) -> str:
    """A character that paper shows and UTF-8 has; what doesn't print is written as Python writes it."""
    is_plain = char.isprintable() or unicodedata.category(char) == "Zs"
    return char if is_plain else char.encode("unicode_escape").decode()
