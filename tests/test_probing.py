"""What the content says is found by a locked child, whatever the file is called; damage and crashes are facts."""

from __future__ import annotations

import os
import random
import re
import resource
import struct
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.child import Child, ChildError
from agent.media.probing import DEFAULT_LIMITS, Answer, Limits, probe
from agent.media.structure import damage_of
from agent.model import Facts, Integrity, Measured, Medium
from agent.status.reasons import reason_words
from simulator.exif import with_exif
from tests.media import KINDS, box, facts_of, film, with_position

CHINA = timezone(timedelta(hours=8))
CREATED = "2026-11-20T01:00:00.000000Z"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One recording of four seconds of each kind."""
    folder = tmp_path_factory.mktemp("media")
    stamp = ("-metadata", f"creation_time={CREATED}")
    return {kind: film(folder, kind, options=stamp) for kind in KINDS}


def structure(content: bytes) -> tuple[str, str] | None:
    return damage_of(lambda at, length: content[at : at + length], len(content))


@pytest.mark.parametrize(
    ("kind", "medium", "container", "codecs"),
    [
        ("mp4", Medium.VIDEO, "mov", ["h264", "aac"]),
        ("mov", Medium.VIDEO, "mov", ["h264", "aac"]),
        ("mkv", Medium.VIDEO, "matroska", ["h264", "aac"]),
        ("ts", Medium.VIDEO, "mpegts", ["h264", "aac"]),
        ("avi", Medium.VIDEO, "avi", ["mjpeg", "pcm_s16le"]),
        ("wav", Medium.AUDIO, "wav", ["pcm_s16le"]),
        ("mp3", Medium.AUDIO, "mp3", ["mp3"]),
        ("jpg", Medium.PHOTO, "jpeg_pipe", ["mjpeg"]),
        ("png", Medium.PHOTO, "png_pipe", ["png"]),
    ],
)
async def test_the_content_tells_medium_tracks_and_length_without_a_name(
    kind: str, medium: Medium, container: str, codecs: list[str], made: dict[str, bytes], tmp_path: Path
) -> None:
    facts = await facts_of(made[kind], tmp_path)
    assert (facts.medium, facts.integrity, facts.reason) == (medium, Integrity.COMPLETE, "")
    assert facts.container.split(",")[0] == container
    assert [stream.codec.removesuffix("float") for stream in facts.streams] == codecs
    assert facts.stream_count == len(codecs)
    if medium is Medium.PHOTO:
        assert (facts.duration_ms, facts.measured) == (None, Measured.NOTHING)
    else:
        assert facts.duration_ms == pytest.approx(4000, abs=300)
        assert facts.measured is Measured.PACKETS
    if medium is not Medium.AUDIO:
        assert (facts.streams[0].width, facts.streams[0].height) == (160, 120)
    else:
        assert (facts.streams[0].rate_hz, facts.streams[0].channels) == (8000, 1)


async def test_the_container_s_own_time_is_told_as_it_is_written(made: dict[str, bytes], tmp_path: Path) -> None:
    assert (await facts_of(made["mp4"], tmp_path)).created == CREATED


async def test_exif_time_and_zone_are_told_as_they_are_written(made: dict[str, bytes], tmp_path: Path) -> None:
    taken = datetime(2026, 11, 20, 9, 0, tzinfo=CHINA)
    facts = await facts_of(with_exif(made["jpg"], taken, "DSJ"), tmp_path)
    assert (facts.taken, facts.taken_zone) == ("2026:11:20 09:00:00", "+08:00")
    assert (facts.medium, facts.integrity) == (Medium.PHOTO, Integrity.COMPLETE)


async def test_a_position_leaves_the_original_only_if_that_is_allowed(tmp_path: Path) -> None:
    content = film(tmp_path, "mp4", 1, ("-metadata", "location=+36.65+117.12/", "-movflags", "+use_metadata_tags"))
    assert (await facts_of(content, tmp_path)).gps == ""
    assert (await facts_of(content, tmp_path, gps=True)).gps == "+36.6500+117.1200/"


async def test_a_position_of_a_photo_does_not_either(made: dict[str, bytes], tmp_path: Path) -> None:
    content = with_position(made["jpg"])
    assert (await facts_of(content, tmp_path)).gps == ""
    assert "36:1 , 39:1 , 0:1" in (await facts_of(content, tmp_path, gps=True)).gps


async def test_of_a_large_recording_only_the_tail_is_read_and_that_is_said(tmp_path: Path) -> None:
    """More than a gibibyte: whether its end is there is found by going to it."""
    size = 3 << 29
    rest = size - 44
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", rest + 36, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", rest
    )
    facts = await facts_of(head, tmp_path, size_bytes=size)
    assert (facts.integrity, facts.measured) == (Integrity.COMPLETE, Measured.TAIL)
    assert facts.duration_ms == facts.header_ms == rest // 16
    clip = film(tmp_path, "mp4", 40)
    filler = struct.pack(">I4s", (1 << 30) + 8, b"free")
    facts = await facts_of(clip + filler, tmp_path, size_bytes=len(clip) + (1 << 30) + 8)
    assert (facts.integrity, facts.measured) == (Integrity.COMPLETE, Measured.TAIL)
    assert facts.duration_ms == pytest.approx(40_000, abs=300)


# Damage.


async def test_a_clip_whose_recorder_lost_power_is_cut_off(made: dict[str, bytes], tmp_path: Path) -> None:
    facts = await facts_of(made["mp4"][: len(made["mp4"]) // 2], tmp_path)
    assert facts.integrity is Integrity.TRUNCATED
    assert "mdat" in facts.reason
    assert "moov" in facts.reason
    assert facts.medium is None


async def test_a_clip_with_its_index_in_front_ends_where_its_bytes_end(tmp_path: Path) -> None:
    content = film(tmp_path, "mp4", 8, ("-movflags", "+faststart"))
    facts = await facts_of(content[: len(content) // 2], tmp_path)
    assert (facts.integrity, facts.medium, facts.header_ms) == (Integrity.TRUNCATED, Medium.VIDEO, 8000)
    assert facts.duration_ms is not None
    assert facts.duration_ms < 6000


async def test_packets_that_end_long_before_the_header_says_are_suspect(tmp_path: Path) -> None:
    """The box is closed as if all were there, and what lies in it is not: only reading finds out."""
    content = film(tmp_path, "mkv", 8)
    facts = await facts_of(content[: len(content) // 2], tmp_path)
    assert facts.integrity is Integrity.SUSPECT
    assert facts.medium is Medium.VIDEO
    assert "missing" in facts.reason or "damaged" in facts.reason or facts.reason


async def test_sound_that_is_shorter_than_its_header_says_is_cut_off(made: dict[str, bytes], tmp_path: Path) -> None:
    facts = await facts_of(made["wav"][:-8000], tmp_path)
    assert (facts.integrity, facts.medium) == (Integrity.TRUNCATED, Medium.AUDIO)
    assert "8000 bytes shorter" in facts.reason
    assert facts.duration_ms == pytest.approx(3500, abs=60)


async def test_sound_whose_length_was_never_written_was_interrupted(made: dict[str, bytes], tmp_path: Path) -> None:
    at = made["wav"].index(b"data") + 4
    for size in (bytes(4), b"\xff" * 4):
        facts = await facts_of(made["wav"][:at] + size + made["wav"][at + 4 :], tmp_path)
        assert facts.integrity is Integrity.TRUNCATED
        assert "interrupted" in facts.reason


@pytest.mark.parametrize("kind", ["mp4", "mov", "avi", "wav", "jpg", "png"])
def test_no_cut_goes_unnoticed_where_the_format_writes_lengths(kind: str, made: dict[str, bytes]) -> None:
    """Every possible cut of a file is proved by its structure alone."""
    content = made[kind]
    assert structure(content) is None
    rng = random.Random(kind)
    for length in [16, 64, len(content) - 3, *(rng.randrange(16, len(content) - 3) for _ in range(200))]:
        found = structure(content[:length])
        assert found is not None, f"{kind} cut at {length} of {len(content)}"
        assert not re.search("[a-z]{5}", reason_words(found[1])["zh"]), found


def test_padding_behind_the_last_box_is_no_damage(made: dict[str, bytes]) -> None:
    assert structure(made["mp4"] + bytes(4096)) is None
    assert structure(made["mp4"] + box(b"free", bytes(100))) is None


def test_a_large_box_keeps_its_length_behind_its_name(made: dict[str, bytes]) -> None:
    content = made["mp4"]
    at = content.index(b"mdat") - 4
    size = int.from_bytes(content[at : at + 4], "big")
    large = content[:at] + struct.pack(">I4sQ", 1, b"mdat", size + 8) + content[at + 8 :]
    assert structure(large) is None
    assert structure(large[:-5]) is not None


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\0\0\0\x10ftyp", b"RIFF", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
)
def test_the_structure_of_anything_is_judged_and_ends(content: bytes, magic: bytes) -> None:
    structure(magic + content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"text\n" * 500,
        bytes(70_000),
    ],
    ids=["empty", "playlist", "concat", "text", "zeros"],
)
async def test_what_is_no_recording_is_kept_and_said_to_be_none(content: bytes, tmp_path: Path) -> None:
    """A list of other files is not followed."""
    facts = await facts_of(content, tmp_path)
    assert facts.integrity is Integrity.UNREADABLE
    assert facts.medium in (None, Medium.OTHER)
    assert facts.reason


# Hostile content.


def mutations(content: bytes, rng: random.Random) -> bytes:
    """The content with some bytes, lengths and pieces changed."""
    broken = bytearray(content)
    for _ in range(rng.choice([1, 3, 20])):
        at = rng.randrange(len(broken) - 8)
        match rng.randrange(5):
            case 0:
                broken[at] = rng.randrange(256)
            case 1:
                broken[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\0\0\x01"])
            case 2:
                del broken[at : at + rng.randrange(1, 64)]
            case 3:
                broken[at:at] = broken[at : at + rng.randrange(1, 64)]
            case 4:
                broken[at : at + 8] = rng.randbytes(8)
    return bytes(broken)


@pytest.mark.parametrize("kind", ["mp4", "wav", "jpg", "avi", "mkv"])
async def test_mutated_files_never_hurt_the_one_who_asks(kind: str, made: dict[str, bytes], tmp_path: Path) -> None:
    """Whatever the child does with them, the answer is one of facts, in bounds."""
    rng = random.Random(f"probe {kind}")
    head = made[kind][:4096] if kind != "mp4" else b""
    for _ in range(20):
        content = mutations(made[kind], rng)
        if head and rng.random() < 0.5:
            content = mutations(head, rng) + made[kind][4096:]
        facts = await facts_of(content, tmp_path, limits=Limits(stall_s=20, total_s=20, cpu_s=10))
        assert isinstance(facts, Facts)
        assert facts.integrity is Integrity.COMPLETE or facts.reason


async def test_a_picture_of_huge_size_ends_in_bounds(made: dict[str, bytes], tmp_path: Path) -> None:
    at = made["jpg"].index(b"\xff\xc0") + 5
    facts = await facts_of(made["jpg"][:at] + b"\xff\xff\xff\xff" + made["jpg"][at + 4 :], tmp_path)
    assert facts.integrity in (Integrity.UNREADABLE, Integrity.COMPLETE, Integrity.SUSPECT)


async def test_a_table_of_four_billion_samples_ends_in_bounds(made: dict[str, bytes], tmp_path: Path) -> None:
    content = bytearray(made["mp4"])
    for table in (b"stsz", b"stts"):
        at = 0
        while (at := content.find(table, at + 1)) > 0:
            content[at + 8 : at + 16] = b"\0\0\0\x01\xff\xff\xff\xff" if table == b"stsz" else content[at + 8 : at + 16]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    facts = await facts_of(bytes(content), tmp_path, limits=Limits(stall_s=30, total_s=30, cpu_s=10))
    assert facts.integrity is not Integrity.COMPLETE
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, DEFAULT_LIMITS.memory_bytes // 1024)


async def test_a_million_tracks_are_not_listed(made: dict[str, bytes], tmp_path: Path) -> None:
    at = made["mp4"].index(b"moov")
    moov = made["mp4"][at + 4 : at - 4 + int.from_bytes(made["mp4"][at - 4 : at], "big")]
    trak = box(b"trak", box(b"mdia", b""))
    crowded = made["mp4"][: at - 4] + box(b"moov", moov + trak * 1_000_000)
    facts = await facts_of(crowded, tmp_path, limits=Limits(stall_s=40, total_s=40, cpu_s=20))
    assert len(facts.streams) <= 32


async def test_a_child_that_is_out_of_time_is_a_fact(made: dict[str, bytes], tmp_path: Path) -> None:
    facts = await facts_of(made["mp4"], tmp_path, limits=Limits(total_s=0.001))
    assert facts.integrity is Integrity.UNREADABLE
    assert "did not end" in facts.reason


async def test_a_child_without_memory_is_a_fact(made: dict[str, bytes], tmp_path: Path) -> None:
    facts = await facts_of(made["mp4"], tmp_path, limits=Limits(memory_bytes=1 << 20))
    assert facts.integrity is Integrity.UNREADABLE


async def test_a_child_that_dies_is_asked_twice_and_then_it_is_a_fact(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = []
    start = Child.start

    async def dying(module: str, arguments: list[str], **options: int) -> Child:
        started.append(module)
        return await start("agent.media.nothing", arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Child, "start", dying)
    facts = await facts_of(b"x", tmp_path)
    assert started == ["agent.media.reader"] * 2
    assert (facts.integrity, facts.medium) == (Integrity.UNREADABLE, None)
    assert "ended with 1" in facts.reason


async def test_the_child_can_open_nothing_and_the_original_stays_as_it_is(
    made: dict[str, bytes], tmp_path: Path
) -> None:
    """The descriptor is read-only; the rest is proved for the same lock by the tests of the sandbox."""
    path = tmp_path / "original"
    path.write_bytes(made["mp4"])
    path.chmod(0o440)
    fd = os.open(path, os.O_RDONLY)
    before = os.fstat(fd)
    await probe(fd, gps=False)
    after = os.fstat(fd)
    os.close(fd)
    assert (before.st_mtime_ns, before.st_size, path.read_bytes()) == (after.st_mtime_ns, after.st_size, made["mp4"])


# Lines that lie.

ABOUT = {"container": "mov", "header_ms": 1000, "medium": "video", "streams": 1, "created": "", "gps": ""}
NO_ANSWER: list[object] = [
    None,
    [],
    {},
    {"read": "x"},
    {"damage": ["complete", "x"]},
    {"damage": ["unreadable", "x"]},
    ABOUT | {"medium": "film"},
    ABOUT | {"header_ms": True},
    ABOUT | {"header_ms": 1 << 70},
    ABOUT | {"streams": None},
    ABOUT | {"created": 1},
    {"stream": {"kind": "video", "width": "x"}},
    {"packets": {"way": "guess", "count": 1, "span_ms": 1, "broken": "", "signed": ""}},
    {"packets": {"way": "tail", "count": 1, "span_ms": 1, "broken": "", "signed": 7}},
    {"packets": {"way": "tail", "count": "1", "span_ms": 1, "broken": "", "signed": ""}},
    {"packets": {"way": "packets", "count": 1, "span_ms": 1, "broken": "", "signed": ""}},
    {"packets": {"way": "packets", "count": 1, "span_ms": 1, "video": [1, -1], "audio": [0, 0]}},
    {"packets": {"way": "packets", "count": 1, "span_ms": 1, "video": [1], "audio": [0, 0]}},
    {"photo": {"taken": 1, "zone": "", "gps": "", "rotation_deg": 0}},
    {"photo": {"taken": "", "zone": "", "gps": "", "rotation_deg": 0}},
    {"error": None},
]


@pytest.mark.parametrize("line", NO_ANSWER)
def test_a_line_that_can_t_be_an_answer_is_refused(line: object) -> None:
    with pytest.raises(ChildError):
        Answer().feed(line)


def test_nothing_is_taken_behind_the_end_and_only_so_many_tracks() -> None:
    answer = Answer()
    for _ in range(32):
        answer.feed({"stream": {"kind": "video"}})
    with pytest.raises(ChildError):
        answer.feed({"stream": {"kind": "video"}})
    answer.feed({"end": True})
    with pytest.raises(ChildError):
        answer.feed({"read": 1})


def test_texts_of_the_content_are_bounded_and_can_t_steer_a_terminal() -> None:
    answer = Answer()
    answer.feed(ABOUT | {"created": "\x1b[2J\u202e" + "x" * 5000})
    assert answer.facts().created == "?[2J?" + "x" * 95


def test_the_tail_and_the_header_are_told_apart_and_nothing_is_complete_that_was_not_read() -> None:
    def answered(way: str, span_ms: int | None, header_ms: int | None) -> Facts:
        answer = Answer()
        answer.feed(ABOUT | {"header_ms": header_ms})
        counted = {"video": [9, 360_000], "audio": [0, 0]}
        answer.feed({"packets": {"way": way, "count": 9, "span_ms": span_ms, "broken": "", "signed": "", **counted}})
        answer.feed({"end": True})
        return answer.facts()

    whole = answered("tail", 3_600_000, 3_600_000)
    assert (whole.integrity, whole.measured) == (Integrity.COMPLETE, Measured.TAIL)
    short = answered("tail", 1_800_000, 3_600_000)
    assert (short.integrity, short.duration_ms) == (Integrity.SUSPECT, 1_800_000)
    assert "1800.0 s" in short.reason
    partial = answered("partial", 1000, 3_600_000)
    assert (partial.integrity, partial.measured, partial.duration_ms) == (Integrity.SUSPECT, Measured.HEADER, 3_600_000)
    assert answered("packets", 99_500, 100_000).integrity is Integrity.COMPLETE
