"""The made footage is real, and what the made recorders claim about themselves is what others find on them."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import pytsk3
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.card import MBR_VOLUME_OFFSET
from simulator.exif import with_exif
from simulator.footage import PICTURES_PER_S, FootageError, Kind, Take, cut_off, shoot
from simulator.recorders import CHINA, WRITTEN_SHARE, Fate, Original, Recorder, body_camera, site_camera

NOW = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)
SCALE = 0.04
SMALL = {"width": 320, "height": 240}
RECORDER_NAME = re.compile(r"\d{6}_\d{7}_(\d{14})_(\d{4})(IMP)?\.(mp4|wav|jpg)")
FILESYSTEMS = {"fat32": pytsk3.TSK_FS_TYPE_FAT_DETECT, "exfat": pytsk3.TSK_FS_TYPE_EXFAT}


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("footage")


@pytest.fixture(scope="module", params=[body_camera, site_camera])
def recorder(request: pytest.FixtureRequest, footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    build = request.param
    made: Recorder = build(tmp_path_factory.mktemp("card") / "card.img", footage, NOW, SCALE)
    return made


def probe(path: Path) -> dict[str, Any]:
    """Streams by kind, packets counted by reading all of them."""
    command = ["ffprobe", "-v", "error", "-count_packets", "-show_streams", "-of", "json", str(path)]
    streams = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["streams"]
    return {stream["codec_type"]: stream for stream in streams}


def pixels(path: Path) -> bytes:
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "md5", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


# Footage.


def test_a_clip_is_h264_and_aac_of_the_length_that_was_asked_for(footage: Path) -> None:
    take = Take(Kind.VIDEO, 1, 2, **SMALL)
    streams = probe(shoot([take], footage)[take])
    assert streams["video"]["codec_name"] == "h264"
    assert (streams["video"]["width"], streams["video"]["height"]) == (320, 240)
    assert int(streams["video"]["nb_read_packets"]) == 2 * PICTURES_PER_S
    assert streams["audio"]["codec_name"] == "aac"
    assert float(streams["audio"]["duration"]) == pytest.approx(2, abs=0.05)


def test_sound_is_a_wav_and_a_photo_a_jpeg(footage: Path) -> None:
    sound, photo = Take(Kind.SOUND, 2, 1.5), Take(Kind.PHOTO, 3, **SMALL)
    made = shoot([sound, photo], footage)
    assert made[sound].read_bytes()[:4] == b"RIFF"
    assert float(probe(made[sound])["audio"]["duration"]) == pytest.approx(1.5)
    assert probe(made[photo])["video"]["codec_name"] == "mjpeg"


def test_equal_takes_give_equal_bytes_and_another_seed_gives_others(footage: Path, tmp_path: Path) -> None:
    one, other = Take(Kind.VIDEO, 4, 0.2, **SMALL), Take(Kind.VIDEO, 5, 0.2, **SMALL)
    first, again = shoot([one, other], footage), shoot([one], tmp_path)
    assert first[one].read_bytes() == again[one].read_bytes()
    assert first[one].read_bytes() != first[other].read_bytes()


def test_what_is_there_is_not_made_again(footage: Path) -> None:
    take = Take(Kind.PHOTO, 6, **SMALL)
    made = shoot([take], footage)[take]
    before = made.stat()
    assert shoot([take, take], footage)[take].stat() == before


def test_what_ffmpeg_refuses_is_told_in_its_words_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FootageError, match="Invalid argument"):
        shoot([Take(Kind.VIDEO, 7, 1, width=0)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_lost_its_power_has_media_data_but_no_index(footage: Path, tmp_path: Path) -> None:
    take = Take(Kind.VIDEO, 8, 1, **SMALL)
    whole = shoot([take], footage)[take].read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(cut_off(shoot([take], footage)[take], 0.5))
    assert cut.read_bytes() == whole[: len(whole) // 2]
    assert b"mdat" in cut.read_bytes()
    with pytest.raises(subprocess.CalledProcessError) as refused:
        probe(cut)
    assert b"moov atom not found" in refused.value.stderr


# EXIF.


def segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of everything before the scan."""
    at = 2
    while jpeg[at + 1] != 0xDA:
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        yield jpeg[at + 1], jpeg[at + 4 : at + 2 + length]
        at += 2 + length


def tiff_tags(tiff: bytes, offset: int) -> dict[int, bytes]:
    """Raw values of one directory; fails if tags are out of order or a value lies outside."""
    widths = {2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
    (count,) = struct.unpack_from("<H", tiff, offset)
    found: dict[int, bytes] = {}
    for index in range(count):
        tag, kind, items, inline = struct.unpack_from("<HHI4s", tiff, offset + 2 + 12 * index)
        size = widths[kind] * items
        start = struct.unpack("<I", inline)[0] if size > 4 else offset + 2 + 12 * index + 8
        assert start + size <= len(tiff)
        assert start % 2 == 0
        assert tag > max(found, default=0)
        found[tag] = tiff[start : start + size]
    assert struct.unpack_from("<I", tiff, offset + 2 + 12 * count) == (0,)
    return found


def exif(jpeg: bytes) -> dict[int, bytes]:
    marker, body = next(segments(jpeg))
    assert (marker, body[:6], body[6:14]) == (0xE1, b"Exif\0\0", b"II*\0\x08\0\0\0")
    first = tiff_tags(body[6:], 8)
    return first | tiff_tags(body[6:], struct.unpack("<I", first[0x8769])[0])


@given(
    taken=st.datetimes(datetime(1980, 1, 1), datetime(2107, 12, 31)),  # noqa: DTZ001 - the zone comes next
    offset_min=st.integers(-12 * 4, 14 * 4).map(lambda quarters: 15 * quarters),
    camera=st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_exif_says_when_in_which_zone_and_with_what(taken: datetime, offset_min: int, camera: str) -> None:
    zone = timezone(timedelta(minutes=offset_min))
    jpeg = b"\xff\xd8\xff\xe0\0\4ab\xff\xc0\0\x0b\x08\1\2\3\4\1\1\x11\0\xff\xda\0\2\xff\xd9"
    tagged = with_exif(jpeg, taken.replace(tzinfo=zone), camera)
    tags = exif(tagged)
    assert tags[0x9003].rstrip(b"\0").decode() == f"{taken:%Y:%m:%d %H:%M:%S}"
    sign, (hours, minutes) = "-" if offset_min < 0 else "+", divmod(abs(offset_min), 60)
    assert tags[0x9011] == f"{sign}{hours:02}:{minutes:02}\0".encode()
    assert tags[0x0110] == camera.encode() + b"\0"
    assert (tags[0xA002], tags[0xA003]) == (struct.pack("<I", 0x304), struct.pack("<I", 0x102))
    assert tagged.endswith(jpeg[8:])


def test_ffprobe_reads_the_exif_and_the_picture_stays_as_it_was(footage: Path, tmp_path: Path) -> None:
    take = Take(Kind.PHOTO, 9, **SMALL)
    plain = shoot([take], footage)[take]
    tagged = tmp_path / "tagged.jpg"
    tagged.write_bytes(with_exif(plain.read_bytes(), NOW.astimezone(CHINA), "DSJ-H7"))
    command = ["ffprobe", "-v", "error", "-show_frames", "-of", "json", str(tagged)]
    tags = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["frames"][0]["tags"]
    assert tags["DateTimeOriginal"] == "2026:11:23 10:30:00"
    assert (tags["Model"], tags["0x9011"]) == ("DSJ-H7", "+08:00")
    assert [marker for marker, _ in segments(tagged.read_bytes())].count(0xE0) == 0
    assert pixels(tagged) == pixels(plain)


# Recorders.


def tsk_files(recorder: Recorder) -> dict[str, tuple[bool, pytsk3.File]]:
    """Path to (deleted, file) of everything The Sleuth Kit finds, without the names that it makes up."""
    image = pytsk3.Img_Info(str(recorder.image))
    volume = pytsk3.FS_Info(image, offset=MBR_VOLUME_OFFSET, type=FILESYSTEMS[recorder.filesystem])
    found: dict[str, tuple[bool, pytsk3.File]] = {}
    folders = [("", volume.open_dir("/"))]
    while folders:
        path, folder = folders.pop()
        for entry in folder:
            name = entry.info.name.name.decode()
            if name in (".", "..") or name.startswith("$") or name.endswith(" (Volume Label Entry)"):
                continue
            if entry.info.name.type == pytsk3.TSK_FS_NAME_TYPE_DIR:
                folders.append((f"{path}{name}/", entry.as_directory()))
            elif entry.info.name.type == pytsk3.TSK_FS_NAME_TYPE_REG:
                deleted = bool(int(entry.info.name.flags) & pytsk3.TSK_FS_NAME_FLAG_UNALLOC)
                found[path + name] = (deleted, entry)
    return found


def read_all(entry: pytsk3.File) -> bytes:
    size = entry.info.meta.size
    return b"".join(entry.read_random(at, min(1 << 20, size - at)) for at in range(0, size, 1 << 20))


def test_the_sleuth_kit_finds_the_same_live_files_with_the_same_bytes(recorder: Recorder) -> None:
    live = {path: entry for path, (deleted, entry) in tsk_files(recorder).items() if not deleted}
    assert set(live) == {original.path for original in recorder.originals}
    for original in recorder.originals:
        content = read_all(live[original.path])
        assert len(content) == original.size_bytes
        if original.fate is Fate.RESERVED:
            valid = int(len(content) * WRITTEN_SHARE)
            assert content[valid:] != bytes(len(content) - valid), "what was there before is still on the card"
            content = content[:valid].ljust(len(content), b"\0")
        assert hashlib.sha256(content).hexdigest() == original.sha256
        assert blake3(content).hexdigest() == original.blake3


def test_the_sleuth_kit_finds_the_same_deleted_files(recorder: Recorder) -> None:
    assert {path for path, (deleted, _) in tsk_files(recorder).items() if deleted} == set(recorder.deleted)


def test_numbers_are_missing_only_where_the_truth_says_so(recorder: Recorder) -> None:
    paths = [*(original.path for original in recorder.originals), *recorder.deleted]
    numbers = {int(match[2]) for path in paths if (match := RECORDER_NAME.fullmatch(path.rpartition("/")[2]))}
    assert set(range(min(numbers), max(numbers))) - numbers == set(recorder.missing_numbers)


def test_names_are_a_recorders_or_an_officers(recorder: Recorder) -> None:
    for original in recorder.originals:
        name = original.path.rpartition("/")[2]
        assert RECORDER_NAME.fullmatch(name) or name.startswith(("医保稽核_", "2026")), name


def test_nothing_was_recorded_in_the_future(recorder: Recorder) -> None:
    for _, entry in tsk_files(recorder).values():
        modified = datetime.fromtimestamp(entry.info.meta.mtime, UTC).replace(tzinfo=CHINA)
        assert NOW - timedelta(days=2) < modified < NOW


def test_a_clip_marked_important_is_on_the_card_twice(footage: Path, tmp_path: Path) -> None:
    card = body_camera(tmp_path / "card.img", footage, NOW, SCALE)
    copies = {original.path.rpartition("/")[2]: original for original in card.originals}
    marked = next(name for name in copies if "IMP." in name)
    assert copies[marked].blake3 == copies[marked.replace("IMP.", ".")].blake3
    assert len({original.blake3 for original in card.originals}) == len(card.originals) - 1


def test_recorders_hold_every_case_that_the_demo_shows(footage: Path, tmp_path: Path) -> None:
    def fates(originals: tuple[Original, ...]) -> set[Fate]:
        return {original.fate for original in originals}

    body = body_camera(tmp_path / "body.img", footage, NOW, SCALE)
    site = site_camera(tmp_path / "site.img", footage, NOW, SCALE)
    assert (body.filesystem, site.filesystem) == ("fat32", "exfat")
    assert (len(body.deleted), body.missing_numbers) == (2, (9,))
    assert fates(body.originals) == {Fate.KEPT, Fate.CUT}
    assert fates(site.originals) == {Fate.KEPT, Fate.RESERVED}


def test_another_seed_is_another_recorder(footage: Path, tmp_path: Path) -> None:
    one = site_camera(tmp_path / "one.img", footage, NOW, SCALE)
    other = site_camera(tmp_path / "other.img", footage, NOW, SCALE, seed=300)
    assert not {original.blake3 for original in one.originals} & {original.blake3 for original in other.originals}
