"""The fields that an officer may say of a recording: what each takes, its words, and the article that asks for it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from agent.metadata.kinds import (
    Kind,
    Problem,
    Then,
    choice,
    further,
    many,
    matching,
    number,
    offset,
    record,
    text,
    unfit,
)
from agent.model import (
    ACT_TYPES,
    ANSWERS,
    CARRIERS,
    EVIDENCE_CLASSES,
    KEY_CONTENTS,
    LATE_CAUSES,
    MARKS,
    METHODS,
    NANCHANG_RECORD,
    RETENTIONS,
    SENSITIVITIES,
    SHANDONG_RECORD,
    STAGES,
    STATE_SECRETS,
    Forms,
)

SCHEMA_VERSION: Final = "1"
"""Of the fields below; another one only if a field changes its meaning."""

_SD2: Final = f"{SHANDONG_RECORD}第二条、第二十五条"
_SD12: Final = f"{SHANDONG_RECORD}第十二条"
_SD20: Final = f"{SHANDONG_RECORD}第二十条"
_SD23: Final = f"{SHANDONG_RECORD}第二十三条"
_NC16: Final = f"{NANCHANG_RECORD}第十六条"
_NC17: Final = f"{NANCHANG_RECORD}第十七条"
_NC18: Final = f"{NANCHANG_RECORD}第十八条第二款"
_NC20: Final = f"{NANCHANG_RECORD}第二十条"
_NC22: Final = f"{NANCHANG_RECORD}第二十二条第二款"
_NC23: Final = f"{NANCHANG_RECORD}第二十三条"
_COURT12: Final = "最高人民法院关于行政诉讼证据若干问题的规定 第十二条第（一）项"
_FEWEST_LETTERS: Final = 3


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form."""

    name: str
    zh: str
    en: str
    kind: Kind
    citation: str = ""


def _says_something(line: str, _: Forms) -> Problem | None:
    """The word 无 five times, or a row of dashes, proves nothing."""
    letters = {character for character in line if unicodedata.category(character)[0] in "LN"}
    if len(letters) >= _FEWEST_LETTERS:
        return None
    zh = "须写明这份记录证明什么，不能为空或“无”；现在不知道就先不填，状态为待补充，不影响入库"
    return Problem("", zh, "must say what the recording proves, not nothing; leave it out as long as you don't know")


def _of_profile(name: str, forms: Forms) -> Problem | None:
    if not forms.stages or name in forms.stages or name not in STAGES:
        return None
    zh = "、".join(f"{code} {STAGES[code].zh}" for code in forms.stages)
    return Problem(
        "", f"本单位没有这个环节，可选：{zh}", f"is no stage of this profile; choose of {', '.join(forms.stages)}"
    )


def _of_pattern(line: str, forms: Forms) -> Problem | None:
    if not forms.case_no or re.fullmatch(forms.case_no, line):
        return None
    zh = f"不符合本单位案号格式 {forms.case_no}；尚无案号请留空（待关联）"
    return Problem("", zh, f"isn't a case number like {forms.case_no}; leave it out while there is none")


def _of_items(line: str, forms: Forms) -> Problem | None:
    if line in forms.items:
        return None
    known = ", ".join(sorted(forms.items)[:20]) or "none"
    zh = f"不在本单位音像记录事项清单（items.toml）中；现有：{known}"
    return Problem("", zh, f"is not in the bureau's list of recorded items (items.toml); there are: {known}")


def _no_state_secret(name: str, _: Forms) -> Problem | None:
    if name != "秘密" and not any(word in name.lower() for word in STATE_SECRETS):
        return None
    zh = "不能选择国家秘密：涉密资料不得进入本系统。请立即停止操作，联系保密部门，改用涉密专用渠道处理"
    en = "state secrets can't be chosen: such material must not pass this system. Stop here, tell your secrecy officer,"
    return Problem("", zh, f"{en} and use the classified channel")


def _on_roster(found: dict[str, object], forms: Forms) -> dict[str, object]:
    """A maker by roster id ("@zhang", or `officer`) gets name and certificate of the roster, as they are now."""
    name = str(found.get("name", ""))
    officer_id = str(found.get("officer", "")) or (name[1:] if name.startswith("@") else "")
    if not officer_id:
        if not name:
            raise unfit("请填写姓名，或用 @编号 从名册选择", "is missing; write the name, or @id of the roster", "name")
        return found
    officer = forms.officers.get(officer_id)
    if officer is None:
        raise unfit("名册（roster.toml）中没有此编号", "the roster (roster.toml) has nobody of this id", "officer")
    known = {part: value for part, value in (("name", officer.name), ("cert_no", officer.cert_no)) if value}
    for part, value in known.items():
        if found.get(part, value) not in {value, f"@{officer_id}"}:
            raise unfit("与名册不一致，请更正其中之一", "is not what the roster says; correct one of them", part)
    return found | known | {"officer": officer_id}


def _needs(part: str, code: str, values: str, zh: str, en: str) -> Then:
    """A check that a `part` is there if the `code` is one of the values."""

    def then(found: dict[str, object], _: Forms) -> dict[str, object]:
        if found.get(code) in values.split() and part not in found:
            raise unfit(zh, en, part)
        return found

    return then


_ROSTER_ID: Final = matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "名册编号", "an id of the roster")
_MAKER: Final = further(
    record((), name=text(1, 40), cert_no=text(1, 40), role=text(1, 20), officer=_ROSTER_ID), _on_roster
)
_DOCUMENT: Final = record(("name",), name=text(1, 100), number=text(1, 64))
_PERSON: Final = record(("role",), role=text(1, 40), name=text(1, 40))
_REGION: Final = matching("[1-9][0-9]{5}", "六位行政区划代码", "a code of six digits (GB/T 2260)")
_TICK: Final = record(("given",), given=choice(ANSWERS), offset_s=offset())
_MARK: Final = further(
    record(("mark",), mark=choice(MARKS), reason=text(1, 200)),
    _needs("reason", "mark", "important", "标为重点须写明原因", "is missing: why it is important"),
)
_RETENTION: Final = further(
    record(("kind",), kind=choice(RETENTIONS), years=number(1, 100, "年数", "years")),
    _needs("years", "kind", "years", "须写明年数", "is missing: for how many years"),
)
_LATE: Final = further(
    record(("code",), code=choice(LATE_CAUSES), text=text(1, 500), approved_by=text(1, 40)),
    _needs("text", "code", "LATE-98", "“其他”须写明原因", "is missing: another cause needs its words"),
)
_CARRIER: Final = further(
    record(("kept",), kept=choice(CARRIERS), reference=text(1, 64)),
    _needs(
        "reference", "kept", "sealed released", "须写明封存编号或批准号", "is missing: number of the seal or approval"
    ),
)

FIELDS: Final[Mapping[str, Field]] = MappingProxyType({
    field.name: field
    for field in (
        Field("act_type", "执法类别", "kind of act", choice(ACT_TYPES), _SD2),
        Field("stage", "执法环节", "stage", choice(STAGES, _of_profile), _NC16),
        Field("item_list_code", "音像记录事项编码", "recorded item", text(1, 64, _of_items), _NC16),
        Field("case_no", "案件编号/文号", "case number", text(1, 64, _of_pattern), f"{SHANDONG_RECORD}第二十二条"),
        Field("evidence_class", "证据种类", "kind of evidence", choice(EVIDENCE_CLASSES), "行政处罚法 第四十六条"),
        Field("document_refs", "关联文书", "documents", many(_DOCUMENT, 20)),
        Field("method", "制作方法", "method", choice(METHODS), _SD20),
        Field("method_text", "制作方法说明", "method, in words", text(1, 200), _SD20),
        Field("makers", "制作人", "makers", many(_MAKER, 20), f"{_SD20}；医疗保障基金使用监督管理条例 第二十九条"),
        Field("proof_object", "证明对象", "what it proves", text(5, 500, _says_something), _SD20),
        Field("place_text", "地点", "place", text(1, 200), _NC23),
        Field("place_region", "行政区划代码", "region code", _REGION, _NC23),
        Field("persons_present", "在场人员", "persons present", many(_PERSON, 50), f"{_SD12}、第十六条第（三）项"),
        Field("speakers", "讲话人", "speakers", many(text(1, 40), 50)),
        Field("key_contents", "重点记录内容", "key contents", many(choice(KEY_CONTENTS), 6), f"{_SD12}；{_NC17}"),
        Field("voice_statement_given", "语音说明", "spoken preamble", _TICK, _NC18),
        Field("recording_notice_given", "告知正在音像记录", "notice of recording", _TICK, _NC18),
        Field("mark", "重点标记", "mark", _MARK),
        Field("sensitivity", "敏感级别", "sensitivity", choice(SENSITIVITIES, _no_state_secret), _SD23),
        Field("retention_class", "保管期限", "retention", _RETENTION, _NC20),
        Field("late", "逾期说明", "explanation of lateness", _LATE, _NC22),
        Field("original_carrier", "原始载体处置", "original carrier", _CARRIER, _COURT12),
    )
})  # fmt: skip
"""By name, in the order of the form."""
