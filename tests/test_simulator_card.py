"""The card builder makes cards that the systems' own checkers call clean, and knows where every byte is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from simulator.card import MBR_VOLUME_OFFSET, Card
from simulator.content import CHUNK_BYTES, Noise, chunks_of, size_of
from tests.parsing import read_extents, small_exfat, small_fat


def lived_in(card: Card) -> dict[str, Noise]:
    """Records over several dockings, deletes, reuses; returns what is live."""
    live: dict[str, Noise] = {}
    for docking in range(3):
        for number in range(60):
            name = f"DCIM/{100 + docking}MEDIA/执法记录 {number:04d}.mp4"
            live[name] = Noise(777 * number, docking * 1000 + number)
            card.add(name, live[name], fragments=1 + number % 3, reuse=number % 7 == 0)
        for number in range(0, 60, 5):
            card.delete(f"DCIM/{100 + docking}MEDIA/执法记录 {number:04d}.mp4")
            del live[f"DCIM/{100 + docking}MEDIA/执法记录 {number:04d}.mp4"]
        card.add(f"gone/{docking}/a.txt", b"x")
        card.finish()
    card.delete("gone")
    return live


@pytest.mark.parametrize(("make", "checker"), [(small_fat, "fsck.vfat"), (small_exfat, "fsck.exfat")])
@pytest.mark.parametrize("mbr", [False, True], ids=["plain", "mbr"])
def test_cards_are_clean_and_every_byte_is_where_the_truth_says(
    tmp_path: Path, make: type[Card], checker: str, mbr: bool
) -> None:
    path = tmp_path / "card.img"
    with make(path, mbr=mbr, size_bytes=48 << 20) as card:
        live = lived_in(card)
    truth = {one.path: one for one in card.truth() if not one.deleted}
    assert set(truth) == set(live)
    for name, content in live.items():
        assert read_extents(path, truth[name].extents) == content.read()
    if mbr:
        path.write_bytes(path.read_bytes()[MBR_VOLUME_OFFSET:])
    done = subprocess.run([checker, "-n", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_large_card_takes_only_the_room_of_its_content(tmp_path: Path) -> None:
    with Card.exfat(tmp_path / "card.img", 64 << 30) as card:
        card.add("a.mp4", Noise(1 << 20))
    assert os.stat(card.path).st_blocks * 512 < 64 << 20


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
def test_noise_has_its_size_and_no_two_pieces_alike(tmp_path: Path, size: int) -> None:
    content = Noise(size, seed=5).read()
    assert (len(content), size_of(Noise(size, 5))) == (size, size)
    assert content == Noise(size, seed=5).read()
    assert size < 8 or content != Noise(size, seed=6).read() or size == 8
    assert len({*Noise(size, 5).chunks()}) == -(-size // CHUNK_BYTES)
    (tmp_path / "host").write_bytes(content)
    assert b"".join(chunks_of(tmp_path / "host")) == content
