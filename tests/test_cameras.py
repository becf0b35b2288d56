"""The cameras of the tests are what they say: each picture known, each fault made, whatever reads them."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from simulator.cameras.camera import Cameras
from simulator.cameras.footage import Footage
from simulator.cameras.frames import Known, expect
from simulator.cameras.proxy import Proxy

Pack = Callable[..., Path]
Start = Callable[..., Cameras]


def recorded(url: str, into: Path, seconds: float = 2.0, transport: str = "tcp") -> list[str]:
    """What an ffmpeg that knows nothing of us writes, and its complaints."""
    ask = ["ffmpeg", "-nostdin", "-v", "warning", "-rtsp_transport", transport, "-timeout", "5000000", "-i", url]
    done = subprocess.run(
        [*ask, "-t", str(seconds), "-c", "copy", str(into)], check=False, capture_output=True, timeout=60
    )
    return done.stderr.decode().splitlines()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize(("video", "audio"), [("h264", "aac"), ("hevc", "pcm_mulaw"), ("h264", "pcm_alaw")])
def test_all_that_another_program_records_is_known(
    video: str, audio: str, transport: str, cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    shown = pack(Footage(video, audio))
    server = cameras({"front": shown})
    recorded(server.url("front"), tmp_path / "a.mkv", transport=transport)
    found = Known(shown).match([tmp_path / "a.mkv"])
    expect(found)
    assert len(found.pictures) > 40
    assert found.sound > 20


def test_without_the_password_nothing_is_shown(cameras: Start, pack: Pack, tmp_path: Path) -> None:
    server = cameras({"front": pack()})
    assert any("401" in line for line in recorded(server.url("front", password="no"), tmp_path / "a.mp4"))
    assert not (tmp_path / "a.mp4").exists()


def test_what_is_lost_at_the_seam_and_in_the_middle_is_counted_to_the_picture(tmp_path: Path, pack: Pack) -> None:
    """The matcher is right about files whose every picture was chosen."""
    shown = pack(Footage(audio="", laps=5))
    with shown.open("rb") as file:
        head, body = json.loads(file.readline()), file.read()
    pictures = [body[at : at + size] for _, _, _, at, size, *_ in head["packets"]]

    def told(number: int) -> bytes:
        cut = head["packets"][number % 40][6]
        said = b"capture-agent-no%016x" % number
        whole = pictures[number % 40]
        return whole[:cut] + b"\0\0\0\1\x06\x05\x20" + said + b"\x80" + whole[cut:]

    numbers = [*range(25), *range(30, 35), *range(40, 90)]
    stream = b"".join(told(number) for number in numbers)
    (tmp_path / "a.h264").write_bytes(stream)
    found = Known(shown).match([tmp_path / "a.h264"])
    assert found.pictures == numbers
    assert found.gaps == [(25, 5), (35, 5)]
    assert found.missing == 10
    spoilt = bytearray(stream)
    spoilt[stream.index(told(26 + 5)) + 200] ^= 1
    (tmp_path / "b.h264").write_bytes(spoilt)
    assert Known(shown).match([tmp_path / "b.h264"]).damaged == [31]


def test_a_proxy_lets_the_camera_s_clock_run_faster(cameras: Start, pack: Pack) -> None:
    server = cameras({"front": pack()})
    with Proxy(server.port, stamps=True) as proxy:
        proxy.drift(1.01)
        with av.open(server.url("front", proxy.port), options={"rtsp_transport": "tcp"}, timeout=(20, 20)) as source:
            packets = (packet for packet in source.demux(video=0) if packet.pts is not None)
            first, *_, last = itertools.islice(packets, 51)
    assert float((last.pts - first.pts) * last.time_base) == pytest.approx(2 * 1.01, abs=0.001)


def test_a_broken_connection_ends_the_other_program(cameras: Start, pack: Pack, tmp_path: Path) -> None:
    server = cameras({"front": pack()})
    with Proxy(server.port) as proxy:
        proxy.refuse()
        assert recorded(server.url("front", proxy.port), tmp_path / "a.mkv")
        proxy.resume()
        proxy.corrupt(3)
        recorded(server.url("front", proxy.port), tmp_path / "b.mkv")
    assert not (tmp_path / "a.mkv").exists()
    found = Known(pack()).match([tmp_path / "b.mkv"])
    assert found.damaged or found.gaps or found.foreign_sound


def test_a_camera_that_lost_its_power_shows_the_present_when_it_is_back(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    server = cameras({"front": pack()})
    recorded(server.url("front"), tmp_path / "a.mkv", 1)
    server.kill()
    server.start()
    recorded(server.url("front"), tmp_path / "b.mkv", 1)
    found = Known(pack()).match([tmp_path / "a.mkv", tmp_path / "b.mkv"])
    assert len(found.gaps) == 1
    assert found.repeated == 0
    assert not found.damaged
