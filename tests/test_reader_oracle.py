"""On ordinary cards our readers and The Sleuth Kit agree about names, sizes, every extent, and what was deleted."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytsk3

from agent.drivers.parser import Report, list_source
from simulator.card import Card
from simulator.content import Noise
from tests.parsing import Collector, Parsed, collect, parse, read_extents, run_child, small_exfat, small_fat, source_of

LABEL = " (Volume Label Entry)"
Extents = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Known:
    path: str
    size_bytes: int
    extents: Extents


def merged(extents: list[tuple[int, int]], size_bytes: int) -> Extents:
    """Adjacent extents joined and cut to the size."""
    found: list[tuple[int, int]] = []
    left = size_bytes
    for offset, length in extents:
        take = min(length, left)
        left -= take
        if found and sum(found[-1]) == offset and take:
            found[-1] = (found[-1][0], found[-1][1] + take)
        elif take:
            found.append((offset, take))
    return tuple(found)


def walk(filesystem: pytsk3.FS_Info, inode: int, path: str) -> Iterator[tuple[bool, Known]]:
    """(deleted, file) of everything below a directory; `$OrphanFiles` and the like are left out."""
    unit = filesystem.info.block_size
    for file in filesystem.open_dir(inode=inode):
        name = file.info.name.name.decode("utf-8", "surrogateescape")
        if name in (".", "..") or name.startswith("$") or name.endswith(LABEL) or file.info.meta is None:
            continue
        deleted = bool(int(file.info.name.flags) & int(pytsk3.TSK_FS_NAME_FLAG_UNALLOC))
        if int(file.info.name.type) == int(pytsk3.TSK_FS_NAME_TYPE_DIR):
            yield from walk(filesystem, file.info.meta.addr, f"{path}{name}/")
        elif int(file.info.name.type) == int(pytsk3.TSK_FS_NAME_TYPE_REG):
            runs = [(run.addr * unit, run.len * unit) for attribute in file for run in attribute]
            yield deleted, Known(path + name, file.info.meta.size, merged(runs, file.info.meta.size))


def oracle(path: Path, kind: int) -> tuple[set[Known], set[Known]]:
    """(live, deleted) as The Sleuth Kit sees them; the type is always given."""
    filesystem = pytsk3.FS_Info(pytsk3.Img_Info(str(path)), type=kind)
    found = list(walk(filesystem, filesystem.info.root_inum, ""))
    return {known for deleted, known in found if not deleted}, {known for deleted, known in found if deleted}


def ours(parsed: Parsed) -> tuple[set[Known], set[Known]]:
    live = {
        Known(clip["path"], clip["size"], merged(parsed.extents[clip["number"]], clip["size"])) for clip in parsed.clips
    }
    deleted = {
        Known(lost["path"], lost["size"], tuple(map(tuple, lost["extents"])))
        for lost in parsed.found("deleted")
        if not lost["is_directory"]
    }
    return live, deleted


def recorder(card: Card, seed: int) -> None:
    """What a recorder does in its life: records, counts on, deletes, fills folders."""
    chance = random.Random(seed)
    for number in range(150):
        folder = f"DCIM/{100 + number // 60}MEDIA"
        name = f"MOVI{number:04d}.MP4" if number % 3 else f"370100_张三_20260131_{number:06d}_现场检查.mp4"
        card.add(f"{folder}/{name}", Noise(chance.randrange(40_000), number), fragments=chance.choice((1, 1, 1, 2, 5)))
        if chance.random() < 0.2:
            card.delete(f"{folder}/{name}")
    for number in range(20):
        card.add(f"MISC/子目录 {number % 4}/记录{number}.txt", Noise(100))
    card.delete("MISC/子目录 3")


@pytest.mark.parametrize("seed", range(3))
def test_fat32_as_the_oracle_sees_it(tmp_path: Path, seed: int) -> None:
    with small_fat(tmp_path / "card.img") as card:
        recorder(card, seed)
    (live, deleted), (live_oracle, deleted_oracle) = (
        ours(parse(card.path)),
        oracle(card.path, pytsk3.TSK_FS_TYPE_FAT_DETECT),
    )
    assert live == live_oracle
    # The oracle writes `_` for the first letter that deletion wiped; ours is inferred, or `?`.
    assert {(known.size_bytes, _without_first(known)) for known in deleted} == {
        (known.size_bytes, _without_first(known)) for known in deleted_oracle
    }


def _without_first(known: Known) -> str:
    folder, _, name = known.path.rpartition("/")
    return f"{folder}/{name[1:]}"


@pytest.mark.parametrize("seed", range(3))
def test_exfat_as_the_oracle_sees_it(tmp_path: Path, seed: int) -> None:
    with small_exfat(tmp_path / "card.img", size_bytes=64 << 20) as card:
        recorder(card, seed)
    (live, deleted), (live_oracle, deleted_oracle) = ours(parse(card.path)), oracle(card.path, pytsk3.TSK_FS_TYPE_EXFAT)
    assert live == live_oracle
    assert {(known.path, known.size_bytes) for known in deleted} == {
        (known.path, known.size_bytes) for known in deleted_oracle
    }


def other(path: Path) -> Parsed:
    """What the optional reader lists."""
    output = Collector()
    with source_of(path) as source:
        list_source(source, Report(output), pytsk3)
    return collect(output.lines)


def test_the_optional_reader_lists_ext4_and_finds_every_byte(tmp_path: Path) -> None:
    tree, path = tmp_path / "tree", tmp_path / "card.img"
    contents = {f"DCIM/100MEDIA/执法_{number:04d}.mp4": Noise(5000 * number + 9, number).read() for number in range(8)}
    contents |= {"tail": b"x" * 8192 + bytes(8192), "zeros": bytes(8192), "empty": b""}
    for name, content in {**contents, "inside": b"x" * 4096 + bytes(8192) + b"y" * 4096}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    subprocess.run(["mkfs.ext4", "-q", "-d", tree, path, "16M"], check=True, capture_output=True)
    parsed = other(path)
    assert collect(run_child(path)[1]).clips == parsed.clips  # the same from inside the sandbox
    assert (parsed.volumes[0]["kind"], parsed.paths()) == ("ext", set(contents))
    assert parsed.refusals() == {"inside": "has-holes"}
    for name, content in contents.items():
        assert read_extents(path, parsed.where(name)).ljust(len(content), b"\0") == content


@pytest.mark.skipif(not shutil.which("ntfscp"), reason="ntfs-3g's tools are not installed")
def test_the_optional_reader_lists_ntfs_and_finds_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with path.open("wb") as image:
        image.truncate(16 << 20)
    subprocess.run(["mkntfs", "-F", "-Q", path], check=True, capture_output=True)
    contents = {f"执法_{number:04d}.mp4": Noise(5000 * number + 3000, number).read() for number in range(6)}
    for name, content in {**contents, "tiny.txt": b"tiny"}.items():
        (tmp_path / "source").write_bytes(content)
        command = ["ntfscp", "-f", path, tmp_path / "source", name]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    parsed = other(path)
    assert collect(run_child(path)[1]).clips == parsed.clips  # the same from inside the sandbox
    assert (parsed.volumes[0]["kind"], parsed.paths()) == ("ntfs", set(contents))
    assert parsed.refusals() == {"tiny.txt": "stored-inside-its-record"}
    for name, content in contents.items():
        assert read_extents(path, parsed.where(name)) == content


def test_without_the_optional_reader_ext4_is_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    path.write_bytes(bytes(1024 + 56) + b"\x53\xef" + bytes(4096))
    assert parse(path).error["kind"] == "unsupported"
