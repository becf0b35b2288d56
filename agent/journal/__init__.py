"""The journal: an event log with a hash chain in SQLite, and the tables that follow from it."""

from agent.journal.audit import rebuild, verify
from agent.journal.ids import deriving, device_id, joining, new_id, sealing
from agent.journal.journal import Journal
from agent.journal.reader import Reader

__all__ = ["Journal", "Reader", "deriving", "device_id", "joining", "new_id", "rebuild", "sealing", "verify"]
