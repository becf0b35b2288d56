"""Deleted recordings are copied elsewhere when IT asks for it: whole where they can be, and what they are is said."""

from __future__ import annotations

import json
import os
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from agent.absence import Sure
from agent.cli import Exit
from agent.errors import RequestError
from agent.journal import Reader
from agent.pipeline.carving import Remnant, _remnant, _with_clashes, check_folder, check_room
from simulator.card import Card
from simulator.content import Noise
from simulator.layout import SLOT_BYTES
from simulator.stage import Stage
from tests.cards import KINDS, card
from tests.cards import sha256 as file_sha256
from tests.daemons import call, running, stage
from tests.media import film
from tests.parsing import parse

GONE = "DCIM/100MEDIA/MOVI0002.MP4"
SIGNED = ("--who", "张三", "--why", "case 7", "--json")


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    return stage(tmp_path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return film(tmp_path_factory.mktemp("clip"), "mp4", 2)


def deleted_on(path: Path, clip: bytes, kind: str = "fat32", fragments: int = 1) -> Card:
    """A card from which a real recording was deleted."""
    made = card(path, {"DCIM/100MEDIA/MOVI0001.MP4": Noise(9000), "DCIM/100MEDIA/MOVI0003.MP4": Noise(9000, 3)}, kind)
    made.add(GONE, clip, fragments=fragments)
    made.finish()
    made.delete(GONE)
    made.finish()
    return made


def recover(made: Stage, path: Path, *options: str, code: int = Exit.OK) -> dict[str, Any]:
    done = call(made, "recover", str(path), *options, *SIGNED)
    assert done.returncode == code, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_deleted_recording_comes_back_byte_for_byte_as_a_derivative(
    made: Stage, tmp_path: Path, clip: bytes, kind: str
) -> None:
    path, folder = tmp_path / "card.img", tmp_path / "recovered"
    deleted_on(path, clip, kind).close()
    before = file_sha256(path)
    told = recover(made, path, "--into", str(folder))
    (view,), (copy,) = told["deleted"], told["copies"]
    assert (view["path"], view["sure"]["name"], view["doubts"], view["refusal"]) == (GONE, "likely", [], "")
    assert sorted(entry.name for entry in folder.iterdir()) == ["deleted-0001.mp4", "deleted-0001.mp4.json"]
    assert (folder / "deleted-0001.mp4").read_bytes() == clip
    certificate = json.loads((folder / "deleted-0001.mp4.json").read_text())
    assert certificate["derivative"]
    assert certificate["output"] == copy == {
        "name": "deleted-0001.mp4", "size_bytes": len(clip),
        "sha256": sha256(clip).hexdigest(), "blake3": blake3(clip).hexdigest(),
    }  # fmt: skip
    assert any("may hold other content" in doubt for doubt in certificate["doubts"])
    ((offset, length),) = certificate["extents"]
    assert path.read_bytes()[offset : offset + length] == clip
    assert (certificate["who"], certificate["why"], certificate["journaled"]) == ("张三", "case 7", False)
    assert certificate["source"]["path"] == str(path)
    assert len(certificate["source"]["metadata_blake3"]) == 64
    assert certificate["entry"]["path"] == GONE
    assert file_sha256(path) == before


def test_mtools_deletes_a_real_recording_and_it_plays_again(made: Stage, tmp_path: Path, clip: bytes) -> None:
    path, folder, source = tmp_path / "card.img", tmp_path / "recovered", tmp_path / "clip.mp4"
    source.write_bytes(clip)
    with path.open("wb") as image:
        image.truncate(40 << 20)
    for command in (
        ("mkfs.vfat", "-F", "32", path), ("mcopy", "-i", path, source, "::执法视频_0001.mp4"),
        ("mdel", "-i", path, "::执法视频_0001.mp4"),
    ):  # fmt: skip
        environment = os.environ | {"LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1"}
        subprocess.run(command, check=True, capture_output=True, env=environment)
    (view,) = recover(made, path, "--into", str(folder))["deleted"]
    assert view["path"] == "执法视频_0001.mp4"
    copy = folder / "deleted-0001.mp4"
    assert copy.read_bytes() == clip
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", copy, "-f", "null", "-"], check=True, timeout=60)


def test_without_a_folder_it_only_lists(made: Stage, tmp_path: Path, clip: bytes) -> None:
    path = tmp_path / "card.img"
    deleted_on(path, clip).close()
    before = sorted(tmp_path.iterdir())
    told = recover(made, path)
    assert (len(told["deleted"]), told["copies"]) == (1, [])
    assert sorted(tmp_path.iterdir()) == before
    text = call(made, "recover", str(path), *SIGNED[:-1]).stdout
    assert f"{GONE}  {len(clip)} bytes, 很可能 (likely)" in text


@pytest.mark.parametrize("kind", KINDS)
def test_clusters_that_are_taken_since_are_said(made: Stage, tmp_path: Path, clip: bytes, kind: str) -> None:
    path, folder = tmp_path / "card.img", tmp_path / "recovered"
    with deleted_on(path, clip, kind) as built:
        built.add("DCIM/100MEDIA/MOVI0004.MP4", Noise(9000, 4), reuse=True)
    told = recover(made, path, "--into", str(folder))
    (view,) = told["deleted"]
    assert view["sure"]["name"] == "possible"
    assert view["doubts"] == [f"3/{-(-len(clip) // 4096)} of its clusters are taken by files that are there"]
    copied = (folder / "deleted-0001.mp4").read_bytes()
    assert (copied[:9000], copied[3 * 4096 :]) == (Noise(9000, 4).read(), clip[3 * 4096 :])
    certificate = json.loads((folder / "deleted-0001.mp4.json").read_text())
    assert certificate["doubts"][0] == view["doubts"][0]


def test_a_renamed_file_is_no_deleted_one(made: Stage, tmp_path: Path, clip: bytes) -> None:
    """The old entry points at clusters that all belong to what is there."""
    path, folder = tmp_path / "card.img", tmp_path / "recovered"
    with deleted_on(path, clip) as built:
        built.add("DCIM/100MEDIA/MOVI0009.MP4", clip, reuse=True)
    told = recover(made, path, "--into", str(folder))
    assert "all its place" in told["deleted"][0]["refusal"]
    assert list(folder.iterdir()) == []


def test_an_exfat_file_in_several_pieces_is_refused(made: Stage, tmp_path: Path, clip: bytes) -> None:
    path, folder = tmp_path / "card.img", tmp_path / "recovered"
    deleted_on(path, clip, "exfat", fragments=3).close()
    told = recover(made, path, "--into", str(folder))
    assert "several pieces" in told["deleted"][0]["refusal"]
    assert (told["copies"], list(folder.iterdir())) == ([], [])
    error = recover(made, path, "--into", str(tmp_path / "again"), "--only", "1", code=Exit.USAGE)
    assert "several pieces" in error["error"]
    assert not (tmp_path / "again").exists()


def test_of_many_only_those_that_were_named(made: Stage, tmp_path: Path) -> None:
    path, folder = tmp_path / "card.img", tmp_path / "recovered"
    names = [f"DCIM/100MEDIA/MOVI{number:04d}.MP4" for number in range(5)]
    with card(path, {name: Noise(9000, number) for number, name in enumerate(names)}) as built:
        for name in names:
            built.delete(name)
    told = recover(made, path, "--into", str(folder), "--only", "2", "--only", "4")
    assert [copy["name"] for copy in told["copies"]] == ["deleted-0002.mp4", "deleted-0004.mp4"]
    assert (folder / "deleted-0004.mp4").read_bytes() == Noise(9000, 3).read()
    error = recover(made, path, "--into", str(tmp_path / "again"), "--only", "9", code=Exit.USAGE)
    assert "not found" in error["error"]


def test_the_running_service_takes_it_down_before_anything_is_copied(made: Stage, tmp_path: Path, clip: bytes) -> None:
    path, folder = tmp_path / "card.img", tmp_path / "recovered"
    deleted_on(path, clip).close()
    with running(made):
        assert recover(made, path, "--into", str(folder))["journaled"]
        assert json.loads((folder / "deleted-0001.mp4.json").read_text())["journaled"]
    reader = Reader(made.station / "journal.db")
    events = [event for event in reader.events(limit=100) if event.kind == "incident" and '"recovery"' in event.detail]
    reader.close()
    (event,) = events
    detail = json.loads(event.detail)["detail"]
    assert (detail["who"], detail["why"], detail["files"]) == ("张三", "case 7", f"1 {GONE}")
    assert (detail["source"], detail["folder"]) == (str(path), str(folder))


@pytest.mark.parametrize("where", ["there", "station/new", "station/vault/new", "store/new", "a/b", "file/new"])
def test_copies_never_go_where_evidence_is_or_anything_else(
    made: Stage, tmp_path: Path, clip: bytes, where: str
) -> None:
    path = tmp_path / "card.img"
    deleted_on(path, clip).close()
    for folder in (made.root / "there", made.station / "vault"):
        folder.mkdir(parents=True)
    (made.root / "file").touch()
    before = sorted(made.root.rglob("*"))
    error = recover(made, path, "--into", str(made.root / where), code=Exit.USAGE)
    assert error["safe"] == "Nothing was written."
    assert sorted(made.root.rglob("*")) == before


def test_what_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    huge = Remnant(1, {"path": "a.mp4"}, ((0, 1 << 60),))
    small = Remnant(2, {"path": "b.mp4"}, ((0, 1),))
    check_room(tmp_path / "new", [small])
    for many in ([huge], [small] * 1001):
        with pytest.raises(RequestError):
            check_room(tmp_path / "new", many)


def test_a_folder_that_can_t_be_made_is_told_in_words(made: Stage, tmp_path: Path, clip: bytes) -> None:
    path = tmp_path / "card.img"
    deleted_on(path, clip).close()
    error = recover(made, path, "--into", "/proc/recovered", code=Exit.USAGE)
    assert error["error"].startswith("/proc/recovered ")


def test_a_link_to_the_station_is_the_station(tmp_path: Path) -> None:
    (tmp_path / "station").mkdir()
    (tmp_path / "innocent").symlink_to(tmp_path / "station")
    with pytest.raises(RequestError):
        check_folder(tmp_path / "innocent" / "new", tmp_path / "card.img", [tmp_path / "station"])
    check_folder(tmp_path / "new", tmp_path / "card.img", [tmp_path / "station"])
    (tmp_path / "new").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RequestError):
        check_folder(tmp_path / "new", tmp_path / "card.img", [tmp_path / "station"])


@pytest.mark.root
def test_a_mounted_image_is_not_written_onto(made: Stage, tmp_path: Path, clip: bytes) -> None:
    path, mount = tmp_path / "card.img", tmp_path / "mount"
    mount.mkdir()
    with path.open("wb") as image:
        image.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", path], check=True, capture_output=True)
    mounted = subprocess.run(["mount", "-o", "loop", path, mount], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no loop mounts here")
    try:
        with pytest.raises(RequestError):
            check_folder(mount / "new", path, [])
    finally:
        subprocess.run(["umount", mount], check=True)


def test_hostile_entries_are_refused_or_said_and_name_no_file(made: Stage, tmp_path: Path) -> None:
    """Entries that point beyond the card, into each other, into what is there, and with names that lead elsewhere."""
    path, folder = tmp_path / "card.img", tmp_path / "recovered"
    odd = ["../../../etc/cron.d/x.mp4", "\x1b[2Jbeep.mp4", "twin.mp4", "far.mp4", "huge.mp4", "no.suffix.which is/odd"]
    names = [("DCIM", name) for name in odd]
    with card(path, {"live.mp4": Noise(50_000)}, "exfat") as built:
        for number, name in enumerate(names):
            built.add(name, Noise(9000, number))
        built.corrupt_start(names[2], built.node(names[0]).start)
        built.corrupt_start(names[3], 1 << 31)
        built.corrupt_size(names[4], 1 << 62)
        for name in names:
            built.delete(name)
    told = recover(made, path, "--into", str(folder))
    views = {view["path"].rpartition("/")[2]: view for view in told["deleted"]}
    assert len(views) == len(parse(path).found("deleted"))
    assert "another deleted file lay there too" in views["twin.mp4"]["doubts"]
    assert {entry.name.partition(".")[0] for entry in folder.iterdir()} == {
        f"deleted-{view['number']:04d}" for view in views.values() if not view["refusal"]
    }
    assert all(entry.suffix in {".mp4", ".bin", ".json"} for entry in folder.iterdir())
    assert sum(copy["size_bytes"] for copy in told["copies"]) < 100_000
    assert all(view["refusal"] or view["size_bytes"] for view in views.values())
    text = call(made, "recover", str(path), *SIGNED[:-1]).stdout
    assert "\x1b" not in text


numbers = st.integers(-(1 << 70), 1 << 70) | st.text(max_size=3) | st.none()
details = st.fixed_dictionaries(
    {},
    optional={
        "path": st.text(max_size=5), "size": numbers, "state": st.sampled_from(["intact", "unknown", "empty", "x"]),
        "name_quality": st.sampled_from(["exact", "lossy", ""]), "flags": st.lists(st.text(max_size=3), max_size=2),
        "extents": st.lists(st.lists(numbers, max_size=3), max_size=2) | numbers,
    },
)  # fmt: skip


@given(st.lists(details, max_size=6))
def test_whatever_the_parser_says_of_an_entry_is_answered(found: list[dict[str, Any]]) -> None:
    remnants = _with_clashes([_remnant(number, detail) for number, detail in enumerate(found, 1)])
    assert [one.number for one in remnants] == list(range(1, len(found) + 1))
    for one in remnants:
        assert one.extents or one.refusal
        assert one.sure is not Sure.CERTAIN


def test_of_deleted_files_that_lay_at_the_same_place_each_is_doubted() -> None:
    """A long one, and two that don't touch each other within it; one beside them."""
    detail = {"path": "a.mp4", "state": "intact", "name_quality": "exact", "flags": []}
    places = [(0, 100), (10, 20), (50, 10), (100, 10)]
    found = [_remnant(at, detail | {"size": place[1], "extents": [list(place)]}) for at, place in enumerate(places, 1)]
    assert [one.sure for one in _with_clashes(found)] == [Sure.POSSIBLE, Sure.POSSIBLE, Sure.POSSIBLE, Sure.LIKELY]


def test_a_card_that_says_another_place_than_it_has_is_not_read(made: Stage, tmp_path: Path, clip: bytes) -> None:
    """A slot of the directory that was filled with nonsense ends nothing."""
    path = tmp_path / "card.img"
    with deleted_on(path, clip) as built:
        built.poke(built.node(GONE).entry_offset, bytes([0xE5]) * SLOT_BYTES)
    assert recover(made, path, "--into", str(tmp_path / "recovered"))["copies"] == []
