"""What can be said of each recording of a kit, as facts: what was compared, with what, and what came out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from agent.deadline import Verdict
from agent.kit.bag import Sums
from agent.kit.contents import Item, said_of
from agent.kit.extract import Told
from agent.manifest import contradictions, verified
from agent.model import (
    Acquired,
    AssetChanged,
    ClockTrust,
    Derivation,
    Integrity,
    Matched,
    Medium,
    Missing,
)
from agent.status.access import newest_copy
from agent.status.words import WORDS, at
from agent.tlog.keys import Verifier
from agent.tlog.texts import NoteError

Json = Mapping[str, Any]


PROOFS: Final = 5
"""So many checks come first that tell of the proof itself; the others tell of what was recorded and said."""


class Check(NamedTuple):
    """One thing that was checked; `holds` is None where it does not apply, or nobody can tell."""

    zh: str
    en: str
    holds: bool | None
    told_zh: str
    told_en: str


@dataclass(slots=True)
class Given:
    """What was learnt of a recording while its files were copied.

    `sums` by asset id; `absent` says why a file could not be given. `centre`: what the store said when it was asked
    now, None if it wasn't, "" if it proved that it has the original. `manifests` are their bytes, oldest first.
    """

    names: dict[str, str] = field(default_factory=dict)
    sums: dict[str, Sums] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    centre: str | None = None
    centre_lost: bool = False
    manifests: list[bytes] = field(default_factory=list)


_DOUBTED: Final = (ClockTrust.UNTRUSTED, ClockTrust.CONTRADICTED)
_KEPT_IN_TIME: Final[Mapping[str, bool]] = {
    Verdict.IN_TIME: True,
    Verdict.LATE: False,
    Verdict.OVERDUE: False,
}


def review(
    item: Item, record: Json, given: Given, told: Sequence[Told], activities: Sequence[Json], keys: Iterable[Verifier]
) -> list[Check]:
    """The checks of one recording: `told` are the events about it, each proved, `activities` those it belongs to."""
    return [
        _present(item, given, told),
        _same_now(item, given),
        _same_at_centre(item, given),
        _signed(item, given, keys),
        _logged(told),
        _whole(item),
        _explained(activities),
        _clock(item),
        _article_20(record),
        _transcript(item, record),
        _in_time(record),
        _copied(item),
    ]


def _present(item: Item, given: Given, told: Sequence[Told]) -> Check:
    head = ("原始资料在包内", "the original is in the bag")
    asset_id = item.original.asset.asset_id
    if asset_id not in given.sums:
        return Check(*head, False, "不在包内", f"not in the bag: {given.absent.get(asset_id, 'unknown')}")
    events = [one.entry.event for one in told if isinstance(one.entry, AssetChanged)]
    pulled = [event for event in events if isinstance(event, Acquired | Matched)]
    holes = len(pulled[-1].holes) if pulled else 0
    size = f"{given.sums[asset_id].size_bytes:,}"
    zh = f"{size} 字节" + (f"；采集时 {holes} 处坏块无法读出，以零填充" if holes else "")
    en = f"{size} bytes" + (f"; {holes} ranges could not be read from the recorder and are zeros" if holes else "")
    return Check(*head, True, zh, en)


def _same_now(item: Item, given: Given) -> Check:
    head = ("现在计算的摘要值与采集时一致", "the digest computed now is that of the pull")
    asset = item.original.asset
    sums = given.sums.get(asset.asset_id)
    if sums is None or asset.digests is None:
        return Check(*head, None, "无法计算", "could not be computed")
    same = (sums.digests["blake3"], sums.digests["sha256"]) == (asset.digests.blake3, asset.digests.sha256)
    return Check(*head, same, "BLAKE3 与 SHA-256 均已比对", "BLAKE3 and SHA-256 were compared")


def _same_at_centre(item: Item, given: Given) -> Check:
    head = ("中心接收的摘要值与采集时一致", "the digest at the centre is that of the pull")
    asset = item.known.kept.asset
    receipt = asset.receipt
    if receipt is None:
        return Check(*head, None, "中心尚未接收", "not accepted by the centre yet")
    since = at(receipt.confirmed_at)
    zh, en = f"{receipt.store} 于 {since} 接收", f"accepted by {receipt.store} at {since}"
    if given.centre_lost:
        return Check(*head, False, f"{zh}；现在未能证明仍持有", f"{en}; now it does not prove it: {given.centre}")
    if given.centre:
        return Check(
            *head, receipt.digests == asset.digests, f"{zh}；现在无法询问", f"{en}; can't be asked now: {given.centre}"
        )
    return Check(*head, receipt.digests == asset.digests, f"{zh}；现已再次证明", f"{en}; it has proved it again now")


def _signed(item: Item, given: Given, keys: Iterable[Verifier]) -> Check:
    head = ("清单签名有效且内容相符", "the manifest is signed and agrees")
    if not given.manifests:
        return Check(*head, None, "尚无清单", "there is no manifest yet")
    try:
        manifest, signers = verified(given.manifests[-1], keys)
    except NoteError as error:
        return Check(*head, False, "签名或内容无效", error.what)
    views = (*item.known.documents, *item.known.made)
    known = [item.original.asset, *(view.asset for view in views)]
    problems = contradictions(manifest, item.known.row.recording.recording_id, known)
    told = f"{manifest.number} 号清单（{at(manifest.made_at)}）"
    names = ", ".join(sorted(f"{key.name}+{key.key_id.hex()}" for key in signers))
    if problems:
        return Check(*head, False, f"第 {told}与现状不符", f"manifest {manifest.number}: {'; '.join(problems)}")
    return Check(*head, True, f"第 {told}，签名 {names}", f"manifest {manifest.number}, signed by {names}")


def _logged(told: Sequence[Told]) -> Check:
    head = ("流转记录未被改动", "the custody log is unbroken")
    text = f"{len(told)} 条记录均证明在已签名的检查点内"
    return Check(*head, bool(told), text, f"{len(told)} events, each proved to be under the signed checkpoint")


def _whole(item: Item) -> Check:
    head = ("文件内容完整", "the file is whole")
    facts = item.known.row.facts
    if facts is None:
        return Check(*head, None, "内容尚未读取", "its content was not read yet")
    zh, en = WORDS[Integrity][facts.integrity]
    found = item.known.row.made.found if item.known.row.made else 0
    more_zh, more_en = (f"；检查发现 {found} 项", f"; {found} findings") if found else ("", "")
    whole = None if facts.integrity is Integrity.UNREADABLE else facts.integrity is Integrity.COMPLETE
    return Check(*head, whole, zh + more_zh, f"{en} {facts.reason}".strip() + more_en)


def _explained(activities: Sequence[Json]) -> Check:
    head = ("中断均有说明", "every interruption is explained")
    if not activities:
        return Check(*head, None, "未关联执法活动", "it belongs to no activity")
    gaps = sum(len(one["gaps"]) for one in activities)
    waiting = sum(one["open"] for one in activities)
    if not waiting:
        return Check(*head, True, f"{gaps} 处中断，无待说明", f"{gaps} gaps, none waits for a word")
    return Check(*head, False, f"{gaps} 处中断，{waiting} 处待说明或待确认", f"{gaps} gaps, {waiting} wait for a word")


def _clock(item: Item) -> Check:
    trust = item.known.row.captured[2]
    zh, en = WORDS[ClockTrust][trust]
    holds = False if trust in _DOUBTED else True if trust is ClockTrust.STATED else None
    return Check("录制时间可以确定", "the time of recording is settled", holds, zh, en)


def _article_20(record: Json) -> Check:
    head = ("第二十条要素齐全", "what art. 20 asks for is there")
    lacks = record["missing"]
    if not lacks:
        return Check(*head, True, record["completeness"]["zh"], record["completeness"]["en"])
    zh, en = ("、".join(one["zh"] for one in lacks), ", ".join(one["en"] for one in lacks))
    return Check(*head, False, f"缺少 {zh}", f"missing: {en}")


def _transcript(item: Item, record: Json) -> Check:
    head = ("声音资料附有文字记录", "sound has its transcript")
    if item.known.row.recording.medium is not Medium.AUDIO:
        return Check(*head, None, "不是声音资料", "it is no sound recording")
    lacks = any(one["name"] == Missing.TRANSCRIPT for one in record["missing"])
    return Check(*head, not lacks, "无" if lacks else "有", "none" if lacks else "there is one")


def _in_time(record: Json) -> Check:
    limit = said_of(record, "deadline")
    state = limit["state"]
    if state is None:
        return Check(
            "按期入库", "stored in time", None, "期限随相同内容的记录", "its limit is that of the same content"
        )
    told = f"{limit['due_text']['zh']}；{limit['citation']}"
    return Check("按期入库", "stored in time", _KEPT_IN_TIME.get(state["name"]), f"{state['zh']}；{told}", state["en"])


def _copied(item: Item) -> Check:
    head = ("查阅副本由本原始资料制作", "the access copy was made from this original")
    copy = newest_copy(item.known.made)
    if copy is None:
        return Check(*head, None, "无查阅副本", "there is no access copy")
    said: Derivation = copy[1]
    same = said.source == item.known.kept.asset.asset_id
    less_zh, less_en = ("", "") if said.complete else ("；内容不全", "; it is not complete")
    return Check(*head, same, f"{said.tool}{less_zh}", f"{said.tool}{less_en}")


def marks(checks: Iterable[Check]) -> Iterator[str]:
    """Each outcome as a word."""
    yield from (word_of(one.holds)[0] for one in checks)


def word_of(holds: bool | None) -> tuple[str, str]:
    """An outcome in both languages."""
    return ("—", "") if holds is None else ("是", "yes") if holds else ("否", "no")
