"""The journal: an event log with a hash chain in SQLite, and the tables that follow from it."""

from agent.journal.audit import Difference, Report, rebuild, verify
from agent.journal.ids import device_id, new_id
from agent.journal.journal import Journal
from agent.journal.lock import WriterLock
from agent.journal.reader import Reader
from agent.journal.views import (
    Accounting,
    Attempt,
    ClipView,
    DockingView,
    DurableBlock,
    EventView,
    FindingView,
    Overview,
    PendingClip,
    RecordingHistory,
    RecordingView,
    SettledNote,
    Tally,
)

__all__ = [
    "Accounting",
    "Attempt",
    "ClipView",
    "Difference",
    "DockingView",
    "DurableBlock",
    "EventView",
    "FindingView",
    "Journal",
    "Overview",
    "PendingClip",
    "Reader",
    "RecordingHistory",
    "RecordingView",
    "Report",
    "SettledNote",
    "Tally",
    "WriterLock",
    "device_id",
    "new_id",
    "rebuild",
    "verify",
]
