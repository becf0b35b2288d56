"""Promise: the OpenAPI document names every address, whom it answers, and says the truth about what it answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from agent.accounts.book import Account, Token
from agent.model import DockingListed, Phase
from agent.screens.server import status_app
from agent.screens.who import Role
from tests.journal_entries import acquired, confirmed, opened
from tests.room_station import ROOMS, picture, recorded, session, show, source
from tests.status_station import NOW, Served, footage, serve, slot

PROGRAMS = ("/healthz", "/readyz", "/api/")
ENDLESS = "/api/v1/events"
INVENTORY = """
[recorder.DSJ-001]
number = "固资 001"
product = "DSJ-V8"
serial = "058F63666485"
"""


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path, inventory=INVENTORY, rooms=ROOMS) as station:
        await docked(station)
        await recorded(station)
        show(station, session(source("face", "正面"), source("wide", "全景", picture(tmp_path, "wide"))))
        yield station


async def docked(served: Served) -> None:
    """Recordings of all fates and a slot that is being read."""
    days = (0, 4, 1, 6)
    made = [footage(served.config, name, n, NOW - timedelta(days=days[n])) for n, name in enumerate("abcd")]
    await served.journal.record(opened(), *made, DockingListed("d1", 4, "ab" * 32))
    await served.journal.record(acquired("a", 0), acquired("b", 1), confirmed("b"))
    served.world.show(slot(Phase.READING, total=37, pulled=12))


def with_token(served: Served) -> dict[str, str]:
    """What makes a request that of a program whose account is a supervisor's."""
    token, accounts = "a" * 43, served.gate.book.accounts
    known = Token("program", sha256(token.encode()).hexdigest(), Role.SUPERVISOR, NOW + timedelta(days=1))
    account = Account("program", Role.SUPERVISOR, tokens=(known,))
    served.gate.book.accounts = replace(accounts, by_name={**accounts.by_name, account.name: account})
    return {"Authorization": f"Bearer {token}"}


def operations(told: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


async def test_every_route_is_in_the_document_with_its_roles_and_nothing_else_is(served: Served) -> None:
    told = await asyncio.to_thread(served.get, "/api/v1/openapi.json")
    app = status_app(served.board, served.gate)
    routes = {
        (route.resource.canonical, route.method.lower())
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert {(path, method) for path, method, _ in operations(told)} == routes
    known = {role.value for role in Role}
    for path, method, operation in operations(told):
        assert operation["x-roles"], (path, method)
        assert set(operation["x-roles"]) <= known
        assert operation["summary"] != path, "its handler says what it gives"
        assert (operation["security"] == []) == ("public" in operation["x-roles"])
        assert method in ("get", "post"), "nothing here removes"


async def test_the_document_is_a_valid_openapi_3_1_document_and_every_name_in_it_is_defined(served: Served) -> None:
    told = await asyncio.to_thread(served.get, "/api/v1/openapi.json")
    assert told["openapi"] == "3.1.0"
    text = json.dumps(told)
    used = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used == set(told["components"]["schemas"]), "none is missing, none is there for nothing"
    for name, schema in told["components"]["schemas"].items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
        assert schema, name


async def test_whatever_the_document_permits_is_answered_as_it_says_and_nothing_else_is(served: Served) -> None:
    """Schemathesis makes up questions, right and wrong ones; every check it knows holds for every answer."""
    headers = with_token(served)
    address = f"http://127.0.0.1:{served.port}/api/v1/openapi.json"
    schema = await asyncio.to_thread(schemathesis.openapi.from_url, address, headers=headers)
    found = [one.ok() for one in schema.get_all_operations()]
    programs = [one for one in found if one.path.startswith(PROGRAMS) and one.path != ENDLESS]
    assert len(programs) >= 8
    await asyncio.to_thread(all_hold, programs, headers)


async def test_what_is_told_of_a_running_session_has_the_fields_that_the_document_names(served: Served) -> None:
    headers = with_token(served)
    address = f"http://127.0.0.1:{served.port}/api/v1/openapi.json"
    schema = await asyncio.to_thread(schemathesis.openapi.from_url, address, headers=headers)
    for path, known in (
        ("/api/v1/rooms/{room}", {"room": "xunwen"}),
        ("/api/v1/sessions/{session}", {"session": "s1"}),
    ):
        case = schema[path]["GET"].Case(path_parameters=known)
        answer = await asyncio.to_thread(case.call_and_validate, headers=headers)
        assert answer.status_code == 200


@pytest.mark.parametrize("recording", ["a", "rec-b", "c", "d"])
async def test_what_is_told_of_real_recordings_has_the_fields_that_the_document_names(
    served: Served, recording: str
) -> None:
    headers = with_token(served)
    address = f"http://127.0.0.1:{served.port}/api/v1/openapi.json"
    schema = await asyncio.to_thread(schemathesis.openapi.from_url, address, headers=headers)
    for path in ("/api/v1/recordings/{recording}", "/api/v1/deadline/{recording}", "/api/v1/metadata/{recording}"):
        case = schema[path]["GET"].Case(path_parameters={"recording": recording})
        answer = await asyncio.to_thread(case.call_and_validate, headers=headers)
        assert answer.status_code == 200


async def test_every_page_and_picture_is_of_the_kind_that_the_document_names(served: Served) -> None:
    headers = with_token(served)
    told = await asyncio.to_thread(served.get, "/api/v1/openapi.json")
    known = {"recording": "a", "docking": "d1", "name": "page.css", "role": "poster", "year": "2026", "room": "xunwen"}
    known |= {"session": "s1", "source": "wide"}
    shown = 0
    for path, method, operation in operations(told):
        if method == "get" and path != ENDLESS:
            asked = path.format(**known)
            status, got, _ = await asyncio.to_thread(served.ask, asked, **headers)
            assert str(status) in operation["responses"], (path, status)
            shown += status == 200
            (kind,) = operation["responses"]["200"]["content"]
            pattern = kind.replace("*", "[^;]+").replace("+xml", r"\+xml")
            assert status != 200 or re.match(pattern, got["content-type"]), path
    assert shown >= 24


def all_hold(operations: list[Any], headers: dict[str, str]) -> None:
    for operation in operations:
        has_parameters = any(True for _ in operation.iter_parameters())
        for mode in schemathesis.GenerationMode if has_parameters else [schemathesis.GenerationMode.POSITIVE]:

            @settings(
                max_examples=8, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def hold(case: schemathesis.Case) -> None:
                case.call_and_validate(headers=headers)

            hold()
