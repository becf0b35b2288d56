"""What persons say about freeing local copies: terms that two of them want, and recordings whose copies must stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.errors import RequestError
from agent.journal import Reader
from agent.model import Frozen, ReleaseAsked, ReleaseConfirmed
from agent.pipeline.releasable import is_within, plan, rule_of, same_person
from agent.pipeline.station import Station
from agent.register import line

_UNCHANGED: Final = "Nothing was changed, and nothing is freed."

Asked = Mapping[str, str]


async def ask(station: Station, asked: Asked) -> dict[str, object]:
    """Ask for the terms of the configuration to be in force, with what would go by them now: `who`, `why`."""
    who, why, reader = line(asked["who"]), line(asked["why"]), station.journal.reader
    found = await station.on_disk(lambda: plan(reader, rule_of(station)))
    entry = ReleaseAsked(station.terms, found.goes.files, found.goes.bytes, found.stored.files, who, why)
    seq = await station.journal.record(entry)
    return {"asked": seq, "files": entry.files, "bytes": entry.bytes, "of_files": entry.of_files}


async def confirm(station: Station, asked: Asked) -> dict[str, object]:
    """Another person agrees with what was asked for last, which must be what the configuration says: `who`, `why`."""
    who, why = line(asked["who"]), line(asked["why"])
    seq, before = await station.on_disk(_last, station.journal.reader)
    if same_person(before.who, who):
        what = "须由另一人确认 (another person must confirm: this one asked)."
        raise RequestError(what, safe=_UNCHANGED, do="Have somebody else look at it and confirm.")
    if not (is_within(station.terms, before.terms) and is_within(before.terms, station.terms)):
        what = "配置与申请时不同，须重新申请 (the configuration is not what was asked for any more)."
        raise RequestError(what, safe=_UNCHANGED, do="Look at it again: capture-agent release --ask.")
    freed = await station.on_disk(station.journal.reader.freed)
    await station.journal.record(ReleaseConfirmed(seq, freed, who, why))
    station.room_wanted.set()
    return {"asked": seq, "files": before.files, "bytes": before.bytes, "of_files": before.of_files}


async def freeze(station: Station, asked: Asked) -> dict[str, object]:
    """Have the local copies of recordings stay (审核冻结), or let them go again: `ids`, `frozen`, `who`, `why`."""
    who, why, frozen = line(asked["who"]), line(asked["why"]), asked["frozen"] == "yes"
    reader = station.journal.reader
    rows = [await station.on_disk(reader.recording, name) for name in dict.fromkeys(asked["ids"].split())]
    async with station.freeing:
        await station.journal.record(*(Frozen(row.asset.asset_id, frozen, who, why) for row in rows))
    return {"recordings": [row.recording.recording_id for row in rows], "frozen": frozen}


def _last(reader: Reader) -> tuple[int, ReleaseAsked]:
    found = reader.asked()
    if found is None:
        what = "没有待确认的申请 (nobody has asked for anything)."
        raise RequestError(what, safe=_UNCHANGED, do="Ask first: capture-agent release --ask.")
    return found
