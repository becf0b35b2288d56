"""The demo's outage: the store's server is killed while an upload is half-way, and it goes on when it is back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final, Protocol

from simulator import proof
from simulator.handling import recordings
from simulator.recorders import Original, Recorder
from simulator.show import Show, megabytes
from simulator.stage import DemoError, Service

KILL_FROM: Final = 0.3
KILL_TO: Final = 0.9
LIMIT_S: Final = 120.0
LOOK_S: Final = 0.1


class Part(Protocol):
    """A part of an upload that is under way, as the server lists it."""

    @property
    def number(self) -> int:
        """From 1."""

    @property
    def size_bytes(self) -> int:
        """Its size."""

    @property
    def modified_at(self) -> datetime:
        """When the server received it."""


class Server(Protocol):
    """What keeps the originals beyond the network, and can be killed."""

    @property
    def pid(self) -> int | None:
        """Its process; None if it is gone."""

    def kill(self) -> None:
        """SIGKILL."""

    def start(self) -> None:
        """Start it again on the same data, and wait until it answers."""

    def parts(self, original: Original) -> list[Any]:
        """What the server lists of an upload that is under way."""

    def log_bytes(self) -> int:
        """How long its log of requests is now."""

    def received(self, original: Original, since_bytes: int) -> list[int]:
        """Numbers of the parts that it has logged as received since then."""


class Outage:
    """One outage while the longest clip of a recorder is on its way."""

    def __init__(self, server: Server, service: Service, show: Show) -> None:
        self._server = server
        self._service = service
        self._show = show

    def play(self, recorder: Recorder) -> None:
        """Kill, look, start, look; raises DemoError at the first claim that is not true."""
        clip = max(recorder.originals, key=lambda original: original.size_bytes)
        self._until_half_way(clip)
        self._kill(clip, recorder)
        self._show.step("恢复", "The gateway is started again, and the upload goes on")
        began, log_bytes = datetime.now(UTC), self._server.log_bytes()
        self._server.start()
        self._show.say(f"the gateway answers again, as process {self._server.pid}")
        there = [part for part in self._server.parts(clip) if part.modified_at < began]
        sizes = megabytes(sum(part.size_bytes for part in there))
        self._show.say(f"ListParts of the server: {len(there)} parts, {sizes}, have survived")
        self._until_stored(clip)
        self._went_on(clip, {part.number for part in there}, log_bytes)

    def _until_half_way(self, clip: Original) -> None:
        self._show.step("中断", "The gateway of the store is killed while the long clip is half-way")
        sent_bytes = 0
        for row in self._news(clip, "was not half-way"):
            sent_bytes = row["sent_bytes"]
            if sent_bytes:
                self._show.upload(sent_bytes, clip.size_bytes)
            if sent_bytes >= KILL_FROM * clip.size_bytes:
                break
        share = sent_bytes / clip.size_bytes
        self._show.claim(f"{share:.0%} of the clip are on their way: half-way", share < KILL_TO, True)

    def _kill(self, clip: Original, recorder: Recorder) -> None:
        before = self._service.status()["health"]["problems"]
        self._show.say(f"kill -9 {self._server.pid}")
        self._server.kill()
        for row in self._news(clip, "is not told as in trouble"):
            status = self._service.status()
            if status["store"]["error"]:
                for problem in (new for new in status["health"]["problems"] if new not in before):
                    self._show.warn(f"{problem['zh']}  {problem['en']}")
                self._show.warn(f"{row['state']['zh']}  {row['state']['en']}  {row['due_text']['zh']}")
                claimed = row["state"]["name"], row["stored_at"]
                self._show.claim("the agent says: not stored, but held here", claimed, ("held", None))
                break
        stage = self._service.stage
        wrong = proof.differs("b3sum", stage.vault, recorder.originals, stage.root / "outage.b3")
        self._show.claim("it is: every file of this recorder is safe in the station (b3sum --check)", wrong, "")

    def _until_stored(self, clip: Original) -> None:
        for row in self._news(clip, "was not stored"):
            if row["state"]["name"] == "stored":
                break
            if row["sent_bytes"]:
                self._show.upload(row["sent_bytes"], clip.size_bytes)
        self._show.claim("已入库 the clip is stored, and has a lock", bool(row["locked_until"]), True)
        self._show.say(f"已入库 stored at {row['stored_at']}, locked until {row['locked_until']}")

    def _went_on(self, clip: Original, there: set[int], log_bytes: int) -> None:
        sent = self._server.received(clip, log_bytes)
        count = len(there | set(sent))
        self._show.claim(
            f"the upload went on: {len(there)} of {count} parts were there, {len(sent)} came now, none was sent twice"
            " (the server's own log)",
            sorted([*there, *sent]),
            list(range(1, count + 1)),
        )
        self._show.claim("at least one part did not have to be sent again", bool(there), True)

    def _news(self, clip: Original, late: str) -> Iterator[Mapping[str, Any]]:
        """What the status page says of a clip, again and again, with `sent_bytes` while it is on its way."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            self._service.alive()
            rows = chain(self._service.status()["at_risk"], recordings(self._service.stage))
            row = next((row for row in rows if row["blake3"] == clip.blake3), None)
            if row is not None:
                yield {**row, "sent_bytes": row.get("sent_bytes") or 0}
            time.sleep(LOOK_S)
        raise DemoError(f"the clip {clip.path} {late} within {LIMIT_S:g} s")
