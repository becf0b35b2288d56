"""Keys, notes and logs for tests of the transparency-log formats."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.signing import SigningKey
from agent.tlog.checkpoint import Checkpoint
from agent.tlog.keys import Algorithm, Ed25519Verifier, Signer
from agent.tlog.note import Note
from agent.tlog.proof import Proof
from agent.tlog.tree import consistency, inclusion, leaf_hash, node_hash, root
from agent.tlog.witness import AddCheckpoint

ORIGIN = "dock.example/log"


def signer(name: str = ORIGIN, algorithm: Algorithm = Algorithm.ED25519) -> Signer:
    """A signer whose key follows from its name."""
    seed = hashlib.sha256(f"{name} {algorithm.name}".encode()).digest()
    return Signer(name, SigningKey(Ed25519PrivateKey.from_private_bytes(seed), b""), algorithm)


def witness(name: str = "neighbour.example/w1") -> Signer:
    """A signer of cosignatures."""
    return signer(name, Algorithm.COSIGNATURE)


def trusts(*signers: Signer) -> list[Ed25519Verifier]:
    """Who verifies what they sign."""
    return [Ed25519Verifier(one.key) for one in signers]


class MadeLog:
    """A log in memory, with everything it can be asked for."""

    def __init__(self, leaves: list[bytes], origin: str = ORIGIN) -> None:
        self.leaves = leaves
        self.origin = origin
        self.signer = signer(origin)

    def node(self, height: int, index: int) -> bytes:
        if height == 0:
            return leaf_hash(self.leaves[index])
        return node_hash(self.node(height - 1, 2 * index), self.node(height - 1, 2 * index + 1))

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self.origin, size, root(size, self.node))

    def note(self, size: int) -> Note:
        return self.checkpoint(size).signed(self.signer)

    def proof(self, index: int, size: int) -> Proof:
        return Proof(index, tuple(inclusion(index, size, self.node)), self.note(size))

    def growth(self, old: int, size: int) -> AddCheckpoint:
        return AddCheckpoint(old, tuple(consistency(old, size, self.node)), self.note(size))


def made_log(size: int = 11, origin: str = ORIGIN) -> MadeLog:
    """A log of so many small leaves."""
    return MadeLog([f"event {number}".encode() for number in range(size)], origin)
