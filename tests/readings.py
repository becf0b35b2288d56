"""A station at work behind its real screens, and what all of them claim of it at one moment."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from html import unescape
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from blake3 import blake3

from agent import cli
from agent.accounts.book import Role
from agent.config import Config
from agent.config import Runner as Limits
from agent.deadline import Rules
from agent.drivers.base import Docked
from agent.pipeline.runner import Runner
from agent.pipeline.station import Station
from agent.screens.guard import Gate
from agent.screens.server import serving
from agent.service import Service
from agent.status.board import Board
from agent.status.words import Hold
from agent.uploader.base import Store
from tests.conftest import SettableClock
from tests.stations import opened
from tests.status_station import configured, session_cookie

LIMIT_S = 120.0
PAUSE_S = 600.0
LIMITS = Limits(attempts=3, backoff_base_s=PAUSE_S, backoff_max_s=PAUSE_S, audit_pause_s=0.2, probe_pause_s=0.05)
"""What failed is not tried again while it is looked at, unless a test says so."""

HEALTH = {"ok": "正常", "degraded": "降级", "failed": "故障"}
CLEARED = {"clear": "可以清空", "not_stored": "尚未全部入库", "not_all_taken": "未全部", "traces": "有缺失录像"}
STORE = {True: "已连接", False: "未连接", None: "尚未联系"}
TAKE, KEEP = "可以取走", "请勿拔出"
DONE = (TAKE, "可以清空", "已入库", "本站状态 正常")
"""What nobody says of what he can't see."""

TAGS = re.compile(r"<(?:script|style|svg)\b.*?</(?:script|style|svg)>|<[^>]*>", re.DOTALL)
UNSEEN = re.compile(r'<div class="(?:stale-words|hold unknown)".*?</div>', re.DOTALL)
CARD = re.compile(r'<article class="slot" [^>]*>\s*<h2>端口 ([^<]*)</h2>(.*?)</article>', re.DOTALL)
ROW = re.compile(r"<tr><td>([^<]*)</td>(.*?)</tr>", re.DOTALL)
SAMPLE = re.compile(r'^capture_agent_(\w+?)(?:\{\w+="([^"]*)"\})? ([-+.\de]+)$', re.MULTILINE)


def text_of(page: str) -> str:
    """What a person reads of a page that is not out of date."""
    return " ".join(unescape(TAGS.sub(" ", UNSEEN.sub("", page))).split())


@dataclass(frozen=True, slots=True)
class Reading:
    """All views of one moment; `texts` are those that people read, by their name."""

    status: dict[str, Any]
    kiosk: str
    page: str
    health: str
    ready: dict[str, Any]
    metrics: Mapping[tuple[str, str], float]
    terminal: str
    papers: Mapping[str, str]

    @property
    def texts(self) -> dict[str, str]:
        return {"kiosk": text_of(self.kiosk), "page": text_of(self.page), "terminal": self.terminal}

    @property
    def holds(self) -> dict[str, str]:
        """What may be done with the recorder of each slot; asserts that all views say the same, in the same words."""
        slots = {slot["slot"]: slot for slot in self.status["slots"]}
        cards = {unescape(name): text_of(card) for name, card in CARD.findall(self.kiosk)}
        rows = {unescape(name): text_of(row) for name, row in ROW.findall(self.page)}
        assert cards.keys() == slots.keys(), "the kiosk has a card for each"
        for name, slot in slots.items():
            for text in (cards[name], rows[name], self.terminal):
                assert slot["hold"]["zh"] in text, text
            for text in (cards[name], rows[name]):
                assert slot["phase"]["zh"] in text
            assert slot["may_remove"] == (slot["hold"]["name"] == Hold.TAKE)
        found = {name: slot["hold"]["name"] for name, slot in slots.items()}
        counted = Counter(found.values())
        for hold in Hold:
            assert self.metrics["slots", hold] == counted[hold]
        for name, text in self.texts.items():
            assert text.count(TAKE) == counted[Hold.TAKE], name
            assert text.count(KEEP) == counted[Hold.KEEP], name
        return found

    @property
    def state(self) -> str:
        """Health; asserts that all views say the same."""
        health = self.status["health"]
        name, zh = health["name"], health["zh"]
        assert (name, zh) in HEALTH.items()
        assert self.health == name
        assert (name == "ok") == (not health["problems"])
        assert self.metrics["problems", ""] == len(health["problems"])
        assert self.metrics["pulling", ""] == (name != "failed")
        assert self.ready["ready"] == (name != "failed")
        texts = self.texts
        assert f"本站状态 {zh}" in texts["kiosk"]
        assert f"本站状态 {zh}" in texts["page"]
        assert f"{zh} ({health['en']})" in self.terminal.splitlines()[0]
        for other in {*HEALTH.values()} - {zh}:
            assert f"本站状态 {other}" not in texts["kiosk"] + texts["page"]
        for problem in health["problems"]:
            for text in (texts["page"], *([texts["kiosk"]] if len(health["problems"]) <= 4 else ())):
                assert " ".join(problem["zh"].split()) in text
        return str(name)

    @property
    def stored(self) -> int:
        """How many originals the screens call stored; asserts that all views say the same of this and every state."""
        assets = self.status["counters"]["assets"]
        for state, tally in assets.items():
            assert self.metrics["originals", state] == tally["files"]
        found: int = assets["stored"]["files"] + assets["released"]["files"]
        shown = (("待采集", "wanted"), ("待上传", "held"), ("需要处理", "stuck"))
        for zh, count in (("已入库", found), *((zh, assets[state]["files"]) for zh, state in shown)):
            (tile,) = (tile for tile in self.status["tiles"] if tile["zh"] == zh)
            assert tile["count"] == count
            assert f"{count} {zh}" in self.texts["page"]
            assert f"{zh} {tile['en']}: {count}" in self.terminal
        return found

    @property
    def store(self) -> bool | None:
        """Whether the store answers, None if nobody knows; asserts that all views say the same."""
        store = self.status["store"]
        words = {is_up: f"{store['name']} {word}" for is_up, word in STORE.items()}
        answers: bool | None = store["answers"]
        assert not (store["error"] and answers)
        assert self.ready["store"] == (answers is not False)
        assert self.metrics.get(("store_up", "")) == (None if answers is None else answers)
        for text in (self.texts["kiosk"], self.texts["page"]):
            assert words[answers] in text
            assert not any(other in text for value, other in words.items() if value is not answers)
        assert ("专用存储器不可用" in self.terminal) == (answers is False)
        return answers

    @property
    def copies(self) -> int:
        """How many originals have an access copy; asserts that all views say the same."""
        found = self.status["access"]
        assert self.metrics["copies", "stored"] == self.status["counters"]["derived"]["stored"]["files"]
        assert found["zh"] in self.texts["page"]
        made: int = found["made"]
        assert f"已制作 {made}，" in found["zh"]
        return made

    @property
    def clearings(self) -> dict[str, str]:
        """What the newest receipt of each docking says; asserts that paper and screens say the same."""
        found = {one["docking_id"]: one["receipt"] for one in self.status["dockings"] if one["receipt"]}
        for docking_id, receipt in found.items():
            assert CLEARED[receipt["name"]] in self.papers[docking_id]
            assert receipt["zh"] in self.texts["page"]
        clear = [one["name"] for one in found.values()].count("clear")
        for name in ("kiosk", "page"):
            assert self.texts[name].count("可以清空") <= clear, name
        for docking_id, paper in self.papers.items():
            assert ("可以清空" in paper) == (found[docking_id]["name"] == "clear")
        return {name: receipt["name"] for name, receipt in found.items()}


@dataclass(slots=True)
class Watched:
    """A station with its lanes at work, its screens, and what is really in its vault and its store."""

    station: Station
    runner: Runner
    service: Service
    board: Board
    config: Config
    clock: SettableClock
    objects: Path
    port: int
    cookies: Mapping[Role, str]
    client: aiohttp.ClientSession
    cards: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    betrayed: bool = False
    """Something was taken away behind the station's back, which it can't know yet."""
    readings: list[Reading] = field(default_factory=list)

    def dock(self, slot: str, opener: Callable[[], Docked], *contents: bytes) -> None:
        """Put a recorder with these recordings into a slot."""
        self.cards[slot] = contents
        self.runner.dock(f"key {slot}", slot, opener)

    def undock(self, slot: str) -> None:
        self.runner.undock(f"key {slot}")

    def kept_here(self) -> set[str]:
        """BLAKE3 of what really lies in the vault, read as anybody would."""
        return {blake3(path.read_bytes()).hexdigest() for _, path, _ in self.station.vault.originals()}

    def kept_there(self) -> set[str]:
        """The same of the store."""
        found = self.objects.rglob("*")
        return {blake3(path.read_bytes()).hexdigest() for path in found if path.is_file()}

    async def read(self) -> Reading:
        """All views of one moment, and what must hold of any such: they agree, and claim nothing that isn't so."""
        for _ in range(50):
            before = await self._json("/api/v1/status")
            reading = await self._all(before)
            after = await self._json("/api/v1/status")
            if _lasting(before) == _lasting(after) and _is_of_one_moment(reading):
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("it never stood still")
        self.readings.append(reading)
        self._judge(reading)
        return reading

    async def until(self, true: Callable[[Reading], object]) -> Reading:
        """Read again and again until the screens say so; what is read meanwhile must be true, too."""
        async with asyncio.timeout(LIMIT_S):
            while not true(reading := await self.read()):
                await asyncio.sleep(0.05)
                self.clock.advance(1)
        return reading

    async def until_blind(self) -> dict[str, tuple[int, str]]:
        """Wait until the status can't be given; then status and text of each view, as a person would read it."""
        paths = ("/api/v1/status", "/kiosk", "/", "/healthz", "/metrics")
        async with asyncio.timeout(LIMIT_S):
            while (await self.asked("/api/v1/status"))[0] == HTTPStatus.OK:
                await asyncio.sleep(0.05)
        found = {path: await self.asked(path, Role.IT if path == "/metrics" else Role.SUPERVISOR) for path in paths}
        found["terminal"] = (503, await asyncio.to_thread(self.command, "status"))
        return {name: (status, text_of(body)) for name, (status, body) in found.items()}

    def _judge(self, reading: Reading) -> None:
        here, there = self.kept_here(), self.kept_there()
        for slot, hold in reading.holds.items():
            if hold == Hold.TAKE and not self.betrayed:
                assert {blake3(content).hexdigest() for content in self.cards[slot]} <= here, f"{slot} is not here"
        if not self.betrayed:
            assert reading.stored <= len(there), "said to be stored, and not there"
        assert reading.state in HEALTH
        assert reading.store in (True, False, None)
        dockings = {one["docking_id"]: one for one in reading.status["dockings"]}
        for docking_id, clearing in reading.clearings.items():
            contents = self.cards.get(dockings[docking_id]["slot"], ())
            if clearing == "clear" and not self.betrayed:
                assert {blake3(content).hexdigest() for content in contents} <= there
        for text in (*reading.texts.values(), *reading.papers.values()):
            assert "Traceback" not in text
            assert "删除" not in text

    async def _json(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.ask(path))
        return found

    async def ask(self, path: str, role: Role = Role.SUPERVISOR, status: int | None = None) -> str:
        """The body of an answer."""
        told, body = await self.asked(path, role)
        assert status is None or told == status, body
        return body

    async def asked(self, path: str, role: Role = Role.SUPERVISOR) -> tuple[int, str]:
        """Status and body of an answer to a browser."""
        headers = {"Accept": "text/html"}
        if role in self.cookies:
            headers["Cookie"] = f"session={self.cookies[role]}"
        async with self.client.get(f"http://127.0.0.1:{self.port}{path}", headers=headers) as answer:
            return answer.status, await answer.text()

    async def _all(self, status: dict[str, Any]) -> Reading:
        receipted = [one["docking_id"] for one in status["dockings"] if one["receipt"]]
        kiosk, page, health, ready, metrics, terminal, *papers = await asyncio.gather(
            self.ask("/kiosk", Role.KIOSK, 200),
            self.ask("/?state=all", status=200),
            self._json("/healthz"),
            self._json("/readyz"),
            self.ask("/metrics", Role.IT, 200),
            asyncio.to_thread(self.command, "status"),
            *(self.ask(f"/receipt/{one}", Role.KIOSK, 200) for one in receipted),
        )
        samples = {(name, label): float(value) for name, label, value in SAMPLE.findall(metrics)}
        shown = {one: text_of(paper) for one, paper in zip(receipted, papers, strict=True)}
        return Reading(status, kiosk, page, health["status"], ready, samples, terminal, shown)

    def command(self, *words: str) -> str:
        """What `capture-agent` prints, its errors too; called in a thread."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            cli.main(["--config", str(self.config.path), *words])
        return out.getvalue()


def _lasting(status: Mapping[str, Any]) -> object:
    """What of a status isn't only the time."""
    return {name: value for name, value in status.items() if name not in ("now", "clock", "forecast", "at_risk")}


def _is_of_one_moment(reading: Reading) -> bool:
    """`/readyz` and the papers tell the very moment; what the others tell may be half a second old."""
    pulls, answers = reading.status["health"]["name"] != "failed", reading.status["store"]["answers"]
    receipts = ((one["docking_id"], one["receipt"]) for one in reading.status["dockings"] if one["receipt"])
    return (reading.ready["ready"], reading.ready["store"]) == (pulls, answers is not False) and all(
        CLEARED[receipt["name"]] in reading.papers[docking_id] for docking_id, receipt in receipts
    )


@contextlib.asynccontextmanager
async def watched(
    folder: Path, clock: SettableClock, store: Store | None = None, *, objects: Path, root: Path | None = None
) -> AsyncIterator[Watched]:
    """A station below `folder` whose store keeps its objects in `objects`."""
    root = root or folder / "root"
    text = f'[station]\nname = "测试站"\ncontact = "0531-12345"\n[storage]\nroot = "{root}"\nreserve_bytes = 0\n'
    config = configured(folder, text)
    async with opened(root, clock, store=store) as station:
        station.limits = LIMITS
        station.rules = Rules(config.profile, config.calendars)
        runner = Runner(station)
        service = Service(config, station, runner)
        board = Board(config, station.journal.reader, clock, service.live, service.version)
        gate = Gate(station.book, station.journal.record, clock=clock)
        cookies = {role: session_cookie(gate, role) for role in (Role.SUPERVISOR, Role.IT)}
        async with (
            serving(board, gate, "127.0.0.1", 0, root=root) as port,
            _working(runner, service),
            aiohttp.ClientSession() as client,
        ):
            yield Watched(station, runner, service, board, config, clock, objects, port, cookies, client)


@contextlib.asynccontextmanager
async def _working(runner: Runner, service: Service) -> AsyncIterator[None]:
    ready = asyncio.Event()
    work = [asyncio.create_task(runner.run(2, ready.set))]
    await ready.wait()
    work.append(asyncio.create_task(service.disk.watch()))
    try:
        yield
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work)
