"""What the status shows: pure functions from journal rows and live progress to JSON-able values with their words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from agent import __version__
from agent.config import Config, Milestone
from agent.deadline import Coverage, Rules, Verdict
from agent.journal.views import DockingView, EventView, Overview, RecordingView, Waiting
from agent.model import (
    INBOX_SLOT,
    AssetState,
    Completeness,
    Device,
    Missing,
    Outcome,
    SlotProgress,
)
from agent.register import device_name
from agent.status.absences import absence_view
from agent.status.access import copies_view, copy_view
from agent.status.clock import clock_fact, clock_view
from agent.status.content import content_view
from agent.status.devices import quarantined
from agent.status.explain import deadline_view, verdict_of
from agent.status.health import Live, health_view, hold_of, missing_files
from agent.status.outlook import outlook, outlook_view, stored_by
from agent.status.reasons import on_screen
from agent.status.record import labelled
from agent.status.scrub import scrub_fact, scrub_view
from agent.status.sealed import manifests_view
from agent.status.words import Hold, Whereabouts, at, named, words

Json = dict[str, Any]

_NONE: Final[Mapping[str, Whereabouts]] = {}

SHOWN_AT_RISK: Final = 50
"""How many of the most urgent recordings the status lists."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What the journal answered, all for the same moment; `devices` by device id, the last ones as they are shown.

    `absences` by docking id, as the journal has them; `rooms` as `rooms_view` gave them.
    """

    overview: Overview
    at_risk: Sequence[RecordingView]
    dockings: Sequence[DockingView]
    devices: Mapping[str, Device]
    register: Json
    activities: Json
    waiting: Waiting
    absences: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    rooms: Sequence[Json] = ()


def to_json(value: object) -> bytes:
    """JSON as UTF-8; stray surrogates of a name that is no valid Unicode become the escapes that JSON has for them."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def status_view(config: Config, rows: Rows, live: Live, coverage: Coverage, now: datetime) -> Json:
    """The whole state of the station."""
    rules = Rules(config.profile, config.calendars)
    unknown, by = quarantined(config, rows.devices), config.deadline.satisfied_by
    risks = [recording_view(row, rules, by, rows.devices, now, unknown) for row in rows.at_risk]
    sent = {upload.asset_id: upload.done_bytes for upload in live.uploads if upload.done_bytes}
    ahead = outlook(config, rows.waiting, rows.overview, live.slots, live.store_rate_bytes_s, now)
    risks = [
        risk | {"sent_bytes": sent.get(risk["asset_id"]), "stored_by": at(stored_by(row, rows.waiting, ahead))}
        for risk, row in zip(risks, rows.at_risk, strict=True)
    ]
    manifests = manifests_view(config, rows.overview)
    return {
        "station": _station_view(config, live),
        "now": at(now),
        "seq": rows.overview.head_seq,
        "head_hash": rows.overview.head_hash,
        "health": health_view(config, live, coverage, rows.overview, rows.register, ahead, rows.rooms),
        "facts": [*_facts(config, live, coverage), copies_view(config, rows.overview), manifests],
        "forecast": outlook_view(ahead),
        "tiles": _tiles(rows, risks, config.deadline.satisfied_by),
        "slots": [slot_view(slot, config.station.contact) for slot in live.slots],
        "counters": _counters(rows.overview),
        "at_risk": risks,
        "at_risk_limit": SHOWN_AT_RISK,
        "rooms": list(rows.rooms),
        "dockings": [docking_view(one, rows.absences.get(one.docking_id, ())) for one in rows.dockings],
        "devices": rows.register,
        "activities": rows.activities,
        "store": _store_view(config, live),
        "access": copies_view(config, rows.overview),
        "manifests": manifests,
        "scrub": scrub_view(live.scrub),
        "storage": {"free_bytes": live.free_bytes, "reserve_bytes": config.storage.reserve_bytes},
        "deadline": {
            "profile": config.profile.name,
            "citation": config.profile.citation,
            "computation": list(config.profile.computation),
            "satisfied_by": config.deadline.satisfied_by.value,
        },
        "calendar": calendar_view(coverage),
        "clock": clock_view(live.clock, now),
    }


def _counters(overview: Overview) -> Json:
    return {
        "assets": {state.value: asdict(tally) for state, tally in overview.assets.items()},
        "documents": {state.value: asdict(tally) for state, tally in overview.documents.items()},
        "derived": {state.value: asdict(tally) for state, tally in overview.derived.items()},
        "clips": {outcome.value: asdict(tally) for outcome, tally in overview.clips.items()},
        "open_dockings": overview.open_dockings,
        "completeness": {state.value: overview.metadata.get(state, 0) for state in Completeness},
    }


def slot_view(slot: SlotProgress, contact: str) -> Json:
    """One slot with its live progress; `hold` says whether the recorder may be taken away."""
    return {
        "slot": slot.slot,
        "docking_id": slot.docking_id,
        "device": slot.device_label,
        "phase": named(slot.phase),
        "hold": _hold_words(slot, contact),
        "may_remove": hold_of(slot) is Hold.TAKE,
        "files": {"done": slot.files_done, "total": slot.files_total},
        "bytes": {"done": slot.bytes_done, "total": slot.bytes_total},
        "rate_bytes_s": round(slot.rate_bytes_s),
        "eta_s": None if slot.eta_s is None else round(slot.eta_s),
        "message": slot.message,
        "message_words": on_screen(slot.message) if slot.message else None,
        "outcomes": {outcome.value: slot.outcomes.get(outcome, 0) for outcome in Outcome},
    }


def recording_view(
    row: RecordingView,
    rules: Rules,
    satisfied_by: Milestone,
    devices: Mapping[str, Device],
    now: datetime,
    unknown: Mapping[str, Whereabouts] = _NONE,
) -> Json:
    """One recording with state and deadline; `verdict` is null where another recording keeps its bytes.

    `quarantine` is null unless its device is among those `unknown`; then what these say.
    """
    asset, recording = row.asset, row.recording
    earliest, latest, trust = row.captured
    found = verdict_of(row, satisfied_by, now)
    return {
        "recording_id": recording.recording_id,
        "asset_id": asset.asset_id,
        "docking_id": row.docking_id,
        "name": row.name,
        "device": device_name(devices[recording.device_id]) if recording.device_id in devices else "",
        "quarantine": named(unknown[recording.device_id]) if recording.device_id in unknown else None,
        "medium": named(recording.medium),
        "state": named(asset.state),
        "reason": asset.reason,
        "reason_words": on_screen(asset.reason) if asset.reason else None,
        "size_bytes": asset.size_bytes if asset.size_bytes is not None else asset.expected_bytes,
        "sha256": asset.digests.sha256 if asset.digests else None,
        "blake3": asset.digests.blake3 if asset.digests else None,
        "same_as": asset.same_as,
        "captured": {
            "earliest": at(earliest),
            "latest": at(latest),
            "clock": named(trust),
        },
        "stored_at": at(asset.receipt.confirmed_at) if asset.receipt else None,
        "locked_until": at(asset.receipt.locked_until) if asset.receipt else None,
        "verdict": named(found) if found else None,
        "held_at": at(row.held_at),
        "completeness": named(row.metadata.completeness),
        "missing": [labelled(name) for name in Missing if name in row.metadata.lacks],
        "metadata_version": row.metadata.version,
        "metadata": f"/api/v1/metadata/{recording.recording_id}",
        "explained": f"/api/v1/deadline/{recording.recording_id}",
        "access": copy_view(row.made),
        **content_view(row),
        **deadline_view(recording.deadline, trust, rules),
    }


def docking_view(docking: DockingView, absences: Iterable[Mapping[str, Any]] = ()) -> Json:
    """One docking, where each of its clips went, and what is missing."""
    return {
        "docking_id": docking.docking_id,
        "slot": docking.slot,
        "device": device_name(docking.device),
        "opened_at": at(docking.opened_at),
        "listed_at": at(docking.listed_at),
        "closed_at": at(docking.closed_at),
        "reason": docking.reason,
        "accounting": {"seen": docking.accounting.seen} | asdict(docking.accounting),
        "absences": [absence_view(one) for one in absences],
        "receipt": _receipt_view(docking),
    }


def _receipt_view(docking: DockingView) -> Json | None:
    """Whether the recorder may be cleared by the docking's newest receipt, and where its paper is."""
    return named(docking.clearing) | {"paper": f"/receipt/{docking.docking_id}"} if docking.clearing else None


def event_view(event: EventView) -> Json:
    """An event for those who follow; its hash lets them notice a changed past."""
    return {"seq": event.seq, "at": at(event.at), "kind": event.kind, "subject": event.subject, "hash": event.hash}


def calendar_view(coverage: Coverage) -> Json:
    """Which holiday notices are known and until which day verdicts are final."""
    return {
        "years": [
            {"year": notice.year, "complete": notice.complete, "source": notice.source} for notice in coverage.years
        ],
        "official_until": coverage.official_until.isoformat() if coverage.official_until else None,
        "missing": coverage.missing,
        "digest": coverage.digest,
    }


def _station_view(config: Config, live: Live) -> Json:
    shown = {"name": config.station.name, "contact": config.station.contact, "version": __version__}
    return shown | {"key_fingerprint": live.key_fingerprint or None}


def _store_view(config: Config, live: Live) -> Json:
    audit = live.audit
    return {
        "kind": config.store.kind,
        "name": config.store.name,
        "error": live.store_error,
        "answers": False if live.store_error else (live.store_heard or None),
        "locks": live.store_locks,
        "uploads": [asdict(upload) for upload in live.uploads],
        "audit": asdict(audit) | {"last_at": at(audit.last_at)},
    }


def _hold_words(slot: SlotProgress, contact: str) -> dict[str, str]:
    hold = hold_of(slot)
    told = named(hold)
    missing = missing_files(slot)
    if hold is Hold.TAKE and slot.slot.startswith(INBOX_SLOT):
        told |= words("本批已全部采集", "all of this batch is here")
    elif hold is Hold.GONE and missing:
        told |= words(f"已拔出，剩余 {missing} 个未采集", f"unplugged, {missing} not pulled")
    elif hold is Hold.GONE and slot.files_total == 0:
        told |= words("已拔出，尚未采集", "unplugged before anything was pulled")
    elif hold is Hold.ASK:
        safe = slot.files_total - missing
        told |= words(
            f"已采集的 {max(0, safe)} 个文件安全。请勿反复插拔，联系管理员 {contact}".rstrip(),
            f"{max(0, safe)} files are safe here. Do not replug it; call the administrator",
        )
    return told


def _tiles(rows: Rows, risks: Sequence[Json], satisfied_by: Milestone) -> list[Json]:
    overview, activities, assets = rows.overview, rows.activities, rows.overview.assets
    verdicts = Counter(risk["verdict"]["name"] for risk in risks if risk["verdict"])
    more = len(risks) >= SHOWN_AT_RISK
    late = overview.late if satisfied_by is Milestone.CENTRAL else verdicts[Verdict.OVERDUE]
    tiles = (
        ("待采集", "to be pulled", assets[AssetState.WANTED].files, False),
        ("待上传", "to be uploaded", assets[AssetState.HELD].files, False),
        ("已入库", "stored", assets[AssetState.STORED].files + assets[AssetState.RELEASED].files, False),
        ("待补充信息", "metadata incomplete", overview.metadata.get(Completeness.INCOMPLETE, 0), False),
        ("需要处理", "need a person", assets[AssetState.STUCK].files, False),
        ("即将到期", "due soon (24 h)", verdicts[Verdict.DUE_SOON], more),
        ("无法判定", "undecided", verdicts[Verdict.UNDECIDED], more),
        ("已逾期", "overdue", late, more and satisfied_by is Milestone.LOCAL),
        ("中断未说明", "gaps not explained", activities["unexplained"], activities["or_more"]),
        ("未按期交还", "recorders not back in time", rows.register["not_back"], False),
    )
    return [{**words(zh, en), "count": count, "or_more": or_more} for zh, en, count, or_more in tiles]


def _facts(config: Config, live: Live, coverage: Coverage) -> list[dict[str, str]]:
    years = "、".join(f"{notice.year} 已导入（{notice.source}）" for notice in coverage.years if notice.complete)
    missing = f"；{coverage.missing} 未导入" if coverage.missing else ""
    heard = words("已连接", "connected") if live.store_heard else words("尚未联系", "not asked yet")
    store = words("未连接（数据已在本机安全保存）", "fails") if live.store_error else heard
    known = None if live.store_error or not live.store_heard else live.store_locks
    locks = {True: ("已锁定", "locked"), False: ("未锁定", "not locked"), None: ("", "")}[known]
    facts = [
        clock_fact(live.clock),
        words(f"{config.store.name} {store['zh']} {locks[0]}".rstrip(), f"store {store['en']} {locks[1]}".rstrip()),
        words(f"期限 {config.profile.citation}", "time limit"),
        words(f"日历 {years or '无'}{missing}", "calendar"),
    ]
    if live.free_bytes is not None:
        facts.insert(2, words(f"本机剩余空间 {live.free_bytes / 1e9:.1f} GB", "free space"))
    facts.append(scrub_fact(live.scrub))
    if live.key_fingerprint:
        facts.append(words(f"签名密钥 {live.key_fingerprint[:16]}…", "signing key"))
    if config.station.contact:
        facts.append(words(f"管理员 {config.station.contact}", "administrator"))
    return facts
