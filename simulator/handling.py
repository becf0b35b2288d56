"""The demo's hands and eyes: docks recorders, watches the status page, yanks, and sees what the puller reads."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from simulator.recorders import Recorder
from simulator.show import Show
from simulator.stage import HOST, DemoError, Service, Stage

Slot = Mapping[str, Any]

LOOK_S: Final = 0.02
DOCKING_LIMIT_S: Final = 120.0
CLOSE_LIMIT_S: Final = 20.0
SILENCE_LIMIT_S: Final = 30.0
ENDED: Final = frozenset({"finished", "failed", "unplugged", "unsupported"})
_CHILDREN: Final = "/proc/{pid}/task/{pid}/children"
_READ: Final = re.compile(rb"^rchar: (\d+)$", re.MULTILINE)


class Handling:
    """Docks and yanks recorders at one running service."""

    def __init__(self, service: Service, show: Show) -> None:
        self._service = service
        self._stage = service.stage
        self._show = show
        self._known: set[str] = set()

    def dock(self, recorder: Recorder) -> None:
        """Let the image appear in the dock folder, at once and whole."""
        os.link(recorder.image, self._docked(recorder))

    def yank(self, recorder: Recorder) -> None:
        """Take the image out of the dock folder, whatever is going on."""
        self._docked(recorder).unlink()

    def follow(self, recorder: Recorder, until: Callable[[Slot], bool]) -> Slot:
        """Show the progress of a new docking until it has ended or `until` says so; returns the slot as it is then."""
        for slots in self._news(f"{recorder.image.name} was docked, but is not done"):
            for slot in slots:
                if slot["slot"] == recorder.image.name and slot["docking_id"] not in self._known:
                    self._show.progress(slot)
                    if slot["phase"]["name"] in ENDED or until(slot):
                        return slot
        raise AssertionError("news go on until the docking has ended")

    def ended(self, recorder: Recorder) -> Slot:
        """Follow a docking to its end, and leave it behind: the next one of this recorder is another docking."""
        slot = self.follow(recorder, lambda _: False)
        self._known.add(slot["docking_id"])
        return slot

    def gone(self, before: Slot) -> Slot | None:
        """Follow a docking that was yanked: its slot as unplugged, or None if all had been pulled by then."""
        self._known.add(before["docking_id"])
        for slots in self._news(f"{before['slot']} was yanked, but nobody noticed"):
            slot = next((slot for slot in slots if slot["docking_id"] == before["docking_id"]), None)
            if slot is None:
                return None
            self._show.progress(slot)
            if slot["phase"]["name"] == "unplugged":
                return slot
        raise AssertionError("news go on until the recorder is gone")

    def _news(self, late: str) -> Iterator[Sequence[Slot]]:
        """The slots now and at every change; raises DemoError with `late` when it takes too long."""
        end = time.monotonic() + DOCKING_LIMIT_S
        for slots in slot_news(self._stage):
            self._service.alive()
            if slots is not None:
                yield slots
            if time.monotonic() > end:
                break
        raise DemoError(f"{late}, and the news ended or {DOCKING_LIMIT_S:g} s are over")

    def docking(self, slot: Slot) -> Mapping[str, Any]:
        """What the journal has about the docking that a slot shows, once it is closed."""
        end = time.monotonic() + CLOSE_LIMIT_S
        while time.monotonic() < end:
            for docking in self._service.status()["dockings"]:
                if docking["docking_id"] == slot["docking_id"] and docking["closed_at"]:
                    found: Mapping[str, Any] = docking
                    return found
            time.sleep(LOOK_S)
        raise DemoError(f"docking {slot['docking_id']} was not closed: {slot['message'] or slot['phase']['en']}")

    def _docked(self, recorder: Recorder) -> Path:
        return self._stage.dock / recorder.image.name


def slot_news(stage: Stage) -> Iterator[Sequence[Slot] | None]:
    """The slots now and whenever they change, from the page's server-sent events; None now and then if they don't."""
    connection = http.client.HTTPConnection(HOST, stage.port, timeout=SILENCE_LIMIT_S)
    try:
        connection.request("GET", "/api/v1/events")
        event = b""
        for line in connection.getresponse():
            if line.startswith(b"event: "):
                event = line
            elif line.startswith(b"data: ") and event == b"event: slots\n":
                yield json.loads(line[6:])["slots"]
            elif line.startswith(b": "):
                yield None
    except (OSError, http.client.HTTPException) as error:
        raise DemoError(f"the status page's events ended: {error}") from error
    finally:
        connection.close()


def recordings(stage: Stage) -> Iterator[Mapping[str, Any]]:
    """All recordings that the status page knows, newest first."""
    after: str | None = ""
    while after is not None:
        page = stage.ask(f"/api/v1/recordings?{urlencode({'after': after})}")
        yield from page["recordings"]
        after = page["next_after"]


class ReadMeter:
    """Sees how many bytes the service's puller has read, as the kernel counts them (`rchar` of proc(5))."""

    def __init__(self, service_pid: int) -> None:
        self._service_pid = service_pid
        self._read: dict[int, int] = {}
        self._stop = threading.Event()

    @property
    def read_bytes(self) -> int | None:
        """Bytes of all pullers seen; None if the kernel doesn't tell us."""
        return sum(self._read.values()) or None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look while the block runs."""
        thread = threading.Thread(target=self._watch, name="read-meter")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S / 4):
            for pid in pullers(self._service_pid):
                with contextlib.suppress(OSError):  # it has just ended, or its counters are root's
                    found = _READ.search(Path(f"/proc/{pid}/io").read_bytes())
                    if found:
                        self._read[pid] = int(found[1])


def pullers(service_pid: int) -> Iterator[int]:
    """The processes that read recorders for a service."""
    with contextlib.suppress(OSError):
        for pid in Path(_CHILDREN.format(pid=service_pid)).read_text().split():
            if b"agent.drivers.puller" in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield int(pid)
