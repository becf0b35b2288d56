"""A station for the tests of the status page: a real journal, a board and a server on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.accounts.book import Account, Book, Role
from agent.clocks import ClockState
from agent.config import Config, load
from agent.deadline import ZONE, Rules, deadline_for
from agent.journal import Journal
from agent.model import ClipSeen, ClockTrust, Outcome, Phase, SlotProgress
from agent.screens.asking import Verb
from agent.screens.guard import Gate
from agent.screens.server import serving
from agent.status.board import Board
from agent.status.health import Live
from tests.journal_entries import seen

SHIPPED = Path(__file__).parent.parent / "config"
NO_VERBS: Mapping[str, Verb] = {}
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=ZONE)
HOSTILE = "DCIM/<script>alert(1)</script>\u202e\udc80\x07.MP4"


def configured(
    tmp_path: Path, text: str = "", inventory: str = "", slots: Sequence[str] = (), roster: str = "", rooms: str = ""
) -> Config:
    """The configuration as shipped, with changes, an inventory, names of the dock's slots, a roster, and rooms."""
    folder = tmp_path / "etc"
    shutil.copytree(SHIPPED, folder, dirs_exist_ok=True)
    (folder / "agent.toml").write_text(text or '[station]\nname = "测试站"\ncontact = "0531-12345"\n')
    if inventory:
        (folder / "inventory.toml").write_text(inventory, "utf-8")
    if rooms:
        (folder / "rooms.toml").write_text(rooms, "utf-8")
    if roster:
        (folder / "roster.toml").write_text(roster, "utf-8")
    if slots:
        ports = "".join(f'"pci-{name}" = "{name}"\n' for name in slots)
        (folder / "slots.toml").write_text(f"[slots]\n{ports}", "utf-8")
    return load(folder / "agent.toml")


def footage(
    config: Config, name: str, number: int, made: datetime, *, docking: str = "d1", path: str = "", exact: bool = True
) -> ClipSeen:
    """New footage that was completed at `made`, with the real deadline; not `exact`: nothing bounds the time."""
    deadline = deadline_for(Rules(config.profile, config.calendars), made if exact else None, made)
    plain = seen(name, number, docking)
    assert plain.recording is not None
    recording = replace(
        plain.recording,
        captured_earliest=made if exact else None,
        captured_latest=made,
        clock_trust=ClockTrust.UNMEASURED if exact else ClockTrust.UNTRUSTED,
        deadline=deadline,
    )
    return replace(plain, recording=recording, clip=replace(plain.clip, path=path or plain.clip.path))


def slot(phase: Phase, *, total: int = 3, may_remove: bool = False, **outcomes: int) -> SlotProgress:
    """Progress of slot 3 with so many clips of each outcome."""
    counted = {Outcome(name): count for name, count in outcomes.items()}
    return SlotProgress(
        "3", "DSJ-V8 058F63666485", phase, sum(counted.values()), total, 3_100_000_000, 8_400_000_000,
        30_000_000.0, 177.0, "", counted, may_remove, "d1",
    )  # fmt: skip


@dataclass(slots=True)
class World:
    """What the service would know; `show` is its way to tell that it changed."""

    live: Live = field(default_factory=lambda: Live(free_bytes=100_000_000_000, clock=ClockState(synced=True)))
    version: int = 0
    now: datetime = NOW
    made: int = 0

    def show(self, *slots: SlotProgress) -> None:
        self.live = replace(self.live, slots=slots)
        self.version += 1

    def look(self) -> Live:
        self.made += 1
        return self.live


@dataclass(frozen=True, slots=True)
class Served:
    """A running status page and everything behind it."""

    config: Config
    journal: Journal
    world: World
    board: Board
    port: int
    gate: Gate
    cookie: str = ""

    def signed_in(self, role: Role) -> Served:
        """The same, asked by somebody of this role; his account is `role` and has a session without a password."""
        return replace(self, cookie=session_cookie(self.gate, role))

    @property
    def url(self) -> str:
        """Where the supervisors' page is."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def headers(self) -> dict[str, str]:
        """What makes a request his."""
        return {"Cookie": f"session={self.cookie}"} if self.cookie else {}

    @property
    def form_token(self) -> str:
        """What his forms send back as `token`."""
        who = self.gate.sessions.find(self.cookie, self.gate.book.accounts)
        return self.gate.sessions.form_token(who.session if who else "")

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One request from a thread: status, headers, body."""
        headers = self.headers | headers
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> dict[str, Any]:
        """The JSON answer to a request that must work."""
        status, _, body = self.ask(path)
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found


def session_cookie(gate: Gate, role: Role) -> str:
    """The session of an account of this role, which is made in memory only."""
    accounts = gate.book.accounts
    gate.book.accounts = replace(accounts, by_name={**accounts.by_name, role.value: Account(role.value, role)})
    return gate.sessions.begin(role.value, role)


@contextlib.asynccontextmanager
async def serve(
    tmp_path: Path,
    text: str = "",
    inventory: str = "",
    slots: Sequence[str] = (),
    role: Role | None = Role.SUPERVISOR,
    rooms: str = "",
    verbs: Mapping[str, Verb] = NO_VERBS,
) -> AsyncIterator[Served]:
    """Serve an empty journal on a free port of loopback, to somebody of this role; None: to who has not signed in."""
    config = configured(tmp_path, text, inventory, slots, rooms=rooms)
    world = World()
    async with Journal.open(tmp_path / "journal.db", lambda: world.now) as journal:
        board = board_of(config, journal, world)
        gate = Gate(Book(tmp_path), journal.record, clock=lambda: world.now)
        async with serving(board, gate, "127.0.0.1", 0, root=tmp_path, verbs=verbs) as port:
            served = Served(config, journal, world, board, port, gate)
            yield served.signed_in(role) if role is not None else served


def board_of(config: Config, journal: Journal, world: World) -> Board:
    """What the page of this station serves."""
    return Board(config, journal.reader, lambda: world.now, world.look, lambda: world.version)
