"""The transcripts of a recording as screens and scripts get them: every version, and which no person answers for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from agent.journal.views import DocumentView
from agent.model import Transcript, TranscriptKind
from agent.status.words import at, named, words
from agent.transcripts import completes, unsigned

Json = dict[str, Any]


def transcripts_view(recording_id: str, views: Sequence[DocumentView], silent: Sequence[tuple[datetime, str]]) -> Json:
    """All versions, oldest first; `silent` is when which tool found no speech.

    `complete`: a person wrote or signed one, as art. 20 of 鲁医保发〔2019〕60号《全过程记录办法》 wants it of sound.
    """
    found = [(view, view.said) for view in views if isinstance(view.said, Transcript)]
    digests = [view.asset.digests.blake3 if view.asset.digests else "" for view, _ in found]
    said = [said for _, said in found]
    waiting = unsigned(list(zip(digests, said, strict=True)))
    versions = [
        _version(number, view, one, number in waiting, said, digests) for number, (view, one) in enumerate(found, 1)
    ]
    return {
        "recording": recording_id,
        "complete": any(map(completes, said)),
        "unsigned": list(waiting),
        "versions": versions,
        "no_speech_found": [{"at": at(time), "tool": tool} for time, tool in silent],
    }


def _version(
    number: int, view: DocumentView, one: Transcript, waits: bool, said: Sequence[Transcript], digests: Sequence[str]
) -> Json:
    digest = digests[number - 1]
    return {
        "version": number,
        "kind": named(one.kind),
        "mark": _mark(one, digest, waits, said),
        "author": one.author,
        "at": at(one.at),
        "file_name": one.name,
        "form": one.form.value,
        "encoding": one.encoding.value,
        "language": one.language,
        "tool": one.tool,
        "why": one.why,
        "blake3": digest,
        "size_bytes": view.asset.expected_bytes,
        "asset": view.asset.asset_id,
        "state": named(view.asset.state),
        "signs_version": digests.index(one.signed) + 1 if one.signed in digests else None,
    }


def _mark(one: Transcript, digest: str, waits: bool, said: Sequence[Transcript]) -> dict[str, str]:
    if one.kind is TranscriptKind.MACHINE and not waits:
        number = next(number for number, other in enumerate(said, 1) if other.signed == digest)
        return words(f"机器转写·已核对（第 {number} 版）", f"machine's text, signed as version {number}")
    kind = named(one.kind)
    return words(kind["zh"], kind["en"])


def transcript_lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """The same for a terminal, without the texts."""
    for one in shown["versions"]:
        mark, kept = one["mark"], one["state"]
        yield (
            f"第 {one['version']} 版 (version)  {mark['zh']} ({mark['en']})  {one['at']}  {one['author']}"
            f"  {one['form']} {one['size_bytes']} bytes  {kept['zh']} ({kept['en']})"
        )
        yield f"  BLAKE3 {one['blake3']}{'  ' if one['tool'] else ''}{one['tool']}"
    for one in shown["no_speech_found"]:
        yield f"未发现语音 (no speech found)  {one['at']}  {one['tool']}"
    if not shown["versions"] and not shown["no_speech_found"]:
        yield "没有文字记录 (no transcript)"


def transcripts_said(documents: Sequence[DocumentView]) -> list[Json]:
    """The transcripts of a recording as its record names them."""
    found = [(document.asset, document.said) for document in documents if isinstance(document.said, Transcript)]
    marks = [version["mark"] for version in transcripts_view("", documents, ())["versions"]]
    return [
        {
            "ref": asset.asset_id,
            "digest": asset.digests.sha256 if asset.digests else None,
            "kind": {"name": said.kind.value, **mark},
            "by": said.author,
            "at": at(said.at),
        }
        for (asset, said), mark in zip(found, marks, strict=True)
    ]
