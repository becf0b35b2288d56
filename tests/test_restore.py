"""Promise: after an older journal came back nothing is lost or written twice, and it shows."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from simulator.content import Noise
from simulator.stage import Stage
from tests.cards import image
from tests.daemons import Daemon, call, running, stage

pytestmark = pytest.mark.root

FIRST = {"DCIM/0001.MP4": Noise(60_001, 1)}
SECOND = {"DCIM/0002.MP4": Noise(60_002, 2)}


def kinds(made: Stage) -> Counter[str]:
    """How many events of each kind the journal has."""
    with closing(sqlite3.connect(made.station / "journal.db")) as db:
        return Counter(kind for (kind,) in db.execute("SELECT kind FROM event"))


def vault(made: Stage) -> set[tuple[Path, int, int]]:
    """Path, inode and time of each file that is held."""
    found = [(path, path.stat()) for path in made.vault.rglob("*") if path.is_file()]
    return {(path, seen.st_ino, seen.st_mtime_ns) for path, seen in found}


def manifests(made: Stage) -> int:
    """How many there are in the vault."""
    return sum(b"capture-agent/manifest@" in path.read_bytes() for path, _, _ in vault(made))


def docked(daemon: Daemon, folder: Path, clips: dict[str, Noise]) -> None:
    """Dock a recorder, wait until it may be taken and all that is held is stored, and take it."""
    slot = daemon.dock(image(folder / f"{min(clips).rpartition('/')[2]}.img", clips))
    daemon.until(lambda: daemon.slot(slot).get("may_remove"))
    daemon.until(lambda: call(daemon.stage, "unstored").returncode == 0)
    (daemon.stage.dock / slot).unlink()
    daemon.until(lambda: not daemon.slot(slot))


def test_what_came_after_a_backup_is_entered_again_and_known_again_once_it_is_docked(tmp_path: Path) -> None:
    made = stage(tmp_path, {"manifest.quiet_s": "0"})
    with running(made) as daemon:
        docked(daemon, tmp_path, FIRST)
        daemon.until(lambda: manifests(made))
    known = vault(made)
    shutil.copy(made.station / "journal.db", tmp_path / "backup.db")
    made_before = manifests(made)
    with running(made) as daemon:
        docked(daemon, tmp_path, SECOND)
        daemon.until(lambda: manifests(made) > made_before)
        daemon.until(lambda: kinds(made)["checkpoint_stored"] == kinds(made)["checkpoint_signed"])
    held = vault(made)
    for path in made.station.glob("journal.db*"):
        path.unlink()
    os.rename(tmp_path / "backup.db", made.station / "journal.db")

    with running(made) as daemon:
        daemon.until(lambda: kinds(made)["adopted"] == len(held - known) > 1)
        before = kinds(made)
        docked(daemon, tmp_path, SECOND)
        after = kinds(made)
        assert after["matched"] == before["matched"] + len(SECOND)
        daemon.until(lambda: "the centre refuses checkpoint" in str(daemon.status()["health"]["problems"]))
        assert held <= vault(made), "no file was written anew"
    told = call(made, "verify")
    assert (told.returncode, told.stdout.count("PROBLEM")) == (1, 1), told.stdout
    assert "refused by the store, which has another" in told.stdout
    assert call(made, "verify", "--local").returncode == 0
