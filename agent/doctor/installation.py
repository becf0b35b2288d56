"""Whether what was installed is there, unaltered, and starts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import agent
from agent.access import tool
from agent.child import Child, ChildError
from agent.doctor.finding import Case, Finding, Grade, ask

_PACKAGE: Final = "capture-agent"
_SHOWN: Final = 5
_LEFT_OUT: Final = ("/usr/share/doc/", "/usr/share/man/")
"""What an administrator may have told dpkg to leave out (dpkg(1), --path-exclude)."""

_LIMIT_S: Final = 25.0


def look_at_package(case: Case) -> Iterator[Finding]:
    """The Debian package: completely installed, its files as they were built (conffiles belong to the station)."""
    known = ask("dpkg-query", "-W", "-f=${db:Status-Abbrev} ${Version}", _PACKAGE)
    if known is None or known[0]:
        told = "不是以 Debian 软件包安装，未比对文件", "not installed as a Debian package: its files were not compared"
        yield Finding(Grade.UNKNOWN, *told)
        return
    state, _, version = known[1].partition(" ")
    if state.strip() != "ii":
        do = "运行 dpkg --configure -a", "Run `dpkg --configure -a`."
        yield Finding(Grade.BAD, f"软件包未装完（{state}）", f"the package is not completely installed ({state})", *do)
    compared = ask("dpkg", "--verify", _PACKAGE, limit_s=100.0)
    if compared is None:
        yield Finding(Grade.UNKNOWN, "未能比对文件", "its files could not be compared")
        return
    lines = [line.split() for line in compared[1].splitlines() if " c " not in line]
    changed = [words[-1] for words in lines if words and not f"{words[-1]}/".startswith(_LEFT_OUT)]
    if changed:
        names = f"{' '.join(changed[:_SHOWN])}{' …' if len(changed) > _SHOWN else ''}"
        do = (
            f"重新安装：apt install --reinstall ./{_PACKAGE}_{version.strip()}_*.deb",
            f"Install it again: `apt install --reinstall ./{_PACKAGE}_{version.strip()}_*.deb`.",
        )
        zh = f"{len(changed)} 个文件缺失或被改动：{names}"
        yield Finding(Grade.BAD, zh, f"{len(changed)} files are missing or were altered: {names}", *do)
    else:
        told = f"{version.strip()}，文件完好", f"{version.strip()}, its files are as they were built"
        yield Finding(Grade.GOOD, *told)


def look_at_helpers(case: Case) -> Iterator[Finding]:
    """The locked processes that read recorders, and ffmpeg in its cage."""
    yield asyncio.run(_reader())
    yield asyncio.run(_ffmpeg(is_needed=case.config is None or case.config.access.enabled))


async def _reader() -> Finding:
    """Lets the reader of filesystems look at a file that is none: it says so only from inside its sandbox."""
    do = (
        "重新安装软件包；内核须支持 seccomp 和 Landlock",
        "Install the package again; the kernel needs seccomp, Landlock.",
    )
    try:
        child = await Child.start(
            "agent.drivers.parser", [str(Path(agent.__file__)), "20", str(1 << 30)], stall_limit_s=_LIMIT_S
        )
    except ChildError as error:
        return Finding(Grade.BAD, f"读取进程：{error}", f"the reader of recorders {error}", *do)
    try:
        answers = [await child.line(), await child.line()]
    except ChildError as error:
        return Finding(Grade.BAD, f"读取进程：{error}", f"the reader of recorders {error}", *do)
    finally:
        await child.stop()
    match answers:
        case [{"source": _}, {"error": {"kind": "no-filesystem"}}]:
            return Finding(
                Grade.GOOD, "读取进程可以启动并锁定自己", "the reader of recorders starts and locks itself in"
            )
        case [*_, {"error": {"message": str(message)}}]:
            return Finding(Grade.BAD, f"读取进程：{message}", f"the reader of recorders says: {message}", *do)
    return Finding(Grade.BAD, "读取进程应答有误", "the reader of recorders answers what it should not", *do)


async def _ffmpeg(*, is_needed: bool) -> Finding:
    try:
        return Finding(Grade.GOOD, version := await tool.version(), version)
    except tool.ToolError as error:
        grade = Grade.BAD if is_needed else Grade.WARNING
        do = "运行 apt install ffmpeg", "Run `apt install ffmpeg`; originals are pulled and stored without it."
        return Finding(grade, "没有可用的 ffmpeg，不能制作查阅副本", str(error), *do)
