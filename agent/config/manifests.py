"""The options of manifests (清单): when they are signed, by whom besides the station, and who says when that was."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from agent.config.options import TomlFile, folder_or_off, number, text, texts
from agent.tlog.keys import Key
from agent.tlog.texts import NoteError


@dataclass(frozen=True, slots=True)
class Manifests:
    """[manifest]: when the manifest (清单) of a recording is signed, and by which command besides the station's key."""

    quiet_s: float = number(600, 0, 86400, "seconds")
    command: tuple[str, ...] = texts()
    key: str = text("", 1024)
    command_limit_s: float = number(30, 1, 600, "seconds")


@dataclass(frozen=True, slots=True)
class Timestamps:
    """[timestamp]: the authority (RFC 3161) that says when manifests existed, and whom its signature must lead to."""

    url: str = text("", 1024)
    ca_file: Path | None = folder_or_off()
    limit_s: float = number(30, 1, 600, "seconds")


def check_seals(file: TomlFile, manifest: Manifests, timestamp: Timestamps) -> None:
    """Note what of both can't be as it is written."""
    if manifest.command or manifest.key:
        _check_signer(file, manifest)
    if timestamp.url and not re.fullmatch(r"https?://[^\s]+", timestamp.url):
        file.problem("timestamp.url", timestamp.url, "must begin with http:// or https://")
    if timestamp.url and timestamp.ca_file is None:
        file.problem("timestamp.ca_file", "", "must be a file with the authority's root certificates")


def _check_signer(file: TomlFile, manifest: Manifests) -> None:
    if not (manifest.command and manifest.command[0].startswith("/")):
        reason = "must begin with a program's absolute path, since manifest.key says that there is one"
        file.problem("manifest.command", " ".join(manifest.command), reason)
    try:
        Key.parse(manifest.key)
    except NoteError as error:
        file.problem("manifest.key", manifest.key, f"must be the command's public key, name+id+base64: {error.what}")
