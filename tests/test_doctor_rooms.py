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
from agent.doctor.sandbox import Sandbox, read
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
    assert "cable" in found.do_en


def told_by_systemd(*more: str) -> Sandbox:
    """As systemd 252 tells of the package's unit with a drop-in."""
    lines = (
        "LoadState=loaded", "ActiveState=active", "DevicePolicy=closed", "DeviceAllow=char-rtc r",
        "DeviceAllow=block-mmc r", "DeviceAllow=block-sd r", "IPAddressDeny=::/0 0.0.0.0/0", *more,
    )  # fmt: skip
    sandbox = read("\n".join(lines))
    assert sandbox is not None
    return sandbox


SHUT = ("IPAddressAllow=::1/128 127.0.0.0/8", "SupplementaryGroups=")
OPEN = (
    "IPAddressAllow=::1/128 10.1.2.0/24 127.0.0.0/8", "SupplementaryGroups=video audio",
    "DeviceAllow=char-alsa rw", "DeviceAllow=char-video4linux rw",
)  # fmt: skip


def test_what_the_unit_forbids_is_told_though_a_person_gets_through() -> None:
    """The unit's IPAddressDeny= holds for the service alone: whoever asks beside it reaches the camera."""
    with socket.create_server(("127.0.0.1", 0)) as camera:
        source = Source("front", "正面", f"rtsp://127.0.0.1:{camera.getsockname()[1]}/a")
        found = answers(ROOM, source, told_by_systemd("IPAddressAllow=10.1.2.0/24"))
        assert (found.grade, found.zh) == (Grade.BAD, "一号询问室 正面：服务不得访问该地址")
        assert "systemctl edit capture-agent" in found.do_en
        assert answers(ROOM, source, told_by_systemd(*SHUT)).grade is Grade.GOOD
    shut, opened = told_by_systemd(*SHUT), told_by_systemd(*OPEN)
    assert not shut.reaches("10.1.2.3")
    assert opened.reaches("10.1.2.3")
    assert not opened.reaches("10.1.3.3")
    assert not opened.reaches("fe80::1%eth0")
    assert replace(shut, denied=()).reaches("10.1.2.3"), "a unit that denies nothing"


@pytest.mark.parametrize(("url", "grade"), [("v4l2:/dev/video7", Grade.BAD), ("alsa:hw:1", Grade.UNKNOWN)])
def test_a_device_that_the_unit_forbids_is_told(url: str, grade: Grade) -> None:
    for shut in (told_by_systemd(*SHUT), told_by_systemd(*OPEN[:1], *OPEN[2:])):  # no device; no group
        found = answers(ROOM, Source("usb", "", url), shut)
        assert (found.grade, found.zh) == (Grade.BAD, "一号询问室 ：服务不得打开该设备")
    found = answers(ROOM, Source("usb", "", url), told_by_systemd(*OPEN))
    assert found.grade is grade
    assert "不得" not in found.zh
    assert told_by_systemd("DeviceAllow=/dev/video7 rw", OPEN[1]).opens("/dev/video7", "video4linux", "video")


def test_a_password_that_the_service_was_not_given_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    secret = tmp_path / "capture-agent.camera-hearing"
    with socket.create_server(("127.0.0.1", 0)) as camera:
        url = f"rtsp://127.0.0.1:{camera.getsockname()[1]}/a"
        source = Source("front", "正面", url, credential="hearing")
        running = told_by_systemd(*OPEN)
        found = answers(ROOM, source, running)
        assert (found.grade, found.zh) == (Grade.BAD, "一号询问室 正面：服务没有可用的摄像机密码")
        assert "LoadCredential=capture-agent.camera-hearing" in found.do_en
        assert answers(ROOM, source, replace(running, is_active=False)).grade is Grade.UNKNOWN
        secret.write_text("admin", "utf-8")
        secret.chmod(0o400)
        assert answers(ROOM, source, running).grade is Grade.BAD
        secret.write_text("admin:geheim", "utf-8")
        good = answers(ROOM, source, running)
    assert good.grade is Grade.GOOD
    assert "geheim" not in str(good)


def test_without_systemd_or_the_unit_nothing_is_said_of_it() -> None:
    assert read("LoadState=not-found\nActiveState=inactive\n") is None
    assert read("") is None
    bare = read("LoadState=loaded\nActiveState=inactive\nDevicePolicy=auto\nSupplementaryGroups=video\n")
    assert bare is not None
    assert bare.opens("/dev/video0", "video4linux", "video")
    assert bare.reaches("192.0.2.1")


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
