"""Speaks to one S3 bucket: signs each attempt anew, tries again within bounds, and tells refusals in words."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from botocore.auth import SIGV4_TIMESTAMP, UNSIGNED_PAYLOAD, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, SharedCredentialProvider
from botocore.exceptions import BotoCoreError

from agent.errors import ConfigError, StoreError
from agent.model import Clock
from agent.uploader.base import SAFE
from agent.uploader.network import Answer, Body, CutError, Network, Sink, pause_s, read_private
from agent.uploader.s3 import answers
from agent.uploader.s3.words import explain

TRIES: Final = 6

_KEYS: Final = frozenset(
    {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired"}
)
_AGAIN: Final = frozenset(
    {
        "BadDigest",  # damaged on the way; damage in the vault is found by its fingerprint
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "XAmzContentSHA256Mismatch",
    }
)


class RefusedError(StoreError):
    """The store answered with an error: HTTP `status`, and S3's own `code` (empty if the answer had none)."""

    def __init__(self, answer: Answer, action: str) -> None:
        self.status = answer.status
        self.code, message = answers.error(answer.body) or ("", "")
        what, do = explain(self.status, self.code, message, action)
        super().__init__(what, safe=SAFE, do=do)

    @property
    def is_open(self) -> bool:
        """Whether the request may have been carried out all the same, or may be by another attempt."""
        return self.code in _AGAIN or (self.status >= 500 and self.status not in {501, 505, 507})

    @property
    def is_absence(self) -> bool:
        """Whether the store says that what was asked for is not there; a 404 of a gateway has no code of S3."""
        return self.status == 404 and self.code not in {"", "NoSuchBucket"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bucket is; `endpoint` is scheme://host[:port]."""

    endpoint: str
    region: str
    bucket: str
    virtual: bool

    def url(self, key: str, query: Mapping[str, str]) -> str:
        """Address of an object, or of the bucket for an empty key, in the one spelling that is signed."""
        scheme, _, host = self.endpoint.partition("://")
        start = f"{scheme}://{self.bucket}.{host}/" if self.virtual else f"{self.endpoint}/{self.bucket}"
        path = start + ("" if self.virtual or not key else "/") + quote(key, safe="/-_.~")
        pairs = urlencode(sorted(query.items()), safe="-_.~", quote_via=quote)
        return f"{path}?{pairs}" if pairs else path


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `action` is what a policy calls it. A body that is made needs `size_bytes` and the hex `md5`."""

    action: str
    method: str
    key: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Body = b""
    size_bytes: int = 0
    md5: str = ""
    sink: Sink | None = None


class _Signer(S3SigV4Auth):  # type: ignore[misc]  # published without types
    """The library's signer with our own clock, and with a payload hash that we know already."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["payload"])

    def sign(self, request: AWSRequest, now: datetime) -> None:
        request.context["timestamp"] = now.astimezone(UTC).strftime(SIGV4_TIMESTAMP)
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


class Client:
    """Requests to one bucket. Credentials are read at the first, and again when the store no longer takes them."""

    def __init__(self, network: Network, place: Place, credentials_file: Path, profile: str, clock: Clock) -> None:
        self._network = network
        self.place = place
        self._file = credentials_file
        self._profile = profile
        self._clock = clock
        self._credentials: Credentials | None = None
        self.offset = timedelta()
        """What is added to our clock since the store refused it."""
        self.last_offset = timedelta()
        """How far the store's clock was ahead in its last answer."""

    def now(self) -> datetime:
        """The present as the store has it, as far as we know."""
        return self._clock() + self.offset

    async def call(self, ask: Ask, *, tries: int = TRIES) -> Answer:
        """The answer to a request; raises RefusedError, CutError or another StoreError when it is given up."""
        for attempt in range(tries):
            used = self._keys()
            try:
                return await self._once(ask)
            except (CutError, RefusedError) as error:
                if attempt + 1 >= tries or not self._mended(error, used):
                    raise
                await asyncio.sleep(pause_s(attempt))
        raise AssertionError("no try was allowed")

    async def _once(self, ask: Ask) -> Answer:
        url = self.place.url(ask.key, ask.query)
        answer = await self._network.ask(ask.method, url, self.signed(ask, url), ask.body, ask.sink)
        if (there := answer.date()) is not None:
            self.last_offset = there - self._clock()
        if answer.status >= 300 or (answer.body and answers.error(answer.body)):
            raise RefusedError(answer, ask.action)
        return answer

    def signed(self, ask: Ask, url: str) -> dict[str, str]:
        """The headers of one attempt. The MD5 of a body is among them: locks ask for it, and servers check it."""
        request = AWSRequest(method=ask.method, url=url, headers=dict(ask.headers))
        md5 = bytes.fromhex(ask.md5)
        if isinstance(ask.body, bytes):
            md5 = hashlib.md5(ask.body, usedforsecurity=False).digest() if ask.body else b""
            request.context["payload"] = hashlib.sha256(ask.body).hexdigest()
        else:  # what is large is covered by its signed MD5, and read only once
            request.context["payload"] = str(UNSIGNED_PAYLOAD)
            request.headers["Content-Length"] = str(ask.size_bytes)
        if md5:
            request.headers["Content-MD5"] = base64.b64encode(md5).decode()
        _Signer(self._keys(), "s3", self.place.region).sign(request, self.now())
        return dict(request.headers.items())

    def _mended(self, error: CutError | RefusedError, used: Credentials) -> bool:
        """Whether another attempt makes sense, after mending what can be mended on our side.

        Others may have read new keys since `used` were refused.
        """
        if isinstance(error, CutError):
            return True
        if error.code == "RequestTimeTooSkewed":
            self.offset = self.last_offset
        if error.code in _KEYS:
            self._credentials = self._read_credentials()
            return bool(used.get_frozen_credentials() != self._credentials.get_frozen_credentials())
        return error.is_open

    def _keys(self) -> Credentials:
        if self._credentials is None:
            self._credentials = self._read_credentials()
        return self._credentials

    def _read_credentials(self) -> Credentials:
        """From the shared credentials file; it may change at any time."""
        try:
            read_private(self._file)
            found = SharedCredentialProvider(str(self._file), self._profile).load()
        except ConfigError as error:
            raise StoreError(error.what, safe=SAFE, do=error.do) from error
        except BotoCoreError as error:
            raise self._no_credentials("is damaged or incomplete") from error
        if found is None:
            raise self._no_credentials(f"has no keys in the section [{self._profile}]")
        return found

    def _no_credentials(self, why: str) -> StoreError:
        do = f"Write aws_access_key_id and aws_secret_access_key into the section [{self._profile}] of that file."
        return StoreError(f"The credentials file {self._file} {why}.", safe=SAFE, do=do)
