"""The files for systemd and udev are understood by the real tools."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest

from agent.config import load
from agent.config.options import CREDENTIALS
from agent.signing import CREDENTIAL

FILES = Path(__file__).resolve().parents[1] / "systemd"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here, beside those that it needs."""
    for path in FILES.glob("capture-agent*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (FILES / "capture-agent.service").read_text()
    program = "/usr/bin/capture-agent"
    assert text.count(program) == 1
    (tmp_path / "capture-agent.service").write_text(text.replace(program, "/bin/true"))
    return tmp_path / "capture-agent.service"


def read(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read(FILES / name)
    return parser


@pytest.fixture
def service() -> configparser.SectionProxy:
    return read("capture-agent.service")["Service"]


def test_the_units_are_valid(unit: Path) -> None:
    units = [path for path in unit.parent.iterdir() if path.suffix in {".service", ".socket", ".timer"}]
    assert len(units) == 4
    done = run("systemd-analyze", "verify", "--man=no", *units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["capture-agent.service", "capture-agent-failure.service"])
def test_the_units_expose_little(unit: Path, name: str) -> None:
    """A change that opens the service shows up here: 10 is no protection, and 1.5 is the limit."""
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=15", unit.with_name(name))
    assert done.returncode == 0, done.stdout


def test_every_protection_that_is_missing_has_its_reason_in_the_unit(unit: Path) -> None:
    """What systemd finds fault with is named in a comment, or is one of the rights that the unit says it gives."""
    told = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit).stdout
    missing = {line.split()[1].partition("=")[0] for line in told.splitlines() if line.startswith("✗")}
    text = (FILES / "capture-agent.service").read_text()
    given = {
        "CapabilityBoundingSet", "AmbientCapabilities", "DeviceAllow", "RestrictAddressFamilies", "IPAddressDeny",
        "SystemCallFilter",
    }  # fmt: skip
    comments = " ".join(line for line in text.splitlines() if line.startswith("#"))
    assert missing - given <= {name for name in missing if f"{name}=" in comments}


def test_the_port_is_held_between_starts_and_nothing_starts_a_service_that_was_stopped() -> None:
    """How systemd acts on it is tried in a machine: tests/vm_unit.py."""
    page = load(FILES.parent / "config" / "agent.toml").status
    socket = read("capture-agent.socket")
    assert socket["Socket"]["ListenStream"] == f"{page.host}:{page.port}"
    assert socket["Unit"]["StopWhenUnneeded"] == "yes"
    assert not socket.has_section("Install")
    assert (socket["Socket"]["IPAddressDeny"], socket["Socket"]["IPAddressAllow"]) == ("any", "localhost")


def test_it_is_tried_for_ever_and_it_is_told_when_it_fails() -> None:
    unit = read("capture-agent.service")["Unit"]
    again = read("capture-agent-again.timer")
    assert unit["OnFailure"] == "capture-agent-failure.service"
    assert "Wants=capture-agent.socket capture-agent-again.timer" in (FILES / "capture-agent.service").read_text()
    assert again["Timer"]["Unit"] == again["Unit"]["PartOf"] == "capture-agent.service"
    assert again["Timer"]["OnUnitInactiveSec"] == "10min"
    assert int(unit["StartLimitIntervalSec"]) < 10 * 60, "the limit must not refuse that start"
    told = read("capture-agent-failure.service")["Service"]
    assert told["ExecStart"].startswith("-/usr/bin/run-parts")  # the last of two
    assert 'ExecStart=/bin/echo "<2>' in (FILES / "capture-agent-failure.service").read_text()


def test_each_credential_of_the_unit_is_one_that_the_agent_takes() -> None:
    text = (FILES / "capture-agent.service").read_text()
    loaded = {line.partition("=")[2] for line in text.splitlines() if line.startswith("LoadCredential=")}
    assert loaded == {*CREDENTIALS, CREDENTIAL}


def test_the_service_may_only_read_disks_and_ask_usb_devices(service: configparser.SectionProxy) -> None:
    text = (FILES / "capture-agent.service").read_text()
    allowed = [line.partition("=")[2] for line in text.splitlines() if line.startswith("DeviceAllow=")]
    assert service["DevicePolicy"] == "closed"
    assert allowed == ["block-sd r", "block-mmc r", "char-usb_device rw"]
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == "CAP_LINUX_IMMUTABLE"


def test_a_helper_without_memory_ends_alone(service: configparser.SectionProxy) -> None:
    """By default systemd ends the whole service for it."""
    assert service["OOMPolicy"] == "continue"


def test_the_service_starts_a_command_that_exists(service: configparser.SectionProxy) -> None:
    from agent import cli

    _, *arguments = service["ExecStart"].split()
    options = cli._parser().parse_args(arguments)
    assert options.config == cli.DEFAULT_CONFIG
    assert service["RestartPreventExitStatus"] == str(int(cli.Exit.CONFIG))


def test_user_and_folders_are_created(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for tool, name in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
        create = ["--create"] if name == "tmpfiles" else []
        done = run(tool, *create, f"--root={tmp_path}", FILES / f"capture-agent.{name}")
        assert done.returncode == 0, done.stderr
    assert "capture-agent:" in (tmp_path / "etc" / "passwd").read_text()
    assert (tmp_path / "srv" / "evidence").stat().st_mode & 0o777 == 0o750
