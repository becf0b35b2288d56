"""Case k: what screens cost on a station with a long journal, while two recorders are read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent import control
from simulator import journal
from simulator.bench.crowd import take_the_store_away
from simulator.bench.daemon import STATUS, running
from simulator.bench.place import Bench, contents, write_card
from simulator.bench.report import BenchError, Row
from simulator.bench.throttle import Slow, slowed
from simulator.stage import HOST, Stage

MIB: Final = 1 << 20
P99_GOAL_MS: Final = 50
REQUESTS_GOAL: Final = 200
FOLLOWERS_GOAL: Final = 10
SLOWER_GOAL: Final = 1.03
_PULLS: Final = 2
_CLIPS: Final = 4
_BYTES_EACH: Final = 3000
_MEMORY_FOLDER: Final = Path("/dev/shm")  # noqa: S108 - memory on purpose
_CONNECTIONS: Final = 24
_LOOK_AGAIN_S: Final = 0.1
_OPTIONS: Final[Mapping[str, str]] = {"runner.backoff_base_s": "600", "manifest.quiet_s": "86400"}
"""What a made journal tells of has no files: nothing of it is held, sealed, or tried to be stored again and again."""

_LIMIT_S: Final = 600.0
_QUIET_LIMIT_S: Final = 120.0
_QUIET_S: Final = 0.05
"""CPU of a service in one second of which it is said that it does nothing."""

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_EVENTS: Final = "/api/v1/events"
_WRK: Final = """\
-- Each connection asks ten times a second, not all at the same moment.
function delay() return math.random(80, 110) end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"requests": %d, "us": %d, "p99_us": %d, "bad": %d}\\n', summary.requests,
    summary.duration, latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """Two pulls under some load: how long both took, CPU of the service itself, and what wrk saw."""

    pull_s: float
    cpu_s: float
    asked: Mapping[str, float] = field(default_factory=dict)


def screens(bench: Bench) -> list[Row]:
    """Two pulls alone, with followers, with followers and questions, in turn; the order changes each round."""
    if shutil.which("wrk") is None:
        raise BenchError("wrk is not installed; ./run test installs it")
    slots, recordings, followers = (4, 5000, 20) if bench.quick else (30, 1_000_000, 200)
    loads = {"alone": (0, False), "followed": (followers, False), "asked": (followers, True)}
    found: dict[str, list[Seen]] = {name: [] for name in loads}
    bench.require_room(bench.root, recordings * _BYTES_EACH + len(loads) * bench.rounds * _PULLS * _CLIPS * 80 * MIB)
    with bench.stage("screens", dict(_OPTIONS)) as stage:
        bench.say(f"making a journal of {recordings} recordings")
        stage.station.mkdir()
        journal.fill(stage.station / "journal.db", recordings, journal.freed)
        take_the_store_away(stage)
        _fill_the_dock(stage, slots - _PULLS)
        with running(stage) as daemon:  # a first start computes the limits of the made journal anew, for minutes
            _until_docked(stage)
            _until_quiet(daemon.pid, 0.0 if bench.quick else _LIMIT_S)
        for number in range(bench.rounds):
            for name in list(loads)[:: -1 if number % 2 else 1]:
                found[name].append(_measured(bench, stage, 1000 * number + 100 * len(found[name]), *loads[name]))
                bench.say(f"round {number + 1} of {bench.rounds}: {name}: pulls took {found[name][-1].pull_s:.2f} s")
    return _rows(f"{slots} slots, {recordings:,} recordings, two pulls", followers, found)


def _rows(what: str, followers: int, found: Mapping[str, Sequence[Seen]]) -> list[Row]:
    asked = [seen.asked for seen in found["asked"]]
    cost = [
        100 * (seen.cpu_s / seen.pull_s - plain.cpu_s / plain.pull_s)
        for seen, plain in zip(found["followed"], found["alone"], strict=True)
    ]
    return [
        Row(
            "k", f"{what}: status, p99", "ms", tuple(one["p99_us"] / 1e3 for one in asked), goal=P99_GOAL_MS,
        ),
        Row(
            "k", "requests meanwhile", "1/s", tuple(1e6 * one["requests"] / one["us"] for one in asked),
            goal=REQUESTS_GOAL, at_least=True,
        ),
        Row("k", f"{followers} followers of the events", "% of a core", tuple(cost), goal=FOLLOWERS_GOAL),
        Row(
            "k", "both pulls, with the followers and the requests", "s", _pulls(found["asked"]),
            "without", _pulls(found["alone"]), SLOWER_GOAL,
        ),
    ]  # fmt: skip


def _pulls(seen: Sequence[Seen]) -> tuple[float, ...]:
    return tuple(one.pull_s for one in seen)


def _fill_the_dock(stage: Stage, recorders: int) -> None:
    """Recorders that sit in all other slots, with one photo each."""
    for number in range(recorders):
        write_card(stage.dock / f"slot-{number:02}.img", contents(1, 64 * 1024, seed=1_000_000 + number))


def _measured(bench: Bench, stage: Stage, seed: int, followers: int, asks: bool) -> Seen:
    """One start of the service, and two new recorders at the speed of USB 2.0."""
    clip_bytes, rate = (4 * MIB, 30_000_000) if bench.quick else (75 * MIB, 30_000_000)
    folder = Path(tempfile.mkdtemp(prefix="capture-agent-bench-", dir=_MEMORY_FOLDER))
    try:
        images = [folder / f"recorder-{number}.img" for number in range(_PULLS)]
        for number, image in enumerate(images):
            write_card(image, contents(_CLIPS, clip_bytes, seed=seed + 10 * number))
        with slowed(images, rate) as slow, running(stage, slow.command(stage.command("run"))) as daemon:
            _until_docked(stage)
            _until_quiet(daemon.pid, 0.0 if bench.quick else _QUIET_LIMIT_S)
            with contextlib.ExitStack() as load:
                if followers:
                    load.enter_context(_following(stage, daemon.token, followers))
                asked = load.enter_context(_asking(bench, stage, daemon.token)) if asks else {}
                began_s, cpu_s = time.perf_counter(), _cpu_s(daemon.pid)
                asyncio.run(_pull(stage, slow))
                pull_s, cpu_s = time.perf_counter() - began_s, _cpu_s(daemon.pid) - cpu_s
    finally:
        shutil.rmtree(folder)
    return Seen(pull_s, cpu_s, asked)


def _until_docked(stage: Stage) -> None:
    """Wait until all other recorders have been read; raises BenchError if they never are."""
    end_s, docked = time.perf_counter() + _LIMIT_S, len(list(stage.dock.iterdir()))
    while sum(slot["may_remove"] for slot in stage.ask(STATUS)["slots"]) < docked:
        if time.perf_counter() > end_s:
            raise BenchError(f"the dock is not read in time: {stage.ask(STATUS)['slots']}")
        time.sleep(_LOOK_AGAIN_S)


def _until_quiet(pid: int, limit_s: float) -> None:
    """Wait until what the start left to do is done; not for ever, since nobody has the files of a made journal."""
    end_s, before_s = time.perf_counter() + limit_s, _cpu_s(pid)
    while time.perf_counter() < end_s:
        time.sleep(1)
        if (now_s := _cpu_s(pid)) - before_s < _QUIET_S:
            return
        before_s = now_s


async def _pull(stage: Stage, slow: Slow) -> None:
    """Dock both and return when both may be taken away; raises BenchError if one never may."""
    async with asyncio.TaskGroup() as group:
        for device in slow.devices:
            group.create_task(_pull_one(stage, device))


async def _pull_one(stage: Stage, device: Path) -> None:
    told = await control.ask(stage.station, "dock", {"path": str(device)})
    async with asyncio.timeout(_LIMIT_S):
        while not (shown := await control.ask(stage.station, "slot", {"slot": str(told["slot"])})).get("may_remove"):
            if shown.get("phase") in (None, "failed", "unplugged"):
                raise BenchError(f"the pull did not end well: {shown}")
            await asyncio.sleep(_LOOK_AGAIN_S)


def _cpu_s(pid: int) -> float:
    """CPU of the service's own process so far; those that read recorders are processes of their own."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextlib.contextmanager
def _following(stage: Stage, token: str, clients: int) -> Iterator[None]:
    """So many clients that take what they are sent; raises BenchError if one is refused."""
    request = f"GET {_EVENTS} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection((HOST, stage.port), 20)) for _ in range(clients)]
        for one in sockets:
            one.sendall(request)
        if any(b" 200 " not in one.recv(64) for one in sockets):
            raise BenchError("the service refuses to be followed")
        done = threading.Event()
        taking = threading.Thread(target=_take, args=(sockets, done), name="following")
        taking.start()
        try:
            yield
        finally:
            done.set()
            taking.join()


def _take(sockets: Sequence[socket.socket], done: threading.Event) -> None:
    for one in sockets:
        one.setblocking(False)
    while not done.wait(_LOOK_AGAIN_S):
        for one in sockets:
            with contextlib.suppress(BlockingIOError):
                while one.recv(1 << 16):
                    pass


@contextlib.contextmanager
def _asking(bench: Bench, stage: Stage, token: str) -> Iterator[dict[str, float]]:
    """wrk until the block ends; what it then says is in the mapping. Raises BenchError if an answer was bad."""
    script = bench.root / "status.lua"
    script.write_text(_WRK)
    told: dict[str, float] = {}
    words = ["wrk", "-t", "1", "-c", str(_CONNECTIONS), "-d", f"{_LIMIT_S:.0f}s", "-s", str(script), "-H"]
    process = subprocess.Popen(
        [*words, f"Authorization: Bearer {token}", f"http://{HOST}:{stage.port}{STATUS}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield told
    finally:
        process.send_signal(2)  # it then tells what it saw so far
        out, _ = process.communicate(timeout=20)
        told |= json.loads(out.splitlines()[-1])
    if told["bad"]:
        raise BenchError(f"{told['bad']:.0f} of {told['requests']:.0f} requests were not answered well")
