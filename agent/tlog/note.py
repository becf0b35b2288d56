"""Signed notes (c2sp.org/signed-note): a text with the signatures of several keys below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from agent.tlog.keys import ID_BYTES, Algorithm, Key, Signer, Verifier, is_name
from agent.tlog.texts import NoteError, base64_of, bytes_of, is_printed, text_of

SIGNATURE_LIMIT: Final = 64
_DASH: Final = "— "


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: who says to have signed, with which key, and what the key made of the text."""

    name: str
    key_id: bytes
    data: bytes

    @classmethod
    def by(cls, key: Key, data: bytes) -> Self:
        """Return what a key made as its line."""
        return cls(key.name, key.key_id, data)

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return a line without its newline; raises NoteError."""
        name, separator, encoded = line.removeprefix(_DASH).partition(" ")
        data = bytes_of(encoded)
        if not line.startswith(_DASH) or not separator or not is_name(name) or len(data) <= ID_BYTES:
            raise NoteError(f"{line[:80]!r} is no signature line.")
        return cls(name, data[:ID_BYTES], data[ID_BYTES:])

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64_of(self.key_id + self.data)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends with a newline, and its signatures in their order; signatures of unknown keys are kept."""

    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return a note whose signatures nobody has checked yet; raises NoteError."""
        text, separator, signatures = text_of(data).rpartition("\n\n")
        if not separator:
            raise NoteError("The note has no signatures.")
        return cls(f"{text}\n", signatures_of(signatures))

    def encode(self) -> bytes:
        """Return the note as it is sent and kept."""
        return f"{self.text}\n{''.join(map(str, self.signatures))}".encode()

    def plus(self, *signatures: Signature) -> Note:
        """Return the note with more signatures; those that it has already are not doubled."""
        return Note(self.text, tuple(dict.fromkeys((*self.signatures, *signatures))))

    def known(self, verifiers: Iterable[Verifier]) -> Iterator[tuple[Verifier, bytes]]:
        """Yield each signature that names a key of ours, by name and id; none is checked yet."""
        ours: Mapping[tuple[str, bytes], Verifier] = {(one.key.name, one.key.key_id): one for one in verifiers}
        for signature in self.signatures:
            verifier = ours.get((signature.name, signature.key_id))
            if verifier is not None:
                yield verifier, signature.data

    def verified(self, verifiers: Iterable[Verifier]) -> frozenset[Key]:
        """Return the keys of ours that signed the text, each once; raises NoteError if none did, or one did not.

        What witnesses sign is more than the text: see `witness.cosigned`.
        """
        keys = set()
        for verifier, data in self.known(verifiers):
            is_log = verifier.key.algorithm is not Algorithm.COSIGNATURE
            if not is_log or not verifier.verify(self.text.encode(), data):
                raise NoteError(f"The note says that {verifier.key.name} signed it, and it did not.")
            keys.add(verifier.key)
        if not keys:
            raise NoteError("The note is not signed by a key that is trusted here.")
        return frozenset(keys)


def signed(text: str, *signers: Signer) -> Note:
    """Return a text as a note signed by each; raises NoteError if it can't be the text of one."""
    if not text.endswith("\n") or not is_printed(text):
        raise NoteError("The text of a note ends with a newline, and has no other control characters.")
    return Note(text, tuple(Signature.by(signer.key, signer.sign(text.encode())) for signer in signers))


def signatures_of(lines: str) -> tuple[Signature, ...]:
    """Return one or more signature lines, each with its newline; raises NoteError."""
    if not lines.endswith("\n") or lines.count("\n") > SIGNATURE_LIMIT:
        raise NoteError("The note is cut short, or has more signatures than any note.")
    return tuple(map(Signature.parse, lines[:-1].split("\n")))
