"""What the doctor says of inboxes: with the rights that the service has, whether it can see them at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agent.config.inboxes import Inbox
from agent.doctor.finding import Grade
from agent.doctor.inboxes import looked_into

NOBODY = 65534
AS_NOBODY = """
import os, sys
from pathlib import Path
from agent.config.inboxes import Inbox
from agent.doctor.inboxes import looked_into
os.setgroups([])
os.setgid({uid})
os.setuid({uid})
for found in looked_into(Inbox("nvr", Path(sys.argv[1]))):
    print(found.grade.value, found.en)
"""


def as_nobody(folder: Path, *capabilities: str) -> str:
    code = AS_NOBODY.format(uid=NOBODY)
    if capabilities:
        code = AS_NOBODY.partition("os.setgroups")[0] + AS_NOBODY.partition("os.setuid({uid})")[2]
    command = [*capabilities, sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder() -> Iterator[Path]:
    """Under /dev/shm, since pytest's folders are root's alone."""
    with TemporaryDirectory(dir="/dev/shm") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_one_that_is_not_there_is_bad(tmp_path: Path) -> None:
    (found,) = looked_into(Inbox("nvr", tmp_path / "none", "NVR"))
    assert found.grade is Grade.BAD
    assert found.zh.startswith("收件夹 NVR：无法查看")
    assert "mounted?" in found.do_en


@pytest.mark.root
def test_what_the_services_user_may_not_see_is_bad(folder: Path) -> None:
    (folder / "a.mp4").write_bytes(b"film")
    assert [one.grade for one in looked_into(Inbox("nvr", folder))] == [Grade.GOOD]
    (folder / "a.mp4").chmod(0o600)
    assert as_nobody(folder) == "bad inbox nvr: a file may not be read\n"
    folder.chmod(0o700)
    assert as_nobody(folder).startswith(f"bad inbox nvr: {folder} can't be listed")


@pytest.mark.root
def test_of_files_of_other_users_nobody_can_tell_who_writes(folder: Path) -> None:
    (folder / "a.mp4").write_bytes(b"film")
    (folder / "a.mp4").chmod(0o644)
    assert "belong to other users (docs/inbox.md, CAP_LEASE), so files must rest for 60 s" in as_nobody(folder)
    lease = ("setpriv", f"--reuid={NOBODY}", "--clear-groups", "--inh-caps=+lease", "--ambient-caps=+lease")
    assert as_nobody(folder, *lease) == "good inbox nvr: it can be looked into\n", "as docs/inbox.md says"
    os.chown(folder / "a.mp4", NOBODY, NOBODY)
    assert as_nobody(folder) == "good inbox nvr: it can be looked into\n"
