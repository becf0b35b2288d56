"""`/metrics`: the status in numbers for Prometheus; no names, and as many series on every station."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import getitem
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from agent.deadline import ZONE
from agent.screens.answers import parameters
from agent.screens.who import Role, allowed
from agent.status.board import Board
from agent.status.words import Hold, Light

Json = dict[str, Any]
Samples = Iterable[tuple[str, float | None]]
"""Values by that of the label; None is not known, and then there is no sample: never a zero that nobody counted."""

_PREFIX: Final = "capture_agent_"
_DUE_SOON: Final = "due soon (24 h)"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what it is called behind the prefix, what it says, its label if it has one, and where it is read."""

    name: str
    text: str
    read: Callable[[Json], Samples]
    label: str = ""

    def family(self, status: Json) -> Family:
        """Its samples; what only grows is a counter, as its name tells."""
        kind = CounterMetricFamily if self.name.endswith("_total") else GaugeMetricFamily
        found = kind(_PREFIX + self.name, self.text, labels=[self.label] if self.label else [])
        for label, value in self.read(status):
            if value is not None:
                found.add_metric([label] if self.label else [], value)
        return found


def _at(*path: str) -> Callable[[Json], Samples]:
    """The number at that place of the status; a truth is 1 or 0, a time seconds since 1970."""
    return lambda status: [("", _number(_found(status, path)))]


def _many(*path: str) -> Callable[[Json], Samples]:
    """How many there are at that place of the status."""
    return lambda status: [("", len(list(_found(status, path))))]


def _found(status: Json, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - whatever the JSON has there
    return reduce(getitem, path, status)


def _number(value: str | float | None) -> float | None:
    if isinstance(value, str):
        return _seconds(value)
    return None if value is None else float(value)


def _seconds(text: str) -> float:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=ZONE)).timestamp()


def _tally(of: str, what: str) -> Callable[[Json], Samples]:
    return lambda status: ((name, tally[what]) for name, tally in status["counters"][of].items())


def _tile(english: str) -> Callable[[Json], Samples]:
    return lambda status: (("", tile["count"]) for tile in status["tiles"] if tile["en"] == english)


def _holds(status: Json) -> Samples:
    shown = [slot["hold"]["name"] for slot in status["slots"]]
    return ((hold.value, shown.count(hold)) for hold in Hold)


def _rooms(status: Json) -> Samples:
    shown = [room["light"]["name"] for room in status["rooms"]]
    return ((light.value, shown.count(light)) for light in Light)


def _sources(status: Json) -> Samples:
    shown = [source["light"]["name"] for room in status["rooms"] for source in room["sources"]]
    return ((light.value, shown.count(light)) for light in Light)


def _room_gaps(status: Json) -> Samples:
    return [("", sum(room["gaps"] for room in status["rooms"]))]


def _room_tests(status: Json) -> Samples:
    tests = [room["test"] for room in status["rooms"] if room["test"]]
    return [("", sum(not test["passed"] for test in tests))]


def _room_hours(status: Json) -> Samples:
    hours = [room["disk_hours"] for room in status["rooms"] if room["disk_hours"] is not None]
    return [("", min(hours, default=None))]


def _completeness(status: Json) -> Samples:
    found: Mapping[str, float] = status["counters"]["completeness"]
    return found.items()


def _rate(status: Json) -> Samples:
    return [("", sum(slot["rate_bytes_s"] for slot in status["slots"]))]


def _pulling(status: Json) -> Samples:
    return [("", status["health"]["name"] != "failed")]


def _damaged(status: Json) -> Samples:
    return [("", status["scrub"]["damaged"] + status["scrub"]["full_damaged"])]


def _version(status: Json) -> Samples:
    return [(status["station"]["version"], 1)]


METRICS: Final = (
    Metric("info", "Always 1; the version that runs.", _version, "version"),
    Metric("problems", "Reasons why the screens say degraded or worse; 0 is in order.", _many("health", "problems")),
    Metric("pulling", "1 while recorders can be pulled, 0 while the screens say out of order.", _pulling),
    Metric("status_timestamp_seconds", "The station's clock when these numbers were made, since 1970.", _at("now")),
    Metric("originals", "Originals by state.", _tally("assets", "files"), "state"),
    Metric("originals_bytes", "Bytes of originals by state.", _tally("assets", "bytes"), "state"),
    Metric("documents", "Manifests, receipts and other papers by state.", _tally("documents", "files"), "state"),
    Metric("copies", "Access copies and what belongs to them, by state.", _tally("derived", "files"), "state"),
    Metric("clips", "Files ever seen on recorders, by what became of them.", _tally("clips", "files"), "outcome"),
    Metric("metadata", "Recordings by whether what the law asks for was filled in.", _completeness, "completeness"),
    Metric("overdue", "Recordings not stored when the law wanted it; only on an official calendar.", _tile("overdue")),
    Metric("due_soon", "Recordings due within 24 hours, among the most urgent 50.", _tile(_DUE_SOON)),
    Metric("undecided", "Recordings whose limit is not certain, among the most urgent 50.", _tile("undecided")),
    Metric("gaps_unexplained", "Interruptions of activities that nobody explained.", _tile("gaps not explained")),
    Metric("forecast_missed", "Files that will not be stored in time at the present rate.", _at("forecast", "missed")),
    Metric("dockings_open", "Dockings that have not ended.", _at("counters", "open_dockings")),
    Metric("slots", "Recorders in the dock by what may be done with them.", _holds, "hold"),
    Metric("pull_bytes_per_second", "Rate at which recorders are read, all together.", _rate),
    Metric("recorders_not_back", "Registered recorders not returned in time.", _at("devices", "not_back")),
    Metric(
        "recorders_past_limit",
        "Recorders not docked while the earliest possible limit of footage on them passed.",
        _at("devices", "ran_out"),
    ),
    Metric("rooms", "Rooms by whether they are recorded now.", _rooms, "light"),
    Metric("room_sources", "Cameras and microphones of rooms by whether they are recorded now.", _sources, "light"),
    Metric("room_gaps", "Gaps so far of the sessions that are running.", _room_gaps),
    Metric("room_tests_failed", "Rooms whose latest readiness test failed.", _room_tests),
    Metric("room_disk_hours", "For how many hours the disk lasts, in the room where that is least.", _room_hours),
    Metric("store_up", "1 while the store answers, 0 while it fails.", _at("store", "answers")),
    Metric("store_locks", "Whether the store keeps what it has from being removed.", _at("store", "locks")),
    Metric("store_bytes_per_second", "Measured rate of the store.", _at("forecast", "rate_bytes_s")),
    Metric("uploads", "Uploads under way.", _many("store", "uploads")),
    Metric("audit_checked_total", "Stored originals proved again since the start.", _at("store", "audit", "checked")),
    Metric("audit_lost_total", "Of these, no longer what their receipt says.", _at("store", "audit", "lost")),
    Metric("audit_timestamp_seconds", "When the store was last audited, since 1970.", _at("store", "audit", "last_at")),
    Metric("scrub_timestamp_seconds", "When all files had last been read again, since 1970.", _at("scrub", "full_at")),
    Metric("scrub_damaged", "Files found damaged in this round and the last complete one.", _damaged),
    Metric("free_bytes", "Free space of the station.", _at("storage", "free_bytes")),
    Metric("reserve_bytes", "Free space at which pulling stops.", _at("storage", "reserve_bytes")),
    Metric("clock_synchronised", "Whether a time service keeps the clock right.", _at("clock", "synced")),
    Metric("hardware_clock_ahead_seconds", "How far the hardware clock is ahead.", _at("clock", "rtc_ahead_s")),
    Metric(
        "calendar_until_timestamp_seconds",
        "Day until which limits rest on official calendars, since 1970.",
        _at("calendar", "official_until"),
    ),
    Metric("manifests_unsigned", "Manifests that wait for the station's signature.", _at("manifests", "to_sign")),
    Metric("journal_events_total", "Events in the custody journal.", _at("seq")),
)
"""All of them; docs/metrics.md says the same."""


class _Status(Collector):
    """The status of one moment as families."""

    def __init__(self, status: Json) -> None:
        self._status = status

    def collect(self) -> Iterator[Family]:
        return (metric.family(self._status) for metric in METRICS)


def exposition(status: Mapping[str, Any]) -> bytes:
    """The status as Prometheus reads it, and what the process costs; made of the JSON, so that both say the same."""
    registry = CollectorRegistry()
    registry.register(_Status(dict(status)))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def routes(board: Board) -> list[web.RouteDef]:
    """`/metrics`; without a journal there is an error and no numbers, so that Prometheus says that we are down."""

    @allowed(Role.IT)
    async def metrics(request: web.Request) -> web.Response:
        """The status in numbers, for Prometheus."""
        parameters(request)
        body = exposition(json.loads(await board.status()))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [web.get("/metrics", metrics)]
