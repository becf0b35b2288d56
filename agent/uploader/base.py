"""The contract of a store: take a held original, and prove that it is there."""

from __future__ import annotations

from typing import Protocol

from agent.model import Held, Receipt


class Store(Protocol):
    """A place that keeps originals (本单位专用存储器 or 执法信息系统).

    `put` is idempotent and never replaces: if the object is there with the same bytes it only proves it.
    It returns after the bytes are durable there and the store's own answer about size and digest was checked
    against `held`; otherwise it raises `StoreError`. Bytes of `held` that no longer have their digest raise
    `EvidenceError`. It may be called concurrently for different assets and may be cancelled at any point
    without leaving anything that looks like a stored object. There is no verb that removes.
    """

    @property
    def name(self) -> str:
        """Name of the store as the receipts show it."""

    async def put(self, held: Held) -> Receipt:
        """Store one original."""

    async def look(self) -> None:
        """See whether the store can be reached now, changing nothing there; raises StoreError if it can't."""

    async def check(self, receipt: Receipt) -> None:
        """Prove again that the store has what the receipt says, by reading it; raises EvidenceError or StoreError."""
