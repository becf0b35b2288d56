"""The custody history of a recording (流转记录) in words: what happened to it, who did it and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from agent.journal import Reader
from agent.journal.views import EventView, RecordingView
from agent.model import Role
from agent.status.reasons import on_screen
from agent.status.record import Known
from agent.status.words import WORDS, at, words

Json = dict[str, Any]

SHOWN: Final = 500
"""How many events are told at most, the newest."""

_OF_OTHERS: Final = (
    "document_added", "docking_opened", "docking_listed", "docking_closed", "receipt_issued",
    "session_started", "session_ended",
)  # fmt: skip
"""What is told of dockings, sessions and documents: their other events tell of other recordings, or of files."""
_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "docking_opened": ("记录仪接入采集站", "the recorder was docked"),
    "clip_seen": ("在记录仪中发现", "found on the recorder"),
    "session_started": ("询问（听证）室开始记录", "a session began in the room"),
    "segment_taken": ("场所内录制的一段", "a segment of the session was recorded"),
    "session_ended": ("询问（听证）室结束记录", "the session ended"),
    "docking_listed": ("记录仪内容已列出", "everything on the recorder was listed"),
    "receipt_issued": ("开具交接回执", "custody receipt issued"),
    "docking_closed": ("记录仪采集结束", "the docking ended"),
    "acquired": ("已采集，回读校验一致", "held here, read back and equal"),
    "matched": ("内容与已采集的记录相同", "the same content is held already"),
    "confirmed": ("已入库，存储器确认", "stored, proved by the store"),
    "released": ("本机副本已释放", "the local copy was freed"),
    "blocked": ("需要处理", "needs a person"),
    "resumed": ("处理后继续", "tried again"),
    "damaged": ("本机文件与采集时不一致", "the file here is not as it was held"),
    "lost": ("存储器不再能证明，重新上传", "the store proves it no longer; sent again"),
    "adopted": ("由本机已有文件认领", "taken over from a file that was here"),
    "time_stated": ("人工说明录制完成时间", "a person stated when it was completed"),
    "event_declared": ("申报期限事由", "an event for the time limit was declared"),
    "deadline_recomputed": ("按新规则或日历重新计算期限", "time limit computed again by other rules or notices"),
    "probed": ("已读取内容信息", "its content was read"),
    "checked": ("采集信息已核对", "what is said of it was checked"),
    "document_added": ("增加材料", "a document was added"),
    "derived": ("查阅副本制作完毕", "all that can be made from it is made"),
    "derive_asked": ("要求重新制作查阅副本", "copies are to be made again"),
    "no_speech_found": ("未发现语音", "no speech found"),
    "activity_ended": ("执法活动次日结束，期限随之", "its activity ended on a later day"),
    "frozen": ("审核冻结或解除", "frozen for review, or no longer"),
    "copy_viewed": ("调阅查阅副本", "access copy viewed"),
    "exported": ("移送（导出）", "handed over"),
}
_WHO: Final = ("who", "account", "by", "author")
_WHY: Final = ("why", "reason", "found")


def custody_view(reader: Reader, known: Known) -> list[Json]:
    """All that the log tells of a recording, oldest first, each with its number and hash."""
    row, recording_id = known.row, known.row.recording.recording_id
    documents = [one.asset.asset_id for one in (*known.documents, *known.made, *known.seals)]
    documents += [one.asset.asset_id for one in known.statements]
    own = reader.told_of([row.asset.asset_id, known.kept.asset.asset_id, recording_id], limit=SHOWN)
    others = reader.told_of([*documents, _origin(row)], _OF_OTHERS, limit=SHOWN)
    told = {event.seq: _event(event) for event in (*own, *others)}
    for seq, time, said in reader.exports([recording_id]):
        told[seq] = {
            "seq": seq,
            "at": at(datetime.fromisoformat(time)),
            **_named("exported"),
            "who": said.who,
            "why": words(said.why, said.why),
            "hash": "",
        }
    return [told[seq] for seq in sorted(told)][-SHOWN:]


def _origin(row: RecordingView) -> str:
    """The docking or the session that brought it."""
    return row.segment.session_id if row.segment is not None else row.docking_id or "-"


def _event(event: EventView) -> Json:
    detail = json.loads(event.detail)
    named = _named(event.kind)
    if event.kind == "document_added":
        zh, en = WORDS[Role][detail["asset"]["role"]]
        named = {"kind": event.kind, **words(f"增加{zh}", f"added: {en}")}
    why = _first(detail, _WHY)
    said = {"who": _first(detail, _WHO), "why": on_screen(why) if why else None}
    return {"seq": event.seq, "at": at(event.at), **named, **said, "hash": event.hash}


def _named(kind: str) -> Json:
    zh, en = _KINDS.get(kind, (f"其他事项 {kind}", kind))
    return {"kind": kind, **words(zh, en)}


def _first(detail: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first text of these names, in the event itself or in what it is about."""
    return next((text for text in _texts(detail, names) if text), "")


def _texts(detail: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    yield from (detail[name] for name in names if isinstance(detail.get(name), str))
    for part in ("event", "said", "declared", "stated"):
        if isinstance(inner := detail.get(part), dict):
            yield from _texts(inner, names)
            yield from (text for one in inner.values() if isinstance(one, dict) for text in _texts(one, names))
