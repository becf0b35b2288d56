"""The station's own disk in a real machine, below systemd's service: it fails, hangs, has a quota; the log hangs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from simulator.content import Content, Noise
from tests.cards import MIB, image, sha256
from tests.machine.machine import Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(1500)]

ROOT = "/var/lib/capture-agent"
RATE_BPS = 1_000_000
REFUSES = "本机磁盘无法写入"
ASK = "curl -s --max-time 20 --unix-socket /var/lib/capture-agent/screens.sock http://localhost/api/v1/status"
NO_ANSWER = f"{ASK} | grep 'no answer'"
"""Either the alarm, or, where the journal has to be read from that disk, why there is no status."""

LONGER_THAN_THE_WATCHDOG_S = 45
EARLIER: dict[str, Content] = {"DCIM/0001.MP4": Noise(MIB, 1)}
FILES: dict[str, Content] = {"DCIM/0002.MP4": Noise(6 * MIB, 2), "DCIM/0003.MP4": Noise(MIB + 17, 3)}


def problems(status: Mapping[str, Any]) -> str:
    return " ".join(problem["zh"] for problem in status["health"]["problems"])


def put_on(machine: Machine, options: str = "defaults") -> None:
    """The station's disk behind the device mapper, which can make it fail."""
    machine.run(f"""
        systemctl stop capture-agent
        disk=$(findmnt -no SOURCE {ROOT})
        umount {ROOT}
        dmsetup create own --table "0 $(blockdev --getsz $disk) linear $disk 0"
        e2fsck -fp /dev/mapper/own
        [[ {options} != *quota ]] || tune2fs -O quota /dev/mapper/own
        mount -o {options} /dev/mapper/own {ROOT}
        systemctl start capture-agent
    """, 180)  # fmt: skip


def table(machine: Machine, target: str) -> None:
    """What the device mapper does from now on; `$disk` is what it has below, of which `$size` is the end."""
    machine.run(f"""
        read -r _ size _ disk _ < <(dmsetup table own)
        [[ $disk == */* || $disk == *:* ]] || disk=$(cat /run/own-disk)
        echo "$disk" >/run/own-disk
        dmsetup load own --table "0 $size {target}"
        dmsetup suspend --nolockfs --noflush own
        dmsetup resume own
    """)


def dock(machine: Machine, folder: Path, name: str, files: dict[str, Content], port: str, rate_bps: int = 0) -> Path:
    path = image(folder / name, dict(files))
    machine.usb.disk(path, f"REC-{name}", port=port, rate_bps=rate_bps)
    return path


def assert_all_is_stored(machine: Machine, *cards: Mapping[str, Content]) -> None:
    machine.until("runuser -u capture-agent -- capture-agent unstored", 240)
    machine.until("runuser -u capture-agent -- capture-agent verify", 240)
    machine.run("systemctl stop capture-agent; umount /var/lib/capture-agent; ! dmsetup info own || dmsetup remove own")
    machine.power_off()
    made = sorted(hashlib.sha256(clip.read()).hexdigest() for card in cards for clip in card.values())
    assert sorted(machine.stored().values()) == sorted(machine.vaulted().values()) == made


def restarts(machine: Machine) -> int:
    return int(machine.run("systemctl show -P NRestarts capture-agent"))


def test_a_disk_that_fails_at_each_write_is_told_and_after_fsck_all_goes_on(machine: Machine, tmp_path: Path) -> None:
    """dm-flakey gives EIO for writes: ext4 gives up its journal, and a person repairs it as operations.md says."""
    put_on(machine)
    dock(machine, tmp_path, "earlier", EARLIER, "1")
    machine.until_phase("finished", slot="usb-0:1:")
    path = dock(machine, tmp_path, "card", FILES, "2", RATE_BPS)
    before = sha256(path)
    machine.until_status(lambda status: any(slot["phase"]["name"] == "reading" for slot in status["slots"]))
    table(machine, "flakey $disk 0 0 3600 1 error_writes")
    machine.until_status(lambda status: REFUSES in problems(status))
    assert not machine.until_phase("failed", slot="usb-0:2:")["may_remove"]
    machine.until("journalctl -b -q -u capture-agent | grep -q 'disk refuses'")
    assert restarts(machine) == 0
    machine.run("systemctl stop capture-agent")
    assert machine.run("systemctl show -P Result capture-agent").strip() == "success", (
        "also where nothing can be written"
    )
    table(machine, "linear $disk 0")
    machine.run(f"umount {ROOT}; e2fsck -p /dev/mapper/own; (( $? <= 1 )); mount /dev/mapper/own {ROOT}")
    machine.run("systemctl start capture-agent", 180)
    machine.until_phase("finished", slot="usb-0:2:", limit_s=300)
    assert_all_is_stored(machine, EARLIER, FILES)
    assert sha256(path) == before


def test_a_disk_that_hangs_longer_than_the_watchdog_costs_no_restart(machine: Machine, tmp_path: Path) -> None:
    put_on(machine)
    dock(machine, tmp_path, "card", FILES, "1", RATE_BPS)
    machine.until_status(lambda status: any(slot["phase"]["name"] == "reading" for slot in status["slots"]))
    machine.run("dmsetup suspend --nolockfs --noflush own")
    machine.until(NO_ANSWER)
    machine.run(f"sleep {LONGER_THAN_THE_WATCHDOG_S}", 120)
    machine.until(NO_ANSWER)
    machine.run("dmsetup resume own")
    machine.until_phase("finished", slot="usb-0:1:", limit_s=300)
    machine.until_status(lambda status: REFUSES not in problems(status))
    assert restarts(machine) == 0
    assert_all_is_stored(machine, FILES)


def test_a_quota_of_the_kernel_is_told_on_the_slot_and_pulling_goes_on_when_it_is_raised(
    machine: Machine, tmp_path: Path
) -> None:
    """EDQUOT with gigabytes free: root could write, the service's user can't."""
    put_on(machine, "usrquota")
    used = int(machine.run(f"du -sk {ROOT} | cut -f1"))
    machine.run(f"quotaon {ROOT} || true; setquota -u capture-agent 0 {used + 2048} 0 0 {ROOT}; repquota {ROOT}")
    path = dock(machine, tmp_path, "card", FILES, "1")
    before = sha256(path)
    shown = machine.until_status(
        lambda status: [one for one in status["slots"] if one["phase"]["name"] in {"no_space", "failed"}]
    )
    assert not any(slot["may_remove"] for slot in shown["slots"])
    assert shown["storage"]["free_bytes"] > 100 * MIB
    machine.run(f"setquota -u capture-agent 0 0 0 0 {ROOT}")
    machine.until_phase("finished", slot="usb-0:1:", limit_s=240)
    assert restarts(machine) == 0
    assert_all_is_stored(machine, FILES)
    assert sha256(path) == before


def test_a_journald_that_hangs_holds_nothing_up(machine: Machine, tmp_path: Path) -> None:
    machine.run("systemctl kill -s STOP systemd-journald")
    dock(machine, tmp_path, "card", FILES, "1")
    machine.until_phase("finished", slot="usb-0:1:", limit_s=300)
    machine.until_status(lambda status: status["counters"]["assets"]["stored"]["files"] == len(FILES))
    machine.run(f"sleep {LONGER_THAN_THE_WATCHDOG_S}; systemctl kill -s CONT systemd-journald", 120)
    assert restarts(machine) == 0
    assert_all_is_stored(machine, FILES)
