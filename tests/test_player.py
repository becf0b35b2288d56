"""Promise: what is played is never an original, and nobody gets a byte without role, reason and a journal entry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from agent.screens.who import Role
from agent.vault import address_in
from tests.journal_entries import acquired, digests_of, opened
from tests.made import derived
from tests.status_station import Served, footage, serve
from tests.test_supervisor_page import FRIDAY, acquired_document, copy, storage

BYTES = bytes(range(256)) * 40


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A recording `a` with an access copy `p`, and a recording `b` without one; both originals are here."""
    async with serve(tmp_path, storage(tmp_path)) as station:
        both = (footage(station.config, name, number, FRIDAY) for number, name in enumerate("ab", 1))
        await station.journal.record(opened(), *both, acquired("a"), acquired("b", 2), copy("p", "a"))
        for name, content in (("a", b"original"), ("b", b"original"), ("p", BYTES)):
            path = address_in(tmp_path, digests_of(name).blake3)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        await station.journal.record(acquired_document("p", 1000), derived("a"))
        yield station


async def ask(served: Served, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return await asyncio.to_thread(lambda: served.ask(path, **headers))


async def view(served: Served, why: str, recording: str = "rec-a", token: str | None = None) -> tuple[int, str]:
    """Send the form; the status, and where the answer leads."""
    body = urlencode({"why": why, "token": served.form_token if token is None else token}).encode()
    kind = "application/x-www-form-urlencoded"
    status, headers, _ = await asyncio.to_thread(
        lambda: served.ask(f"/recordings/{recording}/view", "POST", body, **{"Content-Type": kind})
    )
    return status, headers.get("location", "")


def views(served: Served) -> list[str]:
    return [one.detail for one in served.journal.reader.events(0, 1000) if one.kind == "copy_viewed"]


async def granted(served: Served) -> str:
    status, location = await view(served, "复核")
    assert status == 303
    return location.partition("grant=")[2].partition("#")[0]


async def test_ranges_of_the_copy_and_of_nothing_else(served: Served) -> None:
    grant = await granted(served)
    (told,) = views(served)
    assert told == '{"account":"supervisor","asset_id":"a","copy":"p","why":"\\u590d\\u6838"}'
    address = f"/recordings/rec-a/copy?grant={grant}"
    status, headers, body = await ask(served, address)
    assert (status, body, headers["content-type"]) == (200, BYTES, "video/mp4"), body[:300]
    assert headers["cache-control"] == "no-store"
    status, headers, body = await ask(served, address, Range="bytes=256-511")
    assert (status, body) == (206, BYTES[256:512])
    assert headers["content-range"] == f"bytes 256-511/{len(BYTES)}"
    assert (await ask(served, address, Range=f"bytes={len(BYTES)}-"))[0] == 416
    assert (await ask(served, f"/recordings/rec-b/copy?grant={grant}"))[0] == 404, (
        "it has no copy, and its original is not shown"
    )


async def test_a_grant_is_for_one_session_and_one_hour_and_can_t_be_made_up(served: Served) -> None:
    grant = await granted(served)
    address = f"/recordings/rec-a/copy?grant={grant}"
    until, _, mac = grant.partition(".")
    made_up = (f"{int(until) + 1}.{mac}", f"{until}.{mac[::-1]}", f"{until}.", f"{until}.%ff")
    for other in ("", ".", "x", mac, "1" * 60, quote("１.x"), *made_up):
        status, _, body = await ask(served, f"/recordings/rec-a/copy?grant={other}")
        assert (status, BYTES[:64] in body) == (403, False), other
    another = served.signed_in(Role.SUPERVISOR)
    assert (await ask(another, address))[0] == 403, "another session of the same account"
    assert (await ask(served.signed_in(Role.CUSTODIAN), address))[0] == 403
    served.world.now = served.world.now.replace(hour=11, minute=1)
    assert (await ask(served, address))[0] == 403, "the hour is over"


@pytest.mark.parametrize("role", [Role.IT, Role.OFFICER, None])
async def test_without_the_role_not_a_byte(served: Served, role: Role | None) -> None:
    grant = await granted(served)
    asking = replace(served, cookie="") if role is None else served.signed_in(role)
    for path in (f"/recordings/rec-a/copy?grant={grant}", "/recordings/rec-a/made/poster", "/recordings/rec-a"):
        status, _, body = await ask(asking, path)
        assert status in (303, 401, 403), path
        assert BYTES[:64] not in body
    assert (await view(asking, "复核"))[0] in (303, 401, 403)
    assert len(views(served)) == 1


async def test_no_reason_no_form_of_ours_no_copy(served: Served) -> None:
    for why in ("", " ", "x", "\x07\x07\x07", "长" * 5000):
        assert (await view(served, why))[0] == 400, why
    assert (await view(served, "复核", token="nonsense"))[0] == 403
    assert (await view(served, "复核", recording="rec-b"))[0] == 404
    assert views(served) == []


async def test_paths_lead_nowhere_else(served: Served, tmp_path: Path) -> None:
    grant = await granted(served)
    original = digests_of("a").blake3
    for path in (
        f"/recordings/..%2f..%2fvault%2f{original[:2]}%2f{original}/copy?grant={grant}",
        "/recordings/a/made/original",
        "/recordings/rec-a/made/..%2f..%2fjournal.db",
        "/recordings/rec-a/made/access_copy",
        f"/recordings/p/copy?grant={grant}",
        f"/recordings/rec-a/copy/../../../{original}?grant={grant}",
        f"/vault/{original[:2]}/{original}",
    ):
        status, _, body = await ask(served, path)
        assert status in (400, 403, 404), path
        assert b"original" != body
