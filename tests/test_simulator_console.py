"""What a newcomer types while the demo's store is up or down is done, and everything that changes meanwhile is told."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from simulator.console import Console
from simulator.outage import Server
from simulator.show import Show
from simulator.stage import DemoError, Service


class FakeServer:
    """A process that is there or not."""

    def __init__(self) -> None:
        self.pid: int | None = 4711
        self.done: list[str] = []

    def kill(self) -> None:
        self.done.append("kill")
        self.pid = None

    def start(self) -> None:
        self.done.append("start")
        self.pid = 4712


class World:
    """One station as its status page tells of it, and a keyboard; `alive` ends the console when nothing is left."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.out = io.StringIO()
        self.problems: list[dict[str, str]] = []
        self.at_risk: list[dict[str, Any]] = []
        self.stored: list[dict[str, Any]] = []
        self.docked = 0
        self.turns: list[Callable[[], None]] = []
        self.words, self.keyboard = os.pipe()

    def alive(self) -> None:
        if not self.turns:
            raise KeyboardInterrupt
        self.turns.pop(0)()

    def status(self) -> dict[str, Any]:
        return {
            "at_risk": self.at_risk,
            "health": {"problems": self.problems},
            "counters": {"assets": {"stored": {"files": len(self.stored)}}},
        }

    def ask(self, _path: str) -> dict[str, Any]:
        return {"recordings": self.stored, "next_after": None}

    def dock(self) -> None:
        self.docked += 1

    def type(self, words: str) -> None:
        os.write(self.keyboard, f"{words}\n".encode())

    def run(self, *turns: Callable[[], None]) -> str:
        """What is told while these things happen, one after the other."""
        self.turns = [*turns, lambda: None]
        service = cast("Service", SimpleNamespace(alive=self.alive, status=self.status, stage=self))
        console = Console(cast("Server", self.server), service, Show(self.out), self.dock, self.words)
        with pytest.raises(KeyboardInterrupt):
            console.run()
        return self.out.getvalue()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("simulator.console.LOOK_S", 0.01)
    made = World()
    yield made
    os.close(made.words)
    os.close(made.keyboard)


def test_words_are_obeyed_and_what_makes_no_sense_is_told(world: World) -> None:
    words = ("kill", "kill", "start", "start", "dock", "rm -rf")
    told = world.run(*(lambda word=word: world.type(word) for word in words))  # type: ignore[misc]
    assert world.server.done == ["kill", "start"]
    assert world.docked == 1
    assert "kill -9 4711" in told
    assert "it is gone already" in told
    assert "answers again, as process 4712" in told
    assert "it is running already" in told
    assert "type dock, kill or start" in told


def test_lines_that_were_pasted_together_are_all_obeyed(world: World) -> None:
    world.run(lambda: world.type("kill\nstart\ndock"), lambda: None, lambda: None)
    assert (world.server.done, world.docked) == (["kill", "start"], 1)


def test_uploads_trouble_and_what_got_stored_are_told_once(world: World) -> None:
    row = {"asset_id": "a", "name": "0001.mp4", "state": {"name": "stored"}, "locked_until": "2027-05-22"}

    def trouble() -> None:
        world.at_risk = [{"sent_bytes": 30_000_000, "size_bytes": 100_000_000}]
        world.problems = [{"zh": "专用存储器不可用", "en": "store fails"}]

    def mended() -> None:
        world.at_risk, world.problems, world.stored = [], [], [row]

    told = world.run(trouble, lambda: None, mended, lambda: None)
    assert told.count("上传中 uploading") == 1
    assert "30%  30 MB/100 MB" in told
    assert told.count("专用存储器不可用  store fails") == 1
    assert told.count("正常  in order") == 1
    assert told.count("已入库 stored: 0001.mp4, locked until 2027-05-22") == 1


def test_what_was_stored_before_is_no_news(world: World) -> None:
    world.stored = [{"asset_id": "a", "name": "x", "state": {"name": "stored"}, "locked_until": None}]
    assert "已入库" not in world.run(lambda: None)


def test_without_anybody_to_type_it_goes_on_telling(world: World) -> None:
    os.close(world.keyboard)
    world.keyboard = os.open(os.devnull, os.O_WRONLY)
    world.problems = [{"zh": "时钟未校准", "en": "clock"}]
    assert "时钟未校准" in world.run(lambda: None, lambda: None)


def test_a_service_that_ended_ends_it(world: World) -> None:
    def gone() -> None:
        raise DemoError("capture-agent ended with 1")

    service = cast("Service", SimpleNamespace(alive=gone, status=world.status, stage=world))
    console = Console(cast("Server", world.server), service, Show(world.out), world.dock, world.words)
    with pytest.raises(DemoError, match="ended with 1"):
        console.run()
