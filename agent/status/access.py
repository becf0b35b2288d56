"""What was made from a recording and found in it, as screens, answers and the terminal tell it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.access.timeline import clock
from agent.config import Config
from agent.journal.views import DocumentView, MadeView, Overview
from agent.model import Derivation, Derived, MediaFinding, Role
from agent.status.reasons import both, reason_words
from agent.status.words import at, named, words

Json = dict[str, Any]

Made = tuple[DocumentView, Derivation]


def made_files(views: Sequence[DocumentView]) -> list[Made]:
    """What was made, oldest first, with how."""
    return [(view, view.said) for view in views if isinstance(view.said, Derivation)]


def newest_copy(views: Sequence[DocumentView]) -> Made | None:
    """The access copy that counts: the one that was made last."""
    return next((one for one in reversed(made_files(views)) if one[1].role is Role.ACCESS_COPY), None)


def access_view(
    recording_id: str, told: Derived | None, views: Sequence[DocumentView], address: Callable[[str], Path]
) -> Json:
    """Files and findings; `found` is null until somebody has looked, `reason` why there is no access copy."""
    return {
        "recording_id": recording_id,
        "found": told.found if told else None,
        "reason": _words_of(told.reason) if told else None,
        "findings": [finding_view(one) for one in told.findings] if told else [],
        "files": [_file_view(view, said, address) for view, said in made_files(views)],
    }


def finding_view(finding: MediaFinding) -> Json:
    """One fact, with its range in time (h:mm:ss) or in bytes."""
    return {
        "kind": named(finding.kind),
        "from": clock(finding.start_ms) if finding.start_ms is not None else None,
        "to": clock(finding.end_ms) if finding.end_ms is not None else None,
        "start_ms": finding.start_ms,
        "end_ms": finding.end_ms,
        "offset_bytes": finding.offset_bytes,
        "length_bytes": finding.length_bytes,
        "detail": _words_of(finding.detail),
    }


def copy_view(made: MadeView | None) -> Json | None:
    """Whether there is an access copy of a recording, and how much was found; null until somebody has looked."""
    if made is None:
        return None
    copy = ("无查阅副本", "no access copy") if made.reason else ("有查阅副本", "access copy")
    told = words(f"{copy[0]}，检查发现 {made.found} 项", f"{copy[1]}, {made.found} findings")
    return {"copy": not made.reason, "reason": _words_of(made.reason), "found": made.found, **told}


def copies_view(config: Config, overview: Overview) -> Json:
    """How far the making of access copies has come."""
    waiting, made, failed = overview.copies
    zh = f"查阅副本：已制作 {made}，待制作 {waiting}，无法制作 {failed}"
    told = words(zh, f"access copies: {made} made, {waiting} to be made, {failed} can't be made")
    off = words("查阅副本：未启用", "access copies are switched off")
    return {
        "enabled": config.access.enabled, "waiting": waiting, "made": made, "failed": failed,
        **(told if config.access.enabled else off),
    }  # fmt: skip


def file_lines(shown: Json) -> Iterator[str]:
    """The files as text for a terminal."""
    yield f"recording {shown['recording_id']}: {len(shown['files'])} files made"
    for one in shown["files"]:
        less = "" if one["complete"] else "  内容不全 (incomplete)"
        what = f"{one['role']['zh']} {one['role']['en']}  {one['state']['zh']} {one['state']['en']}"
        yield f"{one['at']}  {what}  {one['size_bytes']} bytes{less}"
        yield f"  {one['asset_id']}  {one['tool']}  {one['path']}"
    if shown["reason"]:
        yield f"无查阅副本 (no access copy): {both(shown['reason'])}"


def finding_lines(shown: Json) -> Iterator[str]:
    """The findings as text for a terminal."""
    if shown["found"] is None:
        yield "内容尚未检查 (nobody has looked at its content yet)"
        return
    yield f"发现 {shown['found']} 项 ({shown['found']} findings)"
    for one in shown["findings"]:
        times = "–".join(time for time in (one["from"], one["to"]) if time)
        place = f"bytes {one['offset_bytes']}+{one['length_bytes']}" if one["offset_bytes"] is not None else ""
        yield "  ".join(
            filter(
                None, (f"{one['kind']['zh']} {one['kind']['en']}", times, place, one["detail"] and both(one["detail"]))
            )
        )
    if shown["found"] > len(shown["findings"]):
        yield "其余见检查结果文件 (the others are in the findings document)"


def certificate_lines(told: Json) -> Iterator[str]:
    """The certificate as it is, then in both languages what it says in English alone."""
    yield from json.dumps(told, indent=2, ensure_ascii=False).splitlines()
    sentences = [
        *filter(None, [told["reason"]]),
        *told["problems"],
        *(r for one in told["files"] for r in one["remarks"]),
    ]
    yield from (both(reason_words(sentence)) for sentence in sentences)


def _words_of(sentence: str) -> dict[str, str] | None:
    return reason_words(sentence) if sentence else None


def _file_view(view: DocumentView, said: Derivation, address: Callable[[str], Path]) -> Json:
    asset = view.asset
    assert asset.digests is not None, "it was entered with its fingerprints"
    return {
        "asset_id": asset.asset_id,
        "role": named(said.role),
        "state": named(asset.state),
        "reason": asset.reason,
        "complete": said.complete,
        "at": at(said.at),
        "tool": said.tool,
        "certificate": said.certificate,
        "size_bytes": asset.expected_bytes,
        "blake3": asset.digests.blake3,
        "sha256": asset.digests.sha256,
        "path": str(address(asset.digests.blake3)),
    }


def copy_said(made: Sequence[DocumentView]) -> Json | None:
    """The newest one; with which words it was made is in its certificate."""
    copy = newest_copy(made)
    if copy is None:
        return None
    (view, said), digests = copy, copy[0].asset.digests
    tool, _, version = said.tool.partition(" ")
    return {
        "ref": view.asset.asset_id,
        "digest": digests.sha256 if digests else None,
        "tool": tool,
        "version": version,
        "params": {"certificate": said.certificate, "complete": said.complete},
        "derived_from": said.source,
    }
