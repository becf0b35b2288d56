"""`capture-agent metadata`: what is known of recordings, what an officer says of them, and who has checked it."""

from __future__ import annotations

import argparse
import asyncio
import json
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Final

from agent.access.parts import parts_m3u8
from agent.config import load
from agent.errors import RequestError
from agent.journal import Reader
from agent.metadata import FIELDS
from agent.model import Clock, Completeness, Forms
from agent.register import line
from agent.status.families import playlist
from agent.status.record import Json, history_lines, history_view, known_of, record_lines, record_view
from agent.status.words import WORDS
from agent.verbs.base import Add, Fields, entered, group, json_option, show, signed_options, text_of

_FORM_LIMIT_BYTES: Final = 256 * 1024


def add_metadata(add: Add, clock: Clock) -> None:
    """`capture-agent metadata` and its verbs."""
    own = group(add, clock, "metadata", "what is known of a recording, what an officer says of it, who checked it")
    show = own("show", _show, "every field that is known of a recording, with who says it, and what is missing")
    history = own("history", _history, "every version of what was said of a recording: who, when, why, old and new")
    parts = own("parts", _parts, "a playlist (M3U8) of the originals of a recording that its recorder cut into parts")
    for verb in (show, history, parts):
        verb.add_argument("id", metavar="ID", help="asset or recording id, as the status shows it")
    say = own("set", _set, "an officer says something of one recording or of many; nothing waits for it")
    text = "a field and its value; a list: repeat it; parts: divide them by /, like makers=张三/37080012345"
    say.add_argument("--field", action="append", default=[], type=text_of(_pair), metavar="NAME=VALUE", help=text)
    say.add_argument("--withdraw", action="append", default=[], metavar="NAME", help="a field is no longer said")
    say.add_argument(
        "--file", type=Path, metavar="FORM.toml", help="fields from a file, as `metadata fields` lists them"
    )
    check = own("check", _check, "somebody has checked all that is said of recordings that lack nothing (已核对)")
    for verb in (say, check):
        verb.add_argument("ids", nargs="*", metavar="ID", help="asset or recording ids, as the status shows them")
        verb.add_argument("--docking", default="", metavar="ID", help="also all recordings that were new in a docking")
        verb.add_argument("--activity", default="", metavar="ID", help="also all recordings of an activity")
        text = "only if this is the version of all of them: nobody else has spoken since"
        verb.add_argument("--if-version", dest="version", type=text_of(_number), metavar="N", help=text)
    signed_options(say, "says so", text_of(line))
    signed_options(check, "has checked it", text_of(line))
    fields = own(
        "fields", _fields, "every field that can be said: what it takes, its codes, the article that asks for it"
    )
    for verb in (show, history, parts, say, check, fields):
        json_option(verb)


def _pair(text: str) -> str:
    name, divider, _ = text.partition("=")
    if not divider or not name:
        raise ValueError("must be NAME=VALUE, like stage=S03")
    return text


def _number(text: str) -> str:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ValueError("must be a number, as `metadata show` tells it")
    return str(int(text))


def _show(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    with closing(Reader(config.storage.root / "journal.db")) as reader:
        record = record_view(known_of(reader, options.id), config, clock())
    return show(options, record, record_lines(record))


def _history(options: argparse.Namespace, _: Clock) -> int:
    config = load(options.config)
    with closing(Reader(config.storage.root / "journal.db")) as reader:
        history = history_view(known_of(reader, options.id))
        return show(options, history, history_lines(history))


def _parts(options: argparse.Namespace, _: Clock) -> int:
    config = load(options.config)
    with closing(Reader(config.storage.root / "journal.db")) as reader:
        parts = playlist(reader, reader.recording(options.id), config.forms.names)
    return show(options, {"parts": [asdict(part) for part in parts]}, parts_m3u8(parts).decode().splitlines())


def _set(options: argparse.Namespace, clock: Clock) -> int:
    fields = _read(options.file) if options.file is not None else {}
    given: dict[str, list[str]] = {}
    for name, _, value in (pair.partition("=") for pair in options.field):
        given.setdefault(name, []).append(value)
    fields |= {name: values if len(values) > 1 else values[0] for name, values in given.items()}
    fields |= dict.fromkeys(options.withdraw)
    return _enter(options, clock, "metadata_set", {"fields": json.dumps(fields, default=str)})


def _check(options: argparse.Namespace, clock: Clock) -> int:
    return _enter(options, clock, "metadata_check", {})


def _enter(options: argparse.Namespace, clock: Clock, verb: str, said: dict[str, str]) -> int:
    signed = {"who": options.who, "why": options.why, "version": options.version or ""}
    asked = {"ids": " ".join(options.ids), "docking": options.docking, "activity": options.activity, **signed, **said}
    answer = asyncio.run(entered(load(options.config), clock, verb, asked))
    return show(options, answer, _answer_lines(answer))


def _read(path: Path) -> Fields:
    try:
        with path.open("rb") as file:
            content = file.read(_FORM_LIMIT_BYTES + 1)
        if len(content) > _FORM_LIMIT_BYTES:
            raise _no_form(path, f"is larger than {_FORM_LIMIT_BYTES // 1024} KiB")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise _no_form(path, f"can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _no_form(path, "is not a TOML file") from error


def _no_form(path: Path, why: str) -> RequestError:
    return RequestError(f"{path} {why}.", safe="Nothing was changed.", do='A form has lines like: stage = "S03"')


def _fields(options: argparse.Namespace, _: Clock) -> int:
    forms = load(options.config).forms
    listed = [
        {
            "name": field.name, "zh": field.zh, "en": field.en, "citation": field.citation,
            "takes": {"zh": field.kind.zh, "en": field.kind.en},
            "codes": {
                name: {"zh": code.zh, "en": code.en, "citation": code.citation}
                for name, code in field.kind.codes.items() if _is_chosen(field.name, name, forms)
            },
        }
        for field in FIELDS.values()
    ]  # fmt: skip
    lists = {"officers": sorted(forms.officers), "items": sorted(forms.items), "case_no": forms.case_no}
    told = {"fields": listed, **lists}
    return show(options, told, _field_lines(told))


def _is_chosen(field: str, code: str, forms: Forms) -> bool:
    return field != "stage" or not forms.stages or code in forms.stages


def _field_lines(listed: Json) -> Iterator[str]:
    for field in listed["fields"]:
        yield f"{field['name']}  {field['zh']} {field['en']}  ({field['takes']['zh']}; {field['takes']['en']})"
        if field["citation"]:
            yield f"    {field['citation']}"
        yield from (f"    {name}  {code['zh']}  {code['en']}" for name, code in field["codes"].items())
    yield f"officers: {', '.join(listed['officers']) or 'none'}; items: {', '.join(listed['items']) or 'none'}"


def _answer_lines(answer: Json) -> Iterator[str]:
    told = WORDS[Completeness]
    states = "  ".join(f"{told[name][0]} {told[name][1]}: {count}" for name, count in answer["completeness"].items())
    yield f"{answer['recordings']} recordings; {states}; version {', '.join(map(str, answer['versions']))}"
    for warning in answer["warnings"]:
        yield f"  ! {warning['field']}：{warning['zh']} ({warning['en']})"
    if answer.get("own_words"):
        yield f"  ! {answer['own_words']} 份由同一人填写并核对 (checked by whoever said it last)"
