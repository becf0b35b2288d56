"""The table of signed checkpoints: what each covers, its note with all cosignatures, and the store's receipt."""

from __future__ import annotations

from typing import Final

CHECKPOINTS: Final = (
    """
    CREATE TABLE checkpoint (
        number INTEGER PRIMARY KEY,
        seq INTEGER NOT NULL,
        size INTEGER NOT NULL,
        note TEXT NOT NULL,
        receipt TEXT
    ) STRICT
    """,
    "CREATE INDEX checkpoint_by_size ON checkpoint (size, number)",
    "CREATE INDEX checkpoint_to_store ON checkpoint (number) WHERE receipt IS NULL",
)
