"""Volumes are found behind an MBR, its logical partitions or a GPT, and no table can lead the search in circles."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.drivers.partition import PARTITIONS_LIMIT, FilesystemKind, find_volumes
from agent.drivers.source import Source
from simulator.card import Card
from simulator.content import Noise
from tests.parsing import assert_matches, parse, small_exfat, small_fat, source_of

MIB = 1 << 20
SECTORS = MIB // 512


def entry(kind: int, first: int, count: int) -> bytes:
    return struct.pack("<4xB3xII", kind, first, count)


def record(*entries: bytes) -> bytes:
    return bytes(446) + b"".join(entries).ljust(64, b"\0") + b"\x55\xaa"


def disk(path: Path, size_bytes: int, pieces: dict[int, bytes]) -> Path:
    with path.open("wb") as image:
        image.truncate(size_bytes)
        for offset, data in pieces.items():
            image.seek(offset)
            image.write(data)
    return path


def volume(tmp_path: Path, name: str) -> bytes:
    """The bytes of a small FAT32 volume that holds one file of that name."""
    with small_fat(tmp_path / name, size_bytes=4 * MIB) as card:
        card.add(f"{name}.MP4", Noise(700))
    return (tmp_path / name).read_bytes()


@pytest.mark.parametrize("make", [small_fat, small_exfat])
def test_a_card_with_an_mbr_is_read_at_the_right_offset(tmp_path: Path, make: type[Card]) -> None:
    with make(tmp_path / "card.img", mbr=True) as card:
        card.add("DCIM/100MEDIA/MOVI0001.MP4", Noise(9000), fragments=2)
    assert_matches(parse(card.path), card.truth())


def test_primary_and_logical_partitions_are_all_listed_and_kept_apart(tmp_path: Path) -> None:
    data = [volume(tmp_path, name) for name in ("ONE", "TWO", "THREE")]
    size = 4 * SECTORS
    path = disk(
        tmp_path / "disk",
        20 * MIB,
        {
            0: record(entry(0x0C, SECTORS, size), entry(0x0F, 6 * SECTORS, 14 * SECTORS)),
            MIB: data[0],
            6 * MIB: record(entry(0x0C, SECTORS, size), entry(0x05, 6 * SECTORS, 6 * SECTORS)),
            7 * MIB: data[1],
            12 * MIB: record(entry(0x0C, SECTORS, size)),
            13 * MIB: data[2],
        },
    )
    parsed = parse(path)
    assert len(parsed.volumes) == 3
    assert parsed.paths() == {"ONE.MP4", "volume-2/TWO.MP4", "volume-3/THREE.MP4"}


def gpt(size_bytes: int, partitions: list[tuple[int, int]], *, at_end: bool) -> dict[int, bytes]:
    """A GPT header and table, main or backup; partitions as (first, last) sector."""
    table = b"".join(
        b"\xa2\xa0\xd0\xeb" * 4 + os.urandom(16) + struct.pack("<QQ", first, last) + bytes(80)
        for first, last in partitions
    ).ljust(128 * 128, b"\0")
    last = size_bytes // 512 - 1
    here, table_at = (last, last - 32) if at_end else (1, 2)
    header = bytearray(
        struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x10000,
            92,
            0,
            0,
            here,
            0,
            34,
            last - 34,
            bytes(16),
            table_at,
            128,
            128,
            0,
        )
    )
    struct.pack_into("<I", header, 16, zlib.crc32(header))
    return {here * 512: bytes(header), table_at * 512: table}


@pytest.mark.parametrize("at_end", [False, True], ids=["main", "backup"])
def test_a_gpt_is_read_from_either_end(tmp_path: Path, at_end: bool) -> None:
    size = 12 * MIB
    path = disk(
        tmp_path / "disk",
        size,
        {
            0: record(entry(0xEE, 1, size // 512 - 1)),
            MIB: volume(tmp_path, "ONE"),
            6 * MIB: volume(tmp_path, "TWO"),
            **gpt(size, [(SECTORS, 5 * SECTORS - 1), (6 * SECTORS, 10 * SECTORS - 1)], at_end=at_end),
        },
    )
    assert parse(path).paths() == {"ONE.MP4", "volume-2/TWO.MP4"}


def test_a_gpt_with_a_wrong_checksum_is_not_believed(tmp_path: Path) -> None:
    pieces = gpt(12 * MIB, [(SECTORS, 5 * SECTORS)], at_end=False)
    pieces[512] = pieces[512][:91] + b"\xff"
    path = disk(tmp_path / "disk", 12 * MIB, {0: record(entry(0xEE, 1, 1)), MIB: volume(tmp_path, "ONE"), **pieces})
    assert parse(path).error["kind"] == "no-filesystem"


def test_a_loop_of_extended_records_ends(tmp_path: Path) -> None:
    path = disk(
        tmp_path / "disk",
        8 * MIB,
        {
            0: record(entry(0x05, SECTORS, SECTORS)),
            MIB: record(entry(0x0C, SECTORS, 10), entry(0x05, SECTORS, 10)),
            2 * MIB: record(entry(0x0C, SECTORS, 10), entry(0x05, 0xFFFFFFFF, 10)),
        },
    )
    with source_of(path) as source:
        assert 0 < len(find_volumes(source)) <= PARTITIONS_LIMIT


def test_a_volume_that_no_reader_knows_is_told_beside_one_that_is_read(tmp_path: Path) -> None:
    path = disk(
        tmp_path / "disk",
        12 * MIB,
        {
            0: record(
                entry(0x83, SECTORS, SECTORS), entry(0x07, 2 * SECTORS, SECTORS), entry(0x0C, 6 * SECTORS, 4 * SECTORS)
            ),
            MIB + 1024 + 56: b"\x53\xef",
            2 * MIB + 3: b"NTFS    ",
            6 * MIB: volume(tmp_path, "ONE"),
        },
    )
    parsed = parse(path)
    assert [finding["kind"] for finding in parsed.found("unsupported")] == ["ext", "ntfs"]
    assert parsed.paths() == {"volume-3/ONE.MP4"}


@pytest.mark.parametrize("content", [b"", b"\0" * 512, b"\xff" * 4096, bytes(510) + b"\x55\xaa"])
def test_what_is_no_filesystem_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    parsed = parse(disk(tmp_path / "disk", len(content), {0: content}))
    assert parsed.error["kind"] == "no-filesystem"


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=64, max_size=64), st.binary(max_size=512), st.integers(0, 4096))
def test_any_table_is_answered_within_bounds(table: bytes, start: bytes, size_kib: int) -> None:
    with tempfile.TemporaryFile() as image:
        image.write((start + bytes(446))[:446] + table + b"\x55\xaa")
        image.truncate(size_kib * 1024)
        places = find_volumes(Source(image.fileno(), size_kib * 1024))
    assert 1 <= len(places) <= PARTITIONS_LIMIT
    assert all(0 <= place.offset < max(1, size_kib * 1024) for place in places)
    assert all(place.kind in FilesystemKind for place in places)
