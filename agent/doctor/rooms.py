"""Whether the rooms could be recorded now: disk for what is planned, an answer at each address, leave to go there."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.config.rooms import Room, Source
from agent.doctor.finding import Case, Finding, Grade
from agent.doctor.sandbox import Sandbox, in_force
from agent.errors import RoomError
from agent.pipeline.reserve import planned_bytes
from agent.rooms.addresses import user_and_password
from agent.rooms.challenge import is_readable, schemes

_CONNECT_S: Final = 3.0
_PORTS: Final = {"rtsp": 554, "onvif": 80}.get
_AT_ONCE: Final = 16
_DRIVERS: Final[Mapping[str, tuple[str, str]]] = {"v4l2": ("video4linux", "video"), "alsa": ("alsa", "audio")}
"""Of each kind of device the driver and the group that docs/rooms.md's drop-in names."""
_FORBIDDEN: Final = "the unit of the service forbids it"
_ALLOW: Final = (
    "在 systemctl edit capture-agent 中放行（docs/rooms.md），再重启服务",
    "Allow it with `systemctl edit capture-agent` (docs/rooms.md), then restart the service.",
)
_V4L2_MAJOR: Final = 81
"""Of every camera's device (kernel.org/doc/html/latest/admin-guide/devices.html)."""


def look_at_rooms(case: Case) -> Iterator[Finding]:
    """Each room: nothing is signed in to; `capture-agent camera ask` does that."""
    rooms, sandbox = case.known.rooms.values(), in_force()
    if not rooms:
        yield Finding(Grade.GOOD, "没有配置询问室、听证室", "no room is configured")
    for room in rooms:
        yield disk_for(room, case.known.storage.root, case.known.storage.reserve_bytes)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(lambda source, room=room: answers(room, source, sandbox), room.sources)


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


def answers(room: Room, source: Source, sandbox: Sandbox | None = None) -> Finding:
    """Whether anybody listens at the address of a camera, or the device is there, and the service may go there."""
    where, en = f"{room.title} {source.title}", f"{room.name} {source.name}"
    parts = urlsplit(source.url)
    try:
        if port := parts.port or _PORTS(parts.scheme):
            if sandbox is not None and not sandbox.reaches(_address(parts.hostname or "", port)):
                return Finding(Grade.BAD, f"{where}：服务不得访问该地址", f"{en}: {_FORBIDDEN} this address", *_ALLOW)
            socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_S).close()
            return _signed_in(source, sandbox, where, en)
        driver, group = _DRIVERS[parts.scheme]
        if sandbox is not None and not sandbox.opens(parts.path, driver, group):
            return Finding(Grade.BAD, f"{where}：服务不得打开该设备", f"{en}: {_FORBIDDEN} this device", *_ALLOW)
        if parts.scheme == "alsa":
            do = (
                f"录制十秒测试：capture-agent room test {room.name}",
                f"Record ten seconds: capture-agent room test {room.name}.",
            )
            return Finding(Grade.UNKNOWN, f"{where}：话筒未检查", f"{en}: not listened to", *do)
        if os.major(os.stat(parts.path).st_rdev) != _V4L2_MAJOR:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    except OSError as error:
        do = "检查电源、网线和地址", "Check power, cable and address."
        return Finding(Grade.BAD, f"{where}：无法连接", f"{en}: nothing answers: {error.strerror or error}", *do)
    return Finding(Grade.GOOD, f"{where}：有应答", f"{en}: answers")


def _address(host: str, port: int) -> str:
    """The first one of a host; raises OSError if it has none."""
    return str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])


def _signed_in(source: Source, sandbox: Sandbox | None, where: str, en: str) -> Finding:
    """Whether the service has user and password for a camera that answers; whether they are right is not tried."""
    try:
        user_and_password(source)
    except RoomError as error:
        if sandbox is not None and not sandbox.is_active:
            do = "启动服务后再检查", "Start the service, and look again."
            return Finding(Grade.UNKNOWN, f"{where}：有应答，密码未检查", f"{en}: answers; it has no password yet", *do)
        do = "按 docs/rooms.md 设置摄像机密码后重启服务", error.do
        return Finding(Grade.BAD, f"{where}：服务没有可用的摄像机密码", f"{en}: {error.what}", *do)
    if _wants_it_readable(source):
        do = "把摄像机改为 Digest 认证（docs/rooms.md）", "Switch the camera to Digest authentication (docs/rooms.md)."
        zh = f"{where}：摄像机要求明文传送密码，本站不予录制"
        return Finding(Grade.BAD, zh, f"{en}: wants its password readable (Basic), so it is not recorded", *do)
    return Finding(Grade.GOOD, f"{where}：有应答", f"{en}: answers")


def _wants_it_readable(source: Source) -> bool:
    """Whether the recorder would refuse to tell the camera its password; it is asked without one."""
    if not source.credential or source.plain_password or not source.url.startswith("rtsp:") or "{" in source.url:
        return False
    try:
        return is_readable(schemes(source.url, _CONNECT_S))
    except (OSError, ValueError):
        return False  # it listens; more is not known of it
