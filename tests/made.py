"""What tests make from originals: entries of the journal, and files as the lane finds them in its work folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from blake3 import blake3

from agent.journal import new_id
from agent.model import Asset, AssetState, Derivation, Derived, Digests, DocumentAdded, FindingKind, MediaFinding, Role
from agent.pipeline.documents import add_made
from agent.pipeline.station import Station
from tests.journal_entries import NOW, document

BLACK = MediaFinding(FindingKind.BLACK, 2000, 4500)


def copy(name: str, source: str, role: Role = Role.ACCESS_COPY, *, content: str = "") -> DocumentAdded:
    """A file made from the original `source`, as the journal gets it."""
    return document(name, source, content=content, said=Derivation(role, source, NOW, "ffmpeg 5.1.9", "ab" * 32))


def derived(name: str, reason: str = "") -> Derived:
    """All is made from the original `name`."""
    return Derived(name, (BLACK,), 1, reason)


async def make(station: Station, original: Asset, *contents: bytes, reason: str = "") -> list[str]:
    """Let the station take in files with these contents, made from an original; returns their asset ids."""
    folder = station.vault.work_dir / original.asset_id
    folder.mkdir()
    files: list[tuple[Path, DocumentAdded]] = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.mp4"
        path.write_bytes(content)
        said = Derivation(Role.ACCESS_COPY, original.asset_id, station.clock(), "ffmpeg", f"{number:064x}")
        digests = Digests(blake3(content).hexdigest(), hashlib.sha256(content).hexdigest())
        key = (new_id(station.clock), original.recording_id, said.role, AssetState.WANTED, len(content))
        files.append((path, DocumentAdded(Asset(*key, digests=digests), (original.recording_id,), said)))
    await add_made(station, files, derived(original.asset_id, reason))
    return [entry.asset.asset_id for _, entry in files]
