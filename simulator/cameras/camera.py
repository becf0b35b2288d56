"""Starts a camera server as a child, has it misbehave, ends it and starts it again on the same port."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from simulator.stores.processes import NotInstalledError

PYTHON: Final = "/usr/bin/python3"
USER: Final = "admin"
PASSWORD: Final = "p@ss:w/rd"  # noqa: S105 it guards made footage
"""Not a word of it may reach a URL as it is."""
_SERVER: Final = Path(__file__).with_name("serve.py")


class Cameras:
    """A server with a camera at each of `mounts` (name: pack), on `address`; a context.

    `auth`: digest, basic or empty. `speed`: how many times faster than real time, which
    time stamps don't show unless a proxy lets them drift by as much. `wrap_s`: RTP time stamps wrap so
    long after somebody connects. Picture n is shown n/25 s × `speed` after `began` (monotonic).
    """

    def __init__(
        self, mounts: Mapping[str, Path], *, auth: str = "digest", address: str = "127.0.0.1", port: int = 0,
        speed: float = 1.0, wrap_s: float | None = None,
    ) -> None:  # fmt: skip
        self.port, self._address, self._auth = port, address, auth
        self._mounts = {name: {"pack": str(pack), "speed": speed, "wrap_s": wrap_s} for name, pack in mounts.items()}
        self.began = time.monotonic()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.kill()

    def url(self, mount: str, port: int = 0, password: str = PASSWORD) -> str:
        """The address of a camera with user and password, on another port (of a proxy) if that is given."""
        who = f"{USER}:{quote(password, safe='')}@" if self._auth else ""
        return f"rtsp://{who}{self._address}:{port or self.port}/{mount}"

    def start(self) -> None:
        """Start the server, again after `kill`; what the cameras show went on meanwhile."""
        assert self._process is None
        look = "import gi; gi.require_version('GstRtspServer', '1.0')"
        if (
            not Path(PYTHON).exists()
            or subprocess.run([PYTHON, "-c", look], capture_output=True, check=False).returncode
        ):
            raise NotInstalledError("gir1.2-gst-rtsp-server-1.0 and python3-gi are not installed")
        self._process = subprocess.Popen(
            [PYTHON, "-I", str(_SERVER)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={"TZ": "UTC", "GST_REGISTRY_FORK": "no", "HOME": str(Path.home()), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        plan = {"address": self._address, "port": self.port, "auth": self._auth, "user": USER, "password": PASSWORD}
        answer = self._say(plan | {"mounts": self._mounts, "began": self.began})
        self.port = int(answer["port"])

    def kill(self) -> None:
        """The camera loses its power."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @property
    def pid(self) -> int:
        """Process id, to tell its processor time from others'."""
        assert self._process is not None
        return self._process.pid

    def mute(self, mount: str, *, on: bool = True) -> None:
        """Stay connected and send nothing; `on=False` goes on with what is shown then."""
        self._say({"do": "mute", "mount": mount, "on": on})

    def mute_track(self, mount: str, track: str, *, on: bool = True) -> None:
        """As `mute`, the video or the audio alone."""
        self._say({"do": "mute-track", "mount": mount, "track": int(track == "audio"), "on": on})

    def switch(self, mount: str, pack: Path) -> None:
        """Show another pack from its next lap on: its parameters differ in the middle of the stream.

        It has to have the same codecs; the number of pictures in a lap stays that of each pack.
        """
        self._mounts[mount]["pack"] = str(pack)
        self._say({"do": "switch", "mount": mount, "pack": str(pack)})

    def end(self, mount: str) -> None:
        """Say goodbye (RTCP BYE) to all who look; who connects again is served again."""
        self._say({"do": "end", "mount": mount})

    def _say(self, value: object) -> dict[str, int]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the camera server ended; is its port taken, or are GStreamer's packages missing?")
        return dict(json.loads(answer))
