"""`capture-agent doctor`: what is wrong with an installation, in words, and how to mend it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from agent.config import Config, load
from agent.doctor import TOPICS, examine, report_bug
from agent.doctor.finding import Case, Finding, Grade, Topic
from agent.errors import ConfigError
from agent.model import Clock
from agent.status.summary import printable
from agent.verbs.base import Add, Exit, json_option

_USER: Final = "capture-agent"
_SPARE_S: Final = 10.0
_WORDS: Final[Mapping[Grade, str]] = {
    Grade.GOOD: "正常 good   ",
    Grade.WARNING: "注意 WARNING",
    Grade.BAD: "故障 BAD    ",
    Grade.UNKNOWN: "未知 unknown",
}

Told = tuple[Topic, tuple[Finding, ...]]


def add_doctor(add: Add) -> None:
    """`capture-agent doctor`."""
    doctor = add("doctor", _doctor, "examine the installation and say what to mend; as root it sees most")
    doctor.add_argument("--only", nargs="+", choices=tuple(TOPICS), metavar="TOPIC", help=f"of {', '.join(TOPICS)}")
    json_option(doctor)


def _doctor(options: argparse.Namespace, clock: Clock) -> int:
    threading.excepthook = report_bug
    case = _case(options, clock)
    wanted = [TOPICS[name] for name in options.only or TOPICS]
    told = []
    for topic, findings in _examined(wanted, case):
        told.append((topic, findings))
        if not options.json:
            print("\n".join(_lines(topic, findings)), flush=True)
    grades = Counter(finding.grade for _, findings in told for finding in findings)
    if options.json:
        listed = [{"topic": topic.name} | asdict(one) for topic, findings in told for one in findings]
        print(json.dumps({"counts": {grade: grades[grade] for grade in Grade}, "findings": listed}, ensure_ascii=False))
    else:
        print("  ".join(f"{_WORDS[grade].strip()} {grades[grade]}" for grade in Grade))
    return Exit.BAD if grades[Grade.BAD] else Exit.DOUBT if grades.keys() - {Grade.GOOD} else Exit.OK


def _case(options: argparse.Namespace, clock: Clock) -> Case:
    config: Config | None = None
    with contextlib.suppress(ConfigError):  # the topic `configuration` tells it, with every line
        config = load(options.config)
    return Case(options.config, config, clock, _owner(config), is_root=os.geteuid() == 0)


def _owner(config: Config | None) -> int | None:
    """Who the service runs as: whoever owns its storage, else the user that the package makes."""
    try:
        if config is not None and config.storage.root.exists():
            return config.storage.root.stat().st_uid
        return pwd.getpwnam(_USER).pw_uid
    except (OSError, KeyError):
        return None


def _examined(wanted: Sequence[Topic], case: Case) -> Iterator[Told]:
    """Look at each topic with the rights it needs, those of the service's user all in one process."""
    theirs = [topic for topic in wanted if topic.as_service]
    if not case.is_root or case.owner in {None, 0} or not theirs:
        yield from examine(wanted, case)
        return
    yield from examine([topic for topic in wanted if not topic.as_service], case)
    yield from _as_service(theirs, case)


def _as_service(topics: Sequence[Topic], case: Case) -> Iterator[Told]:
    assert case.owner is not None
    words = [sys.executable, "-I", "-m", "agent.cli", "--config", str(case.path.absolute()), "doctor", "--json"]
    limit_s = sum(topic.limit_s for topic in topics) + _SPARE_S
    try:
        user = pwd.getpwuid(case.owner)
        done = subprocess.run(
            [*words, "--only", *(topic.name for topic in topics)], user=user.pw_uid, group=user.pw_gid,
            extra_groups=(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=limit_s, check=False, cwd="/",
        )  # fmt: skip
        found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    except (OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
        what = f"can't be looked at as the service's user: {type(error).__name__}"
        yield from ((topic, (Finding(Grade.UNKNOWN, "未能以服务的用户检查", what),)) for topic in topics)
        return
    for topic in topics:
        yield topic, tuple(_finding(one) for one in found if one["topic"] == topic.name)


def _finding(told: Mapping[str, str]) -> Finding:
    return Finding(Grade(told["grade"]), told["zh"], told["en"], told["do_zh"], told["do_en"])


def _lines(topic: Topic, findings: Sequence[Finding]) -> Iterator[str]:
    for one in findings:
        yield printable(f"{_WORDS[one.grade]}  {topic.zh} {topic.name}: {_both(one.zh, one.en)}")
        if one.do_zh or one.do_en:
            yield printable(f"              → {_both(one.do_zh, one.do_en)}")


def _both(zh: str, en: str) -> str:
    return zh if zh == en else f"{zh} ({en})" if zh else en
