"""Journals that copies of recordings leave the station: only with an approval, and before the kit gets its name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from agent.model import Exported
from agent.pipeline import checkpoints
from agent.pipeline.station import Station
from agent.register import line

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


async def begin(station: Station, _asked: Mapping[str, str]) -> dict[str, object]:
    """Sign a checkpoint over all events there are, so that what is exported is proved up to now; returns its number."""
    signed = await checkpoints.sign(station)
    return {"number": signed.number if signed is not None else 0}


async def journal_export(station: Station, asked: Mapping[str, str]) -> dict[str, object]:
    """Take down an export: `bag`, `approval`, `who`, `why`, `recordings` and `missing` (JSON), `files`, `size_bytes`.

    Raises ValueError for what is no such thing, UnknownError for recordings that aren't there.
    """
    recordings, missing = (tuple(map(str, json.loads(asked[name]))) for name in ("recordings", "missing"))
    if not _DIGEST.fullmatch(asked["bag"]) or not recordings:
        raise ValueError("a bag's digest and recordings are needed")
    for name in recordings:
        await station.on_disk(station.journal.reader.recording, name)
    told = (line(asked["approval"]), line(asked["who"]), line(asked["why"]))
    size = (int(asked["files"]), int(asked["size_bytes"]))
    seq = await station.journal.record(Exported(asked["bag"], *told, recordings, *size, missing))
    return {"seq": seq}
