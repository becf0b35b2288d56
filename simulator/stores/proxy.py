"""A reverse proxy before any of the stores that makes faults happen where a test says, and counts what passed."""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from simulator.stores.certificates import Certificates
from simulator.stores.faults import Alter, Call, Cut, Fault, Replace, Rule, Side, Stall, Swallow
from simulator.stores.http_stream import (
    LIMIT_BYTES,
    Answer,
    Head,
    body_of_reply,
    body_of_request,
    read_head,
    unchunked,
)
from simulator.stores.processes import HOST

_START_S: Final = 10.0
_LINGER_S: Final = 1.0
_GONE: Final = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError)


@dataclass(slots=True)
class Exchange:
    """One request as it came, and what became of it; the status is None if no reply was let through."""

    method: str
    target: str
    headers: Mapping[str, str]
    sent_bytes: int = 0
    status: int | None = None


class _CutNow(Exception):  # noqa: N818
    """Both connections end here."""


@dataclass(slots=True)
class _Peer:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, piece: bytes) -> None:
        self.writer.write(piece)
        await self.writer.drain()


class FaultProxy:
    """Context manager around a proxy in a thread of its own: it can be used and told from any code.

    It listens at `endpoint`, with TLS if given certificates; if `mutual`, only clients that show the client
    certificate are served. `connections` and `exchanges` tell what came; randomness comes from `seed`.
    """

    def __init__(
        self, upstream_port: int, *, tls: Certificates | None = None, mutual: bool = False, seed: int = 0
    ) -> None:
        self.connections = 0
        self.exchanges: list[Exchange] = []
        self.refusing = False
        self.port = 0
        self._upstream_port = upstream_port
        self._context = tls.server_context(mutual=mutual) if tls is not None else None
        self._random = random.Random(seed)
        self._rules: list[Rule] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="fault proxy")

    @property
    def endpoint(self) -> str:
        """Address as a URL."""
        return f"http{'s' if self._context else ''}://{HOST}:{self.port}"

    def on(self, fault: Fault, method: str = "", target: str = "", *, nth: int = 1, times: int | None = 1) -> Rule:
        """Make a fault happen to requests that match (see Rule); the first rule that applies wins."""
        rule = Rule(fault, method, target, nth, times)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all rules; what stalls already goes on stalling."""
        self._rules.clear()

    def requests(self, method: str = "", target: str = "") -> list[Exchange]:
        """Return the requests so far that match."""
        return [one for one in list(self.exchanges) if method in {"", one.method} and target in one.target]

    def sent_bytes(self, method: str = "", target: str = "") -> int:
        """Return how many bytes of bodies clients have sent with requests that match, counting what was sent again."""
        return sum(one.sent_bytes for one in self.requests(method, target))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(_START_S), "the proxy did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, HOST, 0, ssl=self._context, limit=LIMIT_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(_Peer(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: _Peer) -> None:
        self.connections += 1
        store: _Peer | None = None
        try:
            with suppress(_CutNow, *_GONE):
                if self.refusing:
                    return
                store = _Peer(*await asyncio.open_connection(HOST, self._upstream_port, limit=LIMIT_BYTES))
                while (head := await read_head(client.reader)) is not None:
                    method, target = head.first[:2]
                    exchange = Exchange(method, target, head.headers)
                    self.exchanges.append(exchange)
                    if not await self._exchange(client, store, head, exchange):
                        client.writer.close()
                        await client.writer.wait_closed()
                        return
        finally:
            client.writer.transport.abort()
            if store is not None:
                await _hang_up(store.writer)

    def _fault_for(self, exchange: Exchange) -> Fault | None:
        due = [rule for rule in list(self._rules) if rule.applies(exchange.method, exchange.target)]
        if not due:
            return None
        due[0].happened += 1
        return due[0].fault

    async def _exchange(self, client: _Peer, store: _Peer, head: Head, exchange: Exchange) -> bool:
        """Move one request up and its reply down; returns whether another one may follow on these connections."""
        fault = self._fault_for(exchange)
        if isinstance(fault, Replace) and not fault.forward:
            await self._send_up(client, None, head, exchange, None)
            exchange.status = fault.answer.status
            await client.send(fault.answer.encode(exchange.method))
            return True
        up = asyncio.create_task(self._send_up(client, store, head, exchange, fault))
        down = asyncio.create_task(self._send_down(client, store, exchange, fault))
        try:
            done, _ = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up in done:
                await up
            goes_on = await down
            # A store may answer before it has read all; what the client still sends then goes nowhere.
            await asyncio.wait({up}, timeout=_LINGER_S)
            return goes_on and up.done()
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _send_up(
        self, client: _Peer, store: _Peer | None, head: Head, exchange: Exchange, fault: Fault | None
    ) -> None:
        async def arrived() -> AsyncIterator[bytes]:
            async for piece in body_of_request(client.reader, head):
                exchange.sent_bytes += len(piece)
                yield piece

        if store is None:
            if "100-continue" in head.headers.get("expect", "").lower():
                await client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            async for _ in arrived():
                pass
            return
        async for piece in self._faulty(arrived(), head, fault, Side.UP):
            with suppress(*_GONE):  # it has answered and closed: the reply is on its way down
                await store.send(piece)

    async def _send_down(self, client: _Peer, store: _Peer, exchange: Exchange, fault: Fault | None) -> bool:
        head = await read_head(store.reader)
        while head is not None and head.status < 200:
            await client.send(head.raw)
            head = await read_head(store.reader)
        if head is None:
            raise _CutNow
        body = body_of_reply(store.reader, head, exchange.method)
        if isinstance(fault, Swallow | Replace | Alter):
            await client.send(await self._other_answer(fault, head, body, exchange))
            return True
        async for piece in self._faulty(body, head, fault, Side.DOWN):
            exchange.status = head.status
            await client.send(piece)
        return head.headers.get("connection", "").lower() != "close" and head.first[0] == "HTTP/1.1"

    async def _other_answer(
        self, fault: Swallow | Replace | Alter, head: Head, body: AsyncIterator[bytes], exchange: Exchange
    ) -> bytes:
        whole = b"".join([piece async for piece in body])
        if isinstance(fault, Swallow):
            raise _CutNow
        if isinstance(fault, Replace):
            answer = fault.answer
        else:
            plain = unchunked(whole) if "transfer-encoding" in head.headers else whole
            answer = fault.edit(Answer(head.status, dict(head.headers), plain))
        exchange.status = answer.status
        return answer.encode(exchange.method)

    async def _faulty(
        self, pieces: AsyncIterator[bytes], head: Head, fault: Fault | None, side: Side
    ) -> AsyncIterator[bytes]:
        """Pass on a head and the pieces of its body, and let the fault happen at its byte; 0 is before the head."""
        left = None
        if isinstance(fault, Cut | Stall | Call) and fault.side is side:
            left = fault.after_bytes
            if left is None:
                left = self._random.randint(0, head.length if head.length is not None else LIMIT_BYTES)
            if left == 0:
                await self._strike(fault)
        yield head.raw
        async for piece in pieces:
            if left and left <= len(piece):
                assert isinstance(fault, Cut | Stall | Call)
                yield piece[:left]
                await self._strike(fault)
                yield piece[left:]
                left = None
            else:
                left = left - len(piece) if left else None
                yield piece

    async def _strike(self, fault: Cut | Stall | Call) -> None:
        if isinstance(fault, Call):
            await asyncio.to_thread(fault.what)
        elif isinstance(fault, Cut):
            raise _CutNow
        else:
            await asyncio.Event().wait()


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Close behind the last byte, so that the store has all that passed."""
    writer.close()
    with suppress(*_GONE):
        async with asyncio.timeout(_LINGER_S):
            await writer.wait_closed()
    writer.transport.abort()
