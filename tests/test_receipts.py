"""Promise: a receipt never says more than is true, and none but the station can make one that is taken for genuine."""

from __future__ import annotations

import asyncio
import io
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pypdf
import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from agent.config import Milestone
from agent.config import Station as StationName
from agent.errors import AgentError, EvidenceError, JournalError, RequestError
from agent.journal.codec import leaf, read_leaf, to_text
from agent.journal.views import Accounting, DockingView, TakenFile
from agent.model import (
    AssetChanged,
    AssetState,
    Clearing,
    Clip,
    Damaged,
    Finding,
    Incident,
    Lost,
    Outcome,
    ReceiptIssued,
)
from agent.papers.printing import printed
from agent.pipeline import checkpoints
from agent.pipeline.receipts import ReceiptLane, asked_for, issue
from agent.pipeline.rotation import rotate
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from agent.receipts import NOT_ALL_SEEN, composed, list_digest, verified
from agent.signing import station_key
from agent.states import is_kept
from agent.status.receipt import code_of, issued, read_receipt, receipt_page
from agent.tlog.checkpoint import Checkpoint
from agent.tlog.keys import Algorithm, Ed25519Verifier, Key, Signer, Verifier
from agent.tlog.proof import Proof
from agent.tlog.texts import NoteError
from agent.tlog.tree import leaf_hash
from tests.chromium import browsing
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder
from tests.journal_entries import DEVICE, NOW, clip, receipt, wanted
from tests.noted import made_log
from tests.stations import dock, opened

NAMED = StationName(name="东城采集站", contact="0531-12345")
FILES = {f"/DCIM/视频{n:04}.MP4": f"clip {n}".encode() for n in range(1, 4)}


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with opened(tmp_path / "root", clock) as station:
        await checkpoints.begin(station, station_key(tmp_path / "root", tmp_path / "none"))
        yield station


def recorder(station: Station, files: dict[str, bytes] = FILES, **switches: object) -> FakeRecorder:
    return FakeRecorder(dict(files), station.vault.staging_dir, **switches)  # type: ignore[arg-type]


async def store_all(station: Station) -> None:
    lane = StoreLane(station)
    while station.journal.reader.next_to_store(station.clock()) is not None:
        delivery = await lane.take()
        await lane.store(delivery)
        lane.give_back(delivery)


async def receipts(station: Station) -> list[ReceiptIssued]:
    """What the lane issues now, one docking after the other."""
    before = station.journal.reader.log_size()
    lane = ReceiptLane(station)
    while station.journal.reader.next_to_receipt() is not None:
        await lane.step()
    size = station.journal.reader.log_size()
    entries = [read_leaf(station.journal.reader.log_leaf(seq))[2] for seq in range(before + 1, size + 1)]
    return [entry for entry in entries if isinstance(entry, ReceiptIssued)]


async def code(station: Station, files: dict[str, bytes] = FILES, **switches: object) -> str:
    """The text of the code of a docking that was signed for."""
    await dock(station, recorder(station, files, **switches))
    await receipts(station)
    await checkpoints.sign(station)
    proof = issued(station.journal.reader, "").proof
    assert proof is not None
    return code_of(proof)


def trusted(station: Station) -> tuple[Verifier, ...]:
    return station.journal.reader.verifiers(station.custody.origin)


# What it says


async def test_a_recorder_may_be_cleared_once_everything_on_it_is_stored(station: Station) -> None:
    await dock(station, recorder(station))
    [first] = await receipts(station)
    assert (first.clearing, first.number, first.seen, first.taken, first.stored) == (Clearing.NOT_STORED, 1, 3, 3, 0)
    assert await receipts(station) == []
    await store_all(station)
    [second] = await receipts(station)
    assert (second.clearing, second.number, second.stored) == (Clearing.CLEAR, 2, 3)
    assert second.list_sha256 == first.list_sha256
    assert second.size_bytes == sum(map(len, FILES.values()))
    assert await receipts(station) == []


async def test_where_this_station_is_the_dedicated_storage_holding_is_enough(station: Station) -> None:
    station.satisfied_by = Milestone.LOCAL
    await dock(station, recorder(station))
    [one] = await receipts(station)
    assert (one.clearing, one.stored) == (Clearing.CLEAR, 0)


@pytest.mark.parametrize(
    ("switches", "taken"),
    [
        ({"gone_after_bytes": 10}, 1),
        ({"bad": {"/DCIM/视频0002.MP4": 0}}, 2),
        ({"changed": {"/DCIM/视频0002.MP4"}}, 2),
        ({"refused": {"/DCIM/loop": "a loop"}}, 3),
        *(({"findings": [Finding(kind, {})]}, 3) for kind in NOT_ALL_SEEN),
    ],
)
async def test_what_could_not_be_pulled_whole_keeps_the_recorder_from_being_cleared(
    station: Station, switches: dict[str, Any], taken: int
) -> None:
    await dock(station, recorder(station, **switches))
    await store_all(station)
    [one] = await receipts(station)
    assert (one.clearing, one.taken) == (Clearing.NOT_ALL_TAKEN, taken)


class Cut(FakeRecorder):
    """A recorder whose directory says more bytes than its chains have."""

    def _clip(self, number: int, path: str, size: int) -> Clip:
        return replace(super()._clip(number, path, size), size_bytes=size + 1)


async def test_a_file_that_ends_early_keeps_it_too(station: Station) -> None:
    await dock(station, Cut(dict(FILES), station.vault.staging_dir))
    await store_all(station)
    [one] = await receipts(station)
    assert one.clearing is Clearing.NOT_ALL_TAKEN


@pytest.mark.parametrize(("proven", "held", "clearing"), [
    (1, False, Clearing.TRACES), (0, False, Clearing.CLEAR), (1, True, Clearing.CLEAR),
])  # fmt: skip
async def test_what_was_deleted_and_may_be_recovered_keeps_it_too(
    station: Station, proven: int, held: bool, clearing: Clearing
) -> None:
    gone = Finding("absence", {"assets": [], "segments": 1, "proven": proven, "held": held, "told": False})
    await dock(station, recorder(station, findings=[gone]))
    await store_all(station)
    [one] = await receipts(station)
    assert one.clearing is clearing


async def test_the_same_footage_on_another_recorder_is_taken_over_too(station: Station) -> None:
    await dock(station, recorder(station))
    await dock(station, recorder(station, {"/X.MP4": b"clip 1"}, serial="other"))
    first, second = await receipts(station)
    assert (second.taken, second.clearing) == (1, Clearing.NOT_STORED)
    assert first.docking_id != second.docking_id
    await store_all(station)
    assert [one.clearing for one in await receipts(station)] == [Clearing.CLEAR] * 2


async def test_what_the_vault_has_lost_is_not_said_to_be_here(station: Station) -> None:
    await dock(station, recorder(station))
    file = next(station.journal.reader.taken_files(station.journal.reader.dockings()[0].docking_id))
    assert file.keeper is not None
    await station.journal.record(AssetChanged(file.keeper.asset_id, Damaged("a bit", source_docked=False)))
    await store_all(station)
    [one] = await receipts(station)
    assert (one.clearing, one.taken) == (Clearing.NOT_ALL_TAKEN, 2)


async def test_what_a_store_lost_again_is_not_counted(station: Station) -> None:
    await dock(station, recorder(station))
    await store_all(station)
    docking = station.journal.reader.dockings()[0].docking_id
    asset = next(station.journal.reader.taken_files(docking)).keeper
    assert asset is not None
    await station.journal.record(AssetChanged(asset.asset_id, Lost("gone")))
    said = composed(station.journal.reader, docking, Milestone.CENTRAL)
    assert (said.clearing, said.stored) == (Clearing.NOT_STORED, 2)


@dataclass
class Told:
    """A reader that tells of one docking whatever it is given."""

    view: DockingView
    files: tuple[TakenFile, ...]
    found: tuple[Finding, ...]

    def docking(self, _: str) -> DockingView:
        return self.view

    def taken_files(self, _: str) -> tuple[TakenFile, ...]:
        return self.files

    def receipt_of(self, _: str) -> None:
        return None

    def findings(self, _: str, kinds: tuple[str, ...]) -> tuple[Finding, ...]:
        return tuple(one for one in self.found if one.kind in kinds)

    def absences(self, _: str) -> list[dict[str, object]]:
        return []


KEEPERS = st.builds(
    lambda state, stored, resume_to: replace(
        wanted("a"), state=state, resume_to=resume_to, receipt=receipt("a") if stored else None
    ),
    st.sampled_from(AssetState), st.booleans(), st.sampled_from([None, AssetState.WANTED, AssetState.HELD]),
)  # fmt: skip
TAKEN_FILES = st.builds(
    lambda outcome, keeper, cut: TakenFile(replace(clip(1), readable_bytes=1000 - cut), outcome, keeper, None),
    st.sampled_from([Outcome.PULLED] * 6 + list(Outcome)), st.none() | KEEPERS, st.sampled_from([0, 0, 0, 1]),
)  # fmt: skip


@given(
    st.lists(TAKEN_FILES, max_size=4),
    st.sampled_from(["complete", "complete", "yanked", "changed", "failed"]),
    st.sampled_from([(), (), (Finding("truncated-volume", {}),)]),
    st.sampled_from(Milestone),
)
def test_whatever_happened_cleared_is_only_what_is_whole_here_and_stored(
    files: list[TakenFile], reason: str, found: tuple[Finding, ...], by: Milestone
) -> None:
    view = DockingView("d1", DEVICE, "1", NOW, NOW, NOW, reason, Accounting())
    said = composed(Told(view, tuple(files), found), "d1", by)  # type: ignore[arg-type]
    assert said.seen == len(files) >= said.taken >= said.stored
    if said.clearing is Clearing.CLEAR:
        assert (reason, found) == ("complete", ())
        for one in files:
            assert one.keeper is not None
            assert is_kept(one.keeper)
            assert by is Milestone.LOCAL or one.keeper.receipt is not None
            assert one.outcome in (Outcome.PULLED, Outcome.ALREADY_HELD)
            assert one.clip.readable_bytes == one.clip.size_bytes


async def test_a_docking_that_is_under_way_has_no_receipt_and_numbers_have_no_gap(station: Station) -> None:
    with pytest.raises(JournalError, match="no docking"):
        await issue(station, "nothing")
    await dock(station, recorder(station))
    said = await issue(station, station.journal.reader.dockings()[0].docking_id)
    for number in (1, 3):
        with pytest.raises(JournalError, match="can't have a receipt"):
            await station.journal.record(replace(said, number=number))


async def test_who_handed_it_over_is_said_if_somebody_said_so(station: Station) -> None:
    await dock(station, recorder(station))
    [one] = await receipts(station)
    assert one.by == ""
    assert "未登记" in receipt_page(issued(station.journal.reader, ""), NAMED)
    await asked_for(station, {"docking": one.docking_id, "by": " 张三 "})
    await store_all(station)
    [last] = await receipts(station)
    assert (last.by, last.number) == ("张三", 3)


# Whether it is genuine


async def test_the_code_alone_proves_the_receipt(station: Station) -> None:
    found = verified(Proof.parse((await code(station)).encode()), trusted(station))
    assert found.said.clearing is Clearing.NOT_STORED
    assert found.checkpoint.origin == station.custody.origin


async def test_every_changed_letter_of_a_code_is_noticed(station: Station) -> None:
    text = await code(station)
    logs = trusted(station)
    for place in range(len(text) - 1):
        other = "B" if text[place] == "A" else "A"
        with pytest.raises(AgentError):
            verified(Proof.parse((text[:place] + other + text[place + 1 :]).encode()), logs)
    for cut in (text[:-1], text[1:], text + "\n", text.replace("\n\n", "\n"), ""):
        with pytest.raises(AgentError):
            verified(Proof.parse(cut.encode()), logs)


async def test_a_receipt_that_another_key_signed_is_forged(station: Station, tmp_path: Path) -> None:
    """The forger says what he likes, and has a log of his own under the name of the station's."""
    (tmp_path / "forger").mkdir()
    forger = station_key(tmp_path / "forger", tmp_path / "none")
    genuine = Proof.parse((await code(station)).encode())
    _, at, said = read_leaf(genuine.extra or b"")
    assert isinstance(said, ReceiptIssued)
    text = leaf(1, at.isoformat(), "receipt_issued", said.docking_id, to_text(replace(said, clearing=Clearing.CLEAR)))
    origin = station.custody.origin
    forged = Proof(0, (), Checkpoint(origin, 1, leaf_hash(text)).signed(Signer(origin, forger)), text)
    theirs = Ed25519Verifier(Key(origin, Algorithm.ED25519, forger.public))
    assert verified(forged, [theirs]).said.clearing is Clearing.CLEAR, "to whom trusts the forger"
    with pytest.raises(NoteError, match="not signed by a key that is trusted"):
        verified(forged, trusted(station))
    moved = replace(genuine, extra=text)
    with pytest.raises(NoteError, match="doesn't hold"):
        verified(moved, trusted(station))


async def test_receipts_of_before_the_key_was_changed_stay_genuine(station: Station) -> None:
    before = await code(station)
    old = issued(station.journal.reader, "").fingerprints
    await rotate(station, {"who": "李四", "why": "每年更换"})
    after = await code(station, {"/DCIM/NEW.MP4": b"new"})
    found = issued(station.journal.reader, "")
    assert len(found.fingerprints) == len(old) == 1
    assert found.fingerprints != old
    assert found.fingerprints[0] in receipt_page(found, NAMED)
    for text in (before, after):
        assert verified(Proof.parse(text.encode()), trusted(station)).said.taken


async def test_an_event_that_is_no_receipt_proves_none(station: Station) -> None:
    seq = await station.journal.record(Incident("may-be-cleared", {"docking_id": "d1"}))
    await checkpoints.sign(station)
    proof = station.journal.reader.proof(seq)
    assert proof is not None
    proof = replace(proof, extra=station.journal.reader.log_leaf(seq))
    with pytest.raises(EvidenceError, match="no receipt"):
        verified(proof, trusted(station))


@given(st.binary(max_size=60))
def test_bytes_that_are_no_event_are_none(content: bytes) -> None:
    with pytest.raises(JournalError):
        read_leaf(content)


def test_an_event_has_one_form_only() -> None:
    content = leaf(7, NOW.isoformat(), "incident", "", to_text(Incident("tick")))
    assert read_leaf(content) == (7, NOW, Incident("tick"))
    for other in (content.replace(b",", b", "), content.replace(b"[7", b"[7.0"), content.replace(b"+00:00", b"")):
        with pytest.raises(JournalError):
            read_leaf(other)


# The paper


async def test_the_html_has_the_list_that_was_signed(station: Station, tmp_path: Path) -> None:
    """`sha256sum --check` reads it off the page; names that would break a line or a page are shown as they are."""
    files = {"/a b.MP4": b"1", "/<b>&amp;.MP4": b"2", "/x\ny\u202e.MP4": b"3"}
    await code(station, files, refused={"/loop": "a loop"})
    found = issued(station.journal.reader, "")
    _, listed = read_receipt(receipt_page(found, NAMED))
    with pytest.raises(EvidenceError, match="more than one"):
        read_receipt(receipt_page(found, NAMED) + '<pre id="list" class="digest">a list that is seen</pre>')
    assert listed is not None
    assert list_digest(listed) == found.receipt.said.list_sha256
    assert "# refused  /loop\n" in listed
    assert "\\x0a" in listed or "\\n" in listed
    for name, content in files.items():
        if name.isprintable():
            (tmp_path / name[1:]).write_bytes(content)
    listed = "".join(line.replace("  /", "  ") for line in listed.splitlines(keepends=True) if "u202e" not in line)
    await asyncio.to_thread(
        subprocess.run, ["sha256sum", "--check", "--strict"], input=listed.encode(), cwd=tmp_path, check=True
    )


async def test_a_list_that_is_another_by_now_is_not_printed_under_the_old_receipt(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    await code(station)
    monkeypatch.setattr("agent.status.receipt.list_of", lambda _: "nothing\n")
    with pytest.raises(EvidenceError, match="not those that its receipt lists"):
        issued(station.journal.reader, "")


async def test_without_a_signature_the_paper_says_that_nothing_proves_it(station: Station) -> None:
    await dock(station, recorder(station))
    with pytest.raises(RequestError, match="no receipt yet"):
        issued(station.journal.reader, station.journal.reader.dockings()[0].docking_id)
    await receipts(station)
    paper = receipt_page(issued(station.journal.reader, ""), NAMED)
    assert "尚未签名" in paper
    assert "<svg" not in paper


async def test_however_much_was_docked_it_is_printed_on_one_page(station: Station) -> None:
    for count in (10, 300):
        await code(station, {f"/DCIM/101MEDIA/视频_现场检查_{n:05}.MP4": b"%d" % n for n in range(count)})
        found = issued(station.journal.reader, "")
        content = await printed(receipt_page(found, NAMED, is_whole=False))
        pdf = pypdf.PdfReader(io.BytesIO(content))
        [text] = [one.extract_text().replace("\n", "") for one in pdf.pages]
        assert found.receipt.said.list_sha256 in text
        assert f"发现 {count}，已采集 {count}" in text
        assert found.fingerprints[0] in text
        assert ("视频_现场检查_00009" in text) is (count == 10)


async def test_a_telephone_reads_the_code_off_the_page(station: Station, tmp_path: Path) -> None:
    text = await code(station)
    paper = tmp_path / "receipt.html"
    paper.write_text(receipt_page(issued(station.journal.reader, ""), NAMED), "utf-8")
    async with browsing(paper.as_uri(), tmp_path / "profile") as browser:
        await browser.shows("交接回执")
        await browser.screenshot(tmp_path / "receipt.png")
        assert browser.console == []
    [read] = zxingcpp.read_barcodes(Image.open(tmp_path / "receipt.png"))
    assert read_receipt(read.text)[0] == text


def test_the_code_of_the_millionth_event_fits() -> None:
    said = ReceiptIssued(
        "01936b2f-7c1e-7000-8000-0123456789ab", 1, Clearing.NOT_ALL_TAKEN, "执" * 16, 9999, 9999, 9999, 1 << 45,
        "ab" * 32, NOW, None, "阿卜杜热合曼·阿卜杜热依木",
    )  # fmt: skip
    text = leaf(1_000_000, NOW.isoformat(timespec="microseconds"), "receipt_issued", said.docking_id, to_text(said))
    made = made_log()
    note = Checkpoint("capture-agent/0123456789abcdef", 1_000_001, bytes(32), ("time 2026-11-23T08:00:00Z",))
    proof = Proof(999_999, (bytes(range(32)),) * 20, note.signed(made.signer), text)
    assert len(code_of(proof).encode()) <= 2000
