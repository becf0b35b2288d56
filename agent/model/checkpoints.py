"""What is said of the log as a whole: signed checkpoints, who else has seen them, and the keys that signed."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.evidence import Receipt


@dataclass(frozen=True, slots=True)
class CheckpointSigned:
    """The station signed the root of its first `size` events; `note` is the signed checkpoint.

    Numbers are 1, 2 … without gap.
    """

    number: int
    size: int
    note: str


@dataclass(frozen=True, slots=True)
class CheckpointStored:
    """A store proved that it has the checkpoint of this number, as it was signed."""

    number: int
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class CheckpointCosigned:
    """A witness has seen the checkpoint of this number: `cosignatures` are the lines that go below its note."""

    number: int
    cosignatures: str


@dataclass(frozen=True, slots=True)
class CheckpointWitnessed:
    """As a witness, this station cosigned a checkpoint of another log: the newest that it has seen of `origin`."""

    origin: str
    note: str


@dataclass(frozen=True, slots=True)
class KeyRotated:
    """From here on another key signs; `note`, signed by both, names both. The old one signs no more, and verifies.

    `old` and `new` are public keys, in hexadecimal.
    """

    old: str
    new: str
    note: str
    who: str
    why: str
