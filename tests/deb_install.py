"""The Debian package in a Debian 12 without network: installed, used, upgraded, purged: `./run deb --check`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pypdf import PdfReader

from agent import __version__
from agent.journal.schema import MIGRATIONS
from tests.cards import image
from tests.debs import Machine, machine, older, shared

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

DATA = Path(__file__).parent / "data"
CLIPS = {"DCIM/0001.MP4": b"one" * 99_999, "DCIM/0002.MP4": b"two" * 9_999}
NOTE = "var/lib/misc/capture-agent.unconfirmed"
UNTIL_READY = (
    "setpriv --reuid=capture-agent --regid=capture-agent --clear-groups capture-agent run >/var/tmp/log 2>&1 & "
    "until capture-agent status >/var/tmp/status 2>&1; "
    "do kill -0 $! || { cat /var/tmp/log; exit 1; }; sleep 0.2; done; "
)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared(tmp_path_factory)


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


def mounted_store(debian: Machine) -> None:
    debian.run("runuser -u capture-agent -- touch /srv/evidence/.capture-agent-store")


def pulled(debian: Machine, folder: Path) -> None:
    """A station that has pulled a card and stored nothing yet."""
    mounted_store(debian)
    card = image(folder / "card.img", CLIPS)
    (debian.root / "srv" / "card.img").write_bytes(card.read_bytes())
    assert "every file is safe here" in debian.agent("pull /srv/card.img 2>&1")


def originals(debian: Machine) -> list[bytes]:
    """What is in the vault of what was pulled; what was made of it meanwhile (findings) may lie beside it."""
    vault = debian.root / "var/lib/capture-agent/vault"
    held = [path.read_bytes() for path in vault.rglob("*") if path.is_file()]
    return sorted(content for content in held if content in CLIPS.values())


def test_it_is_installed_offline_and_everything_in_it_works(debian: Machine, package: Path) -> None:
    said = debian.install(package)
    assert "not started yet" in said
    assert debian.run("capture-agent --version") == f"capture-agent {__version__}\n"
    unready = debian.call("runuser -u capture-agent -- capture-agent config check")
    assert unready.returncode == 3
    assert ".capture-agent-store" in unready.stdout
    mounted_store(debian)
    assert "/etc/capture-agent/agent.toml: correct" in debian.agent("config check")
    assert "only here" in debian.run("man capture-agent")
    assert "采集站" in debian.run("man 5 agent.toml")
    complete = (
        "set +e; source /usr/share/bash-completion/bash_completion; _completion_loader capture-agent; COMP_CWORD=1"
    )
    words = "COMP_WORDS=(capture-agent ver); $(complete -p capture-agent | sed -E 's/.*-F (\\S+).*/\\1/')"
    assert debian.run(f"{complete}; {words} capture-agent ver capture-agent; echo $COMPREPLY") == "verify\n"
    assert "__pycache__" in debian.run("ls /usr/lib/capture-agent/lib/python3.11/site-packages/agent")
    imports = (
        "aiohttp, av, blake3, botocore, cryptography, ffmpeg, pytsk3, pyudev, rfc3161_client, rfc8785, segno, "
        "systemd.daemon, watchdog, weasyprint"
    )
    debian.run(f"/usr/lib/capture-agent/bin/python3 -I -c 'import {imports}'")
    debian.run("/usr/lib/capture-agent/bin/python3 -I -m agent.cli --version")
    assert debian.run("systemctl is-enabled capture-agent") == "enabled\n"
    assert debian.run("dpkg --verify capture-agent") == ""


def test_a_receipt_is_printed_in_chinese(debian: Machine, package: Path, tmp_path: Path) -> None:
    """With the fonts that the package depends on and no other, by the child that can read little else."""
    debian.install(package)
    pulled(debian, tmp_path)
    printed = "runuser -u capture-agent -- capture-agent receipt show --pdf /var/tmp/receipt.pdf"
    debian.run(f"{UNTIL_READY} until {printed}; do sleep 0.2; done; kill $!; wait $!")
    (sheet,) = PdfReader(debian.root / "var/tmp/receipt.pdf").pages
    assert "交接回执" in sheet.extract_text()
    fonts = [font.get_object()["/BaseFont"] for font in sheet["/Resources"]["/Font"].values()]  # type: ignore[index]
    assert any("CJK" in font for font in fonts), fonts


def test_the_service_gets_ready_and_stores_what_is_pulled(debian: Machine, package: Path, tmp_path: Path) -> None:
    debian.install(package)
    pulled(debian, tmp_path)
    debian.run(
        'python3 -c \'import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind("/run/n");'
        " [print(s.recv(999).decode(), flush=True) for _ in range(99)]' >/var/tmp/told & sleep 0; "
        "until [ -S /run/n ]; do sleep 0.1; done; chmod 777 /run/n; export NOTIFY_SOCKET=/run/n; "
        f"{UNTIL_READY} until capture-agent unstored; do sleep 0.2; done; kill $!; wait $!"
    )
    assert "READY=1" in (debian.root / "var/tmp/told").read_text()
    stored = [path for path in (debian.root / "srv/evidence/originals").rglob("*") if path.is_file()]
    assert sorted(path.read_bytes() for path in stored) == originals(debian) == sorted(CLIPS.values())


def test_an_upgrade_keeps_state_and_configuration_and_migrates_the_journal(
    debian: Machine, package: Path, tmp_path: Path
) -> None:
    debian.install(older(package, tmp_path, "0.0.9"))
    mounted_store(debian)
    config = debian.root / "etc/capture-agent/agent.toml"
    config.write_text(config.read_text("utf-8").replace('name = "采集站"', 'name = "二号采集站"'), "utf-8")
    path = debian.root / "var/lib/capture-agent/journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript((DATA / "journal_version_5.sql").read_text("utf-8"))
        before = db.execute("SELECT * FROM event ORDER BY seq").fetchall()
    debian.run("chown capture-agent: /var/lib/capture-agent/journal.db")
    debian.install(package)
    assert debian.run("dpkg-query -W -f='${Version}' capture-agent") == __version__
    debian.run(f"{UNTIL_READY} kill $!; wait $!")
    assert "二号采集站" in (debian.root / "var/tmp/status").read_text()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("SELECT * FROM event ORDER BY seq").fetchall()[: len(before)] == before
    assert debian.call("capture-agent verify --journal-only").returncode in {0, 1}


def test_purging_is_refused_while_an_original_is_only_here(debian: Machine, package: Path, tmp_path: Path) -> None:
    debian.install(package)
    pulled(debian, tmp_path)
    assert debian.call("capture-agent unstored").returncode == 1
    config = (debian.root / "etc/capture-agent/agent.toml").read_bytes()
    for command in ("dpkg --purge capture-agent", "apt-get purge -q -y capture-agent"):
        refused = debian.call(f"{command} 2>&1")
        assert refused.returncode != 0
        assert "/var/lib/capture-agent: 2 files" in refused.stdout
        assert "purging is refused" in refused.stdout
        assert debian.run("dpkg-query -W -f='${db:Status-Status}' capture-agent") == "installed"
        assert (debian.root / "etc/capture-agent/agent.toml").read_bytes() == config
    assert originals(debian) == sorted(CLIPS.values())
    debian.run(f"{UNTIL_READY} until capture-agent unstored; do sleep 0.2; done; kill $!; wait $!")
    purged = debian.run("apt-get purge -q -y capture-agent 2>&1")
    assert "Originals and journal stay where they are, in /var/lib/capture-agent" in purged
    assert originals(debian) == sorted(CLIPS.values())
    assert (debian.root / "var/lib/capture-agent/journal.db").exists()
    assert not (debian.root / "etc/capture-agent/agent.toml").exists()
    assert not (debian.root / "usr/lib/capture-agent").exists()


def test_removing_keeps_evidence_and_a_later_purge_remembers(debian: Machine, package: Path, tmp_path: Path) -> None:
    debian.install(package)
    pulled(debian, tmp_path)
    debian.run("apt-get remove -q -y capture-agent 2>&1")
    assert originals(debian) == sorted(CLIPS.values())
    assert (debian.root / "etc/capture-agent/agent.toml").exists()
    assert not (debian.root / "usr/lib/capture-agent").exists()
    refused = debian.call("dpkg --purge capture-agent 2>&1")
    assert refused.returncode != 0
    assert "2 files" in refused.stdout
    assert "purging is refused" in refused.stdout
    debian.install(package)
    assert not (debian.root / NOTE).exists()
    assert "2 files" in debian.call("capture-agent unstored").stdout
    assert originals(debian) == sorted(CLIPS.values())
