"""What is said to a server of the resumable upload protocol tus 1.0.0, and how little of its answers is believed."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import base64
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from yarl import URL

from agent.config.options import integer, secret, text
from agent.errors import ConfigError, StoreError
from agent.model import Digests
from agent.uploader.base import SAFE, misconfigured
from agent.uploader.network import Answer, Body, Network, NetworkOptions, Sink, http_url, read_private
from agent.uploader.source import Tally

VERSION: Final = "1.0.0"
GUIDE: Final = "docs/store-tus.md"
_CHECK: Final = "Check the collecting service; storing goes on by itself."

_LOCATION_LIMIT: Final = 1024
_SLOWEST_FINISH_BYTES_S: Final = 20e6
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}=*")
_SHA256: Final = re.compile(r"(?:^|[,\s])sha-256=:([A-Za-z0-9+/]{43}=):")
_FINE: Final = frozenset({200, 204})
_GONE: Final = frozenset({404, 410})
_UNWILLING: Final = frozenset({400, 401, 403, 404, 405, 410, 501})
_OTHER_BYTES: Final = 460
_REFUSALS: Final[Mapping[int, tuple[str, str]]] = {
    401: ("does not let us in", "Check token_file and our rights."),
    403: ("does not let us in", "Check token_file and our rights."),
    412: (f"does not speak tus {VERSION}", "Check the endpoint."),
    413: (
        "takes no request of this size",
        "Lower request_limit_bytes, or raise the limits of the service and of the proxy before it.",
    ),
    _OTHER_BYTES: (
        "has other bytes than it was told of",
        "Have the upload checked there; once it is gone, storing can begin anew.",
    ),
    507: ("is full", "Give it more room; storing goes on by itself."),
}


@dataclass(frozen=True, slots=True)
class TusOptions(NetworkOptions):
    """Options of a tus store beside those of the network.

    `endpoint` is where uploads are created. `token_file` holds a bearer token. No request carries more than
    `request_limit_bytes`, and after a failure at most so much is sent again.
    """

    endpoint: str = text("", 1024)
    token_file: Path | None = secret()
    request_limit_bytes: int = integer(64 << 20, 64 << 10, 1 << 40, "bytes")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server says it can do; `date` is its clock as it writes it."""

    extensions: frozenset[str]
    max_bytes: int | None
    date: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload has come by the server's word; numbers it doesn't give are -1."""

    offset_bytes: int
    length_bytes: int
    sha256: str

    def is_whole(self, size_bytes: int) -> bool:
        """Whether it has all of so many bytes."""
        return self.offset_bytes == self.length_bytes == size_bytes


class AgainError(StoreError):
    """The server did not do it this time; another attempt may succeed."""


class TusServer:
    """One request each, of which nothing is tried again; all raise StoreError, and AgainError or CutError where a
    new attempt may help.

    An upload is named by its `place`: path and query beneath the origin of the endpoint, so no answer of the server
    can send evidence or the token elsewhere. Raises ConfigError if the options make no sense.
    """

    def __init__(self, options: TusOptions) -> None:
        self._endpoint = _endpoint(options.endpoint)
        self._token_file = options.token_file
        self._authorization()
        self._network = Network(options)
        self.host = self._endpoint.host or ""
        self.is_encrypted = self._endpoint.scheme == "https"

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._network.close()

    async def offer(self) -> Offer:
        """Ask what the server can do; raises StoreError unless it can take uploads."""
        answer = await self._ask("OPTIONS", self._endpoint.raw_path_qs, _FINE)
        if VERSION not in _words(answer.headers.get("Tus-Version", "")):
            raise self._error(f"does not speak tus {VERSION}", "Check the endpoint.")
        extensions = _words(answer.headers.get("Tus-Extension", ""))
        if "creation" not in extensions:
            raise self._error("does not let clients create uploads", f"See {GUIDE}.")
        limit_bytes = answer.number("Tus-Max-Size") if "Tus-Max-Size" in answer.headers else None
        return Offer(extensions, limit_bytes, answer.date())

    async def create(self, size_bytes: int, key: str, digests: Digests) -> tuple[str, str]:
        """Create an upload; returns its place, and the SHA-256 that the server gives if it is finished already.

        Key and fingerprints tell the service how to name and what to compare.
        """
        known = {"key": key, "blake3": digests.blake3, "sha256": digests.sha256, "size": str(size_bytes)}
        pairs = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in known.items())
        headers = {"Upload-Length": str(size_bytes), "Upload-Metadata": pairs}
        answer = await self._ask("POST", self._endpoint.raw_path_qs, {201}, headers)
        return self.place(answer.headers.get("Location", "")), _sha256(answer)

    async def progress(self, place: str) -> Progress | None:
        """How far an upload has come; None if the server has no such upload.

        Raises AgainError if somebody else answers: a gateway whose service is away must not make anything look lost.
        """
        answer = await self._ask("HEAD", place, _FINE | _GONE)
        if "Tus-Resumable" not in answer.headers:
            what = f"{self.host} answers {answer.status}, and not as a server that speaks tus."
            raise AgainError(what, safe=SAFE, do="Check the service, and the gateway before it.")
        if answer.status in _GONE:
            return None
        return Progress(answer.number("Upload-Offset"), answer.number("Upload-Length"), _sha256(answer))

    async def append(self, place: str, offset_bytes: int, size_bytes: int, body: bytes | Body, total_bytes: int) -> str:
        """Append to an upload; returns the SHA-256 of all of it if the server gives one.

        Appending nothing to a finished upload makes the service finish it again where it failed to; one that doesn't
        do that is no trouble. Raises AgainError too if the new offset is not behind the last byte. The answer to the
        last byte of `total_bytes` may take as long as the service needs to flush and read what it has.
        """
        end = offset_bytes + size_bytes
        headers = {
            "Upload-Offset": str(offset_bytes),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(size_bytes),
        }
        patience_s = total_bytes / _SLOWEST_FINISH_BYTES_S if end == total_bytes else 0.0
        fine = _FINE if size_bytes else _FINE | _UNWILLING
        answer = await self._ask("PATCH", place, fine, headers, body, patience_s=patience_s)
        if answer.status in _UNWILLING:
            return ""
        if answer.number("Upload-Offset") != end:
            raise AgainError(f"{self.host} took another number of bytes than it was sent.", safe=SAFE, do=_CHECK)
        return _sha256(answer)

    async def read_back(self, place: str, tally: Tally | None = None) -> tuple[int, Digests] | None:
        """Size and fingerprints of what the server gives back, and `tally` the bytes; None if we may not read."""
        tally = tally or Tally()
        answer = await self._ask("GET", place, {200} | _UNWILLING, sink=tally.add)
        return tally.found() if answer.status == 200 else None

    async def lets_remove_probe(self, probe: str) -> bool:
        """Whether the server removes a finished upload because a client says so; only for what is no evidence."""
        return (await self._ask("DELETE", probe, range(1000))).status in {200, 202, 204}

    def url(self, place: str) -> str:
        """The whole address of a place."""
        return f"{self._endpoint.origin()}{place}"

    def place(self, location: str) -> str:
        """The place that a Location means; raises StoreError unless it lies at the same origin."""
        if 0 < len(location) <= _LOCATION_LIMIT and location.isascii() and location.isprintable():
            try:
                url = self._endpoint.join(URL(location, encoded=True))
                if url.origin() == self._endpoint.origin() and url.user is None:
                    return url.raw_path_qs
            except (ValueError, IndexError):  # yarl raises both
                pass
        what = f"gives the upload an address that is not its own: {location[:80]!a}"
        raise self._error(what, f"Have the collecting service give relative addresses; see {GUIDE}.")

    async def _ask(
        self,
        method: str,
        place: str,
        fine: Container[int],
        headers: Mapping[str, str] | None = None,
        body: bytes | Body = b"",
        sink: Sink | None = None,
        patience_s: float = 0.0,
    ) -> Answer:
        """An answer with a `fine` status. The token is read anew each time, so that a mended one needs no restart."""
        try:
            every = {"Tus-Resumable": VERSION, **self._authorization(), **(headers or {})}
        except ConfigError as error:
            raise StoreError(error.what, safe=SAFE, do=error.do) from error
        answer = await self._network.ask(method, self.url(place), every, body, sink, patience_s)
        if answer.status not in fine:
            raise self._refusal(answer)
        return answer

    def _authorization(self) -> Mapping[str, str]:
        if self._token_file is None:
            return {}
        token = read_private(self._token_file).strip()
        if not _TOKEN.fullmatch(token):
            what = f"{self._token_file} holds no bearer token"
            raise misconfigured(what, do="Write the token into it, and nothing else.")
        return {"Authorization": f"Bearer {token}"}

    def _refusal(self, answer: Answer) -> StoreError:
        """The words for a status that was not hoped for."""
        said = " ".join(answer.body[:400].decode("ascii", "replace").split())
        told = f"({answer.status}{f': {said[:200]!a}' if said else ''})"
        if answer.status not in _REFUSALS:
            return AgainError(f"{self.host} refuses {told}.", safe=SAFE, do=_CHECK)
        what, do = _REFUSALS[answer.status]
        return StoreError(f"{self.host} {what} {told}.", safe=SAFE, do=do, retry=answer.status != _OTHER_BYTES)

    def _error(self, what: str, do: str) -> StoreError:
        return StoreError(f"{self.host} {what}.", safe=SAFE, do=do)


def _words(value: str) -> frozenset[str]:
    return frozenset(word.strip().lower() for word in value[:1000].split(","))


def _sha256(answer: Answer) -> str:
    """The SHA-256 in `Repr-Digest` (RFC 9530, section 3) as hexadecimal; empty if there is none."""
    found = _SHA256.search(answer.headers.get("Repr-Digest", ""))
    return base64.b64decode(found[1]).hex() if found else ""


def _endpoint(value: str) -> URL:
    url = http_url(value)
    if url is None or url.user is not None or url.fragment:
        must = "must be the address where uploads are created, as https://host/files"
        raise misconfigured(f"store.options.endpoint: {must}")
    return url
