"""The checks of conftest must themselves be able to fail."""

from __future__ import annotations

import asyncio
import fcntl
import struct
from pathlib import Path

import pytest

from tests.conftest import FS_IMMUTABLE_FL, FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, SettableClock, unseal

pytest_plugins = ["pytester"]

LEAKS = {
    "task": "async def test_leak():\n    asyncio.keep = asyncio.create_task(asyncio.sleep(60))\n",
    "thread": "def test_leak():\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
    "child": "def test_leak():\n    os.posix_spawn('/bin/sleep', ['sleep', '8'], {})\n",
    "descriptor": "def test_leak():\n    os.open('/dev/null', os.O_RDONLY)\n",
}


@pytest.mark.parametrize("what", LEAKS)
def test_a_test_that_leaves_something_behind_fails(what: str, pytester: pytest.Pytester) -> None:
    conftest = Path(__file__).with_name("conftest.py").read_text().replace("SETTLE_S = 3.0", "SETTLE_S = 0.2")
    pytester.makeconftest(conftest)
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile("import asyncio, os, threading, time\n\n" + LEAKS[what])
    result = pytester.runpytest_subprocess("-p", "no:xdist", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*left behind: *"])


async def test_what_ends_with_its_test_is_no_leak() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(Path("/proc/self/stat").read_text))
    child = await asyncio.create_subprocess_exec("/bin/true")
    assert await child.wait() == 0


@pytest.mark.root
def test_sealed_files_can_be_removed_after_a_test(tmp_path: Path) -> None:
    sealed = tmp_path / "folder" / "sealed"
    sealed.parent.mkdir()
    sealed.write_bytes(b"evidence")
    with sealed.open("rb") as file:
        (flags,) = struct.unpack("l", fcntl.ioctl(file, FS_IOC_GETFLAGS, struct.pack("l", 0)))
        fcntl.ioctl(file, FS_IOC_SETFLAGS, struct.pack("l", flags | FS_IMMUTABLE_FL))
    with pytest.raises(PermissionError):
        sealed.unlink()
    unseal(tmp_path)
    sealed.unlink()


def test_the_clock_moves_only_when_told(clock: SettableClock) -> None:
    before = clock()
    assert clock() == before
    clock.advance(-90)
    assert (before - clock()).total_seconds() == 90
