"""The contract of a store: take a held original, and prove that it is there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from agent.errors import ConfigError, EvidenceError, StoreError
from agent.model import Digests, Held, Receipt

SAFE: Final = "The original is safe in this station."
"""What every refusal of a store leaves as it was."""

PROBES: Final = "probes"
"""Beneath it lies what `store check` wrote; it is no evidence."""

CHECKPOINT_KEY: Final = re.compile(r"checkpoints/[A-Za-z0-9][A-Za-z0-9._-]*/[0-9]{8,}")
"""Where signed checkpoints lie: numbered, so that a number that is taken tells of a log that was set back."""

_CLOCK_LIMIT_S: Final = 60.0

DOUBT: Final = "doubt"
"""Name of a note by the audit: what the store has of this original was not what its receipt said. What the store says
of it without reading it back proves nothing any more."""


class Errand(Protocol):
    """One original on its way to a store: how urgent it is, and what must be remembered of the way.

    Notes are short texts under short names. They outlive the process, and are forgotten once the original is stored.
    """

    due_at: datetime
    """When it must be there; of several originals on their way the earliest goes first."""

    async def recall(self) -> Mapping[str, str]:
        """All notes of earlier attempts."""

    async def note(self, notes: Mapping[str, str], *, anew: bool = False) -> None:
        """Add notes, or write them over those of the same names; durable on return. `anew` forgets all others first."""

    def found(self, size_bytes: int) -> None:
        """Tell of bytes that are there from earlier attempts, before they are `sent`: they say nothing of the speed."""

    def sent(self, done_bytes: int) -> None:
        """Tell how many bytes are there by now; may be called often, and shows that the attempt is alive."""


@dataclass(frozen=True, slots=True)
class Trait:
    """One thing that was found out about a store, for the person who sets it up.

    `good` is None where it is neither good nor bad, or could not be found out. `do` says how to mend it.
    """

    name: str
    good: bool | None
    what: str
    do: str = ""


class Store(Protocol):
    """A place that keeps originals (本单位专用存储器 or 执法信息系统).

    `put` is idempotent and never replaces: if the object is there with the same bytes it only proves it. With other
    bytes under a key that `held` brings it raises a `StoreError` that no retry helps.
    It returns after the bytes are durable there and the store's own answer about size and digest was checked
    against `held`; otherwise it raises `StoreError`. Bytes of `held` that no longer have their digest raise
    `EvidenceError`. It may be called concurrently for different assets and may be cancelled at any point
    without leaving anything that looks like a stored object. There is no verb that removes.

    A store is found by its entry point in the group `capture_agent.stores` and made as
    `Kind(name, options, vault_root=…, clock=…)` without touching anything; bad options raise ConfigError.
    """

    name: str
    """Name of the store as the receipts show it."""

    locks: bool
    """Whether the store itself keeps objects from being deleted; each receipt tells until when."""

    async def put(self, held: Held, errand: Errand) -> Receipt:
        """Store one original."""

    async def look(self) -> None:
        """See whether the store can take originals now, changing nothing there; raises StoreError if it can't."""

    async def check(self, receipt: Receipt, *, read: bool) -> bool:
        """Prove again that the store has what the receipt says; raises EvidenceError if not, StoreError if away.

        With `read` by reading the bytes back, where our rights allow that. Returns whether they were read.
        """

    async def fetch(self, receipt: Receipt, part: Path) -> None:
        """Write what the receipt is of into a new file, whose bytes had the receipt's size and fingerprints.

        They are not durable yet: whoever gives them a name reads them back before. Raises FileExistsError if `part` is
        there, EvidenceError if the store has other bytes or none, StoreError if it is away or doesn't let us read;
        what lies in `part` then is worth nothing, and never longer than the receipt says.
        """

    async def apart(self) -> bool:
        """Whether what it keeps is elsewhere than on the filesystem of this station's own storage; raises StoreError.

        Only then may a local copy ever be freed.
        """

    async def survey(self) -> Sequence[Trait]:
        """Find out what the store can do by trying it with a probe object; raises StoreError if it can't be reached."""

    async def close(self) -> None:
        """Let go of connections and helpers; idempotent. Puts under way are cancelled before."""


def present() -> datetime:
    """The clock of a store that was given none."""
    return datetime.now(UTC)


def original_key(digests: Digests) -> str:
    """`originals/<first two hex>/<BLAKE3>`: where it lies in every store, so that it is found without the agent.

    Made of the content alone, so no name can collide or be hostile (docs/store-layout.md).
    """
    return f"originals/{digests.blake3[:2]}/{digests.blake3}"


def key_of(held: Held) -> str:
    """Where it lies in every store: by its content, or under the key that it brings."""
    return held.key or original_key(held.digests)


def own_key(receipt: Receipt, prefix: str = "") -> str | None:
    """The key that a receipt of ours speaks of, without the prefix of the store; None for any other object."""
    key = receipt.object.removeprefix(prefix)
    fits = receipt.object.startswith(prefix) and (key == original_key(receipt.digests) or CHECKPOINT_KEY.fullmatch(key))
    return key if fits else None


def lost(store: str, key: str, why: str) -> EvidenceError:
    """What `Store.check` raises."""
    what = f"The store {store} no longer proves that it has {key}: {why}."
    return EvidenceError(what, do="Keep every other copy of it, and call the administrator.")


def not_ours(receipt: Receipt, store: str) -> StoreError:
    """What `Store.check` raises for the receipt of another store, or of this one as it was configured before."""
    what = f"The receipt is of {receipt.object} in the store {receipt.store}; this store is {store}."
    return StoreError(what, do="Check store.name and store.options in the configuration.", retry=False)


def may_not_read(store: str, key: str) -> StoreError:
    """What `Store.fetch` raises where our rights don't reach."""
    what = f"The store {store} does not let this station read {key}."
    return StoreError(what, do="Give the station the right to read what it stored.", retry=False)


def misconfigured(what: str, do: str = "Correct the configuration.") -> ConfigError:
    """The error for options that make no sense."""
    return ConfigError(f"{what}.", safe="Nothing was changed.", do=do)


def trait(name: str, good: bool | None, what: str, do: str = "") -> Trait:
    """A trait; how to mend it is only said where it is not good."""
    return Trait(name, good, what, "" if good else do)


def clock_trait(ahead_s: float | None) -> Trait:
    """How far a store's clock is from ours; None: it tells no time."""
    if ahead_s is None:
        return trait("clock", None, "The store tells no time.")
    what = f"The store's clock is {ahead_s:+.0f} s ahead of ours."
    return trait("clock", abs(ahead_s) < _CLOCK_LIMIT_S, what, "Set both by the same time server.")
