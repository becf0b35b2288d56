"""Whoever changes a file of the station behind the service's back is told of, and the damage is mended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agent import cli
from agent.errors import StoreError
from agent.inotify import Ears
from agent.model import AssetState
from agent.pipeline import guarding, healing, patrol
from agent.pipeline.asked import VERBS
from agent.pipeline.damage import put_aside
from agent.pipeline.guarding import Guard
from agent.pipeline.healing import HealLane
from agent.pipeline.station import Station
from tests.conftest import SettableClock, is_immutable, unseal
from tests.daemons import running, stage
from tests.disks import MIB, ext4
from tests.fakes import FakeRecorder, FakeStore
from tests.stations import dock, opened
from tests.test_healing import contents, stored

FILES = {f"/{number}.MP4": b"footage %d" % number * 100 for number in range(3)}
LIMIT_S = 20.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, seconds in (
        (guarding, "_LOOK_EACH_S", 0.1), (guarding, "_SETTLE_S", 0.02), (healing, "_LOOK_AGAIN_S", 0.05),
        (patrol, "_ROUND_S", 0.1), (patrol, "_PAUSE_S", 0.0), (patrol, "_AGAIN_S", 0.02),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """On a real ext4 of its own, whose files can be sealed and which can be mounted over."""
    disk = tmp_path / "disk"
    with ext4(disk, tmp_path / "disk.img", 32 * MIB):
        yield disk / "station"
        unseal(disk)


@pytest.fixture
async def station(root: Path, clock: SettableClock) -> AsyncIterator[Station]:
    """Three sealed originals, all stored."""
    async with opened(root, clock, store=FakeStore(), seal=True) as station:
        await filled(station)
        yield station


async def filled(station: Station) -> None:
    await dock(station, FakeRecorder(FILES, station.vault.staging_dir))
    await stored(station, len(FILES))


@contextlib.asynccontextmanager
async def guarded(station: Station) -> AsyncIterator[Guard]:
    """The guard and the healing lane at work; a bug in one of them fails the test."""
    guard, heal = Guard(station), HealLane(station)

    async def forever(step: Callable[[], Awaitable[None]]) -> None:
        while True:
            with contextlib.suppress(StoreError):
                await step()
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(forever(step)) for step in (guard.watch, guard.patrol, heal.step)]
    try:
        await until(lambda: guard._seq > 0)
        yield guard
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():
            await asyncio.sleep(0.01)


def alarms(station: Station) -> list[tuple[str, list[str]]]:
    found, _ = station.journal.reader.alarms()
    return [(alarm.detail["path"], alarm.detail["what"]) for alarm in found if "path" in alarm.detail]


def original(station: Station) -> Path:
    return next(path for _, path, _ in station.vault.originals())


def states(station: Station) -> set[AssetState]:
    return {asset.state for asset in station.journal.reader.known_bytes("", 1000)}


def whole(station: Station) -> bool:
    """Whether everything is here again, as it was, and nobody may write to it."""
    if not states(station) <= {AssetState.HELD, AssetState.STORED} or contents(station) != set(FILES.values()):
        return False
    paths = [path for _, path, _ in station.vault.originals()]
    return all(is_immutable(path) and path.stat().st_mode & 0o777 == 0o440 and not path.stat().st_uid for path in paths)


@pytest.mark.root
@pytest.mark.parametrize(
    ("attack", "told"),
    [
        ("chattr -i {0}; printf F | dd of={0} conv=notrunc status=none; chattr +i {0}", "written"),
        ("chattr -i {0}; printf f | dd of={0} conv=notrunc status=none; chattr +i {0}", "written"),
        ("chattr -i {0}; truncate -s 10 {0}", "written"),
        ("chattr -i {0}; chmod 640 {0}", "attributes"),
        ("chattr -i {0}; chmod 640 {0}; chmod 440 {0}; chattr +i {0}", "attributes"),
        ("chattr -i {0}; touch {0}; chattr +i {0}", "attributes"),
        ("chattr -i {0}", "flag"),
        ("chattr -i {0}; rm -f {0}", "deleted"),
        ("chattr -i {0}; mv {0} {1}/away", "moved away"),
        ("chattr -i {0}; mv {0} {1}/away; ln -s {1}/away {0}", "moved away"),
        ("chattr -i {0}; mv {0} {1}/away; ln {1}/away {0}; rm {1}/away", "moved away"),
        ("chattr -i {0}; cp -p {0} {1}/new; mv -f {1}/new {0}", "moved here"),
        ("chattr -i {0}; mv {0} {1}/away; mkdir {0}", "moved away"),
        ("chattr -i {0}; mv {0} {1}/away; mkfifo {0}", "moved away"),
    ],
)
async def test_whatever_is_done_to_an_original_is_told_and_mended(station: Station, attack: str, told: str) -> None:
    path = original(station)
    async with guarded(station):
        await attacked(attack.format(path, station.vault.root.parent))
        name = path.relative_to(station.vault.root).as_posix()
        await until(lambda: any(found == name and told in what for found, what in alarms(station)))
        await until(lambda: whole(station))


async def attacked(commands: str) -> None:
    """Run commands as root, from another process, while the service goes on."""
    process = await asyncio.create_subprocess_exec("sh", "-ec", commands)
    assert await process.wait() == 0


@pytest.mark.root
async def test_another_owner_is_told(station: Station) -> None:
    path = original(station)
    async with guarded(station):
        await attacked(f"chattr -i {path}; chown 65534 {path}")
        await until(lambda: any("attributes" in what for _, what in alarms(station)))
        await until(lambda: any("owner" in what for _, what in alarms(station)))


@pytest.mark.root
async def test_a_link_elsewhere_is_found_by_the_patrol(station: Station) -> None:
    """Whoever has another name of the file may write to it, and the kernel tells nobody who listens to this one."""
    path = original(station)
    async with guarded(station):
        await attacked(f"chattr -i {path}; ln {path} {station.vault.root.parent}/other")
        await until(lambda: any("links" in what for _, what in alarms(station)))


@pytest.mark.root
async def test_our_own_work_alarms_nobody(station: Station) -> None:
    """Docking, naming, sealing, quarantine, healing and storing, with the patrol in between."""
    async with guarded(station) as guard:
        for number in range(3):
            more = {f"/{number}-{name}.MP4": os.urandom(2000) for name in range(40)}
            await dock(station, FakeRecorder(more, station.vault.staging_dir))
            await stored(station, len(more))
        damaged = next(iter(station.journal.reader.known_bytes("", 1)))
        assert await put_aside(station, damaged, "for the test")
        await until(lambda: states(station) <= {AssetState.HELD, AssetState.STORED})
        await station.journal.note("test", {"the last": "event of ours"})
        await until(lambda: not guard._pending)
        assert alarms(station) == []
        assert list(guard.problems()) == []


@pytest.mark.root
@pytest.mark.parametrize(
    ("attack", "name"),
    [
        ("echo stray > {0}/vault/ab-stray", "vault/ab-stray"),
        ("echo stray > {1}/stray", "stray"),
        ("chmod 777 {1}", ""),
        ("mkdir {0}/new; chattr -R -i {1}; mv {1} {0}/away; mv {0}/new {1}; mv {0}/away/* {1}/", ""),
        ("chmod 666 {0}/journal.db", "journal.db"),
        ("mv {0}/journal.db-wal {0}/away; mv {0}/away {0}/journal.db-wal", "journal.db-wal"),
        ("chmod 700 {0}/damaged", "damaged"),
    ],
)
async def test_what_is_done_beside_the_originals_is_told_too(station: Station, attack: str, name: str) -> None:
    async with guarded(station):
        await attacked(attack.format(station.vault.root, original(station).parent))
        await until(lambda: any(name in found for found, _ in alarms(station)))


@pytest.mark.root
async def test_another_one_s_writing_to_the_journal_is_told(station: Station) -> None:
    script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]); db.commit()"
    change = "UPDATE asset SET reason = 'nothing to see here'"
    async with guarded(station):
        command = ["python3", "-I", "-c", script, str(station.vault.root / "journal.db"), change]
        await asyncio.to_thread(subprocess.run, command, check=True)
        await until(lambda: ("journal.db", ["written"]) in alarms(station))


@pytest.mark.root
@pytest.mark.parametrize("place", ["vault", ""])
async def test_a_mount_over_the_vault_is_told_and_harms_nothing(station: Station, tmp_path: Path, place: str) -> None:
    """What lies there now says nothing about what is held: nothing is called damaged, and nothing put there."""
    (tmp_path / "evil").mkdir()
    target = station.vault.root / place
    asset = next(iter(station.journal.reader.known_bytes("", 1)))
    assert asset.digests is not None
    async with guarded(station) as guard:
        await attacked(f"mount --bind {tmp_path / 'evil'} {target}")
        try:
            await until(lambda: bool(list(guard.problems())))
            with pytest.raises(StoreError, match="mounted over"):
                station.vault.claim(asset.asset_id, 1, asset.digests)
            with pytest.raises(StoreError, match="mounted over"):
                station.vault.quarantine(asset.asset_id, asset.digests)
        finally:
            await attacked(f"umount {target}")
        await until(lambda: any("covered" in what for _, what in alarms(station)))
        await until(lambda: len(list(guard.problems())) == 1)
        assert whole(station)
    assert list((tmp_path / "evil").iterdir()) == []


@pytest.mark.root
async def test_a_mount_over_a_single_original_is_found_and_not_taken_for_it(station: Station, tmp_path: Path) -> None:
    (tmp_path / "evil").write_bytes(b"other")
    path = original(station)
    async with guarded(station):
        await attacked(f"mount --bind {tmp_path / 'evil'} {path}")
        try:
            await until(lambda: any("covered" in what for _, what in alarms(station)))
        finally:
            await attacked(f"umount {path}")
        assert whole(station)


async def test_what_cannot_be_heard_in_time_is_looked_for(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More happens than is remembered: then every file is looked at, and nothing is forgotten."""
    monkeypatch.setattr(guarding, "_PENDING", 2)
    async with opened(tmp_path / "root", clock, store=FakeStore()) as station:
        await filled(station)
        paths = [path for _, path, _ in station.vault.originals()]
        async with guarded(station):
            for path in paths:
                path.chmod(0o644)
            await until(lambda: all(path.stat().st_mode & 0o777 == 0o440 for path in paths))
        assert alarms(station)


async def test_without_ears_the_patrol_finds_it_and_the_page_says_so(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no more watches")

    monkeypatch.setattr(Ears, "listen", refuse)
    async with opened(tmp_path / "root", clock, store=FakeStore()) as station:
        await filled(station)
        async with guarded(station) as guard:
            await until(lambda: any("no more watches" in problem for problem in guard.problems()))
            original(station).chmod(0o644)
            await until(lambda: any("mode" in what for _, what in alarms(station)))
            monkeypatch.undo()
            await until(lambda: not any("no more watches" in problem for problem in guard.problems()))


async def test_what_happened_while_nobody_listened_is_found_at_the_next_start(
    tmp_path: Path, clock: SettableClock
) -> None:
    async with opened(tmp_path / "root", clock, store=FakeStore()) as station:
        await filled(station)
        missing, longer, *_ = [path for _, path, _ in station.vault.originals()]
    missing.unlink()
    longer.chmod(0o640)
    longer.write_bytes(longer.read_bytes() + b"more")
    async with opened(tmp_path / "root", clock, store=station.store) as again, guarded(again):
        await until(lambda: len(alarms(again)) == 2)
        await until(lambda: contents(again) == set(FILES.values()))


async def test_where_nothing_of_many_is_there_the_disk_is_looked_for_first(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patrol, "_MANY", 3)
    async with opened(tmp_path / "root", clock, store=FakeStore()) as station:
        await filled(station)
    for _, path, _ in station.vault.originals():
        path.unlink()
    async with opened(tmp_path / "root", clock, store=station.store) as again, guarded(again):
        await until(lambda: alarms(again) == [("vault", ["missing"])])
        assert states(again) == {AssetState.STORED}, "nothing is called damaged for want of a mount"


async def test_an_alarm_stays_until_a_person_has_examined_it(tmp_path: Path, clock: SettableClock) -> None:
    async with opened(tmp_path / "root", clock, store=FakeStore()) as station:
        await filled(station)
        async with guarded(station) as guard:
            original(station).chmod(0o644)
            await until(lambda: bool(list(guard.problems())))
    async with opened(tmp_path / "root", clock, store=station.store) as station, guarded(station) as guard:
        await until(lambda: bool(list(guard.problems())))
        (problem,) = guard.problems()
        assert "外部改动" in problem
        told = await VERBS["guard_examined"](station, {"who": "D. Wang", "why": "a backup program"})
        assert told["alarms"] == len(alarms(station))
        await until(lambda: not list(guard.problems()))
        details = [event.detail for event in station.journal.reader.events(0, 1000) if "examined" in event.detail]
        assert json.loads(details[-1])["detail"]["who"] == "D. Wang"


def test_the_page_turns_red_and_the_command_line_says_what_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real service, attacked as root; what a person says of it ends the alarm, and is kept."""
    made = stage(tmp_path)
    guard = ["--config", str(made.config), "guard"]

    def problems() -> str:
        return json.dumps(daemon.status()["health"]["problems"], ensure_ascii=False)

    with running(made) as daemon:
        assert cli.main(guard) == 0
        assert "外部改动" not in problems()
        (made.vault / "stray").write_text("not ours")
        daemon.until(lambda: "外部改动" in problems())
        assert daemon.status()["health"]["name"] == "degraded"
        capsys.readouterr()
        assert cli.main(guard) == 1
        assert "vault/stray: written, closed, created" in capsys.readouterr().out
        assert cli.main([*guard, "--examined"]) == 2, "somebody must say so"
        assert cli.main([*guard, "--examined", "--who", "D. Wang", "--why", "a test"]) == 0
        daemon.until(lambda: "外部改动" not in problems())
        assert cli.main(guard) == 0
