"""The papers of a kit: the note to the case file (说明), and the report of what was checked (核验报告)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agent.deadline import ZONE
from agent.kit.contents import Item, said_of
from agent.kit.custody import detail_of, meaning_of
from agent.kit.extract import Told
from agent.kit.review import PROOFS, Check, Given, word_of
from agent.model import NANCHANG_RECORD, DocumentAdded, Role
from agent.papers.page import Markup, both, digest, facts, filled, joined, page, table
from agent.status.words import WORDS

Json = Mapping[str, Any]

_NOTE_CITATION: Final = f"{NANCHANG_RECORD}第二十三条"
_NOBODY: Final = both("未登记", "nobody has said so")
_HEADS: Final = ("原始", "摘要", "中心", "清单", "流转", "完整", "中断", "时间", "要素", "文字", "期限", "副本")
"""The checks of `review.review`, in their order, as heads of narrow columns."""

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?\+08:00")
_SPACE: Final = Markup("<p></p>\n")


@dataclass(frozen=True, slots=True)
class Frame:
    """What is the same for all recordings of a kit: `given` are rows for the head of both papers."""

    at: datetime
    given: Sequence[tuple[object, object]]
    foot: str


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A recording with everything that is said of it on paper."""

    item: Item
    record: Json
    given: Given
    checks: Sequence[Check]
    told: Sequence[Told]

    @property
    def name(self) -> str:
        """The id of the recording."""
        return self.item.known.row.recording.recording_id


def note(frame: Frame, reviewed: Sequence[Reviewed]) -> str:
    """说明: who took the evidence, when and where; what nobody has said is left open, never made up."""
    parts = [facts([*frame.given, (both("依据", "by"), _NOTE_CITATION)])]
    for one in reviewed:
        parts += [_title(one), facts(_note_rows(one))]
    parts.append(_SPACE)
    parts.append(
        facts(
            [
                (both("经办人（签名）", "signature"), Markup("&nbsp;<br>&nbsp;")),
                (both("日期", "date"), ""),
                (both("单位（盖章）", "seal of the office"), Markup("&nbsp;<br>&nbsp;")),
            ]
        )
    )
    return page("音像记录附卷说明", "Note to recordings", joined(parts), foot=frame.foot, made_at=frame.at.isoformat())


def report(frame: Frame, reviewed: Sequence[Reviewed]) -> str:
    """核验报告: what was compared for each recording, and what came out; no opinion of law."""
    rows = [(one.item.number, _name(one), *(word_of(check.holds)[0] for check in one.checks)) for one in reviewed]
    widths = ("6%", "28%", *("5.5%" for _ in _HEADS))
    parts = [
        _verdict(reviewed),
        facts(frame.given),
        Markup(f"<h2>{both('一览', 'Overview')}</h2>"),
        table((both("号", "no."), both("文件", "file"), *_HEADS), rows, widths),
        _legend(),
    ]
    for one in reviewed:
        parts += [_title(one), facts(_item_rows(one)), _checks(one.checks), _events(one)]
    return page("核验报告", "Verification report", joined(parts), foot=frame.foot, made_at=frame.at.isoformat())


def _verdict(reviewed: Sequence[Reviewed]) -> Markup:
    """Proofs first; what was recorded and said of it is another matter."""
    count = len(reviewed)
    unproved = _numbers(reviewed, slice(PROOFS))
    lacking = _numbers(reviewed, slice(PROOFS, None))
    zh, en = (
        f"共 {count} 份记录，原始性证明全部成立",
        f"{count} recordings, and all proofs that they are the originals hold",
    )
    if unproved:
        zh = f"共 {count} 份记录，第 {unproved} 号的原始性证明有不成立项"
        en = f"{count} recordings; proofs that they are the originals fail for no. {unproved}"
    if lacking:
        zh += f"；第 {lacking} 号的其他核验项有不成立项"
        en += f"; something else that was checked does not hold for no. {lacking}"
    return filled('<p class="verdict">{text}</p>\n', text=both(f"{zh}。", f"{en}."))


def _numbers(reviewed: Sequence[Reviewed], checks: slice) -> str:
    wrong = (one for one in reviewed if any(check.holds is False for check in one.checks[checks]))
    return "、".join(str(one.item.number) for one in wrong)


def _legend() -> Markup:
    return filled(
        "<p>{words}</p>\n",
        words=both(
            "是：经核验成立。否：经核验不成立。—：不适用，或无法核验，原因见各记录。"
            "本报告仅陈述核验所得的事实，不是对证据资格、证明力或执法行为合法性的意见。",
            "是 yes: it was checked and holds. 否 no: it does not. —: does not apply, or can't be told; see below."
            " This report tells facts that were found. It is no opinion on admissibility, weight or legality.",
        ),
    )


def _title(one: Reviewed) -> Markup:
    return filled("<h2>{number}. {name}</h2>\n", number=one.item.number, name=_name(one))


def _name(one: Reviewed) -> str:
    clip = one.item.known.row.clip
    return clip.path.rpartition("/")[2] if clip else one.item.known.row.recording.recording_id


def _note_rows(one: Reviewed) -> list[tuple[object, object]]:
    record = one.record
    return [
        (both("取证人员（制作人）", "taken by"), _said(record, "makers")),
        (both("取证时间（制作时间）", "when"), _made(record)),
        (both("取证地点", "where"), _said(record, "place_text")),
        (both("制作方法", "how it was made"), _said(record, "method", "method_text")),
        (both("证明对象", "what it proves"), _said(record, "proof_object")),
        (both("案件编号/文号", "case"), _said(record, "case_no")),
        (both("原始载体", "original carrier"), _said(record, "original_carrier")),
        (both("采集时间", "pulled"), _said(record, "ingest_start_at")),
        (both("SHA-256", "of the original"), digest(_sha256(one))),
    ]


def _item_rows(one: Reviewed) -> list[tuple[object, object]]:
    record, asset = one.record, one.item.original.asset
    return [
        (both("记录编号", "id of the recording"), digest(asset.recording_id)),
        (both("包内文件", "file in the bag"), digest(one.given.names.get(asset.asset_id, "—"))),
        (both("设备", "recorder"), _said(record, "device")),
        (both("制作时间", "made"), _made(record)),
        (both("制作人", "makers"), _said(record, "makers")),
        (both("证明对象", "what it proves"), _said(record, "proof_object")),
        (both("本地入库", "secured locally"), _said(record, "secured_local_at")),
        (both("中心接收", "accepted centrally"), _said(record, "accepted_central_at")),
        (both("可信时间戳", "time stamp (RFC 3161)"), _stamped(record)),
        (both("SHA-256", "of the original"), digest(_sha256(one))),
        (both("BLAKE3", "of the original"), digest(asset.digests.blake3 if asset.digests else "—")),
        *((both("提示", "hint"), both(f"{hint['field']}：{hint['zh']}", hint["en"])) for hint in record["warnings"]),
    ]


def _stamped(record: Json) -> str:
    """What an authority said of the newest manifest; the token is in the bag, and was verified when it came."""
    stamp = (record["manifest"] or {}).get("stamped")
    return f"{_shown(stamp['at'])} {stamp['authority']}" if stamp else "—"


def _sha256(one: Reviewed) -> str:
    digests = one.item.original.asset.digests
    return digests.sha256 if digests else "—"


def _made(record: Json) -> object:
    start, end = said_of(record, "made_start_at"), said_of(record, "made_end_at")
    if end is None:
        between = [_shown(one) if one else "？" for one in said_of(record, "made_between") or ("", "")]
        zh = f"完成于 {between[0]} 至 {between[1]} 之间，时间待核"
        return both(zh, "completed between these, to be checked")
    return f"{_shown(start)} — {_shown(end)}" if start and start != end else _shown(end)


def _said(record: Json, *names: str) -> object:
    values = [_shown(value) for name in names if (value := said_of(record, name)) is not None]
    return "；".join(values) if values else _NOBODY


def _shown(value: object) -> str:
    """A value as a paper has it: words instead of codes, names with what stands behind them, times of China."""
    if isinstance(value, Mapping):
        parts = [str(value["zh"])] if "zh" in value else [_shown(one) for one in value.values() if isinstance(one, str)]
        return " ".join(filter(None, parts))
    if isinstance(value, list | tuple):
        return "；".join(map(_shown, value))
    return _TIME.sub(r"\1 \2", str(value))


def time_of(time: datetime) -> str:
    """A time of China, to the second."""
    return f"{time.astimezone(ZONE):%Y-%m-%d %H:%M:%S}"


def _checks(checks: Sequence[Check]) -> Markup:
    rows = [
        (both(one.zh, one.en), both(*word_of(one.holds)), both(_shown(one.told_zh), _shown(one.told_en)))
        for one in checks
    ]
    heads = (both("核验项", "checked"), both("结果", "holds"), both("所见", "what was found"))
    return joined((_SPACE, table(heads, rows, ("38%", "10%", "52%"))))


def _events(one: Reviewed) -> Markup:
    roles = {piece.asset.asset_id: piece.asset.role for piece in one.item.pieces}
    rows = []
    for told in one.told:
        role = roles.get(told.subject)
        meaning = meaning_of(told, role)
        zh, en = WORDS[Role][role] if role is not None and not isinstance(told.entry, DocumentAdded) else ("", "")
        shown = both(f"{zh}：{meaning.zh}" if zh else meaning.zh, f"{en}: {meaning.en}" if en else meaning.en)
        rows.append((told.seq, time_of(told.at), shown, detail_of(told)))
    heads = (both("序号", "no."), both("时间", "time"), both("流转记录", "event"), both("说明", "detail"))
    return joined((_SPACE, table(heads, rows, ("9%", "22%", "39%", "30%"))))
