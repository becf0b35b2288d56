"""ExFAT: live files exactly, deleted sets proven by their checksum, zones kept, interrupted recordings told."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.drivers.exfat import ExFatVolume
from simulator.card import Card
from simulator.content import Noise
from simulator.exfat import set_checksum
from simulator.layout import ChainEnd
from tests.parsing import assert_matches, parse, read_extents, small_exfat, source_of, wall

CLUSTER = 4096


def test_every_byte_of_every_file_is_found_in_order(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    contents = {f"DCIM/{100 + i // 9}MEDIA/执法记录_{i:04d}.mp4": Noise(i * 3777, i) for i in range(30)}
    with small_exfat(path) as card:
        for number, (name, content) in enumerate(contents.items()):
            card.add(name, content, fragments=1 + number % 4)
    parsed = parse(path)
    assert_matches(parsed, card.truth())
    for name, content in contents.items():
        assert read_extents(path, parsed.where(name)) == content.read()
    assert (parsed.findings, parsed.volumes[0]["label"]) == ([], "BODYCAM")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(st.characters(min_codepoint=1, max_codepoint=0xFFFF), min_size=1, max_size=255),
        min_size=1, max_size=8, unique=True,
    ),
    sizes=st.lists(st.integers(0, 20_000), min_size=8, max_size=8),
)  # fmt: skip
def test_any_name_and_size_is_read_back(tmp_path: Path, names: list[str], sizes: list[int]) -> None:
    """Also names that no honest recorder writes: slashes, control characters, lone surrogates, 255 characters."""
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        for name, size in zip(names, sizes, strict=False):
            card.add(("DCIM", name), Noise(size))
    parsed = parse(path)
    assert sorted(clip["raw_name"] for clip in parsed.clips) == sorted(
        name.encode("utf-16-le", "surrogatepass").hex() for name in names
    )
    assert sorted(map(sorted, parsed.extents.values())) == sorted(sorted(one.extents) for one in card.truth())


@pytest.mark.root
def test_cards_written_by_exfat_fuse(tmp_path: Path) -> None:
    path, mount = tmp_path / "card.img", tmp_path / "mount"
    mount.mkdir()
    with small_exfat(path):
        pass
    contents = {f"执法视频_{i:03d}_20260131.mp4": Noise(5000 + 3000 * i, i).read() for i in range(9)}
    loop = subprocess.run(
        ["losetup", "--find", "--show", path], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        subprocess.run(["mount.exfat-fuse", loop, mount], check=True, capture_output=True)
        try:
            (mount / "DCIM").mkdir()
            for name, content in contents.items():
                (mount / "DCIM" / name).write_bytes(content)
            (mount / "DCIM" / "执法视频_004_20260131.mp4").unlink()
        finally:
            subprocess.run(["umount", mount], check=True)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
    parsed = parse(path)
    lost = parsed.deleted("DCIM/执法视频_004_20260131.mp4")
    assert (lost["name_quality"], lost["size"]) == ("exact", 5000 + 3000 * 4)
    del contents["执法视频_004_20260131.mp4"]
    assert parsed.paths() == {f"DCIM/{name}" for name in contents}
    for name, content in contents.items():
        assert read_extents(path, parsed.where(f"DCIM/{name}")) == content


def test_a_folder_of_many_clusters_without_a_chain_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        for number in range(500):
            card.add(f"DCIM/file number {number}.jpg", b"x" if number % 50 == 0 else b"")
        assert card.node("DCIM").is_contiguous
    assert_matches(parse(path), card.truth())


def test_a_folder_that_grew_in_pieces_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        for docking in range(4):
            for number in range(60):
                card.add(f"DCIM/docking {docking} file {number}.jpg", b"x")
            card.finish()
        assert not card.node("DCIM").is_contiguous
    assert_matches(parse(path), card.truth())


# Times.


@pytest.mark.parametrize("offset_min", [None, 480, 0, -210, 825, -720])
def test_the_zone_is_kept_as_stored(tmp_path: Path, offset_min: int | None) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        card.add("a", b"x", modified=wall("2026-01-31T09:30:15.670"), utc_offset_min=offset_min)
    assert parse(path).clip("a")["modified"] == ["2026-01-31T09:30:15.670000", offset_min]


# Interrupted recordings.


def test_behind_the_valid_length_there_are_zeros_not_old_bytes(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        card.add("a.mp4", Noise(4 * CLUSTER), valid_bytes=5000)
        card.add("never.mp4", Noise(4 * CLUSTER), valid_bytes=0)
    parsed = parse(path)
    clip = parsed.clip("a.mp4")
    assert (clip["size"], clip["readable"], clip["zero_from"]) == (4 * CLUSTER, 4 * CLUSTER, 5000)
    assert clip["flags"] == ["valid-shorter"]
    assert sum(length for _, length in parsed.where("a.mp4")) == 5000
    assert (parsed.clip("never.mp4")["zero_from"], parsed.where("never.mp4")) == (0, [])


def test_a_damaged_chain_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        for end in ChainEnd:
            card.add(f"{end}.mp4", Noise(10 * CLUSTER), fragments=3)
            card.corrupt_chain(f"{end}.mp4", end, 5)
    flags = {clip["path"]: (clip["readable"], clip["flags"]) for clip in parse(path).clips}
    assert flags == {
        "early.mp4": (5 * CLUSTER, ["chain-short"]),
        "free.mp4": (5 * CLUSTER, ["chain-broken"]),
        "loop.mp4": (5 * CLUSTER, ["chain-loop"]),
    }


def test_a_file_larger_than_the_card_is_cut_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        card.add("a.mp4", Noise(CLUSTER))
        card.corrupt_size("a.mp4", 1 << 40)
        card.add("b.mp4", Noise(CLUSTER))
        card.corrupt_size("b.mp4", 1 << 63)
    parsed = parse(path)
    clip = parsed.clip("a.mp4")
    assert clip["flags"] == ["size-exceeds-volume"]
    assert 0 < clip["readable"] < path.stat().st_size
    assert parsed.refusals() == {"b.mp4": "size-impossible"}


# Deleted entries.


def test_a_deleted_file_keeps_its_exact_name_size_and_place(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    content = Noise(3 * CLUSTER + 5)
    with small_exfat(path) as card:
        card.add("DCIM/现场检查_0001.mp4", content)
        card.delete("DCIM/现场检查_0001.mp4")
    lost = parse(path).deleted("DCIM/现场检查_0001.mp4")
    assert (lost["name_quality"], lost["state"], lost["size"]) == ("exact", "intact", content.size_bytes)
    assert read_extents(path, map(tuple, lost["extents"])) == content.read()


def test_reused_clusters_are_told(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        card.add("a.mp4", Noise(5 * CLUSTER))
        card.delete("a.mp4")
        card.add("b.mp4", Noise(2 * CLUSTER), reuse=True)
    assert parse(path).deleted("a.mp4")["state"] == "overwritten:2/5"


def test_a_deleted_set_that_was_partly_overwritten_is_partial(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        node = card.add("a recording with a long name of many slots.mp4", Noise(100))
        card.delete("a recording with a long name of many slots.mp4")
    raw = bytearray(path.read_bytes())
    raw[node.entry_offset + 4 * 32 + 2 : node.entry_offset + 5 * 32] = "X".encode("utf-16-le") * 15
    path.write_bytes(raw)
    (lost,) = parse(path).found("deleted")
    assert (lost["name_quality"], lost["flags"]) == ("partial", ["checksum-bad"])


def test_a_deleted_folder_and_its_files_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        card.add("keep.txt", b"x")
        card.add("old/a.mp4", Noise(900))
        card.delete("old")
    assert {lost["path"] for lost in parse(path).found("deleted")} == {"old", "old/a.mp4"}


# Damage.


def test_a_live_set_with_a_wrong_checksum_is_listed_and_flagged(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        node = card.add("a.mp4", Noise(900))
    raw = bytearray(path.read_bytes())
    raw[node.entry_offset + 8] ^= 1
    path.write_bytes(raw)
    assert parse(path).clip("a.mp4")["flags"] == ["checksum-bad"]


def test_a_live_set_that_lost_a_name_slot_is_still_pulled(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    name = "a recording with a long name.mp4"
    with small_exfat(path) as card:
        node = card.add(name, Noise(900))
        card.add("next.mp4", Noise(900))
    raw = bytearray(path.read_bytes())
    raw[node.entry_offset + 3 * 32 : node.entry_offset + 4 * 32] = b"\xff" * 32
    path.write_bytes(raw)
    parsed = parse(path)
    assert parsed.clip(name[:15])["flags"] == ["checksum-bad", "name-incomplete"]
    assert "next.mp4" in parsed.paths()
    assert parsed.found("directory-damaged")[0]["stray_slots"] >= 1


def test_a_directory_of_random_bytes_gives_no_false_live_entries(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        for number in range(3000):
            card.add(f"DCIM/some long name {number}.mp4", b"")
        card.add("a.mp4", b"x")
        card.finish()
        card.corrupt_directory("DCIM", seed=7)
    parsed = parse(path)
    assert (parsed.paths(), parsed.refused, parsed.found("deleted")) == ({"a.mp4"}, [], [])
    assert parsed.found("directory-damaged")[0]["path"] == "DCIM"


def test_dirty_card(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        card.set_dirty()
    parsed = parse(path)
    assert (parsed.volumes[0]["dirty"], len(parsed.found("dirty"))) == (True, 1)


@pytest.mark.parametrize("damage", [b"\0" * 512, b"\xff"])
def test_a_damaged_boot_sector_is_replaced_by_its_backup(tmp_path: Path, damage: bytes) -> None:
    """Lost altogether, or only one byte that the checksum doesn't forgive."""
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        card.add("a.mp4", Noise(5000))
    raw = bytearray(path.read_bytes())
    at = 0 if len(damage) > 1 else 89
    raw[at : at + len(damage)] = damage
    path.write_bytes(raw)
    parsed = parse(path)
    assert_matches(parsed, card.truth())
    assert len(parsed.found("boot-sector-damaged")) == 1


def test_without_a_bitmap_the_table_tells_what_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        card.add("a.mp4", Noise(5000))
        root = card.cluster_offset(card.format.root.start)
    raw = bytearray(path.read_bytes())
    slots = range(root, root + CLUSTER, 32)
    raw[next(at for at in slots if raw[at] == 0x81)] = 0x01
    path.write_bytes(raw)
    parsed = parse(path)
    assert parsed.paths() == {"a.mp4"}
    assert len(parsed.found("bitmap-missing")) == 1


def test_vendor_entries_belong_to_their_set(tmp_path: Path) -> None:
    """Benign secondary entries (specification 7.8, 7.9) may follow the name."""
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        node = card.add("a.mp4", Noise(900))
    raw = bytearray(path.read_bytes())
    entry = raw[node.entry_offset : node.entry_offset + 96] + b"\xe0".ljust(32, b"\1")
    entry[1] = 3
    struct.pack_into("<H", entry, 2, set_checksum(entry))
    raw[node.entry_offset : node.entry_offset + 128] = entry
    path.write_bytes(raw)
    assert_matches(parse(path), card.truth())


def test_a_cut_card_gives_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_exfat(path) as card:
        card.add("a.mp4", Noise(100 * CLUSTER))
        first = card.extents(card.node("a.mp4"))[0][0]
        for index in range(30):
            card.add(f"{index}.mp4", random.Random(index).randbytes(50))
    os.truncate(path, first + 1000)
    parsed = parse(path)
    assert (parsed.clip("a.mp4")["readable"], parsed.clip("a.mp4")["flags"]) == (1000, ["beyond-device"])
    assert parsed.refusals() == {f"{index}.mp4": "beyond-device" for index in range(30)}


def test_a_full_size_card_is_a_card_too(tmp_path: Path) -> None:
    with Card.exfat(tmp_path / "card.img", 256 << 30) as card:
        card.add("DCIM/100MEDIA/MOVI0001.MP4", Noise(3 << 20))
    assert_matches(parse(card.path), card.truth())
    with source_of(card.path) as source:
        assert ExFatVolume(source).volume.cluster_bytes == 128 << 10
