"""Proofs that go alone (c2sp.org/tlog-proof@v1): a leaf's place, its path, and the signed checkpoint it leads to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from agent.tlog.checkpoint import Checkpoint, opened
from agent.tlog.keys import Verifier
from agent.tlog.note import Note
from agent.tlog.texts import NoteError, base64_of, bytes_of, lines_of, number_of, path_of, text_of
from agent.tlog.tree import includes, leaf_hash

HEADER: Final = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Proof:
    """That a log has a leaf at `index`; `extra` is signed by nobody."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: Note
    extra: bytes | None = None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return a proof that nobody has checked yet; raises NoteError."""
        head, _, note = text_of(data).partition("\n\n")
        header, *lines = head.split("\n")
        if header != HEADER:
            raise NoteError(f"The proof doesn't begin with {HEADER}.")
        extra = bytes_of(lines.pop(0)[6:]) if lines and lines[0].startswith("extra ") else None
        if not lines or not lines[0].startswith("index "):
            raise NoteError("The proof tells no index.")
        return cls(number_of(lines[0][6:]), path_of(lines[1:]), Note.parse(note.encode()), extra)

    def encode(self) -> bytes:
        """Return it as a file with the suffix `.tlog-proof`."""
        extra = "" if self.extra is None else f"extra {base64_of(self.extra)}\n"
        head = f"{HEADER}\n{extra}index {self.index}\n{lines_of(self.path)}\n"
        return head.encode() + self.checkpoint.encode()

    def verified(self, leaf: bytes, origin: str, logs: Iterable[Verifier]) -> Checkpoint:
        """Return the checkpoint of a log that signed to have this leaf; raises NoteError.

        Which witnesses must have seen it too is asked of `checkpoint` by `witness.cosigned`.
        """
        checkpoint = opened(self.checkpoint, origin, logs)
        if not includes(leaf_hash(leaf), self.index, checkpoint.size, self.path, checkpoint.root):
            raise NoteError(f"The proof doesn't hold: leaf {self.index} of {origin} is another one.")
        return checkpoint
