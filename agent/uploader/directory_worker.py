"""The worker of the directory store: a process that can be killed when a disk or share hangs.

    python -I -m agent.uploader.directory_worker ROOT VAULT_ROOT NAME SEAL

One request at a time comes as a JSON line on stdin; progress and one answer to each go as JSON lines to stdout. Every
line has the request's number. After each line of progress it waits for a line {"go": true}, so that something more
urgent can go first. It ends when its parent does; a copy that it leaves behind is removed by the next one.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from agent.errors import EvidenceError, StoreError
from agent.model import Digests, Held
from agent.uploader.base import present
from agent.uploader.directory_share import Settings, Share
from agent.uploader.directory_survey import survey
from agent.uploader.source import write_all

_TELL_EACH_S: Final = 0.5

Say = Callable[[Mapping[str, object]], None]
Wait = Callable[[], None]


class ParentGoneError(Exception):
    """Nobody listens any more, or lets us go on."""


class Worker:
    """Answers requests about one share, and says now and then that work goes on."""

    def __init__(self, settings: Settings, say: Say, wait: Wait) -> None:
        self._say = say
        self._wait = wait
        self._told_at_s = time.monotonic()
        self._settings = settings
        self._share = Share(settings, self._tell)

    def _tell(self, done_bytes: int | None) -> None:
        if time.monotonic() - self._told_at_s >= _TELL_EACH_S:
            self._say({"alive": True} if done_bytes is None else {"sent": done_bytes})
            self._wait()
            self._told_at_s = time.monotonic()

    def answer(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        """Do what is asked for, and say what was found; what the world refuses is an answer too."""
        try:
            return self._do(request)
        except (StoreError, EvidenceError) as error:
            told = {"kind": type(error).__name__, "what": error.what, "safe": error.safe, "do": error.do}
            return {"error": told | {"retry": isinstance(error, StoreError) and error.retry}}

    def _do(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        match request:
            case {"put": {"path": path, "key": key, "size": size, "blake3": b3, "sha256": s2}, "prepare": prepare}:
                held = Held("", Path(path), size, Digests(b3, s2), sealed=False, key=key)
                return {"found": _told(key, self._share.put(held, prepare=prepare))}
            case {"check": {"key": key, "size": size, "blake3": b3, "sha256": s2}, "read": read}:
                return {"found": _told(key, self._share.check(key, size, Digests(b3, s2), read=read))}
            case {"fetch": {"key": key, "size": size, "blake3": b3, "sha256": s2}, "part": part}:
                return {"found": _told(key, self._share.fetch(key, size, Digests(b3, s2), Path(part)))}
            case {"look": True}:
                with self._share.opened():
                    return {"there": True}
            case {"apart": True}:
                with self._share.opened() as here:
                    return {"apart": here.stat().st_dev != self._settings.vault_root.stat().st_dev}
            case {"survey": True}:
                traits = []
                for trait in survey(self._share, self._settings.root, present):
                    traits.append(asdict(trait))
                    self._tell(None)
                return {"traits": traits}
        raise AssertionError("the parent sent an unknown request")


def _told(key: str, found: tuple[int, Digests | None]) -> Mapping[str, object]:
    size, digests = found
    return {"object": key, "size": size, **({} if digests is None else asdict(digests))}


def main(arguments: Sequence[str]) -> int:
    """Run as a child process; returns the exit code."""
    root, vault_root, name, seal = arguments
    requests = map(json.loads, sys.stdin.buffer)
    number = 0

    def say(line: Mapping[str, object]) -> None:
        text = json.dumps({"number": number, **line}, separators=(",", ":")) + "\n"
        try:
            write_all(sys.stdout.fileno(), memoryview(text.encode("ascii")))
        except BrokenPipeError:
            raise ParentGoneError from None

    def wait() -> None:
        if next(requests, None) != {"go": True}:
            raise ParentGoneError

    worker = Worker(Settings(name, Path(root), Path(vault_root), seal == "seal"), say, wait)
    with contextlib.suppress(ParentGoneError):
        for request in requests:
            number = request["number"]
            say(worker.answer(request))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
