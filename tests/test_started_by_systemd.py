"""The real service with what systemd hands over: the page's socket, a key as credential, the status text."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.journal import Reader
from agent.signing import FILE
from agent.status.client import StatusUnavailable
from simulator.content import Noise
from simulator.stage import Stage
from tests.cards import image
from tests.daemons import LIMIT_S, call, running, stage


def openssl_key(path: Path) -> str:
    """A new key in a file as systemd hands it over; its fingerprint."""
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    path.chmod(0o440)
    told = subprocess.run(
        ["openssl", "pkey", "-in", path, "-pubout", "-outform", "DER"], capture_output=True, check=True
    )
    return hashlib.sha256(told.stdout).hexdigest()


def incidents(made: Stage, kind: str) -> list[dict[str, Any]]:
    with closing(Reader(made.station / "journal.db")) as reader:
        found = [json.loads(event.detail) for event in reader.events(0, 1000) if event.kind == "incident"]
    return [one.get("detail", {}) for one in found if one["kind"] == kind]


@contextlib.contextmanager
def activated(made: Stage, *listening: str) -> Iterator[subprocess.Popen[bytes]]:
    """The service behind sockets that listen before it is there, by systemd's own tool."""
    words = [word for address in listening for word in ("-l", address)]
    with made.log.open("ab") as log:
        service = subprocess.Popen(["systemd-socket-activate", *words, *made.command("run")], stdout=log, stderr=log)
    try:
        yield service
        service.terminate()
        assert service.wait(30) == 0, made.log.read_text()
        assert "Traceback" not in made.log.read_text()
    finally:
        service.kill()
        service.wait()


def asked(made: Stage, path: str) -> dict[str, Any]:
    """An answer of the page, once anything listens there."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            return made.ask(path)
        except StatusUnavailable:
            assert time.monotonic() < end, made.log.read_text()
            time.sleep(0.05)


def knocked(made: Stage) -> dict[str, Any]:
    """What is answered to who comes to the port while systemd alone listens there."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(f"{made.address}healthz", timeout=LIMIT_S) as answer:
                return dict(json.load(answer))
        except urllib.error.URLError:
            assert time.monotonic() < end, made.log.read_text()
            time.sleep(0.05)


def test_who_asks_before_the_service_is_there_is_answered_by_it(tmp_path: Path) -> None:
    made = stage(tmp_path)
    with activated(made, f"127.0.0.1:{made.port}"):
        assert knocked(made)["status"] in {"ok", "degraded"}
        assert "capture-agent.socket" not in str(made.ask("/api/v1/status")["health"])


def test_a_socket_elsewhere_is_told_and_the_page_is_where_the_configuration_says(tmp_path: Path) -> None:
    made = stage(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        other = probe.getsockname()[1]
    with activated(made, f"127.0.0.1:{other}"):
        with contextlib.suppress(ConnectionRefusedError):
            while True:
                time.sleep(0.05)
                socket.create_connection(("127.0.0.1", other), timeout=30).close()
                break
        told = asked(made, "/api/v1/status")["health"]["problems"]
        assert any(f"127.0.0.1 port {other}" in problem["en"] for problem in told)


# The key.


def test_the_key_is_made_at_the_first_start_and_told_at_each(tmp_path: Path) -> None:
    made = stage(tmp_path)
    assert call(made, "key", "show").returncode == 3
    assert not (made.station / FILE).exists()
    shown = []
    for _ in range(2):
        with running(made) as daemon:
            shown.append(daemon.status()["station"]["key_fingerprint"])
    told = json.loads(call(made, "key", "show", "--json").stdout)
    assert shown == [told["fingerprint"]] * 2
    assert [one["fingerprint"] for one in incidents(made, "signing-key")] == shown
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "DER"], input=told["public"].encode(), capture_output=True, check=True
    ).stdout
    assert hashlib.sha256(der).hexdigest() == told["fingerprint"]
    assert {one["public"] for one in incidents(made, "signing-key")} == {der[-32:].hex()}
    assert told["fingerprint"] in call(made, "key", "show").stdout
    assert "PRIVATE" not in call(made, "key", "show").stdout


@pytest.mark.parametrize("damage", ["open to others", "cut"])
def test_a_key_that_is_refused_keeps_no_recording_waiting(tmp_path: Path, damage: str) -> None:
    """It is an alarm on the page and an event; footage is pulled and stored, and the file stays as it is."""
    made = stage(tmp_path)
    with running(made):
        pass
    path = made.station / FILE
    path.chmod(0o644) if damage == "open to others" else os.truncate(path, 40)
    content = path.read_bytes()
    with running(made) as daemon:
        daemon.dock(image(tmp_path / "card.img", {"DCIM/0001.MP4": Noise(60_000, 1)}))
        daemon.until_phase("card.img", "finished")
        daemon.until(lambda: daemon.status()["counters"]["assets"]["stored"]["files"] == 1)
        status = daemon.status()
        assert status["station"]["key_fingerprint"] is None
        assert any("签名密钥不可用" in problem["zh"] for problem in status["health"]["problems"])
    assert path.read_bytes() == content
    assert len(incidents(made, "no-signing-key")) == 1
    assert call(made, "key", "show").returncode == 3


def test_a_key_given_as_credential_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stage(tmp_path)
    fingerprint = openssl_key(tmp_path / "capture-agent.signing-key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with running(made) as daemon:
        assert daemon.status()["station"]["key_fingerprint"] == fingerprint
    assert not (made.station / FILE).exists()
    assert fingerprint in call(made, "key", "show").stdout


# The status text.


def test_the_status_text_follows_what_is_docked(tmp_path: Path) -> None:
    made = stage(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        with running_notified(made, tmp_path / "notify") as service:
            texts = told_texts(manager)
            assert next(texts).endswith(("nothing to do", "1 problems"))
            (made.dock / "noise.img").write_bytes(Noise(1 << 20, 1).read())
            assert any("1 need a person" in text for text in texts)
            os.rename(made.dock / "noise.img", tmp_path / "gone.img")
            card = image(tmp_path / "card.img", {"DCIM/0001.MP4": Noise(60_000, 1)})
            os.rename(card, made.dock / "card.img")
            assert any("1 may be taken" in text for text in texts)
            service.terminate()


@contextlib.contextmanager
def running_notified(made: Stage, address: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "30000000"}
    with made.log.open("ab") as log:
        service = subprocess.Popen(made.command("run"), stdout=log, stderr=log, env=environment)
    try:
        yield service
        assert service.wait(30) == 0, made.log.read_text()
    finally:
        service.kill()
        service.wait()


def told_texts(manager: socket.socket) -> Iterator[str]:
    """The status texts that systemd would show, for as long as it takes."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        told = manager.recv(4096).decode()
        if told.startswith("STATUS="):
            yield told.removeprefix("STATUS=")
