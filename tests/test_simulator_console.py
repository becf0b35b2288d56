"""What a newcomer types at the demo's dock is done, and everything that changes meanwhile is told."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from simulator.console import Console
from simulator.content import Noise
from simulator.demo import Demo
from simulator.demo_store import FolderStore
from simulator.hand import Hand, slowed
from simulator.handling import Handling, pullers
from simulator.outage import Server
from simulator.recorders import Recorder
from simulator.show import Show
from simulator.stage import DemoError, Role, Service, enlist
from tests.cards import MIB, image
from tests.daemons import running, stage


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
        self.slots: list[dict[str, Any]] = []
        self.hand: list[str] = []
        self.turns: list[Callable[[], None]] = []
        self.words, self.keyboard = os.pipe()

    def alive(self) -> None:
        if not self.turns:
            raise KeyboardInterrupt
        self.turns.pop(0)()

    def status(self) -> dict[str, Any]:
        return {
            "slots": self.slots,
            "at_risk": self.at_risk,
            "health": {"problems": self.problems},
            "counters": {"assets": {"stored": {"files": len(self.stored)}}},
        }

    def ask(self, _path: str) -> dict[str, Any]:
        return {"recordings": self.stored, "next_after": None}

    def dock(self) -> None:
        self.hand.append("dock")

    def yank(self) -> None:
        self.hand.append("yank")

    def give_back(self) -> None:
        self.hand.append("return")

    def type(self, words: str) -> None:
        os.write(self.keyboard, f"{words}\n".encode())

    def console(self, server: FakeServer | None) -> Console:
        service = cast("Service", SimpleNamespace(alive=self.alive, status=self.status, stage=self))
        return Console(cast("Server | None", server), service, Show(self.out), cast("Hand", self), self.words)

    def run(self, *turns: Callable[[], None]) -> str:
        """What is told while these things happen, one after the other."""
        self.turns = [*turns, lambda: None]
        console = self.console(self.server)
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
    words = ("kill", "kill", "start", "start", "dock", "yank", "return", "rm -rf")
    told = world.run(*(lambda word=word: world.type(word) for word in words))  # type: ignore[misc]
    assert world.server.done == ["kill", "start"]
    assert world.hand == ["dock", "yank", "return"]
    assert "kill -9 4711" in told
    assert "it is gone already" in told
    assert "answers again, as process 4712" in told
    assert "it is running already" in told
    assert "type dock, yank, return, kill, start or quit" in told


def test_a_folder_has_nothing_to_kill_and_quit_ends_it(world: World) -> None:
    world.turns = [lambda: None] * 2 + [lambda: world.type("quit"), lambda: None]
    world.type("kill")
    world.console(None).run()
    told = world.out.getvalue()
    assert "kill" not in told
    assert "type dock, yank, return or quit" in told


def test_each_change_of_a_slot_is_told_once(world: World) -> None:
    def shown(zh: str, hold: str) -> None:
        word = {"zh": zh, "en": ""}
        world.slots = [{"slot": "card.img", "phase": word, "hold": {"zh": hold, "en": ""}}]

    told = world.run(
        lambda: shown("读取中", "请勿拔出"), lambda: None, lambda: shown("已采集", "可以取走"), lambda: None
    )
    assert (told.count("请勿拔出"), told.count("可以取走")) == (1, 1)


def test_lines_that_were_pasted_together_are_all_obeyed(world: World) -> None:
    world.run(lambda: world.type("kill\nstart\ndock"), lambda: None, lambda: None)
    assert (world.server.done, world.hand) == (["kill", "start"], ["dock"])


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
    console = Console(cast("Server", world.server), service, Show(world.out), cast("Hand", world), world.words)
    with pytest.raises(DemoError, match="ended with 1"):
        console.run()


def test_by_hand_a_recorder_is_docked_yanked_while_it_is_read_and_docked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real service, as `./run demo --stay` leaves it; both pages are named with how to sign in."""
    made = stage(tmp_path)
    files = {f"DCIM/{n:04}.MP4": Noise(16 * MIB, n) for n in range(8)}
    card = image(made.recorders / "card.img", dict(files), size_bytes=160 * MIB)
    recorder = Recorder(card, "fat32", "", (), (), ())
    signs_in = {role: enlist(made, role)[0] for role in (Role.SUPERVISOR, Role.OFFICER)}
    words, keyboard = os.pipe()
    monkeypatch.setattr(Demo, "_another", lambda _: recorder)
    out = Told(keyboard, {"页面": "yank", "none is docked": "return", "none was taken": "dock", "读取中": "yank"})
    out.answers |= {"个未采集": "return", "可以取走": "yank\nquit"}
    with os.fdopen(words) as stdin, os.fdopen(keyboard, "wb"), running(made) as daemon:
        monkeypatch.setattr("sys.stdin", stdin)
        show = Show(out)
        store = cast("FolderStore", SimpleNamespace(server=None))
        Demo(made, store, show, 1.0).stay(Handling(daemon.service, show), daemon.service, signs_in)
        assert list(pullers(daemon.pid)) == []
    told = out.getvalue()
    for text in (f"{made.address}kiosk", f"PIN {signs_in[Role.OFFICER]}", f"password {signs_in[Role.SUPERVISOR]}"):
        assert text in told
    assert re.search(r"已拔出，剩余 [1-8] 个未采集", told)
    assert told.index("个未采集  ") < told.rindex("可以取走  ")


class Told(io.StringIO):
    """What is told; each of `answers` is typed once, when its cue comes."""

    def __init__(self, keyboard: int, answers: dict[str, str]) -> None:
        super().__init__()
        self.keyboard = keyboard
        self.answers = answers

    def write(self, text: str) -> int:
        for cue in [cue for cue in self.answers if cue in text and "look:" not in text]:
            os.write(self.keyboard, f"{self.answers.pop(cue)}\n".encode())
        return super().write(text)


def test_a_puller_that_is_slowed_gets_to_its_end_and_nobody_stays_stopped() -> None:
    puller = "[sys.executable, '-c', 'print(sum(range(1000000)))', 'agent.drivers.puller']"
    code = f"import subprocess, sys; subprocess.run({puller}); print('waits', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        with slowed(service.pid):
            assert [service.stdout.readline() for _ in range(2)] == [b"499999500000\n", b"waits\n"]
        service.communicate()
