"""The record of a recording: every field of its capture metadata that is known, with its words and who says it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from functools import partial
from typing import Any, Final

from agent.config import Config
from agent.deadline import ZONE, Rules
from agent.families import Kin
from agent.journal import Reader
from agent.journal.views import ActivityView, DocumentView, RecordingView, StatementView
from agent.metadata import FIELDS, SCHEMA_VERSION, default_method, is_certified, so_far, warnings
from agent.model import ClockTrust, Codes, Device, Facts, Forms, Missing, NamingRule
from agent.register import recognise
from agent.status.access import copy_said
from agent.status.activities import activity_view, place_view
from agent.status.explain import deadline_view, verdict_of
from agent.status.families import related
from agent.status.naming import name_view, twins_of, twins_view
from agent.status.said import clock_fields, said_in, trust_words
from agent.status.sealed import manifest_lines, manifest_view
from agent.status.transcripts import transcripts_said
from agent.status.words import at, named, words

Json = dict[str, Any]


class Source(StrEnum):
    """Who says a field: the recorder, the agent by itself, a person, or the bureau's own files."""

    DEVICE = "D"
    AUTOMATIC = "A"
    OFFICER = "O"
    PROFILE = "P"


_OWN: Final[Mapping[str, tuple[str, str]]] = {
    "schema_version": ("版本", "version of the schema"),
    "item_id": ("记录编号", "id of the recording"),
    "media_type": ("载体类型", "medium"),
    "org_code": ("单位代码", "code of the organisation"),
    "org_name": ("单位名称", "organisation"),
    "org_type": ("单位类型", "kind of organisation"),
    "made_start_at": ("制作时间（起）", "beginning of the recording"),
    "made_end_at": ("制作时间（止）", "end of the recording"),
    "made_between": ("制作完成于两者之间", "completed between"),
    "made_time_basis": ("时间来源", "source of the time"),
    "clock_trust": ("设备时钟可信度", "trust in the recorder's clock"),
    "device_clock_offset_ms": ("设备时钟偏差（毫秒）", "how far the recorder's clock was ahead, ms"),
    "device_clock_compared": ("设备时钟比对", "how certain that is, and when it was compared"),
    "device": ("设备", "recorder"),
    "source_path": ("原始路径", "path on the recorder"),
    "source_name_raw": ("原始文件名（字节）", "name on the recorder, bytes in hexadecimal"),
    "from_name": ("文件名所示（仅供参考）", "what its name says (a proposal)"),
    "same_content": ("同一内容的文件名", "names of the same content"),
    "related": ("关联文件", "files that belong to it"),
    "source_mtime": ("原始修改时间", "time of the file on the recorder"),
    "source_size": ("原始大小", "size on the recorder, bytes"),
    "digests": ("摘要值", "fingerprints"),
    "integrity_state": ("文件状态", "state of the file"),
    "gps": ("位置", "position"),
    "tech": ("技术参数", "technical facts"),
    "activity_id": ("执法活动", "activity"),
    "segment_no": ("分段序号、上一段", "place in the activity, and the recording before"),
    "obligation": ("记录要求", "what the activity's stage asks for"),
    "coverage_ratio": ("覆盖率", "how much of the activity is covered"),
    "interruptions": ("中断记录", "gaps before and after it"),
    "transcript": ("文字记录", "transcript"),
    "access_copy": ("查阅副本", "access copy"),
    "ingested_by_station": ("采集站", "station"),
    "ingest_start_at": ("采集开始", "docking began"),
    "deadline": ("期限", "time limit"),
    "return_to_unit_at": ("返回单位时间", "return to the office"),
    "secured_local_at": ("本地入库", "secured locally"),
    "accepted_central_at": ("中心接收", "accepted by the store"),
    "central_receipt": ("回执", "receipt"),
}


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal knows of one recording; `kept` is the row that keeps its bytes, `device` as last docked.

    `related` looks up what belongs to it by rules of names, as long as the reader is open.
    """

    row: RecordingView
    kept: RecordingView
    documents: Sequence[DocumentView]
    made: Sequence[DocumentView]
    seals: Sequence[DocumentView]
    statements: Sequence[StatementView]
    activities: Sequence[ActivityView]
    docked_at: datetime | None
    device: Device | None
    said: Mapping[str, Any]
    twins: tuple[RecordingView, ...] = ()
    related: Callable[[tuple[NamingRule, ...]], list[Json]] = lambda _: []

    @property
    def session_id(self) -> str:
        """Of the session in a room that it was recorded in; empty if it was not."""
        return self.row.segment.session_id if self.row.segment is not None else ""


def known_of(reader: Reader, identifier: str) -> Known:
    """What the journal knows of a recording, by its id or its original's; raises UnknownError if there is none."""
    row = reader.recording(identifier)
    recording = row.recording
    kept = reader.recording(row.asset.same_as) if row.asset.same_as else row
    documents, made = reader.documents(recording.recording_id), reader.derivatives(recording.recording_id)
    statements = reader.statements([recording.recording_id])[recording.recording_id]
    docked_at = reader.docked_at(row.docking_id)
    device = reader.devices().get(recording.device_id)
    said = said_in(reader, row.docking_id)
    activities = [reader.activity(name) for name in reader.activities_of(recording.recording_id)]
    seals = reader.seals(recording.recording_id)
    twins = twins_of(reader, kept.asset)
    return Known(
        row,
        kept,
        documents,
        made,
        seals,
        statements,
        activities,
        docked_at,
        device,
        said,
        twins,
        partial(related, reader, row),
    )


def record_view(known: Known, config: Config, now: datetime) -> Json:
    """The record; a field that nobody has said and nothing tells is in `absent`, never made up."""
    rules = Rules(config.profile, config.calendars)
    said: dict[str, Any] = so_far(one.said.fields for one in known.statements)
    day = known.row.captured[1].astimezone(ZONE).date()
    fields: Json = {}
    for name, value, source in (*_automatic(known, config, rules, now), *_said(said, known, config)):
        label = _OWN.get(name) or (FIELDS[name].zh, FIELDS[name].en)
        fields[name] = {**words(*label), "value": value, "source": source.value}
    if "makers" in fields:
        fields["makers"]["value"] = _makers(said["makers"], day, config.forms)
    lacks = known.row.metadata.lacks - (fields.keys() - {Missing.TRANSCRIPT})  # a machine's text is no transcript yet
    problems = [asdict(problem) for problem in warnings(said, day, config.forms)]
    return {
        "recording_id": known.row.recording.recording_id,
        "version": known.row.metadata.version,
        "completeness": named(known.row.metadata.completeness),
        "missing": [labelled(name) for name in Missing if name in lacks],
        "warnings": [*problems, *_late(said, fields)],
        "manifest": manifest_view(known.seals),
        "fields": fields,
        "absent": [name for name in (*_OWN, *FIELDS) if name not in fields],
    }


_NOT_SEALED: Final = frozenset(
    {"accepted_central_at", "central_receipt", "activity_id", "segment_no", "obligation", "coverage_ratio"}
) | {"interruptions", "same_content"}


def sealed_view(known: Known, config: Config, now: datetime) -> Json:
    """What a manifest says: the record, without what the log proves and what hangs on other recordings or on today."""
    record = record_view(known, config, now)
    fields = {name: field for name, field in record["fields"].items() if name not in _NOT_SEALED}
    fields["deadline"]["value"].pop("state")
    if "related" in fields:  # whether photos are a burst hangs on what was read of them so far
        fields["related"]["value"] = [one for one in fields["related"]["value"] if one["kind"]["name"] != Kin.BURST]
    return {
        "schema": SCHEMA_VERSION,
        "version": record["version"],
        "completeness": record["completeness"]["name"],
        "missing": [one["name"] for one in record["missing"]],
        "fields": {name: {"value": field["value"], "source": field["source"]} for name, field in fields.items()},
    }


def history_view(known: Known) -> Json:
    """All versions: who, when, why, and of each changed field what it was and what it became."""
    versions: list[Json] = []
    before: dict[str, object] = {}
    for number, one in enumerate(known.statements, 1):
        changed = {
            name: {"old": before.get(name), "new": value, "assumed": name in one.said.assumed}
            for name, value in one.said.fields.items()
        }
        before = so_far([before, one.said.fields])
        signed = {"who": one.said.who, "why": one.said.why, "at": at(one.said.at)}
        document = {"asset_id": one.asset.asset_id, "state": named(one.asset.state)}
        versions.append({"version": number, **signed, "changed": changed, "document": document})
    return {"recording_id": known.row.recording.recording_id, "versions": versions}


def record_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """The record as text for a terminal."""
    state = record["completeness"]
    yield f"recording {record['recording_id']}  {state['zh']} {state['en']}  version {record['version']}"
    for name, field in record["fields"].items():
        yield f"  {field['source']} {name} {field['zh']}: {plain(field['value'])}"
    for lack in record["missing"]:
        yield f"  缺少 {lack['zh']} (missing: {lack['en']})"
    for warning in record["warnings"]:
        yield f"  ! {warning['field']}：{warning['zh']} ({warning['en']})"
    if record["absent"]:
        yield f"  absent: {', '.join(record['absent'])}"
    yield from manifest_lines(record["manifest"])


def history_lines(history: Mapping[str, Any]) -> Iterator[str]:
    """The versions as text for a terminal."""
    yield f"recording {history['recording_id']}: {len(history['versions'])} versions"
    for version in history["versions"]:
        yield f"version {version['version']}  {version['at']}  {version['who']}: {version['why']}"
        for name, change in version["changed"].items():
            yield f"  {name} {FIELDS[name].zh}: {plain(change['old'] or '—')} → {plain(change['new'] or '—')}"


def plain(value: object) -> str:
    """A value as a person reads it."""
    if isinstance(value, Mapping):
        if "zh" in value:
            return f"{value.get('name', '')} {value['zh']}".strip()
        return " ".join(f"{name}={plain(part)}" for name, part in value.items() if part not in (None, "", []))
    if isinstance(value, list | tuple):
        return "；".join(map(plain, value))
    return str(value)


def _automatic(known: Known, config: Config, rules: Rules, now: datetime) -> Iterator[tuple[str, Any, Source]]:
    row, station, recording = known.row, config.station, known.row.recording
    told = (
        ("schema_version", SCHEMA_VERSION, Source.AUTOMATIC),
        ("item_id", recording.recording_id, Source.AUTOMATIC),
        ("media_type", named(recording.medium), Source.AUTOMATIC),
        ("org_code", station.org_code, Source.PROFILE),
        ("org_name", station.org_name, Source.PROFILE),
        ("org_type", named(station.org_type) if station.org_type else None, Source.PROFILE),
        *_made(row, known.said),
        *((name, value, Source.AUTOMATIC) for name, value in clock_fields(known.said)),
        *_content(row.facts),
        *_activities(known, config),
        *_origin(known, config),
        ("same_content", twins_view(known.twins, config.forms), Source.AUTOMATIC),
        ("digests", asdict(row.asset.digests) if row.asset.digests else None, Source.AUTOMATIC),
        ("transcript", transcripts_said(known.documents), Source.OFFICER),
        ("access_copy", copy_said(known.made), Source.AUTOMATIC),
        ("ingested_by_station", station.name, Source.PROFILE),
        ("deadline", _deadline(known, config, rules, now), Source.AUTOMATIC),
        ("return_to_unit_at", at(row.declared.at) if row.declared else None, Source.OFFICER),
        ("secured_local_at", at(known.kept.held_at), Source.AUTOMATIC),
    )
    receipt = known.kept.asset.receipt
    yield from ((name, value, source) for name, value, source in told if value not in (None, "", []))
    if receipt is not None:
        shown = asdict(receipt) | {"confirmed_at": at(receipt.confirmed_at), "locked_until": at(receipt.locked_until)}
        yield "accepted_central_at", at(receipt.confirmed_at), Source.AUTOMATIC
        yield "central_receipt", {name: value for name, value in shown.items() if value}, Source.AUTOMATIC


def _made(row: RecordingView, said: Mapping[str, Any]) -> Iterator[tuple[str, Any, Source]]:
    time = row.time
    source = Source.OFFICER if time.clock_trust is ClockTrust.STATED else Source.DEVICE
    end = time.made_end or (time.latest if time.earliest == time.latest else None)
    yield "made_start_at", at(time.made_start), source
    yield "made_end_at", at(end), source
    if end is None:
        yield "made_between", [at(time.earliest), at(time.latest)], Source.AUTOMATIC
    else:
        yield "made_time_basis", named(time.basis), Source.AUTOMATIC
    yield "clock_trust", trust_words(time.clock_trust, said), Source.AUTOMATIC


def _content(facts: Facts | None) -> Iterator[tuple[str, Any, Source]]:
    """What the content says of itself; nothing before it was probed."""
    if facts is not None:
        told = {name: value for name, value in asdict(facts).items() if value not in (None, "", 0, (), [])}
        told.pop("medium", None)
        yield "integrity_state", named(facts.integrity) | {"reason": facts.reason}, Source.AUTOMATIC
        yield "gps", told.pop("gps", None), Source.DEVICE
        yield (
            "tech",
            {name: value for name, value in told.items() if name not in {"integrity", "reason"}},
            Source.DEVICE,
        )


def _activities(known: Known, config: Config) -> Iterator[tuple[str, Any, Source]]:
    """Its place in each activity that it belongs to, what that asks for, and the gaps beside it."""
    name = known.row.recording.recording_id
    places = [place_view(activity_view(one, config.profile), name) for one in known.activities]
    yield "activity_id", [place["activity_id"] for place in places], Source.OFFICER
    for field in ("segment_no", "obligation", "coverage_ratio", "interruptions"):
        yield field, [place[field] for place in places if place[field] != []], Source.AUTOMATIC


def _origin(known: Known, config: Config) -> Iterator[tuple[str, Any, Source]]:
    if known.device is not None:
        device = {name: value for name, value in asdict(known.device).items() if value}
        device |= {"says": known.said["told"]} if known.said.get("told") else {}
        recorder = recognise(config.inventory, known.device)
        if recorder is not None:
            device |= {"recorder_id": recorder.recorder_id, "number": recorder.number, "kind": named(recorder.kind)}
        yield "device", device, Source.DEVICE
    if (clip := known.row.clip) is not None:
        yield "source_path", clip.path, Source.DEVICE
        yield "source_name_raw", clip.raw_name.hex(), Source.DEVICE
        yield "related", known.related(config.forms.names), Source.AUTOMATIC
        yield "from_name", name_view(clip.path, config.forms), Source.DEVICE
        modified = {"local": clip.modified.local, "offset_min": clip.modified.offset_min}
        yield "source_mtime", modified if clip.modified.local else None, Source.DEVICE
        yield "source_size", clip.size_bytes, Source.DEVICE
    if (segment := known.row.segment) is not None:
        camera = {"camera_start": at(segment.camera_start)} if segment.camera_start else {}
        place = {"driver": "room", "source": segment.source, "session_id": segment.session_id}
        yield "device", place | camera, Source.DEVICE
        yield "source_path", segment.file, Source.DEVICE
        yield "source_size", known.row.asset.expected_bytes, Source.DEVICE
    yield "ingest_start_at", at(known.docked_at), Source.AUTOMATIC


def _deadline(known: Known, config: Config, rules: Rules, now: datetime) -> Json:
    verdict = verdict_of(replace(known.kept, recording=known.row.recording), config.deadline.satisfied_by, now)
    limit = deadline_view(known.row.recording.deadline, known.row.captured[2], rules)
    return limit | {"satisfied_by": config.deadline.satisfied_by.value, "state": named(verdict) if verdict else None}


def _late(said: Mapping[str, Any], fields: Json) -> Iterator[Json]:
    state = fields["deadline"]["value"]["state"]
    if state and state["name"] in {"overdue", "late"} and "late" not in said:
        yield {"field": "late", **words("逾期须说明原因", "it is late: an explanation is wanted")}


def _said(said: Mapping[str, Any], known: Known, config: Config) -> Iterator[tuple[str, Any, Source]]:
    assumed = {name for one in known.statements for name in one.said.assumed}
    spoken = {name for one in known.statements for name in one.said.fields if name not in one.said.assumed}
    for name in FIELDS:
        if name in said:
            is_assumed = name in assumed and name not in spoken
            yield name, _worded(said[name], FIELDS[name].kind.codes), Source.AUTOMATIC if is_assumed else Source.OFFICER
    recorder = recognise(config.inventory, known.device) if known.device is not None else None
    method = default_method(recorder.kind if recorder else None, known.row.recording.medium)
    if "method" not in said and method is not None:
        yield "method", _worded(method, FIELDS["method"].kind.codes), Source.AUTOMATIC


def _worded(value: object, codes: Codes) -> object:
    """Codes with their words."""
    if isinstance(value, str):
        return {"name": value, **words(codes[value].zh, codes[value].en)} if value in codes else value
    if isinstance(value, list):
        return [_worded(part, codes) for part in value]
    if isinstance(value, dict):
        return {name: _worded(part, codes) if isinstance(part, str) else part for name, part in value.items()}
    return value


def _makers(makers: Sequence[Mapping[str, str]], day: date, forms: Forms) -> list[Json]:
    return [{**maker, "cert_valid_on_day": is_certified(maker, day, forms)} for maker in makers]


def labelled(name: str) -> Json:
    """What is missing, with its words."""
    label = {"made_at": ("制作时间", "when it was made"), "transcript": ("文字记录", "transcript")}.get(name)
    return {"name": name, **words(*(label or (FIELDS[name].zh, FIELDS[name].en)))}
