"""Promise: the command that makes texts can't change an original nor run on, and is believed only as far as checked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.pipeline.transcribing import written_down
from agent.transcripts import LARGEST_BYTES

MARKER = "capture-agent-transcribing-test"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "original"
    path.write_bytes(b"sealed")
    path.chmod(0o440)
    return path


def run(code: str, original: Path, *arguments: str, timeout_s: float = 20) -> bytes:
    return written_down([sys.executable, "-c", code, "{original}", *arguments], original, timeout_s=timeout_s)


def living(marker: str) -> Iterator[int]:
    """Processes whose command line holds the marker."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if marker.encode() in (folder / "cmdline").read_bytes():
                    yield int(folder.name)
            except OSError:
                continue


def test_it_is_given_the_original_and_its_output_is_returned(original: Path) -> None:
    assert run("import sys; print(open(sys.argv[1]).read(), '好')", original) == "sealed 好\n".encode()
    assert written_down(["cat", "{original}"], original, timeout_s=20) == b"sealed"


@pytest.mark.parametrize(
    "harm",
    [
        "open(sys.argv[1], 'r+b').write(b'x')",
        "os.truncate(sys.argv[1], 0)",
        "os.unlink(sys.argv[1])",
        "os.rename(sys.argv[1], sys.argv[1] + '.old')",
        "os.symlink('/etc/passwd', sys.argv[1] + '.new')",
        "open(os.path.dirname(sys.argv[1]) + '/new', 'w')",
        "subprocess.run(['sh', '-c', 'echo x >> ' + sys.argv[1]], check=True)",
    ],
)
def test_it_can_t_change_the_original_nor_anything_beside_it(original: Path, harm: str) -> None:
    """As root too, which the mode of a file doesn't stop: the kernel denies it to the command and its children."""
    with pytest.raises(ConfigError, match="ended with 1"):
        run(
            f"import os, subprocess, sys; os.path.exists(sys.argv[1]) and os.chmod(sys.argv[1], 0o666); {harm}",
            original,
        )
    assert original.read_bytes() == b"sealed"
    assert list(original.parent.iterdir()) == [original]


def test_it_has_a_folder_of_its_own_that_is_gone_afterwards(original: Path) -> None:
    code = "import os; [open(name, 'w') for name in ('mine', '/dev/null')]; print(os.environ['HOME'], os.nice(0))"
    home, niceness = run(code, original).decode().split()
    assert not Path(home).exists()
    assert int(niceness) >= 15


def test_a_command_that_fails_is_told_with_its_last_words(original: Path) -> None:
    with pytest.raises(ConfigError, match="ended with 3: no model") as failed:
        run("import sys; print('half a text'); print('loading\\nno model', file=sys.stderr); sys.exit(3)", original)
    assert failed.value.safe == "The original is untouched, and nothing was added."


def test_one_that_runs_on_is_killed_with_its_children(original: Path) -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(99)', '{MARKER}'])"
    with pytest.raises(ConfigError, match="took longer than"):
        run(child, original, timeout_s=1.5)
    deadline = time.monotonic() + 10
    while list(living(MARKER)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(living(MARKER)) == []


def test_one_that_closes_its_output_and_runs_on_is_killed(original: Path) -> None:
    with pytest.raises(ConfigError, match="took longer than"):
        run("import os, time; os.close(1); os.close(2); time.sleep(99)", original, timeout_s=1.5)


def test_children_that_stay_behind_end_with_it(original: Path) -> None:
    """What they hold open must not be waited for beyond the time, and they must not stay."""
    code = f"import subprocess, sys; print('text', flush=True); subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)', '{MARKER}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"  # noqa: E501
    assert run(code, original) == b"text\n"
    deadline = time.monotonic() + 10
    while list(living(MARKER)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(living(MARKER)) == []


def test_it_ends_with_the_agent_that_is_killed(original: Path) -> None:
    """No limit of time is watched any more then."""
    command = [sys.executable, "-c", "import time; time.sleep(99)", MARKER, "{original}"]
    code = (
        "from pathlib import Path; from agent.pipeline.transcribing import written_down;"
        f" written_down({command!r}, Path({str(original)!r}), timeout_s=99)"
    )
    folder = {"TMPDIR": str(original.parent)}  # it can't tidy up
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ | folder) as agent:
        deadline = time.monotonic() + 20
        while not [pid for pid in living(MARKER) if pid != agent.pid] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [pid for pid in living(MARKER) if pid != agent.pid], "it began"
        agent.kill()
    while list(living(MARKER)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(living(MARKER)) == []


def test_output_without_end_is_cut_off(original: Path) -> None:
    with pytest.raises(ConfigError, match="wrote more than 4 MiB"):
        written_down(["yes", "{original}"], original, timeout_s=60)


def test_complaints_without_end_are_drained(original: Path) -> None:
    code = f"import sys; sys.stderr.write('x' * {4 * LARGEST_BYTES}); print('text')"
    assert run(code, original) == b"text\n"


def test_a_command_that_is_not_there_or_not_set_is_said(original: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory: /no/such/engine"):
        written_down(["/no/such/engine", "{original}"], original, timeout_s=20)
    with pytest.raises(ConfigError, match="No command makes transcripts here"):
        written_down([], original, timeout_s=20)
