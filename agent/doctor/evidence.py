"""Whether what evidence rests on is in order: configuration, calendar, journal, store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final

from agent.clocks import ClockWatch, Step
from agent.config import Config, checked
from agent.config.environment import credential
from agent.deadline import ZONE, coverage
from agent.doctor.finding import Case, Finding, Grade
from agent.errors import AgentError, ConfigError
from agent.journal import Reader, verify
from agent.lines.receiver import Compared, compared
from agent.lines.wire import Trouble
from agent.model import Clock
from agent.opening import opened_store
from agent.signing import CREDENTIAL, read_key
from agent.status.clock import clock_problems
from agent.uploader.base import Trait

_STORE_LIMIT_S: Final = 100.0
_SHOWN: Final = 5


def look_at_configuration(case: Case) -> Iterator[Finding]:
    """Every mistake of every file, and whether the store takes its options."""
    do = "改正后运行 capture-agent config check", "Correct it, then run `capture-agent config check`."
    try:
        config = checked(case.path)
        asyncio.run(_made(config, case.clock))
    except ConfigError as error:
        for line in filter(None, error.what.splitlines()):
            yield Finding(Grade.BAD, line, line, *do)
        return
    yield Finding(Grade.GOOD, f"{case.path} 及其旁边的文件无误", f"{case.path} and the files beside it are correct")


async def _made(config: Config, clock: Clock) -> None:
    async with opened_store(config, clock):
        pass


def look_at_clock(case: Case) -> Iterator[Finding]:
    """Who keeps this station's clock right, and what makes its times doubtful."""
    watch = ClockWatch(case.clock, _nobody)
    journal = case.config.storage.root / "journal.db" if case.config is not None else None
    if journal is not None and journal.exists():
        with closing(Reader(journal)) as reader:
            watch.newest = reader.newest()
    asyncio.run(watch.ask())
    clock = watch.state()
    problems = list(clock_problems(clock))
    for problem in problems:
        do = (
            "设置时间服务器（timesyncd.conf 的 NTP=），或人工校准",
            "Set NTP= in timesyncd.conf, or set the clock by hand.",
        )
        yield Finding(Grade.WARNING, problem["zh"], problem["en"], *do)
    if clock.synced is None:
        told = "无从得知时钟是否校准", "whether any time server keeps it right can't be found out"
        yield Finding(Grade.UNKNOWN, *told)
    elif not problems:
        yield Finding(Grade.GOOD, f"已校准（{clock.by}）", f"kept right, says {clock.by}")
    if case.config is not None and case.config.dock.receiver is not None:
        dock = case.config.dock
        yield _by_satellite(asyncio.run(compared(str(dock.receiver), dock.receiver_baud)))


def _by_satellite(said: Compared | Trouble) -> Finding:
    """What a receiver at the dock says of this station's clock, and where it says it is; nothing is kept of either."""
    if isinstance(said, Trouble):
        do = ("检查天线、串口和波特率", "Look at its antenna, its line and the baud rate.")
        told = f"the satellite receiver tells no time: {said}"
        return Finding(Grade.WARNING, f"卫星授时接收机无可用时间（{said}）", told, *do)
    ahead_ms, (zh, en) = said.ahead_ms, _where(said)
    grade = Grade.GOOD if -_RECEIVER_MS <= ahead_ms <= _RECEIVER_MS else Grade.WARNING
    do = ("", "") if grade is Grade.GOOD else ("校准本机时钟", "Have this station's clock set right.")
    told = f"by the satellite receiver this clock is {ahead_ms / 1000:+.1f} s ahead{en}"
    return Finding(grade, f"与卫星授时接收机相差 {ahead_ms / 1000:+.1f} 秒{zh}", told, *do)


def _where(said: Compared) -> tuple[str, str]:
    """As the receiver says, to some hundred metres."""
    if said.place is None:
        return "", ""
    north, east = said.place
    zh = f"{'南' if north < 0 else '北'}纬 {abs(north):.3f}°，{'西' if east < 0 else '东'}经 {abs(east):.3f}°"
    en = f"{abs(north):.3f}° {'S' if north < 0 else 'N'}, {abs(east):.3f}° {'W' if east < 0 else 'E'}"
    return f"；接收机自报位置 {zh}（WGS 84）", f"; it says that it is at {en} (WGS 84)"


_RECEIVER_MS: Final = 2000


async def _nobody(_: Step) -> bool:
    return True


def look_at_calendar(case: Case) -> Iterator[Finding]:
    """Whether this year's holiday notice is known, and from November the next one's."""
    today = case.clock().astimezone(ZONE).date()
    known = coverage(case.known.calendars, today)
    if known.missing is None:
        told = f"放假安排有效至 {known.official_until}", f"holiday notices reach until {known.official_until}"
        yield Finding(Grade.GOOD, *told)
        return
    grade = Grade.BAD if known.missing == today.year else Grade.WARNING
    do = (
        f"按国务院办公厅通知填写 calendar.d/cn-{known.missing}.toml，再 systemctl reload capture-agent",
        f"Enter the notice into calendar.d/cn-{known.missing}.toml, then `systemctl reload capture-agent`.",
    )
    zh = f"缺少 {known.missing} 年放假安排，期限为暂定"
    yield Finding(grade, zh, f"the holiday notice of {known.missing} is missing: limits are provisional", *do)


def look_at_journal(case: Case) -> Iterator[Finding]:
    """Follow the chain and compare every table with the log; changes nothing, also while the service works."""
    path = case.known.storage.root / "journal.db"
    if not path.exists():
        yield Finding(Grade.UNKNOWN, "尚无流转记录", "there is no journal yet: the service has never run")
        return
    report = verify(path)
    if report.consistent:
        yield Finding(Grade.GOOD, f"{report.events} 个事件，均与记录一致", f"{report.events} events, all as recorded")
        return
    do = (
        "停止服务，保留 journal.db 的副本，再运行 capture-agent verify",
        "Stop the service, keep a copy of journal.db, then run `capture-agent verify`.",
    )
    for one in report.differences[:_SHOWN]:
        yield Finding(Grade.BAD, f"{one.where}：{one.what}", f"{one.where}: {one.what}", *do)


def look_at_key(case: Case) -> Iterator[Finding]:
    """The station's signing key, with its fingerprint to compare."""
    try:
        key = read_key(case.known.storage.root, credential(CREDENTIAL))
    except ConfigError as error:
        yield Finding(Grade.WARNING, f"签名密钥不可用：{error.what}", error.what, error.do, error.do)
    else:
        told = f"签名密钥 SHA256 {key.fingerprint}", f"the signing key's SHA256 is {key.fingerprint}"
        yield Finding(Grade.GOOD, *told)


def look_at_store(case: Case) -> Iterator[Finding]:
    """What `store check` finds out, by trying with a probe."""
    config = case.known
    try:
        traits = asyncio.run(_survey(config, case.clock))
    except TimeoutError:
        do = "检查网络和存储", "Check network and storage; what was pulled stays here."
        yield Finding(Grade.BAD, f"{config.store.name} 无应答", f"no answer within {_STORE_LIMIT_S:g} s", *do)
        return
    except AgentError as error:
        yield Finding(Grade.BAD, f"{config.store.name}：{error.what}", error.what, error.do, error.do)
        return
    bad = [trait for trait in traits if trait.good is False]
    for trait in bad:
        what = f"{trait.name}: {trait.what}"
        yield Finding(Grade.BAD, f"{config.store.name}：{what}", what, trait.do, trait.do)
    if not bad:
        good = sum(trait.good is True for trait in traits)
        told = f"{config.store.name}：{good} 项检查合格", f"{config.store.kind}: {good} things were tried, all are good"
        yield Finding(Grade.GOOD, *told)


async def _survey(config: Config, clock: Clock) -> Sequence[Trait]:
    async with asyncio.timeout(_STORE_LIMIT_S), opened_store(config, clock) as store:
        return await store.survey()
