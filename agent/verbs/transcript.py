"""`capture-agent transcript`: attach a text to a recording, have one made, sign what a machine wrote, show and list."""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from agent.config import Config, load
from agent.control import read_file
from agent.errors import EvidenceError, RequestError
from agent.journal import Reader
from agent.model import Asset, Clock, Encoding, TranscriptKind
from agent.pipeline.transcribing import written_down
from agent.register import line
from agent.states import is_kept
from agent.status.summary import printable
from agent.status.transcripts import transcript_lines, transcripts_view
from agent.transcripts import has_speech, read_sealed, read_text
from agent.vault import Vault
from agent.verbs.base import (
    Add,
    Command,
    Exit,
    Fields,
    entered,
    group,
    here,
    json_option,
    show,
    signed_options,
    text_of,
)

_NAME_CHARACTERS: Final = 200


def add_transcript(add: Add, clock: Clock) -> None:
    """`capture-agent transcript` and its verbs."""
    own = group(add, clock, "transcript", "texts of what is said: attach, make, sign, show")

    def one(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        verb = own(name, command, text)
        verb.add_argument("id", metavar="ID", help="recording or asset id, as the status shows it")
        json_option(verb)
        return verb

    added = one("add", _add, "attach a text file: plain, SRT or WebVTT")
    added.add_argument("file", type=Path, metavar="FILE")
    added.add_argument("--kind", required=True, choices=list(TranscriptKind), help="who wrote it; checked: corrected")
    added.add_argument("--author", required=True, type=text_of(line), help="who wrote, corrected or attaches it")
    added.add_argument("--tool", default="", help="name and version, for a machine's text")
    added.add_argument("--language", default="", help="like zh-CN")
    added.add_argument("--encoding", choices=list(Encoding), default=Encoding.UTF_8, help="default: %(default)s")
    one("make", _make, "have transcript.command make a text of what is held here")
    sign = one("sign", _sign, "a person answers for a machine's text")
    sign.add_argument("--version", default="", metavar="N", help="which; else the newest that nobody signed")
    signed_options(sign, "signs", text_of(line))
    show = one("show", _show, "a text, with who answers for it")
    show.add_argument("--version", type=int, default=0, metavar="N", help="which; else the newest")
    one("list", _list, "all versions, without their texts")


def _add(options: argparse.Namespace, clock: Clock) -> int:
    name = options.file.name
    if not name.isprintable() or len(name) > _NAME_CHARACTERS:
        name = ascii(name)[:_NAME_CHARACTERS]
    asked = {key: str(getattr(options, key)) for key in ("id", "kind", "author", "tool", "language", "encoding")}
    content = read_file(options.file)
    return _tell(
        options, asyncio.run(entered(load(options.config), clock, "transcript_add", asked | {"name": name}, content))
    )


def _sign(options: argparse.Namespace, clock: Clock) -> int:
    asked = {key: getattr(options, key) for key in ("id", "who", "why", "version")}
    return _tell(options, asyncio.run(entered(load(options.config), clock, "transcript_sign", asked)))


def _make(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    with closing(Reader(config.storage.root / "journal.db")) as reader:
        asset = reader.asset(reader.asset(options.id).recording_id)
    content = _written_down(config, asset)
    asked = {"id": asset.asset_id, "tool": config.transcript.tool}
    if not has_speech(content):
        return _tell(options, asyncio.run(entered(config, clock, "transcript_nothing_spoken", asked)))
    asked |= {
        "kind": TranscriptKind.MACHINE, "author": "", "name": "", "encoding": Encoding.UTF_8,
        "language": config.transcript.language,
    }  # fmt: skip
    return _tell(options, asyncio.run(entered(config, clock, "transcript_add", asked, content)))


def _written_down(config: Config, asset: Asset) -> bytes:
    """What the command says of the original, which must be as it was afterwards."""
    if asset.digests is None or not (is_kept(asset) or asset.same_as):
        what = "本站没有这份原始资料 / this station doesn't hold the original."
        raise RequestError(what, safe="Nothing was changed.", do="Dock its recorder, then try again.")
    original = here(Vault(config.storage.root, seal=False).address(asset.digests.blake3))
    before = _marks(original)
    content = written_down(config.transcript.command, original, timeout_s=config.transcript.timeout_s)
    if _marks(original) != before:
        what = "The original was touched while transcript.command read it."
        raise EvidenceError(
            what, safe="Nothing was added.", do="Run `capture-agent verify`, and don't use this command."
        )
    return content


def _marks(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as error:
        what = f"The original can't be read: {error.strerror}."
        raise EvidenceError(what, safe="Nothing was changed.", do="Run it as the service's user.") from error
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _shown(options: argparse.Namespace) -> tuple[Config, Fields]:
    config = load(options.config)
    with closing(Reader(config.storage.root / "journal.db")) as reader:
        asset = reader.asset(reader.asset(options.id).recording_id)
        views, silent = reader.documents(asset.recording_id), reader.no_speech_found(asset.asset_id)
    return config, transcripts_view(asset.recording_id, views, silent)


def _list(options: argparse.Namespace, _clock: Clock) -> int:
    _, shown = _shown(options)
    return show(options, shown, transcript_lines(shown))


def _show(options: argparse.Namespace, _clock: Clock) -> int:
    config, shown = _shown(options)
    number = options.version or len(shown["versions"])
    if not 1 <= number <= len(shown["versions"]):
        what = "没有这一版文字记录 / there is no such transcript."
        raise RequestError(what, safe="Nothing was changed.", do="Look at `capture-agent transcript list`.")
    one = shown["versions"][number - 1]
    content = read_sealed(Vault(config.storage.root, seal=False).address(one["blake3"]), one["blake3"])
    whole = read_text(content, Encoding(one["encoding"])).whole
    if options.json:
        print(json.dumps(one | {"text": whole}, ensure_ascii=False))
        return Exit.OK
    for text in transcript_lines({"versions": [one], "no_speech_found": []}):
        print(printable(text))
    print(f"\n{whole.strip()}")
    return Exit.OK


def _tell(options: argparse.Namespace, answer: dict[str, Any]) -> int:
    if options.json:
        print(json.dumps(answer))
    elif not answer["version"]:
        print("未发现语音，不生成文字记录 (no speech was found, so there is no transcript)")
    else:
        again = "，此前已附上 (attached already)" if answer["again"] else ""
        print(f"第 {answer['version']} 版 (version){again}  BLAKE3 {answer['blake3']}")
    return Exit.OK
