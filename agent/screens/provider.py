"""Asks the bureau's own identity provider who somebody is, and believes nothing that isn't signed for us and for now.

OpenID Connect Core 1.0 (authorization code flow), Discovery 1.0, PKCE (RFC 7636), issuer in the answer (RFC 9207).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus, urlsplit

import aiohttp
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from agent.accounts.book import Role
from agent.config.oidc import CALLBACK, Oidc, is_safe
from agent.errors import AgentError, ConfigError
from agent.uploader.network import read_private

log: Final = logging.getLogger("capture-agent")

_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
"""Signatures with a public key; never "none", nor one that whoever has our secret could make."""

_NONSENSE: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What is raised behind JSON that isn't what it should be."""

_LIMIT_S: Final = 4.0
"""For all that is asked of the provider at once: a page is given five seconds."""

_SIZE_LIMIT_BYTES: Final = 256 * 1024
_AT_ONCE: Final = 8
_KNOWN_S: Final = 3600.0
_KEYS_AGAIN_S: Final = 60.0
_LEEWAY_S: Final = 60
_ROUNDING_S: Final = 2
_KEYS_LIMIT: Final = 64
_NAME_LIMIT: Final = 64
_TEXT_LIMIT: Final = 255


class ProviderError(AgentError):
    """The provider can't be asked, or answers what makes no sense: nobody comes in that way for now."""


class NotProven(Exception):  # noqa: N818 - an answer
    """The provider does not vouch for this person, or not as somebody who may come in; `words` is the reason."""

    def __init__(self, words: str, why: object = "") -> None:
        super().__init__(f"{words}: {str(why)[:_TEXT_LIMIT]!a}")  # it goes to the log, and may be a stranger's
        self.words = words


@dataclass(frozen=True, slots=True)
class Asked:
    """What only we and the provider know of one sign-in; `since`: he must prove himself anew, after that moment."""

    state: str
    nonce: str
    verifier: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody that the provider vouches for; `subject` is his for ever there, a name may be given to another."""

    name: str
    role: Role
    issuer: str
    subject: str

    @property
    def account(self) -> str:
        """His name on screens and in the log: no account of this station, nor another person's, can have the same."""
        return f"{self.name}#{hashlib.sha256(f'{self.issuer} {self.subject}'.encode()).hexdigest()[:12]}"


@dataclass(slots=True)
class _Known:
    """What the provider says of itself, and its keys."""

    told: Mapping[str, Any]
    keys: KeySet
    at_s: float
    keys_at_s: float


class Provider:
    """The provider as configured; `trouble` is what went wrong with it the last time, empty if nothing did."""

    def __init__(self, chosen: Oidc | None = None, seconds: Callable[[], float] = time.monotonic) -> None:
        self.chosen = chosen or Oidc()
        self.trouble = ""
        self._seconds = seconds
        self._known: _Known | None = None
        self._tls: ssl.SSLContext | None = None
        self._asking = 0

    @property
    def callback(self) -> str:
        """Where it sends people back to."""
        return self.chosen.address + CALLBACK

    def use(self, chosen: Oidc) -> bool:
        """Take over another configuration; whether it is another one."""
        if chosen == self.chosen:
            return False
        self.chosen, self.trouble, self._known, self._tls = chosen, "", None, None
        return True

    async def check(self) -> None:
        """Ask what it says of itself, and read our secret; raises ProviderError."""
        async with self._talking() as http:
            await self._found(http)
            await self._secret()

    async def begin(self, asked: Asked) -> str:
        """The address at which a person proves himself; raises ProviderError."""
        async with self._talking() as http:
            told = (await self._found(http)).told
        anew = {"prompt": "login", "max_age": "0"} if asked.since else {}
        address: str = prepare_grant_uri(
            told["authorization_endpoint"], self.chosen.client_id, "code", self.callback, "openid profile", asked.state,
            nonce=asked.nonce, code_challenge=create_s256_code_challenge(asked.verifier), code_challenge_method="S256",
            **anew,
        )  # fmt: skip
        return address

    async def person(self, asked: Asked, answer: Mapping[str, str], now: datetime) -> Person:
        """Who came back with this answer; raises NotProven, and ProviderError."""
        async with self._talking() as http:
            known = await self._found(http)
            needs_issuer = known.told.get("authorization_response_iss_parameter_supported") is True
            if answer.get("iss", "" if needs_issuer else self.chosen.issuer) != self.chosen.issuer:
                raise NotProven("unproven", "the answer is another issuer's")
            if "error" in answer or not re.fullmatch(r"[\x21-\x7e]{1,2000}", answer.get("code", "")):
                raise NotProven("declined", answer.get("error", "no code"))
            given = await self._exchanged(http, known, answer["code"], asked.verifier)
            return self._person(await self._proven(http, known, given, asked, now))

    @contextlib.asynccontextmanager
    async def _talking(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A connection that ends in time; whatever goes wrong with it is a ProviderError, in words."""
        if self._asking >= _AT_ONCE:
            raise ProviderError("Too many sign in through the provider at once.", do="Try again in a moment.")
        self._asking += 1
        try:
            async with asyncio.timeout(_LIMIT_S):
                if self._tls is None:
                    self._tls = await asyncio.to_thread(_tls, self.chosen.ca_file)
                async with _session(self._tls) as http:
                    yield http
            self.trouble = ""
        except (aiohttp.ClientError, OSError, JoseError, *_NONSENSE) as error:
            raise self._told(str(error) or f"no answer within {_LIMIT_S:g} s") from error
        except ConfigError as error:
            raise self._told(error.what) from error
        finally:
            self._asking -= 1

    def _told(self, why: str) -> ProviderError:
        trouble = " ".join(f"{self.chosen.issuer}: {ascii(why)[1:-1]}".split())[:300]
        if trouble != self.trouble:
            log.warning("the identity provider can't be used: %s", trouble)
        self.trouble, self._tls = trouble, None  # another ca_file may lie there meanwhile
        do = "Accounts of this station work; ask IT to look at [oidc], at the provider, and at IPAddressAllow=."
        return ProviderError(f"The identity provider can't be used: {self.trouble}", do=do)

    async def _found(self, http: aiohttp.ClientSession) -> _Known:
        """What it says of itself, asked again each hour."""
        now_s = self._seconds()
        if self._known is None or now_s - self._known.at_s > _KNOWN_S:
            issuer = self.chosen.issuer
            _, told = await _ask(http, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if told["issuer"] != issuer:
                raise ValueError(f"it calls itself {str(told['issuer'])[:80]!r}")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not _is_fit(told[name], issuer):
                    raise ValueError(f"its {name} is no safe address")
            self._known = _Known(told, await _keys(http, told), now_s, now_s)
        return self._known

    async def _exchanged(self, http: aiohttp.ClientSession, known: _Known, code: str, verifier: str) -> str:
        """The ID token for a code, which the provider takes once; raises NotProven."""
        secret, kinds = await self._secret(), known.told.get("token_endpoint_auth_methods_supported", [])
        way = "client_secret_post" if kinds and "client_secret_basic" not in kinds else "client_secret_basic"
        whom = self.chosen.client_id, secret
        if secret and way == "client_secret_basic":
            whom = quote_plus(whom[0]), quote_plus(secret)  # RFC 6749, 2.3.1, which the library leaves to us
        as_whom = ClientAuth(*whom, way if secret else "none")
        body = prepare_token_request("authorization_code", "", self.callback, code=code, code_verifier=verifier)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        address, headers, body = as_whom.prepare("POST", known.told["token_endpoint"], headers, body)
        status, told = await _ask(http, address, headers, body, refusals=(400,))
        if status != 200:
            if told.get("error") == "invalid_grant":
                raise NotProven("declined", "invalid_grant")
            raise ValueError(f"it refuses this station: {str(told.get('error'))[:80]}")
        return str(told["id_token"])

    async def _secret(self) -> str:
        path = self.chosen.client_secret
        return (await asyncio.to_thread(read_private, path)).strip() if path is not None else ""

    async def _proven(
        self, http: aiohttp.ClientSession, known: _Known, given: str, asked: Asked, now: datetime
    ) -> CodeIDToken:
        """What an ID token claims, if it is signed, for us, for this sign-in and for now; raises NotProven."""
        try:
            try:
                token = jwt.decode(given, known.keys, algorithms=_ALGORITHMS)
            except InvalidKeyIdError:
                if self._seconds() - known.keys_at_s < _KEYS_AGAIN_S:
                    raise
                known.keys, known.keys_at_s = await _keys(http, known.told), self._seconds()
                token = jwt.decode(given, known.keys, algorithms=_ALGORITHMS)
            options = {
                "iss": {"essential": True, "value": self.chosen.issuer},
                "aud": {"essential": True, "value": self.chosen.client_id},
            }
            params = {"nonce": asked.nonce, "client_id": self.chosen.client_id}
            claims = CodeIDToken(token.claims, token.header, options, params)
            claims.validate(int(now.timestamp()), _LEEWAY_S)
        except JoseError as error:
            raise NotProven("unproven", error) from error
        if asked.since is not None and not _is_anew(claims, (now - asked.since).total_seconds()):
            raise NotProven("unproven", "he did not prove himself anew")
        return claims

    def _person(self, claims: Mapping[str, Any]) -> Person:
        """Whom the claims tell of, in the role that his groups give him; raises NotProven."""
        said = claims.get(self.chosen.roles_claim)
        groups = said if isinstance(said, list) else [said]
        role = next((role for group, role in self.chosen.roles.items() if group in groups), "")
        name, subject = claims.get(self.chosen.name_claim), claims["sub"]
        if not role:
            raise NotProven("no-role")
        if not isinstance(name, str) or not re.search(r"\w", name) or not 0 < len(subject) <= _TEXT_LIMIT:
            raise NotProven("unproven", f"no {self.chosen.name_claim}")
        return Person(re.sub(r"[^\w.@-]+", "_", name)[:_NAME_LIMIT], Role(role), self.chosen.issuer, subject)


def _is_anew(claims: Mapping[str, Any], passed_s: float) -> bool:
    """Whether, by the provider's own clock, he proved himself within the time that has passed since we asked."""
    moment = claims.get("auth_time")
    return isinstance(moment, int) and bool(claims["iat"] - moment <= passed_s + _ROUNDING_S)


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=ca_file)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def _session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


async def _ask(
    http: aiohttp.ClientSession,
    address: str,
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    refusals: tuple[int, ...] = (),
) -> tuple[int, dict[str, Any]]:
    """One question and the JSON object that answers it; raises ValueError for anything else, a redirect too."""
    method = "GET" if body is None else "POST"
    async with http.request(method, address, data=body, headers=headers, allow_redirects=False) as response:
        if response.status != 200 and response.status not in refusals:
            raise ValueError(f"it answers {response.status} at {urlsplit(address).path[:80]}")
        received = bytearray()
        async for piece in response.content.iter_any():
            received += piece
            if len(received) > _SIZE_LIMIT_BYTES:
                raise ValueError("its answer is too long")
    told = json.loads(received)
    if not isinstance(told, dict):
        raise TypeError("its answer is no object")
    return response.status, told


async def _keys(http: aiohttp.ClientSession, told: Mapping[str, Any]) -> KeySet:
    _, found = await _ask(http, told["jwks_uri"])
    if not isinstance(found["keys"], list) or len(found["keys"]) > _KEYS_LIMIT:
        raise ValueError("its keys are no list, or too many")
    return KeySet.import_key_set({"keys": [key for key in found["keys"] if key.get("use", "sig") == "sig"]})


def _is_fit(address: object, issuer: str) -> bool:
    """Whether we may go there, or send somebody: plain HTTP only where the issuer itself is on this machine."""
    if not isinstance(address, str) or "#" in address or not is_safe(address):
        return False
    return address.startswith("https://") or issuer.startswith("http://")
