"""A forward proxy on loopback, as bureaus have one between their networks: Debian's tinyproxy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Self

from simulator.stores.processes import HOST, Servers, free_port, program

_CONF: Final = """\
Port {port}
Listen {host}
Allow {host}
Timeout 60
MaxClients 50
LogLevel Connect
{auth}
"""
_REQUEST: Final = re.compile(r"Request \(file descriptor \d+\): (.*)")


class ForwardProxy:
    """Context manager around tinyproxy in a new folder; `credentials` are user and password that it demands."""

    def __init__(self, folder: Path, *, credentials: tuple[str, str] | None = None) -> None:
        self._program = program("tinyproxy")
        self.folder = folder.absolute()
        self.port = free_port()
        self.endpoint = f"http://{HOST}:{self.port}"
        self._credentials = credentials

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        auth = "BasicAuth " + " ".join(self._credentials) if self._credentials else ""
        conf = self.folder / "tinyproxy.conf"
        conf.write_text(_CONF.format(port=self.port, host=HOST, auth=auth), encoding="utf-8")
        self._servers = Servers(self.folder / "log")
        process = self._servers.start(self._program, "-d", "-c", conf)
        self._servers.wait_for_port(process, self.port, "tinyproxy")
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    def requests(self) -> list[str]:
        """Return the first lines of all requests so far, as `CONNECT host:port HTTP/1.1`."""
        return _REQUEST.findall(self._servers.log.read_text(encoding="utf-8", errors="replace"))
