"""HTTP digest authentication (RFC 7616) as cameras offer it: in several kinds, and beside others in one header."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

_HASHES: Final[Mapping[str, str]] = {"MD5": "md5", "SHA-256": "sha256"}
_SCHEMES: Final = re.compile(r"(?i)(?:^|[,\s])(?=(?:digest|basic|bearer)\s)")
_LIMIT: Final = 4096


@dataclass(slots=True)
class Digest:
    """A challenge that we can meet, and how often we did; `stale`: it stands for one that was answered rightly."""

    realm: str
    nonce: str
    opaque: str
    algorithm: str
    qop: bool
    stale: bool
    count: int = 0

    @classmethod
    def offered(cls, headers: Iterable[str]) -> Self | None:
        """The best one among the headers WWW-Authenticate of an answer; None if there is none."""
        challenges = [part.partition(" ") for header in headers for part in _SCHEMES.split(header[:_LIMIT])]
        found = [cls._read(said) for scheme, _, said in challenges if scheme.lower() == "digest"]
        return max(filter(None, found), key=lambda one: one.algorithm.upper() == "SHA-256", default=None)

    @classmethod
    def _read(cls, said: str) -> Self | None:
        pairs = (item.partition("=") for item in urllib.request.parse_http_list(said))
        values = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        if any(not value.isprintable() or '"' in value or "\\" in value for value in values.values()):
            return None
        algorithm, qops = values.get("algorithm", "MD5"), values.get("qop", "")
        qop, nonce = "auth" in re.split(r"[,\s]+", qops), values.get("nonce", "")
        if algorithm.upper() not in _HASHES or not nonce or (qops and not qop):
            return None
        stale = values.get("stale", "").lower() == "true"
        return cls(values.get("realm", ""), nonce, values.get("opaque", ""), algorithm, qop, stale)

    def header(self, method: str, uri: str, user: str, password: str, client_nonce: str = "") -> str:
        """What the header Authorization says of one request."""
        self.count += 1
        client_nonce, count = client_nonce or os.urandom(16).hex(), f"{self.count:08x}"
        who, what = self._hash(f"{user}:{self.realm}:{password}"), self._hash(f"{method}:{uri}")
        middle = f"{self.nonce}:{count}:{client_nonce}:auth" if self.qop else self.nonce
        quoted = {"username": user.replace("\\", "\\\\").replace('"', '\\"'), "realm": self.realm, "nonce": self.nonce}
        quoted |= {"uri": uri, "response": self._hash(f"{who}:{middle}:{what}"), "opaque": self.opaque}
        said = [f'{name}="{value}"' for name, value in quoted.items() if value or name != "opaque"]
        said.append(f"algorithm={self.algorithm}")
        return "Digest " + ", ".join(said + ([f'qop=auth, nc={count}, cnonce="{client_nonce}"'] if self.qop else []))

    def _hash(self, text: str) -> str:
        return hashlib.new(_HASHES[self.algorithm.upper()], text.encode(), usedforsecurity=False).hexdigest()
