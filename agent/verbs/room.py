"""`capture-agent room`: what is recorded in which room; start, stop, extend and test by hand; a session's ledger."""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any, Final

from agent.config import Config, load
from agent.control import NotRunningError, ask
from agent.deadline import ZONE
from agent.errors import JournalError
from agent.journal import Reader
from agent.model import Clock
from agent.register import moment
from agent.status.client import StatusUnavailable, fetch_status
from agent.status.rooms import room_lines, test_view
from agent.status.sessions import PARTS_LIMIT, SESSIONS_SHOWN, session_view, sessions_view
from agent.status.views import to_json
from agent.verbs.base import Add, Exit, Fields, group, json_option, show, signed_options, text_of

_TEST_LIMIT_S: Final = 120.0
_LOOK_S: Final = 1.0
_END: Final = 'until when, like "2026-11-24 12:00" or 16:30, in China; or a number of minutes from now, like +90'


def add_room(add: Add, clock: Clock) -> None:
    """`capture-agent room` and its verbs."""
    own = group(
        add, clock, "room", "record hearing and interview rooms: start, stop, extend, test, and what was recorded"
    )
    listing = own("list", _list, "the rooms, what is recorded in them now, and when their next sessions are planned")
    start = own("start", _start, "start a session; one that is planned for now is that session")
    stop = own("stop", _stop, "end the session of a room")
    extend = own("extend", _extend, "plan another end for the session of a room")
    test = own("test", _test, "record ten seconds through the whole chain and say what is wrong; exit code 4 if it is")
    shown = own(
        "show", _show, "a session with its ledger: every gap with start, end and cause; or a room's latest ones"
    )
    for verb in (start, stop, extend, test):
        verb.add_argument("room", metavar="ROOM", help="its name in rooms.toml")
    shown.add_argument("id", metavar="ROOM|SESSION", help="a room's name in rooms.toml, or the id of a session")
    shown.add_argument("--part", type=int, choices=range(1, PARTS_LIMIT), metavar="N", help="which hundred segments")
    start.add_argument("--stage", default="", help="code of the stage (执法环节), like S05 (default: the room's)")
    start.add_argument("--title", default="", help="what it is about")
    start.add_argument("--case", default="", metavar="NUMBER", help="case number (案号)")
    text = "who takes part; may be given more than once"
    start.add_argument("--participant", action="append", default=[], metavar="NAME", help=text)
    until = text_of(lambda text: _until(text, clock))
    start.add_argument("--until", default="", type=until, metavar="TIME", help=_END)
    start.add_argument("--anyway", action="store_true", help="also if the disk hasn't the space for the planned time")
    extend.add_argument("--until", required=True, type=until, metavar="TIME", help=_END)
    signed_options(start, "starts it")
    signed_options(stop, "ends it")
    signed_options(extend, "wants it")
    for verb in (listing, start, stop, extend, test, shown):
        json_option(verb)


def _list(options: argparse.Namespace, clock: Clock) -> int:
    told = fetch_status(load(options.config).storage.root, "/api/v1/rooms")
    return show(options, told, list(room_lines(told["rooms"])) or ["rooms.toml names no room"])


def _start(options: argparse.Namespace, clock: Clock) -> int:
    asked = {
        "room": options.room, "stage": options.stage, "title": options.title, "case_number": options.case,
        "participants": "\n".join(options.participant), "planned_end": options.until,
        "anyway": "yes" if options.anyway else "", "who": options.who, "why": options.why,
    }  # fmt: skip
    answer = _asked(load(options.config), "session_start", asked)
    return show(options, answer, [f"session {answer['session']} runs in {options.room}"])


def _stop(options: argparse.Namespace, clock: Clock) -> int:
    asked = {"room": options.room, "who": options.who, "why": options.why}
    answer = _asked(load(options.config), "session_stop", asked)
    told = "has ended" if answer["ended"] else "is ending; what it recorded last is still being taken"
    return show(options, answer, [f"session {answer['session']} {told}"])


def _extend(options: argparse.Namespace, clock: Clock) -> int:
    asked = {"room": options.room, "planned_end": options.until, "who": options.who, "why": options.why}
    answer = _asked(load(options.config), "session_extend", asked)
    missing = answer["missing_bytes"] / 1e9
    lacks = f"; the disk lacks {missing:.1f} GB for that: make room" if missing else ""
    return show(options, answer, [f"session {answer['session']} is to end at {answer['planned_end']}{lacks}"])


def _test(options: argparse.Namespace, clock: Clock) -> int:
    config, began = load(options.config), clock()
    answer = _asked(config, "room_test", {"room": options.room})
    end_s = time.monotonic() + _TEST_LIMIT_S
    with _reading(config) as reader:
        test = reader.newest_test(options.room)
        while (test is None or test.tested_at < began) and answer.get("under_way") and time.monotonic() < end_s:
            time.sleep(_LOOK_S)
            test = reader.newest_test(options.room)
    if test is None or test.tested_at < began:
        what = f"The test of room {options.room[:64]} didn't come to an end."
        raise JournalError(what, safe="Nothing was changed.", do="See the service's log.")
    told = test_view(test)
    lines = [f"{'ok ' if one['passed'] else 'BAD'} {one['zh']} {one['en']}{_why(one)}" for one in told["checks"]]
    show(options, told, lines)
    return Exit.OK if test.passed else Exit.DEVICE


def _why(check: Fields) -> str:
    return "" if check["passed"] else f": {check['told']}"


def _show(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    with _reading(config) as reader:
        if options.id in config.rooms:
            found = sessions_view(reader.sessions_of(options.id, SESSIONS_SHOWN))
            return show(
                options, {"sessions": found}, [_line(one) for one in found] or ["nothing was recorded there yet"]
            )
        shown = session_view(reader, config, options.id, options.part, clock())
    if options.json:
        print(to_json(shown).decode())
        return Exit.OK
    return show(options, shown, _session_lines(shown))


def _line(one: Fields) -> str:
    ended = f"to {one['ended_at']} ({one['reason']['en']})" if one["ended_at"] else "is still recorded"
    return f"session {one['session_id']}  {one['started_at']} {ended}  {one['stage']['zh']}"


def _session_lines(shown: Fields) -> Iterator[str]:
    yield _line(shown)
    said = f"{shown['title']}  case {shown['case_number'] or '-'}  by {shown['who']}: {shown['why']}"
    yield f"room {shown['room_title']}  {said}"
    for source in shown["sources"]:
        size = f"{source['segments']} segments, {source['media_s']:.1f} s, {source['size_bytes']} bytes"
        yield f"source {source['source']} {source['title']}: {size}"
    for one in shown["ledger"]:
        cause = f" ({one['cause']['zh']} {one['cause']['en']})" if one["cause"] else ""
        ended = f"to {one['end']}" if one["end"] else "goes on"
        yield f"ledger {one['start']} {ended}  {one['title']} {one['kind']['zh']} {one['kind']['en']}{cause}"
    for test in shown["tests"]:
        wrong = "; ".join(f"{one['en']}{_why(one)}" for one in test["checks"] if not one["passed"])
        yield f"test {test['tested_at']}: {wrong or 'passed'}"


def _until(text: str, clock: Clock) -> str:
    """As an ISO time, empty without one; raises ValueError with the reason."""
    now = clock().astimezone(ZONE)
    if not text:
        return ""
    if re.fullmatch(r"\+[0-9]{1,4}", text):
        return (now + timedelta(minutes=int(text))).isoformat()
    if re.fullmatch("[0-9]{1,2}:[0-9]{2}", text):
        end = moment(f"{now:%Y-%m-%d} {text:0>5}")
        return (end if end > now else end + timedelta(days=1)).isoformat()
    return moment(text).isoformat()


def _asked(config: Config, verb: str, asked: dict[str, str]) -> Any:  # noqa: ANN401
    """Only the service records: without one there is nothing to start."""
    try:
        return asyncio.run(ask(config.storage.root, verb, asked))
    except NotRunningError as error:
        what = "The service is not running; only it can record a room."
        raise StatusUnavailable(what, do="Start it with `systemctl start capture-agent`.") from error


def _reading(config: Config) -> closing[Reader]:
    journal = config.storage.root / "journal.db"
    if not journal.exists():
        raise JournalError(
            f"There is no journal at {journal} yet.", safe="Nothing was touched.", do="Start the service."
        )
    return closing(Reader(journal))
