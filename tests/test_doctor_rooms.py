"""What the doctor says of rooms: whether the planned time fits onto the disk, and whether anything answers."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.rooms import Source
from agent.doctor.finding import Grade
from agent.doctor.rooms import answers, disk_for
from tests.studio import ROOM


def test_a_room_that_could_not_be_recorded_as_planned_is_told(tmp_path: Path) -> None:
    assert disk_for(ROOM, tmp_path, 0).grade is Grade.GOOD
    found = disk_for(replace(ROOM, planned_h=24.0, bitrate_kbit_s=1_000_000), tmp_path, 0)
    assert found.grade is Grade.BAD
    assert "一号询问室：空间不够录 24 小时" in found.zh
    space = os.statvfs(tmp_path)
    assert disk_for(ROOM, tmp_path, space.f_bavail * space.f_frsize).grade is Grade.BAD


def test_a_camera_at_whose_address_nobody_listens_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as camera:
        port = camera.getsockname()[1]
        source = Source("front", "正面", f"rtsp://127.0.0.1:{port}/a")
        assert answers(ROOM, source).grade is Grade.GOOD
    found = answers(ROOM, source)
    assert (found.grade, found.zh) == (Grade.BAD, "一号询问室 正面：无法连接")
    assert "IPAddressAllow" in found.do_en


@pytest.mark.root
def test_a_device_has_to_be_there_and_be_a_camera(tmp_path: Path) -> None:
    os.mknod(tmp_path / "video0", stat.S_IFCHR | 0o600, os.makedev(81, 0))
    assert answers(ROOM, Source("usb", "", f"v4l2:{tmp_path}/video0?framerate=25")).grade is Grade.GOOD
    assert answers(ROOM, Source("usb", "", "v4l2:/dev/null")).grade is Grade.BAD
    assert answers(ROOM, Source("usb", "", "v4l2:/dev/no-such-camera")).grade is Grade.BAD


def test_a_microphone_is_not_called_good_unheard() -> None:
    found = answers(ROOM, Source("mic", "话筒", "alsa:hw:9"))
    assert found.grade is Grade.UNKNOWN
    assert "room test" in found.do_en
