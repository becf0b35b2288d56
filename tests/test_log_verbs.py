"""Promise: what was signed can be shown, proved and compared from the command line, and a changed log is told."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from agent import cli
from agent.journal import Reader
from agent.pipeline.checkpoints import sign, verifiers
from agent.signing import made_key
from agent.tlog.keys import Algorithm, Key
from agent.tlog.proof import Proof
from tests.test_checkpoints import signing, ticks
from tests.test_journal_audit import intruder

Out = pytest.CaptureFixture[str]


class Dock:
    """A station without a running service."""

    def __init__(self, folder: Path, name: str, out: Out) -> None:
        self.root = folder / name
        self.root.mkdir()
        (folder / name / "store").mkdir()
        (folder / name / "store" / ".capture-agent-store").touch()
        self.config = self.root / "agent.toml"
        self.out = out
        shutil.copytree(Path(__file__).parents[1] / "config" / "profiles", self.root / "profiles")
        self.configure("")

    def configure(self, more: str) -> None:
        storage = f'[storage]\nroot = "{self.root / "station"}"\nseal = false\n'
        self.config.write_text(f'{storage}[store]\noptions = {{ path = "{self.root / "store"}" }}\n{more}')

    def signed(self, count: int) -> None:
        async def work() -> None:
            (self.root / "station").mkdir(exist_ok=True)
            async with signing(self.root / "station") as station:
                await ticks(station, count)
                assert await sign(station) is not None

        asyncio.run(work())

    def says(self, *words: str, code: int = 0) -> str:
        self.out.readouterr()
        assert cli.main(["--config", str(self.config), "log", *words]) == code
        told = self.out.readouterr()
        return told.out if not code else told.err


@pytest.fixture
def dock(tmp_path: Path, capsys: Out) -> Dock:
    made = Dock(tmp_path, "ours", capsys)
    made.signed(5)
    return made


def test_it_shows_what_is_signed_and_who_has_it(dock: Dock) -> None:
    told = json.loads(dock.says("show", "--json"))
    assert (told["checkpoint"], told["covers"], told["events"], told["stored"]) == (1, 6, 7, 0)
    assert told["origin"].startswith("capture-agent/")
    assert (told["signed"], told["cosigned"]) == ("2026-07-06T09:00:00Z", [])
    assert told["keys"] == [made_key(dock.root / "station" / "signing.key").fingerprint]
    assert "checkpoint 1 of 6 events, signed 2026-07-06T09:00:00Z" in dock.says("show")


def test_a_checkpoint_and_a_proof_that_were_kept_elsewhere_are_compared(dock: Dock, tmp_path: Path) -> None:
    kept, proof = tmp_path / "kept", tmp_path / "proof"
    kept.write_text(dock.says("checkpoint"))
    proof.write_text(dock.says("prove", "3"))
    dock.signed(300)
    assert "begins with the 6 that were signed: time 2026-07-06T09:00:00Z" in dock.says("verify", str(kept))
    assert "event 3 is the one that was signed" in dock.says("verify", str(proof))
    assert dock.says("checkpoint", "--number", "1") == kept.read_text()
    reader = Reader(dock.root / "station" / "journal.db")
    origin = kept.read_text().split("\n")[0]
    Proof.parse(proof.read_bytes()).verified(reader.log_leaf(3), origin, verifiers(reader, origin))
    reader.close()


def test_an_older_copy_a_changed_event_and_a_changed_file_are_told(dock: Dock, tmp_path: Path) -> None:
    journal, kept = dock.root / "station" / "journal.db", tmp_path / "kept"
    old = shutil.copy(journal, tmp_path / "old.db")
    dock.signed(20)
    kept.write_text(dock.says("checkpoint"))
    new = shutil.copy(journal, tmp_path / "new.db")
    shutil.copy(old, journal)
    assert "its end was cut, or it is an older copy" in dock.says("verify", str(kept), code=1)
    shutil.copy(new, journal)
    with intruder(journal) as db:
        db.execute("UPDATE event SET at = '2020' || substr(at, 5) WHERE seq = 5")
    assert "its first 28 events are not those that were signed" in dock.says("verify", str(kept), code=1)
    kept.write_text(kept.read_text().replace("\n28\n", "\n27\n"))
    assert "it did not" in dock.says("verify", str(kept), code=1)
    kept.write_text("nothing")
    assert "no signatures" in dock.says("verify", str(kept), code=1)


def test_what_can_not_be_is_refused_in_words(dock: Dock, tmp_path: Path, capsys: Out) -> None:
    assert "not signed yet" in dock.says("prove", "7", code=2)
    assert "can't be proved" in dock.says("prove", "1000", code=6)
    assert "no checkpoint 9" in dock.says("checkpoint", "--number", "9", code=2)
    assert "No such witness; log.witnesses has none" in dock.says("ask", "nobody", code=2)
    empty = Dock(tmp_path, "empty", capsys)
    assert "signed nothing yet" in empty.says("key", code=2)


def test_two_docks_with_a_stick_between_them(dock: Dock, tmp_path: Path, capsys: Out) -> None:
    theirs = Dock(tmp_path, "theirs", capsys)
    theirs.signed(1)
    own = json.loads(dock.says("key", "--json"))
    witness = Key.parse(json.loads(theirs.says("key", "--json"))["witness"])
    assert witness.algorithm is Algorithm.COSIGNATURE
    dock.configure(f'[log]\nwitnesses = ["{witness.vkey}"]\n')
    theirs.configure(f'[witness]\nlogs = ["{own["log"][-1]}"]\n')
    stick = tmp_path / "ask", tmp_path / "answer"
    stick[0].write_text(dock.says("ask", witness.name))
    stick[1].write_text(theirs.says("answer", str(stick[0])))
    assert dock.says("take", witness.name, str(stick[1])) == f"checkpoint 1 is cosigned by {witness.name}\n"
    assert json.loads(dock.says("show", "--json"))["cosigned"] == [witness.name]
    assert witness.name in dock.says("checkpoint")
    assert "has seen 6 events of that log" in theirs.says("answer", str(stick[0]), code=2)
    dock.signed(5)
    stick[0].write_text(dock.says("ask", witness.name, "--old", "6"))
    stick[1].write_text(theirs.says("answer", str(stick[0])))
    assert "checkpoint 2 is cosigned" in dock.says("take", witness.name, str(stick[1]))
