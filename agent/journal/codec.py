"""Turns journal entries into canonical JSON and back, and links them to the hash chain.

Canonical means: one line of ASCII, keys sorted, no spaces, fields that have their default left out. So the defaults of
the journaled types are part of the format; `tests/test_journal_codec.py` pins them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache, partial
from json.encoder import encode_basestring_ascii
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints

from agent.errors import JournalError
from agent.model import (
    Asset,
    AssetChanged,
    AssetEvent,
    Checked,
    CheckpointCosigned,
    CheckpointSigned,
    CheckpointStored,
    CheckpointWitnessed,
    ClockStepped,
    DeviceIssued,
    DeviceReturned,
    JournalEntry,
    KeyRotated,
    ReleaseAsked,
    ReleaseConfirmed,
    Scrubbed,
)

FIRST_LINK: Final = bytes(32)
"""What stands for the hash before the first event."""

CLOCK: Final = "clock"
"""Whose history the steps of the station's clock are."""

VAULT: Final = "vault"
"""Whose history it is that its files were read again."""

RELEASE: Final = "release"
"""Whose history the terms are on which local copies may be freed."""

LOG: Final = "log"
"""Whose history the checkpoints of the log are."""

KEY: Final = "key"
"""Whose history the rotations of the station's key are."""

_SUBJECTS: Final = ("asset_id", "docking_id", "activity_id", "session_id")
_ONE_SUBJECT: Final[Mapping[type, str]] = {
    ClockStepped: CLOCK,
    CheckpointSigned: LOG,
    CheckpointStored: LOG,
    CheckpointCosigned: LOG,
    KeyRotated: KEY,
    Scrubbed: VAULT,
    ReleaseAsked: RELEASE,
    ReleaseConfirmed: RELEASE,
}
_T = TypeVar("_T")
_Turn = Callable[[Any], Any]
_dump = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


class Encoded(NamedTuple):
    """An entry ready to be appended: its columns and itself."""

    kind: str
    subject: str
    detail: str
    entry: JournalEntry


def encode(entry: JournalEntry) -> Encoded:
    """Return the columns of an entry; raises ValueError or TypeError if a detail can't be JSON (our bug)."""
    return Encoded(_kind(entry), _subject(entry), to_text(entry), entry)


def decode(kind: str, detail: str) -> JournalEntry:
    """Return the entry of an event; raises JournalError if it isn't one."""
    entry_type = _KINDS.get(kind)
    if entry_type is None:
        raise JournalError(f"An event of the unknown kind {kind!r}.")
    entry = cast("JournalEntry", from_text(entry_type, detail))
    if _kind(entry) != kind:
        raise JournalError(f"An event of kind {kind!r} contains {_kind(entry)!r}.")
    return entry


def to_text(value: object) -> str:
    """Return a frozen dataclass as canonical JSON."""
    return _dump(_plan(type(value)).encode(value))


def from_text(value_type: type[_T], text: str) -> _T:
    """Return the dataclass that `to_text` wrote; raises JournalError if the text says anything else."""
    try:
        return cast("_T", _plan(value_type).decode(json.loads(text)))
    except (ValueError, TypeError, RecursionError) as error:
        raise JournalError(f"{value_type.__name__} can't be read: {error}.") from error


def leaf(seq: int, at: str, kind: str, subject: str, detail: str) -> bytes:
    """Return an event as chain and tree hash it: canonical JSON of [seq, at, kind, subject, detail]."""
    quote = encode_basestring_ascii
    return f"[{seq},{quote(at)},{quote(kind)},{quote(subject)},{detail}]".encode("utf-8", "surrogateescape")


def read_leaf(content: bytes) -> tuple[int, datetime, JournalEntry]:
    """Return number, time and entry of an event by its leaf; raises JournalError for what `leaf` would not write."""
    try:
        seq, at, kind, subject, detail = json.loads(content)
        text = _dump(detail)
        is_leaf = type(seq) is int and leaf(seq, at, kind, subject, text) == content
        time = _aware_time(at)
    except (ValueError, TypeError, RecursionError) as error:
        raise JournalError(f"These bytes are no event: {error}.") from error
    if not is_leaf:
        raise JournalError("These bytes are no event: they are not in the one form that events have.")
    return seq, time, decode(kind, text)


def link(previous: bytes, content: bytes) -> bytes:
    """Return the chain hash of an event by its leaf: SHA-256(previous || leaf)."""
    return hashlib.sha256(previous + content).digest()


def _kind(entry: JournalEntry) -> str:
    return _snake(type(entry.event if isinstance(entry, AssetChanged) else entry))


def _subject(entry: JournalEntry) -> str:
    """Whose history the event belongs to: an asset's or an owned recorder's if there is one, else whose it names."""
    if isinstance(entry, DeviceIssued | DeviceReturned):
        return entry.recorder_id
    if isinstance(entry, Checked):
        return next(iter(entry.recordings), "")
    if isinstance(entry, CheckpointWitnessed):
        return entry.origin
    if (one := _ONE_SUBJECT.get(type(entry))) is not None:
        return one
    asset = getattr(entry, "asset", None)
    named: str = next((name for key in _SUBJECTS if (name := getattr(entry, key, ""))), "")
    return asset.asset_id if isinstance(asset, Asset) else named


def _snake_name(value_type: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", value_type.__name__).lower()


_snake: Final[Callable[[Any], str]] = cache(_snake_name)


class _Shape(NamedTuple):
    """How values of one type become JSON values and back; both raise ValueError or TypeError."""

    encode: _Turn | None  # None: the value is its own JSON
    decode: _Turn


class _Plan(NamedTuple):
    """The same for a record, which always needs turning."""

    encode: _Turn
    decode: _Turn


def _make_plan(value_type: type) -> _Plan:
    hints = get_type_hints(value_type)
    defaults = _defaults(value_type)
    shapes = {name: _shape(hints[name]) for name in defaults}
    writers = [(name, defaults[name], shape.encode) for name, shape in shapes.items()]
    return _Plan(partial(_encode_fields, writers), partial(_decode_fields, value_type, shapes, _required(defaults)))


_plan: Final[Callable[[Any], _Plan]] = cache(_make_plan)


def _encode_fields(writers: list[tuple[str, object, _Turn | None]], value: object) -> dict[str, Any]:
    plain = {}
    for name, default, turn in writers:
        part = getattr(value, name)
        if part != default:
            plain[name] = part if turn is None or part is None else turn(part)
    return plain


def _decode_fields(value_type: type, shapes: Mapping[str, _Shape], required: frozenset[str], plain: object) -> object:
    if not isinstance(plain, dict):
        raise TypeError(f"{value_type.__name__} is no object")
    if unknown := plain.keys() - shapes.keys():
        raise ValueError(f"{value_type.__name__} has no {sorted(unknown)}")
    if missing := required - plain.keys():
        raise ValueError(f"{value_type.__name__} misses {sorted(missing)}")
    return value_type(**{name: shapes[name].decode(part) for name, part in plain.items()})


def _required(defaults: Mapping[str, object]) -> frozenset[str]:
    return frozenset(name for name, default in defaults.items() if default is MISSING)


def _defaults(value_type: type[Any]) -> dict[str, object]:
    """What each field of a dataclass or named tuple is when nothing is said, or MISSING."""
    if not is_dataclass(value_type):
        return {name: value_type._field_defaults.get(name, MISSING) for name in value_type._fields}
    made = {field.name: field.default_factory() for field in fields(value_type) if field.default_factory is not MISSING}
    return {field.name: field.default for field in fields(value_type)} | made


def _shape(hint: object) -> _Shape:
    origin = get_origin(hint)
    if origin is UnionType:
        return _union_shape(get_args(hint))
    if origin is tuple:
        return _tuple_shape(get_args(hint))
    if origin is not None:
        return _Shape(dict, partial(_exactly, dict))  # Mapping[str, object]: JSON already
    if is_dataclass(hint) or hasattr(hint, "_fields"):
        return _Shape(*_plan(hint))
    if hint is datetime:
        return _Shape(_aware_text, _aware_time)
    if hint is bytes:
        return _Shape(bytes.hex, bytes.fromhex)
    if hint is Path:
        return _Shape(str, lambda part: Path(_exactly(str, part)))
    assert isinstance(hint, type), f"{hint} can't be journaled"
    if issubclass(hint, StrEnum):
        return _Shape(None, hint)
    return _Shape(None, partial(_exactly, hint))


def _union_shape(options: tuple[Any, ...]) -> _Shape:
    if NoneType in options:
        inner = _shape(next(option for option in options if option is not NoneType))
        return _Shape(inner.encode, lambda part: None if part is None else inner.decode(part))
    plans = {_snake(option): _plan(option) for option in options}

    def decode_tagged(part: object) -> object:
        ((tag, plain),) = _exactly(dict, part).items()
        if tag not in plans:
            raise ValueError(f"unknown {tag!r}")
        return plans[tag].decode(plain)

    return _Shape(lambda part: {_snake(type(part)): _plan(type(part)).encode(part)}, decode_tagged)


def _tuple_shape(items: tuple[Any, ...]) -> _Shape:
    inner = _shape(items[0])
    turn = inner.encode
    length = None if items[-1] is Ellipsis else len(items)

    def decode_list(part: object) -> tuple[object, ...]:
        values = tuple(inner.decode(item) for item in _exactly(list, part))
        if length is not None and len(values) != length:
            raise ValueError(f"{len(values)} values instead of {length}")
        return values

    return _Shape(list if turn is None else lambda part: [turn(item) for item in part], decode_list)


def _exactly(wanted: type[_T], part: object) -> _T:
    if type(part) is not wanted:
        raise TypeError(f"{type(part).__name__} instead of {wanted.__name__}")
    return part


def _aware_text(time: datetime) -> str:
    assert time.tzinfo is not None, "only aware times are journaled"
    return time.isoformat()


def _aware_time(part: object) -> datetime:
    time = datetime.fromisoformat(_exactly(str, part))
    if time.tzinfo is None:
        raise ValueError(f"{part} has no zone")
    return time


_KINDS: Final[Mapping[str, type]] = {
    _snake(entry_type): entry_type for entry_type in get_args(JournalEntry) if entry_type is not AssetChanged
} | {_snake(event_type): AssetChanged for event_type in get_args(AssetEvent)}
assert len(_KINDS) == len(get_args(JournalEntry)) - 1 + len(get_args(AssetEvent)), "kinds are distinct"
