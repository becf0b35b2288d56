"""Promise: a new key is sworn in by the old one, what the old one signed verifies, and an exchange in silence shows."""

from __future__ import annotations

import contextlib
import shutil
import stat
from pathlib import Path

import pytest

from agent import cli, durable
from agent.errors import JournalError, RequestError
from agent.journal import verify
from agent.pipeline.checkpoints import begin, sign, verifiers
from agent.pipeline.rotation import HEADER, rotate
from agent.pipeline.station import Station
from agent.signing import FILE, NEXT_FILE, read_key, station_key
from agent.tlog.checkpoint import opened
from agent.tlog.keys import Algorithm, Ed25519Verifier, Key
from agent.tlog.note import Note
from agent.tlog.texts import NoteError
from tests import stations
from tests.journal_entries import NOW
from tests.test_checkpoints import NOWHERE, in_force, signing
from tests.test_log_verbs import Dock, Out

ASKED = {"who": "李四", "why": "每年更换"}


def verifier(station: Station, public: str) -> Ed25519Verifier:
    return Ed25519Verifier(Key(station.custody.origin, Algorithm.ED25519, bytes.fromhex(public)))


async def test_both_keys_swear_the_new_one_in_and_every_checkpoint_verifies(tmp_path: Path) -> None:
    async with signing(tmp_path) as station:
        await sign(station)
        before = station.custody.key
        told = await rotate(station, ASKED)
        assert before is not None
        assert station.custody.key is not None
        assert told == {"before": before.fingerprint, "fingerprint": station.custody.key.fingerprint}
        assert before.public != station.custody.key.public
        await sign(station)
        reader, origin = station.journal.reader, station.custody.origin
        assert len(in_force(reader, origin)) == 2
        first, second = reader.announced_keys()
        assert (first.public, first.rotation, second.public) == (
            before.public.hex(), None, station.custody.key.public.hex(),
        )  # fmt: skip
        rotation = second.rotation
        assert rotation is not None
        assert (rotation.who, rotation.why) == ("李四", "每年更换")
        note = Note.parse(rotation.note.encode())
        assert note.text.startswith(HEADER)
        assert len(note.verified([verifier(station, first.public), verifier(station, second.public)])) == 2
        newest = reader.newest_checkpoint()
        assert newest is not None
        with pytest.raises(NoteError):
            opened(Note.parse(newest.note.encode()), origin, [verifier(station, first.public)])
    names = sorted(path.name for path in tmp_path.glob("signing*"))
    assert names == [f"signing-{before.fingerprint[:16]}.key", FILE]
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {0o600}
    assert verify(tmp_path / "journal.db").consistent


async def test_the_next_start_goes_on_with_the_new_key_and_the_old_name(tmp_path: Path) -> None:
    async with signing(tmp_path) as station:
        await sign(station)
        origin, told = station.custody.origin, await rotate(station, ASKED)
    async with signing(tmp_path) as station:
        assert station.custody.key is not None
        assert (station.custody.origin, station.custody.key.fingerprint) == (origin, told["fingerprint"])
        assert await sign(station) is not None
        assert station.custody.problems() == ("",)
        assert await rotate(station, ASKED) != told


@pytest.mark.parametrize("effect", ["write_part", "rename_no_replace", "fsync_dir"])
@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_death_in_between_leaves_one_key_that_the_log_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effect: str, nth: int
) -> None:
    async with signing(tmp_path) as station:
        await sign(station)
        calls = 0
        real = getattr(durable, effect)

        def dies(*arguments: object) -> object:
            nonlocal calls
            calls += 1
            if calls == nth:
                raise KeyboardInterrupt
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(durable, effect, dies)
            with contextlib.suppress(KeyboardInterrupt):
                await rotate(station, ASKED)
    async with stations.opened(tmp_path, lambda: NOW) as station:
        known = station.journal.reader.announced_keys()
        key = station_key(tmp_path, NOWHERE, known[-1].public)
        assert key.public.hex() == known[-1].public
        await begin(station, key)
        assert await sign(station) is not None
        assert station.custody.problems() == ("",), "nothing was exchanged in silence"
        await rotate(station, ASKED)
        assert await sign(station) is not None
        assert not (tmp_path / NEXT_FILE).exists()


async def test_a_journal_that_refuses_leaves_the_old_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with signing(tmp_path) as station:
        await sign(station)
        before = station.custody.key

        async def full(*_: object) -> int:
            raise JournalError("The disk is full.")

        with monkeypatch.context() as patch:
            patch.setattr(type(station.journal), "record", full)
            with pytest.raises(JournalError):
                await rotate(station, ASKED)
        assert before is not None
        assert station.custody.key is before
        assert read_key(tmp_path, NOWHERE).public == before.public
        assert await sign(station) is not None


@pytest.mark.parametrize("there", ["another key", "an old key"])
async def test_a_key_that_was_exchanged_in_silence_shows(tmp_path: Path, there: str) -> None:
    async with signing(tmp_path) as station:
        await sign(station)
        old = (tmp_path / FILE).read_bytes()
        await rotate(station, ASKED)
    (tmp_path / "thief").mkdir()
    station_key(tmp_path / "thief", NOWHERE)
    (tmp_path / FILE).unlink()
    shutil.copy(tmp_path / "thief" / FILE, tmp_path / FILE)
    if there == "an old key":
        (tmp_path / FILE).write_bytes(old)
    async with signing(tmp_path) as station:
        assert any("exchanged without a rotation" in problem for problem in station.custody.problems())
        events = station.journal.reader.events(limit=100)
        assert "signing-key-exchanged" in events[-1].detail
        assert await sign(station) is not None, "what happens now is signed all the same, by a key that shows"


async def test_it_is_refused_where_it_can_not_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stations.opened(tmp_path, lambda: NOW) as station:
        with pytest.raises(RequestError, match="nothing was signed yet"):
            await rotate(station, ASKED)
    async with signing(tmp_path) as station:
        with pytest.raises(JournalError, match="visible characters"):
            await rotate(station, {"who": " ", "why": "x"})
        (tmp_path / "capture-agent.signing-key").touch()
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        with pytest.raises(RequestError, match="a credential of systemd"):
            await rotate(station, ASKED)


def test_from_the_command_line(tmp_path: Path, capsys: Out) -> None:
    dock = Dock(tmp_path, "ours", capsys)
    dock.signed(3)
    assert cli.main(["--config", str(dock.config), "key", "rotate", "--who", "李四", "--why", "每年更换"]) == 0
    told = capsys.readouterr().out.split()
    dock.signed(1)
    assert read_key(dock.root / "station", NOWHERE).fingerprint == told[-1] != told[2]
    assert len(dock.says("key").splitlines()) == 3, "two of the log, one as a witness"


async def test_keys_of_all_times_are_what_verifies(tmp_path: Path) -> None:
    async with signing(tmp_path) as station:
        await sign(station)
        for _ in range(3):
            await rotate(station, ASKED)
        assert len(verifiers(station.journal.reader, station.custody.origin)) == 4
