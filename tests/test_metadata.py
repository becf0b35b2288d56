"""Promise: what an officer says is kept character by character, or refused in words that name the field; never bent."""

from __future__ import annotations

import json
import unicodedata
from datetime import date
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import RequestError
from agent.metadata import (
    FIELDS,
    after_probe,
    after_statement,
    completeness,
    default_method,
    is_certified,
    missing,
    read_form,
    so_far,
    warnings,
)
from agent.model import (
    ACT_TYPES,
    CARRIERS,
    EVIDENCE_CLASSES,
    KEY_CONTENTS,
    LATE_CAUSES,
    METHODS,
    RETENTIONS,
    SENSITIVITIES,
    STAGES,
    ClockTrust,
    Codes,
    Completeness,
    Forms,
    Item,
    Medium,
    Missing,
    Officer,
    RecorderKind,
)

ZHANG = Officer("A-17", "张三", "37080012345", date(2024, 3, 1), date(2029, 2, 28), "基金监管科")
LI = Officer("A-18", "李四")
FORMS = Forms(
    stages=("S03", "S05", "S09"),
    case_no=r"鲁医保案〔20[0-9]{2}〕[0-9]{1,4}号",
    officers={one.officer_id: one for one in (ZHANG, LI)},
    items={"XC-01": Item("XC-01", "定点药店现场检查", "S03")},
)
DAY = date(2026, 11, 20)
PROOF = "证明药店未按处方销售药品"
WHOLE = {"method": "body_camera", "makers": ["张三/1", "李四/2"], "proof_object": PROOF}


def refused(given: dict[str, Any], forms: Forms = FORMS) -> list[str]:
    with pytest.raises(RequestError) as caught:
        read_form(given, forms)
    assert caught.value.safe == "\nNothing was changed."
    assert "metadata fields" in caught.value.do
    return caught.value.what.splitlines()


def kept(name: str, value: object, forms: Forms = FORMS) -> object:
    return read_form({name: value}, forms)[name]


# What is taken, and how it is kept.


@pytest.mark.parametrize(
    ("name", "value", "is_kept_as"),
    [
        ("act_type", "检查", "inspection"),
        ("act_type", "inspection", "inspection"),
        ("stage", " 现场检查 ", "S03"),
        ("item_list_code", "XC-01", "XC-01"),
        ("case_no", "鲁医保案〔2026〕17号", "鲁医保案〔2026〕17号"),
        ("document_refs", "现场检查笔录/2026-17", [{"name": "现场检查笔录", "number": "2026-17"}]),
        ("method", "执法记录仪摄录", "body_camera"),
        ("makers", ["王五/9/记", {"name": "赵"}], [{"name": "王五", "cert_no": "9", "role": "记"}, {"name": "赵"}]),
        ("makers", "@A-17", [{"name": "张三", "cert_no": "37080012345", "officer": "A-17"}]),
        ("makers", {"officer": "A-18", "role": "主办"}, [{"name": "李四", "officer": "A-18", "role": "主办"}]),
        ("proof_object", f"\u3000{PROOF} \n", PROOF),
        ("proof_object", "يۇرۇشنىڭ ئىسپاتى", "يۇرۇشنىڭ ئىسپاتى"),
        ("place_region", "370831", "370831"),
        ("persons_present", ["店长/周某", "见证人"], [{"role": "店长", "name": "周某"}, {"role": "见证人"}]),
        ("key_contents", ["scene", "现场送达行政执法文书的情况"], ["scene", "service"]),
        ("voice_statement_given", "yes/1:15", {"given": "yes", "offset_s": 75}),
        ("voice_statement_given", {"given": "否"}, {"given": "no"}),
        ("recording_notice_given", "yes/1:00:01", {"given": "yes", "offset_s": 3601}),
        ("mark", "important/争议较大", {"mark": "important", "reason": "争议较大"}),
        ("sensitivity", "商业秘密", "business_secret"),
        ("retention_class", "years/30", {"kind": "years", "years": 30}),
        ("retention_class", "同案卷", {"kind": "same_as_case"}),
        ("late", {"code": "LATE-98", "text": "停电"}, {"code": "LATE-98", "text": "停电"}),
        ("original_carrier", "sealed/封-017", {"kept": "sealed", "reference": "封-017"}),
        ("proof_object", None, None),
    ],
)  # fmt: skip
def test_what_is_said_is_kept_in_one_form(name: str, value: object, is_kept_as: object) -> None:
    assert kept(name, value) == is_kept_as


@pytest.mark.parametrize(
    ("name", "value", "where", "zh", "en"),
    [
        ("proof_object", "", "proof_object 证明对象", "不能为空或“无”", "not nothing; leave it out"),
        ("proof_object", " 无 ", "proof_object", "不能为空或“无”", "not nothing"),
        ("proof_object", "无无无无无无", "proof_object", "不能为空或“无”", "not nothing"),
        ("proof_object", "-----。。", "proof_object", "不能为空或“无”", "not nothing"),
        ("proof_object", "证明它", "proof_object", "至少 5 个字符，现为 3 个", "at least 5 characters; it has 3"),
        ("proof_object", "证" * 501, "proof_object", "最多 500 个字符，现为 501 个", "at most 500 char"),
        ("proof_object", "证" * 100_000, "proof_object", "太长：100000 个字符", "is too long: 100000 characters"),
        ("proof_object", "证明第一行\n第二行", "proof_object", "第 6 个字符 U+000A 是控制字符或换行", "(U+000A)"),
        ("proof_object", f"{PROOF}\x00{PROOF}", "proof_object", "控制字符", "a control character"),
        ("proof_object", f"{PROOF}\u202e{PROOF}", "proof_object", "U+202E", "invisible control, such"),
        ("proof_object", f"{PROOF}\u2066{PROOF}", "proof_object", "U+2066", "invisible control"),
        ("proof_object", f"{PROOF}\u200b{PROOF}", "proof_object", "U+200B", "invisible control"),
        ("proof_object", f"{PROOF}\udc00", "proof_object", "不完整的字符", "half a character"),
        ("proof_object", f"{PROOF}\ue000", "proof_object", "自造字", "private-use"),
        ("proof_object", f"{PROOF}\u2028{PROOF}", "proof_object", "换行符", "line separator"),
        ("proof_object", 5, "proof_object", "须为文字", "must be text"),
        ("proof_object", [PROOF], "proof_object", "须为文字", "must be text"),
        ("stage", "S08", "stage 执法环节", "本单位没有这个环节，可选：S03", "is no stage of"),
        ("stage", "S98", "stage", "没有这个代码", "is no code"),
        ("act_type", ["inspection"], "act_type", "须为代码", "must be a code"),
        ("item_list_code", "XC-02", "item_list_code", "不在本单位音像记录事项清单", "XC"),
        ("case_no", "17", "case_no", "不符合本单位案号格式", "leave it out"),
        ("place_region", "37083", "place_region", "须为六位行政区划代码", "six digits"),
        ("makers", "@A-99", "makers[1].officer 制作人", "名册（roster.toml）中没有此编号", "nobody"),
        ("makers", [{"officer": "A-17", "name": "王五"}], "makers[1].name", "与名册不一致", "roster says"),
        ("makers", [{"role": "记录人"}], "makers[1].name", "请填写姓名", "is missing"),
        ("makers", [], "makers", "须为 1 至 20 项，现为 0 项", "must be 1 to 20 entries; there are 0"),
        ("makers", ["王五", "王五"], "makers[2]", "重复", "is there twice"),
        ("makers", ["王五", {"name": "李\u202d四"}], "makers[2].name", "U+202D", "invisible control"),
        ("makers", [{"name": "王五", "rank": "x"}], "makers[1].rank", "没有这一项", "is no part of it"),
        ("makers", 5, "makers[1]", "须为表或 name/cert_no/role/officer", "must be a table"),
        ("persons_present", ["见证人"] * 51, "persons_present", "现为 51 项", "there are 51"),
        ("key_contents", ["scene", "环境"], "key_contents[2]", "没有这个代码", "is no code"),
        ("voice_statement_given", "yes/1:75", "voice_statement_given.offset_s", "须为秒数", "seconds"),
        ("voice_statement_given", {"offset_s": 5}, "voice_statement_given.given", "不可缺少", "missing"),
        ("voice_statement_given", {"given": "yes", "offset_s": True}, "voice_statement_given.offset_s", "秒", ""),
        ("mark", "important", "mark.reason 重点标记", "标为重点须写明原因", "why it is important"),
        ("retention_class", "years", "retention_class.years", "须写明年数", "for how many years"),
        ("retention_class", "years/0", "retention_class.years", "1 至 100", "from 1 to 100"),
        ("late", "LATE-98", "late.text 逾期说明", "须写明原因", "needs its words"),
        ("late", "LATE-99", "late.code", "没有这个代码", "is no code"),
        ("original_carrier", "released", "original_carrier.reference", "批准号", "seal or approval"),
        ("proof", PROOF, "proof", "没有这个字段，是否为 proof_object？", "did you mean proof_object?"),
        ("\u202ename\x00", PROOF, "\\u202ename\\x00", "没有这个字段", "there is no such field"),
        ("made_end_at", "2026", "made_end_at", "用 capture-agent deadline state", "is stated with"),
        ("digests", "x", "digests", "由系统自动记录", "is recorded by the agent"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_field_in_both_languages(
    name: str, value: object, where: str, zh: str, en: str
) -> None:
    (line,) = refused({name: value})
    chinese, english = line.split(" / ")
    assert line.startswith(where)
    assert zh in chinese
    assert en in english


@pytest.mark.parametrize("said", ["国家秘密", "涉密", "秘密", "机密", "绝密级", "state_secret", "State Secret"])
def test_a_state_secret_can_t_be_chosen_and_the_answer_says_why_and_what_to_do(said: str) -> None:
    (line,) = refused({"sensitivity": said})
    assert line.startswith("sensitivity 敏感级别：不能选择国家秘密：涉密资料不得进入本系统")
    assert "改用涉密专用渠道" in line
    assert "use the classified channel" in line
    assert "国家秘密" not in {code.zh for code in SENSITIVITIES.values()}


def test_all_problems_are_told_at_once_and_nothing_of_what_was_written() -> None:
    secret = "张三不得外传"
    lines = refused(
        {"proof_object": f"{secret}\x07", "stage": secret, "makers": [f"{secret}\u202e", "@A-99"], "zz": secret}
    )
    assert [line.split("：")[0] for line in lines] == [
        "proof_object 证明对象", "stage 执法环节", "makers[1].name 制作人", "makers[2].officer 制作人", "zz",
    ]  # fmt: skip
    assert secret not in "".join(lines)


def test_an_empty_form_says_nothing() -> None:
    assert refused({}) == ["没有填写任何字段 / no field is given"]


def test_without_lists_of_the_bureau_every_stage_and_any_case_number_may_be_said() -> None:
    assert {kept("stage", code, Forms()) for code in STAGES} == set(STAGES)
    assert kept("case_no", "示医保案〔2026〕1号", Forms()) == "示医保案〔2026〕1号"
    assert "roster" in refused({"makers": "@A-17"}, Forms())[0]
    assert refused({"item_list_code": "XC-01"}, Forms())[0].endswith("there are: none")


def test_the_same_characters_written_in_two_ways_are_kept_as_one() -> None:
    """Normal form C: nobody can see the difference, so no two statements may differ by it. Wide stays wide."""
    assert kept("place_text", "Cafe\u0301") == kept("place_text", "Caf\u00e9") == "Caf\u00e9"
    assert kept("place_text", "１２号Ａ座") == "１２号Ａ座"


# Any text.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def is_told(error: RequestError, name: str) -> None:
    assert all(line.startswith(name) and " / " in line for line in error.what.splitlines())
    error.what.encode()  # what a person is told can always be shown


@given(st.text(st.characters(), max_size=600))
@example("a\u0300" * 400)
@example("\ufffe\uffff证明一二三")
@example("\U0002ebf0证明人名生僻字")  # newer than this Python's tables: a name, not a control
def test_any_text_is_kept_and_comes_back_from_json_or_is_refused_by_name(text: str) -> None:
    try:
        said = kept("proof_object", text)
    except RequestError as error:
        is_told(error, "proof_object 证明对象：")
        return
    assert isinstance(said, str)
    assert said == unicodedata.normalize("NFC", text.strip()).strip()
    assert 5 <= len(said) <= 500
    assert not {unicodedata.category(c) for c in said} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert json.loads(json.dumps(said)) == said
    assert kept("proof_object", said) == said


@given(st.sampled_from(sorted(FIELDS)), JSON)
def test_any_value_of_any_field_is_refused_in_words_or_reads_the_same_again(name: str, value: object) -> None:
    try:
        said = read_form({name: value}, FORMS)
    except RequestError as error:
        is_told(error, name)
        return
    assert read_form(json.loads(json.dumps(said)), FORMS) == said


@pytest.mark.parametrize("mark", [c for c in map(chr, range(0x110000)) if unicodedata.bidirectional(c) in {
    "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
}])  # fmt: skip
def test_no_control_of_writing_direction_is_ever_kept(mark: str) -> None:
    assert f"U+{ord(mark):04X}" in refused({"place_text": f"济宁市{mark}任城区"})[0]


# Codes.


@pytest.mark.parametrize(
    "codes",
    [ACT_TYPES, STAGES, METHODS, KEY_CONTENTS, SENSITIVITIES, RETENTIONS, CARRIERS, EVIDENCE_CLASSES, LATE_CAUSES],
)
def test_every_code_has_words_of_its_own_in_both_languages(codes: Codes) -> None:
    assert all(code.zh and code.en.isascii() for code in codes.values())
    assert len({code.zh for code in codes.values()}) == len(codes)


def test_the_codes_are_those_of_the_schema() -> None:
    assert list(STAGES) == [f"S{number:02}" for number in range(1, 21)] + ["S99"]
    assert len(KEY_CONTENTS) == 6
    assert [code.zh for code in METHODS.values()] == ["现场录像", "执法记录仪摄录", "固定摄像", "录音", "拍照", "复制"]
    assert all("第十二条" in code.citation for code in KEY_CONTENTS.values())


def test_every_field_says_what_it_takes() -> None:
    for field in FIELDS.values():
        assert field.zh, field.name
        assert field.en.isascii(), field.name
        assert field.kind.zh, field.name
        assert field.kind.en.isascii(), field.name


# Completeness.

ALL = frozenset({Missing.METHOD, Missing.MAKERS, Missing.PROOF_OBJECT})


@pytest.mark.parametrize(
    ("medium", "trust", "fields", "has_transcript", "lacks"),
    [
        (Medium.VIDEO, ClockTrust.UNMEASURED, {}, False, ALL),
        (Medium.VIDEO, ClockTrust.UNTRUSTED, {}, False, ALL | {Missing.MADE_AT}),
        (Medium.VIDEO, ClockTrust.STATED, WHOLE, False, frozenset()),
        (Medium.VIDEO, ClockTrust.UNMEASURED, WHOLE | {"proof_object": None}, False, {Missing.PROOF_OBJECT}),
        (Medium.PHOTO, ClockTrust.UNMEASURED, WHOLE, False, frozenset()),
        (Medium.OTHER, ClockTrust.UNMEASURED, WHOLE, False, frozenset()),
        (Medium.AUDIO, ClockTrust.UNMEASURED, WHOLE, False, {Missing.TRANSCRIPT}),
        (Medium.AUDIO, ClockTrust.UNMEASURED, WHOLE, True, frozenset()),
    ],
)
def test_what_article_20_wants_and_a_recording_lacks(
    medium: Medium, trust: ClockTrust, fields: dict[str, object], has_transcript: bool, lacks: frozenset[Missing]
) -> None:
    found = missing(medium, trust, fields, has_transcript=has_transcript)
    assert found == lacks
    assert completeness(found, checked=False) is (Completeness.INCOMPLETE if lacks else Completeness.FILLED)
    assert completeness(found, checked=True) is (Completeness.INCOMPLETE if lacks else Completeness.CHECKED)


CHANGES = st.lists(
    st.dictionaries(st.sampled_from([*WHOLE, "stage"]), st.none() | st.just("x"), min_size=1, max_size=3), max_size=6
)


@given(CHANGES, st.sampled_from(Medium), st.sampled_from(Medium), st.sampled_from(ClockTrust), st.booleans())
def test_counting_step_by_step_gives_what_counting_from_the_start_does(
    changes: list[dict[str, object]], before: Medium, after: Medium, trust: ClockTrust, has_transcript: bool
) -> None:
    lacks = missing(before, ClockTrust.UNMEASURED, {}, has_transcript=False)
    for change in changes:
        lacks = after_statement(lacks, change)
    lacks = after_probe(lacks, after, trust, has_transcript=has_transcript)
    assert lacks == missing(after, trust, so_far(changes), has_transcript=has_transcript)


def test_the_last_word_counts_and_none_withdraws() -> None:
    assert so_far([{"stage": "S03", "method": "photo"}, {"stage": "S05"}, {"method": None}]) == {"stage": "S05"}


# What goes with a statement.


@pytest.mark.parametrize(
    ("kind", "medium", "method"),
    [
        (RecorderKind.BODY_CAMERA, Medium.VIDEO, "body_camera"),
        (RecorderKind.VOICE_RECORDER, Medium.AUDIO, "audio"),
        (RecorderKind.CAMERA, Medium.PHOTO, "photo"),
        (RecorderKind.CAMERA, Medium.VIDEO, "site_video"),
        (RecorderKind.VOICE_RECORDER, Medium.VIDEO, None),
        (RecorderKind.BODY_CAMERA, Medium.OTHER, None),
        (None, Medium.VIDEO, None),
    ],
)
def test_the_method_follows_from_a_recorder_of_the_inventory_and_is_never_guessed(
    kind: RecorderKind | None, medium: Medium, method: str | None
) -> None:
    assert default_method(kind, medium) == method
    assert method is None or method in METHODS


def told(fields: dict[str, Any], day: date = DAY, forms: Forms = FORMS) -> list[tuple[str, str]]:
    said = read_form(fields, forms)
    return [(problem.field, problem.zh) for problem in warnings(said, day, forms)]


@pytest.mark.parametrize(
    ("maker", "day", "doubt"),
    [
        ("@A-17", DAY, ""),
        ("张三/37080012345", DAY, ""),
        ("@A-17", date(2024, 3, 1), ""),
        ("@A-17", date(2029, 2, 28), ""),
        ("@A-17", date(2024, 2, 29), "录制当日尚未生效"),
        ("@A-17", date(2029, 3, 1), "录制当日已过有效期"),
        ("@A-18", DAY, "名册中没有证号"),
        ("王五/99", DAY, "名册中没有此人"),
        ("张三/00000000000", DAY, "名册中没有此人"),
    ],
)
def test_a_certificate_that_is_missing_or_not_valid_on_the_day_warns_and_hinders_nothing(
    maker: str, day: date, doubt: str
) -> None:
    expected = [("makers[1]", f"执法证待核：{doubt}")] if doubt else []
    assert told({"makers": maker, "stage": "S05"}, day)[1:] == expected
    (one,) = read_form({"makers": maker}, FORMS)["makers"]  # type: ignore[misc]
    valid = {"": True, "录制当日尚未生效": False, "录制当日已过有效期": False}.get(doubt)
    assert is_certified(one, day, FORMS) is valid


def test_an_empty_roster_is_legal_and_says_that_certificates_are_to_be_checked() -> None:
    assert told({"makers": ["张三/1", "李四"]}, forms=Forms()) == [
        ("makers[1]", "执法证待核：名册中没有此人"), ("makers[2]", "执法证待核：名册中没有此人"),
    ]  # fmt: skip


@pytest.mark.parametrize("what", [{"stage": "S03"}, {"stage": "S05"}, {"stage": "S09"}, {"act_type": "检查"}])
def test_one_officer_where_the_law_wants_two_warns(what: dict[str, str]) -> None:
    zh = "检查、询问、封存应当有两名以上执法人员，现只有一名"
    assert ("makers", zh) in told(what | {"makers": "@A-17"})
    assert ("makers", zh) not in told(what | {"makers": ["@A-17", "@A-18"]})
    assert ("makers", zh) not in told({"act_type": "给付", "makers": "@A-17"})
    assert told(what) == []


def test_service_by_leaving_wants_place_and_persons() -> None:
    assert [field for field, _ in told({"stage": "S16"}, forms=Forms())] == ["place_text", "persons_present"]
    assert told({"stage": "S16", "place_text": "住所", "persons_present": "见证人"}, forms=Forms()) == []
