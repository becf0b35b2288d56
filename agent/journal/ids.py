"""Makes the identifiers of the journal: time-ordered UUIDs, and the identity of a recorder."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from datetime import UTC, datetime, timedelta

from agent.model import Clock, Device

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_id(clock: Clock) -> str:
    """Return a UUIDv7 (RFC 9562 §5.7) whose `rand_a` carries the part of the millisecond (§6.2, method 3)."""
    micros = (clock() - _EPOCH) // timedelta(microseconds=1)
    millis, rest = divmod(max(micros, 0), 1000)
    fraction = rest * 4096 // 1000
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return str(uuid.UUID(int=(millis & (1 << 48) - 1) << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random))


def device_id(device: Device) -> str:
    """Return 16 hex digits that stand for who a recorder is, wherever it is plugged in.

    SHA-256 over driver, vendor, product, serial and the sorted filesystem ids; port, label and size don't count.
    """
    identity = [device.driver, device.vendor, device.product, device.serial, sorted(device.filesystem_ids)]
    return hashlib.sha256(json.dumps(identity, separators=(",", ":")).encode("ascii")).hexdigest()[:16]


def deriving(asset_id: str) -> str:
    """The name under which attempts to make something from an original are counted, apart from those to store it."""
    return f"derive {asset_id}"


def joining(session_id: str, source: str) -> str:
    """Under which attempts and notes about making the film of a source of a session are kept."""
    return f"join {session_id} {source}"


def sealing(identifier: str) -> str:
    """The same for attempts to make the manifest of a recording, or to have a manifest stamped."""
    return f"seal {identifier}"
