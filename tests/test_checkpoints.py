"""Promise: nobody without the key can change what was signed, and who has the key is exposed by those who saw it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.neighbours import CustodyLog
from agent.errors import JournalError
from agent.journal import Reader, verify
from agent.model import CheckpointCosigned, CheckpointSigned, CheckpointStored, Incident
from agent.pipeline import checkpoints
from agent.pipeline.checkpoints import CheckpointLane, begin, sign
from agent.pipeline.custody import Custody
from agent.pipeline.station import Station
from agent.signing import station_key
from agent.tlog.checkpoint import Checkpoint, opened
from agent.tlog.note import Note
from tests import stations
from tests.journal_entries import NOW, receipt
from tests.test_journal_audit import intruder

NOWHERE = Path("/nonexistent/credential")


@asynccontextmanager
async def signing(root: Path, *, origin: str = "", now: datetime = NOW) -> AsyncIterator[Station]:
    """A station that can sign, with the key of its folder."""
    async with stations.opened(root, lambda: now) as station:
        station.custody = Custody(CustodyLog(origin=origin, checkpoint_every_s=3600))
        await begin(station, station_key(root, NOWHERE))
        yield station


async def ticks(station: Station, count: int) -> None:
    await station.journal.record(*(Incident("tick", {"n": number}) for number in range(count)))


def in_force(reader: Reader, origin: str) -> list[Checkpoint]:
    """Every checkpoint of the journal, each signed by a key of the station."""
    keys = checkpoints.verifiers(reader, origin)
    return [opened(Note.parse(view.note.encode()), origin, keys) for view in reader.checkpoints(limit=1000)]


async def test_checkpoints_are_numbered_signed_and_continue_each_other(tmp_path: Path) -> None:
    async with signing(tmp_path) as station:
        for count in (1, 7, 300, 0):
            await ticks(station, count)
            entry = await sign(station)
            assert entry is not None
        reader, origin = station.journal.reader, station.custody.origin
        found = in_force(reader, origin)
        assert station.custody.key is not None
        assert origin == f"capture-agent/{station.custody.key.fingerprint[:16]}"
        assert [view.number for view in reader.checkpoints()] == [1, 2, 3, 4]
        assert [one.size for one in found] == [2, 10, 311, 312]
        assert [one.root for one in found] == [reader.log_root(one.size) for one in found]
        assert found[0].extensions == ("time 2026-07-06T09:00:00Z",)
        assert reader.newest_checkpoint() == reader.checkpoint(4) != reader.checkpoint(3)
        assert reader.checkpoint(5) is None
    assert verify(tmp_path / "journal.db").consistent


async def test_the_name_stays_whatever_is_configured_later(tmp_path: Path) -> None:
    async with signing(tmp_path, origin="bureau.example/dock") as station:
        await sign(station)
    async with signing(tmp_path, origin="other") as station:
        assert station.custody.origin == "bureau.example/dock"
        await sign(station)
        assert len(in_force(station.journal.reader, "bureau.example/dock")) == 2


@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=6), data=st.data())
def test_every_event_that_a_checkpoint_covers_is_proved_by_the_first_that_does(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], data: st.DataObject
) -> None:
    async def proved() -> None:
        async with signing(tmp_path_factory.mktemp("log")) as station:
            for count in counts:
                await ticks(station, count)
                await sign(station)
            reader, origin = station.journal.reader, station.custody.origin
            seq = data.draw(st.integers(1, reader.log_size()))
            proof, view = reader.proof(seq), reader.checkpoint_over(seq)
            assert (proof is None) == (view is None) == (seq == reader.log_size())
            if proof is not None and view is not None:
                found = proof.verified(reader.log_leaf(seq), origin, checkpoints.verifiers(reader, origin))
                assert seq <= found.size == view.size
                assert len(proof.encode()) < 2048
                before = reader.checkpoint(view.number - 1)
                assert before is None or before.size < seq

    asyncio.run(proved())


async def test_without_a_key_nothing_is_signed_and_nobody_fails(tmp_path: Path) -> None:
    async with stations.opened(tmp_path, lambda: NOW) as station:
        assert await sign(station) is None
        assert station.custody.signers == ()
        assert station.journal.reader.newest_checkpoint() is None


async def test_the_lane_signs_at_the_start_and_when_somebody_asks(tmp_path: Path) -> None:
    async with signing(tmp_path) as station:
        lane = CheckpointLane(station)
        await lane.step()
        assert station.journal.reader.newest_checkpoint() is not None
        waiting = asyncio.create_task(lane.step())
        await asyncio.sleep(0)
        assert not waiting.done()
        station.custody.asked.set()
        await waiting
        assert [view.number for view in station.journal.reader.checkpoints()] == [1, 2]


async def test_two_who_sign_at_once_sign_one_after_the_other(tmp_path: Path) -> None:
    async with signing(tmp_path) as station:
        entries = await asyncio.gather(*(sign(station) for _ in range(5)))
        assert sorted(entry.number for entry in entries if entry) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "entry",
    [
        CheckpointSigned(1, 2, "again"),
        CheckpointSigned(3, 3, "a gap"),
        CheckpointSigned(2, 0, "it shrinks"),
        CheckpointSigned(2, 1000, "of events that are not there"),
        CheckpointStored(2, receipt("a")),
        CheckpointCosigned(2, "— nobody AAAA\n"),
    ],
)
async def test_the_journal_takes_no_checkpoint_out_of_its_order(
    tmp_path: Path, entry: CheckpointSigned | CheckpointStored | CheckpointCosigned
) -> None:
    async with signing(tmp_path) as station:
        await sign(station)
        await ticks(station, 3)
        with pytest.raises(JournalError):
            await station.journal.record(entry)


async def test_a_receipt_is_taken_once_and_cosignatures_go_below_the_note(tmp_path: Path) -> None:
    async with signing(tmp_path) as station:
        await sign(station)
        await sign(station)
        reader = station.journal.reader
        first = reader.checkpoint_to_store()
        assert first is not None
        await station.journal.record(CheckpointStored(1, receipt("a")), CheckpointCosigned(1, "— witness AAAAAAA=\n"))
        with pytest.raises(JournalError, match="waits for no receipt"):
            await station.journal.record(CheckpointStored(1, receipt("a")))
        found = reader.checkpoint(1)
        assert found is not None
        assert (found.receipt, found.note) == (receipt("a"), first.note + "— witness AAAAAAA=\n")
        second = reader.checkpoint_to_store()
        assert second is not None
        assert second.number == 2
        assert len(in_force(reader, station.custody.origin)) == 2, "what witnesses add takes nothing away"
    assert verify(tmp_path / "journal.db").consistent


# Attacks on the file while the service stands still.

CHANGED = "UPDATE event SET detail = replace(detail, '\"n\":3', '\"n\":4') WHERE kind = 'incident'"
OTHER_NOTE = "UPDATE checkpoint SET note = replace(note, char(10) || '12' || char(10), char(10) || '11' || char(10))"


def cut_tail(path: Path, seq: int) -> None:
    with intruder(path) as db:
        db.execute("DELETE FROM event WHERE seq > ?", (seq,))
        db.execute("DELETE FROM tree")


ATTACKS = {
    "a changed event": (CHANGED, "its first 12 events are not those that checkpoint 2"),
    "an event re-dated": (
        "UPDATE event SET at = '2020' || substr(at, 5) WHERE seq = 5",
        "its first 12 events",
    ),
    "two events swapped": ("", "its first 12 events"),
    "the tail cut": ("DELETE FROM event WHERE seq > 8", "it has 9 events where 12 were signed by checkpoint 2"),
    "a changed checkpoint": (OTHER_NOTE, "checkpoint 2 was changed"),
    "a checkpoint of nobody": ("UPDATE checkpoint SET note = 'x'", "checkpoint 2 was changed"),
    "somebody else's": (
        "UPDATE checkpoint SET note = substr(note, 1, length(note) - 10) || 'AAAAAAAA=' || char(10)",
        "checkpoint 2 was changed",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_what_was_changed_in_the_file_is_never_signed(tmp_path: Path, attack: str) -> None:
    statement, told = ATTACKS[attack]
    async with signing(tmp_path) as station:
        await ticks(station, 8)
        await sign(station)
        await ticks(station, 2)
        await sign(station)
    with intruder(tmp_path / "journal.db") as db:
        if not statement:
            db.execute("UPDATE event SET seq = -seq WHERE seq IN (1, 2)")
            db.execute("UPDATE event SET seq = 3 + seq WHERE seq < 0")
        else:
            db.execute(statement)
    async with signing(tmp_path) as station:
        size = station.journal.reader.log_size()
        assert await sign(station) is None
        assert told in station.custody.fork
        assert any("已停止签名" in problem for problem in station.custody.problems())
        (told_of,) = station.journal.reader.events(size)
        assert "log-forked" in told_of.detail
        assert await sign(station) is None, "for good, and told once"
        assert station.journal.reader.log_size() == size + 1


async def test_an_older_copy_under_the_running_service_is_never_signed(tmp_path: Path) -> None:
    """The file of before is put back between two checkpoints, with everything in it right."""
    async with signing(tmp_path) as station:
        await ticks(station, 3)
        await sign(station)
    copy = shutil.copy(tmp_path / "journal.db", tmp_path / "copy.db")
    async with signing(tmp_path) as station:
        ours = await sign(station)
    shutil.copy(copy, tmp_path / "journal.db")
    async with signing(tmp_path) as station:
        station.custody.last = ours
        assert await sign(station) is None
        assert "checkpoint 2, which was signed last, is not its last one any more" in station.custody.fork


async def test_a_clock_that_is_set_back_shows_in_the_order_of_the_checkpoints(tmp_path: Path) -> None:
    for ago in (0, 48):
        async with signing(tmp_path, now=NOW - timedelta(hours=ago)) as station:
            await sign(station)
            found = in_force(station.journal.reader, station.custody.origin)
    assert [one.extensions for one in found] == [("time 2026-07-06T09:00:00Z",), ("time 2026-07-04T09:00:00Z",)]


async def test_a_proof_of_a_changed_event_is_not_handed_out(tmp_path: Path) -> None:
    async with signing(tmp_path) as station:
        await ticks(station, 8)
        await sign(station)
        reader = station.journal.reader
        assert reader.proof(5) is not None
        with intruder(tmp_path / "journal.db") as db:
            db.execute(CHANGED)
        with pytest.raises(JournalError, match="isn't what checkpoint 1 was signed over"):
            reader.proof(5)
        with pytest.raises(JournalError, match="can't be proved"):
            reader.proof(1000)


def test_an_intruder_has_all_rights(tmp_path: Path) -> None:
    """Else the attacks above would show nothing."""

    async def made() -> None:
        async with signing(tmp_path) as station:
            await sign(station)

    asyncio.run(made())
    cut_tail(tmp_path / "journal.db", 1)
    with sqlite3.connect(tmp_path / "journal.db") as db:
        assert db.execute("SELECT max(seq) FROM event").fetchone() == (1,)
