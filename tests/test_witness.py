"""Promise: a neighbour cosigns only what continues what it saw, keeps it first, and exposes another log."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession

from agent.config.neighbours import CustodyLog, Neighbour, Witness
from agent.errors import JournalError, RequestError
from agent.journal import verify
from agent.model import CheckpointWitnessed
from agent.pipeline.checkpoints import sign
from agent.pipeline.cosigning import CosignLane, witness_ask, witness_take
from agent.pipeline.station import Station
from agent.pipeline.witness import PATH, cosign, listening, witness_answer, witness_key
from agent.signing import FILE, WITNESS_FILE
from agent.tlog.checkpoint import Checkpoint
from agent.tlog.note import Note
from agent.tlog.texts import NoteError
from agent.tlog.witness import cosigned
from tests.journal_entries import NOW
from tests.test_checkpoint_store import signed
from tests.test_checkpoints import signing

STICK = "stick"


async def acquaint(station: Station, neighbour: Station, url: str = "") -> None:
    """Each is told of the other's key, as the two administrators would write it down."""
    witness = (await witness_key(neighbour)).key
    station.custody.settings = CustodyLog(checkpoint_every_s=3600, witnesses=(Neighbour(witness, url),))
    neighbour.custody.neighbours = Witness(logs=(station.custody.signers[0].key,))


@asynccontextmanager
async def docks(folder: Path) -> AsyncIterator[tuple[Station, Station]]:
    """Two docks, of which the second witnesses for the first."""
    for name in ("ours", "theirs"):
        (folder / name).mkdir(exist_ok=True)
    async with signing(folder / "ours") as ours, signing(folder / "theirs") as theirs:
        await acquaint(ours, theirs)
        yield ours, theirs


def name_of(station: Station) -> str:
    return station.custody.settings.witnesses[0].key.name


def seen_by(station: Station) -> list[int]:
    """The size of the newest checkpoint of each log that this station witnesses, as its journal has it."""
    found = [station.journal.reader.witnessed(one.name) for one in station.custody.neighbours.logs]
    return [Checkpoint.parse(Note.parse(one.note.encode()).text).size for one in found if one]


async def by_stick(ours: Station, theirs: Station, **asked: str) -> dict[str, object]:
    request = await witness_ask(ours, {"witness": name_of(ours), **asked})
    answer = await witness_answer(theirs, {}, str(request["request"]).encode())
    return await witness_take(ours, {"witness": name_of(ours)}, str(answer["answer"]).encode())


def witnesses_of(station: Station, number: int) -> int:
    """How many witnesses' signatures hold below a checkpoint."""
    view = station.journal.reader.checkpoint(number)
    assert view is not None
    return len(cosigned(Note.parse(view.note.encode()), [one.verifier for one in station.custody.settings.witnesses]))


async def test_it_goes_on_a_stick_and_both_journals_tell(tmp_path: Path) -> None:
    async with docks(tmp_path) as (ours, theirs):
        await signed(ours, 5)
        assert await by_stick(ours, theirs) == {"witness": name_of(ours), "number": 1}
        await signed(ours, 300, 7)
        await by_stick(ours, theirs)
        assert (witnesses_of(ours, 1), witnesses_of(ours, 2), witnesses_of(ours, 3)) == (1, 0, 1)
        newest = ours.journal.reader.newest_checkpoint()
        assert newest is not None
        assert seen_by(theirs) == [newest.size]
        assert (theirs.vault.root / WITNESS_FILE).stat().st_mode & 0o777 == 0o600
    for name in ("ours", "theirs"):
        assert verify(tmp_path / name / "journal.db").consistent


async def test_it_keeps_what_it_saw_before_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with docks(tmp_path) as (ours, theirs):
        await signed(ours, 5)
        request = str((await witness_ask(ours, {"witness": name_of(ours)}))["request"]).encode()

        async def full(*_: object) -> int:
            raise JournalError("The disk is full.")

        with monkeypatch.context() as patch:
            patch.setattr(type(theirs.journal), "record", full)
            with pytest.raises(JournalError):
                await cosign(theirs, request)
            async with (
                listening(theirs, "127.0.0.1", 0) as port,
                ClientSession() as session,
                session.post(f"http://127.0.0.1:{port}{PATH}", data=request) as response,
            ):
                assert response.status == 503
        assert seen_by(theirs) == []
        before = theirs.journal.reader.log_size()
        answers = await asyncio.gather(*(cosign(theirs, request) for _ in range(3)))
        assert sorted(one.status for one in answers) == [200, 409, 409], "it has seen it by then"
        assert theirs.journal.reader.log_size() == before + 1
        event = theirs.journal.reader.events(before)[0]
        assert (event.kind, event.subject) == ("checkpoint_witnessed", ours.custody.origin)


async def test_over_http_the_lane_asks_until_it_is_cosigned(tmp_path: Path) -> None:
    async with docks(tmp_path) as (ours, theirs):
        lane = CosignLane(ours)
        await signed(ours, 5)
        async with listening(theirs, "127.0.0.1", 0) as port:
            await acquaint(ours, theirs, f"http://127.0.0.1:{port}")
            for number in (1, 2):
                waiting = asyncio.create_task(lane.step())
                async with asyncio.timeout(20):
                    while not witnesses_of(ours, number):
                        await asyncio.sleep(0.01)
                assert not waiting.done(), "then it waits for the next"
                await signed(ours, 3)
                await waiting
        assert (await ours.on_disk(ours.journal.reader.checkpoint, 3)) is not None
        await ours.journal.note(f"witness {ours.custody.settings.witnesses[0].key.vkey}", {}, anew=True)
        async with listening(theirs, "127.0.0.1", 0) as port:
            await acquaint(ours, theirs, f"http://127.0.0.1:{port}")
            waiting = asyncio.create_task(lane.step())
            async with asyncio.timeout(20):
                while not witnesses_of(ours, 3):
                    await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert ours.custody.problems() == ("",), "who had forgotten is told the size, and asked again"


async def test_a_witness_that_is_away_is_no_alarm(tmp_path: Path) -> None:
    async with docks(tmp_path) as (ours, theirs):
        await signed(ours, 1)
        async with listening(theirs, "127.0.0.1", 0) as port:
            pass
        await acquaint(ours, theirs, f"http://127.0.0.1:{port}")
        lane = CosignLane(ours)
        waiting = asyncio.create_task(lane.step())
        await asyncio.sleep(0.2)
        await signed(ours, 1)
        await asyncio.wait_for(waiting, 20)
        assert ours.custody.problems() == ("",)


async def objection(ours: Station, theirs: Station) -> str:
    """What the lane says after it has asked once."""
    async with listening(theirs, "127.0.0.1", 0) as port:
        await acquaint(ours, theirs, f"http://127.0.0.1:{port}")
        waiting = asyncio.create_task(CosignLane(ours).step())
        async with asyncio.timeout(20):
            while not ours.custody.problems()[1:]:
                await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert "witness-objects" in ours.journal.reader.events(ours.journal.reader.log_size() - 1)[0].detail
    return ours.custody.problems()[1]


async def test_an_older_copy_of_the_journal_is_exposed_by_the_witness(tmp_path: Path) -> None:
    """The witness saw more than there is, and then another log of the same length."""
    async with docks(tmp_path) as (ours, theirs):
        await signed(ours, 5)
    copy = shutil.copy(tmp_path / "ours" / "journal.db", tmp_path / "copy.db")
    async with docks(tmp_path) as (ours, theirs):
        await signed(ours, 5)
        await by_stick(ours, theirs)
    shutil.copy(copy, tmp_path / "ours" / "journal.db")
    async with docks(tmp_path) as (ours, theirs):
        await signed(ours, 1)
        assert "It has seen" in await objection(ours, theirs)
    async with docks(tmp_path) as (ours, theirs):
        await signed(ours, 50)
        assert "It answers 422" in await objection(ours, theirs)


async def test_a_log_made_anew_with_the_stolen_key_is_exposed_by_the_witness(tmp_path: Path) -> None:
    async with docks(tmp_path) as (ours, theirs):
        await signed(ours, 5)
        await by_stick(ours, theirs)
        origin, kept = ours.custody.origin, seen_by(theirs)
    (tmp_path / "forged").mkdir()
    shutil.copy(tmp_path / "ours" / FILE, tmp_path / "forged" / FILE)
    earlier = NOW - timedelta(days=1)
    async with (
        signing(tmp_path / "forged", origin=origin, now=earlier) as forged,
        signing(tmp_path / "theirs") as theirs,
    ):
        await acquaint(forged, theirs)
        await signed(forged, 40)
        assert "It answers 422" in await objection(forged, theirs)
        assert seen_by(theirs) == kept


async def test_a_strangers_log_and_other_texts_are_refused_in_words(tmp_path: Path) -> None:
    async with docks(tmp_path) as (ours, theirs):
        await signed(ours, 5)
        request = str((await witness_ask(ours, {"witness": name_of(ours)}))["request"]).encode()
        flipped = request.replace(b"\n\n", b"\n\nx", 1)
        for content, told in ((flipped, "not known here"), (b"hello", "no signatures|old size"), (b"", "no")):
            with pytest.raises(RequestError, match=told):
                await witness_answer(theirs, {}, content)
        theirs.custody.neighbours = Witness()
        with pytest.raises(RequestError, match="not known here"):
            await witness_answer(theirs, {}, request)
        with pytest.raises(NoteError):
            await witness_take(ours, {"witness": name_of(ours)}, b"\xe2\x80\x94 somebody AAAAAAAA\n")
        with pytest.raises(RequestError, match="No such witness"):
            await witness_ask(ours, {"witness": "nobody"})
        assert seen_by(theirs) == []


async def test_the_listener_is_bounded_and_knows_one_address(tmp_path: Path) -> None:
    async with docks(tmp_path) as (_, theirs), AsyncExitStack() as opened:
        port = await opened.enter_async_context(listening(theirs, "127.0.0.1", 0))
        session = await opened.enter_async_context(ClientSession(f"http://127.0.0.1:{port}"))
        for path, body, status in ((PATH, b"x" * (1 << 20), 413), (PATH, b"x", 400), ("/", b"x", 404)):
            async with session.post(path, data=body) as response:
                assert response.status == status
        async with session.get(PATH) as response:
            assert response.status == 405
        async with listening(theirs, "127.0.0.1", port) as taken:
            assert taken == 0
        assert any("no witness can listen there" in problem for problem in theirs.custody.problems())


async def test_two_at_once_never_both_win(tmp_path: Path) -> None:
    """Two different logs of one key race for the same place."""
    async with docks(tmp_path) as (ours, theirs):
        await signed(ours, 5)
        requests = [str((await witness_ask(ours, {"witness": name_of(ours)}))["request"]).encode()]
        await signed(ours, 5)
        requests.append(str((await witness_ask(ours, {"witness": name_of(ours)}))["request"]).encode())
        answers = await asyncio.gather(*(cosign(theirs, request) for request in requests))
        assert sorted(one.status for one in answers) == [200, 409]
        told = [event for event in theirs.journal.reader.events() if event.kind == "checkpoint_witnessed"]
        assert len(told) == 1
        assert isinstance(theirs.journal.reader.witnessed(ours.custody.origin), CheckpointWitnessed)


async def test_a_checkpoint_is_signed_without_waiting_for_any_witness(tmp_path: Path) -> None:
    async with docks(tmp_path) as (ours, _):
        assert await sign(ours) is not None
