"""From inside the locked helpers nothing but their work is possible; every attempt to escape is refused."""

from __future__ import annotations

import contextlib
import os
import platform
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.drivers import sandbox

pytestmark = pytest.mark.skipif(
    platform.machine() not in sandbox.MACHINES, reason="no system call table for this machine"
)

PREPARE = """
import ctypes, fcntl, mmap, os, pathlib, signal, socket, subprocess, sys, threading, time
from agent.drivers.sandbox import lock_parser, lock_puller, lock_watcher
device = os.open(sys.argv[1], os.O_RDONLY)
folder = os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECTORY)
libc = ctypes.CDLL(None, use_errno=True)
pid = os.getpid()
"""


def run(lock: str, attempt: str, tmp_path: Path) -> subprocess.CompletedProcess[bytes]:
    device, folder = tmp_path / "card.img", tmp_path / "staging"
    device.write_bytes(b"evidence" * 1024)
    folder.mkdir(exist_ok=True)
    code = f"{PREPARE}\n{lock}\n{attempt}\nos.write(1, b'done')\nos._exit(0)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, device, folder],
        capture_output=True,
        env={"TZ": "UTC"},
        timeout=30,
        check=False,
    )
    assert device.read_bytes() == b"evidence" * 1024
    return done


KILLED = {
    "open a file": "os.open('/etc/passwd', os.O_RDONLY)",
    "open the device for writing": "os.open(f'/proc/self/fd/{device}', os.O_RDWR)",
    "write to the device by offset": "os.pwrite(device, b'x', 0)",
    "write to the device": "os.write(device, b'x')",
    "cut the image": "os.ftruncate(device, 0)",
    "ask the device for something": "fcntl.ioctl(device, 0x125E, b'0000')",
    "list a folder": "os.listdir('/')",
    "socket": "socket.socket()",
    "fork": "os.fork()",
    "exec": "os.execv('/bin/sh', ['sh'])",
    "thread": "threading.Thread(target=print).start()",
    "kill the parent": "os.kill(os.getppid(), 0)",
    "executable memory": "mmap.mmap(-1, 4096, prot=7)",
    "make memory executable": "libc.mprotect(ctypes.c_void_p(mmap.PAGESIZE * (id(libc) // mmap.PAGESIZE)), 4096, 7)",
    "trace": "libc.ptrace(0, 0, 0, 0)",
    "io_uring": "libc.syscall(425, 1, 0)",
    "more limits": "__import__('resource').setrlimit(7, (64, 64))",
    "another sandbox": "lock_parser()",
}


@pytest.mark.parametrize("attempt", KILLED.values(), ids=KILLED.keys())
def test_the_parser_is_killed_for_it(attempt: str, tmp_path: Path) -> None:
    done = run("lock_parser()", attempt, tmp_path)
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, b"")


def test_the_parser_can_read_compute_and_write_to_its_pipes(tmp_path: Path) -> None:
    work = (
        "assert os.pread(device, 8, 0) == b'evidence'; os.write(2, b'x'); bytearray(64 << 20); sorted(range(10 ** 5))"
    )
    done = run("found = lock_parser(); assert found", work, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"done", b"x")


def test_memory_and_time_of_the_parser_end(tmp_path: Path) -> None:
    greedy = "try:\n    bytearray(2 << 30)\nexcept MemoryError:\n    os.write(1, b'refused ')"
    assert run("lock_parser()", greedy, tmp_path).stdout == b"refused done"
    assert run("lock_parser(cpu_s=1)", "while True: pass", tmp_path).returncode in (-signal.SIGXCPU, -signal.SIGKILL)


def test_landlock_alone_refuses_paths_where_seccomp_is_missing(tmp_path: Path) -> None:
    """On a machine without a system call table the other locks still hold."""
    lock = "from agent.drivers import sandbox\nsandbox.MACHINES = {}\nfound = lock_parser()\nassert not found"
    attempt = """
for path, flags in (('/etc/passwd', os.O_RDONLY), (f'/proc/self/fd/{device}', os.O_RDWR), (sys.argv[1], os.O_RDWR)):
    try:
        os.open(path, flags)
    except OSError as error:
        os.write(1, b'refused ')
"""
    assert run(lock, attempt, tmp_path).stdout == b"refused refused refused done"


PULLER = "found = lock_puller(folder, device)"


def test_the_puller_can_do_its_work(tmp_path: Path) -> None:
    work = """
assert os.pread(device, 8, 0) == b'evidence'
os.posix_fadvise(device, 0, 0, os.POSIX_FADV_WILLNEED)
part = os.open('a.part', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder)
os.posix_fallocate(part, 0, 4096)
os.pwrite(part, b'x' * 4096, 0)
libc.sync_file_range(part, ctypes.c_int64(0), ctypes.c_int64(4096), 2)
os.posix_fadvise(part, 0, 0, os.POSIX_FADV_DONTNEED)
os.ftruncate(part, 10)
assert os.fstat(part).st_size == 10
assert os.stat('a.part', dir_fd=folder).st_size == 10
again = os.open(sys.argv[1], os.O_RDONLY)
os.close(part)
"""
    done = run(PULLER, work, tmp_path)
    assert (done.returncode, done.stdout) == (0, b"done"), done.stderr
    assert (tmp_path / "staging" / "a.part").read_bytes() == b"x" * 10


PULLER_REFUSED = {
    "open a file elsewhere": "os.open('/etc/passwd', os.O_RDONLY)",
    "write a file elsewhere": "os.open(sys.argv[2] + '/../escape', os.O_WRONLY | os.O_CREAT)",
    "leave the folder": "os.open('../escape', os.O_WRONLY | os.O_CREAT, dir_fd=folder)",
    "open the device for writing": "os.open(sys.argv[1], os.O_RDWR)",
    "open its descriptor for writing": "os.open(f'/proc/self/fd/{device}', os.O_RDWR)",
    "empty the device": "os.open(sys.argv[1], os.O_RDONLY | os.O_TRUNC)",
    "write to the device": "os.pwrite(device, b'x', 0)",
}


@pytest.mark.parametrize("attempt", PULLER_REFUSED.values(), ids=PULLER_REFUSED.keys())
def test_the_puller_is_refused(attempt: str, tmp_path: Path) -> None:
    code = f"try:\n    {attempt}\nexcept OSError:\n    os.write(1, b'refused ')"
    done = run(PULLER, code, tmp_path)
    assert done.stdout == b"refused done"
    assert not (tmp_path / "escape").exists()


PULLER_KILLED = {
    "remove": "os.unlink('a', dir_fd=folder)",
    "rename": "os.rename('a', 'b', src_dir_fd=folder, dst_dir_fd=folder)",
    "list": "os.listdir(folder)",
    "make a folder": "os.mkdir('d', dir_fd=folder)",
    "socket": "socket.socket()",
    "fork": "os.fork()",
    "exec": "os.execv('/bin/sh', ['sh'])",
    "discard sectors": "fcntl.ioctl(device, 0x1277, bytes(16))",
    "take off a seal": "fcntl.ioctl(folder, 0x40086602, bytes(8))",
    "kill": "os.kill(os.getppid(), 0)",
}


@pytest.mark.parametrize("attempt", PULLER_KILLED.values(), ids=PULLER_KILLED.keys())
def test_the_puller_is_killed_for_it(attempt: str, tmp_path: Path) -> None:
    done = run(PULLER, attempt, tmp_path)
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, b"")


WATCHER = """
from agent.inotify import Ears
with open(f"{sys.argv[2]}/a", "wb") as file:
    file.write(b"content")
ears, path = Ears(), pathlib.Path(sys.argv[2])
lock_watcher(folder)
"""


def test_the_watcher_can_do_its_work(tmp_path: Path) -> None:
    work = """
found = os.open("a", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
assert os.pread(found, 10, 0) == b"content"
fcntl.fcntl(found, fcntl.F_SETLEASE, fcntl.F_RDLCK)
fcntl.fcntl(found, fcntl.F_SETLEASE, fcntl.F_UNLCK)
with os.scandir(folder) as entries:
    assert [(one.name, one.stat(follow_symlinks=False).st_size) for one in entries] == [("a", 7)]
ears.listen(path)
assert ears.heard() == []
time.sleep(0.01)
"""
    done = run(WATCHER, work, tmp_path)
    assert (done.returncode, done.stdout) == (0, b"done"), done.stderr


WATCHER_KILLED = {
    "open to write": "os.open('a', os.O_WRONLY, dir_fd=folder)",
    "open to read and write": "os.open('a', os.O_RDWR, dir_fd=folder)",
    "make": "os.open('b', os.O_RDONLY | os.O_CREAT, dir_fd=folder)",
    "empty": "os.open('a', os.O_RDONLY | os.O_TRUNC, dir_fd=folder)",
    "remove": "os.unlink('a', dir_fd=folder)",
    "rename": "os.rename('a', 'b', src_dir_fd=folder, dst_dir_fd=folder)",
    "change times": "os.utime('a', dir_fd=folder)",
    "socket": "socket.socket()",
    "fork": "os.fork()",
}


@pytest.mark.parametrize("attempt", WATCHER_KILLED.values(), ids=WATCHER_KILLED.keys())
def test_the_watcher_is_killed_for_it(attempt: str, tmp_path: Path) -> None:
    done = run(WATCHER, attempt, tmp_path)
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, b"")


def test_a_parser_that_is_stopped_ends_with_the_agent() -> None:
    """It is stopped while a recorder is read; and where memory ends, it ends before the agent does."""
    child = (
        "import os; from agent.drivers.sandbox import lock_parser, step_back\n"
        "step_back(); os.write(1, open('/proc/self/oom_score_adj', 'rb').read())\n"
        "lock_parser(); os.write(1, b'locked\\n'); os.read(0, 1); os.read(0, 1)"
    )
    agent = (
        "import os, signal, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=-1, stdout=-1)\n"
        "told = child.stdout.readline() + child.stdout.readline(); os.kill(child.pid, signal.SIGSTOP)\n"
        "os.waitpid(child.pid, os.WUNTRACED); print(child.pid, told, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", agent], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid, _, told = running.stdout.readline().strip().partition(" ")
        gone = os.pidfd_open(int(pid))
        running.kill()
    try:
        assert told == str(b"1000\nlocked\n")
        assert select.select([gone], [], [], 20)[0], "it is still there"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
        os.close(gone)


@pytest.mark.parametrize("request_code", ["0x40086602", "0x401C5820"])
def test_a_tool_that_becomes_no_other_program_takes_off_no_seal_either(request_code: str, tmp_path: Path) -> None:
    lock = "from agent.drivers.sandbox import lock_tool; lock_tool((), memory_bytes=1 << 30, cpu_s=9, output_bytes=99)"
    ask = f"fcntl.ioctl(device, {request_code}, bytes(28))"
    code = f"try:\n    {ask}\nexcept OSError as error:\n    os.write(1, b'%d ' % error.errno)"
    assert run(lock, code, tmp_path).stdout == b"13 done"


LINE = "from agent.drivers.sandbox import lock_line\nends = os.openpty()\nfound = lock_line(ends[1])\nassert found"


@pytest.mark.parametrize("attempt", [words for name, words in KILLED.items() if name != "another sandbox"])
def test_what_speaks_over_a_line_is_killed_for_it(attempt: str, tmp_path: Path) -> None:
    done = run(LINE, attempt, tmp_path)
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, b"")


def test_it_can_wait_for_its_line_and_write_there(tmp_path: Path) -> None:
    work = "os.write(ends[1], b'INIT'); assert os.read(ends[0], 4) == b'INIT'; select.select(ends, [], [], 0.01)"
    done = run(f"import select\n{LINE}", work, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"done", b"")


@pytest.mark.root
def test_the_locks_hold_for_root_too(tmp_path: Path) -> None:
    assert os.geteuid() == 0
    code = "try:\n    os.open('/root', os.O_RDONLY)\nexcept OSError:\n    os.write(1, b'refused ')"
    assert run(PULLER, code, tmp_path).stdout == b"refused done"


def test_every_system_call_of_the_tables_has_a_number_for_both_machines() -> None:
    for table in (sandbox.RUNTIME, sandbox.WAITING, sandbox.PULLER, sandbox.WATCHER, sandbox.NEVER):
        assert all(len(numbers) == 2 and min(numbers) >= 0 for numbers in table.values())
        assert len({numbers[0] for numbers in table.values()}) == len(table)


ASKER = "from agent.drivers.sandbox import lock_asker\nfound = lock_asker(folder, [0xC0185502])"
ASKER_KILLED = [KILLED[name] for name in ("ask the device for something", "socket", "fork", "exec", "kill the parent")]


@pytest.mark.parametrize("attempt", ASKER_KILLED)
def test_what_speaks_with_a_usb_device_is_killed_for_it(attempt: str, tmp_path: Path) -> None:
    done = run(ASKER, attempt, tmp_path)
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, b"")


def test_it_can_ask_its_device_write_parts_and_open_nothing_else(tmp_path: Path) -> None:
    work = """
os.pwrite(os.open('a.part', os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder), b'x', 0)
for attempt in (lambda: fcntl.ioctl(device, 0xC0185502, bytes(24)), lambda: os.open('/etc/passwd', os.O_RDONLY),
                lambda: os.open(sys.argv[1], os.O_RDONLY)):
    try:
        attempt()
    except OSError as error:
        os.write(1, b'refused ')
"""
    done = run(ASKER, work, tmp_path)
    assert (done.returncode, done.stdout) == (0, b"refused refused refused done"), done.stderr
