"""The directory store without its helper process, and folders that are stores: for tests that watch every effect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from agent.model import Clock
from agent.uploader.directory import DirectoryStore, Moved
from agent.uploader.directory_errors import MARKER
from agent.uploader.directory_share import Settings
from agent.uploader.directory_worker import Worker


def made(folder: Path) -> Path:
    """Make a folder the administrator's way: with the file that says that it is the store."""
    folder.mkdir(exist_ok=True)
    (folder / MARKER).touch()
    return folder


class OwnProcessStore(DirectoryStore):
    """Does what its worker would do in a thread of the test's process; lines go through JSON all the same."""

    def __init__(
        self, name: str, options: Mapping[str, object], *, vault_root: Path, clock: Clock | None = None
    ) -> None:
        super().__init__(name, options, vault_root=vault_root, **({"clock": clock} if clock else {}))
        self.settings = Settings(name, Path(str(options["path"])), vault_root.resolve(), options.get("seal") is True)

    async def _exchange(self, request: Mapping[str, object], moved: Moved) -> object:
        loop = asyncio.get_running_loop()

        def say(line: Mapping[str, object]) -> None:
            done = line.get("sent")
            asyncio.run_coroutine_threadsafe(moved(done if isinstance(done, int) else None), loop).result()

        def work() -> object:
            return json.loads(
                json.dumps(Worker(self.settings, say, lambda: None).answer(json.loads(json.dumps(request))))
            )

        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise
