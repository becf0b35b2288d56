"""Whose a change of a file was, told from what the kernel says of the file and never from when it was made."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agent import durable
from agent.changes import Changes, Whose, seen
from tests.conftest import is_immutable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"footage")
    path.chmod(0o440)
    return path


def test_it_sees_what_stat_sees(file: Path) -> None:
    told, found = os.lstat(file), seen(file)
    assert found is not None
    assert (found.device, found.inode, found.mode, found.uid, found.links, found.size_bytes, found.changed_ns) == (
        told.st_dev, told.st_ino, told.st_mode, told.st_uid, told.st_nlink, told.st_size, told.st_ctime_ns,
    )  # fmt: skip
    assert found.mount == seen(file.parent).mount  # type: ignore[union-attr]


def test_it_sees_a_link_and_not_where_it_leads(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    link, original = seen(tmp_path / "link"), seen(file)
    assert link is not None
    assert original is not None
    assert link.inode != original.inode
    assert seen(tmp_path / "none") is None
    assert seen(file / "beneath") is None


@pytest.mark.root
def test_it_sees_the_immutable_flag_without_opening_the_file(file: Path) -> None:
    assert durable.make_immutable(file)
    assert is_immutable(file)
    found = seen(file)
    assert found is not None
    assert found.immutable is True
    assert durable.make_mutable(file)
    assert seen(file)._replace(changed_ns=0) == found._replace(changed_ns=0, immutable=False)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "attack",
    ["chmod 640 {}", "chmod 640 {0}; chmod 440 {0}", "touch {}", "ln {0} {0}.other; rm {0}.other", "rm -f {}",
     "mv {0} {0}.away; mv {0}.away {0}", "cp {0} {0}.new; mv {0}.new {0}", "ln -sf /etc/hostname {}",
     "mv {0} {0}.away; ln {0}.away {0}", "chattr +i {0}; chattr -i {0}"],
)  # fmt: skip
def test_every_change_of_somebody_else_is_told_apart_from_ours_and_told_once(file: Path, attack: str) -> None:
    changes = Changes()
    with changes.of(file):
        durable.make_read_only(file)
    assert changes.whose(file) is Whose.OURS
    subprocess.run(["sh", "-c", attack.format(file)], check=True)
    assert changes.whose(file) is Whose.FOREIGN
    assert changes.whose(file) is Whose.OURS, "what was told once is known"


def test_what_we_never_changed_was_changed_by_somebody_else(file: Path) -> None:
    assert Changes().whose(file) is Whose.FOREIGN


def test_our_own_change_does_not_hide_an_earlier_one_of_somebody_else(file: Path) -> None:
    changes = Changes()
    with changes.of(file):
        durable.make_read_only(file)
    file.chmod(0o640)
    with changes.of(file):
        assert changes.whose(file) is Whose.IN_HAND
        durable.make_read_only(file)
    assert changes.whose(file) is Whose.FOREIGN
    assert changes.whose(file) is Whose.OURS


def test_a_name_that_we_took_away_is_ours_to_miss(file: Path, tmp_path: Path) -> None:
    changes = Changes()
    with changes.of(file):
        durable.rename_no_replace(file, tmp_path / "aside")
    assert changes.whose(file) is Whose.OURS
    file.write_bytes(b"put there")
    assert changes.whose(file) is Whose.FOREIGN


def test_a_change_that_fails_is_over_too(file: Path, tmp_path: Path) -> None:
    changes = Changes()
    with pytest.raises(FileExistsError), changes.of(file), changes.of(file):
        durable.rename_no_replace(file, tmp_path / file.name)
    assert changes.whose(file) is Whose.OURS


def test_only_so_many_are_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.changes._REMEMBERED", 2)
    changes = Changes()
    for name in ("a", "b", "c"):
        with changes.of(file.with_name(name)):
            pass
    found = [changes.whose(file.with_name(name)) for name in ("a", "b", "c")]
    assert found == [Whose.FOREIGN, Whose.OURS, Whose.OURS], "rather an alarm too many than one too few"
