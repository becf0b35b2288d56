"""The command line: every verb, with --json and without; clear sentences and the documented code, never a traceback."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent import cli, control
from agent.cli import EXIT_CODES, Exit
from agent.journal import Reader
from simulator.content import Noise
from simulator.stage import Stage, configure, empty
from simulator.stores.processes import free_port
from tests.cards import card, image
from tests.daemons import Daemon, call, running, stage

FILES = {f"DCIM/{n:04}.MP4": Noise(60_000 + n, n) for n in range(1, 6)}


class Told:
    """What a call said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        assert "Traceback" not in out + err, err
        assert code in [int(known) for known in Exit], f"{code} is not documented"
        assert f"\n  {code}  " in EXIT_CODES
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        assert self.err == "", "a script gets one JSON object and nothing else"
        return found


Say = Callable[..., Told]


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    return stage(tmp_path)


@pytest.fixture
def say(made: Stage, capsys: pytest.CaptureFixture[str]) -> Say:
    """Call the command line in this process, with the stage's configuration."""

    def said(*arguments: str | Path, config: Path | None = None) -> Told:
        capsys.readouterr()
        try:
            code = cli.main(["--config", str(config or made.config), *map(str, arguments)])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return Told(code, out, err)

    return said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return image(tmp_path / "card.img", dict(FILES))


@pytest.fixture
def daemon(made: Stage) -> Iterator[Daemon]:
    with running(made) as running_daemon:
        yield running_daemon


# The verbs, when all is well.


def test_the_help_tells_every_exit_code(say: Say) -> None:
    told = say("--help")
    assert told.code == 0
    for code in Exit:
        assert f"\n  {int(code)}  " in told.out
    for verb in ("run", "pull", "status", "verify", "resume", "deadline", "config"):
        assert say(verb, "--help").code == 0
    assert say("--version").out.startswith("capture-agent ")


def test_a_pull_by_hand_then_verify(say: Say, made: Stage, path: Path) -> None:
    told = say("pull", path)
    assert (told.code, told.out) == (0, "5 files seen: 5 pulled; every file is safe here\n")
    told = say("pull", path, "--json")
    assert (told.code, told.json["outcomes"]["already_held"], told.json["may_remove"]) == (0, 5, True)
    told = say("verify")
    assert told.code == 0
    assert "5 files" in told.out
    assert "all as recorded" in told.out
    report = say("verify", "--json").json
    assert (report["sound"], report["originals"], report["problems"]) == (True, 5, [])
    assert say("verify", "--journal-only", "--json").json["originals"] == 0
    assert say("verify", "--rebuild").code == 0
    assert say("verify").code == 0


def test_the_same_by_the_running_service(say: Say, daemon: Daemon, path: Path) -> None:
    told = say("pull", path)
    assert (told.code, told.out) == (0, "5 files seen: 5 pulled; every file is safe here\n")
    told = say("pull", path, "--json")
    assert (told.code, told.json["outcomes"]["already_held"]) == (0, 5)
    daemon.until(lambda: daemon.status()["counters"]["assets"]["stored"]["files"] == 5)
    told = say("status")
    assert told.code == 0
    assert "5 seen = 5 already_held" in told.out
    assert say("status", "--json").json["counters"]["assets"]["stored"]["files"] == 5
    assert say("verify", "--json").json["stored"] == 5


def test_what_is_only_here_is_counted_whether_or_not_the_service_runs(say: Say, made: Stage, path: Path) -> None:
    told = say("unstored", "--json")
    assert (told.code, told.json["files"]) == (0, 0), "nothing was ever here"
    assert say("pull", path).code == 0
    told = say("unstored")
    assert (told.code, told.out.partition(": ")[2][:8]) == (Exit.EVIDENCE, "5 files ")
    assert say("unstored", "--json").json["bytes"] == sum(60_000 + n for n in range(1, 6))
    with running(made) as daemon:
        daemon.until(lambda: say("unstored").code == 0)
    assert say("unstored", "--json").json["files"] == 0
    shutil.move(made.station / "journal.db", made.root / "station" / "lost.db")
    assert say("unstored").code == Exit.JOURNAL, "an unknown number is not none"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("UPDATE asset SET state = 'stuck' WHERE asset_id = 'x'", 1),
        ("UPDATE asset SET state = 'wanted' WHERE asset_id = 'x'", 0),
        ("UPDATE asset SET state = 'released', receipt = '{}' WHERE asset_id = 'x'", 0),
    ],
)
def test_stuck_is_only_here_and_merely_seen_is_on_its_recorder(
    say: Say, made: Stage, path: Path, change: str, code: int
) -> None:
    assert say("pull", path).code == 0
    with sqlite3.connect(made.station / "journal.db") as db:
        db.execute("UPDATE asset SET receipt = '{}', state = 'stored'")
        one = db.execute("SELECT min(asset_id) FROM asset").fetchone()[0]
        db.execute("UPDATE asset SET receipt = NULL WHERE asset_id = ?", [one])
        db.execute(change.replace("'x'", f"'{one}'"))
    db.close()
    assert say("unstored").code == code


def test_the_store_is_surveyed(say: Say, made: Stage) -> None:
    """Each thing that was found out has its own line; with --json it is one object; a bad one is exit code 5."""
    told = say("store", "check")
    assert told.code == Exit.OK
    assert len(told.out.splitlines()) >= 2
    traits = say("store", "check", "--json").json
    assert traits["kind"] == "directory"
    assert all(set(trait) == {"name", "good", "what", "do"} for trait in traits["traits"])


def test_the_configuration_is_checked(say: Say, made: Stage) -> None:
    assert "correct; profile shandong" in say("config", "check").out
    assert say("config", "check", "--json").json["profile"] == "shandong"


def test_a_store_that_is_not_there_now_is_said_in_words(say: Say, made: Stage, path: Path) -> None:
    """Only by the check: a share that comes late must not keep anybody from pulling."""
    made.store.rename(made.store.with_name("away"))
    told = say("config", "check")
    assert told.code == Exit.CONFIG
    assert f"{made.store} is missing" in told.err
    assert say("pull", path).code == 0


# What is wrong with the question.


@pytest.mark.parametrize("json_option", [(), ("--json",)], ids=["text", "json"])
class TestBadConfiguration:
    """All of these are the same code, and name the file."""

    @pytest.mark.parametrize("verb", [("config", "check"), ("status",), ("verify",), ("pull", "x")])
    def test_missing(self, say: Say, tmp_path: Path, verb: tuple[str, ...], json_option: tuple[str, ...]) -> None:
        self.told(say(*verb, *json_option, config=tmp_path / "none.toml"), "none.toml", json_option)

    def test_a_folder(self, say: Say, tmp_path: Path, json_option: tuple[str, ...]) -> None:
        self.told(say("config", "check", *json_option, config=tmp_path), str(tmp_path), json_option)

    @pytest.mark.parametrize(
        ("section", "line", "key"),
        [
            ("storage", 'rooot = "/x"', "storage.rooot"),
            ("dock", "rescan_s = 0", "dock.rescan_s"),
            ("status", "port = true", "status.port"),
        ],
    )
    def test_an_option(
        self, say: Say, tmp_path: Path, made: Stage, section: str, line: str, key: str, json_option: tuple[str, ...]
    ) -> None:
        broken = made.config.with_name("broken.toml")
        broken.write_text(f"[{section}]\n{line}\n")
        self.told(say("config", "check", *json_option, config=broken), key, json_option)

    @pytest.mark.parametrize("text", [b"[storage\n", b"\xff\xfe\0", b"storage = 1\n"])
    def test_no_toml(self, say: Say, made: Stage, text: bytes, json_option: tuple[str, ...]) -> None:
        broken = made.config.with_name("broken.toml")
        broken.write_bytes(text)
        self.told(say("config", "check", *json_option, config=broken), "broken.toml", json_option)

    def test_a_store_that_is_not_there(self, say: Say, made: Stage, json_option: tuple[str, ...]) -> None:
        text = made.config.read_text().replace(f'path = "{made.store}"', f'path = "{made.store}/none"')
        made.config.write_text(text)
        self.told(say("config", "check", *json_option), "none", json_option)

    def told(self, told: Told, named: str, json_option: tuple[str, ...]) -> None:
        assert told.code == Exit.CONFIG
        if json_option:
            assert told.json["exit"] == Exit.CONFIG
            assert named in told.json["error"]
            assert told.json["do"]
        else:
            assert told.out == ""
            assert named in told.err


@pytest.mark.parametrize(
    "arguments",
    [(), ("nothing",), ("pull",), ("resume", "x"), ("resume", "x", "--who", "me"), ("config",), ("config", "chuck")],
)
def test_a_wrong_command_line_is_code_2(say: Say, arguments: tuple[str, ...]) -> None:
    assert say(*arguments).code == Exit.USAGE


def paths(folder: Path) -> dict[str, Path]:
    """What a person may name by mistake."""
    (folder / "file.img").write_bytes(b"")
    (folder / "noise.img").write_bytes(Noise(1 << 20).read())
    (folder / "link.img").symlink_to(folder / "nothing")
    os.mkfifo(folder / "fifo")
    return {
        "missing": folder / "nothing.img",
        "folder": folder,
        "empty": folder / "file.img",
        "noise": folder / "noise.img",
        "dangling link": folder / "link.img",
        "fifo": folder / "fifo",
        "character device": Path("/dev/zero"),
        "too long": folder / ("x" * 300),
        "loop device without medium": Path("/dev/loop-control"),
    }


def test_a_pull_of_what_is_no_recorder_is_code_4(say: Say, made: Stage, tmp_path: Path) -> None:
    for what, wrong in paths(tmp_path).items():
        told = say("pull", wrong)
        assert (what, told.code) == (what, Exit.DEVICE)
        assert "every file is safe" not in told.out
        told = say("pull", wrong, "--json")
        assert told.code == Exit.DEVICE
        assert not told.json.get("may_remove", False)


def test_the_running_service_gives_the_same_codes(say: Say, daemon: Daemon, tmp_path: Path) -> None:
    for what, wrong in paths(tmp_path).items():
        told = say("pull", wrong)
        assert (what, told.code) == (what, Exit.DEVICE)
        assert "every file is safe" not in told.out
    told = say("resume", "nonsense", "--who", "me", "--why", "so")
    assert told.code == Exit.JOURNAL
    told = say("resume", "nonsense", "--who", "me", "--why", "so", "--json")
    assert told.json["exit"] == Exit.JOURNAL


def test_what_was_not_pulled_completely_is_code_1(say: Say, tmp_path: Path) -> None:
    made = card(tmp_path / "card.img", dict(FILES))
    made.corrupt_start("DCIM/0003.MP4", 0x0FFFFF00)
    made.finish()
    made.close()
    told = say("pull", made.path)
    assert told.code == Exit.EVIDENCE
    assert told.out.startswith("5 files seen: 4 pulled, 1 refused; ")
    assert "every file is safe" not in told.out


def test_a_recorder_that_is_pulled_out_is_code_1(made: Stage, tmp_path: Path) -> None:
    """F25: the image is gone in the middle; what is left is said."""
    big = image(tmp_path / "big.img", {"BIG.MP4": Noise(40 << 20, 1), "B.MP4": Noise(16 << 20, 2)})
    pull = subprocess.Popen(made.command("pull", str(big), "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    staging = made.station / "staging"
    _wait(lambda: staging.is_dir() and any(part.stat().st_size for part in staging.iterdir()), pull)
    os.truncate(big, 1 << 20)
    out, err = pull.communicate(timeout=60)
    assert b"Traceback" not in err
    assert pull.returncode in {Exit.EVIDENCE, Exit.DEVICE}
    assert not json.loads(out)["may_remove"]


def _wait(true: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_pull_that_is_interrupted_goes_on_next_time(made: Stage, tmp_path: Path, signum: int) -> None:
    big = image(tmp_path / "big.img", {"BIG.MP4": Noise(40 << 20, 1)})
    pull = subprocess.Popen(made.command("pull", str(big)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    staging = made.station / "staging"
    _wait(lambda: staging.is_dir() and any(part.stat().st_size for part in staging.iterdir()), pull)
    pull.send_signal(signum)
    _, err = pull.communicate(timeout=30)
    assert b"Traceback" not in err
    assert pull.returncode in {130, -signal.SIGTERM}
    told = call(made, "pull", str(big), "--json")
    assert told.returncode == 0
    assert json.loads(told.stdout)["may_remove"]


# The service and a second one.


def test_two_images_of_one_name_are_two_recorders(say: Say, daemon: Daemon, tmp_path: Path) -> None:
    """F25: a pull must never answer with what became of another image."""
    first = image(tmp_path / "card.img", {"BIG.MP4": Noise(40 << 20, 1)})
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "card.img"
    other.write_bytes(Noise(1 << 20).read())
    pull = subprocess.Popen(daemon.stage.command("pull", str(first), "--json"), stdout=subprocess.PIPE)
    _wait(lambda: daemon.status()["slots"], pull)
    told = say("pull", other)
    assert told.code == Exit.DEVICE
    out, _ = pull.communicate(timeout=60)
    assert json.loads(out)["may_remove"]
    assert pull.returncode == 0


def test_a_second_service_on_the_same_root_is_refused(daemon: Daemon) -> None:
    told = call(daemon.stage, "run")
    assert told.returncode == Exit.JOURNAL
    assert f"Process {daemon.pid} writes the journal" in told.stderr
    assert "Traceback" not in told.stderr
    assert daemon.stage.ask("/healthz")
    assert call(daemon.stage, "verify", "--rebuild").returncode == Exit.JOURNAL


def test_a_port_in_use_is_said(made: Stage) -> None:
    with socket.create_server(("127.0.0.1", made.port)):
        told = call(made, "run")
    assert told.returncode == Exit.NOT_RUNNING
    assert f"can't listen at 127.0.0.1 port {made.port}" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_service_that_is_killed_while_it_pulls_for_somebody_is_told(daemon: Daemon, tmp_path: Path) -> None:
    big = image(tmp_path / "big.img", {"BIG.MP4": Noise(60 << 20, 1)})
    pull = subprocess.Popen(
        daemon.stage.command("pull", str(big)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    daemon.until(lambda: daemon.status()["slots"])
    daemon.service.process.kill()
    daemon.service.process.wait()
    out, err = pull.communicate(timeout=30)
    assert "Traceback" not in err
    assert pull.returncode == Exit.NOT_RUNNING
    assert "safe here" not in out


def test_no_service_is_code_7(say: Say, made: Stage) -> None:
    assert say("status").code == Exit.NOT_RUNNING
    assert say("status", "--json").json["exit"] == Exit.NOT_RUNNING
    made.station.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server, control.address_below(made.station, control.SCREENS_NAME) as address:
        server.bind(address)
        server.listen()
        server.settimeout(10)

        async def answer() -> int:
            def rubbish() -> None:
                connection, _ = server.accept()
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n[1, 2")
                connection.close()

            served = asyncio.create_task(asyncio.to_thread(rubbish))
            found = await asyncio.to_thread(call, made, "status")
            await served
            return found.returncode

        assert asyncio.run(answer()) == Exit.NOT_RUNNING


def test_a_root_that_can_not_be_written_is_said(say: Say, made: Stage, path: Path) -> None:
    made.station.write_text("a file where the folder should be")
    for verb in (("pull", path), ("verify",), ("resume", "x", "--who", "a", "--why", "b")):
        told = say(*verb)
        assert told.code in {Exit.STORE, Exit.JOURNAL}
        assert "station" in told.err


def test_a_root_with_a_long_path_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A Unix socket's address has 108 bytes; a folder may be deeper."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    made = stage(deep)
    with running(made):
        told = call(made, "resume", "nonsense", "--who", "a", "--why", "b")
        assert told.returncode == Exit.JOURNAL
        assert "Process" not in told.stderr, "the service itself answered"


# The journal.


def _pulled(say: Say, path: Path) -> None:
    assert say("pull", path).code == 0


@pytest.mark.parametrize("damage", ["noise", "truncated", "zeros", "newer", "foreign", "empty", "folder"])
def test_a_journal_that_can_not_be_used_is_code_6_and_stays_as_it_is(
    say: Say, made: Stage, path: Path, damage: str
) -> None:
    _pulled(say, path)
    journal = made.station / "journal.db"
    _spoil(journal, damage)
    before = b"" if journal.is_dir() else journal.read_bytes()
    for verb in (("verify",), ("pull", path), ("resume", "x", "--who", "a", "--why", "b")):
        if damage == "empty" and verb[0] == "pull":
            continue  # an empty database is a new one
        told = say(*verb)
        assert told.code in ({Exit.JOURNAL, Exit.EVIDENCE} if verb[0] == "verify" else {Exit.JOURNAL}), (verb, told.err)
        assert "every file is safe" not in told.out
    if damage != "empty":
        assert call(made, "run").returncode == Exit.JOURNAL
    if not journal.is_dir() and damage in {"noise", "newer", "foreign"}:
        assert journal.read_bytes() == before


def _spoil(journal: Path, damage: str) -> None:
    whole = journal.read_bytes()
    match damage:
        case "noise":
            journal.write_bytes(Noise(len(whole), 1).read())
        case "truncated":
            journal.write_bytes(whole[: len(whole) // 3])
        case "zeros":
            journal.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
        case "newer":
            with sqlite3.connect(journal) as db:
                db.execute("PRAGMA user_version = 99")
            db.close()
        case "foreign":
            journal.unlink()
            with sqlite3.connect(journal) as db:
                db.execute("CREATE TABLE somebody (elses INTEGER)")
            db.close()
        case "empty":
            journal.write_bytes(b"")
        case "folder":
            journal.unlink()
            journal.mkdir()


# What `verify` must find.


@pytest.fixture(scope="module")
def once_stored(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A station that has stored the card and was stopped; tests get it back as it was."""
    folder = tmp_path_factory.mktemp("stored")
    made = stage(folder)
    with running(made) as daemon:
        daemon.dock(image(folder / "card.img", dict(FILES)))
        daemon.until(lambda: daemon.status()["counters"]["assets"]["stored"]["files"] == len(FILES))
    shutil.copytree(made.root, folder / "pristine", ignore=shutil.ignore_patterns("*.sock"))
    return made


@pytest.fixture
def stored(once_stored: Stage) -> Stage:
    shutil.rmtree(once_stored.root)
    shutil.copytree(once_stored.root.with_name("pristine"), once_stored.root)
    return once_stored


def _originals(folder: Path) -> list[Path]:
    return sorted(found for found in folder.rglob("??/*") if found.is_file())


def _edit(made: Stage, *statements: str) -> None:
    db = sqlite3.connect(made.station / "journal.db", isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def _flip(path: Path) -> None:
    path.chmod(0o640)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


def _stray(made: Stage) -> None:
    target = made.station / "vault" / "ab" / ("ab" * 32)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(b"who put me here?")


def _misplaced(made: Stage) -> None:
    (made.station / "vault" / "notes.txt").write_text("a file where only folders belong")
    (_originals(made.station / "vault")[0].parent / "copy.mp4").write_text("no fingerprint for a name")


DAMAGES: dict[str, tuple[Callable[[Stage], object], str]] = {
    "a changed original": (lambda made: _flip(_originals(made.station / "vault")[0]), "does not give back"),
    "a missing original": (lambda made: _originals(made.station / "vault")[1].unlink(), "No such file"),
    "a stray original": (_stray, "ab" * 32),
    "files that are no originals": (_misplaced, "notes.txt"),
    "a changed object of the store": (lambda made: _flip(_originals(made.store / "originals")[0]), "no longer proves"),
    "a missing object of the store": (
        lambda made: _originals(made.store / "originals")[2].unlink(),
        "no longer proves",
    ),
    "an edited table row": (
        lambda made: _edit(made, "UPDATE asset SET expected_bytes = expected_bytes + 1"),
        "by the log",
    ),
    "a deleted table row": (lambda made: _edit(made, "DELETE FROM counter"), "counter"),
    "an edited event": (
        lambda made: _edit(made, "DROP TRIGGER event_is_never_changed",
                           "UPDATE event SET at = '2026-01-01T00:00:00.000+00:00' WHERE seq = 3"),
        "event 3",
    ),
    "an event cut out": (
        lambda made: _edit(made, "DROP TRIGGER event_is_never_deleted", "DELETE FROM event WHERE seq = 3"),
        "event 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_verify_finds(say: Say, stored: Stage, what: str) -> None:
    assert say("verify", config=stored.config).code == 0
    damage, words = DAMAGES[what]
    damage(stored)
    told = say("verify", config=stored.config)
    assert told.code == Exit.EVIDENCE
    assert words in told.out
    assert "PROBLEM" in told.out
    assert "all as recorded" not in told.out
    found = say("verify", "--json", config=stored.config).json
    assert not found["sound"]
    assert any(words in problem for problem in found["problems"])


def test_verify_looks_only_where_it_was_asked_to(say: Say, stored: Stage) -> None:
    def checked(*options: str) -> tuple[int, int]:
        told = say("verify", "--json", *options, config=stored.config).json
        assert told["sound"]
        return told["originals"], told["stored"]

    both = checked()
    assert checked("--local") == (both[0], 0)
    assert checked("--centre") == (0, both[1])
    assert checked("--log-only") == checked("--journal-only") == (0, 0)
    with closing(Reader(stored.station / "journal.db")) as reader:
        recording = reader.recordings(limit=1)[0].recording.recording_id
    assert checked("--recording", recording) == (1, 1)
    assert say("verify", "--recording", "nobody", config=stored.config).code == Exit.JOURNAL
    assert say("verify", "--local", "--centre", config=stored.config).code == Exit.USAGE
    told = say("verify", "--resume", config=stored.config)
    assert told.code == 0
    assert "begun anew" in told.out


def test_verify_does_not_call_a_store_that_is_away_sound(say: Say, stored: Stage) -> None:
    stored.store.rename(stored.store.with_name("away"))
    told = say("verify", config=stored.config)
    assert told.code in {Exit.EVIDENCE, Exit.CONFIG}
    assert "all as recorded" not in told.out


def test_a_store_that_can_not_be_reached_is_told_with_the_exit_code_of_stores(say: Say, tmp_path: Path) -> None:
    secret = tmp_path / "credentials"
    secret.touch(0o600)
    secret.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    made = empty(tmp_path / "demo")
    nobody = {"endpoint": f"http://127.0.0.1:{free_port()}", "bucket": "evidence", "credentials_file": str(secret)}
    configure(made, "s3", nobody)
    told = say("store", "check", config=made.config)
    assert told.code == Exit.STORE
    assert "No connection to 127.0.0.1: Connection refused" in told.err
    assert "safe in this station" in told.err


def verbs_of(asked: str) -> dict[str, str]:
    """The verbs of the parser that is made for a command line, and the help of each."""
    (group,) = (action for action in cli._parser(asked)._actions if isinstance(action, argparse._SubParsersAction))
    return {name: verb.format_help() for name, verb in group.choices.items()}


ALL = verbs_of("")


@pytest.mark.parametrize("verb", ALL)
def test_a_verb_that_is_loaded_alone_is_what_it_is_among_all(verb: str) -> None:
    for words in ([verb], ["--config", "x", verb, "y"]):
        found = verbs_of(cli._asked(words))
        assert found.items() <= ALL.items()
        assert verb in found
        assert len(found) <= 2


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["--conf=x", "run"], ["--config"], ["nonsense"], ["--version", "run"]]
)
def test_whatever_else_is_given_is_answered_by_all_of_them(words: list[str]) -> None:
    assert verbs_of(cli._asked(words)) == ALL


def test_a_command_does_not_load_the_service() -> None:
    code = "import sys; from agent.cli import _parser; _parser('account'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"agent.service", "agent.opening", "agent.screens.server", "agent.doctor"} & set(loaded)
