"""Promise: the real service signs, shows its checkpoints to the centre and a neighbour, and rotates while it runs."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.journal import Reader
from agent.pipeline.checkpoints import verifiers
from agent.tlog.checkpoint import opened
from agent.tlog.keys import Ed25519Verifier, Key
from agent.tlog.note import Note
from agent.tlog.witness import cosigned
from simulator.stage import Stage, with_options
from tests.daemons import call, running, stage


def said(made: Stage, *words: str) -> dict[str, Any]:
    """What a verb prints as JSON."""
    answer = call(made, *words, "--json")
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def configure(made: Stage, **options: str) -> None:
    """Change options, as TOML, by their names with _ for the first dot."""
    changes = {name.replace("_", ".", 1): value for name, value in options.items()}
    made.config.write_text(with_options(made.config.read_text("utf-8"), changes), "utf-8")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kept(made: Stage) -> list[Path]:
    """The checkpoints at the centre, oldest first."""
    return sorted(made.store.glob("checkpoints/*/*"))


def is_cosigned(made: Stage, vkey: str) -> bool:
    """Whether the newest checkpoint carries a cosignature of this witness that holds."""
    with closing(Reader(made.station / "journal.db")) as reader:
        newest = reader.newest_checkpoint()
        assert newest is not None
        return bool(cosigned(Note.parse(newest.note.encode()), [Ed25519Verifier(Key.parse(vkey))]))


def test_a_service_signs_stores_rotates_and_is_cosigned_by_another(tmp_path: Path) -> None:
    """Two stations: what the store of the first one has is what the second one cosigned, and both logs go on."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = (stage(tmp_path / name, {"dock.usb": "false"}) for name in ("ours", "theirs"))
    with running(ours) as dock:
        dock.until(lambda: kept(ours))
        before = said(ours, "log", "key")["log"]
        rotated = call(ours, "key", "rotate", "--who", "李四", "--why", "每年更换")
        assert rotated.returncode == 0, rotated.stderr
        assert dock.status()["station"]["key_fingerprint"] in rotated.stdout
        dock.until(lambda: len(kept(ours)) == 2)
        keys = said(ours, "log", "key")["log"]
        assert (keys[:1], len(keys)) == (before, 2)
    port = free_port()
    configure(theirs, witness_host='"127.0.0.1"', witness_port=str(port), witness_logs=json.dumps(keys))
    with running(theirs) as neighbour:
        neighbour.until(lambda: kept(theirs))
        witness = said(theirs, "log", "key")["witness"]
        configure(ours, log_witnesses=json.dumps([f"{witness} http://127.0.0.1:{port}"]))
        with running(ours) as dock:
            dock.until(lambda: is_cosigned(ours, witness))
            dock.until(lambda: len(kept(ours)) == 3)
    with closing(Reader(ours.station / "journal.db")) as reader:
        origin = kept(ours)[0].read_text("utf-8").partition("\n")[0]
        for number, path in enumerate(kept(ours), 1):
            checkpoint = opened(Note.parse(path.read_bytes()), origin, verifiers(reader, origin))
            assert checkpoint.root == reader.log_root(checkpoint.size)
            assert path.name == f"{number:08}"
        started = [event.detail for event in reader.events(limit=1000) if '"kind":"started"' in event.detail]
        assert ['"clean":true' in detail for detail in started] == [False, True]
