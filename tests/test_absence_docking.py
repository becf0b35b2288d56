"""Recordings that were taken off a card before it was docked are told, on real cards and through the real service."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.model import Asset, AssetState, Clip, Finding, Medium, Space, Stamp
from agent.pipeline.absences import FACTS_LIMIT, Traces
from agent.pipeline.acquire import End
from agent.pipeline.station import Station
from simulator.card import Card
from simulator.content import Noise
from tests.cards import KINDS, docked, newest, said
from tests.conftest import SettableClock
from tests.daemons import call, running, stage
from tests.fakes import FakeRecorder
from tests.parsing import parse, wall
from tests.stations import dock, opened

FOLDER = "DCIM/100MEDIA"
NAMES = [f"{FOLDER}/MOVI{number:04d}.MP4" for number in range(1, 9)]
NINE = wall("2026-11-20 09:00")


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with opened(tmp_path / "station", clock) as made:
        yield made


def day(path: Path, kind: str = "fat32", *, cluster_bytes: int = 4096) -> Card:
    """A card with eight recordings of five minutes, one after the other."""
    made = (Card.fat32 if kind == "fat32" else Card.exfat)(path, 64 << 20, cluster_bytes=cluster_bytes)
    for number, name in enumerate(NAMES):
        start = NINE + timedelta(minutes=5 * number)
        made.add(name, Noise(2_000_000 + number, number), created=start, modified=start + timedelta(minutes=5))
    made.finish()
    return made


def wipe(card: Card, *names: str) -> None:
    """Take an entry out without a trace and leave its clusters taken, as a crude tool does."""
    card.finish()
    for name in names:
        node = card.node(name)
        slots = 1 if card.format.kind == "fat32" else 3
        card.poke(
            node.entry_offset, b"".join((b"\xe5" if slots == 1 else b"\1").ljust(32, b"\0") for _ in range(slots))
        )


def facts(station: Station) -> Sequence[Mapping[str, Any]]:
    """What the newest docking found missing, as any reader of the journal gets it."""
    return station.journal.reader.absences(newest(station).docking_id)


def told(fact: Mapping[str, Any]) -> tuple[object, ...]:
    return fact["segments"], fact["proven"], fact["by"], fact["sure"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_deleted_recording_is_told_on_every_screen(tmp_path: Path, station: Station, kind: str) -> None:
    card = day(tmp_path / "card.img", kind)
    card.delete(NAMES[3])
    card.finish()
    card.close()
    _, shown = await docked(station, card.path)
    (fact,) = facts(station)
    assert told(fact) == (1, 1, ["numbers", "remains"], "certain")
    assert (fact["before"], fact["after"], fact["lasts_s"], fact["told"]) == (NAMES[2], NAMES[4], 300, False)
    status, text = await said(station, shown)
    (view,) = status["dockings"][0]["absences"]
    assert view["zh"] == "缺 1 段，约 05:00，依据：序号 + 目录残留（确定）"
    assert view["en"] == "1 segment missing, about 05:00, by: numbering + directory remains (certain)"
    assert f"  {view['zh']} ({view['en']})  [{NAMES[2]} → {NAMES[4]}]" in text.splitlines()
    await docked(station, card.path)
    (fact,) = facts(station)
    assert fact["told"], "the same card again: nothing new is missing"
    status, text = await said(station, shown)
    assert text.count("缺 1 段") == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_an_untouched_card_gives_nothing_at_any_docking(tmp_path: Path, station: Station, kind: str) -> None:
    card = day(tmp_path / "card.img", kind)
    card.close()
    for _ in range(2):
        assert (await docked(station, card.path))[0] is End.COMPLETE
        assert facts(station) == ()
    assert parse(card.path).end["space"][2] == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_an_entry_without_a_trace_leaves_its_number_and_its_space(
    tmp_path: Path, station: Station, kind: str
) -> None:
    card = day(tmp_path / "card.img", kind)
    wipe(card, NAMES[3])
    card.close()
    parsed = parse(card.path)
    assert (parsed.found("deleted"), parsed.end["space"][2]) == ([], 489 * 4096)
    await docked(station, card.path)
    (fact,) = facts(station)
    assert told(fact) == (1, 0, ["numbers", "space"], "likely")


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_last_docking_saw_is_missed_and_what_was_pulled_is_told_apart(
    tmp_path: Path, station: Station, kind: str, clock: SettableClock
) -> None:
    """The last recording leaves no hole and here no entry: only the ledger knows. It was pulled, so it is safe."""
    card = day(tmp_path / "card.img", kind)
    await docked(station, card.path)
    wipe(card, NAMES[7])
    card.close()
    clock.advance(3600)
    _, shown = await docked(station, card.path)
    held, lost = (one for one in sorted(facts(station), key=lambda fact: -int(fact["held"])))
    assert told(held) == (1, 1, ["ledger"], "certain")
    assert told(lost) == (0, 0, ["space"], "possible"), "its clusters are still taken"
    status, _ = await said(station, shown)
    texts = [one["zh"] for one in status["dockings"][0]["absences"]]
    assert "此前已采集的 1 段已不在设备上，依据：上次采集台账（确定）" in texts


async def test_what_was_seen_and_never_pulled_is_missed_for_certain(station: Station) -> None:
    staging = station.vault.staging_dir
    files = {name: bytes([number]) * 1000 for number, name in enumerate(NAMES)}
    stamps = {name: Stamp((NINE + timedelta(minutes=5 * number)).isoformat(), 480) for number, name in enumerate(NAMES)}
    assert await dock(station, FakeRecorder(files, staging, stamps=stamps, gone_after_bytes=2500)) is End.YANKED
    left = {name: content for name, content in files.items() if name != NAMES[5]}
    await dock(station, FakeRecorder(left, staging, stamps=stamps))
    (fact,) = facts(station)
    assert told(fact) == (1, 1, ["numbers", "ledger"], "certain")
    assert (fact["held"], fact["names"]) == (False, [NAMES[5]])


async def test_a_pulled_recording_under_another_name_and_time_is_not_missed(station: Station) -> None:
    """Only its content tells, and that is read after the listing."""
    staging = station.vault.staging_dir
    first = {"VIDEO/interview.mp4": b"what was said" * 99}
    await dock(station, FakeRecorder(first, staging))
    renamed = {"VIDEO/statement.mp4": b"what was said" * 99}
    stamps = {"VIDEO/statement.mp4": Stamp("2026-11-21T08:00:00", 480)}
    await dock(station, FakeRecorder(renamed, staging, stamps=stamps))
    docking_id = newest(station).docking_id
    assert [fact.detail["held"] for fact in station.journal.reader.findings(docking_id, ("absence",))] == [True]
    assert facts(station) == ()


async def test_what_policy_released_is_not_missed(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = station.vault.staging_dir
    await dock(station, FakeRecorder({"VIDEO/a.mp4": b"a" * 99, "VIDEO/b.mp4": b"b" * 99}, staging))
    reader = station.journal.reader
    gone = reader.gone

    def released(*asked: str) -> list[tuple[Clip, Asset]]:
        return [(clip, replace(asset, state=AssetState.RELEASED)) for clip, asset in gone(*asked, 9) if asset]

    monkeypatch.setattr(reader, "gone", lambda docking_id, later, _limit: released(docking_id, later))
    await dock(station, FakeRecorder({"VIDEO/b.mp4": b"b" * 99}, staging))
    assert facts(station) == ()


async def test_of_a_card_that_could_not_be_listed_only_entries_are_told(station: Station) -> None:
    """What a damaged folder hides may all be there."""
    staging = station.vault.staging_dir
    files = {name: name.encode() * 99 for name in NAMES}
    await dock(station, FakeRecorder(files, staging))
    left = {name: files[name] for name in (NAMES[0], NAMES[7])}
    damaged = Finding("directory-damaged", {"path": FOLDER})
    await dock(station, FakeRecorder(left, staging, findings=[damaged]))
    assert facts(station) == ()


DELETED = {
    "path": NAMES[3], "raw_name": "e54f5649303030344d5034", "short_name": "", "name_quality": "inferred",
    "is_directory": False, "size": 2_000_000, "created": [None, None], "modified": ["2026-11-20T09:20:00", None],
    "state": "intact", "extents": [], "entry_offset": 0, "flags": [],
}  # fmt: skip


@pytest.mark.parametrize(
    "strange",
    [
        {}, {"path": NAMES[3]}, DELETED | {"size": "large"}, DELETED | {"raw_name": "no hexadecimal"},
        DELETED | {"created": [7, "x"], "modified": ["9999-12-31T23:59:59", 10**9]},
        DELETED | {"modified": ["0001-01-01T00:00:00", 1439]}, DELETED | {"flags": [None, {}, 7]},
        DELETED | {"size": 1 << 200}, DELETED | {"path": ""}, DELETED | {"path": "\ud800/\x1b[2J.MP4"},
        DELETED | {"name_quality": "lossy", "path": f"{FOLDER}/?OVI0004.MP4"},
    ],
)  # fmt: skip
async def test_whatever_the_helper_says_of_deleted_entries_ends_no_docking(
    station: Station, strange: dict[str, Any]
) -> None:
    files = {name: name.encode() * 99 for name in NAMES}
    recorder = FakeRecorder(files, station.vault.staging_dir, findings=[Finding("deleted", strange)] * 3)
    assert await dock(station, recorder) is End.COMPLETE
    assert newest(station).accounting.pulled == len(files)


async def test_a_card_full_of_traces_fills_no_journal(station: Station) -> None:
    entries = [
        Finding("deleted", DELETED | {"path": f"V{number}/a.mp4", "size": 1000 + number}) for number in range(500)
    ]
    await dock(station, FakeRecorder({}, station.vault.staging_dir, findings=entries))
    docking_id = newest(station).docking_id
    assert len(facts(station)) == FACTS_LIMIT
    (more,) = station.journal.reader.findings(docking_id, ("absences-not-listed",))
    assert more.detail == {"facts": 500 - FACTS_LIMIT}


def test_a_file_that_is_no_recording_is_no_trace(station: Station) -> None:
    traces = Traces(lambda path: Medium.VIDEO if path.endswith("MP4") else Medium.OTHER)
    traces.deleted(DELETED | {"path": "LOG/20261120.TXT"})
    traces.deleted(DELETED | {"size": 0})
    traces.deleted(DELETED | {"is_directory": True})
    space = Space(1 << 36, 1 << 35, 0)
    assert traces.findings(station.journal.reader, "d1", "device", space, is_whole=True) == []


# Cards that other software wrote and deleted on.


def run(*command: str) -> str:
    environment = os.environ | {"MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8", "TZ": "Asia/Shanghai"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def contents() -> dict[str, bytes]:
    return {name.rpartition("/")[2]: Noise(50_000 + at, at).read() for at, name in enumerate(NAMES)}


def times(at: int) -> tuple[float, float]:
    second = (NINE + timedelta(minutes=5 * at)).timestamp()
    return second, second


@pytest.mark.parametrize("size", [16 << 20, 40 << 20])
async def test_a_card_on_which_mtools_deleted(tmp_path: Path, station: Station, size: int) -> None:
    path = tmp_path / "card.img"
    with path.open("wb") as image:
        image.truncate(size)
    run("mkfs.vfat", "-F", "32" if size > 20 << 20 else "16", str(path))

    def tool(name: str, *arguments: str) -> None:
        run(name, "-i", str(path), *arguments)

    tool("mmd", "::DCIM", f"::{FOLDER}")
    for at, (name, content) in enumerate(contents().items()):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, times(at))
        tool("mcopy", "-m", str(tmp_path / name), f"::{FOLDER}/{name}")
    tool("mdel", f"::{NAMES[4]}")
    tool("mdel", f"::{NAMES[7]}")
    tool("mren", f"::{NAMES[2]}", f"::{FOLDER}/MOVI0003.TMP")
    tool("mren", f"::{FOLDER}/MOVI0003.TMP", f"::{NAMES[2]}")
    await docked(station, path)
    assert parse(path).end["space"][2] == 0
    middle, last = facts(station)
    assert (told(middle), middle["after"]) == ((1, 1, ["numbers", "remains"], "certain"), NAMES[5])
    assert (told(last), last["before"], last["after"]) == ((1, 1, ["remains"], "certain"), NAMES[6], "")
    assert [fact["lasts_s"] for fact in (middle, last)] == [300, 300], "by how far apart the others ended"


@pytest.mark.root
async def test_a_card_on_which_exfat_fuse_deleted(tmp_path: Path, station: Station) -> None:
    path, mount = tmp_path / "card.img", tmp_path / "mount"
    mount.mkdir()
    with path.open("wb") as image:
        image.truncate(16 << 20)
    run("mkfs.exfat", str(path))
    device = run("losetup", "--find", "--show", str(path)).strip()
    try:
        run("mount.exfat-fuse", device, str(mount))
        try:
            (mount / FOLDER).mkdir(parents=True)
            for at, (name, content) in enumerate(contents().items()):
                (mount / FOLDER / name).write_bytes(content)
                os.utime(mount / FOLDER / name, times(at))
            (mount / NAMES[4]).unlink()
            (mount / NAMES[5]).unlink()
            (mount / NAMES[1]).rename(mount / "DCIM" / "spare.MP4")
            (mount / "DCIM" / "spare.MP4").rename(mount / NAMES[1])
        finally:
            run("umount", str(mount))
    finally:
        run("losetup", "--detach", device)
    await docked(station, path)
    assert parse(path).end["space"][2] == 0
    (fact,) = facts(station)
    assert told(fact) == (2, 2, ["numbers", "remains"], "certain")
    assert (fact["before"], fact["after"]) == (NAMES[3], NAMES[6])


def test_the_service_tells_what_is_missing_and_so_does_the_command_line(tmp_path: Path) -> None:
    made = stage(tmp_path)
    card = day(tmp_path / "card.img")
    card.delete(NAMES[3])
    card.finish()
    card.close()
    assert "can't be used" in call(made, "device", "missing").stderr, "no journal yet: told in words"
    with running(made) as daemon:
        slot = daemon.dock(card.path)
        daemon.until_phase(slot, "finished")
        daemon.until(lambda: [one for one in daemon.status()["dockings"] if one["absences"]])
        (fact,) = daemon.status()["dockings"][0]["absences"]
        assert (fact["zh"], fact["before"]) == ("缺 1 段，约 05:00，依据：序号 + 目录残留（确定）", NAMES[2])
        assert fact["zh"] in call(made, "status").stdout
        assert fact["zh"] in call(made, "device", "missing").stdout
    assert fact["zh"] in call(made, "device", "missing").stdout, "without the service too"
    (docking,) = json.loads(call(made, "device", "missing", "--json").stdout)["dockings"]
    assert docking["absences"] == [fact]
