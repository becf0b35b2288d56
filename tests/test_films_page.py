"""Promise: a session's film plays and seeks in a browser, for who may and says why, and each view is journalled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from blake3 import blake3

from agent.access.filming import Footage, make_film
from agent.access.watching import never
from agent.config import AccessCopies
from agent.durable import WORK_FOLDER
from agent.model import (
    Acquired,
    ActivityStated,
    Asset,
    AssetChanged,
    AssetState,
    Derivation,
    Derived,
    Digests,
    DocumentAdded,
    GapExplained,
    Held,
    Role,
)
from agent.screens.who import Role as Person
from agent.vault import address_in
from tests.chromium import Page, browsing
from tests.journal_entries import NOW, held, segment_taken, session_started
from tests.segments import camera, cut, part
from tests.status_station import Served, serve
from tests.test_supervisor_page import storage

ZERO_US = 1_780_000_000_000_000
PLAY = """new Promise(done => {
  const shown = document.querySelector('video');
  const tell = how => done({how, wide: shown.videoWidth, at: shown.currentTime, all: shown.duration,
    error: shown.error ? shown.error.message : ''});
  shown.addEventListener('error', () => tell('error'));
  const seek = () => { shown.addEventListener('seeked', () => {
      shown.addEventListener('ended', () => tell('ended')); shown.playbackRate = 4;
      shown.play().catch(error => tell(String(error))); }, {once: true});
    shown.currentTime = %s; };
  shown.muted = true;
  shown.readyState >= 1 ? seek() : shown.addEventListener('loadedmetadata', seek);
})"""


@pytest.fixture
async def film(tmp_path: Path) -> bytes:
    """Ten seconds with a card of six, in which the pictures change their size."""
    folder = tmp_path / WORK_FOLDER / "film"
    folder.mkdir(parents=True)
    first, second = camera(tmp_path, "small", 2), camera(tmp_path, "large", 2, size="640x360")
    paths = [cut(first, tmp_path / "front-000001", 0, 2), cut(second, tmp_path / "front-000002", 0, 2)]
    parts = [await part(path, at, at + 2, ZERO_US) for path, at in zip(paths, (0, 8), strict=True)]
    footage = Footage("前方摄像机", parts, (), (ZERO_US, ZERO_US + 10_000_000))
    return (await make_film(footage, folder, AccessCopies(), is_busy=never)).made.path.read_bytes()


@pytest.fixture
async def served(tmp_path: Path, film: bytes) -> AsyncIterator[Served]:
    """A session with two segments, which one film shows."""
    async with serve(tmp_path, storage(tmp_path)) as station:
        digests = Digests(blake3(film).hexdigest(), "0" * 64)
        asset = Asset("film", "rec-a", Role.ACCESS_COPY, AssetState.WANTED, len(film), digests=digests)
        said = Derivation(Role.ACCESS_COPY, "a", NOW, "ffmpeg", "ab" * 32, True, "s1", "cam")
        path = address_in(tmp_path, digests.blake3)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film)
        await station.journal.record(
            session_started(), segment_taken("a"), segment_taken("b", 2),
            *(AssetChanged(name, Acquired(held(name))) for name in "ab"),
            DocumentAdded(asset, ("rec-a",), said), Derived("a", film="film"), Derived("b", film="film", film_ms=8000),
            AssetChanged("film", Acquired(Held("film", path, len(film), digests, sealed=False))),
        )  # fmt: skip
        yield station


async def test_a_film_plays_and_seeks_and_says_who_looked(served: Served, tmp_path: Path) -> None:
    where = f"{served.url}sessions/s1/films"
    async with browsing(where, tmp_path / "profile", served.cookie) as page:
        await page.shows("cam")
        told = await shown_after(page, "复核笔录")
        assert (told["how"], told["error"]) == ("ended", ""), told
        assert told["wide"] == 640, "the pictures behind the gap are larger"
        assert told["all"] == pytest.approx(10, abs=0.2)
        await page.send("Page.navigate", url=f"{served.url}recordings/rec-b")
        await page.shows("rec-b")
        told = await shown_after(page, "查看第二段", seek="shown.currentTime")
        assert (told["how"], told["error"]) == ("ended", ""), told
        assert "#t=8.000" in await page.value("document.querySelector('video').src")
        assert page.console == []
    viewed = [one.detail for one in served.journal.reader.events(0, 100) if one.kind == "copy_viewed"]
    assert ['"asset_id":"a"' in one or '"asset_id":"b"' in one for one in viewed] == [True, True]
    assert all('"copy":"film"' in one for one in viewed)


async def shown_after(page: Page, why: str, seek: str = "9") -> dict[str, object]:
    """Give a reason in the form, then play the last second."""
    await page.value(f"document.querySelector('input[name=why]').value = '{why}'")
    await page.value("document.querySelector('main form button, form.filters button').click()")
    async with asyncio.timeout(30):
        while not await page.value("document.readyState == 'complete' && !!document.querySelector('video')"):
            await asyncio.sleep(0.1)
    answer = await page.send(
        "Runtime.evaluate", expression=PLAY % seek, returnByValue=True, awaitPromise=True, userGesture=True
    )
    found: dict[str, object] = answer["result"]["value"]
    return found


async def test_without_role_or_reason_not_a_byte(served: Served, film: bytes) -> None:
    for role in (Person.IT, Person.OFFICER):
        status, _, body = await asyncio.to_thread(served.signed_in(role).ask, "/sessions/s1/films")
        assert (status, film[:32] in body) == (403, False)
    status, _, _ = await send(served, "x")
    assert status == 400
    assert (await send(served, "复核", of="rear"))[0] == 404
    for path in ("/sessions/s1/film?of=cam", "/sessions/s1/film?of=cam&grant=1.x"):
        assert (await asyncio.to_thread(served.ask, path))[0] == 403
    for path in ("/sessions/s9/films", "/sessions/s1/made/timeline", "/sessions/s1/made/x", "/sessions/s1/film?of=a"):
        assert (await asyncio.to_thread(served.ask, path))[0] == 404
    status, location, _ = await send(served, "复核")
    assert status == 303
    path = location.replace("/films?", "/film?").partition("#")[0]
    status, headers, body = await asyncio.to_thread(lambda: served.ask(path, Range="bytes=100-199"))
    assert (status, headers["content-type"], body) == (206, "video/mp4", film[100:200])
    other = served.signed_in(Person.CUSTODIAN)
    assert (await asyncio.to_thread(other.ask, path))[0] == 403, "the grant is another's"


async def send(served: Served, why: str, of: str = "cam") -> tuple[int, str, bytes]:
    body = urlencode({"why": why, "of": of, "token": served.form_token}).encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    status, headers, told = await asyncio.to_thread(
        lambda: served.ask("/sessions/s1/films", "POST", body, **kind)
    )  # fmt: skip
    return status, headers.get("location", ""), told


async def test_what_was_explained_after_the_film_was_made_stands_beside_it(served: Served) -> None:
    """A gap of all sources beside each film, one of a source beside its own."""
    start = NOW + timedelta(minutes=2)
    said = GapExplained("s1", 1, start, start + timedelta(minutes=3), "INT-12", "变压器故障", "张三", "doc")
    await served.journal.record(
        ActivityStated("s1", "S05", NOW, NOW + timedelta(minutes=5), ("rec-a", "rec-b"), "张三", "询问")
    )
    status, _, before = await asyncio.to_thread(served.ask, "/sessions/s1/films", Accept="text/html")
    await served.journal.record(said)
    after = (await asyncio.to_thread(served.ask, "/sessions/s1/films", Accept="text/html"))[2].decode()
    assert status == 200
    assert "中断未说明" in before.decode()
    assert "变压器故障" not in before.decode()
    assert "INT-12 网络/供电中断 · 张三：变压器故障" in after
    assert "中断未说明" not in after
