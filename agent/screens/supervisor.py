"""What a supervisor reads: the station at a glance, all that is known of one recording, the numbers of a year."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial, wraps
from typing import Any, Final

from aiohttp import web
from markupsafe import Markup

from agent.config import Config
from agent.deadline import ZONE, Verdict
from agent.errors import AgentError, UnknownError
from agent.journal import Reader
from agent.journal.recordings import Sort, Wanted
from agent.journal.views import RecordingView
from agent.model import AssetState, Completeness
from agent.register import device_name, recognise
from agent.screens.answers import TEXT_LIMIT, parameters, whole
from agent.screens.filters import FILTERS, wanted_of
from agent.screens.pages import CHOICES, page
from agent.screens.player import ACCESS_COPY, PICTURE, READERS, Player
from agent.screens.who import WHO, Role, allowed
from agent.status.board import Board
from agent.status.chart import figures_svg
from agent.status.counting import Year, YearCount
from agent.status.dossier import dossier, rows_view
from agent.status.explain import verdict_of
from agent.status.heat import heat_svg, month_view
from agent.status.strip import strip_svg
from agent.status.words import WORDS, words

Json = dict[str, Any]
_Page = Callable[[Any, web.Request], Awaitable[web.Response]]

_ROWS: Final = 50
_RECORDERS: Final = 500
_YEARS: Final = 3
"""How many years are remembered once they were counted."""
_COUNTED_S: Final = 300.0
_PATIENCE_S: Final = 3.0
"""How long a page waits for a count before it says that it is under way."""
_EVERYTHING: Final = "all"
_ANY: Final[Mapping[str, dict[str, str]]] = {"": words("不限", "any")}
_SORTS: Final[Mapping[str, tuple[str, str]]] = {
    Sort.DEADLINE: ("最紧急的在前", "most urgent first"),
    Sort.NEWEST: ("最新的在前", "newest first"),
    Sort.CAPTURED: ("最后录制的在前", "captured last first"),
    Sort.SIZE: ("最大的在前", "largest first"),
}


def _said(known: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, str]]:
    return {str(name): words(*said) for name, said in known.items()}


_OFFERED: Final[Mapping[str, Mapping[str, dict[str, str]]]] = {
    "state": {"": words("中心未接收", "not stored yet"), _EVERYTHING: words("全部", "all"), **_said(WORDS[AssetState])},
    "verdict": {**_ANY, **_said(WORDS[Verdict])},
    "completeness": {**_ANY, **_said(WORDS[Completeness])},
    "sort": _said(_SORTS),
}
"""The choices of each filter, with their words; the empty one doesn't filter."""


def _in_words(handler: _Page) -> _Page:
    """Say on a page, not as JSON, that there is no such thing, or that the station is out of order (故障)."""

    @wraps(handler)
    async def shown(self: Any, request: web.Request) -> web.Response:  # noqa: ANN401 - whose handler it is
        try:
            return await handler(self, request)
        except UnknownError:
            what = words("没有这个记录", "There is no such recording")
            return page(request, "trouble.html", 404, what=what, why="")
        except AgentError as error:
            what = words("故障：本站状态无法读取", "Out of order: the state of this station can't be read")
            return page(request, "trouble.html", 503, what=what, why=str(error))

    return shown


class Supervisor:
    """The pages; each is rendered from one answer of the journal."""

    def __init__(self, board: Board, player: Player) -> None:
        self._board = board
        self._player = player
        self._closing = threading.Event()
        self._years: dict[int, tuple[float, asyncio.Task[Year], YearCount]] = {}

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/", self.station),
            web.get("/recordings/{recording}", self.recording),
            web.get("/statistics", self.statistics),
            web.get("/statistics/{year}", self.chart),
        ]

    async def close(self, _: web.Application) -> None:
        """End a count that is under way: the service doesn't wait for it."""
        self._closing.set()

    @allowed(Role.SUPERVISOR, Role.CUSTODIAN, Role.IT, page=True)
    @_in_words
    async def station(self, request: web.Request) -> web.Response:
        """The state of the station with its reasons, what is at risk, and a list that can be filtered."""
        asked = parameters(request, (*FILTERS, "after", *CHOICES))
        after = asked.get("after", "")
        if len(after) > TEXT_LIMIT or not after.isprintable():
            raise web.HTTPBadRequest(text="after must be that of the page before")
        state = json.loads(await self._board.status())
        recorders = await self._board.look(_recorders)
        rows, further = await self._board.look(partial(_listed, *_wanted(asked), after))
        risks = {risk["recording_id"]: risk for risk in state["at_risk"]}
        more: Json = {
            "reads": _reads(request),
            "asked": asked,
            "offered": {**_OFFERED, "device": {**_ANY, **recorders}},
            "after": after,
            "further": further,
        }
        return page(request, "station.html", state=state, rows=rows, risks=risks, **more)

    @allowed(*READERS, page=True)
    @_in_words
    async def recording(self, request: web.Request) -> web.Response:
        """One recording: pictures, player, record, custody, why it must be stored when."""
        asked = parameters(request, ("grant", *CHOICES))
        identifier = request.match_info["recording"][:TEXT_LIMIT]
        station = await self._board.look(_station)
        shown = await self._board.look(lambda reader, config, now: dossier(reader, config, identifier, now))
        strips = [(view, _pictures(partial(strip_svg, view))) for view in shown["activities"]]
        copy, grant = shown["shown"].get(ACCESS_COPY, ""), asked.get("grant", "")
        plays = grant if self._player.holds(request, grant, copy, station["now"]) else ""
        return page(request, "recording.html", **shown, station=station, strips=strips, grant=plays)

    @allowed(*READERS, page=True)
    @_in_words
    async def statistics(self, request: web.Request) -> web.Response:
        """A year in figures, and a month of it day by day."""
        asked = parameters(request, ("year", "month", *CHOICES))
        station = await self._board.look(_station)
        year, month = _asked_month(asked, station)
        counted = await self._counted(year)
        days = None if counted is None else month_view(year, month, counted.days)
        heat = None if days is None else _pictures(partial(heat_svg, days))
        return page(request, "statistics.html", station=station, year=year, month=month, days=days, heat=heat)

    @allowed(*READERS)
    async def chart(self, request: web.Request) -> web.Response:
        """The figures of a year as a picture, without numbers by which a person could be told."""
        parameters(request)
        station = await self._board.look(_station)
        counted = await self._counted(whole(request.match_info["year"], "year", *_known_years(station)))
        if counted is None:
            raise web.HTTPServiceUnavailable(text="the year is being counted; ask again in a minute")
        return web.Response(text=figures_svg(counted.figures), content_type="image/svg+xml", headers=PICTURE)

    async def _counted(self, year: int) -> Year | None:
        """A year, counted at most five minutes ago; None while the walk over the journal takes its time."""
        now_s = asyncio.get_running_loop().time()
        at_s, task, before = self._years.get(year, (0.0, None, None))
        if task is None or (task.done() and (now_s - at_s > _COUNTED_S or task.exception() is not None)):
            count = before or YearCount(year)
            task = asyncio.create_task(self._count(count))
            self._years[year] = now_s, task, count
            for old in list(self._years)[:-_YEARS]:
                self._years.pop(old)
        await asyncio.wait([task], timeout=_PATIENCE_S)
        return task.result() if task.done() else None

    async def _count(self, count: YearCount) -> Year:
        config, now = await self._board.look(lambda _, config, now: (config, now))
        return await asyncio.to_thread(count.of, config, None, now, self._closing.is_set)


def _pictures(draw: Callable[[str], str]) -> dict[str, Markup]:
    """A picture of ours in each language: what others named is escaped where it is drawn."""
    return {lang: Markup(draw(lang)) for lang in CHOICES["lang"]}  # noqa: S704 - see above


def _station(reader: Reader, config: Config, now: datetime) -> Json:
    """Its name, and the years of which there can be recordings: a recorder may bring some of the year before."""
    newest = now.astimezone(ZONE).year
    first = next((event.at.astimezone(ZONE).year for event in reader.events(0, 1)), newest)
    return {"name": config.station.name, "now": now, "years": list(range(newest, min(first, newest) - 2, -1))}


def _recorders(reader: Reader, config: Config, now: datetime) -> dict[str, dict[str, str]]:
    """Each recorder by its number, if it has one, and as it names itself."""
    del now
    names: dict[str, str] = {}
    for device_id, device in reader.devices().items():
        recorder = recognise(config.inventory, device)
        parts = (recorder.number or recorder.recorder_id if recorder else "", device_name(device), device.label)
        names[device_id] = " · ".join(dict.fromkeys(filter(None, parts)))
    known = sorted(names.items(), key=lambda one: one[1])[:_RECORDERS]
    return {device_id: words(name, name) for device_id, name in known}


def _known_years(station: Json) -> tuple[int, int]:
    return station["years"][-1], station["years"][0]


def _asked_month(asked: Mapping[str, str], station: Json) -> tuple[int, int]:
    now = station["now"].astimezone(ZONE)
    year = whole(asked.get("year", str(now.year)), "year", *_known_years(station))
    return year, whole(asked.get("month", str(now.month if year == now.year else 12)), "month", 1, 12)


def _reads(request: web.Request) -> bool:
    """Whether who asks may know of single recordings: who made them, what they show."""
    return WHO in request and request[WHO].role in READERS


def _wanted(asked: Mapping[str, str]) -> tuple[Wanted, Verdict | None]:
    """What is to be listed, most urgent first; what no store has, unless a state or a verdict is asked for."""
    given = {name: asked[name] for name in FILTERS if asked.get(name)}
    if given.get("state") == _EVERYTHING:
        del given["state"]
    wanted, verdict = wanted_of({"sort": Sort.DEADLINE, **given})
    return replace(wanted, unsafe=not asked.get("state") and verdict is None), verdict


def _listed(
    wanted: Wanted, verdict: Verdict | None, after: str, reader: Reader, config: Config, now: datetime
) -> tuple[list[Json], str]:
    """A page of what is wanted, and the place behind it, empty at the end."""

    def fits(row: RecordingView) -> bool:
        return verdict_of(row, config.deadline.satisfied_by, now) is verdict

    found = reader.page(replace(wanted, accepts=fits) if verdict is not None else wanted, after, _ROWS)
    return rows_view(reader, config, found.rows, now), found.after or ""
