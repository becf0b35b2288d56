"""Asks one camera by SOAP over HTTP, shows its password to nobody, and believes no answer more than its form."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from datetime import UTC, timedelta
from enum import StrEnum
from typing import Final, NoReturn, Self
from xml.sax.saxutils import escape

import aiohttp
from yarl import URL

from agent import __version__
from agent.errors import RoomError
from agent.model import Clock
from agent.rooms.onvif.digest import Digest
from agent.rooms.protocol import Cause

ANSWER_LIMIT_BYTES: Final = 2 << 20
"""Longer answers are refused; the profiles of a recorder with 64 cameras take a quarter of it."""

LIMIT_S: Final = 10.0
"""For one answer as a whole, however slowly it comes."""

_ATTEMPTS: Final = 3
_WSSE: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
_REFUSED: Final = frozenset({401, 403})
_UNAUTHORISED: Final = frozenset({"NotAuthorized", "FailedAuthentication", "FailedCheck", "InvalidSecurityToken"})
_CODE: Final = re.compile(r"(?:[\w.-]{1,40}:)?([A-Za-z]{1,60})")
_NO_ADDRESS: Final = "The address of the camera is none."


class FaultError(RoomError):
    """The camera understood and refuses (SOAP 1.2, 5.4); `codes` are its reasons as ONVIF names them."""

    def __init__(self, codes: Sequence[str]) -> None:
        what = f"The camera refuses what it is asked ({', '.join(codes) or 'no reason given'})."
        super().__init__(
            what, cause=Cause.REFUSED, do="Check that it speaks ONVIF profile S or T, and its user's rights."
        )
        self.codes = frozenset(codes)


class _Way(StrEnum):
    """How the camera learns who asks; it is not told before it says that it wants to know."""

    NOBODY = "nobody"
    DIGEST = "digest"
    TOKEN = "token"  # noqa: S105 - the name of a way


class Talk:
    """The connection to one camera; `host` is a name or an IPv4 address.

    Who asks is said by HTTP digest (RFC 7616, MD5 or SHA-256) where the camera offers it, else by a digest of
    WS-UsernameToken 1.0; the password itself is never sent, and nothing goes to any other host. `ahead` is how far the
    camera's clock is ahead of ours: a token of another time is refused. No names of a system's proxy are followed.
    """

    def __init__(self, host: str, port: int, user: str, password: str, clock: Clock) -> None:
        self.ahead = timedelta()
        self._user = user
        self._password = password
        self._clock = clock
        self._way = _Way.NOBODY
        self._digest: Digest | None = None
        self._home = _address(host, port)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def host(self) -> str:
        """The camera as it was named."""
        return self._home.host or ""

    def path_of(self, address: str) -> URL:
        """Where to ask for a service or subscription that the camera says is at `address`: on the camera itself.

        Behind an address translation it says its inner address, and a hostile one may say any; both get the path alone.
        """
        try:
            said = URL(address.strip()[:1024])
            port = said.port if said.scheme == "http" and said.host == self._home.host else self._home.port
            path = {"path": said.raw_path or "/", "query_string": said.raw_query_string}
            return URL.build(scheme="http", host=self.host, port=port, encoded=True, **path)
        except (ValueError, IndexError) as error:  # yarl raises both
            raise malformed("an address that is none") from error

    async def ask(
        self, where: str | URL, service: str, call: str, inner: str = "",
        *, action: str = "", headers: str = "", patience_s: float = 0.0,
    ) -> ET.Element:  # fmt: skip
        """The answer to a call of a service (its namespace), as the element that the camera's Body has.

        `inner` and `headers` are XML, `action` is what the service's description calls it if not by its name. An answer
        that takes its time may come `patience_s` later than others.
        Raises FaultError if it refuses, RoomError if it can't be reached or believed, or wants another user.
        """
        body, action = f'<{call} xmlns="{service}" >{inner}</{call}>', action or f"{service}/{call}"
        url = self._home.with_path(where) if isinstance(where, str) else where
        for _ in range(_ATTEMPTS):
            status, challenges, content = await self._post(url, body, action, headers, LIMIT_S + patience_s)
            answer = _answer(status, content)
            if answer is not None:
                if local(answer) != f"{call}Response":
                    raise malformed("something else than was asked for")
                return answer
            if not self._introduce(challenges):
                break
        what = "The camera does not let this user in." if self._user else "The camera wants a user and a password."
        do = "Check the credential of this source, and at the camera its user's rights and whether it is locked."
        raise RoomError(what, cause=Cause.UNAUTHORISED, do=do)

    def _introduce(self, challenges: Iterable[str]) -> bool:
        """After a refusal choose how to say who asks; False if all has been said."""
        offered = Digest.offered(challenges)
        if not self._user:
            return False
        if offered is not None and (self._digest is None or offered.stale):
            self._digest, self._way = offered, _Way.DIGEST
            return True
        if self._way is _Way.NOBODY:
            self._way = _Way.TOKEN
            return True
        return False

    async def _post(
        self, url: URL, body: str, action: str, headers: str, limit_s: float
    ) -> tuple[int, Sequence[str], bytes]:
        self._session = self._session or _new_session()
        if self._way is _Way.TOKEN:
            headers += self._token()
        content = _envelope(body, headers).encode()
        said = {"Content-Type": f'application/soap+xml; charset=utf-8; action="{action}"'}
        if self._way is _Way.DIGEST and self._digest is not None:
            said["Authorization"] = self._digest.header("POST", url.raw_path_qs, self._user, self._password)
        try:
            async with (
                asyncio.timeout(limit_s),
                self._session.post(url, data=content, headers=said, allow_redirects=False) as response,
            ):
                received = bytearray()
                async for piece in response.content.iter_any():
                    received += piece
                    if len(received) > ANSWER_LIMIT_BYTES:
                        raise malformed(f"more than {ANSWER_LIMIT_BYTES} bytes")
                return response.status, response.headers.getall("WWW-Authenticate", []), bytes(received)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            _unreachable(error, limit_s)

    def _token(self) -> str:
        """WS-Security UsernameToken profile 1.0, 3.1, with a digest."""
        nonce, created = os.urandom(16), f"{(self._clock() + self.ahead).astimezone(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
        proof = hashlib.sha1(nonce + created.encode() + self._password.encode(), usedforsecurity=False).digest()
        return (
            f'<Security s:mustUnderstand="1" xmlns="{_WSSE}wssecurity-secext-1.0.xsd"><UsernameToken>'
            f"<Username>{escape(self._user)}</Username>"
            f'<Password Type="{_WSSE}username-token-profile-1.0#PasswordDigest">{_b64(proof)}</Password>'
            f'<Nonce EncodingType="{_WSSE}soap-message-security-1.0#Base64Binary">{_b64(nonce)}</Nonce>'
            f'<Created xmlns="{_WSSE}wssecurity-utility-1.0.xsd">{created}</Created></UsernameToken></Security>'
        )


class _Plain(ET.TreeBuilder):
    """A tree without a document type: one could make a short answer long, or fetch what others have."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise malformed("a document type")


def parsed(content: bytes) -> ET.Element:
    """The element in the Body of an envelope; raises RoomError if `content` is none, or has a document type."""
    try:
        root = ET.fromstring(content, ET.XMLParser(target=_Plain()))  # noqa: S314 - bounded, without declarations
    except (ET.ParseError, ValueError, LookupError) as error:  # an unknown encoding is a LookupError
        raise malformed("what is no XML") from error
    body = root.find("{*}Body") if local(root) == "Envelope" else None
    inner = next(iter(body), None) if body is not None else None
    if inner is None:
        raise malformed("an envelope without anything in it")
    return inner


def local(item: ET.Element) -> str:
    """The name of an element without its namespace."""
    return item.tag.rpartition("}")[2]


def text(item: ET.Element | None, path: str, limit: int = 256) -> str:
    """The text at `path` in an element, on one line and bounded; empty if it isn't there or can't be shown."""
    found = " ".join((item.findtext(path) or "").split()) if item is not None else ""
    return found if len(found) <= limit and found.isprintable() else ""


def malformed(why: str) -> RoomError:
    """The camera answers with `why`, which is not ONVIF."""
    do = "Check the address: is a camera there, and ONVIF switched on?"
    return RoomError(f"The camera answers with {why}, which is not ONVIF.", cause=Cause.GARBAGE, do=do)


def _answer(status: int, content: bytes) -> ET.Element | None:
    """What a reply says; None if it wants to know who asks."""
    if status in _REFUSED:
        return None
    if 300 <= status < 400:
        raise malformed("a redirection, and redirections are not followed")
    if not 200 <= status < 300 and b"Fault" not in content[:65536]:
        raise malformed(f"status {status}")
    answer = parsed(content)
    if local(answer) != "Fault":
        return answer
    said = [
        _CODE.fullmatch((item.text or "").strip()) for item in answer.iter() if local(item) in {"Value", "faultcode"}
    ]
    codes = [code[1] for code in said if code][:4]
    if _UNAUTHORISED.intersection(codes):
        return None
    raise FaultError(codes)


def _envelope(body: str, headers: str) -> str:
    head = f"<s:Header>{headers}</s:Header>" if headers else ""
    return (
        '<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
        f'xmlns:a="http://www.w3.org/2005/08/addressing">{head}'
        '<s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">'
        f"{body}</s:Body></s:Envelope>"
    )


def _address(host: str, port: int) -> URL:
    try:
        return URL.build(scheme="http", host=host, port=port)
    except (ValueError, TypeError) as error:
        raise RoomError(_NO_ADDRESS, cause=Cause.UNREACHABLE, do="Check rooms.toml.") from error


def _new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=4, force_close=True),  # cameras drop what is kept, and have few
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=LIMIT_S),
        headers={"User-Agent": f"capture-agent/{__version__}", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


def _unreachable(error: Exception, limit_s: float) -> NoReturn:
    """Words for a connection that failed; they have neither address nor name."""
    do = "Check the camera's power and network cable, and the address in rooms.toml."
    match error:
        case TimeoutError():
            what, cause = f"The camera gave no whole answer within {limit_s:g} s.", Cause.STALLED
        case aiohttp.ClientConnectorDNSError():
            what, cause = "The name of the camera is not known to the network.", Cause.UNREACHABLE
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            what, cause = "The camera refuses the connection.", Cause.REFUSED
        case aiohttp.ClientConnectorError(os_error=PermissionError()):
            what, cause = "This station's service may not reach the camera.", Cause.UNREACHABLE
            do = "Allow the cameras' network in the service's drop-in: IPAddressAllow= (docs/rooms.md)."
        case aiohttp.ClientConnectorError():
            what, cause = f"No connection to the camera: {os.strerror(error.errno or 0)}.", Cause.UNREACHABLE
        case aiohttp.InvalidURL() | UnicodeError():
            what, cause, do = _NO_ADDRESS, Cause.UNREACHABLE, "Check rooms.toml."
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError() | ValueError():
            raise malformed("what is no HTTP") from error
        case _:
            what, cause = "The connection to the camera broke.", Cause.CLOSED
    raise RoomError(what, cause=cause, do=do) from error


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
