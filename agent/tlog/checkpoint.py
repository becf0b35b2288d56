"""Checkpoints (c2sp.org/tlog-checkpoint): what a log commits to when it signs its size and root."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from agent.tlog.keys import Signer, Verifier
from agent.tlog.note import Note, signed
from agent.tlog.texts import NoteError, base64_of, hash_of, is_printed, number_of


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log by its origin had so many leaves and this root hash; extension lines are kept, and mean nothing here."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what the text of a note says; raises NoteError."""
        *lines, end = text.split("\n")
        if end or len(lines) < 3 or not all(lines):
            raise NoteError("The text is no checkpoint: three lines or more, none empty.")
        origin, size, root, *extensions = lines
        return cls(origin, number_of(size), hash_of(root), tuple(extensions))

    @property
    def text(self) -> str:
        """The text that is signed."""
        return "".join(f"{line}\n" for line in (self.origin, self.size, base64_of(self.root), *self.extensions))

    def signed(self, *signers: Signer) -> Note:
        """Return it as a note of the log; the caller knows that it continues all that were signed before."""
        assert is_printed(self.origin), "origins are configured"
        return signed(self.text, *signers)


def opened(note: Note, origin: str, logs: Iterable[Verifier]) -> Checkpoint:
    """Return the checkpoint of a note that a key of this log signed; raises NoteError.

    `logs` has keys of the log alone: what only a witness signed is no checkpoint.
    """
    note.verified(logs)
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != origin:
        raise NoteError(f"The checkpoint is of {checkpoint.origin[:80]!r}, not of {origin!r}.")
    return checkpoint
