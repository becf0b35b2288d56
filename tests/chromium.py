"""A headless browser for tests of pages, driven over the DevTools protocol with what aiohttp has."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-port=0", "--window-size=1280,1000",
)  # fmt: skip


class LeftError(Exception):
    """The page was left while it was asked."""


class Page:
    """One page; what it logs to its console (errors of its own, refusals by its policy) is kept in `console`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self.console: list[str] = []

    async def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call the browser and return its result."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            told = await self._socket.receive_json(timeout=30)
            if told.get("id") == number:
                if "navigated" in told.get("error", {}).get("message", ""):
                    raise LeftError(told)
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result
            if told.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                self.console.append(str(told["params"]))

    async def value(self, expression: str) -> Any:  # noqa: ANN401 - whatever the page says
        """The value of a JavaScript expression."""
        found = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def text(self) -> str:
        """What a person reads."""
        return str(await self.value("document.body ? document.body.innerText : ''"))

    async def shows(self, words: str, limit_s: float = 20) -> None:
        """Wait until the page shows the words."""
        async with asyncio.timeout(limit_s):
            while True:
                with contextlib.suppress(LeftError):
                    if words in await self.text():
                        return
                await asyncio.sleep(0.1)

    async def keys(self, text: str) -> None:
        """Press these keys one right after the other, as a card reader does; a tab and a return are keys too."""
        for key in text:
            named = {"\t": ("Tab", 9), "\r": ("Enter", 13)}.get(key, (key, ord(key.upper())))
            pressed = {"key": named[0], "windowsVirtualKeyCode": named[1]}
            await self.send("Input.dispatchKeyEvent", type="keyDown", text="" if key == "\t" else key, **pressed)
            await self.send("Input.dispatchKeyEvent", type="keyUp", **pressed)

    async def screenshot(self, path: Path) -> None:
        """Save what it looks like, all of its height."""
        shot = await self.send("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def browsing(url: str, profile: Path, session: str = "") -> AsyncIterator[Page]:
    """Show `url` in a fresh browser, as who has this session, if any; it and all its processes are gone afterwards."""
    browser = await asyncio.create_subprocess_exec(
        "chromium", *_FLAGS, f"--user-data-dir={profile}", "about:blank",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        port = await _port(profile / "DevToolsActivePort")
        async with aiohttp.ClientSession() as client:
            async with client.get(f"http://127.0.0.1:{port}/json/list") as answer:
                (target,) = [page for page in await answer.json() if page["type"] == "page"]
            async with client.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Log", "Runtime", "Page"):
                    await page.send(f"{domain}.enable")
                if session:
                    await page.send("Network.setCookie", name="session", value=session, url=url)
                await page.send("Page.navigate", url=url)
                yield page
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        await browser.wait()


async def _port(file: Path) -> int:
    async with asyncio.timeout(30):
        while not file.exists() or not file.read_text().strip():
            await asyncio.sleep(0.05)
    return int(file.read_text().split()[0])
