"""The small texts that notes, checkpoints and proofs are made of, each with exactly one form that is taken."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Final

from agent.errors import AgentError
from agent.tlog.tree import HASH_BYTES, PROOF_LIMIT, SIZE_LIMIT

TEXT_LIMIT_BYTES: Final = 1 << 18
"""Nobody sends a longer note, proof or request; 16 of the largest signatures that C2SP knows fill a third."""

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class NoteError(AgentError):
    """A note, checkpoint, proof or request has no valid form, or isn't signed by whom it must be."""


def text_of(data: bytes) -> str:
    """Return the text of a whole note, proof or request: bounded UTF-8, no control characters but newline."""
    if len(data) > TEXT_LIMIT_BYTES:
        raise NoteError(f"{len(data)} bytes are more than any note has.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteError("The note is no UTF-8.") from error
    if not is_printed(text):
        raise NoteError("The note has control characters.")
    return text


def is_printed(text: str) -> bool:
    """Whether a text has no control characters but newline, and can be UTF-8."""
    return all(char == "\n" or (char >= " " and not "\ud800" <= char <= "\udfff") for char in text)


def number_of(text: str) -> int:
    """Return a decimal number below 2^63 without sign or leading zeros."""
    if not _NUMBER.fullmatch(text) or int(text) >= SIZE_LIMIT:
        raise NoteError(f"{text[:40]!r} is no number of a log.")
    return int(text)


def bytes_of(text: str) -> bytes:
    """Return what is written in standard base64 with padding (RFC 4648 §4)."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise NoteError(f"{text[:40]!r} is no base64.") from error
    if base64_of(data) != text:
        raise NoteError(f"{text[:40]!r} has bits behind its end.")
    return data


def base64_of(data: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def hash_of(text: str) -> bytes:
    """Return a hash of SHA-256's length that is written in base64."""
    digest = bytes_of(text)
    if len(digest) != HASH_BYTES:
        raise NoteError(f"{text[:40]!r} is no SHA-256.")
    return digest


def path_of(lines: Iterable[str]) -> tuple[bytes, ...]:
    """Return the hashes of a proof, one a line."""
    path = tuple(map(hash_of, lines))
    if len(path) > PROOF_LIMIT:
        raise NoteError(f"{len(path)} hashes are more than any proof has.")
    return path


def lines_of(hashes: Iterable[bytes]) -> str:
    """Return the lines of a proof."""
    return "".join(f"{base64_of(digest)}\n" for digest in hashes)
