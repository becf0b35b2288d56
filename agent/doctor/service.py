"""How systemd sees the service, and what the service says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from agent import __version__
from agent.doctor.finding import Case, Finding, Grade, ask
from agent.screens.provider import Provider, ProviderError
from agent.screens.tls import ends_at
from agent.status.client import StatusUnavailable, fetch_status

UNIT: Final = "capture-agent.service"
_ASKED: Final = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "ExecMainStatus", "NRestarts", "WatchdogUSec",
    "NeedDaemonReload", "ActiveEnterTimestamp",
)  # fmt: skip
_GUIDE: Final = Path("/usr/share/doc/capture-agent/operations.md")
_DAYS: Final = 30
_LOG: Final = ("查看 journalctl -u capture-agent -p warning", "See `journalctl -u capture-agent -p warning`.")


def look_at_unit(case: Case) -> Iterator[Finding]:
    """State, restarts and watchdog as systemd tells them."""
    told = (
        ask("systemctl", "show", UNIT, f"--property={','.join(_ASKED)}")
        if Path("/run/systemd/system").exists()
        else None
    )
    if told is None or told[0]:
        yield Finding(Grade.UNKNOWN, "systemd 无应答", "systemd does not run here, or does not answer")
        return
    yield from judged(dict(line.split("=", 1) for line in told[1].splitlines() if "=" in line))
    failed = ask(
        "journalctl", "-q", "-t", "capture-agent", "-p", "crit", f"--since=-{_DAYS}d", "-o", "short-iso", "-n", "1"
    )
    if failed is not None and (line := failed[1].strip()):
        yield Finding(Grade.WARNING, f"{_DAYS} 天内曾失败：{line}", f"it failed within {_DAYS} days: {line}", *_LOG)


def judged(shown: Mapping[str, str]) -> Iterator[Finding]:
    """What the properties of the unit mean; see org.freedesktop.systemd1(5)."""
    if shown.get("LoadState") != "loaded":
        do = "重新安装软件包", "Install the package again."
        yield Finding(Grade.BAD, f"{UNIT} 未安装", f"{UNIT} can't be loaded: {shown.get('LoadState')}", *do)
        return
    if shown.get("UnitFileState") != "enabled":
        do = "运行 systemctl enable capture-agent", "Run `systemctl enable capture-agent`."
        yield Finding(Grade.BAD, "开机时不会启动", "it is not started with the station", *do)
    yield _activity(shown)
    if restarts := int(shown.get("NRestarts") or 0):
        told = (
            f"自上次由人启动以来重启 {restarts} 次",
            f"it was started again {restarts} times since a person started it",
        )
        yield Finding(Grade.WARNING, *told, *_LOG)
    if shown.get("WatchdogUSec") in {"0", "infinity"}:
        do = "移走关闭它的 drop-in（systemctl cat capture-agent）", "Remove the drop-in that does it (`systemctl cat`)."
        yield Finding(Grade.WARNING, "看门狗被关闭", "its watchdog is switched off", *do)
    if shown.get("NeedDaemonReload") == "yes":
        do = "运行 systemctl daemon-reload", "Run `systemctl daemon-reload`."
        yield Finding(
            Grade.WARNING, "磁盘上的单元文件比生效的新", "its unit on the disk is newer than the one in force", *do
        )


def _activity(shown: Mapping[str, str]) -> Finding:
    state, result, code = (shown.get(name, "") for name in ("ActiveState", "Result", "ExecMainStatus"))
    if state == "active":
        since = shown.get("ActiveEnterTimestamp", "")
        return Finding(Grade.GOOD, f"运行中，自 {since}", f"it runs since {since}")
    if code == "3":
        do = (
            "运行 capture-agent config check，改正后 systemctl start capture-agent",
            "Run `capture-agent config check`.",
        )
        return Finding(Grade.BAD, "因配置有误未运行", "it does not run: the configuration is wrong", *do)
    do = ("运行 systemctl start capture-agent；" + _LOG[0], "Run `systemctl start capture-agent`. " + _LOG[1])
    return Finding(
        Grade.BAD, f"未运行（{state}，{result}，{code}）", f"it does not run: {state}, {result}, exit {code}", *do
    )


def look_at_certificate(path: Path | None, now: datetime) -> Iterator[Finding]:
    """How long browsers take the certificate of the screens."""
    if path is None:
        return
    do = "更换证书后 systemctl reload capture-agent", "Put a renewed one there, then `systemctl reload capture-agent`."
    try:
        end = ends_at(path)
    except (OSError, ValueError) as error:
        yield Finding(Grade.BAD, f"页面证书无法读取：{path}", f"the certificate {path} can't be read: {error}", *do)
        return
    day = f"{end:%Y-%m-%d}"
    if end <= now:
        yield Finding(Grade.BAD, f"页面证书已于 {day} 到期", f"the certificate of the screens ended on {day}", *do)
    elif end <= now + timedelta(days=_DAYS):
        yield Finding(Grade.WARNING, f"页面证书 {day} 到期", f"the certificate of the screens ends on {day}", *do)
    else:
        yield Finding(Grade.GOOD, f"页面证书有效至 {day}", f"the certificate of the screens is good until {day}")


def look_at_page(case: Case) -> Iterator[Finding]:
    """Its certificate, the status page, and each problem that it tells."""
    yield from look_at_certificate(case.known.status.tls_certificate, case.clock())
    root = case.known.storage.root
    try:
        shown = fetch_status(root)
    except StatusUnavailable as error:
        yield Finding(Grade.BAD, f"状态页无应答：{root}", error.what, _LOG[0], error.do)
        return
    running = shown["station"]["version"]
    if running != __version__:
        do = "运行 systemctl restart capture-agent", "Run `systemctl restart capture-agent`."
        zh = f"运行的是 {running}，装的是 {__version__}"
        yield Finding(Grade.WARNING, zh, f"{running} runs, {__version__} is installed", *do)
    problems = shown["health"]["problems"]
    for problem in problems:
        do = f"见 {_GUIDE.with_suffix('.zh-CN.md')}", f"See the table in {_GUIDE}."
        yield Finding(Grade.WARNING, problem["zh"], problem["en"], *do)
    if not problems:
        yield Finding(Grade.GOOD, "状态页：正常", f"it answers, and tells no problem; journal at event {shown['seq']}")


def look_at_provider(case: Case) -> Iterator[Finding]:
    """Whether the identity provider answers and makes sense; the unit may still keep the service from it."""
    chosen = case.known.oidc
    if not chosen.issuer:
        yield Finding(Grade.GOOD, "未配置，仅用本站账号", "none is configured: accounts of this station only")
        return
    try:
        asyncio.run(Provider(chosen).check())
    except ProviderError as error:
        do = "检查 [oidc]、认证平台和网络；本站账号可以登录"
        yield Finding(Grade.WARNING, f"统一认证不可用：{error.what}", error.what, do, error.do)
        return
    yield Finding(Grade.GOOD, f"{chosen.issuer} 应答正常", f"{chosen.issuer} answers as it should")
