"""Case h: what is made for viewing. Remux and transcode against ffmpeg by hand, probing, and a pull meanwhile."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from agent import control
from agent.access import tool
from agent.access.copying import make_copy
from agent.access.inspecting import inspect
from agent.access.made import OUTPUT, SOURCE, Made
from agent.config import AccessCopies
from agent.journal import Reader
from agent.media.probing import probe
from agent.model import AssetState, Facts
from simulator.bench.daemon import running
from simulator.bench.docking import rounds
from simulator.bench.measure import Cost, family, forget, run
from simulator.bench.place import Bench, contents, empty, write_card
from simulator.bench.report import BenchError, Row
from simulator.card import Card
from simulator.stage import Stage

T = TypeVar("T")

MIB: Final = 1 << 20
REMUX_GOAL: Final = 1 / 0.9
TRANSCODE_GOAL: Final = 1.05
PULL_GOAL: Final = 1.05
SOFTWARE: Final = "libx264"
_FILM: Final = ("-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration={s},noise=alls=20:allf=t")
_SOUND: Final = ("-f", "lavfi", "-i", "anoisesrc=color=pink:amplitude=0.3:sample_rate=48000:duration={s}")
_H264: Final = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "12", "-pix_fmt", "yuv420p", "-g", "25")
_AAC: Final = ("-c:a", "aac")
_MJPEG: Final = ("-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p", "-c:a", "pcm_s16le")
_SMALL: Final = ("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration={s}")
_POLL_S: Final = 0.02
_HELD_LIMIT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Clip:
    """A film, what its content says, and the copy that the agent makes of it, with its own words for ffmpeg."""

    path: Path
    facts: Facts
    made: Made
    making: Cost

    def words(self, output: Path) -> list[str]:
        """The same words for another output."""
        return [word.replace(SOURCE, str(self.path)).replace(OUTPUT, str(output)) for word in self.made.arguments]


def access(bench: Bench) -> list[Row]:
    """All of it."""
    folder = bench.root / "access"
    folder.mkdir()
    # As large as a recorder makes its files: 2.5 GB, so that what is lost is more than the start of a process.
    seconds, times = (5, 1) if bench.quick else (40, 3)
    remuxed = _clip(bench, folder, "remux.mp4", seconds, (*_H264, *_AAC), times)
    coded = _clip(bench, folder, "transcode.avi", 3 if bench.quick else 30, _MJPEG)
    return [*_remux(bench, remuxed), *_transcode(bench, coded), *_probing(bench, folder), *_pull(bench, coded)]


def _clip(bench: Bench, folder: Path, name: str, seconds: int, codecs: Sequence[str], times: int = 1) -> Clip:
    path, once, copies = folder / name, folder / f"once-{name}", folder / f"{name}.made"
    inputs = [word.format(s=seconds) for word in (*_FILM, *_SOUND)]
    ffmpeg = ["ffmpeg", "-nostdin", "-loglevel", "error"]
    run([*ffmpeg, *inputs, *codecs, once], bench.log)
    run([*ffmpeg, "-stream_loop", str(times - 1), "-i", once, "-c", "copy", path], bench.log)
    once.unlink()
    copies.mkdir()
    facts = asyncio.run(_facts(path))
    source = asyncio.run(inspect(path))
    made, cost = _cost(make_copy(path, facts, source, copies, AccessCopies(), SOFTWARE, is_busy=lambda: False))
    bench.say(f"{name}: {path.stat().st_size // MIB} MiB, {times * seconds} s; copied, checked: {cost.wall_s:.1f} s")
    return Clip(path, facts, made, cost)


async def _facts(path: Path) -> Facts:
    fd = os.open(path, os.O_RDONLY)
    try:
        return await probe(fd, gps=False)
    finally:
        os.close(fd)


def _cost(work: Coroutine[Any, Any, T]) -> tuple[T, Cost]:
    """What asynchronous work of this process and of its children costs."""
    before, began_s = _cpu_s(), time.perf_counter()
    result = asyncio.run(work)
    return result, Cost(time.perf_counter() - began_s, _cpu_s() - before)


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _by_agent(bench: Bench, clip: Clip) -> Callable[[], Cost]:
    folder = bench.root / "access" / "ours"

    def measured() -> Cost:
        folder.mkdir(exist_ok=True)
        output = folder / clip.made.path.name
        forget()
        _, cost = _cost(tool.run(clip.words(output), reads=clip.path, folder=folder, bounds=tool.Bounds()))
        output.unlink()
        return cost

    return measured


def _by_hand(bench: Bench, words: Sequence[str], output: Path) -> Callable[[], Cost]:
    def measured() -> Cost:
        forget()
        cost = run(["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *words], bench.log)
        output.unlink()
        return cost

    return measured


def _remux(bench: Bench, clip: Clip) -> list[Row]:
    output = bench.root / "access" / "by-hand.mp4"
    plain = ["-i", str(clip.path), "-c", "copy", "-movflags", "+faststart", str(output)]
    costs = rounds(bench, {"agent": _by_agent(bench, clip), "by hand": _by_hand(bench, plain, output)})
    what = f"remux of {clip.path.stat().st_size // MIB} MiB"
    walls = _walls(costs["agent"])
    return [
        Row("h", what, "s", walls, "ffmpeg -c copy -movflags +faststart", _walls(costs["by hand"]), REMUX_GOAL),
        Row("h", "the same with the check that decodes all of the copy", "s", (clip.making.wall_s,)),
    ]


def _transcode(bench: Bench, clip: Clip) -> list[Row]:
    output = bench.root / "access" / "by-hand.mp4"
    costs = rounds(bench, {"agent": _by_agent(bench, clip), "by hand": _by_hand(bench, clip.words(output), output)})
    what, other = f"transcode of {(clip.facts.duration_ms or 0) / 1000:.0f} s of 720p", "the same ffmpeg by hand"
    return [
        Row("h", what, "s", _walls(costs["agent"]), other, _walls(costs["by hand"]), TRANSCODE_GOAL),
        Row("h", "CPU of the same", "s", _cpus(costs["agent"]), other, _cpus(costs["by hand"]), TRANSCODE_GOAL),
    ]


def _probing(bench: Bench, folder: Path) -> list[Row]:
    """One after the other, as the lane does it."""
    clips = 20 if bench.quick else 1000
    film = folder / "small.mp4"
    inputs = [word.format(s=10) for word in _SMALL]
    run(["ffmpeg", "-nostdin", "-loglevel", "error", *inputs, *_H264, film], bench.log)
    content = film.read_bytes()
    paths = [folder / f"small-{number}" for number in range(clips)]
    for number, path in enumerate(paths):
        path.write_bytes(content + b"\0\0\0\x0cfree" + number.to_bytes(4, "big"))
    forget()

    async def all_of_them() -> None:
        for path in paths:
            await _facts(path)

    _, cost = _cost(all_of_them())
    what = f"probing {clips} clips of {len(content) // 1024} KiB"
    return [
        Row("h", what, "clips/s", (clips / cost.wall_s,)),
        Row("h", "CPU of the same", "ms/clip", (1000 * cost.cpu_s / clips,)),
    ]


def _pull(bench: Bench, clip: Clip) -> list[Row]:
    """A recorder is docked while a copy is being made, and at a station that makes none."""
    files, size_bytes = (2, 24 * MIB) if bench.quick else (4, 512 * MIB)
    walls: dict[bool, list[float]] = {True: [], False: []}
    card, film = bench.root / "access" / "card.img", bench.root / "access" / "film.img"
    write_card(card, contents(files, size_bytes))
    _write_film(film, clip.path)
    for number in range(bench.rounds):
        for copies in (True, False)[:: -1 if number % 2 else 1]:
            walls[copies].append(_docked(bench, card, film, files, copies=copies))
            bench.say(f"round {number + 1}: pull {'beside copying' if copies else 'alone'}: {walls[copies][-1]:.1f} s")
    what = f"pulling {files * size_bytes // MIB} MiB while a copy is being made"
    return [Row("h", what, "s", tuple(walls[True]), "the same without", tuple(walls[False]), PULL_GOAL)]


def _write_film(image: Path, film: Path) -> None:
    with Card.exfat(image, film.stat().st_size + 64 * MIB) as card:
        card.add(f"DCIM/100MEDIA/{film.name.upper()}", film)


def _docked(bench: Bench, card: Path, film: Path, files: int, *, copies: bool) -> float:
    """Seconds from the docking of the card until all of it is held; where copies are made one is under way by then."""
    changes = {"runner.backoff_base_s": "600", "runner.probe_pause_s": "0.1", "access.enabled": str(copies).lower()}
    with bench.stage("viewing", changes) as stage:
        empty(stage.store)  # the store's disk is not there: pulling alone is measured
        with running(stage) as daemon:
            asyncio.run(control.ask(stage.station, "dock", {"path": str(film)}))
            _until(lambda: _held(stage) == 1)
            if copies:
                _until(lambda: any(map(_is_ffmpeg, family(daemon.pid))))
            forget()
            began_s = time.perf_counter()
            asyncio.run(control.ask(stage.station, "dock", {"path": str(card)}))
            _until(lambda: _held(stage) == 1 + files)
            return time.perf_counter() - began_s


def _until(is_so: Callable[[], bool]) -> None:
    end_s = time.perf_counter() + _HELD_LIMIT_S
    while not is_so():
        if time.perf_counter() > end_s:
            raise BenchError("the recorders are not held in time, or no copy is made")
        time.sleep(_POLL_S)


def _held(stage: Stage) -> int:
    with closing(Reader(stage.station / "journal.db")) as reader:
        return reader.overview(datetime.now(UTC)).assets[AssetState.HELD].files


def _is_ffmpeg(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "ffmpeg"
    except OSError:
        return False


def _walls(costs: Sequence[Cost]) -> tuple[float, ...]:
    return tuple(cost.wall_s for cost in costs)


def _cpus(costs: Sequence[Cost]) -> tuple[float, ...]:
    return tuple(cost.cpu_s for cost in costs)
