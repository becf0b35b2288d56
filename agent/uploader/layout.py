"""Where things lie in every store, so that they are found without the agent (docs/store-layout.md)."""

from __future__ import annotations

from typing import Final

from agent.model import Digests

PROBES: Final = "probes"
"""Beneath it lies what `store check` wrote; it is no evidence."""


def original_key(digests: Digests) -> str:
    """`originals/<first two hex>/<BLAKE3>`: made of the content alone, so no name can collide or be hostile."""
    return f"originals/{digests.blake3[:2]}/{digests.blake3}"
