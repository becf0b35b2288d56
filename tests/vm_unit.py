"""The units in a real machine under systemd: what is held, told, tried again, handed over, and what is forbidden."""

from __future__ import annotations

import json
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from simulator.content import Noise
from tests.cards import MIB, image
from tests.machine.machine import Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]

log = logging.getLogger("machine")

SLOW_S = 300.0
"""The whole program, on an emulated processor that others use too."""

HEALTH = "curl -s --max-time {} http://127.0.0.1:8470/healthz"
KEY = "/etc/credstore/capture-agent.signing-key"


def shown(machine: Machine, unit: str, name: str) -> str:
    return machine.run(f"systemctl show --value -p {name} {unit}").strip()


def entries(machine: Machine, *matches: str) -> list[dict[str, Any]]:
    """Entries of journald with these fields."""
    text = machine.run(f"journalctl -b -q --no-pager -o json -t capture-agent {' '.join(matches)}")
    return [json.loads(line) for line in text.splitlines()]


def test_the_service_is_narrow_and_says_truly_what_it_does(machine: Machine, tmp_path: Path) -> None:
    told = machine.run("systemd-analyze security --no-pager capture-agent")
    exposure = re.search(r"exposure level for capture-agent.service: ([\d.]+)", told)
    assert exposure
    assert float(exposure[1]) <= 1.5, told
    assert "nothing to do" in shown(machine, "capture-agent", "StatusText")

    card = image(tmp_path / "card.img", {"DCIM/0001.MP4": Noise(24 * MIB, 1), "DCIM/0002.MP4": Noise(MIB, 2)})
    plugged = machine.usb.disk(card, "REC-1")
    machine.until_phase("finished")
    machine.until("runuser -u capture-agent -- capture-agent unstored", SLOW_S)
    machine.until("systemctl show -p StatusText capture-agent | grep '1 may be taken'")

    followed(machine)
    the_service_writes_in_few_places_and_nothing_there_is_executed(machine)
    machine.usb.yank(plugged)
    machine.until("systemctl show -p StatusText capture-agent | grep -v 'may be taken'")
    limits = "/sys/fs/cgroup/system.slice/capture-agent.service"
    high, peak = map(int, machine.run(f"cat {limits}/memory.high {limits}/memory.peak").split())
    log.info("memory with its cache: at most %.0f MiB; reclaimed from %.0f MiB on", peak / MIB, high / MIB)
    assert peak <= 1.1 * high
    assert shown(machine, "capture-agent", "NRestarts") == "0"


def followed(machine: Machine) -> None:
    """From card to store by fields; and the key of the first start."""
    opened = entries(machine, "CAPTURE_AGENT_EVENT=docking_opened")
    assert len(opened) == 1
    docking = opened[0]["CAPTURE_AGENT_DOCKING"]
    seen = entries(machine, "CAPTURE_AGENT_EVENT=clip_seen", f"CAPTURE_AGENT_DOCKING={docking}")
    stored = entries(machine, "CAPTURE_AGENT_EVENT=confirmed")
    assert len(seen) == len(stored) == 2
    assert all(entry["CAPTURE_AGENT_RECORDING"] for entry in seen)
    assert {entry["CAPTURE_AGENT_ASSET"] for entry in seen} == {entry["CAPTURE_AGENT_ASSET"] for entry in stored}
    assert entries(machine, "CAPTURE_AGENT_INCIDENT=signing-key")
    assert machine.run("stat -c '%a %U' /var/lib/capture-agent/signing.key") == "600 capture-agent\n"
    fingerprint = machine.status()["station"]["key_fingerprint"]
    assert fingerprint in machine.run("runuser -u capture-agent -- capture-agent key show", SLOW_S)
    der = "openssl pkey -in /var/lib/capture-agent/signing.key -pubout -outform DER | sha256sum"
    assert fingerprint in machine.run(der)


def the_service_writes_in_few_places_and_nothing_there_is_executed(machine: Machine) -> None:
    """Asked by root in what the service sees of the system."""
    inside = "nsenter -t $(systemctl show --value -p MainPID capture-agent) -m /bin/sh -c"
    for folder in ("/var/lib/capture-agent", "/srv/evidence", "/tmp", "/var/tmp"):
        script = f"cp /bin/true {folder}/tool && {folder}/tool; found=$?; rm {folder}/tool; exit $found"
        done = machine.call(f"{inside} {shlex.quote(script)}")
        assert done.returncode == 126, f"{folder}: {done.output}"
    for folder in ("/usr", "/usr/lib/capture-agent", "/etc", "/etc/capture-agent", "/var", "/opt"):
        assert "Read-only file system" in machine.call(f"{inside} 'touch {folder}/trace'").output, folder


def test_the_port_is_held_between_starts_and_wakes_nobody(machine: Machine) -> None:
    page = shown(machine, "capture-agent", "MainPID")
    machine.run("kill -9 " + page)
    machine.until("[ $(systemctl show --value -p SubState capture-agent) = auto-restart ]")
    assert shown(machine, "capture-agent.socket", "ActiveState") == "active"
    assert "status" in machine.run(HEALTH.format(60)), "who asks between two starts waits, and is answered"
    assert shown(machine, "capture-agent", "NRestarts") == "1"

    machine.run("systemctl stop capture-agent")
    machine.until("[ $(systemctl is-active capture-agent.socket) = inactive ]")
    assert machine.call(HEALTH.format(5)).returncode == 7, "refused"
    assert shown(machine, "capture-agent", "ActiveState") == "inactive"

    machine.run("systemctl start capture-agent")
    assert "status" in machine.run(HEALTH.format(60))
    assert shown(machine, "capture-agent.socket", "ActiveState") == "active"


HOOK = """#!/bin/sh
[ $(id -u) = 0 ] && root=yes
echo "hook: $MONITOR_UNIT $MONITOR_SERVICE_RESULT $MONITOR_EXIT_STATUS, root: $root, $(ls /var/lib/capture-agent 2>&1)"
"""


FAILED = (
    "The service has failed (exit-code 3): nothing was removed, but recorders are not read and keep their footage. "
    "See journalctl -u capture-agent"
)


def test_a_wrong_configuration_is_told_and_a_person_s_stop_ends_the_trying(machine: Machine) -> None:
    machine.guest.write("/etc/capture-agent/failure.d/lamp", HOOK)
    machine.run("chmod 755 /etc/capture-agent/failure.d/lamp")
    machine.run(
        "cp -p /etc/capture-agent/agent.toml /root/agent.toml; echo '[nonsense]' >>/etc/capture-agent/agent.toml"
    )
    assert machine.call("systemctl restart capture-agent").returncode != 0
    machine.until("journalctl -b -q -t capture-agent | grep 'hook: '")
    told = entries(machine, "PRIORITY=2")
    assert told[-1]["MESSAGE"] == FAILED
    hook = machine.run("journalctl -b -q -t capture-agent | grep 'hook: '")
    assert "capture-agent.service exit-code 3" in hook
    assert "root: ," in hook
    assert "Permission denied" in hook
    assert shown(machine, "capture-agent", "ActiveState") == "failed"
    assert shown(machine, "capture-agent.socket", "ActiveState") == "inactive"
    assert shown(machine, "capture-agent-again.timer", "ActiveState") == "active"
    machine.run("systemctl stop capture-agent")
    machine.until("[ $(systemctl is-active capture-agent-again.timer) = inactive ]")


def test_a_service_that_fails_is_tried_again_time_after_time(machine: Machine) -> None:
    """The times of the units are shortened, all alike; the program fails until it is mended, twice."""
    drop_ins = {
        "capture-agent.service": "[Unit]\nStartLimitIntervalSec=50\nStartLimitBurst=3\n[Service]\nRestartSec=1\n"
        "ExecStartPre=/usr/bin/test -e /run/mended\n",
        "capture-agent-again.timer": "[Timer]\nOnUnitInactiveSec=\nOnUnitInactiveSec=55\nAccuracySec=1s\n",
    }
    machine.run("systemctl stop capture-agent")
    for unit, text in drop_ins.items():
        machine.guest.write(f"/etc/systemd/system/{unit}.d/short.conf", text)
    machine.run("systemctl daemon-reload; systemctl start --no-block capture-agent")
    for _ in range(2):
        machine.until("[ $(systemctl is-active capture-agent) = failed ]", SLOW_S)
        assert shown(machine, "capture-agent-again.timer", "ActiveState") == "active"
        machine.run("touch /run/mended")
        machine.until("systemctl is-active capture-agent", SLOW_S)
        assert "status" in machine.run(HEALTH.format(60))
        machine.run("rm /run/mended; kill -9 $(systemctl show --value -p MainPID capture-agent)")
    assert len(entries(machine, "PRIORITY=2")) >= 2


def test_secrets_are_handed_over_by_systemd(machine: Machine) -> None:
    own = machine.status()["station"]["key_fingerprint"]
    private = "/usr/lib/capture-agent/bin/python3 -I -c " + json.dumps(
        "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as K;"
        "from cryptography.hazmat.primitives.serialization import *;"
        "print(K.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), end='')"
    )
    machine.run(f"install -d -m 700 /etc/credstore; umask 077; {private} >{KEY}")
    machine.run("systemctl restart capture-agent", SLOW_S)
    given = machine.until_status(lambda status: status["station"]["key_fingerprint"] != own)["station"]
    assert given["key_fingerprint"] in machine.run("runuser -u capture-agent -- capture-agent key show", SLOW_S)
    folder = "/run/credentials/capture-agent.service"
    assert machine.call(f"runuser -u nobody -- ls {folder}").returncode != 0, "nobody else sees it"

    # Encrypted with the key of this machine, in place of the plain file.
    machine.run(
        f"install -d -m 700 /etc/credstore.encrypted; systemd-creds encrypt --with-key=host "
        f"--name=capture-agent.signing-key {KEY} /etc/credstore.encrypted/capture-agent.signing-key; rm {KEY}"
    )
    drop_in = "[Service]\nLoadCredentialEncrypted=capture-agent.signing-key\n"
    machine.guest.write("/etc/systemd/system/capture-agent.service.d/key.conf", drop_in)
    machine.run("systemctl daemon-reload; systemctl restart capture-agent", SLOW_S)
    shown_now = machine.until_status(lambda status: status["station"])["station"]
    assert shown_now["key_fingerprint"] == given["key_fingerprint"]
    machine.run("rm -r /etc/systemd/system/capture-agent.service.d /etc/credstore.encrypted")
    machine.run("systemctl daemon-reload; systemctl restart capture-agent", SLOW_S)
    machine.until_status(lambda status: status["station"]["key_fingerprint"] == own)
