"""From a recording whose index is lost its pictures are got back bit for bit; whatever else is in it ends in bounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import struct
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.access import salvage as salvage_module
from agent.access.made import Made
from agent.access.nal import FORMS, Units, parameter_sets, photos, pictures
from agent.access.plan import NoCopyError
from agent.access.salvage import salvage
from agent.child import Child, ChildError
from agent.model import Facts, Integrity, Role
from tests.damage import AAC, BFRAMES, H264, H265, MIB, clip, cut, damaged, picture, tone, without_index, zeroed

LOST = Facts(None, Integrity.TRUNCATED, "the index (moov) is missing")
PCM = ("-c:a", "pcm_s16le")
NOISE = ("-f", "lavfi", "-i", "anoisesrc=d=4:a=0.9:r=48000:seed=5")
GRAIN = picture(4, "320x240", ",noise=alls=20:allf=t")
IN_BAND = ("-bsf:v", "dump_extra=freq=keyframe")
HEAD = without_index(clip())[:44]
AVC_SET, AVC_PPS = b"\x67\x42\xc0\x0b\xda\x0a\x11\xf9\x70", b"\x68\xce\x01\x2f"


async def recovered(folder: Path, broken: bytes, reference: bytes | None) -> Made:
    """A recovery copy by the real child and the real ffmpeg; the original must stay as it is."""
    original, other, work = folder / "original", folder / "reference", folder / "work"
    original.write_bytes(broken)
    work.mkdir()
    if reference is not None:
        other.write_bytes(reference)
    made = await salvage(original, LOST, other if reference is not None else None, work)
    assert original.read_bytes() == broken
    assert sorted(path.name for path in work.iterdir()) == [made.path.name]
    return made


def shown(path: Path) -> list[str]:
    """A digest of each decoded picture."""
    words = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-"]
    told = subprocess.run(words, check=True, capture_output=True, timeout=60).stdout.decode()
    return [line.split(",")[-1].strip() for line in told.splitlines() if not line.startswith("#")]


def shown_of(folder: Path, content: bytes) -> list[str]:
    (folder / "whole").write_bytes(content)
    return shown(folder / "whole")


@pytest.mark.parametrize("sound", [AAC, PCM], ids=["aac", "pcm"])
@pytest.mark.parametrize("codec", [H264, BFRAMES, H265], ids=["h264", "b-frames", "h265"])
async def test_all_pictures_come_back_bit_for_bit(codec: Sequence[str], sound: Sequence[str], tmp_path: Path) -> None:
    """The sound between is white noise or AAC; a short whole recording of the same recorder tells how to decode."""
    words = (*codec, *sound)
    whole = clip("mov", pictures=GRAIN, sound=NOISE, codec=words)
    reference = clip("mov", pictures=picture(1, "320x240"), sound=tone(1), codec=words)
    made = await recovered(tmp_path, without_index(whole), reference)
    assert shown(made.path) == shown_of(tmp_path, whole)
    assert (made.role, made.complete, made.arguments) == (Role.RECOVERY_COPY, False, ())
    assert made.counts["pictures"] == made.counts["shown"] == 100
    assert made.counts["rate"] == "25"
    assert "sound" in made.remarks[0]
    assert ", ffmpeg " in made.tool


@pytest.mark.parametrize("codec", [H264, BFRAMES, H265], ids=["h264", "b-frames", "h265"])
async def test_a_recorder_that_writes_its_parameter_sets_among_the_pictures_needs_no_other_recording(
    codec: Sequence[str], tmp_path: Path
) -> None:
    whole = clip(codec=(*codec, *AAC, *IN_BAND))
    made = await recovered(tmp_path, without_index(whole), None)
    assert shown(made.path) == shown_of(tmp_path, whole)
    assert made.counts["with_reference"] is False


@pytest.mark.parametrize("codec", [H264, BFRAMES, H265], ids=["h264", "b-frames", "h265"])
async def test_up_to_a_cut_nothing_is_lost_but_the_last_picture(codec: Sequence[str], tmp_path: Path) -> None:
    whole = clip(codec=(*codec, *AAC))
    made = await recovered(tmp_path, cut(without_index(whole), 0.7), clip(pictures=picture(1), codec=(*codec, *AAC)))
    before, after = shown_of(tmp_path, whole), shown(made.path)
    assert len(after) == made.counts["pictures"]
    assert sum((Counter(before) & Counter(after)).values()) >= 0.99 * len(after)
    assert after[:-5] == before[: len(after) - 5]


async def test_what_lies_behind_a_hole_and_before_a_reserve_of_zeros_is_found(tmp_path: Path) -> None:
    whole = clip()
    broken = without_index(whole)
    broken = zeroed(broken, len(broken) // 2, 10_000) + bytes(64 * MIB)
    made = await recovered(tmp_path, broken, clip(pictures=picture(1)))
    before, after = Counter(shown_of(tmp_path, whole)), Counter(shown(made.path))
    assert sum((before & after).values()) > 100, "what leans on a lost picture looks different"
    assert 130 < len(list(after.elements())) < 150


async def test_motion_jpeg_comes_back_without_another_recording(tmp_path: Path) -> None:
    whole = clip("mov", codec=("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", *PCM))
    made = await recovered(tmp_path, without_index(whole), None)
    assert shown(made.path) == shown_of(tmp_path, whole)
    assert "25 are assumed" in made.remarks[1]


async def test_without_what_the_pictures_are_decoded_by_there_is_no_copy(tmp_path: Path) -> None:
    with pytest.raises(NoCopyError, match="by themselves or by another recording"):
        await recovered(tmp_path, without_index(clip(codec=(*BFRAMES, *AAC))), None)


async def test_an_original_that_ffmpeg_can_read_needs_none(tmp_path: Path) -> None:
    with pytest.raises(NoCopyError, match="ffmpeg itself"):
        await salvage(tmp_path / "x", Facts(None, Integrity.TRUNCATED, container="mov"), None, tmp_path)


async def test_it_waits_while_a_recorder_is_read(tmp_path: Path) -> None:
    content = clip(pictures=("-f", "lavfi", "-i", "testsrc2=size=32x32:rate=100:duration=6"), sound=(), codec=H264)
    (tmp_path / "original").write_bytes(without_index(content))
    (tmp_path / "reference").write_bytes(content)
    asked = []

    def is_busy() -> bool:
        asked.append(1)
        return len(asked) == 1

    made = await salvage(tmp_path / "original", LOST, tmp_path / "reference", tmp_path, is_busy=is_busy)
    assert made.counts["pictures"] == 600
    assert len(asked) >= 2


# Hostile media.

HOSTILE = {
    "random": HEAD + random.Random("mdat").randbytes(2 * MIB),
    "zeros": HEAD + bytes(50 * MIB),
    "overflow": HEAD + b"\xff\xff\xff\xff\x65\x88\x7f\xff\xff\xff\x41\x9a" * 50_000,
    "nested": HEAD + b"\x00\x3f\xff\xff\x65\x88\x84" * 100_000,
    "slices": HEAD + b"\0\0\0\x06\x65\x88\x84\x01\x01\x01" * 50_000,
    "sets": HEAD + b"\0\0\0\x04\x67\x88\x84\x01" * 50_000,
    "start codes": HEAD + b"\0\0\0\1\x65" * 50_000,
    "photos": HEAD + b"\xff\xd8\xff\xd9" * 50_000,
    "no box": random.Random("no box").randbytes(50_000),
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("with_reference", [True, False])
async def test_hostile_media_end_in_bounds(name: str, with_reference: bool, tmp_path: Path) -> None:
    with pytest.raises(NoCopyError):
        await recovered(tmp_path, HOSTILE[name], clip() if with_reference else None)


@pytest.mark.parametrize("reference", [b"", b"no film" * 999, HOSTILE["random"]])
async def test_a_reference_that_is_none_is_said(reference: bytes, tmp_path: Path) -> None:
    with pytest.raises(NoCopyError, match="can't be read"):
        await recovered(tmp_path, without_index(clip()), reference)


async def test_the_time_of_its_processor_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A thousand pictures of 35 million points each."""
    monkeypatch.setattr(salvage_module, "CPU_S", 1)
    monkeypatch.setattr(salvage_module, "CPU_S_PER_MIB", 0)
    content = damaged(tmp_path, "slow").read_bytes()
    with pytest.raises(NoCopyError, match="the child that looks for pictures"):
        await recovered(tmp_path, without_index(content), content)


COUNTS = {"codec": "h264", "rate": "25", "width": 9, "height": 9, "pictures": 1, "shown": 1, "used_bytes": 1}


@pytest.mark.parametrize(
    "line", [None, {}, {"at": "x"}, {"codec": "x", "rate": ""}, COUNTS, {**COUNTS, "skipped_bytes": -1}]
)
async def test_a_child_that_lies_makes_no_copy(line: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def lying(self: Child) -> object:
        return line

    monkeypatch.setattr(Child, "line", lying)
    with pytest.raises(NoCopyError, match="reported"):
        await recovered(tmp_path, without_index(clip()), None)


async def test_cancelled_it_leaves_no_child(tmp_path: Path) -> None:
    task = asyncio.create_task(recovered(tmp_path, HOSTILE["random"], clip()))
    while not (tmp_path / "work" / "found.part").exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# The form of the pictures.


@given(st.binary(max_size=2000), st.sampled_from(FORMS), st.booleans())
def test_any_bytes_have_units_in_order_and_in_bounds(content: bytes, form: object, zeros: bool) -> None:
    if zeros:  # lengths are small then, so that some are believed
        content = bytes(byte if n % 7 > 2 else 0 for n, byte in enumerate(content))
    units = Units(lambda at, n: content[at : at + n], form, 0, len(content), {0})  # type: ignore[arg-type]
    before = 0
    for picture_units in pictures(units):
        for unit in picture_units:
            assert before + 4 <= unit.at < unit.end <= len(content)
            before = unit.end
    assert all(one.end <= len(content) for (one,) in photos(lambda at, n: content[at : at + n], 0, len(content)))


@given(st.binary(max_size=200))
def test_any_decoder_configuration_is_read_or_refused(content: bytes) -> None:
    for front in (b"", b"\1\x42\xc0\x0b\xff\xe1", b"\1" + bytes(20) + b"\3"):
        with contextlib.suppress(ValueError):
            assert all(len(one) <= 200 for one in parameter_sets(front + content))


def test_a_decoder_configuration_has_its_parameter_sets() -> None:
    head = b"\1\x42\xc0\x0b\xff\xe1"
    packed = [struct.pack(">H", len(one)) + one for one in (AVC_SET, AVC_PPS)]
    assert parameter_sets(head + packed[0] + b"\1" + packed[1]) == [AVC_SET, AVC_PPS]
    with pytest.raises(ValueError, match="four bytes"):
        parameter_sets(b"\1\x42\xc0\x0b\xfd\xe1" + packed[0] + b"\1" + packed[1])
    with pytest.raises(ValueError, match="cut off"):
        parameter_sets(head + bytes([255]) * 30)


def test_descriptors_are_closed_where_a_file_can_t_be_opened(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(NoCopyError, match="can't be opened"):
        asyncio.run(salvage(tmp_path / "none", LOST, None, tmp_path))
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert issubclass(ChildError, Exception)
