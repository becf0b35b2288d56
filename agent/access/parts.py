"""A playlist of the files into which a recorder cut one recording: originals stay what they are, and play in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.checked import plain


@dataclass(frozen=True, slots=True)
class Part:
    """One of the files; no `address`: it isn't there. `lasts_ms` None: nobody knows."""

    title: str
    address: str
    lasts_ms: int | None = None


def parts_m3u8(parts: Sequence[Part], others: int = 0) -> bytes:
    """Extended M3U in UTF-8, an entry for each part that is there; `others` come behind and aren't listed."""
    lines = ["#EXTM3U"]
    for one in parts:
        title = plain(one.title)
        if one.address:
            lines += [f"#EXTINF:{-1 if one.lasts_ms is None else round(one.lasts_ms / 1000)},{title}", one.address]
        else:
            lines.append(f"# not here: {title}")
    lines += [f"# {others} more parts"] if others else []
    return "\n".join([*lines, ""]).encode("utf-8", "replace")
