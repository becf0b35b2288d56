"""Takes down what persons say of recordings: a form becomes a statement for one or many, and somebody checks it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Final

from agent.deadline import ZONE
from agent.errors import JournalError, RequestError
from agent.journal import Reader
from agent.journal.views import RecordingView
from agent.metadata import SCHEMA_VERSION, default_method, read_form, so_far, warnings
from agent.model import Checked, Device, Missing, Statement
from agent.pipeline.documents import add_document
from agent.pipeline.station import Station
from agent.register import line, recognise

Asked = Mapping[str, str]

_BATCH: Final = 1000
_MOST: Final = 5000
_UNCHANGED: Final = "Nothing was changed."


@dataclass(frozen=True, slots=True)
class _Spoken:
    """A recording that somebody speaks of, and the method that its recorder implies."""

    row: RecordingView
    method: str | None
    is_stored: bool


async def say(station: Station, asked: Asked) -> dict[str, object]:
    """A form: `fields` (JSON) said by `who`, `why` of recordings: `ids`, those new in `docking`, those of `activity`.

    With `version` only of recordings that are at it. One statement for up to 1000 recordings whose method is the same.
    Raises RequestError with all problems of the form, JournalError if somebody else has spoken since.
    """
    fields = read_form(_object(asked["fields"]), station.forms)
    who, why = line(asked["who"]), line(asked["why"])
    spoken = await station.on_disk(_spoken_of, station, asked)
    _check_release(fields, spoken)
    said: list[str] = []
    for method, group in _groups(fields, spoken):
        whole, assumed = (fields, ()) if method is None else (fields | {"method": method}, ("method",))
        recordings = tuple(one.row.recording.recording_id for one in group)
        versions = tuple(one.row.metadata.version for one in group)
        statement = Statement(who, why, station.clock(), whole, versions, assumed, SCHEMA_VERSION)
        asset = await add_document(station, statement, recordings)
        said.append(asset.asset_id)
    return {"statements": said} | await station.on_disk(_told, station, spoken)


async def check(station: Station, asked: Asked) -> dict[str, object]:
    """Somebody (`who`, `why`) has checked all that is said of recordings; named as for `say`.

    Raises JournalError if one of them lacks something, or somebody has spoken since.
    """
    who, why = line(asked["who"]), line(asked["why"])
    spoken = await station.on_disk(_spoken_of, station, asked)
    entries = []
    for batch in _batches(spoken):
        recordings = tuple(one.row.recording.recording_id for one in batch)
        entries.append(Checked(recordings, tuple(one.row.metadata.version for one in batch), who, why))
    same = await station.on_disk(_said_by, station.journal.reader, spoken, who)
    async with station.commit:
        await station.journal.record(*entries)
    return await station.on_disk(_told, station, spoken) | {"own_words": same}


def _object(text: str) -> dict[str, object]:
    given = json.loads(text)
    if not isinstance(given, dict):
        raise RequestError("表单须为字段的集合 / a form is a set of fields.", safe=_UNCHANGED)
    return given


def _spoken_of(station: Station, asked: Asked) -> list[_Spoken]:
    reader = station.journal.reader
    names = reader.brought_by(asked["docking"]) if asked.get("docking") else ()
    joined = reader.activity(asked["activity"]).recordings if asked.get("activity") else ()
    names = (*asked.get("ids", "").split(), *names, *(row.recording.recording_id for row in joined))
    rows = {row.recording.recording_id: row for row in map(reader.recording, dict.fromkeys(names))}
    if not 1 <= len(rows) <= _MOST:
        do = "Give ids as the status shows them, an activity, or a docking that brought new recordings."
        raise JournalError(f"Of 1 to {_MOST} recordings, not of {len(rows)}.", safe=_UNCHANGED, do=do)
    devices = reader.devices()
    spoken = [_spoken(station, row, devices.get(row.recording.device_id)) for row in rows.values()]
    wanted = asked.get("version", "")
    for row in rows.values():
        if wanted and str(row.metadata.version) != wanted:
            raise JournalError(
                f"Recording {row.recording.recording_id} is at version {row.metadata.version}, not {wanted[:9]}.",
                safe=_UNCHANGED,
                do="Look at it with `capture-agent metadata show`, then say it again.",
            )
    return spoken


def _spoken(station: Station, row: RecordingView, device: Device | None) -> _Spoken:
    reader = station.journal.reader
    recorder = recognise(station.inventory, device) if device is not None else None
    kind = recorder.kind if recorder is not None and Missing.METHOD in row.metadata.lacks else None
    kept = reader.asset(row.asset.same_as) if row.asset.same_as else row.asset
    return _Spoken(row, default_method(kind, row.recording.medium), kept.receipt is not None)


def _groups(fields: Mapping[str, object], spoken: Sequence[_Spoken]) -> Iterator[tuple[str | None, Sequence[_Spoken]]]:
    """Those that get the same fields; a method that is said goes before one that is implied."""
    by_method = sorted(spoken, key=lambda one: one.method or "")
    for method, group in groupby(by_method, key=lambda one: None if "method" in fields else one.method):
        for batch in _batches(list(group)):
            yield method, batch


def _batches(spoken: Sequence[_Spoken]) -> Iterator[Sequence[_Spoken]]:
    return (spoken[first : first + _BATCH] for first in range(0, len(spoken), _BATCH))


def _check_release(fields: Mapping[str, object], spoken: Sequence[_Spoken]) -> None:
    carrier = fields.get("original_carrier")
    if isinstance(carrier, dict) and carrier["kept"] == "released" and not all(one.is_stored for one in spoken):
        what = "original_carrier.kept 原始载体处置：中心尚未接收，不能填“已释放” / not yet accepted by the store"
        raise RequestError(what, safe=f"\n{_UNCHANGED}", do="Say it when the recording is stored.")


def _told(station: Station, spoken: Sequence[_Spoken]) -> dict[str, object]:
    """What became of them, with what a supervisor should look at; each warning once, for the first it is about."""
    reader = station.journal.reader
    days = {one.row.recording.recording_id: one.row.captured[1].astimezone(ZONE).date() for one in spoken}
    now = {recording_id: reader.metadata(recording_id) for recording_id in days}
    told: dict[tuple[str, str], dict[str, object]] = {}
    for recording_id, documents in reader.statements(days).items():
        for problem in warnings(
            so_far(document.said.fields for document in documents), days[recording_id], station.forms
        ):
            told.setdefault((problem.field, problem.zh), asdict(problem) | {"recording": recording_id})
    return {
        "recordings": len(days),
        "completeness": Counter(known.completeness.value for known in now.values()),
        "versions": sorted({known.version for known in now.values()}),
        "warnings": list(told.values()),
    }


def _said_by(reader: Reader, spoken: Sequence[_Spoken], who: str) -> int:
    """How many were last spoken of by the same person: no article forbids it, a supervisor may want to know."""
    said = reader.statements([one.row.recording.recording_id for one in spoken])
    return sum(documents[-1].said.who == who for documents in said.values() if documents)
