"""The part of the log that a kit needs: events, each with what proves it, all under one signed checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from agent.errors import JournalError
from agent.journal import Reader
from agent.journal.codec import decode
from agent.journal.views import CheckpointView
from agent.kit.bag import DATA, Bag
from agent.model import JournalEntry
from agent.tlog.checkpoint import Checkpoint, opened
from agent.tlog.keys import Verifier
from agent.tlog.note import Note
from agent.tlog.proof import Proof
from agent.tlog.texts import base64_of
from agent.tlog.tree import continues
from agent.tlog.witness import AddCheckpoint

FOLDER = f"{DATA}/log"


class Told(NamedTuple):
    """An event as it was recorded."""

    seq: int
    at: datetime
    kind: str
    subject: str
    entry: JournalEntry


@dataclass(frozen=True, slots=True)
class Extract:
    """Events with their bytes and proofs, in their order; all proofs lead to `view`, which continues `earlier`."""

    view: CheckpointView
    leaves: Sequence[bytes]
    proofs: Sequence[Proof]
    events: Sequence[Told]
    earlier: CheckpointView
    growth: Sequence[bytes]

    def about(self, subjects: Iterable[str]) -> list[Told]:
        """The events about these."""
        wanted = frozenset(subjects)
        return [one for one in self.events if one.subject in wanted]

    def write(self, bag: Bag) -> None:
        """Add the extract to a bag: lines, what proves them line by line, checkpoints, and that the log only grew."""
        paths = (f"{one.index} {' '.join(map(base64_of, one.path))}".rstrip() + "\n" for one in self.proofs)
        bag.write(f"{FOLDER}/events.jsonl", b"".join(leaf + b"\n" for leaf in self.leaves))
        bag.write(f"{FOLDER}/events.jsonl.proofs", f"{''.join(paths)}\n{self.view.note}")
        bag.write(f"{FOLDER}/newest.checkpoint", self.view.note)
        if self.earlier.size < self.view.size:
            note = Note.parse(self.view.note.encode())
            bag.write(f"{FOLDER}/earlier.checkpoint", self.earlier.note)
            growth = AddCheckpoint(self.earlier.size, tuple(self.growth), note)
            bag.write(f"{FOLDER}/growth.consistency", growth.encode())

    def write_proof(self, bag: Bag, told: Told, stem: str) -> None:
        """Add one event as a file with its own proof, as other people's tools read it (c2sp.org/tlog-proof@v1)."""
        place = self.events.index(told)
        bag.write(f"{stem}.event", self.leaves[place])
        bag.write(f"{stem}.event.tlog-proof", self.proofs[place].encode())


def checkpoint_of(view: CheckpointView) -> Checkpoint:
    """What a signed checkpoint says."""
    return Checkpoint.parse(Note.parse(view.note.encode()).text)


def extract(reader: Reader, seqs: Sequence[int], view: CheckpointView, verifiers: Sequence[Verifier]) -> Extract:
    """Return these events (numbers, rising) with what proves them; raises JournalError or NoteError if it doesn't hold.

    `view` covers all of them.
    """
    note = Note.parse(view.note.encode())
    origin = Checkpoint.parse(note.text).origin
    leaves = [reader.log_leaf(seq) for seq in seqs]
    proofs = [Proof(seq - 1, tuple(reader.inclusion(seq, view.size)), note) for seq in seqs]
    for leaf, proof in zip(leaves, proofs, strict=True):
        proof.verified(leaf, origin, verifiers)
    earlier = reader.checkpoint_over(seqs[0]) or view
    old = opened(Note.parse(earlier.note.encode()), origin, verifiers)
    growth = reader.consistency(earlier.size, view.size)
    if not continues(old.size, old.root, view.size, Checkpoint.parse(note.text).root, growth):
        raise JournalError(
            f"Checkpoint {view.number} doesn't continue checkpoint {earlier.number}: the log was rewritten.",
            safe="Nothing was exported.",
            do="Run `capture-agent verify`.",
        )
    return Extract(view, leaves, proofs, list(map(_told, leaves)), earlier, growth)


def _told(leaf: bytes) -> Told:
    seq, at, kind, subject, detail = json.loads(leaf)
    return Told(seq, datetime.fromisoformat(at), kind, subject, decode(kind, json.dumps(detail)))
