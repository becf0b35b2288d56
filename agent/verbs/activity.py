"""`capture-agent activity`: join recordings into an activity, find its gaps, explain and confirm them."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from agent.config import Config, load
from agent.control import read_file
from agent.errors import JournalError, UnknownError
from agent.journal import Reader
from agent.model import Clock
from agent.register import moment
from agent.status.absences import hints
from agent.status.activities import activity_lines, activity_view, proposals_view
from agent.verbs.base import Add, Exit, entered, group, json_option, show, signed_options, text_of

_CANDIDATES: Final = 2_000
_LISTED: Final = 1_000
_TIME: Final = 'like "2026-11-20 16:30", in China'


def add_activity(add: Add, clock: Clock) -> None:
    """`capture-agent activity` and its verbs."""
    own = group(add, clock, "activity", "join recordings into an activity; find, explain and confirm its gaps")
    propose = own("propose", _propose, "which recordings without an activity may be one; a person accepts with `state`")
    state = own("state", _state, "a person states an activity, or states it anew with --activity")
    show = own("show", _show, "one activity: what it asks for, coverage, gaps and their explanations")
    listing = own("list", _list, "the latest activities, with coverage and what waits for a word")
    explain = own("explain", _explain, "an officer explains a gap")
    confirm = own("confirm", _confirm, "a supervisor accepts an explanation, or refuses it")
    for verb in (propose, state):
        text = "how far apart recordings of one proposal may be (default: %(default)s)"
        verb.add_argument("--distance", type=text_of(_minutes), default="30", metavar="MINUTES", help=text)
    _state_options(state)
    for verb in (show, explain, confirm):
        verb.add_argument("id", metavar="ID", help="id of the activity, as `activity list` shows it")
    listing.add_argument("--open", action="store_true", help="only those with gaps that wait for a word")
    explain.add_argument("--gap", required=True, type=int, metavar="N", help="its number in `activity show`")
    explain.add_argument("--code", required=True, help="why, like INT-03; `interruptions.toml` has them all")
    explain.add_argument("--voice", default="", metavar="RECORDING", help="the recording in which the cause is spoken")
    explain.add_argument("--offset", type=text_of(_seconds), default="0", metavar="SECONDS", help="how far into it")
    explain.add_argument("--statement", type=Path, metavar="FILE", help="a written statement (书面说明)")
    explain.add_argument("--not-resumed", action="store_true", help="recording could not go on")
    signed_options(explain, "explains it")
    text = "number of the explanation in `activity show`"
    confirm.add_argument("--explanation", required=True, metavar="N", help=text)
    confirm.add_argument("--refuse", action="store_true", help="the explanation doesn't hold: the gap is open again")
    signed_options(confirm, "decides: a supervisor, not who explained it")
    for verb in (propose, state, show, listing, explain, confirm):
        json_option(verb)


def _state_options(state: argparse.ArgumentParser) -> None:
    state.add_argument("--activity", default="", metavar="ID", help="an activity that is stated anew, as a new version")
    state.add_argument("--stage", required=True, help="code of the stage (执法环节), like S08")
    state.add_argument("--arrived", required=True, type=text_of(_time), metavar="TIME", help=_TIME)
    state.add_argument("--left", required=True, type=text_of(_time), metavar="TIME", help=_TIME)
    text = "a recording that belongs to it; may be given more than once"
    state.add_argument("--recording", action="append", default=[], metavar="ID", help=text)
    text = "key of a proposal that is accepted; may be given more than once, for several recorders"
    state.add_argument("--proposal", action="append", default=[], metavar="KEY", help=text)
    text = "a condition of the profile that held, in its words; may be given more than once"
    state.add_argument("--condition", action="append", default=[], metavar="TEXT", help=text)
    text = "the bureau's own list (音像记录事项清单) asks for full-course recording"
    state.add_argument("--must-full", action="store_true", help=text)
    signed_options(state, "states it")


def _time(text: str) -> str:
    return moment(text).isoformat()


def _minutes(text: str) -> str:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:5]) <= 1440:
        raise ValueError("must be a number of minutes from 1 to 1440")
    return text


def _seconds(text: str) -> str:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= 7 * 86400:
        raise ValueError("must be a number of seconds from 0, like 12.5")
    return str(round(seconds * 1000))


def _propose(options: argparse.Namespace, clock: Clock) -> int:
    with _reading(load(options.config)) as reader:
        found = _proposals(reader, options.distance)
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
        return Exit.OK
    for one in found["proposals"]:
        same = f"  at the same time as {' '.join(one['at_the_same_time'])}" if one["at_the_same_time"] else ""
        print(
            f"proposal {one['key']}  {one['from']} to {one['to']}  {len(one['recordings'])} recordings"
            f" of recorder {one['device_id']}{same}"
        )
    for name in found["without_a_place"]:
        print(f"recording {name}  时间待核，不作归并建议 (its time isn't certain: join it by --recording)")
    return Exit.OK


def _proposals(reader: Reader, distance: str) -> dict[str, Any]:
    return proposals_view(reader.unjoined(_CANDIDATES), timedelta(minutes=int(distance)))


def _state(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    recordings = list(options.recording)
    if options.proposal:
        with _reading(config) as reader:
            known = {one["key"]: one["recordings"] for one in _proposals(reader, options.distance)["proposals"]}
        for key in options.proposal:
            if key not in known:
                what = f"There is no proposal {key[:40]!r}; it may have grown, or been accepted."
                raise UnknownError(
                    what, safe="Nothing was changed.", do="Look again: `capture-agent activity propose`."
                )
            recordings += known[key]
    asked = {
        "id": options.activity, "stage": options.stage, "arrived": options.arrived, "left": options.left,
        "recordings": "\n".join(dict.fromkeys(recordings)), "conditions": "\n".join(options.condition),
        "must_full": "yes" if options.must_full else "", "who": options.who, "why": options.why,
    }  # fmt: skip
    answer = asyncio.run(entered(config, clock, "activity_state", asked))
    told = f"activity {answer['activity']}: {answer['gaps']} gaps, {answer['limits_changed']} time limits changed"
    print(json.dumps(answer) if options.json else told)
    return Exit.OK


def _show(options: argparse.Namespace, clock: Clock) -> int:
    shown = _activity(load(options.config), options.id)
    return show(options, shown, activity_lines(shown, everything=True))


def _activity(config: Config, activity_id: str) -> dict[str, Any]:
    with _reading(config) as reader:
        view = reader.activity(activity_id)
        return activity_view(view, config.profile) | {"hints": hints(view, reader.absences)}


def _list(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    with _reading(config) as reader:
        heads = reader.activity_heads(_LISTED + 1)
        views = (activity_view(reader.activity(name), config.profile) for name, _ in heads[:_LISTED])
        found = [view for view in views if view["open"] or not options.open]
    told = {"activities": found, "or_more": len(heads) > _LISTED}
    return show(options, told, (text for view in found for text in activity_lines(view)))


def _explain(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    shown = _activity(config, options.id)
    gap = next((gap for gap in shown["gaps"] if gap["number"] == options.gap), None)
    if gap is None:
        what = f"Activity {options.id[:64]} has no gap {options.gap}; it has {len(shown['gaps'])}."
        raise UnknownError(what, safe="Nothing was changed.", do="`capture-agent activity show` numbers them.")
    asked = {
        "id": options.id, "from": gap["from"], "to": gap["to"], "device": gap["device_id"],
        "code": options.code, "voice": options.voice, "offset_ms": options.offset,
        "ended": "yes" if options.not_resumed else "", "who": options.who, "why": options.why,
    }  # fmt: skip
    content = read_file(options.statement) if options.statement else None
    verb = "activity_explain" if content is None else "activity_explain_in_writing"
    answer = asyncio.run(entered(config, clock, verb, asked, content))
    waits = "; 待监督人员确认 (waits for a supervisor)" if answer["to_confirm"] else ""
    print(json.dumps(answer) if options.json else f"explanation {answer['number']}: {answer['code']}{waits}")
    return Exit.OK


def _confirm(options: argparse.Namespace, clock: Clock) -> int:
    asked = {
        "id": options.id, "number": options.explanation, "refused": "yes" if options.refuse else "",
        "who": options.who, "why": options.why,
    }  # fmt: skip
    answer = asyncio.run(entered(load(options.config), clock, "activity_confirm", asked))
    told = f"explanation {answer['number']}: {'accepted' if answer['accepted'] else 'refused, the gap is open again'}"
    print(json.dumps(answer) if options.json else told)
    return Exit.OK


@contextmanager
def _reading(config: Config) -> Iterator[Reader]:
    """Beside the service, which may run or not."""
    journal = config.storage.root / "journal.db"
    if not journal.exists():
        raise JournalError(
            f"There is no journal at {journal} yet.", safe="Nothing was touched.", do="Dock a recorder first."
        )
    with closing(Reader(journal)) as reader:
        yield reader
