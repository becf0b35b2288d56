"""Promise: who docks a recorder gets a receipt by himself, on the page, on paper and as text that others verify."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent import cli
from agent.config import load
from agent.journal import Reader
from agent.status.receipt import read_receipt
from simulator.content import Noise
from simulator.stage import CHECKOUT, Stage
from tests.cards import image
from tests.daemons import call, running, stage

Say = Callable[..., tuple[int, str]]
Docked = tuple[Stage, str, str]

FILES = {f"DCIM/视频{n:04}.MP4": Noise(60_000 + n, n) for n in range(1, 4)}


def page(made: Stage, path: str) -> tuple[int, str, str]:
    """Status, policy and text of an answer."""
    config = load(made.config).status
    try:
        with urllib.request.urlopen(f"http://{config.host}:{config.port}{path}", timeout=20) as answer:
            return answer.status, answer.headers["Content-Security-Policy"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, "", error.read().decode()


def keys_of(made: Stage) -> str:
    """What the station gives to others, so that they verify its receipts."""
    with closing(Reader(load(made.config).storage.root / "journal.db")) as reader:
        view = reader.newest_checkpoint()
        assert view is not None
        return "".join(f"{one.key.vkey}\n" for one in reader.verifiers(view.note.split("\n")[0]))


@pytest.fixture(scope="module")
def docked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stage, str, str]:
    """A station that has stored all of a recorder; its docking, and the page of its second receipt."""
    made = stage(tmp_path_factory.mktemp("docked"), {"runner.probe_pause_s": "0.1"})
    with running(made) as daemon:
        daemon.dock(image(made.dock.parent / "card.img", FILES))
        daemon.until(lambda: any((one["receipt"] or {}).get("name") == "clear" for one in daemon.status()["dockings"]))
        docking = daemon.status()["dockings"][0]
        assert docking["receipt"]["paper"] == f"/receipt/{docking['docking_id']}"
        daemon.until(lambda: "<svg" in page(made, docking["receipt"]["paper"])[2])
        status, policy, paper = page(made, docking["receipt"]["paper"])
        assert status == 200
        assert "script" not in policy
        assert "default-src 'none'" in policy
        assert page(made, "/receipt/nothing")[0] == 404
        answer = call(made, "receipt", "issue", docking["docking_id"], "--by", "张三", "--json")
        assert json.loads(answer.stdout)["clearing"] == "clear"
    return made, docking["docking_id"], paper


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """One call of the command line at a station; its exit code, and all that it prints."""

    def said(made: Stage, *arguments: str) -> tuple[int, str]:
        try:
            code = cli.main(["--config", str(made.config), "receipt", *arguments])
        except SystemExit as refused:
            code = int(str(refused.code))
        told = capsys.readouterr()
        return code, told.out + told.err

    return said


def test_the_page_that_an_officer_takes_home_is_verified(docked: Docked, tmp_path: Path, say: Say) -> None:
    made, docking, text = docked
    (tmp_path / "receipt.html").write_text(text, "utf-8")
    code, told = say(made, "verify", str(tmp_path / "receipt.html"), "--docking", docking)
    assert code == 0, told
    assert "GENUINE 真实有效" in told
    assert "可以清空" in told
    assert say(made, "verify", read_receipt(text)[0])[0] == 0
    assert say(made, "verify", read_receipt(text)[0].replace("\n", "\r\n") + "\r\n\r\n")[0] == 0


def test_another_station_verifies_it_with_a_file_of_keys(docked: Docked, tmp_path: Path, say: Say) -> None:
    made, _, text = docked
    other = stage(tmp_path)
    (tmp_path / "keys.txt").write_text(keys_of(made))
    (tmp_path / "code.txt").write_text(read_receipt(text)[0])
    assert say(other, "verify", str(tmp_path / "code.txt"), "--keys", str(tmp_path / "keys.txt"))[0] == 0
    (tmp_path / "none.txt").write_text("")
    code, told = say(other, "verify", str(tmp_path / "code.txt"), "--keys", str(tmp_path / "none.txt"))
    assert code == 1
    assert "not signed by a key that is trusted" in told


def test_a_bare_python_verifies_it_without_this_software(docked: Docked, tmp_path: Path) -> None:
    """As docs/receipts.md tells it: the event lies beside its proof; the kit's checker knows nothing of receipts."""
    made, _, text = docked
    code = read_receipt(text)[0]
    (tmp_path / "receipt").write_bytes(base64.b64decode(code.split("\n")[1].removeprefix("extra ")))
    (tmp_path / "receipt.tlog-proof").write_text(code)
    (tmp_path / "keys.txt").write_text(keys_of(made))
    check = ("python3", "-I", "-S", str(CHECKOUT / "packaging" / "kit" / "verify.py"), str(tmp_path))
    note = "sha256sum receipt receipt.tlog-proof keys.txt > SHA256SUMS"
    subprocess.run(note, shell=True, cwd=tmp_path, check=True)
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    (tmp_path / "receipt").write_text((tmp_path / "receipt").read_text().replace("clear", "cleax"))
    subprocess.run(note, shell=True, cwd=tmp_path, check=True)
    assert subprocess.run(check, capture_output=True, check=False).returncode == 1


def test_forged_papers_are_refused(docked: Docked, tmp_path: Path, say: Say) -> None:
    """A line of the list, a letter of the code, the receipt of another docking, and what is no receipt."""
    made, docking, text = docked
    forgeries = {
        "list": text.replace("视频0001", "视频0009"),
        "code": text.replace("\nindex ", "\nindex 1", 1),
        "nothing": "a receipt",
    }
    for name, forged in forgeries.items():
        assert forged != text
        (tmp_path / name).write_text(forged, "utf-8")
        code, told = say(made, "verify", str(tmp_path / name))
        assert code == 1, (name, told)
        assert "GENUINE 真" not in told
    code, told = say(made, "verify", read_receipt(text)[0], "--docking", docking[:-1] + "f0")
    assert code == 1
    assert f"it is of docking {docking}" in told


def test_a_journal_that_was_changed_contradicts_the_paper(docked: Docked, tmp_path: Path, say: Say) -> None:
    """The signature holds all the same, since the checkpoint is older than the change."""
    made, _, text = docked
    other = stage(tmp_path)
    journal = load(other.config).storage.root / "journal.db"
    journal.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(load(made.config).storage.root / "journal.db", journal)
    assert say(other, "verify", read_receipt(text)[0])[0] == 0
    with closing(sqlite3.connect(journal)) as db:
        db.execute("DROP TRIGGER event_is_never_changed")
        db.execute("UPDATE event SET detail = replace(detail, 'clear', 'not_stored') WHERE kind = 'receipt_issued'")
        db.commit()
    code, told = say(other, "verify", read_receipt(text)[0])
    assert code == 1
    assert "says something else" in told


def test_it_is_shown_and_printed_beside_the_service_or_without(docked: Docked, tmp_path: Path, say: Say) -> None:
    made, docking, _ = docked
    files = ("--pdf", str(tmp_path / "r.pdf"), "--html", str(tmp_path / "r.html"))
    shown = json.loads(say(made, "show", "--json", *files)[1])
    assert shown["clearing"] == "clear"
    assert shown["handed over by"] == "张三"
    assert shown["list"].count("\n") == len(FILES)
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF-")
    assert docking in (tmp_path / "r.html").read_text("utf-8")
    assert "可以清空" in say(made, "show", docking)[1]
    code, told = say(made, "show", "nothing")
    assert (code, "no docking" in told) == (6, True)
    code, told = say(made, "issue", docking, "--by", "李" * 17)
    assert (code, "16 Chinese characters" in told) == (2, True)
    code, told = say(made, "show", "--pdf", str(tmp_path / "no" / "folder"))
    assert (code, "can't be written" in told) == (2, True)
