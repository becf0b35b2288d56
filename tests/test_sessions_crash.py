"""Crash injection for sessions: whatever moment the service dies at, every file is held once and every session ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import AgentError, RequestError
from agent.journal import Reader, verify
from agent.media.probing import Answer
from agent.model import AssetState, Medium, StreamFacts
from agent.pipeline import session
from agent.pipeline.recover import recover
from agent.pipeline.station import Station
from tests.conftest import SettableClock
from tests.crashing import Crash, Place, World, process, wired
from tests.fakes import digests_of
from tests.studio import ORDER, Studio, until

SEEN = frozenset({"commit", "make_dir", "keep_room", "rename_no_replace", "make_read_only", "remove_empty"})
"""Effects that a later process can see; a crash before any other leaves nothing else."""


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in memory, and no waiting: what is tested here is order."""

    async def asked(*_: object, **__: object) -> Answer:
        tracks = [StreamFacts("video", "h264", 640, 360)]
        return Answer(Medium.VIDEO, "mov,mp4", streams=tracks, counted={"video": (25, 1_000_000)}, ended=True)

    monkeypatch.setattr("agent.pipeline.segments.asked", asked)  # the real one has a test of its own
    monkeypatch.setattr(session, "_BEAT_S", 0.001)
    monkeypatch.setattr(session, "_LAST_LIMIT_S", 0.05)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


async def hearing(station: Station, studio: Studio, clock: SettableClock, world: World) -> None:
    """Goes on with a session or starts one, records two cameras, and stops it; again until it has ended."""
    await recover(station)
    async with studio.serving(station) as sessions:
        while not sessions.running() and not world.dead:
            with contextlib.suppress(AgentError):
                await sessions.start("xunwen", ORDER)
            await asyncio.sleep(0.001)
        session_id = sessions.running()[0].session_id
        if not any(view.started.session_id == session_id for view in station.journal.reader.open_sessions()):
            return
        await until(lambda: studio.made or not sessions.running())
        if sessions.running():
            recorder = studio.made[-1]
            recorder.begin()
            clock.advance(5)
            recorder.close("front")
            recorder.lose("side")
            recorder.begin("front")
            clock.advance(5)
            with contextlib.suppress(RequestError):
                await sessions.stop(session_id, "张三", "问完")
        await until(lambda: not sessions.running())


def life(place: Place, world: World, studio: Studio) -> None:
    """One process, until it crashes."""
    assert isinstance(place.clock, SettableClock)
    clock = place.clock

    async def until_dead(station: Station) -> None:
        working = asyncio.create_task(hearing(station, studio, clock, world))
        while not (working.done() or world.dead):
            await asyncio.sleep(0.001)
        working.cancel()
        await asyncio.wait([working])
        if not working.cancelled():
            working.result()

    with wired(world), contextlib.suppress(AgentError, Crash, BaseExceptionGroup):
        asyncio.run(process(place, world, until_dead))


def check(place: Place, written: set[bytes]) -> None:
    """Every file that was ever written is one recording that is held; nothing is left over, and all has ended."""
    report = verify(place.journal)
    assert report.consistent, report.differences
    with contextlib.closing(Reader(place.journal)) as reader:
        assert reader.open_sessions() == ()
        views = [reader.session(view.started.session_id) for view in reader.sessions_of("xunwen", 99)]
        taken = [one for view in views for one in view.segments]
        assert len(taken) == len(written)
        for view in views:
            assert all(note.end is not None for note in view.notes)
            names = {one.recording.recording_id for one in view.segments}
            assert not names or set(reader.activity(view.started.session_id).stated.recordings) == names
            assert not reader.unsaid(view.started.session_id)
        assert {reader.asset(one.asset.asset_id).state for one in taken} == {AssetState.HELD}
    there = {path.name for path in (place.root / "vault").glob("??/*")}
    assert {digests_of(content).blake3 for content in written} <= there
    assert list((place.root / "rooms").iterdir()) == [], "a folder is left over"
    assert list((place.root / "staging").iterdir()) == [], "a part is left over"


def crash_points(folder: Path, fault: Callable[[int], World], step: int = 1) -> Iterator[tuple[Place, World, Studio]]:
    """The place as each such crash left it; with `step` only every so many."""
    at = 0
    while True:
        here = Place(folder / f"at {at}", SettableClock(), {})
        here.folder.mkdir()
        world, studio = fault(at), Studio()
        life(here, world, studio)
        if at >= len(world.log):
            assert at > 15, "every effect had its turn"
            return
        yield here, world, studio
        shutil.rmtree(here.folder)
        at += step


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_effect_loses_and_doubles_nothing(memory: Path, after: bool) -> None:
    for place, _, studio in crash_points(memory, lambda at: World(at, after=after, counts=SEEN)):
        again = Studio()
        life(place, World(), again)
        check(place, studio.written | again.written)


def test_a_second_crash_while_the_first_is_mended_loses_nothing(memory: Path) -> None:
    for first in (7, 13):
        for second in range(1, 30, 6):
            place = Place(memory / f"{first} {second}", SettableClock(), {})
            place.folder.mkdir()
            studios = [Studio() for _ in range(3)]
            for at, studio in zip((first, second, -1), studios, strict=True):
                life(place, World(at, counts=SEEN), studio)
            check(place, set().union(*(studio.written for studio in studios)))
            shutil.rmtree(place.folder)


def test_a_disk_that_refuses_once_costs_nothing_that_was_written(memory: Path) -> None:
    errors = (errno.ENOSPC, errno.EIO)
    for place, _, studio in crash_points(memory, lambda at: World(at, error=errors[at // 2 % 2], counts=SEEN), 2):
        again = Studio()
        life(place, World(), again)
        check(place, studio.written | again.written)


def test_a_session_that_was_stopped_does_not_go_on(memory: Path) -> None:
    """Whoever pressed the button has been heard, even if the service died a moment later."""
    stopped = 0
    for place, _, studio in crash_points(memory, lambda at: World(at, after=True, counts=frozenset({"commit"}))):
        with contextlib.closing(Reader(place.journal)) as reader:
            before = reader.open_sessions()
            stopping = {one.started.session_id for one in before if reader.stopping(one.started.session_id)}
        told = [view for view in before if view.started.session_id in stopping]
        again = Studio()
        life(place, World(), again)
        check(place, studio.written | again.written)
        with contextlib.closing(Reader(place.journal)) as reader:
            for view in told:
                ended = reader.session(view.started.session_id).ended
                assert ended is not None
                assert (ended.who, ended.reason) == ("张三", "stopped")
                stopped += 1
                recorded = {one.plan.session_id for one in again.made}  # another one may begin as soon as this ended
                assert view.started.session_id not in recorded, "nothing of it was recorded any more"
    assert stopped
