"""Cosigning by a witness (c2sp.org/tlog-witness, tlog-cosignature), as texts that go by HTTP or on a stick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Self

from agent.tlog.checkpoint import Checkpoint
from agent.tlog.keys import Algorithm, Key, Signer, Verifier
from agent.tlog.note import Note, Signature, signatures_of
from agent.tlog.texts import NoteError, lines_of, number_of, path_of, text_of
from agent.tlog.tree import EMPTY_ROOT, continues

_TIME_BYTES: Final = 8
_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """What a log asks of a witness: to cosign a checkpoint that continues the one of `old` leaves."""

    old: int
    path: tuple[bytes, ...]
    checkpoint: Note

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return a request that nobody has checked yet; raises NoteError."""
        head, _, note = text_of(data).partition("\n\n")
        first, *lines = head.split("\n")
        if not first.startswith("old "):
            raise NoteError("The request tells no old size.")
        return cls(number_of(first[4:]), path_of(lines), Note.parse(note.encode()))

    def encode(self) -> bytes:
        """Return the body of the POST to `add-checkpoint`, or the file."""
        return f"old {self.old}\n{lines_of(self.path)}\n".encode() + self.checkpoint.encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a witness answers. With OK, `checkpoint` is kept durably before anything is sent, else nothing changes."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    checkpoint: Checkpoint | None = None


def cosignature(note: Note, witness: Signer, at: datetime) -> Signature:
    """Return the witness's statement that at a time this was the newest checkpoint it had seen of the log."""
    assert witness.key.algorithm is Algorithm.COSIGNATURE, "a witness has a key of its own for this"
    at_s = int(at.timestamp())
    return Signature.by(witness.key, at_s.to_bytes(_TIME_BYTES, "big") + witness.sign(_message(note, at_s)))


def cosigned(note: Note, witnesses: Iterable[Verifier]) -> dict[Key, datetime]:
    """Return which of our witnesses cosigned a checkpoint, and when; raises NoteError if one is said to, and did not.

    A witness counts once, with its latest time.
    """
    seen: dict[Key, datetime] = {}
    for witness, data in note.known(witnesses):
        at_s = int.from_bytes(data[:_TIME_BYTES], "big")
        is_time = witness.key.algorithm is Algorithm.COSIGNATURE and 0 < at_s <= _LATEST.timestamp()
        if not is_time or not witness.verify(_message(note, at_s), data[_TIME_BYTES:]):
            raise NoteError(f"The note says that {witness.key.name} cosigned it, and it did not.")
        at = datetime.fromtimestamp(at_s, UTC)
        seen[witness.key] = max(seen.get(witness.key, at), at)
    return seen


def answer(
    request: bytes,
    logs: Mapping[str, Sequence[Verifier]],
    latest: Mapping[str, Checkpoint],
    witness: Signer,
    at: datetime,
) -> Answer:
    """Decide about a request as a witness that trusts `logs`, by origin, and cosigned `latest` of each before.

    The caller lets no second request in between `latest` and keeping the new checkpoint.
    """
    try:
        asked = AddCheckpoint.parse(request)
        new = Checkpoint.parse(asked.checkpoint.text)
    except NoteError as error:
        return _refused(HTTPStatus.BAD_REQUEST, str(error))
    if new.origin not in logs:
        return _refused(HTTPStatus.NOT_FOUND, "This log is not known here.")
    try:
        asked.checkpoint.verified(logs[new.origin])
    except NoteError as error:
        return _refused(HTTPStatus.FORBIDDEN, str(error))
    if asked.old > new.size:
        return _refused(HTTPStatus.BAD_REQUEST, "The old size is above the new one.")
    before = latest.get(new.origin, Checkpoint(new.origin, 0, EMPTY_ROOT))
    if asked.old != before.size:
        return Answer(HTTPStatus.CONFLICT, f"{before.size}\n".encode(), "text/x.tlog.size")
    if not continues(before.size, before.root, new.size, new.root, asked.path):
        return _refused(HTTPStatus.UNPROCESSABLE_ENTITY, "The checkpoint doesn't continue the one before.")
    return Answer(HTTPStatus.OK, str(cosignature(asked.checkpoint, witness, at)).encode(), checkpoint=new)


def with_answer(note: Note, body: bytes, witnesses: Sequence[Verifier]) -> Note:
    """Return a checkpoint with what our witnesses put under it; raises NoteError if the answer has nothing of them."""
    ours = {(one.key.name, one.key.key_id) for one in witnesses}
    lines = [one for one in signatures_of(text_of(body)) if (one.name, one.key_id) in ours]
    if not cosigned(Note(note.text, tuple(lines)), witnesses):
        raise NoteError("The answer has no cosignature of a witness that is trusted here.")
    return note.plus(*lines)


def _message(note: Note, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{note.text}".encode()


def _refused(status: HTTPStatus, why: str) -> Answer:
    return Answer(status, f"{why}\n".encode())
