"""Starts the part of a one-node Ceph that keeps the data: one monitor and one object storage daemon."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path
from typing import Final

from simulator.stores.processes import HOST, ServerError, Servers, free_port, program

_CALL_LIMIT_S: Final = 60

# One copy of everything, no authentication between the daemons, and no waiting for more changes of the map to come:
# with the default paxos_propose_interval the gateway alone takes 9 s to start. Without crush updates on start the OSD
# doesn't create itself a second time, which on this version can fail with "wrong fsid".
_CONF: Final = """\
[global]
fsid = {fsid}
mon_host = v1:{host}:{port}
public_addr = {host}
cluster_addr = {host}
ms_bind_msgr2 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
keyring = {folder}/keyring
run_dir = {folder}
admin_socket =
log_file =
log_to_stderr = true
err_to_stderr = true
crash_dir = {folder}
paxos_propose_interval = 0.05
paxos_min_wait = 0.02
mon_max_pg_per_osd = 1000
mon_allow_pool_size_one = true
mon_data_avail_warn = 2
mon_data_avail_crit = 1
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
[mon.a]
mon_data = {folder}/mon
[osd.0]
osd_data = {folder}/osd
osd_objectstore = {objectstore}
osd_crush_update_on_start = false
osd_class_update_on_start = false
osd_class_load_list = *
osd_class_default_list = *
memstore_device_bytes = {size_bytes}
bluestore_block_size = {size_bytes}
bluestore_block_create = true
bluestore_fsck_on_mount = false
"""


class Cluster:
    """Monitor and OSD of an empty cluster; data in memory, or in a sparse file if `on_disk`.

    `conf` is the configuration that all Ceph programs need. The OSD may come up after `start` has returned: whoever
    waits for the gateway calls `tend` meanwhile.
    """

    def __init__(self, folder: Path, servers: Servers, *, on_disk: bool, size_bytes: int) -> None:
        self.conf = folder / "ceph.conf"
        self._folder = folder
        self._servers = servers
        self._fsid = str(uuid.uuid4())
        self._port = free_port()
        self._osd: subprocess.Popen[bytes] | None = None
        self._text = _CONF.format(
            fsid=self._fsid,
            host=HOST,
            port=self._port,
            folder=folder,
            objectstore="bluestore" if on_disk else "memstore",
            size_bytes=size_bytes,
        )

    def start(self, more_conf: str = "") -> None:
        """Make the folder's empty cluster and start it; `more_conf` is appended to the configuration."""
        for name in ("mon", "osd"):
            (self._folder / name).mkdir(parents=True)
        self.conf.write_text(self._text + more_conf, encoding="utf-8")
        keyring, monmap = self._folder / "keyring", self._folder / "monmap"
        self.call("ceph-authtool", "-C", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        self.call("monmaptool", "--create", "--addv", "a", f"[v1:{HOST}:{self._port}]", "--fsid", self._fsid, monmap)
        self.call("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
        monitor = self._servers.start(program("ceph-mon"), "-c", self.conf, "-i", "a", "-f")
        osd_uuid = str(uuid.uuid4())
        self._servers.wait_until(lambda: self._announced(osd_uuid, monitor), "the monitor of Ceph")
        self.call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_uuid)
        self._start_osd()

    def tend(self) -> None:
        """Start the OSD again if it has left: a fresh one may, when it asks before its first map has come."""
        if self._osd is None or self._osd.poll() is not None:
            self._start_osd()

    def call(self, name: str, *arguments: str | Path, script: str = "") -> str:
        """Run a program of Ceph on this cluster and return what it prints; raises ServerError."""
        done = subprocess.run(
            [program(name), "-c", self.conf, *arguments],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            timeout=_CALL_LIMIT_S,
        )
        if done.returncode != 0:
            raise ServerError(f"{name} {' '.join(map(str, arguments))}: {done.stderr[-2000:].strip()}")
        return done.stdout

    def _announced(self, osd_uuid: str, monitor: subprocess.Popen[bytes]) -> bool:
        """Make the OSD known; a monitor that has just started may still refuse (EPERM), and may be told twice."""
        script = f"osd new {osd_uuid}\nosd crush add osd.0 1.0 root=default host=here\n"
        try:
            self.call("ceph", "--connect-timeout", str(_CALL_LIMIT_S), script=script)
        except ServerError:
            if monitor.poll() is not None:
                raise
            return False
        return True

    def _start_osd(self) -> None:
        self._osd = self._servers.start(program("ceph-osd"), "-c", self.conf, "-i", "0", "-f")
