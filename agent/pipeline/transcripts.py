"""Adds transcripts to recordings: files of persons and machines, a person's signature, and that nothing is spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from blake3 import blake3

from agent.errors import RequestError
from agent.journal.views import DocumentView
from agent.model import Encoding, NoSpeechFound, Transcript, TranscriptKind
from agent.pipeline.documents import add_document, is_lost
from agent.pipeline.station import Station
from agent.register import line
from agent.transcripts import read_sealed, read_text, unsigned
from agent.vault import Vault

_UNCHANGED: Final = "Nothing was added."


async def add(station: Station, asked: Mapping[str, str], content: bytes) -> dict[str, object]:
    """Attach a file: `id`, `kind`, `author`, `name`, `encoding`, `tool`, `language`; raises RequestError.

    The same file of the same kind and author is attached once.
    """
    kind, encoding = TranscriptKind(asked["kind"]), Encoding(asked["encoding"])
    text = read_text(content, encoding)
    author, tool, language = (asked[name] and line(asked[name]) for name in ("author", "tool", "language"))
    if kind is TranscriptKind.MACHINE and not tool:
        raise RequestError("机器转写须写明工具 / a machine's text needs its tool.", safe=_UNCHANGED, do="Give --tool.")
    if kind is not TranscriptKind.MACHINE and not author:
        raise RequestError("须写明制作人 / its author is missing.", safe=_UNCHANGED, do="Give --author.")
    said = Transcript(
        kind, author, station.clock(), asked["name"], tool, form=text.form, encoding=encoding,
        language=language,
    )  # fmt: skip
    return await _add(station, asked["id"], said, content)


async def sign(station: Station, asked: Mapping[str, str]) -> dict[str, object]:
    """A person answers for a machine's text: `id`, `who`, `why`, and `version`, or "" for the newest unsigned one.

    The signature is a version of its own, with the same bytes, and names their digest. Raises RequestError.
    """
    recording_id, versions = await _versions(station, asked["id"])
    number = _unsigned_version(versions, asked["version"])
    view, said = versions[number - 1]
    content = await station.on_disk(_content, station.vault, view)
    digest = blake3(content).hexdigest()
    signed = replace(
        said, kind=TranscriptKind.CHECKED, author=line(asked["who"]), why=line(asked["why"]), at=station.clock(),
        signed=digest,
    )  # fmt: skip
    return await _add(station, recording_id, signed, content)


async def nothing_spoken(station: Station, asked: Mapping[str, str]) -> dict[str, object]:
    """A tool found no speech in a recording (`id`, `tool`): a fact of the tool, and no transcript."""
    reader = station.journal.reader
    recording_id = (await station.on_disk(reader.asset, asked["id"])).recording_id
    asset = await station.on_disk(reader.asset, recording_id)
    await station.journal.record(NoSpeechFound(asset.asset_id, line(asked["tool"])))
    return {"recording": recording_id, "version": 0}


def _unsigned_version(versions: Sequence[tuple[DocumentView, Transcript]], asked: str) -> int:
    """The number of the version to sign, from 1 on."""
    waiting = unsigned([(_digest(view), said) for view, said in versions])
    if asked and not (asked.isdecimal() and len(asked) < 9 and int(asked) in waiting):
        zh, en = f"第 {asked} 版不是待核对的机器转写", f"version {asked} is no machine's text that waits to be signed"
        raise RequestError(f"{zh} / {en}.", safe=_UNCHANGED, do="Look at `capture-agent transcript list`.")
    if not waiting:
        what = "没有待核对的机器转写 / there is no machine's text that waits to be signed."
        raise RequestError(what, safe=_UNCHANGED, do="Look at `capture-agent transcript list`.")
    return int(asked) if asked else waiting[-1]


async def _versions(station: Station, identifier: str) -> tuple[str, Sequence[tuple[DocumentView, Transcript]]]:
    reader = station.journal.reader
    recording_id = (await station.on_disk(reader.asset, identifier)).recording_id
    views = await station.on_disk(reader.documents, recording_id)
    return recording_id, [(view, view.said) for view in views if isinstance(view.said, Transcript)]


async def _add(station: Station, identifier: str, said: Transcript, content: bytes) -> dict[str, object]:
    recording_id, versions = await _versions(station, identifier)
    digest = blake3(content).hexdigest()
    for number, (view, known) in enumerate(versions, 1):
        same = (_digest(view), replace(known, at=said.at, name=said.name)) == (digest, said)
        if same and not is_lost(view.asset):
            return {"recording": recording_id, "version": number, "blake3": digest, "again": True}
    asset = await add_document(station, said, [recording_id], content)
    station.held_news.set()
    number = len(versions) + 1
    return {"recording": recording_id, "version": number, "blake3": digest, "asset": asset.asset_id, "again": False}


def _digest(view: DocumentView) -> str:
    assert view.asset.digests is not None, "a document is entered with its fingerprints"
    return view.asset.digests.blake3


def _content(vault: Vault, view: DocumentView) -> bytes:
    """The bytes of a document as the vault has them; raises EvidenceError if they are not those that were added."""
    return read_sealed(vault.address(_digest(view)), _digest(view))
