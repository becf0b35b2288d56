"""Promise: the service's log can be searched by fields, holds nobody's name, and never holds the service up."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import logs
from agent.config.environment import credential, is_journald
from agent.journal.codec import decode, encode
from agent.journal.telling import LEVELS, fields_of, tell
from agent.model import AssetChanged, Incident, Recording, Resumed
from tests.journal_entries import acquired, confirmed, opened, seen

LINES = (Path(__file__).parent / "data" / "journal_format.jsonl").read_text("utf-8").splitlines()
EVERY_KIND = [(kind, json.dumps(detail)) for kind, _, detail in map(json.loads, LINES)]


class Sent(logging.Handler):
    """Keeps what would go to journald."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def sent() -> Iterator[Sent]:
    handler, log = Sent(), logging.getLogger(logs.EVENTS)
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(before)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name.startswith("CAPTURE_AGENT_")}


def test_an_original_is_followed_by_its_ids_from_card_to_store(sent: Sent) -> None:
    clip = seen("a", 1)
    assert isinstance(clip.recording, Recording)
    tell(encode(entry) for entry in (opened(), clip, acquired("a"), confirmed("a"), Incident("started")))
    assert [fields(record)["CAPTURE_AGENT_EVENT"] for record in sent.records] == [
        "docking_opened", "clip_seen", "acquired", "confirmed", "incident",
    ]  # fmt: skip
    told = fields(sent.records[1])
    assert told["CAPTURE_AGENT_RECORDING"] == clip.recording.recording_id
    assert told["CAPTURE_AGENT_DEVICE"] == clip.recording.device_id
    assert told["CAPTURE_AGENT_DOCKING"] == fields(sent.records[0])["CAPTURE_AGENT_DOCKING"] == clip.docking_id
    assert {fields(record)["CAPTURE_AGENT_ASSET"] for record in sent.records[1:4]} == {"a"}
    assert fields(sent.records[4])["CAPTURE_AGENT_INCIDENT"] == "started"


def texts(value: object) -> Iterator[str]:
    match value:
        case dict():
            for part in value.values():
                yield from texts(part)
        case list():
            for part in value:
                yield from texts(part)
        case str():
            yield value


@pytest.mark.parametrize(("kind", "detail"), EVERY_KIND, ids=[kind for kind, _ in EVERY_KIND])
def test_only_ids_and_kinds_are_told_whatever_else_an_event_says(sent: Sent, kind: str, detail: str) -> None:
    """Names, reasons, paths, serial numbers, case numbers: none of the other texts of any kind of event."""
    event = encode(decode(kind, detail))
    tell([event])
    assert len(sent.records) == (kind in LEVELS)
    ids = set(fields_of(event).values())
    others = {text for text in texts(json.loads(event.detail)) if len(text) > 3 and text not in ids}
    told = " ".join(str(value) for record in sent.records for value in [record.getMessage(), *fields(record).values()])
    assert [text for text in others if text in told] == []
    assert all(value and "\n" not in value for record in sent.records for value in fields(record).values())


def test_what_a_person_says_is_not_told(sent: Sent) -> None:
    tell([encode(AssetChanged("a", Resumed("王警官", "案件 2026-0815")))])
    assert "王警官" not in str(vars(sent.records[0]))
    assert "2026-0815" not in str(vars(sent.records[0]))


def test_a_service_that_systemd_did_not_start_tells_no_events_and_costs_nothing(sent: Sent) -> None:
    logging.getLogger(logs.EVENTS).setLevel(logging.CRITICAL)
    tell([encode(opened())])
    assert sent.records == []


# Where it goes.

PROGRAM = """
import logging, sys
from agent.logs import logging_service
with logging_service():
    log = logging.getLogger("capture-agent")
    for number in range(int(sys.argv[1])):
        log.info("entry %s %s", number, "x" * 100)
    logging.getLogger("somebody.else").info("not this")
    logging.getLogger("somebody.else").warning("but this \\udc80")
print("ended")
"""


def started(count: int, stderr: int) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", PROGRAM, str(count)]
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=60, check=False)


def test_without_systemd_it_goes_to_stderr_in_lines(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        assert started(3, file.fileno()).stdout == "ended\n"
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line[:14] for line in lines[:3]] == [f"INFO entry {number} x" for number in range(3)]
    assert lines[3:] == ["WARNING but this \\udc80"]


def closed(_: Path) -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def full(_: Path) -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("made", [closed, full])
def test_a_stderr_that_takes_nothing_costs_the_entries_only(tmp_path: Path, made: Callable[[Path], int]) -> None:
    fd = made(tmp_path)
    try:
        done = started(1000, fd)
    finally:
        os.close(fd)
    assert (done.returncode, done.stdout) == (0, "ended\n")


def test_a_stderr_that_hangs_holds_nothing_up_and_what_is_lost_is_counted() -> None:
    """Nobody reads the pipe until the program has ended: the log says afterwards what it could not take."""
    reading, writing = os.pipe()
    try:
        done = started(logs.QUEUE_ENTRIES + 5000, writing)
        assert (done.returncode, done.stdout) == (0, "ended\n")
    finally:
        os.close(writing)
        os.close(reading)


def test_what_found_no_room_is_told_when_there_is_room() -> None:
    waiting: logs._Queue = logs.queue.Queue(3)
    queued = logs._Queued(waiting)
    for number in range(10):
        queued.handle(logging.makeLogRecord({"msg": f"{number}", "levelno": logging.INFO}))
    assert [waiting.get_nowait().getMessage() for _ in range(3)] == ["0", "1", "2"]  # type: ignore[union-attr]
    queued.handle(logging.makeLogRecord({"msg": "later", "levelno": logging.INFO}))
    told = [waiting.get_nowait().getMessage() for _ in range(2)]  # type: ignore[union-attr]
    assert told == ["7 entries of this log were lost: it could not be written in time", "later"]


def test_no_thread_and_no_handler_is_left() -> None:
    before = logging.getLogger().handlers[:]
    with logs.logging_service():
        assert "log" in {thread.name for thread in threading.enumerate()}
    assert "log" not in {thread.name for thread in threading.enumerate()}
    assert logging.getLogger().handlers == before


# The environment.


def test_journald_is_known_by_the_very_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that a parent has left over is not believed."""
    with (tmp_path / "log").open("wb") as file:
        found = os.fstat(file.fileno())
        monkeypatch.delenv("JOURNAL_STREAM", raising=False)
        assert not is_journald(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert is_journald(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
        assert not is_journald(file.fileno())
    assert not is_journald(99_999)


def test_a_credential_is_where_systemd_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x.service")
    assert credential("capture-agent.store") == Path("/run/credentials/x.service/capture-agent.store")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert credential("a") == Path("/run/credentials/capture-agent.service/a")
