"""The derivation certificate: from which bytes, by what and how each file was made, so that anybody can do it again."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from agent import __version__, durable
from agent.access.made import Everything, Made
from agent.model import Asset, Digests

SCHEMA: Final = "capture-agent.derivation.1"
AGENT: Final = f"capture-agent {__version__}"
"""The tool of what this agent makes by itself."""


def fingerprinted(path: Path) -> tuple[int, Digests]:
    """Size and digests of a finished file as it was written; raises OSError. A link is none."""
    whole, sha256, size = blake3(), hashlib.sha256(), 0
    with durable.opened(path) as fd, open(fd, "rb", closefd=False) as file:
        while piece := file.read(durable.CHUNK_BYTES):
            whole.update(piece)
            sha256.update(piece)
            size += len(piece)
    return size, Digests(whole.hexdigest(), sha256.hexdigest())


def certificate(original: Asset, made: Everything, assets: Sequence[Asset], at: datetime) -> bytes:
    """Canonical JSON: one line of ASCII, keys sorted; `assets` are those of `made.files`, in their order."""
    source = {"asset_id": original.asset_id, "recording_id": original.recording_id, **_bytes_of(original)}
    told: dict[str, Any] = {
        "schema": SCHEMA,
        "agent": AGENT,
        "machine": platform.machine(),
        "at": at.isoformat(),
        "source": source | {"counts": made.source},
        "found": made.found,
        "reason": made.reason,
        "problems": made.problems,
        "files": [_file_of(one, asset) for one, asset in zip(made.files, assets, strict=True)],
    }
    return canonical(told)


def canonical(value: Mapping[str, object]) -> bytes:
    """One line of ASCII with sorted keys: the same bytes for the same value."""
    return (json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n").encode("ascii")


def _file_of(made: Made, asset: Asset) -> dict[str, object]:
    return {
        "asset_id": asset.asset_id,
        "role": made.role,
        "name": made.path.name,
        **_bytes_of(asset),
        "tool": made.tool,
        "arguments": made.arguments,
        "repeatable": made.repeatable,
        "complete": made.complete,
        "remarks": made.remarks,
        "counts": made.counts,
    }


def _bytes_of(asset: Asset) -> dict[str, object]:
    assert asset.digests is not None, "it is held, or its file was read"
    return {
        "size_bytes": asset.expected_bytes,
        "blake3": asset.digests.blake3,
        "sha256": asset.digests.sha256,
    }
