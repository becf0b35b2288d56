"""Promise: the status tells the truth to anybody who asks in order, and stays small and quick for everybody else."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Generator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import aiohttp
import pytest

from agent.absence import Absence, Evidence, Sure
from agent.control import SCREENS_NAME
from agent.deadline import ZONE
from agent.errors import AgentError
from agent.model import DockingClosed, DockingListed, Finding, Incident, JournalEntry, Observed, Phase
from agent.pipeline.absences import detail_of
from agent.screens.server import serving
from agent.screens.stream import FOLLOWERS
from agent.status.client import StatusUnavailable, fetch_status
from agent.status.summary import summary
from tests.journal_entries import acquired, confirmed, opened
from tests.status_station import HOSTILE, NOW, Served, board_of, footage, serve, slot

FRIDAY = datetime(2026, 11, 20, 16, tzinfo=ZONE)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path) as station:
        yield station


async def get(served: Served, path: str) -> dict[str, Any]:
    return await asyncio.to_thread(served.get, path)


async def test_what_a_docking_finds_after_it_was_first_shown_is_shown_behind_its_end_too(served: Served) -> None:
    """It is read once of a docking that has ended, not of one that had not when it was read."""
    await served.journal.record(opened())
    assert [one["absences"] for one in (await get(served, "/api/v1/status"))["dockings"]] == [[]]
    fact = detail_of(Absence(1, (Evidence.NUMBERS,), Sure.LIKELY, 0, "DCIM/1.MP4", "DCIM/3.MP4")) | {"told": False}
    found = [Observed("d1", Finding("absence", fact)), DockingListed("d1", 0, "ab" * 32), DockingClosed("d1", "")]
    await served.journal.record(*found)
    served.world.show()
    async with asyncio.timeout(20):
        while not (shown := (await get(served, "/api/v1/status"))["dockings"][0])["closed_at"]:
            await asyncio.sleep(0.05)
    assert len(shown["absences"]) == 1


async def docked(served: Served) -> None:
    """A docking of four clips: stored, held, wanted and late, wanted with an unknown time."""
    config = served.config
    await served.journal.record(
        opened(),
        footage(config, "a", 1, FRIDAY),
        footage(config, "b", 2, FRIDAY),
        footage(config, "c", 3, FRIDAY - timedelta(days=4), path=HOSTILE),
        footage(config, "d", 4, NOW, exact=False),
        DockingListed("d1", 4, "ab" * 32),
    )
    await served.journal.record(acquired("a", 1), acquired("b", 2))
    await served.journal.record(confirmed("a"), DockingClosed("d1", "unplugged"))


# Status.


async def test_the_status_of_an_empty_station(served: Served) -> None:
    status = await get(served, "/api/v1/status")
    assert status["station"]["name"] == "测试站"
    assert status["slots"] == status["at_risk"] == status["dockings"] == []
    assert status["calendar"]["missing"] == 2027
    assert status["calendar"]["official_until"] == "2026-12-23"
    assert status["health"]["name"] == "degraded", "the notice of 2027 is missing in November"
    assert status["storage"] == {"free_bytes": 100_000_000_000, "reserve_bytes": 2 << 30}


async def test_recordings_at_risk_come_by_their_deadline_with_state_and_verdict(served: Served) -> None:
    await docked(served)
    status = await get(served, "/api/v1/status")
    risks = [(row["asset_id"], row["state"]["name"], row["verdict"]["name"]) for row in status["at_risk"]]
    assert risks == [("c", "wanted", "overdue"), ("d", "wanted", "undecided"), ("b", "held", "open")]
    assert {tile["en"]: tile["count"] for tile in status["tiles"]} == {
        "to be pulled": 2, "to be uploaded": 1, "stored": 1, "metadata incomplete": 4, "need a person": 0,
        "due soon (24 h)": 0, "undecided": 1, "overdue": 1, "gaps not explained": 0, "recorders not back in time": 0,
    }  # fmt: skip


async def test_a_docking_accounts_for_every_clip(served: Served) -> None:
    await docked(served)
    (docking,) = (await get(served, "/api/v1/status"))["dockings"]
    accounting = docking["accounting"]
    assert accounting == {
        "seen": 4, "pulled": 2, "already_held": 0, "refused": 0, "unreadable": 0, "left": 2, "pending": 0,
    }  # fmt: skip
    assert docking["closed_at"] is not None


async def test_where_the_station_itself_is_the_store_only_what_it_lacks_is_at_risk(tmp_path: Path) -> None:
    async with serve(tmp_path, "[deadline]\nsatisfied_by = 'local'\n") as served:
        await docked(served)
        status = await get(served, "/api/v1/status")
        assert [row["asset_id"] for row in status["at_risk"]] == ["c", "d"]
        assert {"zh": "已逾期", "en": "overdue", "count": 1, "or_more": False} in status["tiles"]


async def test_slots_are_shown_with_live_progress(served: Served) -> None:
    served.world.show(slot(Phase.READING, total=37, pulled=12))
    (shown,) = (await get(served, "/api/v1/status"))["slots"]
    assert shown["files"] == {"done": 12, "total": 37}
    assert shown["bytes"] == {"done": 3_100_000_000, "total": 8_400_000_000}
    assert (shown["hold"]["zh"], shown["eta_s"]) == ("请勿拔出", 177)


async def test_a_status_is_made_once_for_everybody_while_nothing_changes(served: Served) -> None:
    answers = await asyncio.gather(*(get(served, "/api/v1/status") for _ in range(20)))
    assert served.world.made == 1
    assert all(answer == answers[0] for answer in answers)


async def test_a_status_is_made_anew_when_the_journal_or_a_slot_changed(served: Served) -> None:
    served.board._answer = None
    before = (await get(served, "/api/v1/status"))["seq"]
    await served.journal.record(Incident("started"))
    async with asyncio.timeout(10):
        while (await get(served, "/api/v1/status"))["seq"] == before:
            await asyncio.sleep(0.05)
        served.world.show(slot(Phase.READING))
        while not (await get(served, "/api/v1/status"))["slots"]:
            await asyncio.sleep(0.05)


async def test_who_asks_often_doesnt_wait_for_the_disk_and_never_gets_a_status_older_than_half_a_second(
    served: Served,
) -> None:
    board, now_s = served.board, asyncio.get_running_loop().time
    before = await board.status()
    await served.journal.record(Incident("started"))
    disk = threading.Event()
    board._thread.submit(disk.wait)
    try:
        board._answer = replace(board._answer, current_s=now_s() - 0.3)
        assert await board.status() == before
        board._answer = replace(board._answer, current_s=now_s() - 0.6)
        late = [asyncio.create_task(board.status()) for _ in range(5)]
        await asyncio.wait(late, timeout=0.1)
        assert not any(task.done() for task in late)
        late.pop().cancel()
    finally:
        disk.set()
    after = await asyncio.gather(*late)
    assert set(after) == {after[0]}
    assert json.loads(after[0])["seq"] == json.loads(before)["seq"] + 1


async def test_health_is_public_and_names_nobody(served: Served) -> None:
    served.world.show(slot(Phase.READING))
    await docked(served)
    health = await get(served, "/healthz")
    assert health == {"status": "degraded", "version": health["version"]}


# Recordings.


async def test_recordings_are_paged_without_gap_or_repetition(served: Served) -> None:
    await served.journal.record(opened(), *(footage(served.config, f"r{n:02}", n, FRIDAY) for n in range(23)))
    seen: list[str] = []
    path = "/api/v1/recordings?limit=5"
    while path:
        page = await get(served, path)
        seen += [row["asset_id"] for row in page["recordings"]]
        path = f"/api/v1/recordings?limit=5&after={page['next_after']}" if page["next_after"] else ""
    assert seen == [f"r{n:02}" for n in reversed(range(23))]


async def test_every_recording_leads_to_the_explanation_of_its_limit(served: Served) -> None:
    made = NOW - timedelta(hours=20)
    await served.journal.record(opened(), footage(served.config, "a", 1, made))
    (row,) = (await asyncio.to_thread(served.get, "/api/v1/recordings"))["recordings"]
    told = await asyncio.to_thread(served.get, row["explained"])
    assert (told["recording_id"], told["due_at"], told["verdict"]["name"]) == ("rec-a", row["due_at"], "open")
    assert [day["number"] for day in told["days"]][-2:] == [1, 2]
    status, _, body = await asyncio.to_thread(served.ask, "/api/v1/deadline/nobody")
    assert (status, b"There is no recording" in body) == (404, True)


async def test_recordings_of_one_state_come_most_urgent_first(served: Served) -> None:
    await docked(served)
    page = await get(served, "/api/v1/recordings?state=wanted&limit=1")
    assert [row["asset_id"] for row in page["recordings"]] == ["c"]
    assert page["recordings"][0]["name"] == HOSTILE
    path = f"/api/v1/recordings?state=wanted&limit=1&after={page['next_after'].replace('+', '%2B')}"
    assert [row["asset_id"] for row in (await get(served, path))["recordings"]] == ["d"]


# Bad input.


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/nowhere", 404, "Not Found"),
        ("/api/v1/recordings?limit=0", 400, "limit must be a whole number from 1 to 100"),
        ("/api/v1/recordings?limit=-1", 400, "limit must be"),
        ("/api/v1/recordings?limit=1e3", 400, "limit must be"),
        ("/api/v1/recordings?limit=%D9%A3", 400, "limit must be"),
        ("/api/v1/recordings?state=lost", 400, "state must be one of wanted, held"),
        (
            "/api/v1/recordings?stat=held",
            400,
            "unknown parameter 'stat'; known are state, verdict, completeness, device, id, from, to, sort, after,",
        ),
        ("/api/v1/recordings?limit=1&limit=2", 400, "parameter 'limit' is given twice"),
        ("/api/v1/recordings?after=" + "x" * 201, 400, "after must be"),
        ("/api/v1/recordings?after=%00", 400, "after must be"),
        ("/api/v1/recordings?verdict=fine", 400, "verdict must be one of open, due_soon"),
        ("/api/v1/recordings?completeness=half", 400, "completeness must be one of incomplete"),
        ("/api/v1/recordings?sort=name", 400, "sort must be one of newest, deadline, captured, size"),
        ("/api/v1/recordings?from=2026-13-01", 400, "from must be a day as 2026-11-23"),
        ("/api/v1/recordings?to=2026-W48-1", 400, "to must be a day"),
        ("/api/v1/recordings?id=%25", 400, "id must be the beginning of an id"),
        ("/api/v1/recordings?device=%0A", 400, "device must be"),
        ("/api/v1/devices?x=1", 400, "there are none here"),
        ("/readyz?verbose", 400, "unknown parameter 'verbose'"),
        ("/api/v1/status?x=1", 400, "unknown parameter 'x'; there are none here"),
        ("/api/v1/events?after=1", 400, "unknown parameter"),
    ],
)
async def test_bad_input_gets_a_clear_error_in_json(served: Served, path: str, status: int, told: str) -> None:
    found, headers, body = await asyncio.to_thread(served.ask, path)
    assert (found, headers["content-type"]) == (status, "application/json; charset=utf-8")
    error = json.loads(body)["error"]
    assert error["status"] == status
    assert told in error["message"]


@pytest.mark.parametrize("after", ["nonsense", "/", "a/b/c", "'; DROP TABLE event; --"])
@pytest.mark.parametrize("state", ["", "&state=held"])
async def test_an_odd_cursor_is_only_a_place(served: Served, after: str, state: str) -> None:
    await docked(served)
    page = await get(served, f"/api/v1/recordings?after={after.replace(' ', '%20').replace(';', '%3B')}{state}")
    assert isinstance(page["recordings"], list)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/api/v1/status", "/api/v1/recordings", "/api/v1/events"])
async def test_nothing_can_be_changed_here(served: Served, method: str, path: str) -> None:
    status, headers, body = await asyncio.to_thread(served.ask, path, method)
    assert status == 405
    assert headers["allow"] == "GET,HEAD"
    assert json.loads(body)["error"]["status"] == 405


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/v1/status", "/api/v1/recordings"])
async def test_head_answers_as_get_without_the_body(served: Served, path: str) -> None:
    status, headers, body = await asyncio.to_thread(served.ask, path, "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


async def test_a_body_is_refused_and_a_long_line_too(served: Served) -> None:
    status, _, body = await asyncio.to_thread(served.ask, "/api/v1/status", "GET", b"x" * 100)
    assert (status, json.loads(body)["error"]["message"]) == (413, "a request has no body here")
    status, _, _ = await asyncio.to_thread(served.ask, "/" + "x" * 10_000)
    assert status == 400
    status, _, _ = await asyncio.to_thread(served.ask, "/healthz", x="y" * 10_000)
    assert status == 400


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
async def test_a_web_page_elsewhere_cannot_read_the_status_through_a_browser(served: Served, host: str) -> None:
    status, headers, body = await asyncio.to_thread(served.ask, "/api/v1/status", Host=host)
    assert (status, "access-control-allow-origin" in headers) == (421, False)
    assert "测试站" not in body.decode()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:80"])
async def test_this_machines_own_names_are_answered(served: Served, host: str) -> None:
    status, _, _ = await asyncio.to_thread(served.ask, "/healthz", Host=host)
    assert status == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/v1/status", "/nowhere"])
async def test_every_answer_has_the_security_headers(served: Served, path: str) -> None:
    _, headers, _ = await asyncio.to_thread(served.ask, path)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "same-origin", "else browsers send a form without saying from where"
    assert "aiohttp" not in headers["server"].lower()
    assert "python" not in headers["server"].lower()


async def test_the_page_brings_everything_itself(served: Served) -> None:
    _, headers, body = await asyncio.to_thread(served.ask, "/")
    page = body.decode()
    assert re.findall(r"https?:|//cdn|@import|url\(|style=| on\w+=|<style|<script>", page) == []
    brought = re.findall(r'(?:src|link rel="\w+" href)="([^"]*)"', page)
    assert [address for address in brought if not address.startswith(("/static/", "data:,"))] == []
    assert "unsafe" not in headers["content-security-policy"]


async def test_a_broken_journal_is_an_error_not_a_status(served: Served) -> None:
    served.journal.reader.close()
    for path in ("/api/v1/status", "/api/v1/recordings", "/api/v1/events"):
        status, _, body = await asyncio.to_thread(served.ask, path)
        assert status == 503, path
        assert "can't be read" in json.loads(body)["error"]["message"]


async def test_a_journal_that_breaks_while_somebody_follows_ends_the_stream(served: Served) -> None:
    session, request = events_of(served)
    async with session, request as answer, asyncio.timeout(20):
        await Follower(answer.content).next("slots")
        served.journal.reader.close()
        await answer.content.read()


async def test_an_address_in_use_is_told(served: Served) -> None:
    board = board_of(served.config, served.journal, served.world)
    with pytest.raises(AgentError, match=f"can't listen at 127.0.0.1 port {served.port}"):
        async with serving(board, served.gate, "127.0.0.1", served.port):
            pass


# The client of the command line.


async def test_the_client_fetches_the_status_without_signing_in(served: Served, tmp_path: Path) -> None:
    assert (tmp_path / SCREENS_NAME).stat().st_mode & 0o777 == 0o660
    status = await asyncio.to_thread(fetch_status, tmp_path)
    assert status["station"]["name"] == "测试站"


def test_the_client_tells_that_the_service_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(StatusUnavailable, match="The service is not running") as caught:
        fetch_status(tmp_path)
    assert "systemctl start" in caught.value.do


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "gives no status"),
        (b"", "gives no status"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "no JSON object"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n<", "is not JSON"),
        (b"HTTP/1.1 503 X\r\nContent-Length: 30\r\n\r\n" + b'{"error": {"message": "busy"}}', "503 busy"),
    ],
)
async def test_the_client_tells_when_something_else_answers(tmp_path: Path, answer: bytes, told: str) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(other, tmp_path / SCREENS_NAME):
        with pytest.raises(StatusUnavailable, match=told):
            await asyncio.to_thread(fetch_status, tmp_path)


# Server-sent events.


class Follower:
    """A client of the event stream that takes one event after another."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    async def next(self, *names: str) -> dict[str, str]:
        """The next event with one of the names; every field of it as text."""
        async with asyncio.timeout(20):
            while True:
                fields: dict[str, str] = {}
                while line := (await self._content.readline()).decode().rstrip("\n"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
                if not names or fields.get("event") in names:
                    return fields

    async def journal(self, count: int) -> list[int]:
        """The sequence numbers of the next events of the journal."""
        return [int((await self.next("journal"))["id"]) for _ in range(count)]


async def incidents(served: Served, count: int) -> None:
    entries: Sequence[JournalEntry] = [Incident("test", {"n": n}) for n in range(count)]
    await served.journal.record(*entries)


class Request(Protocol):
    """What aiohttp gives for a request: the answer, awaited or as a context."""

    def __await__(self) -> Generator[Any, None, aiohttp.ClientResponse]: ...
    async def __aenter__(self) -> aiohttp.ClientResponse: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def events_of(served: Served, last: str | None = None) -> tuple[aiohttp.ClientSession, Request]:
    session = aiohttp.ClientSession()
    headers = served.headers | ({} if last is None else {"Last-Event-ID": last})
    return session, session.get(f"http://127.0.0.1:{served.port}/api/v1/events", headers=headers)


async def test_a_new_client_gets_the_slots_and_then_what_happens(served: Served) -> None:
    await incidents(served, 3)
    served.world.show(slot(Phase.READING))
    session, request = events_of(served)
    async with session, request as answer:
        follower = Follower(answer.content)
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        slots = json.loads((await follower.next("slots"))["data"])["slots"]
        assert slots[0]["phase"]["zh"] == "读取中"
        await incidents(served, 2)
        assert await follower.journal(2) == [4, 5]
        served.world.show(slot(Phase.VERIFYING))
        slots = json.loads((await follower.next("slots"))["data"])["slots"]
        assert slots[0]["phase"]["zh"] == "校验中"


async def test_a_client_resumes_where_it_stopped_over_any_distance(served: Served) -> None:
    await incidents(served, 700)
    session, request = events_of(served, "3")
    async with session, request as answer:
        follower = Follower(answer.content)
        assert await follower.journal(697) == list(range(4, 701))
        await incidents(served, 1)
        event = json.loads((await follower.next("journal"))["data"])
        assert (event["seq"], event["kind"], len(event["hash"])) == (701, "incident", 64)


async def test_a_client_of_another_journal_is_told_to_start_over(served: Served) -> None:
    await incidents(served, 3)
    session, request = events_of(served, "999")
    async with session, request as answer:
        follower = Follower(answer.content)
        assert json.loads((await follower.next("reset"))["data"]) == {"seq": 3}
        await incidents(served, 1)
        assert await follower.journal(1) == [4]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30])
async def test_a_wrong_last_event_id_is_refused(served: Served, last: str) -> None:
    status, _, body = await asyncio.to_thread(served.ask, "/api/v1/events", Last_Event_ID=last)
    assert status == 400
    assert "Last-Event-ID must be a whole number" in json.loads(body)["error"]["message"]


async def test_a_quiet_stream_beats(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.screens.stream._BEAT_S", 0.5)
    session, request = events_of(served)
    async with session, request as answer, asyncio.timeout(20):
        while b": still here\n" != await answer.content.readline():
            pass


async def test_only_so_many_clients_follow_and_others_are_told(served: Served) -> None:
    followers = [await asyncio.to_thread(raw_follower, served) for _ in range(FOLLOWERS)]
    assert {status for _, status in followers} == {200}
    refused, status = await asyncio.to_thread(raw_follower, served)
    assert status == 503
    for client, _ in followers:
        client.close()
    async with asyncio.timeout(20):
        while status != 200:
            refused.close()
            refused, status = await asyncio.to_thread(raw_follower, served)
    refused.close()


def raw_follower(served: Served, after: str = "") -> tuple[socket.socket, int]:
    """Ask for the events, read the status of the answer and nothing more."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(20)
    client.connect(("127.0.0.1", served.port))
    who = f"Cookie: session={served.cookie}\r\n"
    client.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n{who}{after}\r\n".encode())
    return client, int(client.recv(12).split()[1])


async def test_a_client_that_takes_nothing_is_let_go_and_holds_no_memory(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.screens.api.LIMIT_S", 0.5)
    reader_calls: list[int] = []
    events = served.board.events

    async def counted(after: int, limit: int) -> list[dict[str, Any]]:
        reader_calls.append(after)
        return await events(after, limit)

    monkeypatch.setattr(served.board, "events", counted)
    for _ in range(20):
        await incidents(served, 2000)
    before = asyncio.all_tasks()
    client, status = await asyncio.to_thread(raw_follower, served, "Last-Event-ID: 0\r\n")
    with client:
        assert status == 200
        async with asyncio.timeout(30):
            while await _grows(reader_calls):
                pass
        assert max(reader_calls) < 40_000, "it was let go long before the end of the journal"
        async with asyncio.timeout(20):
            while asyncio.all_tasks() - before:
                await asyncio.sleep(0.05)  # nobody works for it any more
    assert (await get(served, "/healthz"))["status"] == "degraded", "nobody else noticed"


async def _grows(calls: list[int]) -> bool:
    before = len(calls)
    await asyncio.sleep(1.5)
    return len(calls) > before


async def test_closing_the_service_ends_the_streams(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        session, request = events_of(served)
        answer = await request
    async with session, asyncio.timeout(5):
        await answer.content.read()


# The status on a terminal.


async def test_the_summary_tells_the_same_and_a_name_cannot_steer_the_terminal(served: Served) -> None:
    await docked(served)
    served.world.show(replace(slot(Phase.READING, total=37, pulled=12), device_label="\x1b[2J可以取走\u202e\udc80"))
    text = summary(await get(served, "/api/v1/status"))
    assert all(line.isprintable() for line in text.splitlines())
    assert "请勿拔出 (do not unplug)" in text
    assert "4 seen = 2 pulled + 2 left" in text
    assert "逾期 overdue: 1" in text
