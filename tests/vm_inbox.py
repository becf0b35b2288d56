"""Inboxes of the packaged service, in its own sandbox: a folder of the disk, an NFS mount and an SMB mount.

Servers and clients are the machine's own: Linux's nfsd and Samba, Linux's NFS and CIFS. Whoever uploads has mounts of
his own, by which the inbox's mounts hear nothing of him.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any, Final

import pytest

from simulator.content import Noise
from tests.machine.machine import Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

log = logging.getLogger("machine")

SLOW_S = 400.0
"""For all of it, on an emulated processor that others use too."""

AGENT = "runuser -u capture-agent -- capture-agent"
PLACES = ("local", "nfs", "smb")
PIECES: Final = 8
PAUSE_S, REST_S = 4, 50
SETTLE_S, UNSURE_S = 2, 20
"""A share's writer pauses for less than `unsure_s`, the one of the disk for more: there it is known that he writes."""

INBOXES = "\n".join(
    f'[[inbox]]\nname = "{place}"\nfolder = "/srv/inbox/{place}"\n'
    f"settle_s = {SETTLE_S}\nunsure_s = {UNSURE_S}\nrescan_s = 3\n"
    for place in PLACES
)
DROP_IN = "[Service]\nCapabilityBoundingSet=CAP_LEASE\nAmbientCapabilities=CAP_LEASE\n"
"""As docs/inbox.md has it."""

SERVE = """
set -e
modprobe -a nfsd cifs
useradd uploader
install -d /srv/inbox/local /srv/inbox/nfs /srv/inbox/smb /srv/client/nfs /srv/client/smb /srv/served
install -d -o uploader -m 755 /srv/served/nfs /srv/served/smb
chown uploader /srv/inbox/local
setfacl -R -m u:capture-agent:rX -m d:u:capture-agent:rX /srv/inbox/local
printf '[nfsd]\\ngrace-time=10\\nlease-time=10\\n' >/etc/nfs.conf
echo '/srv/served/nfs 127.0.0.1(rw,no_root_squash,no_subtree_check,fsid=1)' >/etc/exports
printf '%s\\n' '[global]' 'disable netbios=yes' 'load printers=no' '[in]' 'path=/srv/served/smb' 'read only=no' \
  >/etc/samba/smb.conf
printf 'word\\nword\\n' | smbpasswd -s -a uploader
printf 'username=uploader\\npassword=word\\n' >/etc/smb-word
systemctl start rpcbind nfs-server smbd
mount -t nfs -o vers=3,nolock 127.0.0.1:/srv/served/nfs /srv/client/nfs
mount -t cifs -o credentials=/etc/smb-word,cache=none,nosharesock,uid=uploader //127.0.0.1/in /srv/client/smb
"""
MOUNT = """
set -e
mount -t nfs -o vers=4.2,ro,nosuid,nodev,noexec 127.0.0.1:/srv/served/nfs /srv/inbox/nfs
mount -t cifs -o credentials=/etc/smb-word,ro,nosuid,nodev,noexec,uid=capture-agent //127.0.0.1/in /srv/inbox/smb
"""
WRITER = f"""
import os, sys, time
source, target, is_reserved, rest_s = sys.argv[1], sys.argv[2], sys.argv[3] == "reserved", float(sys.argv[4])
content = open(source, "rb").read()
size = len(content) // {PIECES}
with open(target, "wb", buffering=0) as file:
    if is_reserved:  # as Windows does before it copies
        file.truncate(len(content))
    for at in range(0, len(content), size):
        file.write(content[at : at + size])
        os.fsync(file.fileno())
        time.sleep({PAUSE_S})
        if at == 4 * size:
            time.sleep(rest_s)
"""
DENIER = """
import sys, time
from samba import credentials
from samba.samba3 import libsmb_samba_internal as smb, param
context = param.get_context()
context.load("/etc/samba/smb.conf")
user = credentials.Credentials()
user.guess(context)
user.set_username("uploader")
user.set_password("word")
there = smb.Conn("127.0.0.1", "in", context, user)
file = there.create("denied.bin", DesiredAccess=0x40000000 | 0x10000, ShareAccess=0, CreateDisposition=5)
there.write(file, open(sys.argv[1], "rb").read(), 0)
time.sleep(float(sys.argv[2]))
there.close(file)
"""


REMEMBERED = """
import os
def size():
    return os.fstat(file.fileno()).st_size
open("/srv/client/nfs/.probe", "w").write("a")
with open("/srv/inbox/nfs/.probe") as file:
    sizes = [size()]
    open("/srv/client/nfs/.probe", "a").write("b")
    sizes.append(size())
    open("/srv/inbox/nfs/.probe").close()
    sizes.append(size())
print(*sizes)
"""
"""What an open file of an NFS mount says of a change by somebody else, before and behind another opening of it."""

CAP_LEASE = 28


class Uploads:
    """What was put into the inboxes of a machine, whole; and what the station must have of it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.sums: set[str] = set()

    def made(self, size_bytes: int) -> str:
        """The path of a new content, inside."""
        number = len(self.sums)
        content = Noise(size_bytes + number, number).read()
        (self.machine.share / f"{number}.bin").write_bytes(content)
        self.sums.add(hashlib.sha256(content).hexdigest())
        return f"{self.machine.mount_share()}/{number}.bin"

    def put(self, *targets: str) -> None:
        """Write a file at once, and leave."""
        for target in targets:
            self.machine.run(f"cp {self.made(100_000)} {target}")

    def write_slowly(self, unit: str, target: str, reserved: str = "grows", rest_s: int = 0) -> None:
        """Write a file piece by piece, each of which reaches the server."""
        source = self.made(400_000)
        command = f"python3 /srv/writer.py {source} {target} {reserved} {rest_s}"
        self.machine.run(f"systemd-run -q --uid=uploader --unit={unit} {command}")

    def are_stored(self) -> None:
        """Wait until all are, and nothing else: one that was taken half would be one too many."""
        self.machine.run("! systemctl is-failed -q 'slow-*' denied")
        count = len(self.sums)
        self.machine.until_status(
            lambda status: status["counters"]["assets"]["stored"]["files"] >= count, limit_s=SLOW_S
        )
        self.machine.until(f"{AGENT} unstored", SLOW_S)
        assert self.machine.status()["counters"]["assets"]["stored"]["files"] == count


def troubles(status: dict[str, Any]) -> set[str]:
    """The inboxes of which something is told, by name."""
    told = {problem["zh"] for problem in status["health"]["problems"]}
    return {name for name in PLACES if any(f"收件夹 {name}" in words for words in told)}


def test_files_are_taken_whole_from_the_disk_from_nfs_and_from_smb_and_a_server_that_is_away_holds_up_nobody(
    machine: Machine,
) -> None:
    uploads = Uploads(machine)
    machine.guest.write("/srv/writer.py", WRITER)
    machine.guest.write("/srv/denier.py", DENIER)
    machine.run(SERVE, SLOW_S)
    machine.run(f"cat >>/etc/capture-agent/agent.toml <<'END'\n{INBOXES}END")
    machine.configure({"dock.stall_limit_s": "20"})

    # As it is installed: nobody can tell who writes, on the disk neither. The shares are mounted while it runs.
    machine.run(MOUNT, SLOW_S)
    uploads.put("/srv/client/nfs/quick.bin", "/srv/client/smb/quick.bin", "/srv/inbox/local/quick.bin")
    uploads.are_stored()
    told = machine.call(f"{AGENT} doctor --only inboxes", SLOW_S).output
    log.info("%s", told)
    assert told.count("lies on a share") == 2
    assert "belong to other users" in told
    sizes = machine.run(f"python3 -c '{REMEMBERED}'")
    log.info("an open file on NFS says it has %s bytes", sizes)
    assert sizes.split()[2] == "2"

    # With the right to ask who writes, files that are still being written.
    machine.guest.write("/etc/systemd/system/capture-agent.service.d/lease.conf", DROP_IN)
    machine.run("systemctl daemon-reload; systemctl restart capture-agent", SLOW_S)
    rights = machine.run("sed -n s/^CapAmb:.//p /proc/$(systemctl show -P MainPID capture-agent)/status")
    assert int(rights, 16) >> CAP_LEASE & 1
    uploads.write_slowly("slow-local", "/srv/inbox/local/slow.bin", rest_s=REST_S)
    uploads.write_slowly("slow-nfs", "/srv/client/nfs/slow.bin")
    uploads.write_slowly("slow-smb", "/srv/client/smb/slow.bin", "reserved")
    machine.run(f"systemd-run -q --unit=denied python3 /srv/denier.py {uploads.made(100_000)} {REST_S}")
    uploads.are_stored()

    # Servers that are away, and come back.
    machine.run("systemctl stop nfs-server smbd", SLOW_S)
    uploads.put("/srv/inbox/local/meanwhile.bin")
    uploads.are_stored()
    machine.until_status(lambda status: troubles(status) == {"nfs", "smb"}, SLOW_S)
    machine.run("systemctl start nfs-server smbd", SLOW_S)
    uploads.put("/srv/client/nfs/later.bin", "/srv/client/smb/later.bin")
    uploads.are_stored()
    status = machine.until_status(lambda status: not troubles(status), SLOW_S)
    assert sum(docking["accounting"]["already_held"] for docking in status["dockings"]) == 0, "something was read twice"
    sums = {
        line.split()[0] for line in machine.run("sha256sum /srv/served/*/*.bin /srv/inbox/local/*.bin").splitlines()
    }
    assert sums == uploads.sums
    machine.power_off()
    assert set(machine.stored().values()) == set(machine.vaulted().values()) == uploads.sums
