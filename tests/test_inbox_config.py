"""[[inbox]]: what it takes, what it refuses with the reason, and that only a new start takes a change over."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from agent.config import load, reloaded
from agent.config.inboxes import Inbox
from agent.errors import ConfigError

SHIPPED = Path(__file__).parent.parent / "config"
ONE = '[[inbox]]\nname = "nvr"\nfolder = "/srv/inbox/nvr"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED, tmp_path / "etc")
    return tmp_path / "etc/agent.toml"


def written(config: Path, text: str) -> Path:
    config.write_text((SHIPPED / "agent.toml").read_text("utf-8") + text, "utf-8")
    return config


def test_as_shipped_there_is_none(config: Path) -> None:
    assert load(config).inboxes == ()


def test_the_example_that_is_shipped_is_one_with_the_defaults(config: Path) -> None:
    text = (SHIPPED / "agent.toml").read_text("utf-8")
    example = text[text.index("# [[inbox]]") :]
    lines = re.findall(r"^# (\[\[.*|\w+ = .*)$", example, re.MULTILINE)
    assert len(lines) == 1 + len(fields(Inbox))
    (one,) = load(written(config, "\n".join(lines))).inboxes
    assert one == Inbox("nvr", Path("/srv/inbox/nvr"), "机房录像机")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[inbox]]\nfolder = "/x"\n', "inbox.name = '': is missing"),
        ('[[inbox]]\nname = "a"\n', "inbox.folder = '': is missing"),
        ('[[inbox]]\nname = "a/b"\nfolder = "/x"\n', "inbox.name = 'a/b': must be a name"),
        ('[[inbox]]\nname = "a"\nfolder = "x"\n', "inbox.folder = 'x': must be an absolute path"),
        ('[[inbox]]\nname = "a"\nfolder = "/"\n', "must not lie where this station keeps evidence"),
        ('[[inbox]]\nname = "a"\nfolder = "/var/lib/capture-agent/in"\n', "must not lie where this station keeps"),
        ('[[inbox]]\nname = "a"\nfolder = "/srv/evidence/in"\n', "must not lie where this station keeps evidence"),
        (ONE + ONE, "is the name of two inboxes"),
        (ONE + ONE.replace('"nvr"', '"b"'), "lies in the folder of another inbox"),
        (ONE + ONE.replace('"nvr"', '"b"').replace("/nvr", ""), "lies in the folder of another inbox, or above it"),
        (ONE + "settle_s = 90\n", "must be at least unsure_s, and that at least settle_s"),
        (ONE + 'marker = "done"\n', "must be a suffix, like .done"),
        (ONE + "settle = 3\n", "inbox.settle: there is no such option; did you mean inbox.settle_s?"),
        ("[inbox]\nname = 'a'\n", "must be at most 32 tables, each written as [[inbox]]"),
        ("".join(f'[[inbox]]\nname = "a{n}"\nfolder = "/in/{n}"\n' for n in range(33)), "at most 32 tables"),
    ],
)
def test_what_is_wrong_is_told(config: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(config, text))
    assert told in caught.value.what


def test_a_change_waits_for_a_new_start(config: Path) -> None:
    before = load(written(config, ONE))
    written(config, ONE + "rescan_s = 5\n")
    after, waiting = reloaded(before)
    assert waiting == ("inbox",)
    assert after.inboxes == before.inboxes
    assert reloaded(load(config))[1] == ()
