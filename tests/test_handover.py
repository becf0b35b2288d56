"""Promise: only a docking that took over everything ends the wait for a recorder, with the service and without it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.deadline import ZONE
from agent.errors import JournalError
from agent.journal import Reader, rebuild, verify
from agent.journal.codec import decode
from agent.journal.schema import MIGRATIONS, connect, migrate
from agent.model import Custody, DeviceReturned, DockingClosed, Recorder, RecorderKind
from agent.pipeline.handover import give_back, issue
from agent.pipeline.station import Station
from simulator.content import Noise
from simulator.stage import Stage
from tests.cards import image
from tests.conftest import SettableClock
from tests.daemons import call, running, stage
from tests.fakes import FakeRecorder
from tests.journal_entries import assert_consistent, issued, listed, opened, returned, seen, write
from tests.stations import dock
from tests.stations import opened as station_of

FILES = {f"/DCIM/{n:04}.MP4": f"clip {n}".encode() * n for n in range(1, 9)}
ASKED = {"id": "DSJ-001", "to": "ZF-17", "who": "keeper", "why": "inspection"}


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with station_of(tmp_path / "root", clock) as station:
        device = recorder(station).device
        owned = Recorder("DSJ-001", "0117", RecorderKind.BODY_CAMERA, device.product, device.serial)
        station.inventory = {"DSJ-001": owned}
        yield station


def recorder(station: Station, **switches: object) -> FakeRecorder:
    return FakeRecorder(dict(FILES), station.vault.staging_dir, **switches)  # type: ignore[arg-type]


def standing(station: Station) -> Custody:
    return station.journal.reader.standings()["DSJ-001"].custody


def at(clock: SettableClock, **later: float) -> str:
    return (clock() + timedelta(**later)).isoformat()


async def test_docking_ends_the_wait_and_says_by_which_docking(station: Station, clock: SettableClock) -> None:
    assert await issue(station, ASKED | {"at": at(clock)}) == {"recorder": "DSJ-001", "custody": "out"}
    await dock(station, recorder(station))
    assert standing(station) is Custody.HERE
    event = station.journal.reader.events(limit=10_000)[-1]
    entry = decode(event.kind, event.detail)
    assert isinstance(entry, DeviceReturned)
    assert entry.docking_id == station.journal.reader.dockings(limit=1)[0].docking_id
    await dock(station, recorder(station))
    kinds = [event.kind for event in station.journal.reader.events(limit=10_000)]
    assert kinds.count("device_returned") == 1, "nobody waits for it any more"


async def test_a_return_without_docking_keeps_the_countdown_and_a_docking_ends_it(
    station: Station, clock: SettableClock
) -> None:
    await issue(station, ASKED | {"at": at(clock), "back_by": at(clock, hours=9)})
    told = await give_back(station, ASKED | {"at": at(clock)})
    assert told["custody"] == "unpulled"
    assert station.journal.reader.standings()["DSJ-001"].unseen_since == clock()
    await dock(station, recorder(station))
    assert standing(station) is Custody.HERE


@pytest.mark.parametrize(
    "switches",
    [
        {"gone_after_bytes": 60},
        {"bad": {"/DCIM/0003.MP4": 0}},
        {"changed": frozenset({"/DCIM/0002.MP4"})},
    ],
)
async def test_a_docking_that_left_something_behind_ends_nothing(
    station: Station, clock: SettableClock, switches: dict[str, object]
) -> None:
    await issue(station, ASKED | {"at": at(clock)})
    await dock(station, recorder(station, **switches))
    assert standing(station) is Custody.OUT


async def test_another_recorder_with_the_same_serial_ends_nothing(station: Station, clock: SettableClock) -> None:
    """The fake's product is the same, too: so its filesystem is stated as well."""
    owned = station.inventory["DSJ-001"]
    device = recorder(station).device
    station.inventory = {
        "DSJ-001": Recorder("DSJ-001", "0117", owned.kind, "", device.serial, "", device.filesystem_ids)
    }
    await issue(station, ASKED | {"at": at(clock)})
    await dock(station, recorder(station, filesystem_id="FFFF-FFFF"))
    assert standing(station) is Custody.OUT
    assert station.journal.reader.dockings(limit=1)[0].accounting.pulled == len(FILES), "it is pulled all the same"


async def test_a_docking_that_began_before_the_handover_ends_nothing(station: Station, clock: SettableClock) -> None:
    """Entered while it is still docked: what it will record outside is not on it yet."""
    early = recorder(station)
    slow = dock(station, early)
    clock.now += timedelta(minutes=5)
    await issue(station, ASKED | {"at": at(clock)})
    clock.now -= timedelta(minutes=5)
    await slow
    assert standing(station) is Custody.OUT


async def test_a_handover_that_a_docking_has_answered_already_is_refused(
    station: Station, clock: SettableClock
) -> None:
    before = at(clock, hours=-1)
    await dock(station, recorder(station))
    with pytest.raises(JournalError, match="was docked since then"):
        await issue(station, ASKED | {"at": before})
    assert station.journal.reader.standings() == {}


async def test_what_is_given_up_is_waited_for_no_longer_until_it_turns_up(
    station: Station, clock: SettableClock
) -> None:
    await issue(station, ASKED | {"at": at(clock)})
    told = await give_back(station, ASKED | {"at": at(clock), "unread": "yes"})
    assert told["custody"] == "written_off"
    await dock(station, recorder(station))
    assert standing(station) is Custody.HERE


async def test_who_left_the_inventory_can_still_be_given_back(station: Station, clock: SettableClock) -> None:
    await issue(station, ASKED | {"at": at(clock)})
    station.inventory = {}
    assert (await give_back(station, ASKED | {"at": at(clock)}))["custody"] == "unpulled"
    with pytest.raises(JournalError, match="no recorder DSJ-001"):
        await issue(station, ASKED | {"at": at(clock)})


async def test_the_future_is_refused(station: Station, clock: SettableClock) -> None:
    with pytest.raises(JournalError, match="is in the future"):
        await issue(station, ASKED | {"at": at(clock, seconds=1)})


@pytest.mark.parametrize("field", ["to", "who", "why", "id", "at"])
@pytest.mark.parametrize("text", ["", "a\nb", "x" * 100_000, "\u202e"])
async def test_whoever_asks_the_socket_directly_gets_no_other_text_in(station: Station, field: str, text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        await issue(station, ASKED | {"at": "2026-07-06T08:00"} | {field: text})


# The journal.


async def test_the_journal_takes_no_return_by_a_docking_that_left_something(tmp_path: Path) -> None:
    """Whoever writes it: unknown, open, unlisted, yanked and incomplete dockings prove nothing."""
    path = tmp_path / "journal.db"
    await write(path, issued(), opened("d1"), opened("d2"), DockingClosed("d2", "complete"))
    await write(path, opened("d3"), seen("a", docking="d3"), listed(1, "d3"), DockingClosed("d3", "complete"))
    await write(path, opened("d4"), listed(0, "d4"), DockingClosed("d4", "yanked"))
    for docking in ("d0", "d1", "d2", "d3", "d4"):
        with pytest.raises(JournalError, match="didn't take over all"):
            await write(path, returned(docking=docking))
    await write(path, opened("d5"), listed(0, "d5"), DockingClosed("d5", "complete"), returned(docking="d5"))
    assert_consistent(path)


async def test_of_two_that_enter_the_same_handover_at_once_one_is_told(station: Station, clock: SettableClock) -> None:
    asked = ASKED | {"at": at(clock)}
    results = await asyncio.gather(*(issue(station, asked) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, dict) for result in results) == 1
    assert sum("is handed out already" in str(result) for result in results) == 4


async def test_a_death_between_the_end_of_the_docking_and_the_entry_leaves_the_countdown_running(
    station: Station, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may only err towards waiting; the next docking of the same recorder ends it."""
    await issue(station, ASKED | {"at": at(clock)})

    async def dies(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr("agent.pipeline.admit.taken_over", dies)
        with pytest.raises(asyncio.CancelledError):
            await dock(station, recorder(station))
    assert station.journal.reader.dockings(limit=1)[0].reason == "complete"
    assert standing(station) is Custody.OUT
    await dock(station, recorder(station))
    assert standing(station) is Custody.HERE


async def test_verify_notices_a_changed_register_and_rebuild_mends_it(tmp_path: Path) -> None:
    """Whoever wants a recorder forgotten would write here."""
    path = tmp_path / "journal.db"
    await write(path, issued(back_by=5), returned(), issued("DSJ-002"))
    with closing(Reader(path)) as reader:
        before = reader.standings()
    for change in ("UPDATE custody SET unseen_since = NULL", "DELETE FROM custody WHERE recorder_id = 'DSJ-002'"):
        with closing(sqlite3.connect(path)) as db:
            db.execute(change)
            db.commit()
        assert any(found.where.startswith("custody DSJ-00") for found in verify(path).differences)
        rebuild(path)
        assert_consistent(path)
    with closing(Reader(path)) as reader:
        assert reader.standings() == before


async def test_a_journal_from_before_the_register_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(connect(path, write=True)) as db:
        migrate(db, path, MIGRATIONS[:-1])
    await write(path, opened(), issued())
    with closing(Reader(path)) as reader:
        assert reader.standings()["DSJ-001"].custody is Custody.OUT
    assert_consistent(path)


# The command line.

CARD = {f"DCIM/{n:04}.MP4": Noise(60_000 + n, n) for n in range(1, 6)}


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    return stage(tmp_path)


def own(made: Stage, *filesystem_ids: str) -> None:
    """Write an inventory; its recorders are images with these filesystems."""
    tables = (
        f'[recorder.DSJ-{n:03}]\nnumber = "固资 {n:03}"\nproduct = "image"\nfilesystem_ids = ["{name}"]\n'
        for n, name in enumerate(filesystem_ids, 1)
    )
    (made.config.parent / "inventory.toml").write_text("".join(tables), "utf-8")


def entered(made: Stage, verb: str, *more: str, name: str = "DSJ-001") -> tuple[int, str]:
    """One entry by the real command line: exit code, and all that it said."""
    reasons = ("--who", "keeper-name", "--why", "inspection")
    told = call(made, "device", verb, name, *reasons, *more)
    assert "Traceback" not in told.stderr
    return told.returncode, told.stdout + told.stderr


def shown(made: Stage) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(made, "device", "list", "--json").stdout)
    return found


def now(**earlier: float) -> str:
    return (datetime.now(ZONE) - timedelta(**earlier)).isoformat()


def test_a_day_without_the_service(made: Stage, tmp_path: Path) -> None:
    path = image(tmp_path / "card.img", dict(CARD))
    own(made, "fat32:0000-0000", "fat32:1111-1111")
    assert shown(made)["missing"] == 0, "before there is a journal"
    assert call(made, "pull", str(path)).returncode == 0
    (stranger,) = shown(made)["unregistered"]
    own(made, stranger["filesystem_ids"][0], "fat32:1111-1111")
    assert shown(made)["unregistered"] == []
    assert entered(made, "issue", "--to", "ZF-17", "--at", now()) == (0, "DSJ-001: out\n")
    assert entered(made, "issue", "--to", "ZF-18", "--at", now(days=30), name="DSJ-002")[0] == 0
    assert [row["id"] for row in shown(made)["recorders"]] == ["DSJ-002", "DSJ-001"]
    told = call(made, "device", "list").stdout
    assert "未归还 (not back)" in told
    assert "已领用 (handed out)" in told
    assert call(made, "pull", str(path)).returncode == 0
    assert [row["state"]["name"] for row in shown(made)["recorders"]] == ["not_back", "here"]
    assert call(made, "verify").returncode == 0
    assert call(made, "verify", "--rebuild").returncode == 0
    assert shown(made)["missing"] == 1


def test_bad_input_is_refused_in_words(made: Stage) -> None:
    own(made, "fat32:0000-0000")
    to = ("--to", "ZF-17", "--at")
    assert entered(made, "issue", *to, now(), name="DSJ-009")[0] == 6
    assert entered(made, "return", "--at", now())[0] == 6, "never handed out"
    assert "is in the future" in entered(made, "issue", *to, now(hours=-1))[1]
    assert "must be a time like" in entered(made, "issue", *to, "yesterday")[1]
    assert entered(made, "issue", *to, now(), "--back-by", "1970-01-01")[0] == 2
    assert "can't be expected back before" in entered(made, "issue", *to, now(), "--back-by", now(days=1))[1]
    for text in ("a\x1b[2Jb", "x" * 100_000, "\u202e", ""):
        code, told = entered(made, "issue", "--at", now(), "--to", text)
        assert (code, len(told) < 1000, "\x1b" in told) == (2, True, False)
    assert not (made.station / "journal.db").exists() or shown(made)["missing"] == 0, "nothing was entered"
    assert entered(made, "issue", *to, now(hours=1))[0] == 0
    assert "is handed out already" in entered(made, "issue", *to, now())[1]
    assert "was handed out later" in entered(made, "return", "--at", now(hours=2))[1]
    assert entered(made, "return", "--at", now()) == (0, "DSJ-001: unpulled\n")
    assert "is back already" in entered(made, "return", "--at", now())[1]
    error = json.loads(entered(made, "return", "--at", now(), "--json")[1])
    assert (error["exit"], error["safe"]) == (6, "Nothing was changed.")


def test_a_journal_that_can_not_be_looked_at_never_means_that_all_are_here(made: Stage) -> None:
    made.station.write_text("in the way")
    told = call(made, "device", "list")
    assert (told.returncode, told.stdout) == (6, "")
    assert "can't be read" in told.stderr


def test_the_running_service_docks_an_owned_recorder_and_names_nobody(made: Stage, tmp_path: Path) -> None:
    """From handing out to docking: status, health, log; the person's reference is in the journal only."""
    path, other = image(tmp_path / "card.img", dict(CARD)), image(tmp_path / "other.img", dict(CARD), "exfat")
    assert call(made, "pull", str(path)).returncode == 0
    own(made, "fat32:0000-0000")
    own(made, shown(made)["unregistered"][0]["filesystem_ids"][0])
    with running(made) as daemon:
        time = now()
        assert entered(made, "issue", "--to", "officer-name", "--at", time) == (0, "DSJ-001: out\n")
        assert entered(made, "issue", "--to", "officer-name", "--at", time)[0] == 6
        daemon.until(lambda: daemon.status()["devices"]["missing"] == 1)
        daemon.dock(other)
        daemon.until_phase("other.img", "finished")
        daemon.until(lambda: daemon.status()["devices"]["unregistered"])
        assert daemon.status()["devices"]["missing"] == 1, "that was another one"
        daemon.dock(path)
        daemon.until_phase("card.img", "finished")
        daemon.until(lambda: daemon.status()["devices"]["missing"] == 0)
        assert entered(made, "return", "--at", now())[0] == 6, "it came back by docking"
        told = json.dumps(daemon.status(), ensure_ascii=False) + call(made, "status").stdout
        told += json.dumps(made.ask("/api/v1/recordings"))
    told += call(made, "device", "list").stdout + made.log.read_text("utf-8")
    assert "officer-name" not in told
    assert "keeper-name" not in told
    with closing(Reader(made.station / "journal.db")) as reader:
        assert "officer-name" in "".join(event.detail for event in reader.events(limit=10_000))
    assert verify(made.station / "journal.db").consistent


def test_a_countdown_that_ran_out_degrades_the_station(made: Stage) -> None:
    own(made, "fat32:0000-0000")
    with running(made) as daemon:
        assert entered(made, "issue", "--to", "ZF-17", "--at", now(days=30))[0] == 0
        daemon.until(lambda: daemon.status()["devices"]["ran_out"] == 1)
        problems = [problem["zh"] for problem in daemon.status()["health"]["problems"]]
        assert any("可能有未采集的音像记录" in problem for problem in problems)
        assert not any("逾期" in problem for problem in problems)
        assert made.ask("/healthz")["status"] == "degraded"


def test_a_reload_takes_over_the_inventory_and_who_is_not_back_in_time_degrades(made: Stage) -> None:
    """The running service hands out what was just entered; a slip in the file leaves it with what it knew."""
    own(made, "fat32:0000-0000")
    with running(made) as daemon:
        assert entered(made, "issue", "--to", "ZF-17", "--at", now(), name="DSJ-002")[0] == 6
        own(made, "fat32:0000-0000", "fat32:1111-1111")
        os.kill(daemon.pid, signal.SIGHUP)
        later = ("--to", "ZF-17", "--at", now(), "--back-by", now(seconds=-2))
        daemon.until(lambda: entered(made, "issue", *later, name="DSJ-002")[0] == 0)
        daemon.until(lambda: daemon.status()["devices"]["not_back"] == 1)
        daemon.until(lambda: "未按期归还" in json.dumps(daemon.status()["health"], ensure_ascii=False))
        (made.config.parent / "inventory.toml").write_text("[recorder.x]")
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.until(lambda: "inventory.toml" in json.dumps(daemon.status()["health"]))
        assert len(daemon.status()["devices"]["recorders"]) == 2
