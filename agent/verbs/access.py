"""`capture-agent access`: what was made from a recording and found in it, made again, and checked by making it anew."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from agent.access.certificate import fingerprinted
from agent.access.made import OUTPUT, SOURCE
from agent.access.tool import ToolError, run, version
from agent.config import Config, load
from agent.errors import ConfigError, RequestError
from agent.journal import Reader
from agent.model import Clock, Role
from agent.register import line
from agent.status.access import access_view, certificate_lines, file_lines, finding_lines
from agent.transcripts import read_sealed
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

_OUTCOMES: Final[Mapping[str, tuple[str, str]]] = {
    "same": ("字节相同", "the same bytes"),
    "differs": ("字节不同", "other bytes"),
    "not_claimed": ("字节不同，未承诺可重复", "other bytes; that the same would come out was never claimed"),
    "not_claimed_failed": (
        "无法重新制作，未承诺可重复",
        "can't be made again; that was never claimed",
    ),
    "own": ("由本程序制作，未重新制作", "made by this agent itself, not made again"),
    "failed": ("无法重新制作", "can't be made again"),
}


def add_access(add: Add, clock: Clock) -> None:
    """`capture-agent access` and its verbs."""
    own = group(add, clock, "access", "access copies and findings: list, show, make again, check")

    def one(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        verb = own(name, command, text)
        verb.add_argument("id", metavar="ID", help="recording or asset id, as the status shows it")
        json_option(verb)
        return verb

    one("list", _list, "all files made from a recording, with where they are")
    one("show", _show, "the newest certificate: from what, by what and how they were made")
    one("findings", _findings, "what was found in its content: facts with their times")
    make = one("make", _make, "have everything made again")
    signed_options(make, "asks", text_of(line))
    one("check", _check, "run the certificate's arguments again, and compare the bytes")


def _shown(options: argparse.Namespace) -> tuple[Config, Fields, str]:
    """Configuration, what is shown of the recording, and its original's BLAKE3."""
    config = load(options.config)
    with closing(Reader(config.storage.root / "journal.db")) as reader:
        asset = reader.asset(reader.asset(options.id).recording_id)
        told, views = reader.derived(asset.recording_id), reader.derivatives(asset.recording_id)
    shown = access_view(asset.recording_id, told, views, Vault(config.storage.root, seal=False).address)
    return config, shown, asset.digests.blake3 if asset.digests else ""


def _list(options: argparse.Namespace, _clock: Clock) -> int:
    _, shown, _ = _shown(options)
    return show(options, shown, file_lines(shown))


def _findings(options: argparse.Namespace, _clock: Clock) -> int:
    _, shown, _ = _shown(options)
    return show(options, shown, finding_lines(shown))


def _show(options: argparse.Namespace, _clock: Clock) -> int:
    told = _certificate(_shown(options)[1])
    return show(options, told, certificate_lines(told))


def _make(options: argparse.Namespace, clock: Clock) -> int:
    asked = {key: getattr(options, key) for key in ("id", "who", "why")}
    answer = asyncio.run(entered(load(options.config), clock, "derive", asked))
    return show(options, answer, ["将重新制作查阅副本 (copies will be made again)"])


def _check(options: argparse.Namespace, _clock: Clock) -> int:
    config, shown, blake3 = _shown(options)
    told = _certificate(shown)
    original = here(Vault(config.storage.root, seal=False).address(blake3))
    with tempfile.TemporaryDirectory(prefix="capture-agent-check-") as folder:
        now = asyncio.run(_tool())
        found = [asyncio.run(_made_again(one, original, Path(folder), now)) for one in told["files"]]
    lines = ["{role}  {} ({}){why}".format(*_OUTCOMES[one["outcome"]], **one) for one in found]
    show(options, {"recording_id": shown["recording_id"], "files": found}, lines)
    return Exit.EVIDENCE if any(one["outcome"] in ("differs", "failed") for one in found) else Exit.OK


async def _tool() -> str:
    """The tool's version; raises ConfigError where there is none."""
    try:
        return await version()
    except ToolError as error:
        raise ConfigError(
            f"无法运行 ffmpeg，未作检查 / nothing could be checked: {error}.",
            safe="Originals and copies were not touched.",
            do="Install Debian's package ffmpeg on this machine.",
        ) from error


async def _made_again(one: Mapping[str, Any], original: Path, folder: Path, now: str) -> Fields:
    """Whether the same bytes come out once more of the tool as it is `now`; another version of it may give others."""
    said = {"role": one["role"], "asset_id": one["asset_id"], "outcome": "own", "why": ""}
    if not one["arguments"]:
        return said
    output = folder / one["name"]
    words = [word.replace(SOURCE, str(original)).replace(OUTPUT, str(output)) for word in one["arguments"]]
    is_claimed = one["repeatable"] and now == one["tool"]
    why = f": {one['tool']} then, {now} now" if now != one["tool"] else ""
    try:
        await run(words, reads=original, folder=folder)
        _, digests = fingerprinted(output)
    except (ToolError, OSError) as error:
        return said | {"outcome": "failed" if is_claimed else "not_claimed_failed", "why": f"{why}: {error}"}
    if digests.sha256 == one["sha256"] and digests.blake3 == one["blake3"]:
        return said | {"outcome": "same"}
    return said | {"outcome": "differs" if is_claimed else "not_claimed", "why": why}


def _certificate(shown: Fields) -> Fields:
    files = [one for one in shown["files"] if one["role"]["name"] == Role.CERTIFICATE]
    if not files:
        what = "尚未从该记录制作任何文件 / nothing was made from this recording yet."
        raise RequestError(what, safe="Nothing was changed.", do="Wait for the service, or look at `access list`.")
    told: Fields = json.loads(read_sealed(Path(files[-1]["path"]), files[-1]["blake3"]))
    return told
