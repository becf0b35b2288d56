"""The custody receipt (交接回执) as a paper: what was taken, whether the recorder may be cleared, and its proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from html import unescape
from re import DOTALL, findall
from typing import Final, NamedTuple

from agent.config import Station
from agent.deadline import ZONE
from agent.errors import EvidenceError, RequestError
from agent.journal import Reader
from agent.journal.views import DockingView, ReceiptView
from agent.model import Basis, Clearing, ReceiptIssued
from agent.papers.page import Markup, both, facts, filled, joined, page, qr_code
from agent.receipts import list_digest, list_of, origin_of
from agent.tlog.proof import Proof

CLEARING: Final[Mapping[Clearing, tuple[str, str]]] = {
    Clearing.CLEAR: (
        "可以清空：记录仪中的全部文件已采集并校验，且已按规定入库。",
        "The recorder may be cleared: everything on it is here, was verified, and is stored as the rules demand.",
    ),
    Clearing.NOT_STORED: (
        "请勿清空：全部文件已采集并校验，尚未全部入库。入库后另出回执。",
        "Do not clear the recorder: everything on it is here, not all of it stored. Another receipt will follow.",
    ),
    Clearing.NOT_ALL_TAKEN: (
        "请勿清空：记录仪中的文件未全部完整采集，请联系管理员。",
        "Do not clear the recorder: not everything on it could be pulled whole. Call the administrator.",
    ),
    Clearing.TRACES: (
        "请勿清空：现有文件已全部采集，但有缺失录像的痕迹，可能仍可恢复，请联系管理员。",
        "Do not clear the recorder: traces on it tell of recordings that are missing. Call the administrator.",
    ),
}
_LINES_ON_PAPER: Final = 12
_LINE_CHARACTERS: Final = 110
_CHECK: Final = (
    "核验：扫描二维码，将所得文字原样交给 capture-agent receipt verify；密钥指纹须与采集站公布的一致。",
    "To verify: give the text of the code, as it is, to `capture-agent receipt verify`; compare the key's fingerprint.",
)
_UNPROVED: Final = (
    "流转记录尚未签名，此回执暂无证明；签名后请重新打印。",
    "The log is not signed yet, so there is no proof of this receipt: print it again later.",
)
_LONG: Final = (
    "文件较多，文件清单见本回执的电子版（HTML），其摘要如上。",
    "The list of files is in the HTML of this receipt; its digest is above.",
)
_NOTICE: Final = (
    "原始资料不得损毁、剪接、删改，不得自行保管。",
    "Originals must not be damaged, cut or altered, nor kept by oneself.",
)


class Issued(NamedTuple):
    """All that stands on the paper of a receipt; `proof` is None as long as no checkpoint covers it."""

    docking: DockingView
    receipt: ReceiptView
    listed: str
    proof: Proof | None
    fingerprints: Sequence[str]


def issued(reader: Reader, docking_id: str) -> Issued:
    """Return the newest receipt of a docking; "" takes the newest docking that has one.

    Raises RequestError if it has none, EvidenceError if its list is not what the journal tells any more.
    """
    docking_id = docking_id or reader.newest_receipted()
    docking, receipt = reader.docking(docking_id), reader.receipt_of(docking_id)
    if receipt is None:
        what = f"还没有交接回执 (docking {docking_id} has no receipt yet)."
        raise RequestError(what, do="The service issues it when the docking has ended.")
    listed = list_of(reader.taken_files(docking_id))
    if list_digest(listed) != receipt.said.list_sha256:
        raise EvidenceError(
            f"The files of docking {docking_id} are not those that its receipt lists any more.",
            safe="The receipt is in the log as it was issued.",
            do="Run `capture-agent verify`; issue another receipt once that is settled.",
        )
    proof = reader.proof(receipt.seq)
    if proof is None:
        return Issued(docking, receipt, listed, None, ())
    ids = {one.key_id for one in proof.checkpoint.signatures}
    keys = [one.key for one in reader.verifiers(origin_of(proof)) if one.key.key_id in ids]
    fingerprints = [key.fingerprint for key in keys]
    return Issued(docking, receipt, listed, replace(proof, extra=reader.log_leaf(receipt.seq)), fingerprints)


def code_of(proof: Proof) -> str:
    """Return the text of the code: without the cosignatures of witnesses, which need not fit into it."""
    own = tuple(one for one in proof.checkpoint.signatures if one.name == origin_of(proof))
    return replace(proof, checkpoint=replace(proof.checkpoint, signatures=own)).encode().decode()


def receipt_page(issued: Issued, station: Station, *, is_whole: bool = True) -> str:
    """Return the paper as HTML; not `is_whole`: on one page, so that a long list is there by its digest alone."""
    said = issued.receipt.said
    foot = f"{station.name} · {said.docking_id} · {said.number}"
    body = receipt_body(issued, station, is_whole=is_whole)
    return page("交接回执", "Custody receipt", body, foot=foot, made_at=issued.receipt.at.isoformat())


def receipt_body(issued: Issued, station: Station, *, is_whole: bool = True) -> Markup:
    """Return what stands on the paper, without its frame."""
    said = issued.receipt.said
    lines = sum(1 + len(line) // _LINE_CHARACTERS for line in issued.listed.split("\n"))
    listed = _list(issued.listed) if is_whole or lines <= _LINES_ON_PAPER else filled("<p>{x}</p>\n", x=both(*_LONG))
    verdict = filled('<p class="verdict">{words}</p>\n', words=both(*CLEARING[said.clearing]))
    return joined([verdict, facts(_facts(issued, station)), listed, _proof(issued)])


def read_receipt(text: str) -> tuple[str, str | None]:
    """Return the text of the code, and the list if `text` is the HTML of a receipt.

    Raises EvidenceError if it has several: one that is read would hide one that is seen.
    """
    code, listed = (findall(rf'<pre id="{name}"[^>]*>\n?(.*?)</pre>', text, DOTALL) for name in ("proof", "list"))
    if max(len(code), len(listed)) > 1:
        raise EvidenceError("The page has more than one list or code.", do="Compare it with what the station prints.")
    found = unescape(code[0]) if code else text
    return found.replace("\r\n", "\n").strip() + "\n", unescape(listed[0]) if listed else None


def told(said: ReceiptIssued, at: datetime) -> list[tuple[str, str, str]]:
    """Return what the event of a receipt says: Chinese and English name, and value."""
    provisional = "（暂定 provisional）" if said.basis is Basis.PROVISIONAL else ""
    return [
        ("编号", "number", f"{said.docking_id} / {said.number}"),
        ("签发时间", "issued", _time(at)),
        ("记录仪", "recorder", said.recorder),
        ("交接人", "handed over by", said.by or "未登记 nobody was entered"),
        ("文件", "files", f"发现 {said.seen}，已采集 {said.taken} ({said.seen} seen, {said.taken} taken)"),
        ("已采集数据量", "bytes taken", f"{said.size_bytes:,}"),
        ("已入库", "stored", f"{said.stored} / {said.taken}"),
        ("最早应入库期限", "earliest time limit", _until(said.due_at) + provisional if said.due_at else "—"),
        ("文件清单摘要 SHA-256", "digest of the list", said.list_sha256),
    ]


def _facts(issued: Issued, station: Station) -> list[tuple[object, object]]:
    docking = issued.docking
    period = f"{docking.slot} · {_time(docking.opened_at)} – {_time(docking.closed_at)}"
    rows = [
        ("采集站", "station", station.name),
        ("端口、采集时间", "slot, docked from and to", period),
        *told(issued.receipt.said, issued.receipt.at),
        ("密钥指纹 SHA-256", "fingerprint of the key", "; ".join(issued.fingerprints) or "无签名 not signed"),
    ]
    return [(both(zh, en), value) for zh, en, value in rows]


def _list(listed: str) -> Markup:
    title = both("文件清单", "list of files; `sha256sum --check` reads it")
    return filled('<h2>{title}</h2>\n<pre id="list" class="digest">\n{listed}</pre>\n', title=title, listed=listed)


def _proof(issued: Issued) -> Markup:
    code = code_of(issued.proof) if issued.proof else ""
    told = (both(*_CHECK if code else _UNPROVED), both(*_NOTICE))
    signed = (both("交接人签字", "handed over by"), both("接收人签字", "received by"))
    lines = [filled("<p>{one}</p>", one=one) for one in told]
    lines += [filled('<p class="signed">{one}</p>', one=one) for one in signed]
    qr = qr_code(code) if code else ""
    beside = filled('<div class="beside">{qr}<div>{lines}</div></div>\n', qr=qr, lines=joined(lines))
    if not code:
        return beside
    text = '<details class="screen"><summary>{title}</summary><pre id="proof" class="digest">\n{code}</pre></details>\n'
    return joined([beside, filled(text, title=both("二维码文字", "text of the code"), code=code)])


def _until(limit: datetime) -> str:
    """The end of a time limit, which is exclusive: midnight is 24:00 of the day before."""
    local = limit.astimezone(ZONE)
    if (local.hour, local.minute) != (0, 0):
        return _time(limit)
    return f"{local - timedelta(days=1):%Y-%m-%d} 24:00"


def _time(time: datetime | None) -> str:
    return f"{time.astimezone(ZONE):%Y-%m-%d %H:%M}" if time else "—"
