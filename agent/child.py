"""A supervised helper process that speaks JSON lines: bounded lines, stall limit, drained stderr, certain end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

LINE_LIMIT_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 16 * 1024
_STDERR_TAIL_BYTES: Final = 4096
_REAP_LIMIT_S: Final = 5.0
# FFmpeg's binding looks for ALSA's configuration where it was built.
_ENVIRONMENT: Final[Mapping[str, str]] = {"TZ": "UTC", "ALSA_CONFIG_PATH": "/usr/share/alsa/alsa.conf"}


class ChildError(Exception):
    """The helper ended, stalled or sent something that is no JSON line; the text says which."""


def command(module: str) -> list[str]:
    """As `python -I -m module`, for a third less: nothing is searched for before and nothing torn down after."""
    paths = [path for path in sys.path if os.path.isabs(path)]
    load = f"import gc, os, sys; gc.disable(); sys.path = {paths}; from {module} import main; gc.enable()"
    return [sys.executable, "-I", "-S", "-c", f"{load}; os._exit(main(sys.argv[1:]))"]


class Child:
    """One helper process. A read that hangs in the kernel can't be cancelled in a thread; a process can be killed.

    `stall_limit_s`, how long it may say nothing, may be changed while it runs.
    """

    def __init__(self, process: asyncio.subprocess.Process, stall_limit_s: float) -> None:
        self._process = process
        self.stall_limit_s = stall_limit_s
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._reading = asyncio.Lock()
        self._stderr = bytearray()
        self._drain = asyncio.create_task(self._drain_stderr())

    @classmethod
    async def start(
        cls, module: str, arguments: Sequence[str], *, stall_limit_s: float, pass_fds: Sequence[int] = ()
    ) -> Child:
        """Start `module.main(arguments)` in its own session in our environment alone; raises ChildError."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command(module), *arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                limit=LINE_LIMIT_BYTES, pass_fds=tuple(pass_fds), start_new_session=True, cwd="/",
                env=dict(_ENVIRONMENT),
            )  # fmt: skip
        except OSError as error:
            raise ChildError(f"can't be started: {error.strerror}") from error
        return cls(process, stall_limit_s)

    @property
    def pid(self) -> int:
        """Process id, for accounting of memory and for tests."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process is gone; one that was killed is still there while the kernel holds it."""
        return self._process.returncode is not None

    async def _drain_stderr(self) -> None:
        # A full stderr pipe would stop the helper, so it is always read; only the tail is kept.
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(_STDERR_TAIL_BYTES):
            self._stderr += piece
            del self._stderr[:-_STDERR_TAIL_BYTES]

    @property
    def complaints(self) -> tuple[str, ...]:
        """The last lines that it wrote to standard error."""
        return tuple(self._stderr.decode("utf-8", "replace").splitlines())

    async def line(self) -> object | None:
        """Next JSON value, or None when the helper closed its output and exited with 0. Raises ChildError."""
        words = await self.words()
        if words is None:
            return None
        try:
            value: object = json.loads(words)
        except (ValueError, RecursionError):
            raise ChildError("a line is not JSON") from None
        return value

    async def words(self) -> bytes | None:
        """Next line as it is, or None as above. Raises ChildError."""
        if not self._lines:
            try:
                async with asyncio.timeout(self.stall_limit_s):
                    await self._more_lines()
            except TimeoutError:
                raise ChildError(f"no answer for {self.stall_limit_s:g} s") from None
        return self._lines.popleft() if self._lines else None

    async def _more_lines(self) -> None:
        """Wait for at least one line, and take all that are there; none at the end."""
        while not self._lines:
            await asyncio.sleep(0)  # a helper that always has more to say must not keep the others waiting
            piece = await self._piece()
            if not piece:
                await self._ended()
                if self._rest:
                    raise ChildError("ended in the middle of a line")
                return
            *lines, self._rest = (self._rest + piece).split(b"\n")
            if any(len(line) > LINE_LIMIT_BYTES for line in (*lines, self._rest)):
                raise ChildError(f"a line is longer than {LINE_LIMIT_BYTES} bytes")
            self._lines.extend(lines)

    async def _piece(self) -> bytes:
        """What the helper says next; who waits for its lines and who stops it meanwhile take turns."""
        assert self._process.stdout is not None
        async with self._reading:
            return await self._process.stdout.read(_PIECE_BYTES)

    async def _ended(self) -> None:
        code = await self._process.wait()
        if code:
            await asyncio.wait([self._drain], timeout=1.0)
            tail = self._stderr.decode("ascii", "replace").strip().rpartition("\n")[2]
            raise ChildError(f"ended with {code}{': ' + tail if tail else ''}")

    async def send(self, *values: object) -> None:
        """Write JSON lines to the helper; raises ChildError if it is gone."""
        assert self._process.stdin is not None
        text = "".join(json.dumps(value, separators=(",", ":")) + "\n" for value in values)
        try:
            self._process.stdin.write(text.encode("ascii"))
            async with asyncio.timeout(self.stall_limit_s):
                await self._process.stdin.drain()
        except (ConnectionError, RuntimeError):
            raise ChildError("closed its input") from None
        except TimeoutError:
            raise ChildError(f"takes no input for {self.stall_limit_s:g} s") from None

    async def stop(self) -> None:
        """Kill the helper and reap it; one that the kernel holds in an uninterruptible read is left behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REAP_LIMIT_S):
                while await self._piece():
                    pass  # a pipe that nobody empties stays open, and then asyncio doesn't see the end
                await self._process.wait()
                with contextlib.suppress(ConnectionError):
                    await self._process.stdin.wait_closed()
        self._drain.cancel()
        await asyncio.wait([self._drain])
