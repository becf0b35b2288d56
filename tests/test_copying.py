"""Access copies: whole where the original is whole, told as incomplete where not, the same bytes each time."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.access import copying, encoders
from agent.access.copying import make_copy
from agent.access.encoders import SOFTWARE, Way, proven
from agent.access.inspecting import Bounds, Inspection, inspect
from agent.access.made import OUTPUT, SOURCE, Made
from agent.access.plan import NoCopyError, plans
from agent.access.tool import Ran, ToolError, run
from agent.config import AccessCopies, Encoder, Overlay
from agent.media.probing import probe
from agent.model import Facts, Integrity, Medium, Role
from tests.damage import CASES, H264, clip, damaged, jpeg, picture, tone

QUICK = Bounds(decode_s=30, cpu_s=60)
PLAIN = AccessCopies()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


async def known(path: Path) -> tuple[Facts, Inspection]:
    """What is known of an original before a copy is made."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return await probe(fd, gps=False), await inspect(path, bounds=QUICK)
    finally:
        os.close(fd)


async def copied(path: Path, folder: Path, settings: AccessCopies = PLAIN, encoder: str = SOFTWARE) -> Made:
    return await make_copy(path, *await known(path), folder, settings, encoder)


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder.parent / name
    path.write_bytes(content)
    return path


def told(made: Made, kind: str = "video") -> dict[str, Any]:
    """What was counted in the copy's first track of a kind."""
    tracks: Any = made.counts["copy"]
    track: dict[str, Any] = next(track for track in tracks if track["kind"] == kind)
    return track


# Name of the case: how its copy is made, and whether it is complete; None where there can be none.
COPIES: Mapping[str, tuple[str, bool] | None] = {
    "whole": ("remux", True), "front": ("remux", True), "half": ("encoded", False), "half-index-behind": None,
    "gop-edge": ("remux", False), "hole": ("encoded", False), "zero-tail": ("encoded", False), "no-moov": None,
    "preallocated": None, "empty": None, "one-byte": None, "text": None, "random": None, "large": ("remux", True),
    "vfr": ("remux", True), "rotated": ("remux", True), "b-frames": ("remux", True), "h265": ("encoded", True),
    "mjpeg-avi": ("encoded", True), "avi-no-index": ("encoded", False), "avi-half": ("encoded", False),
    "wav": ("sound encoded", True), "wav-too-long": ("sound encoded", False), "wav-no-length": ("sound encoded", False),
    "amr": ("sound encoded", True), "odd": ("encoded", True), "ten-bit": ("encoded", True), "no-audio": ("remux", True),
    "audio-only": ("sound", True), "mp3": ("sound", True), "mp3-half": ("sound", False), "aac": ("sound", True),
    "aac-half": ("sound encoded", False), "photo": ("photo", True), "photo-half": ("photo", False),
    "bad-exif": ("photo", True), "png-bomb": None, "png-large": ("photo", True), "jpeg-bomb": None, "heic": None,
    "heic-half": None, "insane": ("encoded", False), "jump-forward": ("remux", True), "ts": ("remux", True),
    "ts-jump-forward": ("encoded", False), "ts-jump-back": ("encoded", False), "ts-half": ("encoded", False),
    "fmp4": ("remux", True), "fmp4-half": ("encoded", False), "mkv": ("remux", True), "mkv-half": ("remux", False),
    "unknown-codec": ("sound", False),
    "m3u8": None, "m3u8-as-mp4": None, "ffconcat": None, "mpd": None, "mov-alias": None, "mp4-url": ("remux", True),
}  # fmt: skip


@pytest.mark.parametrize("name", COPIES)
async def test_every_kind_of_original_has_the_copy_that_is_possible(name: str, files: Path, folder: Path) -> None:
    original, expected = damaged(files, name), COPIES[name]
    before = original.stat()
    facts, source = await known(original)
    if expected is None:
        with pytest.raises(NoCopyError, match=r"."):
            await make_copy(original, facts, source, folder, PLAIN)
        assert list(folder.iterdir()) == []
        return
    made = await make_copy(original, facts, source, folder, PLAIN)
    assert (made.counts["how"], made.complete) == expected, made.remarks
    assert (made.role, list(folder.iterdir())) == (Role.ACCESS_COPY, [made.path])
    assert made.complete or made.remarks
    assert (original.stat().st_mtime_ns, original.stat().st_size) == (before.st_mtime_ns, before.st_size)
    check(made, facts, source, await inspect(made.path, bounds=QUICK))


def check(made: Made, facts: Facts, source: Inspection, copy: Inspection) -> None:
    """A copy is read to its end, has every picture that the original gives, and begins like it."""
    assert (copy.ended, [track.bad for track in copy.tracks if track.bad]) == (True, [])
    for kind in ("video", "audio"):
        own, track = source.of(kind), copy.of(kind)
        assert (own is None or not own.frames) == (track is None)
        if own is None or track is None:
            continue
        if kind == "video":
            assert track.frames == own.frames
        if not own.bad and not own.jumped:
            assert abs((own.span_ms or 0) - (track.span_ms or 0)) < 200
    if source.offset_ms is not None and not source.jumped:
        assert copy.offset_ms is not None
        assert abs(copy.offset_ms - source.offset_ms) <= 40
    assert facts.medium is not Medium.AUDIO or made.path.suffix == ".m4a"
    assert all(SOURCE in " ".join(made.arguments) and word in " ".join(made.arguments) for word in (OUTPUT, "bitexact"))


def test_all_cases_are_copied_but_one_that_takes_minutes() -> None:
    assert set(CASES) - set(COPIES) == {"slow"}


@pytest.mark.parametrize("name", ["whole", "h265", "wav", "photo", "hole", "mjpeg-avi"])
async def test_the_same_arguments_give_the_same_bytes(name: str, files: Path, folder: Path) -> None:
    original = damaged(files, name)
    made = await copied(original, folder)
    again = folder / f"again{made.path.suffix}"
    words = [word.replace(SOURCE, str(original)).replace(OUTPUT, str(again)) for word in made.arguments]
    await run(words, reads=original, folder=folder)
    assert made.repeatable
    assert again.read_bytes() == made.path.read_bytes()


async def test_a_copy_tells_nothing_of_place_and_time(folder: Path) -> None:
    """What a container says of itself may be private, and it isn't needed to look at a picture."""
    tags = ("-metadata", "location=+36.65+117.12/", "-metadata", "creation_time=2026-11-23T01:00:00Z")
    made = await copied(written(folder, "a.mp4", clip(more=tags)), folder)
    assert b"+36.65" not in made.path.read_bytes()
    assert b"moov" in made.path.read_bytes()[:200]  # it can be played while it is still being loaded


async def test_sound_that_no_browser_plays_is_encoded_and_the_pictures_are_kept(folder: Path) -> None:
    original = written(folder, "a.mov", clip("mov", codec=(*H264, "-c:a", "pcm_alaw", "-ar", "8000")))
    made = await copied(original, folder)
    assert (made.counts["how"], made.complete) == ("pictures kept", True)
    assert (told(made, "audio")["codec"], told(made)["frames"]) == ("aac", 150)


async def test_a_large_picture_is_made_small_and_turned_upright(folder: Path) -> None:
    turned = oriented(clip("jpg", pictures=picture(size="640x320"), sound=(), codec=("-frames:v", "1")), 6)
    made = await copied(written(folder, "a.jpg", turned), folder, AccessCopies(photo_px_max=256))
    facts, _ = await known(made.path)
    assert (facts.streams[0].width, facts.streams[0].height, facts.streams[0].rotation_deg) == (128, 256, 0)
    assert b"Exif" not in made.path.read_bytes()


def oriented(photo: bytes, orientation: int) -> bytes:
    """The photo with an EXIF segment that says how the camera was held."""
    entry = struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + struct.pack("<2sHI", b"II", 42, 8) + entry
    return photo[:2] + struct.pack(">HH", 0xFFE1, 2 + len(body)) + body + photo[2:]


@pytest.mark.parametrize(
    ("name", "expected"), [("odd", (160, 120)), ("rotated", (120, 160)), ("h265", (160, 120)), ("ten-bit", (160, 120))]
)
async def test_an_encoded_picture_is_upright_has_even_sides_and_plain_colours(
    name: str, expected: tuple[int, int], files: Path, folder: Path
) -> None:
    made = await copied(damaged(files, name), folder, AccessCopies(overlay=Overlay.TIME))
    facts, _ = await known(made.path)
    stream = facts.streams[0]
    assert (stream.codec, stream.pixels, stream.profile) == ("h264", "yuv420p", "High")
    assert (stream.width, stream.height) == expected


async def test_a_high_picture_is_scaled(folder: Path) -> None:
    high = clip(pictures=picture(1, "360x482"), sound=(), codec=("-c:v", "mjpeg"), kind="avi")
    made = await copied(written(folder, "a.avi", high), folder, AccessCopies(height_px_max=145))
    facts, _ = await known(made.path)
    assert (facts.streams[0].width, facts.streams[0].height) == (108, 144)


@pytest.mark.parametrize("overlay", [Overlay.TIME, Overlay.NOTICE])
async def test_what_is_written_into_the_pictures_changes_them_and_nothing_else(
    overlay: Overlay, files: Path, folder: Path
) -> None:
    settings = AccessCopies(overlay=overlay, notice='查阅副本: 100% it\'s "x" \\ [a],b;c{d}%{pts}')
    made = await copied(damaged(files, "whole"), folder, settings)
    assert (made.counts["how"], made.complete, made.remarks) == ("encoded", True, ())
    assert told(made)["frames"] == 150


async def test_without_a_font_the_copy_is_made_and_says_so(files: Path) -> None:
    facts, source = await known(damaged(files, "whole"))
    (plan,) = plans(facts, source, AccessCopies(overlay=Overlay.NOTICE), fonts=("/nowhere.ttc",))
    assert "drawtext" not in " ".join(plan.words)
    assert plan.remarks == ("nothing is written into the pictures, for want of a font (fonts-noto-cjk)",)


async def test_a_hostile_name_is_a_name(files: Path, folder: Path) -> None:
    for name in ("concat:a|b.mp4", "-i.mp4", "%03d [*?].jpg", "http:x.mp4"):
        content = jpeg() if name.endswith("jpg") else damaged(files, "whole").read_bytes()
        made = await copied(written(folder, name, content), folder)
        assert made.complete
        made.path.unlink()


async def test_half_a_film_behind_exit_code_0_is_caught(files: Path, folder: Path) -> None:
    """ffmpeg copies what is left of a cut file and ends with 0: whoever believes that has lost the other half."""
    facts, source = await known(damaged(files, "front"))
    made = await make_copy(damaged(files, "half"), facts, source, folder, PLAIN)
    assert not made.complete
    assert "75 of 150 pictures are in the copy" in made.remarks
    assert any("6000 ms of video" in remark for remark in made.remarks)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
async def test_a_tool_that_lies_makes_no_complete_copy(
    share: float, files: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lying(*words: object, folder: Path, **more: object) -> Ran:
        ran = await run(*words, folder=folder, **more)
        for path in folder.iterdir():
            os.truncate(path, int(path.stat().st_size * share))
        return ran

    monkeypatch.setattr(copying, "run", lying)
    try:
        made = await copied(damaged(files, "whole"), folder)
    except NoCopyError:
        assert list(folder.iterdir()) == []
    else:
        assert not made.complete


async def test_a_tool_that_never_works_leaves_nothing(
    files: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_words: object, folder: Path, **_more: object) -> Ran:
        (folder / "access_copy.part").write_bytes(b"half")
        raise ToolError("ffmpeg ended with -11")

    monkeypatch.setattr(copying, "run", failing)
    with pytest.raises(NoCopyError, match="ended with -11"):
        await copied(damaged(files, "whole"), folder)
    assert list(folder.iterdir()) == []


async def test_where_taking_over_fails_it_is_encoded(
    files: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def picky(words: Sequence[str], **more: object) -> Ran:
        if "libx264" not in words:
            raise ToolError("ffmpeg ended with 1: can't write packet with unknown timestamp")
        return await run(words, **more)

    monkeypatch.setattr(copying, "run", picky)
    made = await copied(damaged(files, "whole"), folder)
    assert (made.counts["how"], made.complete) == ("encoded", True)


async def test_a_second_try_after_a_cut_leaves_one_file(files: Path, folder: Path) -> None:
    facts, source = await known(damaged(files, "h265"))
    path = folder / "access_copy.part"
    task = asyncio.create_task(make_copy(damaged(files, "h265"), facts, source, folder, PLAIN))
    async with asyncio.timeout(20):
        while not path.exists():
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    made = await make_copy(damaged(files, "h265"), facts, source, folder, PLAIN)
    assert made.complete
    assert list(folder.iterdir()) == [made.path]


async def test_without_pictures_that_can_be_decoded_there_is_the_sound(files: Path, folder: Path) -> None:
    facts, source = await known(damaged(files, "whole"))
    blind = replace(source, tracks=(replace(source.tracks[0], frames=0, bad=150), source.tracks[1]))
    made = await make_copy(damaged(files, "whole"), facts, blind, folder, PLAIN)
    assert (made.path.suffix, made.complete) == (".m4a", False)
    assert "video track 1 is not in the copy" in made.remarks


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "mov_text"), ("mkv", "srt")])
async def test_what_is_written_below_the_pictures_harms_nothing_and_is_said(
    kind: str, codec: str, tmp_path: Path, folder: Path
) -> None:
    words, path = tmp_path / "words.srt", tmp_path / f"original.{kind}"
    words.write_text("1\n00:00:01,000 --> 00:00:02,000\n31.2304 N 121.4737 E\n")
    maps = ("-map", "0:v", "-map", "1:a", "-map", "2:s", "-c:s", codec)
    path.write_bytes(clip(kind, sound=(*tone(), "-i", str(words)), more=maps))
    facts, source = await known(path)
    assert (facts.integrity, source.ended) == (Integrity.COMPLETE, True)
    made = await make_copy(path, facts, source, folder, PLAIN)
    assert (made.complete, made.remarks) == (True, (f"subtitle ({codec}) is not in the copy",))


async def test_an_original_that_is_not_whole_has_no_whole_copy(files: Path, folder: Path) -> None:
    facts, source = await known(damaged(files, "whole"))
    facts = replace(facts, integrity=Integrity.SUSPECT, reason="the last 3.0 s are missing")
    made = await make_copy(damaged(files, "whole"), facts, source, folder, PLAIN)
    assert (made.complete, made.remarks) == (False, ("the original is suspect: the last 3.0 s are missing",))


async def test_the_bounds_of_the_work_grow_with_the_original_and_have_an_end(files: Path) -> None:
    original = damaged(files, "whole")
    _, source = await known(original)
    bounds = copying._bounds(original, source)
    assert (bounds.total_s, bounds.output_bytes) == (1860.64, 2 * original.stat().st_size + (64 << 20) + 6 * 16_000)
    hostile = replace(source, tracks=(replace(source.tracks[0], span_ms=1 << 53),))
    assert copying._bounds(original, hostile).total_s == 48 * 3600
    assert copying._bounds(original, hostile).output_bytes < 3 << 30


async def test_the_sound_of_a_long_shift_has_room_though_a_voice_recorder_writes_a_tenth_of_it(files: Path) -> None:
    original = damaged(files, "amr")
    _, source = await known(original)
    track, hours = source.tracks[0], 12
    shift = replace(source, tracks=(replace(track, span_ms=hours * 3_600_000),))
    assert copying._bounds(original, shift).output_bytes > hours * 3600 * 64_000 // 8


# Who encodes.


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Device nodes that are there, behind which is nothing."""
    (tmp_path / "dev/dri").mkdir(parents=True)
    for name in ("dri/renderD128", "video11"):
        (tmp_path / "dev" / name).touch()
    monkeypatch.setattr(encoders, "_DEVICES", tmp_path / "dev")
    return tmp_path / "dev"


async def test_hardware_that_does_not_work_is_not_taken(devices: Path, folder: Path) -> None:
    assert all(way.devices() for name, way in encoders.WAYS.items() if name != SOFTWARE)
    assert await proven(Encoder.AUTO, folder) == SOFTWARE
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("encoder", "options", "is_taken"),
    [
        ("libx264rgb", {}, True),  # stands for hardware: it passes the test
        ("libx264rgb", {"frames:v": 10}, False),  # it loses pictures
        ("mpeg4", {}, False),  # what it makes is something else
        ("no_such_encoder", {}, False),
    ],
)
async def test_who_passes_the_test_is_taken_unless_it_is_not_wanted(
    encoder: str, options: dict[str, object], is_taken: bool, devices: Path, folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(encoders, "WAYS", {encoder: Way(options, "video11")})
    assert await proven(Encoder.AUTO, folder) == (encoder if is_taken else SOFTWARE)
    assert await proven(Encoder.SOFTWARE, folder) == SOFTWARE


async def test_without_hardware_nothing_is_tried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "run", None)
    monkeypatch.setattr(encoders, "_DEVICES", folder)
    assert await proven(Encoder.AUTO, folder) == SOFTWARE


@pytest.mark.parametrize("encoder", ["h264_vaapi", "h264_qsv", "h264_v4l2m2m"])
async def test_hardware_that_fails_at_work_is_replaced_by_the_processor(
    encoder: str, devices: Path, files: Path, folder: Path
) -> None:
    made = await copied(damaged(files, "h265"), folder, encoder=encoder)
    assert (made.counts["how"], made.complete, made.repeatable) == ("encoded", True, True)
    assert "libx264" in made.arguments


async def test_what_hardware_makes_is_not_said_to_be_repeatable(
    devices: Path, files: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = replace(encoders.WAYS[SOFTWARE], nodes="video11")
    monkeypatch.setitem(encoders.WAYS, "h264", way)  # type: ignore[arg-type]
    made = await copied(damaged(files, "h265"), folder, encoder="h264")  # ffmpeg takes libx264 for it
    assert (made.complete, made.repeatable) == (True, False)
