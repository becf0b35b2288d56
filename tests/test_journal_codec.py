"""The form of the log: it never changes unnoticed, says everything, and anybody can recompute the chain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import JournalError
from agent.journal.codec import FIRST_LINK, Encoded, decode, encode, from_text, leaf, link, to_text
from agent.journal.ids import device_id, new_id
from agent.model import (
    AccountChanged,
    ActivityEnded,
    Adopted,
    AssetChanged,
    AssetEvent,
    Basis,
    Blocked,
    Checked,
    CheckpointCosigned,
    CheckpointSigned,
    CheckpointStored,
    CheckpointWitnessed,
    Clearing,
    ClipAccounted,
    ClipRefused,
    ClockStepped,
    CopyViewed,
    Damaged,
    DeadlineRecomputed,
    Declared,
    Derivation,
    DeriveAsked,
    Derived,
    DockingClosed,
    Encoding,
    EventDeclared,
    Explanation,
    Exported,
    Finding,
    FindingKind,
    FreeWhen,
    Frozen,
    GapConfirmed,
    GapExplained,
    Incident,
    JournalEntry,
    KeyRotated,
    Lost,
    Matched,
    MediaFinding,
    Mode,
    NoSpeechFound,
    Observed,
    Outcome,
    Receipt,
    ReceiptIssued,
    ReleaseAsked,
    ReleaseConfirmed,
    Released,
    Resumed,
    Role,
    Scrubbed,
    Sealing,
    SessionEnded,
    SessionNoted,
    SessionTested,
    SignedIn,
    SignedOut,
    SignInRefused,
    Stamping,
    Stated,
    Statement,
    Terms,
    TextForm,
    TimeStated,
    Transcript,
    TranscriptKind,
    Voice,
)
from tests.journal_entries import (
    DEVICE,
    NOW,
    acquired,
    activity,
    clip,
    confirmed,
    deadline,
    digests_of,
    document,
    held,
    issued,
    listed,
    opened,
    probed,
    receipt,
    recording,
    returned,
    seen,
    seen_again,
    segment_taken,
    session_started,
    wanted,
)

GOLDEN = Path(__file__).parent / "data" / "journal_format.jsonl"
ENTRIES: list[JournalEntry] = [
    opened(),
    seen("a"),
    seen_again("a"),
    ClipRefused("d1", clip(2), "a loop in the cluster chain"),
    ClipAccounted("d1", 1, Outcome.LEFT, Mode.PULL, "yanked"),
    Observed("d1", Finding("gap", {"after": 7, "before": 9})),
    listed(2),
    DockingClosed("d1", "complete"),
    acquired("a", holes=((512, 488),)),
    AssetChanged("a", Matched("b", digests_of("a")), "d1", 1, Outcome.ALREADY_HELD),
    confirmed("a"),
    AssetChanged("a", Released(receipt("a"))),
    AssetChanged("a", Blocked("the disk is full")),
    AssetChanged("a", Resumed("officer", "cleaned up")),
    AssetChanged("a", Damaged("a bit flipped", source_docked=True)),
    Adopted(recording("b"), wanted("b"), held("b")),
    Incident("not-sealed", {"asset": "a"}),
    AssetChanged("a", Lost("the store has other bytes")),
    TimeStated("a", Stated(NOW, "张三", "the clock was reset"), deadline(), deadline(40)),
    EventDeclared("a", Declared("return_to_unit", NOW, "LATE-02", "张三", "异地"), deadline(), deadline(60)),
    DeadlineRecomputed("a", deadline(), replace(deadline(24), calendar="ab" * 32)),
    issued(back_by=10),
    returned(docking="d1"),
    returned(unread=True),
    document("s", "a", "b"),
    document("t", "a", said=Transcript(TranscriptKind.MACHINE, "asr", NOW, "a.txt", "asr 1.0")),
    document("e", "a", said=Explanation("act1", "张三", NOW, "gap1", "INT-01", "避让")),
    NoSpeechFound("a", "asr 1.0"),
    document(
        "u",
        "a",
        said=Transcript(
            TranscriptKind.CHECKED,
            "李四",
            NOW,
            "a.srt",
            "asr 1.0",
            "cd" * 32,
            "核对",
            TextForm.SRT,
            Encoding.UTF_16,
            "zh-CN",
        ),
    ),
    document("e", "a", said=Explanation("act1", "张三", NOW, "gap1", "INT-01", "避让", False, Voice("rec-a", 2500))),
    activity(),
    activity(conditions=("直接涉及重大财产权益",), must_full=True),
    ActivityEnded("a", "act", NOW, deadline(), deadline(24)),
    GapExplained("act", 1, NOW, NOW + timedelta(minutes=5), "INT-03", "没电", "张三", "e", voice=Voice("rec-a", 2500)),
    GapExplained("act", 2, NOW, NOW + timedelta(minutes=5), "INT-99", "不明", "张三", "e", True, False),
    GapConfirmed("act", 1, "李四", "看过"),
    GapConfirmed("act", 2, "李四", "理由不足", accepted=False),
    probed("a"),
    document(
        "m", "a", "b", said=Statement("张三", "现场", NOW, {"method": "photo", "late": None}, (0, 3), ("method",), "1")
    ),
    Checked(("rec-a", "rec-b"), (1, 4), "李四", "已核对"),
    document("p", "a", said=Derivation(Role.ACCESS_COPY, "a", NOW, "ffmpeg 5.1.9", "ef" * 32, complete=False)),
    Derived(
        "a",
        (
            MediaFinding(FindingKind.BLACK, 2000, 4500),
            MediaFinding(FindingKind.ZEROS, offset_bytes=1 << 20, length_bytes=4096, detail="zero bytes"),
        ),
        2,
        "it can't be decoded",
    ),
    DeriveAsked("a", "李四", "新版工具"),
    ClockStepped(NOW, NOW + timedelta(days=1), 86_400_000, 3),
    document("l", "a", said=Sealing(2, 40, "ab" * 32)),
    document("z", "a", said=Stamping("l", NOW, "CN=tsa.example")),
    Scrubbed("a", "b", NOW, NOW, 2, 2000, 1, complete=True),
    CheckpointSigned(1, 3, "capture-agent/0123456789abcdef\n3\n"),
    CheckpointStored(1, receipt("a")),
    CheckpointCosigned(1, "— witness AAAA\n"),
    CheckpointWitnessed("capture-agent/neighbour", "capture-agent/neighbour\n3\n"),
    KeyRotated("ab" * 32, "cd" * 32, "capture-agent/key-rotation@1\n", "李四", "每年更换"),
    ReleaseAsked(Terms(FreeWhen.DONE, 180, (Role.MANIFEST,), True, 30, True, 100, 1), 3, 3000, 9, "张三", "磁盘将满"),
    ReleaseConfirmed(7, 2, "李四", "已核对"),
    Frozen("a", True, "王五", "审核"),
    ReceiptIssued("d1", 2, Clearing.CLEAR, "EXAMPLE DSJ-V8", 3, 3, 3, 1000, "ab" * 32, NOW, Basis.PROVISIONAL, "张三"),
    Exported("ab" * 32, "批〔2026〕7号", "李四", "移送", ("rec-a", "rec-b"), 12, 34567, ("rec-b",)),
    SignedIn("li.si", "officer", "pin", "127.0.0.1"),
    SignInRefused("li.si", "wrong", "192.0.2.7"),
    SignedOut("li.si"),
    AccountChanged("li.si", "added", "officer", "王五", "入职"),
    CopyViewed("a", "p", "chen", "复核"),
    session_started(),
    session_started(
        "s2",
        case_number="X-1",
        participants=("张三", "李四"),
        planned_start=NOW,
        planned_end=NOW + timedelta(hours=2),
        scheduled="uid-1",
    ),
    segment_taken("k"),
    replace(segment_taken("k"), camera_start=NOW, facts={"frames": 1500, "why": "length"}),
    SessionNoted("s1", "cam", "gap", NOW),
    SessionNoted("s1", "cam", "gap", NOW, NOW + timedelta(seconds=9), "stalled", {"detail": "no data"}),
    SessionTested("s1", "xunwen", NOW, True, {"disk": "ok"}, {"offset_ms": 3}),
    SessionEnded("s1", NOW, "张三", "结束", "stopped"),
]


def test_the_written_form_of_every_entry_is_the_released_one() -> None:
    """A changed default or a renamed field would change what old events mean; a new kind is appended to the file."""
    lines = [json.loads(line) for line in GOLDEN.read_text(encoding="ascii").splitlines()]
    for entry, (kind, subject, detail) in zip(ENTRIES, lines, strict=True):
        text = json.dumps(detail, sort_keys=True, separators=(",", ":"))
        assert encode(entry) == Encoded(kind, subject, text, entry)
        assert decode(kind, text) == entry


def test_the_golden_file_has_every_kind() -> None:
    assert {type(entry) for entry in ENTRIES} == set(get_args(JournalEntry))
    assert {type(entry.event) for entry in ENTRIES if isinstance(entry, AssetChanged)} == set(get_args(AssetEvent))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
FIRST, LAST = datetime(1980, 1, 1), datetime(2120, 1, 1)  # noqa: DTZ001  hypothesis adds the zone
PLAIN: dict[object, st.SearchStrategy[Any]] = {
    datetime: st.datetimes(FIRST, LAST, timezones=ZONES),
    Path: st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map(Path),
    str: st.text(st.characters(exclude_categories=[])),  # with lone surrogates, as broken names have
    Mapping[str, object]: st.dictionaries(st.text(), JSON, max_size=3),
    Mapping[str, str]: st.dictionaries(st.text(), st.text(), max_size=3),
    type(None): st.none(),
}


def values(hint: object) -> st.SearchStrategy[Any]:
    """Any value that a field with this annotation may have."""
    if hint in PLAIN:
        return PLAIN[hint]
    if get_origin(hint) is UnionType:
        return st.one_of([values(option) for option in get_args(hint)])
    if get_origin(hint) is tuple:
        first, last = get_args(hint)
        return st.lists(values(first), max_size=3).map(tuple) if last is ... else st.tuples(values(first), values(last))
    assert isinstance(hint, type)
    if is_dataclass(hint) or hasattr(hint, "_fields"):
        return st.builds(hint, **{name: values(part) for name, part in get_type_hints(hint).items()})
    return st.from_type(hint)


ANY_ENTRY = values(JournalEntry)


@settings(deadline=None)
@given(ANY_ENTRY)
def test_every_entry_comes_back_as_it_was_recorded(entry: JournalEntry) -> None:
    encoded = encode(entry)
    assert encoded.detail.isascii()
    assert "\n" not in encoded.detail
    assert decode(encoded.kind, encoded.detail) == entry
    assert encode(decode(encoded.kind, encoded.detail)).detail == encoded.detail


@settings(deadline=None)
@given(ANY_ENTRY)
def test_the_written_form_is_canonical(entry: JournalEntry) -> None:
    detail = encode(entry).detail
    assert json.dumps(json.loads(detail), sort_keys=True, separators=(",", ":")) == detail


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("nonsense", "{}"),
        ("incident", "{}"),
        ("incident", '{"kind":"x","more":1}'),
        ("incident", '{"kind":1}'),
        ("incident", '["kind"]'),
        ("incident", "not json"),
        ("incident", "[" * 100_000),
        ("clip_accounted", '{"docking_id":"d","mode":"pull","number":1,"outcome":"lost"}'),
        ("clip_accounted", '{"docking_id":"d","mode":"pull","number":true,"outcome":"left"}'),
        ("blocked", '{"asset_id":"a","event":{"resumed":{"who":"o","why":"w"}}}'),
        ("blocked", '{"asset_id":"a","event":{"erased":{}}}'),
        ("blocked", '{"asset_id":"a","event":{}}'),
        ("confirmed", encode(confirmed("a")).detail.replace("+00:00", "")),
        ("acquired", encode(acquired("a", holes=((1, 2),))).detail.replace("[[1,2]]", "[[1,2,3]]")),
        ("clip_seen", encode(seen("a")).detail.replace('"raw_name":"', '"raw_name":"zz')),
    ],
)
def test_what_is_no_entry_is_refused_with_a_journal_error(kind: str, detail: str) -> None:
    with pytest.raises(JournalError):
        decode(kind, detail)


def test_a_naive_time_or_an_unwritable_detail_is_our_bug_and_found_at_once() -> None:
    with pytest.raises(AssertionError):
        to_text(Receipt("s", "o", 1, digests_of("a"), datetime(2026, 1, 1)))  # noqa: DTZ001
    with pytest.raises(TypeError):
        encode(Incident("x", {"when": NOW}))
    with pytest.raises(ValueError, match="JSON"):
        encode(Incident("x", {"share": float("nan")}))


def test_a_receipt_survives_its_column() -> None:
    assert from_text(Receipt, to_text(receipt("a"))) == receipt("a")


def test_the_chain_is_sha256_over_the_previous_hash_and_canonical_json() -> None:
    """Recomputed here with nothing but hashlib and json, as anybody can."""
    detail = encode(opened()).detail
    at, subject = "2026-07-06T09:00:00.000000+00:00", 'a "quoted" \u6267'
    body = [7, at, "docking_opened", subject, json.loads(detail)]
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    expected = hashlib.sha256(FIRST_LINK + text.encode("ascii")).digest()
    assert link(FIRST_LINK, leaf(7, at, "docking_opened", subject, detail)) == expected


def test_every_type_that_is_journaled_is_frozen() -> None:
    for entry_type in (*get_args(JournalEntry), *get_args(AssetEvent)):
        assert vars(entry_type)["__dataclass_params__"].frozen


@settings(deadline=None)
@given(PLAIN[datetime])
def test_ids_are_uuid7_that_carry_their_time(now: datetime) -> None:
    made = UUID(new_id(lambda: now))
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def test_ids_sort_by_time_to_the_microsecond_and_differ_within_it() -> None:
    made = [new_id(lambda at=NOW + timedelta(microseconds=n): at) for n in range(3000)]  # type: ignore[misc]
    assert made == sorted(made)
    assert len({new_id(lambda: NOW) for _ in range(1000)}) == 1000


def test_a_clock_before_1970_still_gives_ids() -> None:
    assert UUID(new_id(lambda: datetime(1969, 1, 1, tzinfo=UTC))).int >> 80 == 0


def test_a_device_is_the_same_in_every_port_and_another_with_another_card() -> None:
    def variant(**changes: object) -> str:
        return device_id(replace(DEVICE, **changes))  # type: ignore[arg-type]

    same = device_id(DEVICE)
    assert len(same) == 16
    assert same == variant(port="9-9") == variant(label="other") == variant(size_bytes=1)
    assert same != variant(serial="0")
    assert same != variant(vendor="EXAMPLED", product="SJ-V8")
    assert same != variant(filesystem_ids=("AAAA-BBBB",))
    assert variant(filesystem_ids=("A", "B")) == variant(filesystem_ids=("B", "A"))
