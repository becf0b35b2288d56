"""The Debian package, really built: what is in it, and what is not. Its installation: `./run deb --check`."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import tomllib
from pathlib import Path

import pytest

from agent import __version__
from tests.debs import CHECKOUT, built, shared, tool

pytestmark = pytest.mark.timeout(600)

SITE = "usr/lib/capture-agent/lib/python3.11/site-packages"
PLACES = {
    "systemd/capture-agent.service": "lib/systemd/system/capture-agent.service",
    "systemd/capture-agent.socket": "lib/systemd/system/capture-agent.socket",
    "systemd/capture-agent-failure.service": "lib/systemd/system/capture-agent-failure.service",
    "systemd/capture-agent-again.timer": "lib/systemd/system/capture-agent-again.timer",
    "systemd/capture-agent.sysusers": "usr/lib/sysusers.d/capture-agent.conf",
    "systemd/capture-agent.tmpfiles": "usr/lib/tmpfiles.d/capture-agent.conf",
    "systemd/62-capture-agent.rules": "lib/udev/rules.d/62-capture-agent.rules",
    "systemd/74-capture-agent.rules": "lib/udev/rules.d/74-capture-agent.rules",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared(tmp_path_factory)


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked package, with what dpkg reads in DEBIAN."""
    folder = tmp_path_factory.mktemp("tree")
    tool("dpkg-deb", "-R", package, folder)
    return folder


def field(package: Path, name: str) -> str:
    return tool("dpkg-deb", "-f", package, name).strip()


def test_it_says_what_it_is_and_what_it_needs(package: Path) -> None:
    assert (field(package, "Package"), field(package, "Version")) == ("capture-agent", __version__)
    assert field(package, "Architecture") == "amd64"
    needs = {word.split()[0] for word in field(package, "Depends").split(", ")}
    assert {"python3", "python3-systemd", "ffmpeg", "udev", "systemd", "libudev1"} <= needs
    assert "python3 (<< 3.12)" in field(package, "Depends")


def test_the_files_of_the_system_are_those_of_the_checkout(tree: Path) -> None:
    assert {f"systemd/{path.name}" for path in (CHECKOUT / "systemd").iterdir()} == PLACES.keys()
    for source, target in PLACES.items():
        assert (tree / target).read_bytes() == (CHECKOUT / source).read_bytes()
    for shipped in (CHECKOUT / "packaging" / "fleet").iterdir():
        assert (tree / "usr/share/capture-agent/fleet" / shipped.name).read_bytes() == shipped.read_bytes()
    started = re.search(
        r"^ExecStart=/(\S+)", (tree / PLACES["systemd/capture-agent.service"]).read_text(), re.MULTILINE
    )
    assert started
    assert os.access(tree / started[1], os.X_OK)


def test_the_configuration_is_the_shipped_one_and_asked_about_before_it_is_replaced(tree: Path) -> None:
    shipped = {
        path.relative_to(CHECKOUT / "config"): path for path in (CHECKOUT / "config").rglob("*") if path.is_file()
    }
    listed = (tree / "DEBIAN/conffiles").read_text().splitlines()
    assert sorted(listed) == sorted(f"/etc/capture-agent/{name}" for name in shipped)
    for name, path in shipped.items():
        assert (tree / "etc/capture-agent" / name).read_bytes() == path.read_bytes()


def test_everybody_may_read_it_and_only_root_may_write_it(package: Path) -> None:
    for line in tool("dpkg-deb", "-c", package).splitlines():
        mode, owner, _, day, *_, name = line.split()
        if "->" in line:
            continue
        is_program = name.startswith("./usr/bin/")
        assert mode == ("drwxr-xr-x" if name.endswith("/") else "-rwxr-xr-x" if is_program else "-rw-r--r--"), line
        assert owner == "root/root"
        assert day == "2026-09-21"


def test_the_sums_are_right_and_complete(tree: Path) -> None:
    told = dict(reversed(line.split("  ", 1)) for line in (tree / "DEBIAN/md5sums").read_text().splitlines())
    there = {
        path.relative_to(tree).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and not path.is_relative_to(tree / "DEBIAN")
    }
    assert told == {name: digest for name, digest in there.items() if not name.startswith("etc/")}


def test_it_carries_what_the_lock_pins_for_running_and_nothing_else(tree: Path) -> None:
    lock = dict(re.findall(r"^([\w.-]+)==(\S+)", (CHECKOUT / "requirements.lock").read_text(), re.MULTILINE))
    carried = {
        found[1].lower().replace("_", "-"): found[2]
        for path in (tree / SITE).glob("*.dist-info")
        if (found := re.fullmatch(r"(.+)-([^-]+)\.dist-info", path.name))
    }
    assert carried.pop("capture-agent") == __version__
    assert carried == {name: lock[name] for name in carried}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["forensic"]]
    names = {re.split(r"[><=]", line)[0] for line in wanted} - {"systemd-python"}
    assert names <= carried.keys()
    assert not {"pytest", "hypothesis", "ruff", "uv", "pip", "boto3", "shtab"} & carried.keys()


def test_debian_s_systemd_module_is_of_the_version_that_the_lock_pins(package: Path) -> None:
    assert "\nsystemd-python==235 " in (CHECKOUT / "requirements.lock").read_text()
    assert "python3-systemd (>= 235)" in field(package, "Depends")


def test_the_agent_in_it_is_this_one(tree: Path) -> None:
    for path in (CHECKOUT / "agent").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (tree / SITE / path.relative_to(CHECKOUT)).read_bytes() == path.read_bytes()
    assert not list(tree.rglob("__pycache__"))


def test_nothing_tells_of_the_machine_that_built_it(tree: Path) -> None:
    """Neither a path of it, nor where its packages came from: no folder, no registry, no user."""
    traces = [str(CHECKOUT).encode(), b"capture-agent-deb-", b"index-url", b"files.pythonhosted.org/packages"]
    for path in (path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()):
        content = path.read_bytes()
        assert not [trace for trace in traces if trace in content], path
    names = {path.name for path in tree.rglob("*.dist-info/*")}
    assert not names & {"direct_url.json", "uv_cache.json", "uv_build.json"}
    links = [os.readlink(path) for path in tree.rglob("*") if path.is_symlink()]
    assert links == ["../../../bin/python3"]


def test_man_and_completion_know_every_verb_and_option(tree: Path) -> None:
    page = tool("man", "-l", tree / "usr/share/man/man1/capture-agent.1.gz", MANWIDTH="100", LC_ALL="C.UTF-8")
    complete = (tree / "usr/share/bash-completion/completions/capture-agent").read_text("utf-8")
    for verb in ("run", "unstored", "activity propose", "deadline declare", "store"):
        assert f"capture-agent {verb}" in page
        assert verb.split()[-1] in complete
    for option in ("--journal-only", "--rebuild", "--json"):
        assert option in page
        assert option in complete
    tool("bash", "-n", tree / "usr/share/bash-completion/completions/capture-agent")


def test_the_page_of_the_configuration_has_every_option_with_its_words(tree: Path) -> None:
    page = tool("man", "-l", tree / "usr/share/man/man5/agent.toml.5.gz", MANWIDTH="1000", LC_ALL="C.UTF-8")
    config = (CHECKOUT / "config/agent.toml").read_text("utf-8")
    for option in re.findall(r"^(\w+) = ", config, re.MULTILINE):
        assert re.search(rf"^ +{option}\b", page, re.MULTILINE), option
    for words in re.findall(r"^# (.*; default .*)$", config, re.MULTILINE):
        assert " ".join(words.split()) in " ".join(page.split()), words


def test_the_same_commit_gives_the_same_bytes(package: Path, tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        again = built(tmp_path)
    finally:
        os.umask(umask)
    assert again.read_bytes() == package.read_bytes()


def test_it_is_built_for_another_processor_too(tmp_path: Path) -> None:
    package = built(tmp_path, "arm64")
    assert field(package, "Architecture") == "arm64"
    tool("dpkg-deb", "-x", package, tmp_path / "tree")
    libraries = [path for path in (tmp_path / "tree").rglob("*") if re.search(r"\.so(\.|$)", path.name)]
    machines = {path.read_bytes()[18:20] for path in libraries}
    assert machines == {b"\xb7\x00"}, f"not all are for aarch64, as on {platform.machine()}"
