"""What persons order of sessions by name, at the control socket and on the screens: text in, and a word back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from agent.config.rooms import Room
from agent.errors import RequestError
from agent.model import STAGES, StartedBy
from agent.pipeline.limits import check_words, moment
from agent.pipeline.sessions import Order, Sessions
from agent.register import line

Asked = Mapping[str, str]
Answer = dict[str, object]
Verb = Callable[[Asked], Awaitable[Answer]]
Meant = Callable[[Room, Order], Order]

_PEOPLE_LIMIT = 50
_UNCHANGED = "Nothing was changed."


def session_verbs(sessions: Sessions, meant: Meant = lambda _, order: order) -> dict[str, Verb]:
    """The verbs by name. `meant` makes a planned session of what is started when one is about to begin."""
    own = {"session_stop": partial(stop, sessions), "session_extend": partial(extend, sessions)}
    return {"session_start": partial(start, sessions, meant), **own}


async def start(sessions: Sessions, meant: Meant, asked: Asked) -> Answer:
    """Start one: `room`, `who`, and, if they aren't empty, `started_by` (without it a command), `why`, `stage`,
    `title`, `case_number`, `participants` (one a line), `planned_start`, `planned_end`, `anyway`.

    Raises RequestError in words.
    """
    people = tuple(filter(None, map(str.strip, asked.get("participants", "").split("\n"))))
    said = {name: asked.get(name, "").strip() for name in ("title", "case_number", "why")}
    check_words(asked["who"], *(text for text in (*said.values(), *people) if text))
    stage = asked.get("stage", "")
    if (stage and stage not in STAGES) or len(people) > _PEOPLE_LIMIT:
        what = f"没有这个执法环节，或超过 {_PEOPLE_LIMIT} 人 (no stage {stage[:40]!r}, or too many persons)."
        raise RequestError(what, safe=_UNCHANGED, do="Stages are S01 to S20 and S99, like S05.")
    begin, end = (moment(asked[name]) if asked.get(name) else None for name in ("planned_start", "planned_end"))
    order = Order(
        StartedBy(asked.get("started_by") or StartedBy.COMMAND), line(asked["who"]), stage=stage, participants=people,
        planned_start=begin, planned_end=end, anyway=bool(asked.get("anyway")), **said,
    )  # fmt: skip
    room = sessions.rooms.get(asked["room"])
    return {"session": await sessions.start(asked["room"], meant(room, order) if room is not None else order)}


async def stop(sessions: Sessions, asked: Asked) -> Answer:
    """Stop one and have all of it taken: `session` (its id) or `room`, `who`, `why` if it isn't empty.

    `ended` is false if that takes long: it goes on by itself.
    """
    check_words(asked["who"], *filter(None, [asked.get("why", "")]))
    name = _named(sessions, asked)
    await sessions.stop(name, line(asked["who"]), asked.get("why", ""))
    return {"session": name, "ended": all(one.session_id != name for one in sessions.running())}


async def extend(sessions: Sessions, asked: Asked) -> Answer:
    """Plan another end: `session` (its id) or `room`, `planned_end`, `who`, `why` if it isn't empty."""
    check_words(asked["who"], *filter(None, [asked.get("why", "")]))
    if not asked["planned_end"]:
        what = "请填写新的结束时间 (say until when it is to last)."
        raise RequestError(what, safe=_UNCHANGED, do="State a time.")
    name, end = _named(sessions, asked), moment(asked["planned_end"])
    missing = await sessions.extend(name, end, line(asked["who"]), asked.get("why", ""))
    return {"session": name, "planned_end": end.isoformat(), "missing_bytes": missing}


def _named(sessions: Sessions, asked: Asked) -> str:
    """The session that is meant; raises RequestError if nothing runs in its room."""
    if name := asked.get("session", ""):
        return name
    room = asked.get("room", "")
    if running := next((one.session_id for one in sessions.running() if one.room == room), ""):
        return running
    what = f"没有正在进行的会话 (nothing is being recorded in room {room[:64]!r})."
    raise RequestError(what, safe=_UNCHANGED, do="Look at `capture-agent room list`.")
