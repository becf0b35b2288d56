"""Promise: what a court is handed can be checked without us, whatever is changed in it is named, and nothing leaves
without an approval that the log keeps.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import bagit
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from agent import durable
from agent.drivers import detect
from agent.errors import EvidenceError, JournalError, RequestError, UnknownError
from agent.journal import Reader, verify
from agent.kit import exporting as kit_exporting
from agent.kit import place
from agent.kit.bag import Bag
from agent.kit.contents import Wanted
from agent.kit.exporting import Kit
from agent.kit.place import check_place, part_of
from agent.model import AssetChanged, Exported, Lost, Statement
from agent.papers.printing import PaperError
from agent.pipeline.checkpoints import sign
from agent.pipeline.documents import add_document
from agent.pipeline.exporting import journal_export
from agent.pipeline.station import Station
from simulator.content import Noise
from tests.cards import image
from tests.conftest import SettableClock, unseal
from tests.daemons import call, running, stage
from tests.fakes import FakeRecorder, FakeStore
from tests.kits import ALL, FILES, config_of, export, filled
from tests.stations import dock, opened
from tests.test_kit import check

PREMIS = "{http://www.loc.gov/premis/v3}"
VOCABULARY = {
    "capture", "ingestion", "message digest calculation", "fixity check", "normalization", "replication", "validation",
    "digital signature generation", "metadata modification", "creation", "exporting", "deaccession",
}  # fmt: skip


class Made(NamedTuple):
    """A kit that nobody touches, what was said of it, and the station that made it."""

    folder: Path
    kit: Kit
    station: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    root = tmp_path_factory.mktemp("made")

    async def make() -> Kit:
        async with filled(root / "station", SettableClock()) as station:
            return await export(station, root / "kit")

    yield Made(root / "kit", asyncio.run(make()), root / "station")
    unseal(root)


@pytest.fixture
def folder(made: Made, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(made.folder, tmp_path / "kit"))


@pytest.fixture
def unprinted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No PDFs: they take seconds, and one test looks at them."""

    async def refuse(_: str) -> bytes:
        raise PaperError("not printed here.")

    monkeypatch.setattr(kit_exporting, "printed", refuse)


# What a kit is.


def test_strangers_tools_find_it_right(made: Made) -> None:
    lists = {"manifest-sha256.txt": "sha256sum", "manifest-sha512.txt": "sha512sum", "b3sums.txt": "b3sum",
             "tagmanifest-sha256.txt": "sha256sum"}  # fmt: skip
    for name, tool in lists.items():
        subprocess.run([tool, "--check", "--quiet", name], cwd=made.folder, check=True)
    assert bagit.Bag(str(made.folder)).validate()
    for line in (made.folder / "sm3sums.txt").read_text("utf-8").splitlines():
        digest, name = line.split("  ")
        assert hashlib.new("sm3", (made.folder / name).read_bytes()).hexdigest() == digest


def test_the_court_s_checker_finds_it_right_by_itself(made: Made) -> None:
    assert (made.folder / "verify.py").read_bytes() == Path("packaging/kit/verify.py").read_bytes()
    code, text = check(made.folder)
    assert code == 0, text
    assert "全部正确 ALL IS RIGHT" in text
    assert "data: 9 个文件已与流转记录比对" in text, "three originals, statements and manifests"
    assert text.count("签名有效 is signed") == 3
    assert "日志只增未改" in text
    assert f"核验包 Kit, 请核对 compare: {made.kit.bag}" in text


def test_each_original_is_there_byte_for_byte(made: Made) -> None:
    found = sorted(
        path.read_bytes() for path in made.folder.glob("data/*/original_*") if path.suffix in (".mp4", ".jpg")
    )
    assert found == sorted(FILES.values())
    assert not made.kit.missing
    assert not made.kit.unsound


def test_the_log_tells_who_exported_what_by_which_approval(made: Made) -> None:
    with closing(Reader(made.station / "journal.db")) as reader:
        ((_, _, told),) = reader.exports(made.kit.recordings[1:])
        assert reader.exports(["another"]) == []
    assert told == Exported(
        made.kit.bag, "批〔2026〕7号", "李四", "移送", made.kit.recordings, made.kit.files, made.kit.size_bytes
    )
    assert hashlib.sha256((made.folder / "tagmanifest-sha256.txt").read_bytes()).hexdigest() == told.bag
    assert verify(made.station / "journal.db").consistent


def test_the_papers_say_what_was_found(made: Made) -> None:
    for name in ("note", "verification-report"):
        html = (made.folder / f"data/reports/{name}.html").read_text("utf-8")
        pages = PdfReader(io.BytesIO((made.folder / f"data/reports/{name}.pdf").read_bytes())).pages
        printed = re.sub(r"\s", "", "".join(page.extract_text() for page in pages))
        plain = re.sub(r"\s|<[^>]*>", "", html)
        for text in ("批〔2026〕7号", "李四", "证明药店未按处方销售药品", "张三", "视频2.MP4"):
            assert text in printed, f"{name}: {text}"
            assert text in plain, f"{name}: {text}"
    assert "共3份记录，原始性证明全部成立。" in plain
    for text in ("现已再次证明", "BLAKE3与SHA-256均已比对", "第1号清单", "按期入库", "时钟偏差未测", "不是对证据资格"):
        assert text in plain, text
    assert "原始资料：已采集，回读校验一致" in plain
    assert "采集信息：已保存，回读校验一致" in plain
    assert "删除" not in plain


def test_premis_tells_the_same_in_the_words_of_archives(made: Made) -> None:
    root = ET.parse(made.folder / "data/reports/premis.xml").getroot()
    assert (root.tag, root.get("version")) == (f"{PREMIS}premis", "3.0")
    assert [one.tag.removeprefix(PREMIS) for one in root] == sorted(
        (one.tag.removeprefix(PREMIS) for one in root), key=["object", "event", "agent"].index
    )
    sums = {line.split("  ")[1]: line.split()[0] for line in _text(made.folder, "manifest-sha256.txt").splitlines()}
    for one in root.iter(f"{PREMIS}object"):
        name = one.findtext(f".//{PREMIS}contentLocationValue")
        assert sums[str(name)] == one.findtext(f".//{PREMIS}messageDigest")
    assert {one.findtext(f".//{PREMIS}originalName") for one in root.iter(f"{PREMIS}object")} >= FILES.keys() | {None}
    types = {str(one.text) for one in root.iter(f"{PREMIS}eventType")}
    assert (
        {"ingestion", "fixity check", "replication", "digital signature generation", "exporting"} <= types <= VOCABULARY
    )
    assert {one.text for one in root.iter(f"{PREMIS}eventOutcome")} == {"success"}


# What is done to it.


def listed_anew(folder: Path) -> None:
    """Write every list of a bag again, as whoever has it can."""
    for algorithm, name in (("sha256", "manifest-sha256.txt"), ("sha512", "manifest-sha512.txt")):
        files = sorted(path for path in (folder / "data").rglob("*") if path.is_file())
        _listed(folder, name, files, algorithm)
    files = [path for path in (folder / "data").rglob("*") if path.is_file()]
    info = re.sub(
        "Oxum: .*", f"Oxum: {sum(path.stat().st_size for path in files)}.{len(files)}", _text(folder, "bag-info.txt")
    )
    (folder / "bag-info.txt").write_text(info, "utf-8")
    tags = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith("tagmanifest")]
    _listed(folder, "tagmanifest-sha256.txt", sorted(tags), "sha256")


def _text(folder: Path, name: str) -> str:
    return (folder / name).read_text("utf-8")


def _listed(folder: Path, name: str, files: list[Path], algorithm: str) -> None:
    digests = {path: hashlib.new(algorithm, path.read_bytes()).hexdigest() for path in files}
    (folder / name).write_text("".join(f"{digest}  {path.relative_to(folder)}\n" for path, digest in digests.items()))


def one(folder: Path, pattern: str, number: int = 0) -> Path:
    return sorted(folder.glob(pattern))[number]


def swap(first: Path, second: Path) -> None:
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def edited(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def resummed(manifest: Path) -> None:
    """A changed manifest whose own digests are right again; only the signature can't be."""
    line, *rest = manifest.read_text("utf-8").split("\n")
    line = line.replace('"number":1', '"number":7')
    rest[0] = f"sha256 {hashlib.sha256(line.encode()).hexdigest()}"
    manifest.write_text("\n".join([line, *rest]), "utf-8")


def without_line(kit: Path, what: bytes) -> None:
    """Leave out the first event of which something is said, and its proof."""
    log, proofs = kit / "data/log/events.jsonl", kit / "data/log/events.jsonl.proofs"
    lines, paths = log.read_bytes().splitlines(keepends=True), proofs.read_bytes().splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if what in line)
    log.write_bytes(b"".join(lines[:place] + lines[place + 1 :]))
    proofs.write_bytes(b"".join(paths[:place] + paths[place + 1 :]))


def renamed(path: Path, old: str, new: str) -> None:
    path.rename(path.with_name(path.name.replace(old, new)))


ATTACKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte of an original": (lambda kit: edited(one(kit, "data/*/original_*.mp4"), b"o", b"p"), "SHA-256 不符"),
    "an original is gone": (lambda kit: one(kit, "data/*/original_*.mp4").unlink(), "缺失"),
    "a file is added": (lambda kit: (kit / "data/more.mp4").write_bytes(b"more"), "more.mp4: 不在任何清单中"),
    "a tag file is added": (lambda kit: (kit / "note.txt").write_bytes(b"more"), "note.txt: 不在任何清单中"),
    "two originals are swapped": (
        lambda kit: swap(one(kit, "data/001*/original_*.[mj]*"), one(kit, "data/002*/original_*.[mj]*")),
        "SHA-256 不符",
    ),
    "the list of lists is gone": (lambda kit: (kit / "tagmanifest-sha256.txt").unlink(), "不在任何清单中"),
}
RELISTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte of an original": (lambda kit: edited(one(kit, "data/*/original_*.mp4"), b"o", b"p"), "与流转记录不符"),
    "two originals are swapped": (ATTACKS["two originals are swapped"][0], "与流转记录不符"),
    "two recordings are swapped": (
        lambda kit: (
            (first := one(kit, "data/001*")).rename(kit / "x"),
            (second := one(kit, "data/002*")).rename(first.with_name(second.name.replace("002_", "001_"))),
            (kit / "x").rename(second.with_name(first.name.replace("001_", "002_"))),
            swap(one(kit, "data/001*/original_*.[mj]*"), one(kit, "data/002*/original_*.[mj]*")),
        ),
        "与流转记录不符",
    ),
    "a recording is added": (
        lambda kit: shutil.copytree(one(kit, "data/001*"), kit / "data/004_01a20621-ad00-7000-8000-000000000000"),
        "data/004_",
    ),
    "a file is added to a recording": (
        lambda kit: (one(kit, "data/001*") / "transcript_01a20621-ad00-7000.txt").write_text("我认罪"),
        "transcript_01a20621-ad00-7000.txt: 与流转记录不符",
    ),
    "a file is added beside them": (lambda kit: (kit / "data/more.mp4").write_bytes(b"more"), "data/more.mp4: 与流转"),
    "a statement is changed": (lambda kit: edited(one(kit, "data/001*/statement_*"), b"who", b"why"), "与流转记录不符"),
    "a statement passes for a transcript": (
        lambda kit: renamed(one(kit, "data/001*/statement_*"), "statement", "transcript"),
        "与流转记录不符",
    ),
    "the manifest of another recording": (
        lambda kit: swap(one(kit, "data/001*/*.manifest"), one(kit, "data/002*/*.manifest")),
        ".manifest: 与流转记录不符",
    ),
    "a manifest is moved": (
        lambda kit: (old := one(kit, "data/001*/*.manifest")).rename(one(kit, "data/002*") / old.name),
        ".manifest: 与流转记录不符",
    ),
    "a manifest is changed": (lambda kit: resummed(one(kit, "data/001*/*.manifest")), "签名无效"),
    "a manifest is nonsense": (
        lambda kit: one(kit, "data/001*/*.manifest").write_text("{}\nsha256 x\n\n— x AAAABBBB\n", "utf-8"),
        "与流转记录不符",
    ),
    "an event is nonsense": (lambda kit: edited(kit / "data/log/events.jsonl", b"[2,", b"[[,"), "不是日志中"),
    "an event is changed": (lambda kit: edited(kit / "data/log/events.jsonl", b"acquired", b"Acquired"), "不是日志中"),
    "an event is left out": (
        lambda kit: (log := kit / "data/log/events.jsonl").write_bytes(log.read_bytes().partition(b"\n")[2]),
        "行数不符",
    ),
    "an event and its proof are left out": (
        lambda kit: without_line(kit, b'"acquired"'),
        "与流转记录不符",
    ),
    "the checkpoint is re-dated": (
        lambda kit: edited(kit / "data/log/newest.checkpoint", b"time 2026", b"time 2025"),
        "签名无效",
    ),
    "an event is re-dated": (
        lambda kit: edited(kit / "data/log/events.jsonl", b"2026-11-23", b"2026-11-20"),
        "不是日志中",
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_changed_in_a_kit_is_named(folder: Path, attack: str) -> None:
    do, told = ATTACKS[attack]
    do(folder)
    code, text = check(folder)
    assert (code, told in text) == (1, True), text
    if "tag" not in attack and "lists" not in attack:  # BagIt lets these be added, or be away
        with pytest.raises(bagit.BagError):
            bagit.Bag(str(folder)).validate()


@pytest.mark.parametrize("attack", RELISTED)
def test_what_is_changed_with_new_lists_is_named_too(folder: Path, attack: str) -> None:
    do, told = RELISTED[attack]
    do(folder)
    listed_anew(folder)
    code, text = check(folder)
    assert (code, told in text) == (1, True), text
    assert bagit.Bag(str(folder)).validate(), "who writes the lists anew deceives what only reads lists"


def test_what_is_added_to_the_papers_shows_in_the_digest_of_the_kit(folder: Path, made: Made) -> None:
    """Nobody signs the papers: the station's log has the digest of the whole, which is to be compared."""
    edited(folder / "data/reports/note.html", "李四".encode(), "王五".encode())
    listed_anew(folder)
    code, text = check(folder)
    assert code == 0
    assert made.kit.bag not in text


# Where it may be written.


@pytest.mark.parametrize(
    "where", ["station", "station/vault", "station/vault/00", "link", "deep", "store", "store/originals"]
)
def test_nothing_is_written_where_evidence_is_kept(made: Made, tmp_path: Path, where: str) -> None:
    (tmp_path / "store" / "originals").mkdir(parents=True)
    (tmp_path / "station").symlink_to(made.station)
    (tmp_path / "link").symlink_to(tmp_path / "store")
    (tmp_path / "deep").symlink_to(made.station / "vault")
    parent = one(tmp_path, "station/vault/*") if where.endswith("00") else tmp_path / where
    config = config_of(made.station)
    config = replace(config, store=replace(config.store, options={"path": str(tmp_path / "store")}))
    with pytest.raises(RequestError, match="位于本站保存原始资料的位置"):
        check_place(parent / "kit", config, 0)


@pytest.mark.root
def test_a_bind_mount_of_the_vault_is_the_vault(made: Made, tmp_path: Path) -> None:
    target = tmp_path / "usb"
    target.mkdir()
    subprocess.run(["mount", "--bind", made.station / "vault", target], check=True)
    try:
        with pytest.raises(RequestError, match="位于本站保存原始资料的位置"):
            check_place(target / "kit", config_of(made.station), 0)
    finally:
        subprocess.run(["umount", target], check=True)


def _folder_with(path: Path, name: str) -> None:
    path.mkdir()
    (path / name).touch()


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (lambda kit: _folder_with(kit, "x"), "已存在且不为空"),
        (lambda kit: kit.touch(), "已存在且不为空"),
        (lambda kit: kit.symlink_to("elsewhere"), "已存在且不为空"),
        (lambda kit: part_of(kit).mkdir(), "上次导出未完成"),
        (lambda kit: kit.parent.rmdir(), "上级目录不存在"),
    ],
)
def test_only_a_new_folder_is_written(made: Made, tmp_path: Path, there: Callable[[Path], None], why: str) -> None:
    kit = tmp_path / "usb" / "kit"
    kit.parent.mkdir()
    there(kit)
    with pytest.raises(RequestError, match=why):
        check_place(kit, config_of(made.station), 0)


def test_a_place_without_room_is_refused_before_anything_is_written(made: Made, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="空间不足"):
        check_place(tmp_path / "kit", config_of(made.station), 1 << 60)


def test_a_recorder_is_never_written_to(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not detect.lies_on_recorder(tmp_path)
    assert not detect.lies_on_recorder(Path("/proc"))
    monkeypatch.setattr(place, "lies_on_recorder", lambda _: True)
    with pytest.raises(RequestError, match="位于记录设备上"):
        check_place(tmp_path / "kit", config_of(made.station), 0)


# Whole or not at all.


async def refused(
    station: Station, folder: Path, error: type[Exception], match: str | None, wanted: Wanted = ALL
) -> None:
    """The export fails, leaves nothing, and no event tells of one."""
    with pytest.raises(error, match=match):
        await export(station, folder, wanted)
    assert not list(folder.parent.glob("kit*"))
    reader = station.journal.reader
    assert reader.exports([row.recording.recording_id for row in reader.recordings()]) == []


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock, unprinted: None) -> AsyncIterator[Station]:
    async with filled(tmp_path / "station", clock) as station:
        yield station


async def test_a_damaged_original_is_handed_to_nobody(tmp_path: Path, station: Station) -> None:
    path = next(path for _, path, _ in station.vault.originals() if path.read_bytes() == FILES["/DCIM/0001.MP4"])
    path.chmod(0o640)
    edited(path, b"o", b"p")
    await refused(station, tmp_path / "kit", EvidenceError, "is not what was sealed")


async def test_what_is_not_journalled_gets_no_name(
    tmp_path: Path, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> int:
        raise JournalError("the disk failed")

    with monkeypatch.context() as patch:
        patch.setattr(type(station.journal), "record", fails)
        await refused(station, tmp_path / "kit", JournalError, "the disk failed")


async def test_a_medium_that_gives_back_other_bytes_gets_nothing(
    tmp_path: Path, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Bag.write

    def bent(bag: Bag, name: str, content: bytes | str) -> object:
        sums = written(bag, name, content)
        if name.startswith("tagmanifest"):
            swap(one(bag.folder, "data/001*/original_*.[mj]*"), one(bag.folder, "data/002*/original_*.[mj]*"))
        return sums

    monkeypatch.setattr(Bag, "write", bent)
    await refused(station, tmp_path / "kit", EvidenceError, "came back with other bytes")


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Wanted(["nobody"]), UnknownError),
        (Wanted(case="another case"), RequestError),
        (Wanted(), RequestError),
        (Wanted(activities=["nothing"]), UnknownError),
        (Wanted(dockings=["nothing"]), RequestError),
    ],
)
async def test_names_that_nothing_has_export_nothing(
    tmp_path: Path, station: Station, wanted: Wanted, error: type[Exception]
) -> None:
    await refused(station, tmp_path / "kit", error, None, wanted)


async def test_what_the_vault_lost_comes_from_the_store_and_else_is_told(tmp_path: Path, station: Station) -> None:
    for _, path, _ in list(station.vault.originals()):
        if path.read_bytes() == FILES["/DCIM/0001.MP4"]:
            path.unlink()
    kit = await export(station, tmp_path / "kit")
    assert not kit.missing
    assert check(tmp_path / "kit")[0] == 0
    store = station.store
    assert isinstance(store, FakeStore)
    rows = station.journal.reader.recordings()
    lost = next(row for row in rows if row.clip and row.clip.path == "/DCIM/0001.MP4")
    await station.journal.record(AssetChanged(lost.asset.asset_id, Lost("gone")))
    await sign(station)
    kit = await export(station, tmp_path / "kit2")
    assert kit.missing == (lost.recording.recording_id,)
    assert "不在包内" in (tmp_path / "kit2/data/reports/verification-report.html").read_text("utf-8")
    assert check(tmp_path / "kit2")[0] == 0, "what is there is right; what is not there is told by the report"


async def test_a_case_is_what_was_said_last_and_an_empty_folder_is_taken(tmp_path: Path, station: Station) -> None:
    rows = station.journal.reader.recordings()
    moved = rows[0].recording.recording_id
    await add_document(station, Statement("张三", "改", station.clock(), {"case_no": "另案"}), [moved])
    await refused(station, tmp_path / "kit", RequestError, "2 条流转记录尚未签名", Wanted([moved]))
    (tmp_path / "kit").mkdir()
    await sign(station)
    kit = await export(station, tmp_path / "kit")
    assert sorted((*kit.recordings, moved)) == sorted(row.recording.recording_id for row in rows)
    assert kit.unprinted == "not printed here."
    assert [path.name for path in tmp_path.glob("kit/data/reports/*.pdf")] == []
    both = await export(station, tmp_path / "kit2", Wanted(list(kit.recordings), case="另案"))
    assert len(both.recordings) == 3
    assert len(station.journal.reader.exports([moved])) == 1


async def test_without_a_signed_checkpoint_nothing_is_exported(tmp_path: Path, clock: SettableClock) -> None:
    async with opened(tmp_path / "station", clock) as station:
        await dock(station, FakeRecorder(dict(FILES), station.vault.staging_dir))
        name = station.journal.reader.recordings()[0].recording.recording_id
        await refused(station, tmp_path / "kit", RequestError, "条流转记录尚未签名", Wanted([name]))


@pytest.mark.parametrize("change", [{"approval": " "}, {"bag": "x"}, {"recordings": "[]"}, {"who": ""}])
async def test_the_journal_takes_no_export_without_approval_name_or_content(
    station: Station, change: dict[str, str]
) -> None:
    name = station.journal.reader.recordings()[0].recording.recording_id
    asked = {"bag": "ab" * 32, "approval": "7", "who": "a", "why": "b", "recordings": f'["{name}"]', "missing": "[]",
             "files": "1", "size_bytes": "2"}  # fmt: skip
    with pytest.raises(ValueError):
        await journal_export(station, asked | change)
    with pytest.raises(UnknownError):
        await journal_export(station, asked | {"recordings": '["nobody"]'})
    assert await journal_export(station, asked)


# The command.


def test_the_running_service_signs_and_journals_what_the_command_hands_over(tmp_path: Path) -> None:
    made = stage(tmp_path, {"manifest.quiet_s": "0", "runner.probe_pause_s": "0.1"})
    target = tmp_path / "kit"
    with running(made) as daemon:
        slot = daemon.dock(image(tmp_path / "card.img", {"DCIM/0001.MP4": Noise(70_000, 1)}))
        docking = daemon.until_phase(slot, "finished")["docking_id"]
        daemon.until(lambda: daemon.status()["counters"]["assets"]["stored"]["files"] == 1)
        daemon.until(lambda: not daemon.status()["manifests"]["to_sign"])
        asked = ("export", "--docking", docking, "--to", str(target), "--who", "李四", "--why", "移送", "--json")
        refused = call(made, *asked)
        assert (refused.returncode, "--approval" in refused.stderr) == (2, True)
        assert call(made, *asked, "--approval", "  ").returncode == 2
        assert not target.exists()
        done = call(made, *asked, "--approval", "批〔2026〕7号", timeout_s=100)
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        again = call(made, *asked, "--approval", "批〔2026〕8号")
        assert (again.returncode, json.loads(again.stdout)["exit"]) == (2, 2)
    code, text = check(target)
    assert code == 0, text
    assert told["bag"] in text
    with closing(Reader(made.station / "journal.db")) as reader:
        assert [one.bag for _, _, one in reader.exports(told["recordings"])] == [told["bag"]]


# The bag by itself.


@settings(max_examples=25, deadline=None)
@given(files=st.dictionaries(st.from_regex(r"[a-z0-9_]{1,8}(/[a-z0-9_.-]{1,12}[a-z0-9])?", fullmatch=True),
                             st.binary(max_size=3000), min_size=1, max_size=6), label=st.text(max_size=40))  # fmt: skip
def test_any_files_make_a_bag_that_strangers_find_valid(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], label: str
) -> None:
    folder = tmp_path_factory.mktemp("bag")
    names = {name for name in files if not any(other.startswith(f"{name}/") for other in files)}
    with Bag(folder) as bag:
        for name in sorted(names):
            sums = bag.write(f"data/{name}", files[name])
            assert sums.digests["sha256"] == hashlib.sha256(files[name]).hexdigest()
        digest = bag.close([("External-Description", label)])
    assert digest == hashlib.sha256((folder / "tagmanifest-sha256.txt").read_bytes()).hexdigest()
    assert bagit.Bag(str(folder)).validate()
    assert {name: (folder / "data" / name).read_bytes() for name in names} == {name: files[name] for name in names}


def test_a_folder_is_named_whole_and_replaces_nothing(tmp_path: Path) -> None:
    part = tmp_path / "kit.part"
    _folder_with(part, "x")
    (tmp_path / "kit").mkdir()
    durable.name_finished(part, tmp_path / "kit")
    assert (tmp_path / "kit/x").exists()
    _folder_with(part, "y")
    with pytest.raises(OSError):
        durable.name_finished(part, tmp_path / "kit")
    assert [path.name for path in (tmp_path / "kit").iterdir()] == ["x"]
    durable.remove_work(part)
    with pytest.raises(AssertionError):
        durable.remove_work(tmp_path / "kit")
