"""The digest of a configuration: all files it is read from, so that a change of any of them shows."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest_of(path: Path) -> str:
    """Return SHA-256 over name, size and bytes of every TOML file beside and below `path`; raises OSError."""
    whole = hashlib.sha256()
    for file in sorted(path.parent.rglob("*.toml")):
        content = file.read_bytes()
        whole.update(f"{file.relative_to(path.parent).as_posix()}\n{len(content)}\n".encode() + content)
    return whole.hexdigest()
