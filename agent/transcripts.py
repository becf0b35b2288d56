"""Reads the text of a transcript (文字记录): plain text, SRT or WebVTT, checked for being text that says something."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from agent.errors import EvidenceError, RequestError
from agent.model import Encoding, TextForm, Transcript, TranscriptKind

LARGEST_BYTES: Final = 4 << 20
"""Twenty hours of talk in Chinese, with times."""

_ALLOWED_CONTROLS: Final = frozenset("\t\n\r")
_BOM: Final = "\ufeff"
_TIMES: Final = re.compile(
    r"(?:(\d{1,3}):)?([0-5]\d):([0-5]\d)[,.](\d{3}) +--> +(?:(\d{1,3}):)?([0-5]\d):([0-5]\d)[,.](\d{3})(?: .*)?"
)
_SUBTITLE: Final = re.compile(r"\s*\d[^\s]*\s*-->")
_REMARK: Final = re.compile(r"\[[^\]]*\]|\([^)]*\)|（[^）]*）|【[^】]*】")
_UNCHANGED: Final = "Nothing was added."


@dataclass(frozen=True, slots=True)
class Text:
    """A transcript's file: its form, all of it as text, and what is spoken in it (without numbers and times)."""

    form: TextForm
    whole: str
    spoken: str


def read_text(content: bytes, encoding: Encoding = Encoding.UTF_8) -> Text:
    """The text of a file; raises RequestError with what is wrong with it, in Chinese and English."""
    text = _read(content, encoding)
    if not _says_something(text.spoken):
        do = "If nothing is spoken, a person can say so in a text of their own."
        raise _refused("没有文字", "there is no text in it", do)
    return text


def has_speech(content: bytes) -> bool:
    """Whether a machine's text has words beside its remarks, like [BLANK_AUDIO] or （音乐）; raises RequestError."""
    return _says_something(_REMARK.sub("", _read(content, Encoding.UTF_8).spoken))


def _read(content: bytes, encoding: Encoding) -> Text:
    if len(content) > LARGEST_BYTES:
        zh, en = f"文件大于 {LARGEST_BYTES >> 20} MiB", f"the file is larger than {LARGEST_BYTES >> 20} MiB"
        raise _refused(zh, en, "Attach one file for each recording.")
    text = _decoded(content, encoding).removeprefix(_BOM)
    _check_characters(text)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    form = _form(lines)
    spoken = "\n".join(lines if form is TextForm.PLAIN else _cues(lines, form))
    return Text(form, text, spoken.strip())


def _says_something(text: str) -> bool:
    """Whether there is a letter or a digit: spaces and dashes are no words."""
    return any(unicodedata.category(character)[0] in "LN" for character in text)


def completes(said: Transcript) -> bool:
    """Whether it is the 文字记录 that a sound recording needs: a machine's text isn't, until a person has signed it."""
    return said.kind is not TranscriptKind.MACHINE


def unsigned(versions: Sequence[tuple[str, Transcript]]) -> tuple[int, ...]:
    """Of all versions, each with the BLAKE3 of its bytes: the machines' texts that nobody has signed, from 1 on."""
    signed = {said.signed for _, said in versions}
    return tuple(
        number
        for number, (digest, said) in enumerate(versions, 1)
        if said.kind is TranscriptKind.MACHINE and digest not in signed
    )


def read_sealed(path: Path, digest: str) -> bytes:
    """The bytes of a document from the vault; raises EvidenceError if they can't be read or are others."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise _spoiled(f"can't be read: {error.strerror}") from error
    if blake3(content).hexdigest() != digest:
        raise _spoiled("has other bytes than those that were sealed")
    return content


def _spoiled(why: str) -> EvidenceError:
    return EvidenceError(f"The document {why}.", safe="Nothing was changed.", do="Run `capture-agent verify`.")


def _decoded(content: bytes, encoding: Encoding) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        zh = f"第 {error.start + 1} 字节起不是 {encoding.upper()} 文本"
        do = "Save it as UTF-8, or say what it is: --encoding gb18030 (ANSI/GBK on Windows) or --encoding utf-16."
        raise _refused(zh, f"it is no {encoding.upper()} text from byte {error.start + 1} on", do) from error


def _check_characters(text: str) -> None:
    """Nothing that can't be seen, or that makes a reader see another order than is written."""
    for number, line in enumerate(text.split("\n"), 1):
        for character in line:
            if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co"} and character not in _ALLOWED_CONTROLS:
                code = f"U+{ord(character):04X}"
                zh = f"第 {number} 行有不可见的控制字符 {code}"
                raise _refused(zh, f"line {number} has the invisible control character {code}", "Remove it.")


def _form(lines: Sequence[str]) -> TextForm:
    if lines[0] == "WEBVTT" or lines[0].startswith(("WEBVTT ", "WEBVTT\t")):
        return TextForm.VTT
    first = [line for line in lines if line.strip()][:2]
    return TextForm.SRT if any(_SUBTITLE.match(line) for line in first) else TextForm.PLAIN


def _cues(lines: Sequence[str], form: TextForm) -> Iterator[str]:
    """The spoken lines of subtitles: what follows a line of times, up to an empty one (w3.org/TR/webvtt1)."""
    speaking = False
    for number, line in enumerate(lines, 1):
        if "-->" in line:
            _check_times(line.strip(), number, form)
            speaking = True
        elif not line.strip():
            speaking = False
        elif speaking:
            yield line


def _check_times(line: str, number: int, form: TextForm) -> None:
    found = _TIMES.fullmatch(line)
    if found is None or _milliseconds(found.groups()[:4]) > _milliseconds(found.groups()[4:]):
        zh = f"第 {number} 行不是 {form.upper()} 的起止时间"
        do = "A line of times is like 00:01:02,500 --> 00:01:04,000, its end not before its start."
        raise _refused(zh, f"line {number} has no times as {form.upper()} has them", do)


def _milliseconds(parts: Sequence[str | None]) -> int:
    hours, minutes, seconds, rest = (int(part or 0) for part in parts)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest


def _refused(zh: str, en: str, do: str) -> RequestError:
    return RequestError(f"{zh} / {en}.", safe=_UNCHANGED, do=do)
