"""Debian's Prometheus, which ./run fetches and unpacks, with the files that are shipped for it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

from simulator.stores.processes import HOST, NotInstalledError, Servers, free_port

ROOT: Final = Path(__file__).resolve().parents[1]
FLEET: Final = ROOT / "packaging" / "fleet"
RULES: Final = FLEET / "capture-agent.rules.yml"
_PROGRAMS: Final = ROOT / ".cache" / "prometheus" / "usr" / "bin"
_LIMIT_S: Final = 60.0
_LOOK_AGAIN_S: Final = 0.1


def tool(name: str) -> Path:
    """The path of `prometheus` or `promtool`; raises NotInstalledError."""
    if not (_PROGRAMS / name).is_file():
        raise NotInstalledError(f"{_PROGRAMS / name} is missing; ./run test fetches it")
    return _PROGRAMS / name


def promtool(*words: str | Path) -> str:
    """What promtool says; the test fails if it finds something wrong."""
    done = subprocess.run([tool("promtool"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Prometheus:
    """Context manager around a Prometheus in a new folder that scrapes stations, each second, by the shipped files.

    `config` and `rules` are the texts of both; alerts don't wait for their `for` unless the rules say so.
    """

    def __init__(self, folder: Path, config: str, rules: str) -> None:
        self._program = tool("prometheus")
        self.folder = folder
        self.port = free_port()
        folder.mkdir(parents=True)
        (folder / "prometheus.yml").write_text(config, "utf-8")
        (folder / "rules.yml").write_text(rules, "utf-8")

    def __enter__(self) -> Self:
        self._servers = Servers(self.folder / "log")
        process = self._servers.start(
            self._program, f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address={HOST}:{self.port}", "--log.level=warn", env={"GOMAXPROCS": "1"},
        )  # fmt: skip
        self._servers.wait_for_port(process, self.port, "prometheus")
        wait(self._is_ready, "Prometheus is ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    def _is_ready(self) -> bool:
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready"):
            return True
        return False

    def ask(self, path: str, **asked: str) -> Any:  # noqa: ANN401 - JSON
        """The data of an answer of its API."""
        address = f"http://{HOST}:{self.port}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(address, timeout=_LIMIT_S) as answer:
            return json.load(answer)["data"]

    def series(self, expression: str) -> Sequence[dict[str, Any]]:
        """What an expression gives now: `metric` and `value` of each series."""
        found: Sequence[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def firing(self) -> set[tuple[str, str]]:
        """Name and station of the alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
            for alert in alerts
            if alert["state"] == "firing"
        }


def wait(until: Callable[[], object], what: str) -> None:
    """Wait until something holds; the test fails if it never does."""
    end = time.monotonic() + _LIMIT_S
    while not until():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(_LOOK_AGAIN_S)
