"""The files for systemd and udev are understood by the real tools."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[1] / "systemd"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here."""
    text = (FILES / "capture-agent.service").read_text()
    program = "/usr/bin/capture-agent"
    assert text.count(program) == 1
    (tmp_path / "capture-agent.service").write_text(text.replace(program, "/bin/true"))
    return tmp_path / "capture-agent.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read(FILES / "capture-agent.service")
    return parser["Service"]


def test_the_unit_is_valid(unit: Path) -> None:
    done = run("systemd-analyze", "verify", "--man=no", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_exposes_little(unit: Path) -> None:
    """A change that opens the service shows up here: 10 is no protection, and it was 1.7 when written."""
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=20", unit)
    assert done.returncode == 0, done.stdout


def test_the_service_may_only_read_block_devices(service: configparser.SectionProxy) -> None:
    text = (FILES / "capture-agent.service").read_text()
    allowed = [line.partition("=")[2] for line in text.splitlines() if line.startswith("DeviceAllow=")]
    assert service["DevicePolicy"] == "closed"
    assert allowed == ["block-sd r", "block-mmc r"]
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
