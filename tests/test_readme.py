"""The READMEs and the pages they lead to say what the program is: help, options, states, addresses, checks, links."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import cast

import pytest

from agent import cli
from agent.config import SECTIONS
from agent.errors import JournalError
from agent.journal.codec import _KINDS
from agent.model import AssetState
from agent.pipeline.storing import StoreLane
from agent.screens.guard import Gate
from agent.screens.server import status_app
from agent.status.board import Board
from agent.status.words import WORDS
from agent.uploader import directory
from agent.uploader.s3.store import S3Options
from agent.uploader.tus_protocol import TusOptions
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder
from tests.shares import OwnProcessStore, made
from tests.stations import dock, opened

CHECKOUT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh-CN.md")
PAGES = sorted(
    str(path.relative_to(CHECKOUT)) for pattern in ("*.md", "docs/**/*.md") for path in CHECKOUT.glob(pattern)
)
FILES = {"/DCIM/0001.MP4": b"one" * 999, "/DCIM/0002.MP4": b"two" * 99_999, "/DCIM/0003.JPG": b"three"}


@pytest.fixture(params=READMES)
def readme(request: pytest.FixtureRequest) -> str:
    return (CHECKOUT / str(request.param)).read_text("utf-8")


def section(readme: str, *titles: str) -> str:
    """What stands under the heading of one of these names."""
    found = re.search(rf"^#+ (?:{'|'.join(titles)})\n(.*?)(?=^#|\Z)", readme, re.DOTALL | re.MULTILINE)
    assert found, f"no heading {titles}"
    return found[1]


def first_column(text: str) -> list[str]:
    """The names in backquotes in the first column of all tables of the text."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def block(readme: str, tried: str) -> str:
    """The fenced block behind `<!-- tried: ... -->`."""
    found = re.search(rf"<!-- tried: {tried} -->\n```\w+\n(.*?)```", readme, re.DOTALL)
    assert found, f"no block {tried}"
    return found[1]


def test_the_help_that_is_shown_is_the_help_that_is_printed(readme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, options and exit codes with it."""
    monkeypatch.setenv("COLUMNS", "80")
    assert f"```text\n{cli._parser().format_help()}```" in readme


def test_the_exit_codes_in_chinese_are_all_there_are() -> None:
    chinese = (CHECKOUT / "README.zh-CN.md").read_text("utf-8")
    told = re.search(r"^退出码：(.*?)。", chinese, re.DOTALL | re.MULTILINE)
    assert told
    assert [int(code) for code in re.findall(r"(?:^|；)(\d+) ?", told[1].replace("\n", ""))] == sorted(cli.Exit)


def test_every_option_is_explained_and_no_other(readme: str) -> None:
    options = {f"{name}.{option.name}" for name, kind in SECTIONS.items() for option in fields(kind)}
    told = first_column(section(readme, "Configure", "配置"))
    assert sorted(told) == sorted(options)


@pytest.mark.parametrize(
    ("page", "kind"), [("s3", S3Options), ("nas", directory.DirectoryOptions), ("tus", TusOptions)]
)
def test_every_option_of_a_store_is_explained_on_its_page_with_its_default(page: str, kind: type) -> None:
    text = (CHECKOUT / "docs" / f"store-{page}.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z_]\w*)` \| (.*?) \|", text, re.MULTILINE))
    assert rows.keys() == {option.name for option in fields(kind)}
    for option in fields(kind):
        if option.default and not isinstance(option.default, bool):
            assert rows[option.name] == f"`{option.default}`", option.name


def test_the_six_states_have_the_words_of_the_screen(readme: str) -> None:
    table = section(readme, "The six states of an original", "原始资料的六种状态")
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines() if line.startswith("| `")]
    assert rows == [[f"`{state}`", WORDS[AssetState][state][0]] for state in AssetState]


def test_every_address_is_there_and_no_other(readme: str) -> None:
    app = status_app(cast("Board", None), cast("Gate", None))
    routes = {resource.canonical for resource in app.router.resources()}
    assert set(first_column(section(readme, "HTTP API", "HTTP 接口"))) == routes


def test_every_verb_of_run_is_there_and_no_other(readme: str) -> None:
    verbs = re.findall(r"^run_([a-z-]+)\(\)", (CHECKOUT / "run").read_text(), re.MULTILINE)
    assert first_column(section(readme, "Development", "开发")) == [f"./run {verb}" for verb in verbs]


def test_each_promise_names_tests_that_exist(readme: str) -> None:
    """A promise without a test that tries to break it isn't one."""
    promises = [line for line in readme.splitlines() if line.startswith("| **")]
    assert len(promises) == 11
    for promise in promises:
        named = re.findall(r"`(tests/\w+\.py)::(\w+)`", promise)
        assert named, promise
        for path, test in named:
            source = (CHECKOUT / path).read_text()
            assert re.search(rf"def {test}\(", source), f"{path}::{test}"


def test_each_attack_names_tests_that_exist() -> None:
    attacks = (CHECKOUT / "docs" / "attacks.md").read_text("utf-8")
    rows = [line for line in attacks.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 14
    for row in rows[1:]:
        named = re.findall(r"`(tests/\w+\.py)::(\w+)`", row)
        assert named, row
        for path, test in named:
            assert re.search(rf"def {test}\(", (CHECKOUT / path).read_text()), f"{path}::{test}"


def test_the_chinese_page_never_says_that_something_is_deleted_by_the_agent() -> None:
    """删除 is what happened on a recorder before, and nothing else."""
    chinese = (CHECKOUT / "README.zh-CN.md").read_text("utf-8")
    assert set(re.findall(r"(.)删除", chinese)) == {"已"}


def test_every_kind_of_event_is_explained_and_no_other() -> None:
    events = (CHECKOUT / "docs" / "events.md").read_text("utf-8")
    assert sorted(first_column(events)) == sorted(_KINDS)


@pytest.mark.parametrize("page", PAGES)
def test_links_and_files_that_are_named_exist(page: str) -> None:
    text = re.sub(r"```.*?```", "", (CHECKOUT / page).read_text("utf-8"), flags=re.DOTALL)
    folder = (CHECKOUT / page).parent
    for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", text):
        assert not target or target.startswith("http") or (folder / target).exists(), f"{page}: {target}"
    for anchor in re.findall(r"\]\(#([^)]*)\)", text):
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, f"{page}: #{anchor}"
    for named in re.findall(r"`((?:agent|config|systemd|tests|docs|simulator)/[\w./-]+)`", text):
        assert (CHECKOUT / named).exists(), f"{page}: {named}"


def test_the_page_of_the_installation_says_what_the_rules_and_the_unit_say() -> None:
    page = (CHECKOUT / "docs" / "install.md").read_text("utf-8")
    rules = (CHECKOUT / "systemd" / "62-capture-agent.rules").read_text("utf-8")
    exception = re.search(r'^ *(SUBSYSTEM=="block".*"own")$', page, re.MULTILINE)
    assert exception
    assert f"#   {exception[1]}" in rules
    for folder in re.findall(r"^\| `(/(?:var|srv|etc)/[^`]+)/` \|", page, re.MULTILINE):
        assert f"d {folder} " in (CHECKOUT / "systemd" / "capture-agent.tmpfiles").read_text("utf-8")


def sh(script: str, **variables: Path) -> subprocess.CompletedProcess[str]:
    values = {name: str(value) for name, value in variables.items()}
    environment = {"PATH": "/usr/bin:/bin", **values}
    command = ["bash", "-o", "pipefail", "-ec", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


async def test_the_offline_checks_work_and_notice_a_change(tmp_path: Path, clock: SettableClock, readme: str) -> None:
    """What the page tells to type passes on an untouched station, and fails on any that was changed."""
    root, store = tmp_path / "station", tmp_path / "store"
    kept = OwnProcessStore("专用存储器", {"path": str(made(store))}, vault_root=root, clock=clock)
    async with opened(root, clock, store=kept) as station:
        await dock(station, FakeRecorder(dict(FILES), station.vault.staging_dir))
        lane = StoreLane(station)
        for _ in FILES:
            await lane.store(await lane.take())
    chain, journal = tmp_path / "chain.py", root / "journal.db"
    chain.write_text(block(readme, "chain"), "utf-8")
    checks: dict[str, Callable[[], subprocess.CompletedProcess[str]]] = {
        "vault": lambda: sh(block(readme, "names"), FOLDER=root / "vault"),
        "store": lambda: sh(block(readme, "names"), FOLDER=store / "originals"),
        "sums": lambda: sh(block(readme, "sums"), STORE=store / "originals", JOURNAL=journal),
        "chain": lambda: sh(f"{sys.executable} {chain} {journal}"),
    }
    for name, check in checks.items():
        assert check().returncode == 0, name
    assert checks["chain"]().stdout.startswith(f"{_events(journal)} events, head ")
    for folder in (root / "vault", store / "originals"):
        original = next(path for path in folder.rglob("*") if path.is_file())
        original.chmod(0o640)
        original.write_bytes(original.read_bytes()[:-1] + b"\0")
    sh(f"sqlite3 {journal} \"DROP TRIGGER event_is_never_changed; UPDATE event SET at = '2020' WHERE seq = 2\"")
    for name, check in checks.items():
        assert check().returncode != 0, name
    assert "event 2 is not what was recorded" in checks["chain"]().stderr


def _events(journal: Path) -> int:
    found = sh(f"sqlite3 -readonly {journal} 'SELECT max(seq) FROM event'")
    if found.returncode:
        raise JournalError(found.stderr)
    return int(found.stdout)
