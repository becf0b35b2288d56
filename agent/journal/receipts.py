"""What the journal keeps beside a docking of its receipts: how many, the newest one's event, and what it says."""

from __future__ import annotations

from typing import Final

RECEIPTS: Final = (
    "ALTER TABLE docking ADD COLUMN receipts INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE docking ADD COLUMN receipt_seq INTEGER",
    "ALTER TABLE docking ADD COLUMN clearing TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX docking_to_receipt ON docking (seq) WHERE closed_at IS NOT NULL AND clearing IN ('', 'not_stored')",
)
