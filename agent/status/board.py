"""What the status page serves, made once per change: asks the journal off the event loop and keeps the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from agent.config import Config, Milestone
from agent.deadline import ZONE, Rules, Verdict, coverage
from agent.journal import Reader
from agent.journal.recordings import Wanted
from agent.journal.views import DockingView, RecordingView
from agent.model import AssetState, Clock, Device
from agent.papers.page import Markup
from agent.register import device_name
from agent.states import is_kept
from agent.status.activities import CONSIDERED, LOOKED_AT, activities_view, activity_row, activity_view
from agent.status.devices import DOCKINGS, devices_view, quarantined
from agent.status.entry import entry_view
from agent.status.explain import explain, verdict_of
from agent.status.health import Live, has_room, pulls
from agent.status.kiosk import brought_view, docking_ids, kiosk_view
from agent.status.receipt import issued, receipt_body, receipt_page
from agent.status.record import history_view, known_of, record_view
from agent.status.rooms import Known, rooms_view
from agent.status.views import (
    SHOWN_AT_RISK,
    Json,
    Rows,
    event_view,
    recording_view,
    slot_view,
    status_view,
    to_json,
)
from agent.status.words import at

P = ParamSpec("P")
R = TypeVar("R")

_RENEW_S: Final = 0.25
_FRESH_S: Final = 0.5
_STALE_S: Final = 5.0
_NOT_SAFE_YET: Final = frozenset({Verdict.OPEN, Verdict.DUE_SOON, Verdict.OVERDUE})
_FAR: Final = datetime(9999, 1, 1, tzinfo=ZONE)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A body that was served and the health in it; when it was made, and last known to be current (loop time)."""

    body: bytes
    health: str
    made_s: float
    current_s: float
    seq: int
    version: object


class Board:
    """Answers of the status page.

    `live` gives what only the service knows, `version` what changes with it; both are called on the event
    loop. A status is served again while nothing changed, for 5 s at most (verdicts depend on the time), and for half
    a second even if something did, so that no client can keep the disk busy. Who asks in the second half of that has a
    new one made but doesn't wait for it: on a busy station only the first of many questions waits for the disk.
    It has a thread of its own: the status must not wait for work on evidence, nor that for the status.
    """

    def __init__(
        self, config: Config, reader: Reader, clock: Clock, live: Callable[[], Live], version: Callable[[], object]
    ) -> None:
        self.version = version
        self._config = config
        self._rules = Rules(config.profile, config.calendars)
        self._reader = reader
        self._clock = clock
        self._live = live
        self._answer: _Answer | None = None
        self._renewal: asyncio.Task[_Answer] | None = None
        self._slots: tuple[object, bytes] | None = None
        self._devices: dict[str, Device] = {}
        self._activities: dict[str, tuple[int, Json]] = {}
        self._absences: dict[str, Sequence[Mapping[str, Any]]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="status")

    def close(self) -> None:
        """End the thread; idempotent."""
        self._thread.shutdown()

    def use(self, config: Config) -> None:
        """Other rules or holiday notices are in force."""
        self._config, self._rules = config, Rules(config.profile, config.calendars)
        self._answer = None
        self._activities = {}

    async def look(self, question: Callable[[Reader, Config, datetime], R]) -> R:
        """The answer to a page's own question, asked in the board's thread; raises JournalError."""
        return await self._ask(question, self._reader, self._config, self._clock())

    async def deadline(self, identifier: str) -> bytes:
        """Why a recording must be stored when, as JSON; raises JournalError if there is none of that id."""
        row = await self._ask(self._reader.recording, identifier)
        return to_json(explain(row, self._rules, self._config.deadline.satisfied_by, self._clock()))

    async def metadata(self, identifier: str) -> bytes:
        """The record of a recording and its history, as JSON; raises JournalError if there is none of that id."""
        known = await self._ask(known_of, self._reader, identifier)
        return to_json(record_view(known, self._config, self._clock()) | history_view(known))

    async def receipt(self, docking_id: str) -> bytes:
        """The receipt of a docking, as HTML; raises JournalError or EvidenceError, RequestError if it has none."""
        found = await self._ask(issued, self._reader, docking_id)
        return receipt_page(found, self._config.station).encode()

    async def receipt_body(self, docking_id: str) -> Markup:
        """The same without its frame and a list that is longer than a page, for the kiosk; raises as `receipt` does."""
        return receipt_body(await self._ask(issued, self._reader, docking_id), self._config.station, is_whole=False)

    async def status(self) -> bytes:
        """The status as JSON; raises JournalError."""
        return (await self._current()).body

    async def health(self) -> str:
        """`ok`, `degraded` or `failed`, and nothing that names anybody; raises JournalError."""
        return (await self._current()).health

    def ready(self) -> Json:
        """Whether the station can pull; `store` doesn't count, since pulling goes on without it."""
        live = self._live()
        room = live.free_bytes is not None and has_room(self._config, live)
        told = {"journal": live.writes, "lanes": live.moves, "room": room, "store": not live.store_error}
        return {"ready": pulls(self._config, live), **told}

    async def _current(self) -> _Answer:
        answer = self._answer
        age_s = asyncio.get_running_loop().time() - answer.current_s if answer is not None else _STALE_S
        if age_s >= _RENEW_S and self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())
            self._renewal.add_done_callback(self._renewed)
        if answer is None or age_s >= _FRESH_S:
            assert self._renewal is not None, "it was begun when the answer was half as old"
            answer = await asyncio.shield(self._renewal)  # shared: others may wait for it too
        return answer

    async def kiosk(self) -> Json:
        """What the screen at the dock shows; raises JournalError."""
        return await self._ask(self._make_kiosk, json.loads(await self.status()))

    async def rooms(self) -> Json:
        """Every room as it is at this moment, and the station they belong to; raises JournalError."""
        return await self._ask(self._make_rooms, self._live())

    @property
    def has_rooms(self) -> bool:
        """Whether a room is configured."""
        return bool(self._config.rooms)

    def still(self, room: str, source: str) -> Path | None:
        """Where the newest picture of a source of a running session is."""
        running = (session for session in self._live().sessions if session.room == room)
        return next((one.still for session in running for one in session.sources if one.name == source), None)

    async def entry(self, docking_id: str) -> Json:
        """What officers may say of a docking, and have said; raises UnknownError if there is none of that id."""
        return await self._ask(entry_view, self._reader, self._config, docking_id, self._clock())

    async def recordings(self, wanted: Wanted, verdict: Verdict | None, after: str, limit: int) -> bytes:
        """One page of recordings as JSON, only those of a verdict if one is given; raises JournalError."""
        return await self._ask(self._make_recordings, wanted, verdict, after, limit)

    async def devices(self) -> bytes:
        """All recorders of the inventory and all that were ever docked, as JSON; raises JournalError."""
        return await self._ask(self._make_devices)

    async def events(self, after: int, limit: int) -> list[Json]:
        """The events behind `after`, oldest first; raises JournalError."""
        found = await self._ask(self._reader.events, after, limit)
        return [event_view(event) for event in found]

    async def last_seq(self) -> int:
        """Sequence number of the newest event; raises JournalError."""
        return await self._ask(self._reader.log_size)

    def slots(self) -> bytes:
        """The slots as JSON, made once per version."""
        version = self.version()
        if self._slots is None or self._slots[0] != version:
            slots = [slot_view(slot, self._config.station.contact) for slot in self._live().slots]
            self._slots = version, to_json({"slots": slots})
        return self._slots[1]

    async def _ask(self, question: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: question(*arguments, **options))

    async def _renew(self) -> _Answer:
        time_s, version, answer = asyncio.get_running_loop().time(), self.version(), self._answer
        if answer is not None and await self._is_current(answer, time_s):
            return replace(answer, current_s=time_s)
        body, health, seq = await self._ask(self._make_status, self._live())
        return _Answer(body, health, time_s, time_s, seq, version)

    def _renewed(self, renewal: asyncio.Task[_Answer]) -> None:
        """Keep the answer; an error is raised to those who wait, and again to whoever asks next."""
        self._renewal = None
        if not renewal.cancelled() and renewal.exception() is None:
            self._answer = renewal.result()

    async def _is_current(self, answer: _Answer, time_s: float) -> bool:
        if time_s - answer.made_s >= _STALE_S - _FRESH_S or answer.version != self.version():
            return False
        return not await self._ask(self._reader.events, answer.seq, 1)

    def _make_status(self, live: Live) -> tuple[bytes, str, int]:
        now = self._clock()
        overview = self._reader.overview(now)
        at_risk = self._at_risk(now)
        dockings = self._reader.dockings(limit=DOCKINGS)
        devices, register = self._devices_of(at_risk), self._register(now, dockings)
        activities, waiting = self._of_activities(), self._reader.waiting()
        absences, rooms = self._of_dockings(dockings), self._of_rooms(live, now)
        rows = Rows(overview, at_risk, dockings, devices, register, activities, waiting, absences, rooms)
        known = coverage(self._config.calendars, now.astimezone(ZONE).date())
        status = status_view(self._config, rows, live, known, now)
        return to_json(status), status["health"]["name"], overview.head_seq

    def _make_kiosk(self, status: Json) -> Json:
        now, missing = self._clock(), status["calendar"]["missing"]
        shown = {one: brought_view(self._reader, self._config, one, missing, now) for one in docking_ids(status)}
        return kiosk_view(status, tuple(self._config.slots.values()), shown)

    def _make_rooms(self, live: Live) -> Json:
        now, station = self._clock(), self._config.station
        shown = {"name": station.name, "contact": station.contact}
        return {"station": shown, "now": at(now), "rooms": self._of_rooms(live, now)}

    def _of_rooms(self, live: Live, now: datetime) -> list[Json]:
        rooms, running = self._config.rooms, [session.session_id for session in live.sessions]
        notes = {name: self._reader.session_notes(name) for name in running}
        tests = {name: self._reader.newest_test(name) for name in rooms}
        known = Known(live.sessions, live.free_bytes, self._config.storage.reserve_bytes, notes, tests, live.planned)
        return rooms_view(rooms, known, now)

    def _make_recordings(self, wanted: Wanted, verdict: Verdict | None, after: str, limit: int) -> bytes:
        now, by = self._clock(), self._config.deadline.satisfied_by
        if verdict is not None:
            unsafe = wanted.unsafe or verdict in _NOT_SAFE_YET
            wanted = replace(wanted, unsafe=unsafe, accepts=lambda row: verdict_of(row, by, now) is verdict)
        rows, next_after = self._reader.page(wanted, after, limit)
        devices = self._devices_of(rows)
        unknown = quarantined(self._config, devices)
        page = [recording_view(row, self._rules, by, devices, now, unknown) for row in rows]
        return to_json({"recordings": page, "next_after": next_after})

    def _make_devices(self) -> bytes:
        now, docked = self._clock(), self._reader.devices()
        unknown = quarantined(self._config, docked)
        seen = [
            {"device_id": name, "name": device_name(device), "serial": device.serial, "quarantine": name in unknown}
            for name, device in sorted(docked.items())
        ]
        return to_json(self._register(now, self._reader.dockings(limit=DOCKINGS)) | {"docked": seen})

    def _register(self, now: datetime, dockings: tuple[DockingView, ...]) -> Json:
        return devices_view(self._config.inventory, self._reader.standings(), dockings, self._rules, now)

    def _of_dockings(self, dockings: tuple[DockingView, ...]) -> dict[str, Sequence[Mapping[str, Any]]]:
        """What each found missing; of one that had ended when it was read, it is read once."""
        found = {
            one.docking_id: known
            if (known := self._absences.get(one.docking_id)) is not None
            else self._reader.absences(one.docking_id)
            for one in dockings
        }
        self._absences = {one.docking_id: found[one.docking_id] for one in dockings if one.closed_at is not None}
        return found

    def _of_activities(self) -> Json:
        """Each is looked at again only when an event may have changed what is to be said of it, the latest ones first.

        After a start there are many: not all of them in one answer.
        """
        heads = self._reader.activity_heads(CONSIDERED + 1)
        known, self._activities, fresh = self._activities, {}, 0
        for activity_id, changed_seq in heads[:CONSIDERED]:
            seen = known.get(activity_id)
            if (seen is None or seen[0] != changed_seq) and fresh < LOOKED_AT:
                seen, fresh = (changed_seq, self._activity_row(activity_id)), fresh + 1
            if seen is not None:
                self._activities[activity_id] = seen
        rows = [row for _, row in self._activities.values()]
        return activities_view(rows, or_more=len(heads) > len(rows))

    def _activity_row(self, activity_id: str) -> Json:
        return activity_row(activity_view(self._reader.activity(activity_id), self._config.profile))

    def _at_risk(self, now: datetime) -> tuple[RecordingView, ...]:
        """What the time limit still runs for, most urgent first."""
        if self._config.deadline.satisfied_by is Milestone.CENTRAL:
            return self._reader.recordings(due_before=_FAR, limit=SHOWN_AT_RISK)
        wanted = self._reader.recordings(state=AssetState.WANTED, limit=SHOWN_AT_RISK)
        stuck = self._reader.recordings(state=AssetState.STUCK, limit=SHOWN_AT_RISK)
        missing = (row for row in (*wanted, *stuck) if not is_kept(row.asset))
        both = sorted(missing, key=lambda row: row.recording.deadline.alarm_at)
        return tuple(both[:SHOWN_AT_RISK])

    def _devices_of(self, rows: tuple[RecordingView, ...]) -> dict[str, Device]:
        if any(row.recording.device_id not in self._devices for row in rows):
            self._devices = self._reader.devices()
        return self._devices
