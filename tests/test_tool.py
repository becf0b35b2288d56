"""ffmpeg in its cage: it does its work, can reach nothing else, and whatever it does it is gone in the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.access import tool, watching
from agent.access.tool import READING, Bounds, Ran, ToolError, run, version
from agent.child import Child
from agent.drivers import sandbox
from tests.media import film

LEVELS = ("quiet", "panic", "fatal", "error", "warning", "info", "verbose", "debug", "trace")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    path.write_bytes(film(path.parent, "mp4", seconds=3))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def state(pid: int) -> str:
    """Its letter in /proc, or nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def own() -> Iterator[int]:
    """Process ids of the ffmpeg that this test has started, if it runs."""
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):  # that thread or process has just ended
            for pid in map(int, Path(f"/proc/self/task/{task}/children").read_text().split()):
                if Path(f"/proc/{pid}/comm").read_text() == "ffmpeg\n" and state(pid) not in ("", "Z"):
                    yield pid


def spent(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return " ".join(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])
    return "gone"


def encode(source: Path, target: Path, *options: str) -> list[str]:
    return [*READING, "-i", f"file:{source}", "-c:v", "libx264", "-preset", "ultrafast", *options, f"file:{target}"]


def endless(source: Path, target: Path) -> list[str]:
    """Words for work that never ends by itself."""
    return ["-stream_loop", "-1", *encode(source, target)]


async def stuck(folder: Path, **options: object) -> Ran:
    """ffmpeg waiting for the other end of a pipe that nobody opens."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    return await run(encode(pipe, folder / "out.mp4"), reads=pipe, folder=folder, **options)  # type: ignore[arg-type]


async def test_it_names_its_version() -> None:
    assert (await version()).startswith("ffmpeg ")


async def test_work_is_done_and_told(clip: Path, folder: Path) -> None:
    ran = await run(encode(clip, folder / "out.mp4"), reads=clip, folder=folder)
    assert ran.frames == 75
    assert 2_900_000 < ran.media_us < 3_200_000
    assert (folder / "out.mp4").stat().st_size > 10_000
    assert list(own()) == []


async def test_a_bad_end_is_an_error_with_the_last_complaint(clip: Path, folder: Path) -> None:
    text = folder / "text.mp4"
    text.write_text("no recording\x1b[31m" * 100)
    with pytest.raises(ToolError, match=r"ended with 1: .*Invalid data"):
        await run(encode(text, folder / "out.mp4"), reads=text, folder=folder)


async def test_a_tool_that_is_missing_or_another_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "_PROGRAM", "no-such-ffmpeg")
    with pytest.raises(ToolError, match="can't be started: No such file"):
        await version()
    monkeypatch.setattr(tool, "_PROGRAM", "echo")
    with pytest.raises(ToolError, match="something else"):
        await version()


ESCAPES: dict[str, Callable[[Path, Path, int], list[str]]] = {
    "read another file": lambda clip, folder, _: encode(clip.parent / "other.mp4", folder / "out.mp4"),
    "read a file of the system": lambda clip, folder, _: encode(Path("/etc/passwd"), folder / "out.mp4"),
    "write beside the folder": lambda clip, folder, _: encode(clip, folder.parent / "out.mp4"),
    "write over the original": lambda clip, folder, _: encode(clip, clip),
    "connect": lambda clip, folder, port: [
        "-protocol_whitelist", "file,http,tcp", "-i", f"http://127.0.0.1:{port}/clip.mp4", "-f", "null", "-",
    ],
    "listen": lambda clip, folder, port: [
        "-i", f"file:{clip}", "-c", "copy", "-f", "mpegts", f"tcp://127.0.0.1:{port}?listen=1",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
async def test_out_of_the_cage_it_reaches_nothing(name: str, clip: Path, folder: Path) -> None:
    (clip.parent / "other.mp4").write_bytes(clip.read_bytes())
    before = clip.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        words = ESCAPES[name](clip, folder, server.getsockname()[1])
        with pytest.raises(ToolError, match=r"(?i)permission denied|in-place"):
            await run(words, reads=clip, folder=folder, bounds=Bounds(stall_s=20))
        with pytest.raises(BlockingIOError):
            server.accept()
    assert clip.read_bytes() == before
    assert not (folder.parent / "out.mp4").exists()


ATTEMPTS = {
    "socket": "import socket; socket.socket()",
    "socketpair": "import socket; socket.socketpair()",
    "fork": "os.fork()",
    "spawn": "os.posix_spawn('/usr/bin/true', ['true'], {})",
    "kill the parent": "os.kill(os.getppid(), 0)",
    "leave the group": "os.setsid()",
    "io_uring": "checked(425, 1, 0)",
    "trace": "checked(101 if os.uname().machine == 'x86_64' else 117, 0, 0)",
    "look at others": "open(f'/proc/{os.getppid()}/mem')",
    "link": "os.symlink('/etc/passwd', folder + '/link')",
    "change rights": "os.chmod('/tmp', 0o777)",
    "change times": "os.utime(folder)",
    "take off a seal": "fcntl.ioctl(os.open(folder, os.O_RDONLY), 0x40086602, bytes([16, 0, 0, 0, 0, 0, 0, 0]))",
    "device": "os.mkfifo(folder + '/fifo')",
}
PROGRAM = """
import ctypes, fcntl, os, sys
folder = sys.argv[1]
def checked(*words):
    if ctypes.CDLL(None, use_errno=True).syscall(*words) < 0:
        raise OSError(ctypes.get_errno(), '')
"""


@pytest.mark.skipif(platform.machine() not in sandbox.MACHINES, reason="no system call table for this machine")
@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
async def test_whatever_ffmpeg_became_it_could_not(attempt: str, folder: Path) -> None:
    code = f"{PROGRAM}\ntry:\n    {attempt}\nexcept PermissionError:\n    print('refused')"
    cage = tool._cage(tool.DEFAULT_BOUNDS, writes=[folder])
    child = await Child.start(
        "agent.drivers.caged", [cage, "/usr/bin/python3", "-I", "-c", code, str(folder)], stall_limit_s=20
    )
    try:
        assert await child.words() == b"refused"
        assert await child.words() is None
    finally:
        await child.stop()


async def test_threads_and_files_of_its_own_are_what_it_needs(folder: Path) -> None:
    code = (  # LC_CTYPE is Python's own
        f"{PROGRAM}\nimport threading; thread = threading.Thread(target=print, args=('heard',)); thread.start()\n"
        "thread.join(); path = folder + '/own'; open(path, 'w').write('x'); print(open(path).read()); os.unlink(path)\n"
        "print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_IDLE, sorted({*os.environ} - {'LC_CTYPE'}))"
    )
    cage = tool._cage(tool.DEFAULT_BOUNDS, writes=[folder])
    child = await Child.start(
        "agent.drivers.caged", [cage, "/usr/bin/python3", "-I", "-c", code, str(folder)], stall_limit_s=20
    )
    try:
        said = [await child.words() for _ in range(3)]
    finally:
        await child.stop()
    names = b"['LANG', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_', 'PATH', 'TZ']"
    assert said == [b"heard", b"x", b"19 True " + names]


@pytest.mark.parametrize("level", LEVELS)
async def test_a_flood_of_complaints_behind_a_wedged_reader_ends(level: str, clip: Path, folder: Path) -> None:
    holed, wedged = folder / "holed.mp4", False
    content = bytearray(clip.read_bytes())
    content[len(content) // 3 : len(content) * 2 // 3] = bytes(len(content) * 2 // 3 - len(content) // 3)
    holed.write_bytes(content)

    def wedge() -> bool:
        """Take nothing out of its pipes until it has nothing more to do, or waits for us."""
        nonlocal wedged
        while not wedged:
            for pid in own():
                before, wedged = "", True
                while state(pid) != "Z" and (now := spent(pid)) != before:
                    before = now
                    time.sleep(0.1)
        return False

    words = ["-loglevel", level, *encode(holed, folder / "out.mp4")]
    ran = await run(words, reads=holed, folder=folder, bounds=Bounds(stall_s=30), is_busy=wedge)
    assert wedged
    assert 0 < ran.frames <= 75
    assert len(ran.complaints) <= 20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
async def test_one_that_is_killed_has_not_finished(number: signal.Signals, clip: Path, folder: Path) -> None:
    def kill() -> bool:
        for pid in own():
            os.kill(pid, number)
        return False

    with pytest.raises(ToolError, match=f"ended with (-{int(number)}|255)"):
        await run(endless(clip, folder / "out.mp4"), reads=clip, folder=folder, is_busy=kill)


async def test_one_that_stands_still_is_killed(folder: Path) -> None:
    with pytest.raises(ToolError, match=r"no progress for 0\.5 s"):
        await stuck(folder, bounds=Bounds(stall_s=0.5))
    assert list(own()) == []


async def test_one_that_gets_no_processor_does_not_stand_still(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is idle by its priority may wait for minutes on a machine at its limit."""
    waited = [0.0]

    def starved(pid: int) -> float:
        waited[0] += 1.0
        return waited[0]

    monkeypatch.setattr(watching, "_waited_s", starved)
    with pytest.raises(ToolError, match="did not end within 1 s"):
        await stuck(folder, bounds=Bounds(stall_s=0.2, total_s=1))


def test_how_long_it_was_kept_waiting_is_the_kernel_s_word() -> None:
    one = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        asleep = watching._waited_s(one.pid)
    finally:
        one.communicate(b"\n")
    assert 0 <= asleep < 60
    assert watching._waited_s(one.pid) == 0, "it is gone"
    assert watching._waited_s(os.getpid()) > 0


async def test_one_that_goes_on_for_ever_is_killed(clip: Path, folder: Path) -> None:
    with pytest.raises(ToolError, match="did not end within 1 s"):
        await run(endless(clip, folder / "out.mp4"), reads=clip, folder=folder, bounds=Bounds(total_s=1))


async def test_processor_time_ends(clip: Path, folder: Path) -> None:
    with pytest.raises(ToolError, match="ended with"):
        await run(endless(clip, folder / "out.mp4"), reads=clip, folder=folder, bounds=Bounds(cpu_s=1))


async def test_memory_ends(clip: Path, folder: Path) -> None:
    with pytest.raises(ToolError, match="ended with"):
        await run(encode(clip, folder / "out.mp4"), reads=clip, folder=folder, bounds=Bounds(memory_bytes=1 << 27))


async def test_a_file_does_not_grow_without_end(clip: Path, folder: Path) -> None:
    with pytest.raises(ToolError, match=f"ended with -{int(signal.SIGXFSZ)}"):
        await run(endless(clip, folder / "out.mp4"), reads=clip, folder=folder, bounds=Bounds(output_bytes=100_000))
    assert (folder / "out.mp4").stat().st_size <= 100_000


async def test_while_others_need_the_station_it_stops_and_no_clock_runs(folder: Path) -> None:
    seen: list[str] = []

    def busy() -> bool:
        seen.extend(state(pid) for pid in own())
        return 0 < len(seen) < 8  # four times the stall limit

    with pytest.raises(ToolError, match="no progress"):
        await stuck(folder, bounds=Bounds(stall_s=0.4, total_s=1.0), is_busy=busy)
    assert seen[1:8] == ["T"] * 7


async def test_one_that_is_stopped_is_killed_too_when_nobody_wants_it_any_more(clip: Path, folder: Path) -> None:
    stopped = asyncio.Event()

    def busy() -> bool:
        if any(state(pid) == "T" for pid in own()):
            stopped.set()
        return any(own())

    task = asyncio.create_task(run(endless(clip, folder / "out.mp4"), reads=clip, folder=folder, is_busy=busy))
    await asyncio.wait_for(stopped.wait(), 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(own()) == []


async def test_it_ends_with_the_agent(clip: Path, folder: Path) -> None:
    """An agent that is killed leaves no ffmpeg that goes on."""
    code = f"""
import asyncio
from pathlib import Path
from tests.test_tool import endless
from agent.access.tool import run
clip, folder = Path({str(clip)!r}), Path({str(folder)!r})
asyncio.run(run(endless(clip, folder / "out.mp4"), reads=clip, folder=folder))
"""
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
    async with asyncio.timeout(20):
        while not (pids := children.read_text().split()) or not (folder / "out.mp4").exists():
            await asyncio.sleep(0.05)
        agent.kill()
        await agent.wait()
        while Path(f"/proc/{pids[0]}").exists() and state(int(pids[0])) != "Z":
            await asyncio.sleep(0.05)
