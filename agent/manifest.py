"""The manifest (清单) of a recording: what belongs to it, byte for byte and word for word, as a signed note.

Line 1 is canonical JSON (RFC 8785), two lines have its SHA-256 and SM3, the rest are signatures (c2sp.org/signed-note).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final, Self

import rfc8785
from cryptography.hazmat.primitives.hashes import SM3, Hash

from agent.model import Asset, Digests, Role
from agent.tlog.keys import Key, Signer, Verifier
from agent.tlog.note import Note, signed
from agent.tlog.texts import NoteError

SCHEMA: Final = "capture-agent/manifest@1"
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_SAFE_INTEGER: Final = (1 << 53) - 1

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listed:
    """One asset of the recording as the manifest names it; `sealed`: it was made immutable here."""

    asset_id: str
    role: Role
    size_bytes: int
    blake3: str
    sha256: str
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Background:
    """What manifests say besides a recording's files: whose `station`, in which `environment`, and its `metadata`."""

    station: Json
    environment: Json
    metadata: Callable[[str], Json]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one manifest says. `number` counts those of the recording from 1, `previous` is the BLAKE3 of the last one.

    `covers` is the number of events of the log that it was made from, `log` the newest signed checkpoint at that time
    ("": there was none). `station`, `metadata` and `environment` are objects as `docs/manifest.md` has them.
    """

    recording_id: str
    number: int
    previous: str
    made_at: datetime
    covers: int
    station: Json
    metadata: Json
    assets: tuple[Listed, ...]
    environment: Json
    log: str = ""

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, Note]:
        """Return what a file says and its note, whose digests are right and whose signatures nobody has checked yet.

        Raises NoteError for anything that isn't exactly what `sealed` writes.
        """
        note = Note.parse(data)
        line, *digests = note.text.removesuffix("\n").split("\n")
        if digests != _digests(line):
            raise NoteError("The manifest's own digests are not those of its first line.")
        try:
            plain = json.loads(line)
            if rfc8785.dumps(plain).decode() != line:
                raise NoteError("The manifest is not written in its canonical form.")
            return cls._of(plain), note
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise NoteError(f"The text is no manifest: {error!r:.200}.") from error

    @classmethod
    def _of(cls, plain: dict[str, Any]) -> Self:
        """Raises ValueError, KeyError, TypeError or AttributeError for what is no manifest."""
        if plain.pop("schema") != SCHEMA:
            raise ValueError("another schema than is known here")
        listed = tuple(_listed(one) for one in plain.pop("assets"))
        made_at = datetime.fromisoformat(plain.pop("made_at"))
        made = cls(assets=listed, made_at=made_at, **plain)
        for known in fields(cls):
            value = getattr(made, known.name)
            if known.type in _PLAIN and type(value) is not _PLAIN[known.type]:
                raise TypeError(f"{known.name} is {type(value).__name__}")
        follows = _HEX.fullmatch(made.previous) if made.number > 1 else made.previous == ""
        if made.number < 1 or made.covers < 0 or not follows or made_at.tzinfo is None:
            raise ValueError("numbers, times or the manifest before make no sense")
        if len({one.asset_id for one in listed}) != len(listed):
            raise ValueError("an asset is listed twice")
        return made

    @property
    def line(self) -> str:
        """The canonical JSON that is signed, without newline; raises NoteError if something can't be written so."""
        plain = {**asdict(self), "schema": SCHEMA, "made_at": self.made_at.isoformat()}
        try:
            return rfc8785.dumps(_interchangeable(plain)).decode()
        except rfc8785.CanonicalizationError as error:
            raise NoteError(f"The manifest can't be written: {error}.") from error

    def sealed(self, *signers: Signer) -> bytes:
        """Return the file, signed by each; raises NoteError if it can't be written or is larger than any note."""
        line = self.line
        data = signed("".join(f"{one}\n" for one in (line, *_digests(line))), *signers).encode()
        Manifest.parse(data)
        return data


def verified(data: bytes, verifiers: Iterable[Verifier]) -> tuple[Manifest, frozenset[Key]]:
    """Return what a manifest says and the keys of ours that signed it.

    Raises NoteError if it has no valid form, none of our keys signed it, or one is said to and did not.
    """
    manifest, note = Manifest.parse(data)
    return manifest, note.verified(verifiers)


def contradictions(manifest: Manifest, recording_id: str, assets: Iterable[Asset]) -> list[str]:
    """Tell, in sentences, where what is known of a recording differs from its manifest; assets may have come since."""
    problems = []
    if manifest.recording_id != recording_id:
        problems.append(f"the manifest is of recording {manifest.recording_id}, not of {recording_id}")
    known = {asset.asset_id: asset for asset in assets}
    for one in manifest.assets:
        asset = known.get(one.asset_id)
        if asset is None:
            problems.append(f"{one.role.value} {one.asset_id} of the manifest is unknown")
            continue
        told = (one.role, one.size_bytes, Digests(one.blake3, one.sha256))
        if told != (asset.role, asset.expected_bytes, asset.digests):
            problems.append(f"{one.role.value} {one.asset_id} has other bytes than the manifest says")
    return problems


_PLAIN: Final[Mapping[object, type]] = {"str": str, "int": int, "Json": dict}


def _listed(plain: dict[str, Any]) -> Listed:
    made = Listed(**{**plain, "role": Role(plain["role"])})
    if type(made.size_bytes) is not int or made.size_bytes < 0 or type(made.sealed) is not bool:
        raise TypeError("size_bytes or sealed of an asset")
    if not made.asset_id or not _HEX.fullmatch(made.blake3) or not _HEX.fullmatch(made.sha256):
        raise ValueError("an asset without id or fingerprints")
    return made


def _digests(line: str) -> list[str]:
    """The two lines behind the first one."""
    data = line.encode()
    sm3 = Hash(SM3())  # GB/T 32905-2016
    sm3.update(data)
    return [f"sha256 {hashlib.sha256(data).hexdigest()}", f"sm3 {sm3.finalize().hex()}"]


def _interchangeable(value: object) -> Any:  # noqa: ANN401  as JSON is
    """The same as I-JSON (RFC 7493): half characters are written out, numbers beyond 2^53 are texts."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case bool() | None:
            return value
        case int() | float():
            return value if abs(value) <= _SAFE_INTEGER else str(value)
        case Mapping():
            return {str(_interchangeable(name)): _interchangeable(part) for name, part in value.items()}
        case list() | tuple():
            return [_interchangeable(part) for part in value]
    raise NoteError(f"The manifest can't have a {type(value).__name__}.")
