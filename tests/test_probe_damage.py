"""Of each file of the list of bad input the probe finds what is so, in bounds, and opens nothing else for it."""

from __future__ import annotations

import os
import re
import resource
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.media.coded import is_void, missing_bytes, signer
from agent.media.probing import DEFAULT_LIMITS, Limits, probe
from agent.media.structure import damage_of, turns
from agent.model import Facts, Integrity, Measured
from agent.status.reasons import reason_words
from tests.damage import (
    AAC,
    CASES,
    FOLLOWERS,
    FRONT,
    H264,
    H265,
    MIB,
    clip,
    damaged,
    joined,
    listener,
    noisy,
    picture,
    png,
    secret,
    signed,
    turned,
    zeroed,
)
from tests.media import box, facts_of

AXIS = bytes.fromhex("5369676e656420566964656f2e2e2e30")
ONVIF = bytes.fromhex("005bc93f2d715e95ada4796f90877a6f")
REASONS = {
    "half": r"the file ends inside its mdat box, \d+ bytes too early",
    "half-index-behind": r"mdat box, \d+ bytes too early; the index \(moov\) is missing",
    "gop-edge": "inside its mdat box",
    "no-moov": r"the index \(moov\) is missing",
    "hole": "their bytes are zero",
    "zero-tail": "their bytes are zero",
    "avi-no-index": r"the index \(idx1\) is missing",
    "wav-no-length": "recording was interrupted",
    "mp3-half": r"inside its last frame, \d+ bytes too early",
    "aac-half": r"inside its last frame, \d+ bytes too early",
    "ts-half": "inside a packet of its transport stream, 111 bytes too early",
    "mkv-half": "that its header tells of are missing",
    "mov-alias": "neither picture nor sound",
}


async def facts_at(path: Path, limits: Limits = DEFAULT_LIMITS) -> Facts:
    fd = os.open(path, os.O_RDONLY)
    try:
        return await probe(fd, gps=False, limits=limits)
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", CASES)
async def test_every_file_of_the_list_is_judged_and_its_reader_lives(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    facts = await facts_at(damaged(tmp_path, name))
    assert (facts.integrity, facts.medium) == (case.integrity, case.medium), facts.reason
    assert "the reader of its content" not in facts.reason, "the child died"
    assert re.search(REASONS.get(name, ""), facts.reason)
    if facts.integrity in (Integrity.TRUNCATED, Integrity.SUSPECT):
        assert not re.search("[a-z]{5}", reason_words(facts.reason)["zh"]), facts.reason
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < DEFAULT_LIMITS.memory_bytes // 1024


@pytest.mark.parametrize("name", FOLLOWERS)
async def test_no_file_makes_its_reader_open_another_one_or_an_address(name: str, tmp_path: Path) -> None:
    """The listener would answer and the other file is a good recording: neither is asked for."""
    with listener() as server:
        for target in (str(secret(tmp_path)), f"file:{secret(tmp_path)}", secret(tmp_path).name, server.url):
            path = tmp_path / f"asks.{CASES[name].suffix}"
            path.write_bytes(FOLLOWERS[name](target))
            facts = await facts_at(path)
            assert 176 not in [stream.width for stream in facts.streams]
            if CASES[name].integrity is Integrity.UNREADABLE:
                assert (facts.integrity, facts.streams) == (Integrity.UNREADABLE, ())
        assert server.asked == []


# Facts that the tracks tell.


@pytest.mark.parametrize(
    ("name", "pixels", "profile"),
    [
        ("b-frames", "yuv420p", "High"),
        ("h265", "yuv420p", "Main"),
        ("ten-bit", "yuv420p10le", "High 10"),
        ("odd", "yuv444p", "High 4:4:4 Predictive"),
        ("mjpeg-avi", "yuvj420p", "Baseline"),
        ("heic", "yuv420p", "Main"),
    ],
)
async def test_the_form_of_the_pictures_is_told(name: str, pixels: str, profile: str, tmp_path: Path) -> None:
    stream = (await facts_at(damaged(tmp_path, name))).streams[0]
    assert (stream.pixels, stream.profile, stream.rotation_deg) == (pixels, profile, 0)


@pytest.mark.parametrize(("matrix", "degrees"), [((0, 1, -1, 0), 90), ((-1, 0, 0, -1), 180), ((0, -1, 1, 0), 270)])
async def test_how_far_the_picture_is_to_be_turned_is_told(
    matrix: tuple[int, int, int, int], degrees: int, tmp_path: Path
) -> None:
    content = turned(clip())
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    content = content[:at] + struct.pack(">5i", a, b, 0, c, d) + content[at + 20 :]
    facts = await facts_of(content, tmp_path)
    assert [stream.rotation_deg for stream in facts.streams] == [degrees, 0]


async def test_a_photo_of_a_camera_held_upright_is_to_be_turned(tmp_path: Path) -> None:
    """EXIF orientation 6: the camera was turned to the left, so the picture is shown turned to the right."""
    body = b"Exif\0\0" + struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0)
    photo = damaged(tmp_path, "photo").read_bytes()
    facts = await facts_of(photo[:2] + struct.pack(">HH", 0xFFE1, 2 + len(body)) + body + photo[2:], tmp_path)
    assert (facts.integrity, facts.streams[0].rotation_deg) == (Integrity.COMPLETE, 90)


# Signed by the camera.


@pytest.mark.parametrize(("scheme", "uuid"), [("axis", AXIS), ("onvif", ONVIF)])
@pytest.mark.parametrize("kind", ["mp4", "ts", "mkv", "h265"])
async def test_a_recording_that_its_camera_signed_is_marked(
    kind: str, scheme: str, uuid: bytes, tmp_path: Path
) -> None:
    plain = clip("ts", codec=(*H265[:-2], *AAC)) if kind == "h265" else clip(kind)
    assert (await facts_of(plain, tmp_path)).signed_stream == ""
    assert (await facts_of(signed(plain, uuid), tmp_path)).signed_stream == scheme


def test_the_mark_is_only_one_in_its_message_and_near_the_beginning() -> None:
    message = b"\0\0\1\x06\x05\xff\xff\x20" + AXIS
    assert signer(memoryview(message)) == "axis"
    assert signer(memoryview(b"\0\0\1\x06\x04\x20" + AXIS)) == "", "another type of message"
    assert signer(memoryview(bytes(5000) + message)) == ""
    assert signer(memoryview(b"\x05\xff" * 1_000_000)) == ""


# What packets tell.


async def test_zeros_of_a_picture_are_found_wherever_they_are_and_zeros_of_sound_are_silence(tmp_path: Path) -> None:
    content = noisy()
    for share in (0.2, 0.9):
        facts = await facts_of(zeroed(content, int(len(content) * share), 200_000), tmp_path)
        assert (facts.integrity, facts.reason) == (Integrity.SUSPECT, "pictures are lost: their bytes are zero")
    silent = ("-f", "lavfi", "-i", "anullsrc=channel_layout=mono:sample_rate=16000:duration=2")
    for kind, codec in (("wav", ("-c:a", "pcm_s16le")), ("mov", (*H264, "-c:a", "pcm_s16le")), ("mp4", (*H264, *AAC))):
        pictures = () if kind == "wav" else picture(2)
        facts = await facts_of(clip(kind, pictures=pictures, sound=silent, codec=codec), tmp_path)
        assert facts.integrity is Integrity.COMPLETE, facts.reason


@pytest.mark.parametrize("name", ["mp3", "aac", "amr"])
async def test_a_cut_within_a_frame_of_sound_is_proved(name: str, tmp_path: Path) -> None:
    content = damaged(tmp_path, name).read_bytes()
    cuts = [await facts_of(content[: len(content) * share // 100], tmp_path) for share in (30, 45, 61, 77, 90)]
    assert [facts.integrity for facts in cuts].count(Integrity.TRUNCATED) >= 4, "one may be an edge of frames"
    assert (await facts_of(content, tmp_path)).integrity is Integrity.COMPLETE


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000])
async def test_mp3_and_adts_of_every_rate_end_where_they_say(rate: int, tmp_path: Path) -> None:
    for kind, quality in (("mp3", ("-b:a", "40k")), ("mp3", ("-q:a", "4")), ("aac", ("-c:a", "aac"))):
        content = clip(kind, pictures=(), codec=("-ar", str(rate), *quality))
        assert (await facts_of(content, tmp_path)).reason == ""
        facts = await facts_of(content[:-9], tmp_path)
        assert facts.integrity in (Integrity.TRUNCATED, Integrity.SUSPECT), "too little may be left for a frame"


def test_a_transport_stream_cut_within_a_packet_is_cut_off() -> None:
    content = joined(0)
    for length in (188 * 5 + 1, 188 * 100 + 187, len(content) - 1):
        found = damage_of(lambda at, n, end=length: content[at : min(at + n, end)], length)  # type: ignore[misc]
        assert found is not None
        assert found[0] == "truncated"
    assert damage_of(lambda at, n: content[at : at + n], len(content)) is None
    padded = content + bytes(100)
    assert damage_of(lambda at, n: padded[at : at + n], len(padded)) is None, "what is behind it is no packet"


@given(st.binary(max_size=80), st.sampled_from(["aac", "mp3", "amr", "mov"]))
def test_any_bytes_are_judged(packet: bytes, container: str) -> None:
    view = memoryview(packet)
    assert 0 <= missing_bytes(container, view) < 1 << 13
    assert is_void(view) == (len(packet) >= 32 and packet[:32] == bytes(32))
    assert signer(view) == ""


@given(st.lists(st.tuples(st.sampled_from([b"trak", b"tkhd", b"mdia", b"moov"]), st.binary(max_size=120)), max_size=8))
def test_any_boxes_have_turns_in_bounds(parts: list[tuple[bytes, bytes]]) -> None:
    inner = b"".join(box(b"trak", box(name, body)) + box(name, body) for name, body in parts)
    content = box(b"moov", inner + inner[:-3])
    assert all(0 <= degrees < 360 for degrees in turns(lambda at, n: content[at : at + n], len(content)).values())


# What takes its reader too long or too much.


async def test_a_picture_that_takes_its_decoder_long_is_given_up_at_the_limit(tmp_path: Path) -> None:
    """A file of 690 kB that is 675 MB of points."""
    content = png(15_000, depth=8, colours=3)
    assert len(content) < MIB
    facts = await facts_of(content, tmp_path, limits=Limits(cpu_s=1))
    assert facts.integrity is Integrity.UNREADABLE
    assert "the reader of its content ended with -" in facts.reason
    facts = await facts_of(content, tmp_path, limits=Limits(memory_bytes=512 * MIB))
    assert facts.integrity is Integrity.UNREADABLE
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < DEFAULT_LIMITS.memory_bytes // 1024


async def test_a_clip_that_would_be_demuxed_for_minutes_is_read_as_far_as_the_limit(tmp_path: Path) -> None:
    """Its index tells of three million pictures of one byte each."""
    content = clip(sound=(), codec=H264, more=FRONT)
    counts = {b"stsz": (1, 3_000_000), b"stts": (1, 3_000_000), b"stsc": (1, 1)}
    for name, values in counts.items():
        at = content.index(name) + 8
        content = content[:at] + struct.pack(">II", *values) + content[at + 8 :]
    at = content.index(b"stsc") + 12
    content = content[:at] + struct.pack(">III", 1, 3_000_000, 1) + content[at + 12 :]
    facts = await facts_of(content, tmp_path, limits=Limits(cpu_s=2))
    assert facts.integrity is Integrity.SUSPECT
    assert facts.measured in (Measured.HEADER, Measured.PARTIAL)
