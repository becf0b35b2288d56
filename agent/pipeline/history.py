"""What the log says of the station itself: since when it stood still, upgrades, configurations, refused requests."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent import __version__
from agent.config.digest import digest_of
from agent.journal import Reader
from agent.model import Incident
from agent.pipeline.station import Station

_REFUSALS_LIMIT: Final = 60
_WITHIN_S: Final = 3600.0
_UNKNOWN: Final = "unknown"


async def begun(station: Station, config: Path) -> int:
    """Journal that the service begins, and what is other than at its last start; returns the event's number."""
    run = await station.journal.record(await station.on_disk(_start, station.journal.reader))
    before = await station.on_disk(station.journal.reader.last_incident, "version")
    if before is None or before.detail["now"] != __version__:
        told = {"now": __version__, "before": before.detail["now"] if before else ""}
        await station.journal.record(Incident("version", told))
    await configured(station, config)
    return run


async def configured(station: Station, config: Path) -> None:
    """Journal the digest of the configuration's files, if it is another one than the last time."""
    digest = await station.on_disk(_digest, config)
    before = await station.on_disk(station.journal.reader.last_incident, "configuration")
    if before is None or before.detail["sha256"] != digest:
        told = {"sha256": digest, "before": before.detail["sha256"] if before else ""}
        await station.journal.record(Incident("configuration", told))


class Refusals:
    """Requests that were refused, as events; of many within an hour only the first, and how many more there were."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._told_s: deque[float] = deque(maxlen=_REFUSALS_LIMIT)
        self._more = 0

    def refused(self, what: str, why: str) -> Incident | None:
        """Return what is to be journalled: what was asked, and the kind of refusal; None: nothing now."""
        now_s = self._seconds()
        if len(self._told_s) == _REFUSALS_LIMIT and now_s - self._told_s[0] < _WITHIN_S:
            self._more += 1
            return None
        self._told_s.append(now_s)
        more, self._more = self._more, 0
        return Incident("action-refused", {"what": what, "why": why, **({"more": more} if more else {})})


def _start(reader: Reader) -> Incident:
    """Since when nothing was recorded, and whether the last run ended in good order: a crash or a power cut did not."""
    newest, started, stopped = reader.newest(), reader.last_incident("started"), reader.last_incident("stopped")
    told: dict[str, object] = {"version": __version__}
    if newest is not None and started is not None:
        told |= {"since": newest.isoformat(), "clean": stopped is not None and stopped.seq > started.seq}
    return Incident("started", told)


def _digest(config: Path) -> str:
    try:
        return digest_of(config)
    except OSError:
        return _UNKNOWN
