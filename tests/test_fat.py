"""FAT12, FAT16 and FAT32: live files exactly, deleted ones with the name that can be proven, damage told."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.drivers.fat import FatVolume
from agent.drivers.filesystem import Budget, Directory
from agent.drivers.source import FilesystemError
from agent.drivers.walk import Walk
from simulator.card import Card
from simulator.content import Noise
from simulator.layout import ChainEnd
from tests.parsing import assert_matches, parse, read_extents, small_fat, source_of, wall

CLUSTER = 512


def test_every_byte_of_every_file_is_found_in_order(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    contents = {f"DCIM/{100 + i // 9}MEDIA/执法记录_{i:04d}.mp4": Noise(i * 777, i) for i in range(40)}
    with small_fat(path) as card:
        for number, (name, content) in enumerate(contents.items()):
            card.add(name, content, fragments=1 + number % 5)
    parsed = parse(path)
    assert_matches(parsed, card.truth())
    for name, content in contents.items():
        assert read_extents(path, parsed.where(name)) == content.read()
    assert parsed.findings == []


NAMES = st.text(
    st.characters(blacklist_characters='"*/:<>?\\|', min_codepoint=32, blacklist_categories=("Cs",)),
    min_size=1,
    max_size=80,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(NAMES.filter(lambda name: name.strip(". ")), min_size=1, max_size=12, unique_by=str.upper),
    sizes=st.lists(st.integers(0, 5000), min_size=12, max_size=12),
    fragments=st.integers(1, 4),
)
def test_any_name_and_size_is_read_back(tmp_path: Path, names: list[str], sizes: list[int], fragments: int) -> None:
    path = tmp_path / "card.img"
    with small_fat(path, size_bytes=4 << 20) as card:
        for name, size in zip(names, sizes, strict=False):
            card.add(("DCIM", name), Noise(size), fragments=fragments)
    parsed = parse(path)
    raw = {bytes.fromhex(clip["raw_name"]) for clip in parsed.clips}
    expected = {
        node.name.encode("utf-16-le", "surrogatepass") if node.has_long_name else node.short_name
        for node in card.node("DCIM").children
    }
    assert raw == expected
    assert sorted(map(sorted, parsed.extents.values())) == sorted(sorted(one.extents) for one in card.truth())


@pytest.mark.parametrize(("kind", "size"), [("12", 2 << 20), ("16", 16 << 20), ("32", 40 << 20)])
def test_cards_written_by_mtools(tmp_path: Path, kind: str, size: int) -> None:
    path = tmp_path / "card.img"
    with path.open("wb") as image:
        image.truncate(size)
    subprocess.run(["mkfs.vfat", "-F", kind, "-n", "BODYCAM", path], check=True, capture_output=True)
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}

    def tool(*command: str) -> None:
        subprocess.run([command[0], "-i", path, *command[1:]], check=True, capture_output=True, env=environment)

    tool("mmd", "::DCIM", "::DCIM/100MEDIA")
    contents = {
        f"MOVI{i:04d}.MP4" if i % 2 else f"执法视频_{i:03d}.mp4": Noise(5000 + 3000 * i, i).read() for i in range(8)
    }
    for name, content in contents.items():
        (tmp_path / "source").write_bytes(content)
        tool("mcopy", str(tmp_path / "source"), f"::DCIM/100MEDIA/{name}")
    tool("mdel", "::DCIM/100MEDIA/MOVI0003.MP4")
    tool("mdel", "::DCIM/100MEDIA/执法视频_004.mp4")

    parsed = parse(path)
    assert (parsed.volumes[0]["kind"], parsed.volumes[0]["label"]) == (f"fat{kind}", "BODYCAM")
    live = {name: content for name, content in contents.items() if name not in ("MOVI0003.MP4", "执法视频_004.mp4")}
    assert parsed.paths() == {f"DCIM/100MEDIA/{name}" for name in live}
    for name, content in live.items():
        assert read_extents(path, parsed.where(f"DCIM/100MEDIA/{name}")) == content
    assert parsed.deleted("DCIM/100MEDIA/MOVI0003.MP4")["name_quality"] == "inferred"
    lost = parsed.deleted("DCIM/100MEDIA/执法视频_004.mp4")
    assert (lost["name_quality"], lost["state"]) == ("long", "intact")
    assert read_extents(path, map(tuple, lost["extents"])) == contents["执法视频_004.mp4"]


# Names.


def test_8_3_names_are_decoded_as_gbk_and_kept_raw(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    raw = "执法001".encode("gbk").ljust(8) + b"MP4"
    with small_fat(path) as card:
        card.add("a", b"x", short_name=raw)
        card.add("b", b"x", short_name=b"\x05BC     TXT")
        node = card.add("c", b"x", short_name=b"MOVI0001MP4")
    card = _reopened(path)
    card[node.entry_offset + 12] = 0x18  # Windows NT: stem and extension are lower case
    path.write_bytes(card)
    parsed = parse(path)
    assert bytes.fromhex(parsed.clip("执法001.MP4")["raw_name"]) == raw
    assert "movi0001.mp4" in parsed.paths()
    assert {clip["raw_name"] for clip in parsed.clips} >= {b"\x05BC     TXT".hex()}


def _reopened(path: Path) -> bytearray:
    return bytearray(path.read_bytes())


def test_times_are_naive_and_carry_what_the_card_stores(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("a.mp4", b"x", modified=wall("2026-01-31T23:59:59"), created=wall("2026-01-31T08:00:01.230"))
    clip = parse(path).clip("a.mp4")
    assert clip["modified"] == ["2026-01-31T23:59:58", None]
    assert clip["created"] == ["2026-01-31T08:00:01.230000", None]


# Deleted entries.


def test_a_deleted_long_name_is_exact_when_its_first_letter_comes_back_from_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("DCIM/my recording 0001.mp4", Noise(3000))
        card.delete("DCIM/my recording 0001.mp4")
    assert parse(path).deleted("DCIM/my recording 0001.mp4")["name_quality"] == "exact"


def test_a_deleted_8_3_name_without_siblings_says_that_a_letter_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("DCIM/MOVI0005.MP4", Noise(3000))
        card.delete("DCIM/MOVI0005.MP4")
    lost = parse(path).deleted("DCIM/?OVI0005.MP4")
    assert (lost["name_quality"], lost["size"], lost["state"]) == ("lossy", 3000, "intact")


def test_siblings_that_disagree_prove_nothing(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        for name in ("MOVI0001.MP4", "NOVI0002.MP4", "MOVI0003.MP4"):
            card.add(name, b"x")
        card.delete("MOVI0003.MP4")
    assert parse(path).found("deleted")[0]["path"] == "?OVI0003.MP4"


def test_a_stale_deleted_long_name_is_not_given_to_the_live_file_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        old = card.add("现场检查_很长的名字.mp4", b"old")
        card.add("NEW.MP4", b"new")
        card.delete("现场检查_很长的名字.mp4")
    raw = _reopened(path)
    new = raw[old.entry_offset + 32 : old.entry_offset + 64]
    raw[old.entry_offset : old.entry_offset + 64] = new + bytes(32)
    path.write_bytes(raw)
    assert parse(path).paths() == {"NEW.MP4"}


def test_a_stale_long_name_before_another_tombstone_is_never_called_proven(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        old = card.add("现场检查_很长的名字.mp4", b"old")
        card.add("NEW.MP4", b"new")
        card.delete("现场检查_很长的名字.mp4")
        card.delete("NEW.MP4")
    raw = _reopened(path)
    raw[old.entry_offset : old.entry_offset + 64] = raw[old.entry_offset + 32 : old.entry_offset + 64] + bytes(32)
    path.write_bytes(raw)
    (lost,) = parse(path).found("deleted")
    assert lost["name_quality"] in ("doubtful", "lossy")
    assert bytes.fromhex(lost["short_name"]) == b"\xe5EW     MP4"


def test_a_tombstone_whose_first_slots_were_reused_is_partial(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        node = card.add("a recording with a name of three slots.mp4", b"x")
        card.delete("a recording with a name of three slots.mp4")
    raw = _reopened(path)
    head = node.entry_offset - 4 * 32
    raw[head : head + 64] = b"OTHER   MP4\x20".ljust(32, b"\0") * 2
    path.write_bytes(raw)
    (lost,) = parse(path).found("deleted")
    assert lost["name_quality"] == "partial"
    assert lost["path"].startswith("a recording with")
    assert lost["path"].endswith("…")


def test_reused_clusters_are_told_from_intact_ones(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("OLD.MP4", Noise(8 * CLUSTER))
        card.add("KEPT.MP4", Noise(8 * CLUSTER))
        card.delete("OLD.MP4")
        card.add("NEW.MP4", Noise(3 * CLUSTER), reuse=True)
        card.delete("KEPT.MP4")
    states = {
        lost["size"]: lost["state"]
        for lost in parse(path).found("deleted")
        if "OLD" in lost["path"] or "LD" in lost["path"]
    }
    assert states == {8 * CLUSTER: "overwritten:3/8"}
    assert {lost["state"] for lost in parse(path).found("deleted")} == {"overwritten:3/8", "intact"}


def test_a_deleted_folder_and_its_files_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("keep.txt", b"x")
        for number in range(3):
            card.add(f"old footage/file number {number}.mp4", Noise(900))
        card.delete("old footage")
    parsed = parse(path)
    assert parsed.paths() == {"keep.txt"}
    assert {lost["path"] for lost in parsed.found("deleted")} == {
        "old footage", *(f"old footage/file number {number}.mp4" for number in range(3))
    }  # fmt: skip


def test_remains_behind_the_end_mark_are_never_live(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path, cluster_bytes=4096) as card:
        card.add("A.MP4", b"x")
        node = card.add("B.MP4", b"y")
    raw = _reopened(path)
    slot = raw[node.entry_offset : node.entry_offset + 32]
    raw[node.entry_offset : node.entry_offset + 96] = bytes(64) + slot
    path.write_bytes(raw)
    parsed = parse(path)
    assert parsed.paths() == {"A.MP4"}
    assert parsed.deleted("B.MP4")["flags"] == ["after-end-mark"]


# Damaged chains.


@pytest.mark.parametrize(
    ("end", "flag", "readable"),
    [
        (ChainEnd.EARLY, "chain-short", 3 * CLUSTER),
        (ChainEnd.FREE, "chain-broken", 3 * CLUSTER),
        (ChainEnd.LOOP, "chain-loop", 3 * CLUSTER),
    ],
)
@pytest.mark.parametrize("fragments", [1, 4])
def test_a_damaged_chain_is_read_as_far_as_it_goes(
    tmp_path: Path, end: ChainEnd, flag: str, readable: int, fragments: int
) -> None:
    path = tmp_path / "card.img"
    content = Noise(10 * CLUSTER)
    with small_fat(path) as card:
        card.add("A.MP4", content, fragments=fragments)
        card.corrupt_chain("A.MP4", end, 3)
    parsed = parse(path)
    clip = parsed.clip("A.MP4")
    assert (clip["size"], clip["readable"], clip["flags"]) == (10 * CLUSTER, readable, [flag])
    assert read_extents(path, parsed.where("A.MP4")) == content.read()[:readable]


def test_size_zero_with_a_chain_gives_the_chain(tmp_path: Path) -> None:
    """Power was lost while recording: the footage is there, the size was never written."""
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("A.MP4", Noise(5 * CLUSTER))
        card.corrupt_size("A.MP4", 0)
    clip = parse(path).clip("A.MP4")
    assert (clip["size"], clip["readable"], clip["flags"]) == (0, 5 * CLUSTER, ["size-zero-chain"])


def test_a_chain_that_goes_on_after_the_size_is_flagged(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("A.MP4", Noise(5 * CLUSTER))
        card.corrupt_size("A.MP4", 2 * CLUSTER)
    clip = parse(path).clip("A.MP4")
    assert (clip["readable"], clip["flags"]) == (2 * CLUSTER, ["chain-longer"])


def test_a_start_outside_the_volume_is_refused_but_seen(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        for number in range(3):
            card.add(f"A{number}.MP4", b"x")
        card.corrupt_start("A1.MP4", 0x0FFFFF0)
    parsed = parse(path)
    assert parsed.refusals() == {"A1.MP4": "chain-bad-start"}
    assert parsed.end["entries"] == 3


def test_cross_linked_files_are_both_given_and_one_is_flagged(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("A.MP4", Noise(2000))
        card.add("B.MP4", Noise(2000))
        card.corrupt_cross_link("B.MP4", "A.MP4")
    parsed = parse(path)
    assert parsed.where("A.MP4") == parsed.where("B.MP4")
    assert (parsed.clip("A.MP4")["flags"], parsed.clip("B.MP4")["flags"]) == ([], ["cross-linked"])


# The volume as a whole.


def test_dirty_card(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.set_dirty()
    parsed = parse(path)
    assert parsed.volumes[0]["dirty"] is True
    assert len(parsed.found("dirty")) == 1


def test_copies_of_the_table_that_differ_are_told(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("A.MP4", Noise(5 * CLUSTER))
    with source_of(path) as source:
        mirror = FatVolume(source).clusters.geometry.mirror_offset
    assert mirror is not None
    raw = _reopened(path)
    raw[mirror + 4 * 4 : mirror + 4 * 6] = bytes(8)
    path.write_bytes(raw)
    assert parse(path).found("fat-copies-differ") == [{"entries": 2, "first_cluster": 4}]


def test_a_cut_card_gives_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("A.MP4", Noise(100 * CLUSTER))
        first = card.extents(card.node("A.MP4"))[0][0]
    os.truncate(path, first + 1000)
    parsed = parse(path)
    clip = parsed.clip("A.MP4")
    assert (clip["readable"], clip["flags"]) == (1000, ["beyond-device"])
    assert parsed.found("truncated-volume")[0]["missing_bytes"] > 0


def test_a_lost_boot_sector_is_replaced_by_its_backup(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("A.MP4", Noise(5000))
    raw = _reopened(path)
    raw[:512] = bytes(512)
    path.write_bytes(raw)
    parsed = parse(path)
    assert_matches(parsed, card.truth())
    assert len(parsed.found("boot-sector-damaged")) == 1


def test_a_directory_of_random_bytes_gives_no_false_live_entries(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path, cluster_bytes=4096) as card:
        for number in range(3000):
            card.add(f"DCIM/some long name {number}.mp4", b"")
        card.add("A.MP4", b"x")
        card.finish()
        card.corrupt_directory("DCIM", seed=7)
    parsed = parse(path)
    assert parsed.paths() == {"A.MP4"}
    assert parsed.refused == []
    assert parsed.found("deleted") == []
    assert parsed.found("directory-damaged")[0]["path"] == "DCIM"


def test_one_damaged_sector_costs_only_its_own_entries(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path, cluster_bytes=4096) as card:
        for number in range(100):
            card.add(f"DCIM/MOVI{number:04d}.MP4", Noise(100, number))
        card.finish()
        card.poke(card.extents(card.node("DCIM"))[0][0] + 512, random.Random(3).randbytes(512))
    parsed = parse(path)
    assert parsed.paths() == {f"DCIM/MOVI{number:04d}.MP4" for number in range(100) if not 14 <= number < 30}
    (damage,) = parsed.found("directory-damaged")
    assert damage["sectors"] == 1


def test_a_live_entry_proven_by_its_long_name_survives_in_a_damaged_sector(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        node = card.add("DCIM/现场.mp4", Noise(100))
        card.finish()
        card.poke(node.entry_offset + 32, random.Random(5).randbytes(352))
    assert "DCIM/现场.mp4" in parse(path).paths()


@given(data=st.binary(max_size=100), zeros=st.integers(0, 10_000))
def test_what_is_used_of_a_directory_ends_behind_its_last_byte_that_is_not_zero(data: bytes, zeros: int) -> None:
    assert Directory("", data + bytes(zeros), ()).used_bytes == len(data.rstrip(b"\0"))


def test_limits_end_a_listing_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        for number in range(30):
            card.add(f"A{number}.MP4", b"x")
    budget = Budget(1 << 30)
    budget.entries = 20
    with source_of(path) as source, pytest.raises(FilesystemError, match="more directory entries"):
        list(Walk(FatVolume(source), budget))


def test_mirroring_can_be_off(tmp_path: Path) -> None:
    """The active copy of the table is the one the boot sector names."""
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("A.MP4", Noise(5 * CLUSTER), fragments=3)
        reference = card.extents(card.node("A.MP4"))
    raw = _reopened(path)
    raw[40] = 0x81
    with source_of(path) as source:
        table = FatVolume(source).clusters.geometry.table_offset
    raw[table + 8 : table + 4096] = bytes(4088)
    path.write_bytes(raw)
    assert parse(path).where("A.MP4") == list(reference)


def test_a_full_size_card_is_a_card_too(tmp_path: Path) -> None:
    with Card.fat32(tmp_path / "card.img", 64 << 30) as card:
        card.add("DCIM/100MEDIA/MOVI0001.MP4", Noise(3 << 20))
    assert_matches(parse(card.path), card.truth())


def test_space_that_belongs_to_nothing_is_counted_but_not_what_a_file_reserved_ahead(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("DCIM/a.mp4", Noise(9000))
        card.add("DCIM/b.mp4", Noise(5000))
    assert parse(path).end["space"][2] == 0
    card = small_fat(path)
    card.add("DCIM/a.mp4", Noise(9000))
    card.add("DCIM/b.mp4", Noise(5000))
    card.finish()
    card.poke(card.node("DCIM/b.mp4").entry_offset, b"\xe5" + bytes(31))  # its chain stays
    assert parse(path).end["space"][2] == 5120
    card.corrupt_size("DCIM/a.mp4", 600)
    card.finish()
    card.close()
    parsed = parse(path)
    assert parsed.clip("DCIM/a.mp4")["flags"] == ["chain-longer"]
    assert parsed.end["space"][2] == 0
