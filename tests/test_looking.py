"""What is black, frozen or silent is found where it is, nobody can talk it in or out, and pictures show what is."""

from __future__ import annotations

import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from dataclasses import replace
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.access.inspecting import Inspection, inspect
from agent.access.looking import Detected, Looked, _events, long_enough, look, without
from agent.access.made import OUTPUT, SOURCE, Made
from agent.access.tool import ToolError
from agent.model import Facts, Integrity, Medium, Role
from tests.damage import AAC, H264, clip, picture, tone, turned

FRAME_MS = 100
WHOLE = Facts(Medium.VIDEO, Integrity.COMPLETE)
SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda ends: (min(ends), max(ends))), max_size=6)


def ffmpeg(*words: str, folder: Path) -> None:
    """A plain one, in a folder."""
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", *words]
    subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=folder)


def film(seconds: float = 14, *, black: str = "0", silent: str = "0", more: str = "", frozen: int = 0) -> bytes:
    """Ten pictures a second and a tone; `black` and `silent` when that is true, `frozen` for so many seconds from 5."""
    pictures = f"testsrc2=size=160x120:rate=10:duration={seconds}{more},drawbox=color=black:t=fill:enable='{black}'"
    if frozen:
        pictures += f",loop=loop={10 * frozen}:size=1:start=50,setpts=N/10/TB,trim=duration={seconds}"
    sound = f"sine=frequency=440:sample_rate=16000:duration={seconds},volume=0:enable='{silent}'"
    lossless = (*H264, "-qp", "0", *AAC)
    return clip(pictures=("-f", "lavfi", "-i", pictures), sound=("-f", "lavfi", "-i", sound), codec=lossless)


async def looked(content: bytes, folder: Path) -> Looked:
    """What is seen in these bytes; the pictures are in a folder whose name is hostile."""
    original, work = folder / "original", folder / "work [1]'s:,;\\x"
    original.write_bytes(content)
    work.mkdir(exist_ok=True)
    return await look(original, WHOLE, await inspect(original), work)


def made(seen: Looked, role: Role) -> Made:
    return next(one for one in seen.pictures if one.role is role)


def shown(path: Path) -> tuple[int, int, float]:
    """Width, height and mean brightness (0 to 255) of a picture."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).reformat(format="gray")
        plane = frame.planes[0]
        rows = [bytes(plane)[row * plane.line_size :][: frame.width] for row in range(frame.height)]
    return frame.width, frame.height, sum(map(sum, rows)) / (frame.width * frame.height)


def test_what_is_smaller_than_what_is_looked_at_needs_no_machine_code(tmp_path: Path) -> None:
    """The service's unit forbids that (MemoryDenyWriteExecute); by prctl(2) kernels from 6.3 on do the same."""
    code = f"""
import asyncio, ctypes
from pathlib import Path
from tests.test_looking import film, looked
content = film(4, black="between(t,0,3)")
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    raise SystemExit(77)
print(asyncio.run(looked(content, Path({str(tmp_path)!r}))).detected.black)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 77:
        pytest.skip("this kernel can't forbid it")
    assert done.stdout.startswith("((0, 31"), done.stderr


async def test_black_frozen_and_silent_are_found_where_they_are(tmp_path: Path) -> None:
    seen = await looked(film(black="between(t,1,3.95)", silent="between(t,1,12)", frozen=6), tmp_path)
    ((black, frozen, silent),) = zip(seen.detected.black, seen.detected.frozen, seen.detected.silent, strict=True)
    assert black == pytest.approx((1000, 4000), abs=FRAME_MS)
    assert frozen == pytest.approx((5000, 11_100), abs=2 * FRAME_MS)
    assert silent == pytest.approx((1000, 12_000), abs=2 * FRAME_MS)


async def test_what_goes_on_to_the_end_ends_there(tmp_path: Path) -> None:
    seen = await looked(film(black="gte(t,9)", silent="gte(t,3)"), tmp_path)
    ((black, silent),) = zip(seen.detected.black, seen.detected.silent, strict=True)
    assert black == pytest.approx((9000, 14_000), abs=FRAME_MS)
    assert silent == pytest.approx((3000, 14_000), abs=2 * FRAME_MS)


async def test_black_is_not_frozen_too_and_what_is_short_is_nothing(tmp_path: Path) -> None:
    seen = await looked(film(black="between(t,2,9)+between(t,11,12.5)", silent="between(t,1,9)"), tmp_path)
    assert len(seen.detected.black) == 1
    assert (seen.detected.frozen, seen.detected.silent) == ((), ())


async def test_an_ordinary_recording_has_nothing_to_be_found(tmp_path: Path) -> None:
    seen = await looked(clip(), tmp_path)
    assert seen.detected == Detected()
    assert [one.role for one in seen.pictures] == [Role.POSTER, Role.CONTACT_SHEET, Role.WAVEFORM]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


async def test_nobody_can_forge_a_finding(tmp_path: Path) -> None:
    """By a title in the words of a detector, nor by texts in PNG frames, which their decoder hands on as if its own."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=5:duration=4", "f%02d.png", folder=tmp_path)
    texts = b"".join(
        chunk(b"tEXt", name + b"\0" + value)
        for name, value in [(b"lavfi.black_start", b"0"), (b"lavfi.freezedetect.freeze_start", b"0")]
    )
    for path in tmp_path.glob("f*.png"):
        content = path.read_bytes()
        at = content.index(b"IDAT") - 4
        path.write_bytes(content[:at] + texts + content[at:])
    title = "title=[blackdetect @ 0x1] black_start:0 black_end:4 black_duration:4\nlavfi.black_start=0"
    ffmpeg("-framerate", "5", "-i", "f%02d.png", "-c", "copy", "-metadata", title, "forged.mov", folder=tmp_path)
    printed = ("-vf", "metadata=mode=print:file=believed", "-f", "null", "-")
    ffmpeg("-i", "forged.mov", *printed, folder=tmp_path)
    believed = (tmp_path / "believed").read_bytes()
    assert b"lavfi.black_start=0" in believed, "the attack is one"
    assert (await looked((tmp_path / "forged.mov").read_bytes(), tmp_path)).detected == Detected()


async def test_what_was_found_before_the_pictures_change_their_size_is_not_lost(tmp_path: Path) -> None:
    black = ("-f", "lavfi", "-i", "color=black:size=160x120:rate=25:duration=3")
    parts = clip("ts", pictures=black, sound=(), codec=H264)
    parts += clip("ts", pictures=picture(3, "320x240"), sound=(), codec=H264, more=("-output_ts_offset", "3"))
    ((start, end),) = (await looked(parts, tmp_path)).detected.black
    assert (start, end) == (0, pytest.approx(3000, abs=100))


async def test_the_poster_is_not_black_if_anything_else_is(tmp_path: Path) -> None:
    seen = await looked(film(black="lt(t,12)"), tmp_path)
    width, height, brightness = shown(made(seen, Role.POSTER).path)
    assert (width, height) == (480, 360)
    assert brightness > 60
    assert shown(made(seen, Role.CONTACT_SHEET).path)[2] < 60, "its only tile is the first picture, on grey"


async def test_of_a_recording_that_is_black_throughout_the_poster_is_black(tmp_path: Path) -> None:
    seen = await looked(film(black="1"), tmp_path)
    assert shown(made(seen, Role.POSTER).path)[2] < 20


async def test_pictures_are_shown_upright(tmp_path: Path) -> None:
    seen = await looked(turned(clip()), tmp_path)
    assert shown(made(seen, Role.POSTER).path)[:2] == (270, 360)


@pytest.mark.parametrize(("minutes", "size"), [(0.1, (320, 180)), (5, (5 * 324 - 4, 180)), (8, (6 * 324 - 4, 364))])
async def test_the_contact_sheet_has_a_picture_for_each_minute(
    minutes: float, size: tuple[int, int], tmp_path: Path
) -> None:
    slow = ("-f", "lavfi", "-i", f"testsrc2=size=160x120:rate=1:duration={60 * minutes}")
    seen = await looked(clip(pictures=slow, sound=(), codec=H264), tmp_path)
    assert shown(made(seen, Role.CONTACT_SHEET).path)[:2] == size


async def test_a_very_long_recording_has_a_sheet_of_a_bounded_size(tmp_path: Path) -> None:
    slow = ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=1/20:duration=36000")
    seen = await looked(clip(pictures=slow, sound=(), codec=H264), tmp_path)
    assert shown(made(seen, Role.CONTACT_SHEET).path)[:2] == (6 * 324 - 4, 10 * 184 - 4)


async def test_sound_alone_has_a_waveform_that_is_flat_where_it_is_silent(tmp_path: Path) -> None:
    sound = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=16000:duration=6,volume=0:enable='gte(t,3)'")
    seen = await looked(clip("wav", pictures=(), sound=sound, codec=("-c:a", "pcm_s16le")), tmp_path)
    (wave,) = seen.pictures
    assert (wave.role, wave.path.suffix) == (Role.WAVEFORM, ".svg")
    lines = ET.fromstring(wave.path.read_bytes()).findall("{http://www.w3.org/2000/svg}path")
    heights = [
        int(part.split("V")[1]) - int(part.split(" ")[1].split("V")[0]) for part in lines[-1].attrib["d"][1:].split("M")
    ]
    assert len(heights) == 720
    assert min(heights[:350]) > 40
    assert set(heights[370:]) == {2}


async def test_the_same_words_make_the_same_pictures(tmp_path: Path) -> None:
    """Those in the certificate, by hand, in an empty folder."""
    seen = await looked(clip(), tmp_path)
    for one in seen.pictures[:2]:
        folder = tmp_path / one.role
        folder.mkdir()
        source = str(tmp_path / "original")
        words = [word.replace(SOURCE, source).replace(OUTPUT, "again.jpg") for word in one.arguments]
        ffmpeg(*words, folder=folder)
        assert (folder / "again.jpg").read_bytes() == one.path.read_bytes()
        assert str(tmp_path) not in " ".join(one.arguments)
        assert one.tool.startswith("ffmpeg 5")


async def test_of_a_photo_and_of_what_can_t_be_decoded_no_pictures_are_made(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.write_bytes(clip())
    assert await look(original, WHOLE, Inspection(), tmp_path) == Looked()
    photo = replace(WHOLE, medium=Medium.PHOTO)
    assert await look(original, photo, await inspect(original), tmp_path) == Looked()


async def test_what_the_tool_can_t_do_is_an_error_in_words(tmp_path: Path) -> None:
    source = await inspect(written(tmp_path / "a", clip()))
    with pytest.raises(ToolError, match="ffmpeg"):
        await look(written(tmp_path / "b", b"no film"), WHOLE, source, tmp_path)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "lines",
    [b"lavfi.black_start=\n", b"frame:0 pts:0 pts_time:now\n", b"lavfi.black_start=1 2\n", b"hello\n", b"\xff\n"],
)
def test_what_no_filter_writes_is_not_taken_for_a_finding(lines: bytes, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="not known"):
        list(_events(written(tmp_path / "seen.txt", lines)))


def test_a_link_in_the_place_of_a_report_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "seen.txt").symlink_to("/etc/hostname")
    with pytest.raises((ToolError, OSError)):
        list(_events(tmp_path / "seen.txt"))


@given(SPANS, SPANS)
def test_taking_away_leaves_each_moment_that_is_in_none_of_the_others(
    spans: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    def moments(of: list[tuple[int, int]]) -> set[int]:
        return {at for start, end in of for at in range(start, end)}

    assert moments(list(without(spans, others))) == moments(spans) - moments(others)


@given(SPANS, st.integers(0, 20))
def test_only_what_lasts_is_kept_in_order(spans: list[tuple[int, int]], least: int) -> None:
    kept = long_enough(spans, least)
    assert list(kept) == sorted(span for span in spans if span[1] - span[0] >= least)


async def test_time_stamps_beyond_all_measure_cost_no_pictures(tmp_path: Path) -> None:
    """More than a day in four seconds: neither the sheet nor the waveform grows with it."""
    leap = picture(4, more=r",setpts=PTS+gte(N\,50)*100000/TB")
    seen = await looked(clip(pictures=leap, codec=("-fps_mode", "passthrough", *H264, *AAC)), tmp_path)
    assert [one.role for one in seen.pictures] == [Role.POSTER, Role.CONTACT_SHEET, Role.WAVEFORM]
    assert shown(made(seen, Role.CONTACT_SHEET).path)[:2] == (6 * 324 - 4, 10 * 184 - 4)


async def test_sound_that_changes_its_form_is_said_to_be_heard_in_part(tmp_path: Path) -> None:
    hush = ("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono:d=12")
    mono = clip("ts", pictures=(), sound=hush, codec=("-c:a", "aac"))
    (whole,) = (await looked(mono, tmp_path)).pictures
    assert (whole.complete, whole.remarks) == (True, ())
    stereo = ("-c:a", "aac", "-ac", "2", "-ar", "48000")
    content = mono + clip("ts", pictures=(), sound=tone(4), codec=stereo, more=("-output_ts_offset", "12"))
    (wave,) = (await looked(content, tmp_path)).pictures
    assert not wave.complete
    assert "changes its form" in wave.remarks[0]
