"""The store that is a folder (本单位专用存储器): a disk or share that keeps each original under its fingerprint."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from agent.child import Child, ChildError
from agent.config.options import flag, folder, number, read_options
from agent.errors import EvidenceError, StoreError
from agent.model import BLOCK_BYTES, Clock, Held, Receipt
from agent.turns import Gate
from agent.uploader.base import SAFE, Errand, Trait, key_of, misconfigured, not_ours, own_key, present
from agent.uploader.source import chunks

_WORKER: Final = "agent.uploader.directory_worker"
_TEXT_LIMIT: Final = 4096
_TRAITS_LIMIT: Final = 64
_SMALL_AT_A_TIME: Final = 16
_MAX_ABANDONED: Final = 8


@dataclass(frozen=True, slots=True)
class DirectoryOptions:
    """The folder; whether objects get the immutable flag (shares have none); how long one write or flush may last."""

    path: Path = folder("/srv/evidence")
    seal: bool = flag(default=False)
    stall_limit_s: float = number(120, 1, 3600, "seconds")


Moved = Callable[[int | None], Awaitable[None]]
"""Hears how many bytes are copied, or only that work goes on; the helper waits until it returns."""


async def _nobody(_: int | None) -> None:
    """Not told."""


class DirectoryStore:
    """Keeps originals as `<path>/originals/<first two hex>/<blake3>`, and beside them only copies under way.

    Options: `DirectoryOptions`; raises ConfigError. The folder is never made: it is the store only while the file
    `.capture-agent-store` lies in it, so that evidence never lands in an empty mount point. A copy is flushed and read
    back from the medium before it gets its name, which never replaces.

    All that touches the folder is done by helper processes (`directory_worker`), since a share may hang for ever, and
    a thread that hangs can't be ended. What they claim is compared with what we know before there is a receipt.
    """

    def __init__(self, name: str, options: Mapping[str, object], *, vault_root: Path, clock: Clock = present) -> None:
        chosen = read_options(DirectoryOptions, options, "store.options")
        own = vault_root.resolve()
        if Path(os.path.normpath(chosen.path)).is_relative_to(own):
            what = f"{chosen.path} lies inside this station's own storage {vault_root}"
            raise misconfigured(f"store.options.path: {what}")
        self.name = name
        self._clock = clock
        self.locks = chosen.seal
        self._is_left = True
        arguments = (os.fspath(chosen.path), os.fspath(own), name, "seal" if chosen.seal else "plain")
        self._pool = WorkerPool(_WORKER, arguments, chosen.stall_limit_s)
        self._gate = Gate(_SMALL_AT_A_TIME)
        self._number = 0

    async def put(self, held: Held, errand: Errand) -> Receipt:
        """Store one original, or prove that it is there; raises StoreError or EvidenceError."""
        key, wanted = key_of(held), {"size": held.size_bytes, **asdict(held.digests)}
        ended = False
        try:
            # A large one has the disk to itself, or what is less urgent would share it.
            async with self._gate.slot(errand.due_at, alone=held.size_bytes > BLOCK_BYTES) as turn:

                async def moved(done_bytes: int | None) -> None:
                    if done_bytes is not None:
                        errand.sent(min(max(0, done_bytes), held.size_bytes))
                    await self._gate.give_way(turn)

                prepare, self._is_left = self._is_left, False
                request = {"put": {"path": os.fspath(held.path), "key": key, **wanted}, "prepare": prepare}
                answer = await self._ask(request, moved)
            ended = True
        except EvidenceError:
            await asyncio.to_thread(deque, chunks(held), 0)  # such an accusation must be true: this raises if it is
            raise self._no_proof("that the original, which is as it was, is damaged") from None
        finally:
            self._is_left |= not ended  # something may be left of this copy; the next one removes it
        self._require(answer, {"found": {"object": key, **wanted}})
        return Receipt(self.name, key, held.size_bytes, held.digests, self._clock())

    async def check(self, receipt: Receipt, *, read: bool) -> bool:
        """Compare an object with its receipt, with `read` by reading it again from the medium."""
        key = self._require_ours(receipt)
        size, digests = {"size": receipt.size_bytes}, asdict(receipt.digests)
        answer = await self._ask({"check": {"key": key, **size, **digests}, "read": read})
        self._require(answer, {"found": {"object": key, **size, **(digests if read else {})}})
        return read

    async def fetch(self, receipt: Receipt, part: Path) -> None:
        """Have a helper copy an object back into a new file."""
        found = {"size": receipt.size_bytes, **asdict(receipt.digests)}
        key = self._require_ours(receipt)
        if await asyncio.to_thread(part.exists):
            raise FileExistsError(part)
        request = {"fetch": {"key": key, **found}, "part": os.fspath(part)}
        self._require(await self._ask(request), {"found": {"object": key, **found}})

    def _require_ours(self, receipt: Receipt) -> str:
        key = own_key(receipt)
        if receipt.store != self.name or key is None:
            raise not_ours(receipt, self.name)
        return key

    async def look(self) -> None:
        """Only look whether the folder is there now; raises StoreError."""
        self._require(await self._ask({"look": True}), {"there": True})

    async def apart(self) -> bool:
        """Whether the folder is on another filesystem than the vault; raises StoreError."""
        answer = await self._ask({"apart": True})
        if answer not in ({"apart": True}, {"apart": False}):
            raise self._no_proof(answer)
        return answer == {"apart": True}

    async def survey(self) -> Sequence[Trait]:
        """What the folder can do, found out by trying."""
        answer = await self._ask({"survey": True})
        match answer:
            case {"traits": list(found)} if len(found) <= _TRAITS_LIMIT:
                return [self._trait(line) for line in found]
        raise self._no_proof(answer)

    async def close(self) -> None:
        """Stop the helpers."""
        await self._pool.close()

    # One request to a helper.

    async def _ask(self, request: Mapping[str, object], moved: Moved = _nobody) -> object:
        try:
            answer = await self._exchange(request, moved)
        except ChildError as error:
            do = "Check the network and the storage; storing goes on by itself."
            raise StoreError(f"The store {self.name} can't be reached: {error}.", safe=SAFE, do=do) from error
        match answer:
            case {"error": {"kind": kind, "what": str(what), "safe": str(safe), "do": str(do), "retry": bool(retry)}}:
                what, safe, do = (text[:_TEXT_LIMIT] for text in (what, safe, do))
                if kind == "EvidenceError":
                    raise EvidenceError(what, safe=safe, do=do)
                raise StoreError(what, safe=safe, do=do, retry=retry)
        return answer

    async def _exchange(self, request: Mapping[str, object], moved: Moved) -> object:
        """The answer to one request; raises ChildError, also if a line belongs to another one."""
        self._number += 1
        number = self._number
        async with self._pool.worker() as child:
            await child.send({"number": number, **request})
            while True:
                match await child.line():
                    case {"number": int(found), "sent": int(done)} if found == number:
                        await moved(done)
                    case {"number": int(found), "alive": True} if found == number:
                        await moved(None)
                    case {"number": int(found), **answer} if found == number:
                        return answer
                    case None:
                        raise ChildError("its helper ended")
                    case _:
                        raise ChildError("its helper answers what was not asked")
                await child.send({"go": True})

    def _trait(self, line: object) -> Trait:
        match line:
            case {"name": str(name), "good": bool() | None as good, "what": str(what), "do": str(do)}:
                return Trait(name, good, what, do)
        raise self._no_proof(line)

    def _require(self, answer: object, expected: object) -> None:
        if answer != expected:
            raise self._no_proof(answer)

    def _no_proof(self, answer: object) -> StoreError:
        what = f"The store {self.name} proves nothing: its helper claims {str(answer)[:80]!a}."
        return StoreError(what, safe=SAFE, do="Report this as a mistake.")


class WorkerPool:
    """Processes of one module; as many exist as were ever at work at the same time, and those that hang in the kernel.

    A killed process that the kernel doesn't let go is left behind. When there are too many of these, no more are
    started until one of them is gone.
    """

    def __init__(self, module: str, arguments: Sequence[str], stall_limit_s: float) -> None:
        self._module = module
        self._arguments = arguments
        self._stall_limit_s = stall_limit_s
        self._idle: list[Child] = []
        self._stopping: dict[Child, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[Child]:
        """A process to work with alone; whatever goes wrong meanwhile, or cancels this, kills it. Raises ChildError."""
        child = await self._take()
        went_well = False
        try:
            yield child
            went_well = True
        finally:
            if went_well:
                self._idle.append(child)
            else:
                await self._stop(child)

    async def _take(self) -> Child:
        while self._idle:
            child = self._idle.pop()
            if not child.ended:
                return child
            await self._stop(child)
        if len(self.abandoned()) >= _MAX_ABANDONED:
            raise ChildError(f"{_MAX_ABANDONED} processes hang in it already, and no more are started")
        return await Child.start(self._module, self._arguments, stall_limit_s=self._stall_limit_s)

    async def _stop(self, child: Child) -> None:
        task = self._stopping[child] = asyncio.create_task(child.stop())
        await asyncio.shield(task)

    def abandoned(self) -> Sequence[Child]:
        """Processes that were killed and are still there."""
        for child in [child for child, task in self._stopping.items() if task.done() and child.ended]:
            del self._stopping[child]
        return tuple(self._stopping)

    async def close(self) -> None:
        """Stop all; idempotent."""
        idle, self._idle = self._idle, []
        for child in idle:
            self._stopping[child] = asyncio.create_task(child.stop())
        if self._stopping:
            await asyncio.wait(self._stopping.values())
