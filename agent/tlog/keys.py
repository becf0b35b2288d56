"""Keys of signed notes: their names and ids, their one-line form (vkey), and what signs and verifies with them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.tlog.texts import NoteError, base64_of, bytes_of, is_printed

ID_BYTES: Final = 4
PUBLIC_BYTES: Final = 32
SM2_PUBLIC_BYTES: Final = 65
"""An uncompressed point."""

_NAME_LIMIT: Final = 255
_SPKI: Final = bytes.fromhex("302a300506032b6570032100")
_FIELD: Final = (1 << 255) - 19
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER: Final = (0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8)
"""The second coordinate of every point of small order (edwards25519, RFC 8032 §5.1)."""


class Algorithm(Enum):
    """What is signed and how, by the bytes that stand for it (signed-note, "Signature types")."""

    ED25519 = b"\x01"
    COSIGNATURE = b"\x04"  # Ed25519 over a checkpoint and the time (c2sp.org/tlog-cosignature)
    SM2 = b"\xffcapture-agent/sm2"  # GB/T 32918 with SM3 and the usual id, DER; C2SP has no number for it


@dataclass(frozen=True, slots=True)
class Key:
    """Whose public key it is, and for what; the same bytes for another algorithm are another key."""

    name: str
    algorithm: Algorithm
    public: bytes

    def __post_init__(self) -> None:
        size = SM2_PUBLIC_BYTES if self.algorithm is Algorithm.SM2 else PUBLIC_BYTES
        if not is_name(self.name) or len(self.public) != size:
            raise NoteError(f"{self.name[:80]!r} with {len(self.public)} bytes is no key.")

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Return the key of `<name>+<id>+<base64>`; raises NoteError."""
        name, key_id, encoded = [*vkey.split("+", 2), "", ""][:3]
        material = bytes_of(encoded)
        algorithm = next((one for one in Algorithm if material.startswith(one.value)), None)
        if algorithm is None:
            raise NoteError(f"The key of {name[:80]!r} is of a kind that is not known here.")
        key = cls(name, algorithm, material[len(algorithm.value) :])
        if key.key_id.hex() != key_id:
            raise NoteError(f"The id of the key of {name!r} is not that of its bytes.")
        return key

    @property
    def key_id(self) -> bytes:
        """The four bytes that name it together with its name; no fingerprint."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._material).digest()[:ID_BYTES]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key as SubjectPublicKeyInfo (RFC 8410), as `capture-agent key show` prints it."""
        return hashlib.sha256(_SPKI + self.public).hexdigest()

    @property
    def vkey(self) -> str:
        """The key in one line, as others configure it."""
        return f"{self.name}+{self.key_id.hex()}+{base64_of(self._material)}"

    @property
    def _material(self) -> bytes:
        return self.algorithm.value + self.public


class Private(Protocol):
    """A private key wherever it is kept: the station's own (`agent/signing.py`), a token's, behind a command."""

    @property
    def public(self) -> bytes:
        """The public key as `Key` has it."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature alone."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: a private key, under a name and for one kind of signature."""

    name: str
    private: Private
    algorithm: Algorithm = Algorithm.ED25519

    @property
    def key(self) -> Key:
        """What its signatures are verified with."""
        return Key(self.name, self.algorithm, self.private.public)

    def sign(self, message: bytes) -> bytes:
        """Return the signature alone."""
        return self.private.sign(message)


class Verifier(Protocol):
    """Who tells whether a key made a signature."""

    @property
    def key(self) -> Key:
        """The key that is trusted."""

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell whether the key signed the message; never raises for what the signature is."""


class Ed25519Verifier:
    """Verifies by `cryptography`; raises NoteError for bytes that aren't the one form of a public key.

    OpenSSL takes keys of small order, with which anybody can sign, and points that are written in a second way.
    """

    def __init__(self, key: Key) -> None:
        self.key = key
        try:
            self._public = Ed25519PublicKey.from_public_bytes(key.public)
        except ValueError as error:
            raise NoteError(f"The key of {key.name!r} is none.") from error
        second = int.from_bytes(key.public, "little") & ((1 << 255) - 1)
        if second >= _FIELD or second in _SMALL_ORDER:
            raise NoteError(f"The key of {key.name!r} is one that anybody can sign with.")

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell whether the key signed the message."""
        try:
            self._public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def is_name(name: str) -> bool:
    """Whether a key may have this name: no spaces, no plus, no control characters, not empty."""
    printed = is_printed(name) and not any(char.isspace() or char == "+" for char in name)
    return printed and 0 < len(name) <= _NAME_LIMIT
