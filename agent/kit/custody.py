"""What events are called on paper, and in the vocabulary of PREMIS 3 (id.loc.gov/vocabulary/preservation/eventType)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from agent.kit.extract import Told
from agent.model import AssetChanged, DocumentAdded, Probed, Role
from agent.status.words import WORDS


class Meaning(NamedTuple):
    """Its words, the types of PREMIS events that it is, and whether it tells that something went wrong."""

    zh: str
    en: str
    types: tuple[str, ...] = ()
    failed: bool = False


_PULLED: Final = ("ingestion", "message digest calculation", "fixity check")
_MEANINGS: Final[Mapping[str, Meaning]] = {
    "docking_opened": Meaning("插入采集站", "docked"),
    "docking_listed": Meaning("已列出设备上全部文件", "all files of the recorder were listed"),
    "docking_closed": Meaning("本次采集结束", "docking ended"),
    "clip_seen": Meaning("发现文件", "file was seen"),
    "session_started": Meaning("询问（听证）室开始记录", "a session began in the room"),
    "segment_taken": Meaning("场所内录制的一段", "a segment of the session was recorded", ("capture",)),
    "session_noted": Meaning("记录中断等情况", "a line of the session's ledger"),
    "session_tested": Meaning("开始前检查", "readiness test of the room"),
    "session_ended": Meaning("询问（听证）室结束记录", "the session ended"),
    "acquired": Meaning("已采集，回读校验一致", "pulled, and read back with the same digest", _PULLED),
    "matched": Meaning("内容与此前采集的相同", "same content as was held already", _PULLED[:2]),
    "adopted": Meaning("由本机存储接管", "taken over from the vault", _PULLED),
    "probed": Meaning("已读取内容", "content was read", ("validation",)),
    "derived": Meaning("已检查内容", "content was examined", ("validation",)),
    "confirmed": Meaning("中心接收，摘要值一致", "accepted by the store, same digest", ("replication",)),
    "released": Meaning("本机副本已释放", "local copy was released", ("deaccession",)),
    "damaged": Meaning("校验发现本机副本损坏", "local copy was found damaged", ("fixity check",), failed=True),
    "lost": Meaning("中心未能证明仍持有", "the store no longer proved that it has it", ("fixity check",), failed=True),
    "blocked": Meaning("需要人工处理", "a person was needed", failed=True),
    "resumed": Meaning("继续处理", "tried again"),
    "time_stated": Meaning("人工说明录制时间", "a person stated the time of recording", ("metadata modification",)),
    "event_declared": Meaning("申报起算事由", "an event was declared from which a limit counts"),
    "deadline_recomputed": Meaning("期限重新计算", "time limit was computed again"),
    "checked": Meaning("已核对", "checked by a person"),
    "activity_stated": Meaning("登记执法活动", "activity was stated"),
    "activity_ended": Meaning("执法活动结束时间", "end of the activity"),
    "gap_explained": Meaning("说明中断", "interruption was explained"),
    "gap_confirmed": Meaning("确认中断说明", "explanation was confirmed or refused"),
    "derive_asked": Meaning("要求重新制作副本", "copies were asked to be made again"),
    "no_speech_found": Meaning("工具未发现语音", "a tool found no speech"),
    "frozen": Meaning("审核冻结或解除", "kept for review, or no longer"),
    "receipt_issued": Meaning("签发交接回执", "a custody receipt was issued"),
    "key_rotated": Meaning("采集站更换签名密钥", "the station's key was rotated"),
    "exported": Meaning("经批准导出", "exported with approval", ("exporting",)),
}
_KEPT: Final = Meaning("已保存，回读校验一致", "kept, and read back with the same digest", _PULLED)
"""As `acquired`, of what never was on a recorder."""

_ENDS: Final[Mapping[str, str]] = {
    "complete": "全部完成",
    "yanked": "中途拔出",
    "changed": "设备内容有变",
    "failed": "失败",
    "interrupted": "采集站中断",
}
"""How dockings end."""

_ROLE_TYPES: Final[Mapping[Role, tuple[str, ...]]] = {
    Role.STATEMENT: ("metadata modification",),
    Role.ACCESS_COPY: ("normalization",),
    Role.MANIFEST: ("digital signature generation",),
    Role.TIMESTAMP: ("digital signature generation",),
}


def meaning_of(told: Told, role: Role | None = None) -> Meaning:
    """What an event is called, about an asset of this role; one of a later kind keeps its name."""
    if told.kind == "acquired" and role not in (None, Role.ORIGINAL):
        return _KEPT
    if isinstance(told.entry, DocumentAdded):
        role = told.entry.asset.role
        zh, en = WORDS[Role][role]
        return Meaning(f"加入{zh}", f"{en} was added", _ROLE_TYPES.get(role, ("creation",)))
    return _MEANINGS.get(told.kind, Meaning(told.kind, told.kind))


def detail_of(told: Told) -> str:
    """The words of persons and stores in an event, as far as it has some."""
    entry = told.entry
    inner = entry.event if isinstance(entry, AssetChanged) else getattr(entry, "said", entry)
    if isinstance(entry, Probed):
        return WORDS[type(entry.facts.integrity)][entry.facts.integrity][0]
    receipt = getattr(inner, "receipt", None)
    names = ("who", "author", "why", "approval", "reason", "found", "tool", "slot", "code")
    said = [_ENDS.get(str(value), str(value)) for name in names if (value := getattr(inner, name, ""))]
    return "；".join(said + ([f"{receipt.store} {receipt.object}"] if receipt else []))
