"""What is noticed of pictures and sounds while a room records, and what is not taken for something it isn't."""

from __future__ import annotations

import io
import itertools
import subprocess
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import av
import pytest
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import durable
from agent.rooms import watching
from agent.rooms.decoding import Coding, Decoder
from agent.rooms.noticing import FLOOR_DB, Lasting, Moment, Picture, is_black, is_same, sound_of
from agent.rooms.protocol import Alive, Kind, Noticed, Plan, SourcePlan
from agent.rooms.watching import APART_US, Watch
from simulator.cameras.camera import Cameras
from simulator.cameras.footage import Footage
from tests.recording import recording

WALL_US = 1_800_000_000_000_000
"""When the made films came in, by the station's clock."""

GOP_S = 2
SIZE = "size=320x180:rate=25"
ROOM = "testsrc2=" + SIZE
MOMENT = f"{ROOM}:duration=3.04,trim=start=3,setpts=PTS-STARTPTS"
QUICK = ("-c:v", "libx264", "-preset", "ultrafast", "-sc_threshold", "0", "-pix_fmt", "yuv420p")
H264 = (*QUICK, "-qp", "25")
G711 = ("-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1")
AAC = ("-c:a", "aac", "-b:a", "64k")
TONE = "sine=frequency=440:sample_rate=16000"


class Replay:
    """A watcher that is fed with a film; its clock is what the film's time stamps say, so nothing is told by luck."""

    def __init__(self, folder: Path, still_s: float = 2.0) -> None:
        self.at_us = 0
        self.told: list[tuple[float, Noticed]] = []
        self.levels: list[float | None] = []
        self.stills: list[float] = []
        self.watch = Watch("camera", folder, still_s, lambda: Moment(self.at_us, WALL_US + self.at_us))
        decoder = self.watch._decoders["video"]
        jpeg = decoder.jpeg
        decoder.jpeg = lambda small: self.stills.append(self.at_us / 1e6) or jpeg(small)  # type: ignore[method-assign, func-returns-value]
        self.changed: Callable[[av.Packet], av.Packet | None] = lambda packet: packet

    def feed(self, film: Path, *, offset_s: float = 0.0, until_s: float = 1e9) -> None:
        with av.open(str(film)) as container:
            for original in container.demux():
                if original.dts is None or original.time_base is None:
                    continue
                at_s = float(original.dts * original.time_base) + offset_s
                packet = self.changed(original)
                if at_s > until_s or packet is None:
                    continue
                self.at_us = max(self.at_us, int(at_s * 1e6))
                self.watch.see(packet)
                self.watch._looks.join()
                self._collect()

    def wait(self, seconds: float) -> None:
        """Nothing comes for a while."""
        self.at_us += int(seconds * 1e6)
        self._collect()

    def close(self) -> list[tuple[str, float, float | None]]:
        """All that was told: kind, start, end in seconds of the film; a start is always told before its end."""
        self.watch.close()
        self._collect()
        return [(noticed.kind.value, seconds(noticed.start_us), seconds(noticed.end_us)) for _, noticed in self.told]

    def _collect(self) -> None:
        self.told += [(self.at_us / 1e6, noticed) for noticed in self.watch.take()]
        self.levels.append(self.watch.level_db)


def seconds(us: int | None) -> float | None:
    return None if us is None else round((us - WALL_US) / 1e6, 1)


def made(
    folder: Path, pictures: str = "", sounds: str = "", *, gop_s: float = GOP_S, coding: tuple[str, ...] = H264
) -> Path:
    """A film of filter graphs of ffmpeg; pieces with `|` between them follow each other."""
    inputs, graph, outputs = [], [], []
    for letter, pieces in (("v", pictures), ("a", sounds)):
        for number, piece in enumerate(pieces.split("|")) if pieces else ():
            graph.append(f"{piece}{',format=yuv420p' if letter == 'v' else ''}[{letter}{number}]")
            inputs.append(letter)
        count = inputs.count(letter)
        if count:
            joined = "".join(f"[{letter}{number}]" for number in range(count))
            graph.append(f"{joined}concat=n={count}:v={int(letter == 'v')}:a={int(letter == 'a')}[{letter}]")
            outputs += ["-map", f"[{letter}]"]
    path = folder / "film.mkv"
    gop = ("-g", str(int(gop_s * 25)), "-keyint_min", str(int(gop_s * 25))) if pictures and "-g" not in coding else ()
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-filter_complex", ";".join(graph), *outputs]
    subprocess.run([*command, *coding, *gop, "-threads", "1", str(path)], check=True, timeout=100)
    return path


@pytest.fixture
def replay(tmp_path: Path) -> Iterator[Replay]:
    replay = Replay(tmp_path)
    yield replay
    replay.watch.close()


def named(told: list[tuple[str, float, float | None]], kind: Kind) -> list[tuple[float, float | None]]:
    return [(start, end) for name, start, end in told if name == kind.value]


def test_black_frozen_flat_and_silent_are_told_within_ten_seconds_and_again_when_they_end(
    tmp_path: Path, replay: Replay
) -> None:
    black, frozen = f"color=black:{SIZE}:duration=5", f"{MOMENT},loop=loop=199:size=1"
    pictures = f"{ROOM}:duration=8|{black}|{ROOM}:duration=5|{frozen}|{ROOM}:duration=8"
    quiet = "anoisesrc=amplitude=0.0002:sample_rate=16000:duration=8"
    sounds = f"{TONE}:duration=10|anullsrc=r=16000:cl=mono,atrim=duration=8|{TONE}:duration=5|{quiet}|{TONE}:duration=3"
    replay.feed(made(tmp_path, pictures, sounds, coding=(*H264, *AAC)))
    told = replay.close()
    truth = {Kind.BLACK: (8, 13), Kind.FROZEN: (18, 26), Kind.FLAT: (10, 18), Kind.SILENT: (23, 31)}
    assert len(told) == 2 * len(truth), told
    for kind, (start, end) in truth.items():
        first, last = named(told, kind)
        within = GOP_S if kind in (Kind.BLACK, Kind.FROZEN) else 1.5
        assert first == (pytest.approx(start, abs=within + 0.1), None)
        assert last == (first[0], pytest.approx(end, abs=within + 0.1))
        heard = next(at for at, noticed in replay.told if noticed.kind is kind)
        assert heard - start <= 10, f"{kind} was told {heard - start} s after it began"


CLOCK = "drawtext=text='%{pts\\:hms}':x=8:y=8:fontsize=10:fontcolor=white"


@pytest.mark.parametrize(
    ("scene", "why"),
    [
        (f"{ROOM},lutyuv=y=16+(val-16)/12:u=128:v=128", "a dark room in which something can be seen"),
        (f"color=0x606870:{SIZE},noise=alls=4:allf=t", "a wall, as a sensor sees it"),
        (f"color=0x606870:{SIZE},{CLOCK}", "a wall without any noise, and a clock"),
        (
            f"color=0x181818:{SIZE},drawbox=x=200:y=40:w=60:h=100:color=0x404040:t=fill,noise=alls=4:allf=t",
            "a lit door",
        ),
    ],
)
@pytest.mark.parametrize("rate", [("-crf", "26"), ("-b:v", "800k", "-maxrate", "800k", "-bufsize", "800k")])
def test_what_is_dark_or_still_but_alive_is_not_told(
    tmp_path: Path, replay: Replay, scene: str, why: str, rate: tuple[str, ...]
) -> None:
    scene = scene.replace(SIZE, f"{SIZE}:duration=16", 1)
    replay.feed(made(tmp_path, scene, coding=(*QUICK, *rate)))
    assert replay.close() == [], why


@pytest.mark.parametrize("rate", [("-crf", "26"), ("-b:v", "800k", "-maxrate", "800k", "-bufsize", "800k")])
def test_a_frozen_picture_is_told_once_the_encoder_has_settled(
    tmp_path: Path, replay: Replay, rate: tuple[str, ...]
) -> None:
    """Its errors change with its rate for a while: until then nobody can tell a freeze from a quiet room."""
    frozen = f"{MOMENT},loop=loop=599:size=1"
    replay.feed(made(tmp_path, f"{ROOM}:duration=6|{frozen}", coding=(*QUICK, *rate)))
    (start, none), (same, end) = named(replay.close(), Kind.FROZEN)
    assert 6 <= start == same <= 18
    assert (none, end) == (None, pytest.approx(30, abs=GOP_S))


def test_a_covered_lens_with_noise_and_a_written_clock_is_black(tmp_path: Path, replay: Replay) -> None:
    replay.feed(made(tmp_path, f"color=0x080808:{SIZE}:duration=10,noise=alls=12:allf=t,{CLOCK}"))
    assert named(replay.close(), Kind.BLACK) == [(0.0, None), (0.0, pytest.approx(8, abs=GOP_S))]


@pytest.mark.parametrize(
    ("coding", "gop_s"),
    [
        (
            (
                "-c:v",
                "libx265",
                "-preset",
                "ultrafast",
                "-x265-params",
                "log-level=none:keyint=50:min-keyint=50:pools=1",
            ),
            2,
        ),
        (("-c:v", "mjpeg", "-q:v", "6"), 0),
        (
            ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "25", "-profile:v", "high10", "-pix_fmt", "yuv420p10le"),
            1,
        ),
    ],
)
def test_other_codings_of_pictures_are_read_as_well(
    tmp_path: Path, replay: Replay, coding: tuple[str, ...], gop_s: int
) -> None:
    black, frozen = f"color=black:{SIZE}:duration=6", f"{MOMENT},loop=loop=249:size=1"
    film = made(tmp_path, f"{ROOM}:duration=4|{black}|{ROOM}:duration=4|{frozen}", gop_s=gop_s or 1, coding=coding)
    replay.feed(film)
    told = replay.close()
    assert [kind for kind, _, end in told if end is None] == ["black", "frozen"]
    assert len(told) == 4


@pytest.mark.parametrize(
    "coding", [G711, ("-c:a", "pcm_alaw", "-ar", "8000"), ("-c:a", "flac"), ("-c:a", "pcm_s32le"), AAC]
)
def test_levels_are_the_levels(tmp_path: Path, replay: Replay, coding: tuple[str, ...]) -> None:
    loud, soft = "sine=frequency=440,volume=0dB:duration=4", "sine=frequency=440,volume=-20dB:duration=4"
    loud, soft = (f"sine=frequency=440:duration=4:sample_rate=16000,volume={db}dB" for db in (0, -20))
    replay.feed(made(tmp_path, sounds=f"{loud}|{soft}|anullsrc=r=16000:cl=mono,atrim=duration=8", coding=coding))
    told = replay.close()
    heard = [level for level in replay.levels if level is not None]
    assert heard[0] == pytest.approx(-21.1, abs=1.0)  # ffmpeg's sine has an amplitude of 1/8
    assert heard[len(heard) * 6 // 16] == pytest.approx(-41.1, abs=1.0)
    assert heard[-1] == FLOOR_DB
    assert [kind for kind, _, _ in told] == ["flat", "flat"]


def test_a_source_with_rare_key_frames_is_said_to_be_unwatched_instead_of_judged(
    tmp_path: Path, replay: Replay
) -> None:
    replay.feed(made(tmp_path, f"color=black:{SIZE}:duration=40", gop_s=10))
    told = replay.close()
    assert told == [("unwatched", 0.0, None), ("unwatched", 0.0, pytest.approx(40, abs=0.1))]
    at_s, _ = replay.told[0]
    assert at_s <= 10


def test_damaged_key_frames_are_survived_and_said(tmp_path: Path, replay: Replay) -> None:
    film = made(tmp_path, f"{ROOM}:duration=40", f"{TONE}:duration=40", coding=(*H264, *AAC))
    rotten = range(10_000_000, 24_000_000)

    def damaged(packet: av.Packet) -> av.Packet:
        if replay.at_us not in rotten:
            return packet
        return with_data(packet, bytes(b ^ 0x55 if n % 7 == 0 else b for n, b in enumerate(bytes(packet))))

    replay.changed = damaged
    replay.feed(film)
    told = replay.close()
    assert {kind for kind, _, _ in told} == {"unwatched"}
    assert {noticed.track for _, noticed in replay.told} == {"video", "audio"}
    for track in ("video", "audio"):
        first, last = (noticed for _, noticed in replay.told if noticed.track == track)
        assert (first.start_us, first.end_us) == (last.start_us, None)
        assert seconds(first.start_us) == pytest.approx(8, abs=2.1)
        assert seconds(last.end_us) == pytest.approx(25, abs=2.1)


def with_data(packet: av.Packet, data: bytes) -> av.Packet:
    """The same packet of the same stream with other bytes."""
    other = av.Packet(data)
    other.stream, other.pts, other.dts, other.time_base = packet.stream, packet.pts, packet.dts, packet.time_base
    other.is_keyframe = packet.is_keyframe
    return other


def test_an_outage_is_not_called_unwatched_and_ends_what_went_on(tmp_path: Path, replay: Replay) -> None:
    film = made(tmp_path, f"color=black:{SIZE}:duration=8")
    replay.feed(film)
    for _ in range(60):
        replay.wait(1)
    assert [noticed.end_us is None for _, noticed in replay.told] == [True, False]
    replay.feed(film, offset_s=68)
    assert [kind for kind, _, _ in replay.close()] == ["black"] * 4


def test_a_picture_that_no_still_can_be_made_of_ends_nothing(tmp_path: Path, replay: Replay) -> None:
    """JPEG has at most 65535 lines."""
    replay.feed(made(tmp_path, f"color=black:{SIZE}:duration=2"))
    strip = VideoFrame(16, 1 << 16, "yuv420p")
    look = watching._Look(watching.station_now(), Coding("video", "h264", None), ())
    with patch.object(Decoder, "frames", return_value=[strip]):
        replay.watch._judge(look)
    assert replay.watch._thread.is_alive()


def test_no_still_is_made_once_the_recording_has_ended(tmp_path: Path, replay: Replay) -> None:
    """A look may take longer than its end is waited for."""
    replay.feed(made(tmp_path, f"{ROOM}:duration=2"))
    replay.close()
    replay.watch._keep_still(b"a picture of the room")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mkv"]


def test_stills_are_made_as_often_as_somebody_looks_and_leave_nothing_behind(tmp_path: Path, replay: Replay) -> None:
    film = made(tmp_path, f"{ROOM}:duration=30")
    replay.feed(film, until_s=16)
    assert replay.watch.still == "camera.jpg"
    assert len(replay.stills) == 2
    path = tmp_path / "camera.jpg"
    quiet = len(replay.stills)

    def shown(packet: av.Packet) -> av.Packet | None:
        if float(packet.dts * packet.time_base) <= 16:
            return None
        if packet.dts % 500 == 0:
            durable.mark_seen(path)
            with av.open(io.BytesIO(path.read_bytes())) as jpeg:
                (frame,) = jpeg.decode(video=0)
                assert (frame.width, frame.height) == (320, 180)
        return packet

    replay.changed = shown
    replay.feed(film)
    assert len(replay.stills) - quiet >= 6
    replay.close()
    assert [path.name for path in tmp_path.iterdir()] == ["film.mkv"]


def test_a_disk_that_refuses_stills_stops_nothing(tmp_path: Path) -> None:
    replay = Replay(tmp_path / "gone")
    replay.feed(made(tmp_path, f"{ROOM}:duration=4|color=black:{SIZE}:duration=6"))
    assert replay.watch.still == ""
    assert [kind for kind, _, _ in replay.close()] == ["black", "black"]


def test_who_sees_never_waits_for_who_judges(tmp_path: Path) -> None:
    """With a decoder that hangs, a minute's packets are taken at once, and memory holds only a few."""
    replay = Replay(tmp_path)
    release = threading.Event()
    replay.watch._judge = lambda look: release.wait(60)  # type: ignore[method-assign]
    film = made(tmp_path, f"{ROOM}:duration=60")
    with av.open(str(film)) as container:
        for packet in container.demux():
            if packet.dts is not None:
                replay.at_us = int(packet.dts * packet.time_base * 1_000_000)
                replay.watch.see(packet)
                replay._collect()
    assert replay.watch._looks.full()
    release.set()
    assert ("unwatched", 0.0) in [told[:2] for told in replay.close()]


@given(
    looks=st.lists(st.tuples(st.integers(1, 12_000_000), st.booleans()), max_size=60),
    hold_us=st.integers(0, 6_000_000),
)
@settings(max_examples=300, deadline=None)
def test_what_lasts_is_told_once_with_its_start_and_once_with_its_end(
    looks: list[tuple[int, bool]], hold_us: int
) -> None:
    told: list[tuple[Moment, Moment | None]] = []
    lasting = Lasting(hold_us, APART_US, lambda start, end: told.append((start, end)))
    at, seen = 0, {}
    for after, on in looks:
        at += after
        seen[at] = on
        lasting.look(Moment(at, at + 5), on)
    lasting.close()
    assert [end is None for _, end in told] == [True, False] * (len(told) // 2)
    for (start, _), (same, end) in zip(told[::2], told[1::2], strict=True):
        assert end is not None
        assert start == same
        assert start.wall_us == start.mono_us + 5
        inside = [time for time in seen if start.mono_us <= time < end.mono_us] or [start.mono_us]
        assert all(seen[time] for time in inside), "it was not so all the time"
        assert end.mono_us - start.mono_us >= hold_us
        assert all(b - a <= APART_US for a, b in itertools.pairwise(inside))
    assert all(a[1] is not None and a[1].mono_us <= b[0].mono_us for a, b in zip(told[1::2], told[2::2], strict=False))


@given(samples=st.lists(st.integers(-32768, 32767), min_size=1, max_size=300), offset=st.integers(-2000, 2000))
@settings(max_examples=200, deadline=None)
def test_levels_are_bounded_and_know_no_offset(samples: list[int], offset: int) -> None:
    small = [sample // 2 for sample in samples]
    sound = sound_of([array("h", small)], 32768)
    moved = sound_of([array("h", [sample + offset for sample in small])], 32768)
    assert FLOOR_DB <= sound.level_db <= 0
    assert moved.level_db == pytest.approx(sound.level_db, abs=0.01) or moved.level_db < -89
    assert moved.flat == sound.flat == (max(small) - min(small) <= 1)


@given(level=st.integers(0, 255), noise=st.binary(min_size=64 * 36, max_size=64 * 36))
@settings(max_examples=50, deadline=None)
def test_pictures_are_the_same_as_themselves_and_black_only_if_dark(level: int, noise: bytes) -> None:
    picture = Picture(bytes([level]) * (128 * 72), noise)
    assert is_same(picture, picture)
    assert is_black(picture) == (level <= 24)
    changed = bytearray(picture.blocks)
    changed[1234] ^= 2
    assert not is_same(picture, Picture(bytes(changed), noise))


async def test_a_recorder_of_a_real_camera_tells_what_is_noticed(
    tmp_path: Path, pack: Callable[..., Path], cameras: Callable[..., Cameras]
) -> None:
    nothing = Footage(picture="color=black:size={size}:rate=25", sound="anullsrc=r={rate}:cl=mono")
    url = cameras({"dead": pack(nothing)}).url("dead")
    what = Plan("session", str(tmp_path), (SourcePlan("cam0", url),), (1,))
    async with recording(what) as it:
        await it.wait(Noticed, when=lambda noticed: noticed.kind is Kind.BLACK)
        await it.wait(Noticed, when=lambda noticed: noticed.kind is Kind.FLAT)
        alive = await it.wait(Alive, when=lambda alive: alive.still != "" and alive.level_db is not None)
        assert alive.level_db == FLOOR_DB
        assert (tmp_path / alive.still).read_bytes().startswith(b"\xff\xd8")
    assert not (tmp_path / alive.still).exists()
    for kind in (Kind.BLACK, Kind.FLAT):
        first, last = (noticed for noticed in it.all(Noticed) if noticed.kind is kind)
        assert (first.start_us, first.end_us) == (last.start_us, None)
        assert last.end_us is not None
        assert last.end_us > last.start_us
    assert {noticed.kind for noticed in it.all(Noticed)} <= {Kind.BLACK, Kind.FLAT, Kind.CLOCK}
