"""Access copies play to their end in a real browser, and pictures are shown."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from agent.access.copying import make_copy
from agent.access.inspecting import inspect
from agent.config import AccessCopies, Overlay
from agent.media.probing import probe
from tests.chromium import browsing
from tests.damage import damaged

# Name of the case: the element that shows its copy.
SHOWN = {
    "whole": "video", "h265": "video", "mjpeg-avi": "video", "hole": "video", "vfr": "video", "ts": "video",
    "rotated": "video", "amr": "audio", "mp3": "audio", "photo": "img",
}  # fmt: skip
PLAY = """new Promise(done => {
  const shown = document.querySelector('#shown');
  const tell = how => done({how, wide: shown.videoWidth || shown.naturalWidth || 0,
    high: shown.videoHeight || shown.naturalHeight || 0, at: shown.currentTime || 0, all: shown.duration || 0,
    error: shown.error ? shown.error.message : ''});
  shown.addEventListener('error', () => tell('error'));
  if (shown.tagName === 'IMG') { shown.complete ? tell('ended') : shown.addEventListener('load', () => tell('ended')); }
  else {
    shown.addEventListener('ended', () => tell('ended'));
    shown.muted = true; shown.playbackRate = 4; shown.play().catch(error => tell(String(error)));
  }
})"""


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[tuple[Path, str]]:
    """A folder, and the address under which a browser finds its files."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    application = web.Application()
    application.router.add_static("/", folder)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield folder, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.timeout(240)
async def test_copies_are_played_to_their_end(shelf: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = shelf
    spans = {name: await copied(name, tmp_path, folder) for name in SHOWN}
    (folder / "empty.html").write_text("<!doctype html><title>copies</title>", encoding="utf-8")
    for name, kind in SHOWN.items():
        (file,) = folder.glob(f"{name}.*")
        page = f"<!doctype html><title>{name}</title><{kind} id=shown src='{file.name}'></{kind}>"
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    async with browsing(f"{url}/empty.html", tmp_path / "profile") as page:
        for name, kind in SHOWN.items():
            await page.send("Page.navigate", url=f"{url}/{name}.html")
            async with asyncio.timeout(20):
                while await page.value("document.title + document.readyState") != f"{name}complete":
                    await asyncio.sleep(0.05)
            answer = await page.send(
                "Runtime.evaluate", expression=PLAY, returnByValue=True, awaitPromise=True, userGesture=True
            )
            told = answer["result"]["value"]
            assert (told["how"], told["error"]) == ("ended", ""), (name, told)
            assert kind == "audio" or (told["wide"] > 0 and told["high"] > 0), (name, told)
            assert name != "rotated" or told["high"] > told["wide"]
            assert kind == "img" or abs(told["at"] - spans[name] / 1000) < 0.3, (name, told, spans[name])


async def copied(name: str, work: Path, shelf: Path) -> int:
    """Put the copy of a case on the shelf; its length in milliseconds."""
    original = damaged(work, name)
    fd = os.open(original, os.O_RDONLY)
    try:
        facts = await probe(fd, gps=False)
    finally:
        os.close(fd)
    folder = work / name
    folder.mkdir()
    settings = AccessCopies(overlay=Overlay.NOTICE if name == "vfr" else Overlay.NOTHING)
    made = await make_copy(original, facts, await inspect(original), folder, settings)
    made.path.rename(shelf / f"{name}{made.path.suffix}")
    copy = await inspect(shelf / f"{name}{made.path.suffix}")
    return max((track.shown_ms or 0) + (track.span_ms or 0) for track in copy.tracks)
