"""The operations guide, followed: every block of docs/operations.md is typed, in its order, into a Debian 12."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent import __version__
from agent.verbs.base import Exit
from simulator.content import Noise
from tests.cards import MIB, image
from tests.debs import older
from tests.guide import blocks
from tests.machine import drives
from tests.machine.drives import Drive
from tests.machine.image import base, installed
from tests.machine.machine import Machine, computer

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

FIRST = {"DCIM/0001.MP4": Noise(2 * MIB, 1), "DCIM/0002.WAV": Noise(MIB + 17, 2)}
SECOND = {"DCIM/0003.MP4": Noise(MIB + 4099, 3)}
JOURNAL = "/var/lib/capture-agent/journal.db"
VAULT = "find /var/lib/capture-agent/vault -type f -printf '%i %T@ %p\n'"
LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who types what the guide says, and nothing else."""

    machine: Machine
    page: dict[str, str]

    def follow(self, block: str, limit_s: float = LIMIT_S) -> str:
        """Type a block; each of its commands must succeed. What the terminal shows."""
        told = self.machine.run(f"set -euo pipefail; cd /root\n{self.page[block]}", limit_s)
        logging.getLogger(__name__).info("%s\n%s", block, told)
        return told

    def finds(self, *topics: str) -> int:
        """Exit code of the doctor."""
        return self.machine.call(f"capture-agent doctor --only {' '.join(topics)}", LIMIT_S).returncode


def sums(*cards: dict[str, Noise]) -> list[str]:
    return sorted(hashlib.sha256(clip.read()).hexdigest() for clips in cards for clip in clips.values())


def bad(told: str) -> list[str]:
    """What the doctor calls bad in what a terminal shows."""
    return [line for line in told.splitlines() if line.startswith("故障 BAD    ")]


def docked(status: dict[str, Any]) -> int:
    """Recorders that may be taken away."""
    return sum(slot["may_remove"] for slot in status["slots"])


def stored(status: dict[str, Any]) -> int:
    found: int = status["counters"]["assets"]["stored"]["files"]
    return found


def events(machine: Machine, kind: str) -> int:
    """How many events of this kind the journal has."""
    return int(machine.run(f"""sqlite3 -readonly {JOURNAL} "SELECT count(*) FROM event WHERE kind = '{kind}'" """))


def damage(machine: Machine, sql: str) -> None:
    """Change the journal behind the agent's back."""
    machine.run(f'systemctl stop capture-agent; runuser -u capture-agent -- sqlite3 {JOURNAL} "{sql}"')


def test_the_guide_is_followed_from_the_empty_pc_to_the_removal(
    machine_package: Path, tmp_path: Path, is_long: bool
) -> None:
    """In the short variant the package is on the disk when the machine boots: then two blocks find nothing to do."""
    packages = [older(machine_package, tmp_path, "0.0.9") if is_long else machine_package, machine_package]
    new = drives.ext4(tmp_path / "new.img", "new", 8192)
    with computer(base() if is_long else installed(machine_package), tmp_path, more=[Drive(new, "new")]) as machine:
        for disk, name, size_mib in ((machine.station, "station", 8192), (machine.evidence, "evidence", 4096)):
            disk.unlink()
            drives.ext4(disk, name, size_mib)
        machine.power_on()
        reader = Reader(machine, blocks())
        _bring(machine, packages[0], "0.0.9" if is_long else __version__)
        _set_up(reader)
        _first_day(reader, image(tmp_path / "first", FIRST))
        _restore(reader, image(tmp_path / "second", SECOND, "exfat"))
        _replace(reader)
        _bring(machine, packages[1], __version__)
        _upgrade_and_remove(reader)
        machine.power_off()
        assert set(sums(FIRST, SECOND)) <= set(machine.stored().values()), "beside what was made of them"
    kept = drives.originals(new, "vault", tmp_path)
    assert set(sums(FIRST, SECOND)) <= set(kept.values())


def _bring(machine: Machine, package: Path, version: str) -> None:
    shutil.copy(package, machine.share / "package.deb")
    name = f"capture-agent_{version}_amd64.deb"
    machine.run(f"rm -f /root/*.deb; cp {machine.mount_share()}/package.deb /root/{name}", LIMIT_S)


def _set_up(reader: Reader) -> None:
    reader.follow("mount")
    reader.follow("install", 1800)
    told = reader.follow("start")
    assert "/etc/capture-agent/agent.toml: correct" in told
    assert bad(told) == []


def _first_day(reader: Reader, card: Path) -> None:
    machine = reader.machine
    machine.usb.disk(card, "REC-1")
    machine.until_status(lambda status: docked(status) == 1, LIMIT_S)
    assert "0 files (0 bytes)" in reader.follow("first-docking")
    reader.follow("configure")
    machine.until_status(lambda status: status["station"]["contact"] == "信息科 8001")
    reader.follow("notice")
    assert '"status": ' in reader.follow("monitor")
    assert "all as recorded" in reader.follow("verify-timer")
    assert re.fullmatch(r"2\S+ \d+ [0-9a-f]{64}\n", reader.follow("head"))
    reader.follow("back-up")


def _restore(reader: Reader, card: Path) -> None:
    """Tables are damaged, then the log; the backup is older than what was pulled last."""
    machine = reader.machine
    plugged = machine.usb.disk(card, "REC-2")
    machine.until_status(lambda status: docked(status) == 2, LIMIT_S)
    machine.until_status(lambda status: stored(status) == len(FIRST | SECOND), LIMIT_S)
    vault = set(machine.run(VAULT).splitlines())
    damage(machine, "UPDATE asset SET size_bytes = 1;")
    assert reader.finds("journal") == Exit.BAD
    reader.follow("rebuild")
    damage(machine, "DROP TRIGGER event_is_never_changed; UPDATE event SET at = '2020' WHERE seq = 2;")
    refused = machine.call(f"set -euo pipefail; {reader.page['rebuild']}", LIMIT_S)
    assert (refused.returncode, "Nothing was changed" in refused.output) == (Exit.JOURNAL, True), refused.output
    machine.usb.yank(plugged)
    assert bad(reader.follow("restore")) == []
    machine.until_status(lambda status: stored(status) >= len(FIRST | SECOND), LIMIT_S)
    adopted, matched = events(machine, "adopted"), events(machine, "matched")
    assert adopted >= len(SECOND), "the backup is older than what the vault has"
    machine.usb.disk(card, "REC-2")
    machine.until_status(lambda status: docked(status) == 2, LIMIT_S)
    assert events(machine, "matched") == matched + len(SECOND)
    machine.until_status(lambda status: "the centre refuses checkpoint" in str(status["health"]["problems"]), LIMIT_S)
    assert vault <= set(machine.run(VAULT).splitlines()), "no file was written anew"


def _replace(reader: Reader) -> None:
    machine = reader.machine
    machine.run("umount /mnt; mkdir -p /mnt/new; mount /dev/disk/by-label/new /mnt/new")
    assert "all as recorded" in reader.follow("replace-disk")
    assert machine.run("lsblk -no LABEL $(findmnt -no SOURCE /var/lib/capture-agent)") == "station\n"
    assert reader.finds("permissions", "seals", "journal") == Exit.OK
    reader.follow("drain")


def _upgrade_and_remove(reader: Reader) -> None:
    machine = reader.machine
    assert bad(reader.follow("upgrade", 1800)) == []
    assert machine.run("dpkg-query -W -f='${Version}' capture-agent") == __version__
    assert "Time zone" in reader.follow("time")
    reader.follow("remove")
