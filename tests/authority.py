"""A time stamping authority for tests: keys and certificates made with openssl, answering by `openssl ts` over HTTP."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

_CONFIG = """
[ req ]
distinguished_name = name
[ name ]
[ root ]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
[ stamp ]
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[ tsa ]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sm3
ess_cert_id_alg = sha256
clock_precision_digits = 3
"""


def openssl(*words: str | Path, data: bytes = b"") -> bytes:
    """What a call of openssl writes; it must end well."""
    return subprocess.run(["openssl", *map(str, words)], input=data, capture_output=True, check=True).stdout


@dataclass(slots=True)
class Authority:
    """A root and a signer below a folder. With a `status` other than 200 it answers nothing else."""

    folder: Path
    status: int = 200
    asked: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.config.write_text(_CONFIG.format(folder=self.folder), "ascii")
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-config", self.config, "-x509", *key, "-keyout", self.folder / "root.key", "-out", self.roots,
                "-subj", "/CN=Root", "-days", "30", "-extensions", "root")  # fmt: skip
        openssl("req", "-config", self.config, *key, "-keyout", self.folder / "tsa.key",
                "-out", self.folder / "tsa.csr", "-subj", "/CN=tsa.example")  # fmt: skip
        openssl("x509", "-req", "-in", self.folder / "tsa.csr", "-CA", self.roots, "-CAkey", self.folder / "root.key",
                "-set_serial", "7", "-days", "20", "-extfile", self.config, "-extensions", "stamp",
                "-out", self.folder / "tsa.pem")  # fmt: skip

    @property
    def config(self) -> Path:
        return self.folder / "ts.cnf"

    @property
    def roots(self) -> Path:
        return self.folder / "root.pem"

    def answer(self, query: bytes) -> bytes:
        """What it answers to a request: a TimeStampResp."""
        self.asked.append(query)
        (self.folder / "query").write_bytes(query)
        return openssl("ts", "-reply", "-config", self.config, "-section", "tsa", "-queryfile", self.folder / "query",
                       "-signer", self.folder / "tsa.pem", "-inkey", self.folder / "tsa.key")  # fmt: skip

    def verify(self, answer: bytes, content: bytes) -> bool:
        """Whether openssl takes the answer for these bytes."""
        (self.folder / "answer").write_bytes(answer)
        (self.folder / "data").write_bytes(content)
        words = ("ts", "-verify", "-in", self.folder / "answer", "-data", self.folder / "data", "-CAfile", self.roots)
        return subprocess.run(["openssl", *map(str, words)], capture_output=True, check=False).returncode == 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its address on loopback."""

        async def handle(request: web.Request) -> web.Response:
            if request.content_type != "application/timestamp-query" or self.status != 200:
                return web.Response(status=self.status if self.status != 200 else 415)
            body = self.answer(await request.read())
            return web.Response(body=body, content_type="application/timestamp-reply")

        app = web.Application()
        app.router.add_post("/tsa", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/tsa"
        finally:
            await runner.cleanup()
