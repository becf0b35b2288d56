"""Whether the rooms could be recorded now: the disk for what is planned, and something that answers at each address."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.config.rooms import Room, Source
from agent.doctor.finding import Case, Finding, Grade
from agent.pipeline.reserve import planned_bytes

_CONNECT_S: Final = 3.0
_PORTS: Final = {"rtsp": 554, "onvif": 80}.get
_AT_ONCE: Final = 16
_V4L2_MAJOR: Final = 81
"""Of every camera's device (kernel.org/doc/html/latest/admin-guide/devices.html)."""


def look_at_rooms(case: Case) -> Iterator[Finding]:
    """Each room: nothing is signed in to, and no password is needed; `capture-agent camera ask` does that."""
    rooms = case.known.rooms.values()
    if not rooms:
        yield Finding(Grade.GOOD, "没有配置询问室、听证室", "no room is configured")
    for room in rooms:
        yield disk_for(room, case.known.storage.root, case.known.storage.reserve_bytes)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(lambda source, room=room: answers(room, source), room.sources)


def disk_for(room: Room, root: Path, reserve_bytes: int) -> Finding:
    """Whether a session of the planned length could be started."""
    wanted = planned_bytes(room, timedelta(hours=room.planned_h))
    space = os.statvfs(root)
    free = max(0, space.f_bavail * space.f_frsize - reserve_bytes)
    told = f"{wanted / 1e9:.1f} GB / {free / 1e9:.1f} GB"
    if free >= wanted:
        return Finding(Grade.GOOD, f"{room.title}：空间够录 {room.planned_h:g} 小时（{told}）", f"{room.name}: {told}")
    do = "腾出存储空间，或改小 planned_h", "Make room, or plan for less (planned_h)."
    zh = f"{room.title}：空间不够录 {room.planned_h:g} 小时（{told}）"
    return Finding(Grade.BAD, zh, f"{room.name}: a session of the planned length would be refused ({told})", *do)


def answers(room: Room, source: Source) -> Finding:
    """Whether anybody listens at the address of a camera, or the device is there."""
    where = f"{room.title} {source.title}"
    parts = urlsplit(source.url)
    try:
        if port := parts.port or _PORTS(parts.scheme):
            socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_S).close()
        elif parts.scheme == "alsa":
            do = (
                f"录制十秒测试：capture-agent room test {room.name}",
                f"Record ten seconds: capture-agent room test {room.name}.",
            )
            return Finding(Grade.UNKNOWN, f"{where}：话筒未检查", f"{room.name} {source.name}: not listened to", *do)
        elif os.major(os.stat(parts.path).st_rdev) != _V4L2_MAJOR:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    except OSError as error:
        do = (
            "检查电源、网线、地址，以及服务的 IPAddressAllow",
            "Check power, cable, address, and IPAddressAllow of the service.",
        )
        zh, en = f"{where}：无法连接", f"{room.name} {source.name}: nothing answers: {error.strerror or error}"
        return Finding(Grade.BAD, zh, en, *do)
    return Finding(Grade.GOOD, f"{where}：有应答", f"{room.name} {source.name}: answers")
