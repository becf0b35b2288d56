"""Promise: the doctor sees what is wrong, says in both languages how to mend it, takes nothing unseen for good."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import load
from agent.doctor import TOPICS, examine, report_bug
from agent.doctor.disks import judged_mount, judged_room, judged_smart, physical
from agent.doctor.dock import _disk, rules_in_force, slots_named
from agent.doctor.evidence import look_at_calendar, look_at_clock
from agent.doctor.finding import Case, Finding, Grade, Topic
from agent.doctor.permissions import look_at_seals
from agent.doctor.service import judged
from agent.uploader.mounts import Mount
from agent.verbs.base import Exit
from simulator.content import Noise
from simulator.stage import Stage
from tests.cards import image
from tests.conftest import SettableClock, unseal
from tests.daemons import call, running, stage

FILES = {f"DCIM/{n:04}.MP4": Noise(60_000 + n, n) for n in range(1, 4)}
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    return stage(tmp_path)


@pytest.fixture
def pulled(made: Stage, tmp_path: Path) -> Stage:
    """A station that holds three originals and is stopped."""
    done = call(made, "pull", str(image(tmp_path / "card.img", dict(FILES))))
    assert done.returncode == 0, done.stderr
    return made


def doctor(made: Stage, *topics: str) -> tuple[int, dict[str, list[Finding]]]:
    """Exit code, and what it found on each topic."""
    done = call(made, "doctor", "--json", *(("--only", *topics) if topics else ()))
    assert done.stderr == ""
    said = json.loads(done.stdout)
    found: dict[str, list[Finding]] = {topic: [] for topic in topics or TOPICS}
    for one in said["findings"]:
        found[one.pop("topic")].append(Finding(Grade(one.pop("grade")), **one))
    assert all(found.values()), "every topic says something"
    grades = [one.grade for several in found.values() for one in several]
    assert said["counts"] == {grade: grades.count(grade) for grade in Grade}
    return done.returncode, found


def case(made: Stage, clock: SettableClock) -> Case:
    return Case(made.config, load(made.config), clock, os.geteuid(), is_root=True)


def grades(findings: list[Finding]) -> set[Grade]:
    return {one.grade for one in findings}


def everything(folder: Path) -> dict[Path, tuple[int, int, int, bytes]]:
    """All files beneath a folder, with content; lists of names and times tell of any other change.

    Not checkpoints, which the running service may store at any moment.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "checkpoints" not in path.parts:
            status = path.stat()
            found[path] = (status.st_mode, status.st_uid, status.st_mtime_ns, path.read_bytes())
    return found


# The whole of it.


def test_a_station_that_works_has_nothing_bad_and_is_left_as_it_was(made: Stage, tmp_path: Path) -> None:
    with running(made) as daemon:
        daemon.until_phase(daemon.dock(image(tmp_path / "card.img", dict(FILES))), "finished")
        daemon.until(lambda: daemon.status()["counters"]["assets"]["stored"]["files"] == len(FILES))
        watched = (made.vault, made.store, made.config.parent)
        before = [everything(folder) for folder in watched]
        code, found = doctor(made)
        assert [everything(folder) for folder in watched] == before
    assert code == Exit.DOUBT, "nobody looks at SMART, systemd and udev here"
    for topic in ("helpers", "configuration", "permissions", "seals", "dock", "journal", "store"):
        assert grades(found[topic]) == {Grade.GOOD}, found[topic]
    assert Grade.BAD not in {one.grade for several in found.values() for one in several}
    assert "one filesystem" in found["disks"][-2].en
    assert {one.grade for one in found["service"]} <= {Grade.UNKNOWN, Grade.BAD}


def test_it_speaks_both_languages_and_never_of_a_fault_without_a_way_out(made: Stage) -> None:
    shutil.rmtree(made.store)
    (made.config.parent / "inventory.toml").write_text("[recorder.X]\nnumbr = '1'\n")
    made.config.parent.chmod(0o777)
    code, found = doctor(made)
    assert code == Exit.BAD
    for one in (one for several in found.values() for one in several):
        assert one.en
        assert one.zh
        assert one.grade not in {Grade.BAD, Grade.WARNING} or (one.do_zh and one.do_en), one
    told = call(made, "doctor", "--only", "configuration", "store").stdout
    assert "故障 BAD      配置 configuration: " in told
    assert "inventory.toml: recorder.X.numbr: there is no such option" in told
    assert "→ 改正后运行 capture-agent config check (Correct it, then" in told


def test_each_topic_alone_and_none_that_is_unknown(made: Stage) -> None:
    assert call(made, "doctor", "--only", "fortune").returncode == Exit.USAGE
    code, found = doctor(made, "helpers")
    assert (code, found.keys()) == (Exit.OK, {"helpers"})


# What can be wrong.


def test_without_a_configuration_the_rest_is_looked_at_and_the_unseen_is_unknown(made: Stage) -> None:
    made.config.write_text("[storage\n")
    code, found = doctor(made)
    assert code == Exit.BAD
    assert grades(found["configuration"]) == {Grade.BAD}
    assert grades(found["helpers"]) == {Grade.GOOD}
    for topic in ("seals", "disks", "page", "calendar", "journal", "store"):
        assert grades(found[topic]) == {Grade.UNKNOWN}, topic


def test_a_station_that_never_ran_is_told_apart_from_a_good_one(made: Stage) -> None:
    _, found = doctor(made, "permissions", "journal", "page")
    assert "is not there yet" in found["permissions"][-1].en
    assert grades(found["journal"]) == {Grade.UNKNOWN}
    assert (grades(found["page"]), "systemctl start" in found["page"][0].do_en) == ({Grade.BAD}, True)


@pytest.mark.root
def test_rights_that_are_too_wide_and_files_of_others_are_counted(pulled: Stage) -> None:
    originals = sorted(path for path in pulled.vault.rglob("*") if path.is_file())
    originals[0].chmod(0o640)
    os.chown(pulled.station / "journal.db", NOBODY.pw_uid, -1)
    (pulled.station / "staging").chmod(0o777)
    pulled.config.chmod(0o666)
    _, found = doctor(pulled, "permissions")
    told = " ".join(one.en for one in found["permissions"])
    assert grades(found["permissions"]) == {Grade.BAD}
    assert f"configuration: {pulled.config}" in told
    assert "1 do not belong to the service's user" in told
    assert "1 may be changed by others" in told
    assert "1 originals are writable" in told


@pytest.mark.root
def test_seals_are_seen_on_originals(made: Stage, tmp_path: Path, clock: SettableClock) -> None:
    made.config.write_text(made.config.read_text("utf-8").replace("seal = false", "seal = true"), "utf-8")
    assert grades(list(look_at_seals(case(made, clock)))) == {Grade.UNKNOWN}
    assert call(made, "pull", str(image(tmp_path / "card.img", dict(FILES)))).returncode == 0
    assert [one.en for one in look_at_seals(case(made, clock))] == ["3 originals were looked at, all immutable"]
    unseal(next(path for path in made.vault.iterdir()))
    (found,) = look_at_seals(case(made, clock))
    assert (found.grade, "1 are not immutable" in found.en) == (Grade.WARNING, True)


def test_a_changed_journal_is_found(pulled: Stage) -> None:
    with closing(sqlite3.connect(pulled.station / "journal.db")) as db:
        db.executescript("DROP TRIGGER event_is_never_changed; UPDATE event SET at = '2020' WHERE seq = 2")
    code, found = doctor(pulled, "journal")
    assert (code, grades(found["journal"])) == (Exit.BAD, {Grade.BAD})
    assert "event 2" in found["journal"][0].en


def test_a_key_that_others_could_read_is_told(made: Stage) -> None:
    with running(made):
        pass
    assert grades(doctor(made, "key")[1]["key"]) == {Grade.GOOD}
    (made.station / "signing.key").chmod(0o644)
    _, found = doctor(made, "key")
    assert (grades(found["key"]), "read by others" in found["key"][0].en) == ({Grade.WARNING}, True)


def test_a_store_that_is_not_mounted_is_told_with_the_stores_own_words(made: Stage) -> None:
    (made.store / ".capture-agent-store").unlink()
    code, found = doctor(made, "store", "configuration")
    assert code == Exit.BAD
    assert grades(found["configuration"]) == {Grade.GOOD}, "the configuration is right all the same"
    assert ".capture-agent-store" in found["store"][0].en


@pytest.mark.parametrize(
    ("day", "grade"), [("2026-10-31", Grade.GOOD), ("2026-11-01", Grade.WARNING), ("2027-01-01", Grade.BAD)]
)
def test_the_calendar_is_missed_in_time(made: Stage, clock: SettableClock, day: str, grade: Grade) -> None:
    clock.set(clock.now.fromisoformat(f"{day}T10:00:00+08:00"))
    assert grades(list(look_at_calendar(case(made, clock)))) == {grade}


def test_a_clock_behind_the_journal_is_told(made: Stage, clock: SettableClock, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(made):
        pass
    monkeypatch.setattr("agent.clocks._kernel_synced", AsyncMock(return_value=True))
    clock.set(datetime.now(UTC))
    assert not any("behind" in one.en for one in look_at_clock(case(made, clock)))
    monkeypatch.setattr("agent.clocks._kernel_synced", AsyncMock(return_value=False))
    clock.advance(-86400)
    told = [one.en for one in look_at_clock(case(made, clock))]
    assert any("not synchronised" in text for text in told)
    assert any("behind times that were recorded here" in text for text in told)
    monkeypatch.setattr("agent.clocks._kernel_synced", AsyncMock(return_value=None))
    assert Grade.UNKNOWN in grades(list(look_at_clock(case(made, clock))))


@pytest.mark.root
def test_root_looks_with_the_services_rights_and_leaves_nothing_of_its_own() -> None:
    """A journal in WAL mode gets files beside it by whoever opens it; those of root would lock the service out."""
    folder = Path(tempfile.mkdtemp(prefix="doctor-"))
    try:
        folder.chmod(0o755)
        made = stage(folder)
        assert call(made, "pull", str(image(folder / "card.img", dict(FILES)))).returncode == 0
        for path in (made.store, made.station, *made.station.rglob("*"), *made.store.rglob("*")):
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
        _, found = doctor(made, "permissions", "configuration", "journal", "store", "seals")
        assert grades([one for several in found.values() for one in several]) == {Grade.GOOD}, found
        assert {path.stat().st_uid for path in made.station.rglob("*")} == {NOBODY.pw_uid}
        words = [made.command()[0], "--config", made.config.relative_to(made.root), "doctor", "--only", "configuration"]
        assert subprocess.run(words, cwd=made.root, check=False, timeout=60).returncode == Exit.OK
        made.config.chmod(0o600)
        _, found = doctor(made, "configuration", "permissions")
        assert "Permission denied" in found["configuration"][0].en, "root could read it; the service can't"
    finally:
        shutil.rmtree(folder)


@pytest.mark.root
def test_a_stranger_is_told_what_was_not_looked_at() -> None:
    folder = Path(tempfile.mkdtemp(prefix="doctor-"))
    try:
        folder.chmod(0o755)
        made = stage(folder)
        assert call(made, "pull", str(image(folder / "card.img", dict(FILES)))).returncode == 0
        done = subprocess.run(
            made.command("doctor", "--json", "--only", "permissions", "journal", "disks"),
            user="nobody", group="nogroup", extra_groups=[], capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        found = json.loads(done.stdout)["findings"]
        assert done.returncode == Exit.DOUBT, done.stdout
        unseen = {one["topic"] for one in found if one["grade"] == "unknown"}
        assert unseen == {"permissions", "journal", "disks"}
    finally:
        shutil.rmtree(folder)


# Nothing takes for ever, and nothing unseen is good.


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def looked(look: Callable[[Case], Any], limit_s: float = 5.0) -> list[Finding]:
    topic = Topic("made", "检查", look, limit_s)
    told = list(examine([topic, Topic("after", "其后", lambda _: [GOOD], 5.0)], cast("Case", None)))
    assert told[1][1] == (GOOD,), "the next topic is looked at all the same"
    return list(told[0][1])


GOOD = Finding(Grade.GOOD, "好", "good")


def test_what_hangs_is_left_behind_and_told(release: threading.Event) -> None:
    def look(_: Case) -> Iterator[Finding]:
        yield GOOD
        release.wait()

    found = looked(look, 0.2)
    assert [one.grade for one in found] == [Grade.GOOD, Grade.UNKNOWN]
    assert found[1].en == "no answer within 0.2 s"


def test_what_the_system_refuses_is_unknown() -> None:
    def look(_: Case) -> Iterator[Finding]:
        yield GOOD
        raise PermissionError(13, "Permission denied", "/var/lib/x")

    assert [one.grade for one in looked(look)] == [Grade.GOOD, Grade.UNKNOWN]


def test_a_mistake_of_the_doctor_is_told_in_words_and_a_topic_without_a_word_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def look(_: Case) -> Iterator[Finding]:
        yield GOOD
        raise KeyError("张三")

    monkeypatch.setattr(threading, "excepthook", report_bug)
    good, told = looked(look)
    assert (good, told.grade) == (GOOD, Grade.UNKNOWN)
    assert re.fullmatch(r"a mistake of the examination itself: KeyError, test_doctor\.py \d+", told.en)
    assert [one.grade for one in looked(lambda _: [])] == [Grade.UNKNOWN]
    assert capfd.readouterr() == ("", "")


# udev.


def test_the_rules_in_force_are_the_packages_own(tmp_path: Path) -> None:
    system, local = tmp_path / "usr", tmp_path / "etc"
    for folder in (system, local):
        folder.mkdir()
    (local / "98-capture-agent.rules").touch()
    assert rules_in_force([system], [local]).grade is Grade.BAD, "only what the station adds is there"
    (system / "62-capture-agent.rules").touch()
    assert rules_in_force([system], [local]).grade is Grade.GOOD
    (local / "62-capture-agent.rules").symlink_to("/dev/null")
    assert rules_in_force([system], [local]).grade is Grade.WARNING, "it hides what the package brings"


def test_slots_of_another_pc_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "0000:00:14.0").mkdir()
    here, elsewhere = "pci-0000:00:14.0-usb-0:1.1", "pci-0000:03:00.0-usb-0:2"
    assert slots_named({}, tmp_path).grade is Grade.GOOD
    assert slots_named({here: "1"}, tmp_path).en == "slots 1"
    found = slots_named({here: "1", elsewhere: "左2"}, tmp_path)
    assert (found.grade, "slots 左2 are on controllers" in found.en) == (Grade.BAD, True)


@pytest.mark.parametrize(
    ("mark", "mode", "read_only", "grade"),
    [
        ("dock", 0o440, "1", Grade.GOOD),
        ("dock", 0o660, "1", Grade.BAD),
        ("dock", 0o444, "1", Grade.BAD),
        ("dock", 0o440, "0", Grade.BAD),
        ("own", 0o660, "0", Grade.GOOD),
        ("", 0o660, "0", Grade.WARNING),
        ("other", 0o660, "0", Grade.GOOD),
    ],
)
def test_a_recorder_that_is_not_protected_is_seen(
    tmp_path: Path, mark: str, mode: int, read_only: str, grade: Grade
) -> None:
    node = tmp_path / "sdx"
    node.touch()
    node.chmod(mode)
    (tmp_path / "ro").write_text(f"{read_only}\n")
    properties = {"CAPTURE_AGENT_PORT" if mark == "other" else "CAPTURE_AGENT": mark}
    disk = SimpleNamespace(device_node=str(node), properties=properties, sys_path=str(tmp_path))
    assert _disk(cast("Any", disk)).grade is grade


# systemd.

RUNS = {
    "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled",
    "Result": "success", "ExecMainStatus": "0", "NRestarts": "0", "WatchdogUSec": "30s", "NeedDaemonReload": "no",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "grade", "told"),
    [
        ({}, Grade.GOOD, "it runs"),
        ({"LoadState": "not-found"}, Grade.BAD, "can't be loaded"),
        ({"UnitFileState": "disabled"}, Grade.BAD, "not started with the station"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "3"}, Grade.BAD, "configuration is wrong"),
        ({"ActiveState": "failed", "Result": "watchdog", "ExecMainStatus": "6"}, Grade.BAD, "failed, watchdog, exit 6"),
        ({"ActiveState": "inactive"}, Grade.BAD, "does not run: inactive"),
        ({"NRestarts": "3"}, Grade.WARNING, "started again 3 times"),
        ({"WatchdogUSec": "infinity"}, Grade.WARNING, "watchdog is switched off"),
        ({"NeedDaemonReload": "yes"}, Grade.WARNING, "newer than the one in force"),
    ],
)
def test_what_systemd_says_of_the_service(changes: dict[str, str], grade: Grade, told: str) -> None:
    found = list(judged(RUNS | changes))
    assert (grade, told) in [(one.grade, told) for one in found if told in one.en]
    if changes:
        assert grades(found) - {Grade.GOOD} == {grade}


# Disks.


@pytest.mark.parametrize(
    ("kind", "options", "grade"),
    [
        ("ext4", "rw,relatime", Grade.GOOD),
        ("ext4", "ro,relatime", Grade.BAD),
        ("ext4", "rw,nobarrier", Grade.BAD),
        ("tmpfs", "rw", Grade.BAD),
        ("nfs4", "rw,hard", Grade.BAD),
    ],
)
def test_what_a_filesystem_means_for_evidence(kind: str, options: str, grade: Grade) -> None:
    mount = Mount(kind, "/dev/sda2", frozenset(options.split(",")))
    assert grades(list(judged_mount(Path("/x"), mount, is_own=True))) == {grade}
    if kind == "nfs4":
        assert grades(list(judged_mount(Path("/x"), mount, is_own=False))) == {Grade.GOOD}, "a store may be a share"


WORSE = [Grade.GOOD, Grade.WARNING, Grade.BAD]


def space(free: int, blocks: int = 1000, files: int = 0, free_files: int = 0) -> os.statvfs_result:
    return os.statvfs_result((1, 1, blocks, free, free, files, free_files, free_files, 0, 255))


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 2000))
def test_less_room_is_never_better(more: int, less: int, reserve: int) -> None:
    more, less = max(more, less), min(more, less)
    found = [next(judged_room(Path("/x"), space(free), reserve)).grade for free in (more, less)]
    assert WORSE.index(found[0]) <= WORSE.index(found[1])
    assert (found[1] is Grade.BAD) == (less <= reserve)


def test_few_inodes_are_noticed() -> None:
    found = list(judged_room(Path("/x"), space(900, files=1000, free_files=49), 0))
    assert [one.grade for one in found] == [Grade.GOOD, Grade.WARNING]
    assert len(list(judged_room(Path("/x"), space(900, files=0), 0))) == 1, "btrfs counts none"


ATA = {"smart_status": {"passed": True}, "ata_smart_attributes": {"table": [{"id": 5, "raw": {"value": 0}}]}}
PENDING = ATA | {"ata_smart_attributes": {"table": [{"id": 197, "raw": {"value": 8}}]}}
NVME = {
    "smart_status": {"passed": True},
    "nvme_smart_health_information_log": {"media_errors": 0, "percentage_used": 97},
}


@pytest.mark.parametrize(
    ("code", "shown", "grade"),
    [
        (0, ATA, Grade.GOOD),
        (64, ATA, Grade.GOOD),
        (32, ATA, Grade.WARNING),
        (0, PENDING, Grade.WARNING),
        (0, NVME, Grade.WARNING),
        (8, ATA | {"smart_status": {"passed": False}}, Grade.BAD),
        (2, {"smartctl": {"messages": []}}, Grade.UNKNOWN),
        (1, None, Grade.UNKNOWN),
    ],
)
def test_what_a_disk_says_of_itself(code: int, shown: object, grade: Grade) -> None:
    assert [one.grade for one in judged_smart("sda", code, shown)] == [grade]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(sorted({*ATA, *NVME, "table"})), inner),
)


@given(st.integers(0, 255), JSON)
def test_whatever_smartctl_prints_is_one_finding_and_good_only_by_its_own_word(code: int, shown: object) -> None:
    (found,) = judged_smart("sda", code, shown)
    passed = isinstance(shown, dict) and shown.get("smart_status") == {"passed": True}
    assert found.grade is not Grade.GOOD or passed


def test_the_disks_beneath_partitions_and_mappings_are_found(tmp_path: Path) -> None:
    """As sysfs has them: a partition below its disk, a mapping with links to what it lies on."""
    for name in ("sda/sda1", "sdb/sdb1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "partition").write_text("1\n")
    (tmp_path / "dm-0" / "slaves").mkdir(parents=True)
    for name in ("sda/sda1", "sdb/sdb1"):
        (tmp_path / "dm-0" / "slaves" / name.partition("/")[2]).symlink_to(tmp_path / name)
    (tmp_path / "253:0").symlink_to(tmp_path / "dm-0")
    assert physical(tmp_path / "253:0") == ["sda", "sdb"]
    assert physical(tmp_path / "sda") == ["sda"]
    assert physical(tmp_path / "0:41") == []
