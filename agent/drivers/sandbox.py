"""Locks a helper process into what it needs: no new privileges, Landlock, resource limits, a seccomp allow-list."""

import contextlib
import ctypes
import errno
import os
import resource
import signal
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from agent.drivers.source import BLKGETDISKSEQ, BLKGETSIZE64

MIB: Final = 1024 * 1024
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = (
    1, 4, 22, 24, 38, 47,
)  # fmt: skip
PR_CAP_AMBIENT_CLEAR_ALL, CAP_LINUX_IMMUTABLE = 4, 9
SECCOMP_MODE_FILTER: Final = 2
PROT_EXEC: Final = 4

SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_VERSION_FLAG, LANDLOCK_RULE_PATH_BENEATH = 1, 1
LANDLOCK_FS_BY_ABI: Final = (0, 0x1FFF, 0x3FFF, 0x7FFF, 0x7FFF, 0xFFFF)
LANDLOCK_READS: Final = 0x8000 | 0x8 | 0x4 | 0x1
"""Device calls, listing, reading, executing."""
LANDLOCK_NET: Final = 0x3
LANDLOCK_SCOPED: Final = 0x3
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE, MAKE_REG, TRUNCATE, IOCTL_DEV = (
    0x1,
    0x2,
    0x4,
    0x8,
    0x20,
    0x100,
    0x4000,
    0x8000,
)

BPF_LOAD, BPF_EQUAL, BPF_AT_LEAST, BPF_ANY_BIT, BPF_RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
SECCOMP_ALLOW, SECCOMP_KILL, SECCOMP_REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
X32_BIT: Final = 0x40000000
ARCH_AT, NUMBER_AT, ARGUMENT_AT = 4, 0, 16

MACHINES: Final[Mapping[str, tuple[int, int]]] = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the tables below, and the audit architecture."""

RUNTIME: Final[Mapping[str, tuple[int, int]]] = {
    "read": (0, 63), "pread64": (17, 67), "preadv": (295, 69), "preadv2": (327, 286),
    "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62),
    "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233), "brk": (12, 214), "fadvise64": (221, 223),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "futex": (202, 98), "clock_gettime": (228, 113), "gettimeofday": (96, 169), "sched_yield": (24, 124),
    "getpid": (39, 172), "gettid": (186, 178), "getrandom": (318, 278), "restart_syscall": (219, 128),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
"""What Python needs to compute and to read descriptors that are open already: name -> (x86_64, aarch64)."""

PULLER: Final[Mapping[str, tuple[int, int]]] = {
    "openat": (257, 56), "write": (1, 64), "writev": (20, 66), "pwrite64": (18, 68), "pwritev": (296, 70),
    "readv": (19, 65), "ftruncate": (77, 46), "fallocate": (285, 47), "sync_file_range": (277, 84),
    "newfstatat": (262, 79), "statx": (332, 291), "fcntl": (72, 25), "ppoll": (271, 73), "pselect6": (270, 72),
    "poll": (7, 73), "select": (23, 72), "clock_nanosleep": (230, 115), "fstatfs": (138, 44),
}  # fmt: skip
"""What the puller needs beside that; aarch64 has no poll and select, so their numbers there are ppoll's, pselect6's."""

WAITING: Final[Mapping[str, tuple[int, int]]] = {
    "ppoll": (271, 73), "pselect6": (270, 72), "select": (23, 72), "clock_nanosleep": (230, 115),
}  # fmt: skip
"""What the one needs beside RUNTIME who speaks over a line."""

WATCHER: Final[Mapping[str, tuple[int, int]]] = {
    "newfstatat": (262, 79), "statx": (332, 291), "getdents64": (217, 61), "fcntl": (72, 25), "poll": (7, 73),
    "ppoll": (271, 73), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27),
    "clock_nanosleep": (230, 115),
}  # fmt: skip
"""What one that watches a folder needs beside the runtime; opening is a condition."""

LAST_NICE: Final = 19
IDLE_IO: Final = 3 << 13
IOPRIO_SET: Final = (251, 30)
"""By the same columns."""
NEVER: Final[Mapping[str, tuple[int, int]]] = {
    "socket": (41, 198), "socketpair": (53, 199), "io_uring_setup": (425, 425), "kill": (62, 129), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "setpgid": (109, 154), "setsid": (112, 157),
    "fork": (57, 220), "vfork": (58, 220), "chmod": (90, 53), "fchmod": (91, 52), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "utimensat": (280, 88), "setxattr": (188, 5), "fsetxattr": (190, 7),
    "file_setattr": (469, 469),
}  # fmt: skip
"""What no tool needs: the network, other processes, leaving its group, changing what Landlock doesn't know.

On aarch64 clone forks, and there is only fchmodat.
"""
IOCTL: Final = (16, 29)
SEALS: Final = (0x40086602, 0x401C5820)
"""FS_IOC_SETFLAGS and FS_IOC_FSSETXATTR of linux/fs.h."""
CLONE: Final = (56, 220)
CLONE3: Final = (435, 435)
CLONE_THREAD: Final = 0x10000

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, value) of classic BPF."""


class Condition(NamedTuple):
    """A call that is allowed only if an argument is one of some values, or has none of some bits."""

    numbers: tuple[int, int]
    argument: int
    values: tuple[int, ...] = ()
    forbidden_bits: int = 0

    def program(self, column: int) -> list[Instruction]:
        """Instructions that decide about this call and let others pass."""
        tests: list[Instruction] = [(BPF_LOAD, 0, 0, ARGUMENT_AT + 8 * self.argument)]
        for value in self.values:
            tests += [(BPF_EQUAL, 0, 1, value), (BPF_RETURN, 0, 0, SECCOMP_ALLOW)]
        if self.forbidden_bits:
            tests += [(BPF_ANY_BIT, 1, 0, self.forbidden_bits), (BPF_RETURN, 0, 0, SECCOMP_ALLOW)]
        tests.append((BPF_RETURN, 0, 0, SECCOMP_KILL))
        return [(BPF_EQUAL, 0, len(tests), self.numbers[column]), *tests]


WRITE_TO_OUTPUT: Final = Condition((1, 64), 0, values=(1, 2))
ASK_IDENTITY: Final = Condition(IOCTL, 1, values=(BLKGETSIZE64, BLKGETDISKSEQ))
OPEN_TO_READ: Final = Condition((257, 56), 2, forbidden_bits=os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
NOT_EXECUTABLE: Final = (
    Condition((9, 222), 2, forbidden_bits=PROT_EXEC),  # mmap
    Condition((10, 226), 2, forbidden_bits=PROT_EXEC),  # mprotect
)


def step_back() -> None:
    """Let everybody else go first, to the processor, to the disk (ioprio_set(2), idle class), and to memory.

    Where memory ends the kernel kills this one, not the agent.
    """
    with contextlib.suppress(OSError):  # a service may be forbidden to: then it only isn't polite
        os.nice(LAST_NICE)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    idle_io(on=True)


def idle_io(*, on: bool) -> None:
    """Let all others go first to the disk in what this thread does from now on, or no longer."""
    if machine := MACHINES.get(os.uname().machine):
        _libc().syscall(IOPRIO_SET[machine[0]], 1, 0, IDLE_IO if on else 0)


def lock_parser(*, memory_bytes: int = 768 * MIB, cpu_s: int = 60) -> bool:
    """Allow nothing but computing, reading descriptors that are open already, and writing to 1 and 2.

    Import everything first, codecs too. A forbidden system call kills the process; False where seccomp doesn't know
    the machine. Raises OSError if the kernel refuses a lock it should know.
    """
    _end_with_parent()
    _forbid_new_privileges()
    _landlock(())
    nothing = (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE)
    _limit({resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_CPU: cpu_s, **dict.fromkeys(nothing, 0)})
    return _seccomp(RUNTIME.values(), (WRITE_TO_OUTPUT,))


def lock_line(line_fd: int, *, memory_bytes: int = 768 * MIB, cpu_s: int = 3) -> bool:
    """Allow what the parser may, waiting, and writing to one line that is open already; as `lock_parser` else."""
    _end_with_parent()
    _forbid_new_privileges()
    _landlock(())
    nothing = (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE)
    _limit({resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_CPU: cpu_s, **dict.fromkeys(nothing, 0)})
    return _seccomp((*RUNTIME.values(), *WAITING.values()), (Condition((1, 64), 0, values=(1, 2, line_fd)),))


def lock_puller(writable_dir_fd: int, device_fd: int | None = None, *, memory_bytes: int = 768 * MIB) -> bool:
    """Allow what the parser may, and creating and writing files beneath one folder; nothing is ever removed there.

    `device_fd` may be opened again for reading by its path, to see whether it is still the same device.
    Raises OSError.
    """
    _forbid_new_privileges()
    rules = [(writable_dir_fd, READ_FILE | WRITE_FILE | MAKE_REG | TRUNCATE)]
    if device_fd is not None:
        rules.append((device_fd, READ_FILE | IOCTL_DEV))
    _landlock(rules)
    _limit({resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_NPROC: 0, resource.RLIMIT_CORE: 0})
    return _seccomp((*RUNTIME.values(), *PULLER.values()), (ASK_IDENTITY,))


def lock_watcher(folder_fd: int, *, memory_bytes: int = 768 * MIB) -> bool:
    """Allow what the parser may, and looking at and reading what lies beneath one folder. Raises OSError."""
    _end_with_parent()
    _forbid_new_privileges()
    _landlock([(folder_fd, READ_FILE | READ_DIR)])
    _limit({resource.RLIMIT_AS: memory_bytes, **dict.fromkeys((resource.RLIMIT_NPROC, resource.RLIMIT_CORE), 0)})
    return _seccomp((*RUNTIME.values(), *WATCHER.values()), (WRITE_TO_OUTPUT, OPEN_TO_READ))


def lock_asker(writable_dir_fd: int, requests: Sequence[int], *, memory_bytes: int = 768 * MIB) -> bool:
    """The same for one that talks to its device through an open descriptor by these ioctl requests. Raises OSError."""
    _end_with_parent()
    _forbid_new_privileges()
    _landlock([(writable_dir_fd, READ_FILE | WRITE_FILE | MAKE_REG | TRUNCATE)])
    _limit({resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_NPROC: 0, resource.RLIMIT_CORE: 0})
    allowed = Condition(IOCTL, 1, values=tuple(requests))
    return _seccomp((*RUNTIME.values(), *PULLER.values()), (allowed,))


def lock_writing(writable_dir_fds: Sequence[int]) -> None:
    """Let this process and all it starts read everything, and create, change and remove only beneath these folders.

    Only where the kernel has Landlock. It ends with the process that started it. Raises OSError.
    """
    _end_with_parent()
    _forbid_new_privileges()
    _limit({resource.RLIMIT_CORE: 0})
    _landlock([(fd, ~LANDLOCK_READS) for fd in writable_dir_fds], reading=True)


def lock_tool(rules: Sequence[tuple[int, int]], *, memory_bytes: int, cpu_s: int, output_bytes: int) -> None:
    """Let this process and the program it becomes use only the (descriptor, Landlock rights) given, and threads.

    No network, no other process, no file above `output_bytes`. It ends with the process that started it.
    Raises OSError.
    """
    libc = _libc()
    _end_with_parent()
    # The agent's only right must not reach the program: it could take the seal off the original that it reads.
    _checked(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "ambient rights")
    libc.prctl(PR_CAPBSET_DROP, CAP_LINUX_IMMUTABLE, 0, 0, 0)  # refused to all but root, and then of no use
    _forbid_new_privileges()
    _landlock(rules)
    _limit({
        resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_CPU: cpu_s, resource.RLIMIT_FSIZE: output_bytes,
        resource.RLIMIT_CORE: 0,
    })  # fmt: skip
    _refuse()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _end_with_parent() -> None:
    """One that is stopped would else stay for ever."""
    _checked(_libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "end with the parent")


def _forbid_new_privileges() -> None:
    libc = _libc()
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _checked(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")


def _limit(limits: Mapping[int, int]) -> None:
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (limit, limit))


def _landlock(rules: Sequence[tuple[int, int]], *, reading: bool = False) -> None:
    """Deny all paths, ports and foreign signals but the (descriptor, rights) given, if the kernel has Landlock.

    With `reading` only what changes files is denied.
    """
    libc = _libc()
    abi = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_VERSION_FLAG)
    if abi < 0 and ctypes.get_errno() in (errno.ENOSYS, errno.EOPNOTSUPP):
        return
    _checked(abi, "Landlock")
    handled = LANDLOCK_FS_BY_ABI[min(abi, len(LANDLOCK_FS_BY_ABI) - 1)]
    nets = (LANDLOCK_NET, LANDLOCK_SCOPED)
    if reading:
        handled, nets = handled & ~LANDLOCK_READS, (0, 0)
    attributes = struct.pack("QQQ", handled, *nets)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = _checked(
        libc.syscall(SYS_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0), "Landlock ruleset"
    )
    try:
        for fd, rights in rules:
            rule = struct.pack("=Qi", rights & handled, fd)
            _checked(libc.syscall(SYS_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0), "Landlock rule")
        _checked(libc.syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0), "Landlock")
    finally:
        os.close(ruleset)


class _Filter(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _seccomp(allowed: Iterable[tuple[int, int]], conditions: Iterable[Condition]) -> bool:
    """Kill the process at any system call that isn't allowed; False on machines without a table."""
    machine = MACHINES.get(os.uname().machine)
    if machine is None:
        return False
    program: list[Instruction] = []
    for numbers in allowed:
        program += [(BPF_EQUAL, 0, 1, numbers[machine[0]]), (BPF_RETURN, 0, 0, SECCOMP_ALLOW)]
    for condition in (*conditions, *NOT_EXECUTABLE):
        program += condition.program(machine[0])
    _filter(machine, [*program, (BPF_RETURN, 0, 0, SECCOMP_KILL)])
    return True


def _refuse() -> None:
    """Answer what no tool needs with an error, where the system calls of the machine are known."""
    machine = MACHINES.get(os.uname().machine)
    if machine is None:
        return
    column, refused = machine[0], (BPF_RETURN, 0, 0, SECCOMP_REFUSE | errno.EACCES)
    program: list[Instruction] = [
        (BPF_EQUAL, 0, 4, CLONE[column]),
        (BPF_LOAD, 0, 0, ARGUMENT_AT),
        (BPF_ANY_BIT, 0, 1, CLONE_THREAD),
        (BPF_RETURN, 0, 0, SECCOMP_ALLOW),
        refused,
        (BPF_EQUAL, 0, 1, CLONE3[column]),  # its flags are out of sight; the C library takes clone then
        (BPF_RETURN, 0, 0, SECCOMP_REFUSE | errno.ENOSYS),
    ]
    for numbers in NEVER.values():
        program += [(BPF_EQUAL, 0, 1, numbers[column]), refused]
    # A child that doesn't become another program keeps the agent's right to take off seals.
    program += [(BPF_EQUAL, 0, 1 + 2 * len(SEALS), IOCTL[column]), (BPF_LOAD, 0, 0, ARGUMENT_AT + 8)]
    for request in SEALS:
        program += [(BPF_EQUAL, 0, 1, request), refused]
    _filter(machine, [*program, (BPF_RETURN, 0, 0, SECCOMP_ALLOW)])


def _filter(machine: tuple[int, int], decisions: Sequence[Instruction]) -> None:
    """Have the kernel decide about every system call; one of another machine's interface kills."""
    column, architecture = machine
    program: list[Instruction] = [
        (BPF_LOAD, 0, 0, ARCH_AT),
        (BPF_EQUAL, 1, 0, architecture),
        (BPF_RETURN, 0, 0, SECCOMP_KILL),
        (BPF_LOAD, 0, 0, NUMBER_AT),
    ]
    if column == 0:  # the x32 interface would give every call a second number
        program += [(BPF_AT_LEAST, 0, 1, X32_BIT), (BPF_RETURN, 0, 0, SECCOMP_KILL)]
    program += decisions
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    block = _Filter(len(program), ctypes.addressof(code))
    _checked(_libc().prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(block), 0, 0), "seccomp")
