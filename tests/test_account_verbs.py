"""Promise: accounts are made on the command line, beside a running service or without one, and never by an argument."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.accounts.book import FILE, Book
from agent.accounts.hashing import is_right
from agent.config import load
from agent.doctor.finding import Grade
from agent.doctor.service import look_at_certificate
from agent.errors import ConfigError
from agent.journal import Reader
from agent.screens.tls import context
from simulator.stage import Stage
from tests.daemons import Daemon, running, stage

SIGNED = ("--who", "王五", "--why", "入职")
PASSWORD = "correct horse battery"


def call(made: Stage, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(made.command("account", *words), input=typed, capture_output=True, text=True, check=False)


def test_without_a_service_an_account_is_made_changed_and_listed(tmp_path: Path) -> None:
    made = stage(tmp_path)
    assert call(made, "add", "li.si", "--role", "supervisor", *SIGNED, typed=f"{PASSWORD}\n").returncode == 0
    weak = call(made, "add", "zhao", "--role", "it", *SIGNED, typed="short\n")
    assert (weak.returncode, "12 to 128" in weak.stderr) == (2, True)
    again = call(made, "add", "li.si", "--role", "it", *SIGNED, typed=f"{PASSWORD}\n")
    assert "an account li.si already" in again.stderr
    assert call(made, "add", "zhang", "--role", "officer", "--card", *SIGNED, typed="12345678\r\n").returncode == 0
    same = call(made, "add", "sun", "--role", "officer", "--card", *SIGNED, typed="12345678\n")
    assert "the card of zhang" in same.stderr
    listed = json.loads(call(made, "list", "--json").stdout)["accounts"]
    assert [(one["account"], one["has_password"], one["has_card"]) for one in listed] == [
        ("li.si", True, False), ("zhang", False, True),
    ]  # fmt: skip
    file = made.station / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in file.read_text()
    assert "12345678" not in file.read_text()
    assert is_right(Book(made.station).read().by_name["li.si"], PASSWORD)
    with closing(Reader(made.station / "journal.db")) as reader:
        told = [json.loads(event.detail) for event in reader.events(limit=100) if event.kind == "account_changed"]
    assert [(one["account"], one["change"], one["role"], one["who"]) for one in told] == [
        ("li.si", "added", "supervisor", "王五"), ("zhang", "added", "officer", "王五"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A service that speaks TLS with a certificate of its own making."""
    folder = tmp_path_factory.mktemp("tls")
    options = {"status.tls_certificate": f'"{certificate(folder)}"'}
    with running(stage(folder, options)) as found:
        yield found


def certificate(folder: Path, days: int = 1) -> Path:
    """A certificate for localhost, with its key in the same file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "station.pem").write_bytes(made.public_bytes(pem) + secret)
    return folder / "station.pem"


def ask(daemon: Daemon, path: str, token: str = "") -> int:
    trusted = ssl.create_default_context(cafile=daemon.stage.root.parent / "station.pem")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"https://localhost:{daemon.stage.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20, context=trusted) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_beside_a_running_service_a_token_opens_what_its_role_opens_until_it_is_disabled(daemon: Daemon) -> None:
    made = daemon.stage
    assert call(made, "add", "zhao", "--role", "it", *SIGNED, typed=f"{PASSWORD}\n").returncode == 0
    answer = call(made, "token", "zhao", "--name", "prometheus", "--role", "it", "--json", *SIGNED)
    token = json.loads(answer.stdout)["token"]
    assert [ask(daemon, path, token) for path in ("/api/v1/status", "/metrics")] == [200, 200]
    assert ask(daemon, "/api/v1/status") == 401
    assert token not in (made.station / FILE).read_text()
    assert call(made, "disable", "zhao", *SIGNED).returncode == 0
    assert ask(daemon, "/api/v1/status", token) == 401
    assert token not in made.log.read_text()
    assert "zhao" not in made.log.read_text()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_of_tls_and_plain_text_are_not_spoken(daemon: Daemon) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"EOF|(?i:alert)"):
        urllib.request.urlopen(f"https://localhost:{daemon.stage.port}/healthz", timeout=20, context=old)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with urllib.request.urlopen(f"https://localhost:{daemon.stage.port}/healthz", timeout=20, context=old) as answer:
        assert answer.status == 200, "it was the version"
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://localhost:{daemon.stage.port}/healthz", timeout=20)


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    assert context(None, None) is None
    for content in (None, b"nothing"):
        if content is not None:
            (tmp_path / "a.pem").write_bytes(content)
        with pytest.raises(ConfigError, match="can't be used"):
            context(tmp_path / "a.pem", None)


def serial(daemon: Daemon, name: str | None = "localhost") -> int:
    """Of the certificate that a new connection is shown."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", daemon.stage.port), timeout=20) as plain,
        anybody.wrap_socket(plain, server_hostname=name) as connection,
    ):
        shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def on_disk(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def test_a_renewed_certificate_is_taken_at_a_reload_and_one_that_is_none_is_not(daemon: Daemon) -> None:
    folder = daemon.stage.root.parent
    before = on_disk(folder / "station.pem")
    assert serial(daemon) == serial(daemon, None) == before
    path = certificate(folder)
    assert serial(daemon) == before, "not before it is told to look"
    daemon.service.process.send_signal(signal.SIGHUP)
    daemon.until(lambda: serial(daemon) == on_disk(path))
    good = path.read_bytes()
    assert serial(daemon, None) == on_disk(path)
    path.write_bytes(good.partition(b"-----BEGIN PRIVATE")[0] + certificate(daemon.stage.root).read_bytes())
    daemon.service.process.send_signal(signal.SIGHUP)

    def told() -> str:
        return json.dumps(daemon.status()["health"]["problems"], ensure_ascii=False)

    daemon.until(lambda: "页面证书有误，沿用此前的证书" in told())
    path.write_bytes(good)
    assert serial(daemon) == on_disk(path), "the old one goes on with its own key"
    daemon.service.process.send_signal(signal.SIGHUP)
    daemon.until(lambda: "页面证书有误" not in told())


@pytest.mark.parametrize(("days", "grade"), [(400, Grade.GOOD), (20, Grade.WARNING), (0, Grade.BAD)])
def test_the_doctor_tells_how_long_a_certificate_is_good(tmp_path: Path, days: int, grade: Grade) -> None:
    found = list(look_at_certificate(certificate(tmp_path, days), datetime.now(UTC) + timedelta(seconds=5)))
    assert [one.grade for one in found] == [grade]
    (tmp_path / "station.pem").write_text("nothing")
    assert [one.grade for one in look_at_certificate(tmp_path / "station.pem", datetime.now(UTC))] == [Grade.BAD]
    assert list(look_at_certificate(None, datetime.now(UTC))) == []


def test_beyond_this_machine_needs_tls(tmp_path: Path) -> None:
    made = stage(tmp_path, {"status.host": '"0.0.0.0"'})
    with pytest.raises(ConfigError, match="passwords would go over its network in the clear"):
        load(made.config)
