"""Examines a station as it is installed: topics, each for a limited time, so that one that hangs hides no other."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from agent.doctor.disks import look_at_disks
from agent.doctor.dock import look_at_dock
from agent.doctor.evidence import (
    look_at_calendar,
    look_at_clock,
    look_at_configuration,
    look_at_journal,
    look_at_key,
    look_at_store,
)
from agent.doctor.finding import Case, Finding, Grade, Topic
from agent.doctor.inboxes import look_at_inboxes
from agent.doctor.installation import look_at_helpers, look_at_package
from agent.doctor.permissions import look_at_permissions, look_at_seals
from agent.doctor.rooms import look_at_rooms
from agent.doctor.service import look_at_page, look_at_provider, look_at_unit
from agent.errors import AgentError

TOPICS: Final[Mapping[str, Topic]] = {
    topic.name: topic
    for topic in (
        Topic("package", "安装包", look_at_package, 120.0),
        Topic("helpers", "辅助进程", look_at_helpers, 60.0),
        Topic("configuration", "配置", look_at_configuration, 60.0, as_service=True),
        Topic("permissions", "权限", look_at_permissions, 60.0),
        Topic("seals", "防改标志", look_at_seals, 20.0, as_service=True),
        Topic("dock", "采集口", look_at_dock, 20.0),
        Topic("disks", "磁盘", look_at_disks, 60.0),
        Topic("rooms", "询问室、听证室", look_at_rooms, 60.0, as_service=True),
        Topic("inboxes", "收件夹", look_at_inboxes, 20.0, as_service=True),
        Topic("service", "服务", look_at_unit, 20.0),
        Topic("page", "状态页", look_at_page, 30.0),
        Topic("provider", "统一认证", look_at_provider, 20.0, as_service=True),
        Topic("clock", "时钟", look_at_clock, 30.0, as_service=True),
        Topic("calendar", "日历", look_at_calendar, 10.0, as_service=True),
        Topic("journal", "流转记录", look_at_journal, 180.0, as_service=True),
        Topic("key", "密钥", look_at_key, 10.0, as_service=True),
        Topic("store", "专用存储器", look_at_store, 120.0, as_service=True),
    )
}
"""In the order in which they are told. Those `as_service` touch what only the service's user may touch, or prove that
it may: root would leave files behind that the service can't open."""


def examine(topics: Sequence[Topic], case: Case) -> Iterator[tuple[Topic, tuple[Finding, ...]]]:
    """Look at each topic; whatever hinders one is a finding of it. Nothing is raised, and nothing takes for ever."""
    for topic in topics:
        yield topic, _examined(topic, case)


class _Looking(threading.Thread):
    """What hangs in the kernel can't be ended, only left behind; a daemon thread goes with the process."""

    def __init__(self, topic: Topic, case: Case) -> None:
        super().__init__(name=f"doctor-{topic.name}", daemon=True)
        self._topic, self._case = topic, case
        self.found: list[Finding] = []
        self.ended = False

    def run(self) -> None:
        try:
            self.found.extend(self._topic.look(self._case))
        except AgentError as error:
            self.found.append(Finding(Grade.UNKNOWN, f"未能检查：{error.what}", error.what, do_en=error.do))
        except OSError as error:
            self.found.append(Finding(Grade.UNKNOWN, f"未能检查：{error}", f"can't be looked at: {error}"))
        self.ended = True


def report_bug(bug: threading.ExceptHookArgs) -> None:
    """Make a mistake of an examination one of its findings, without a traceback; a `threading.excepthook`."""
    if not isinstance(bug.thread, _Looking):
        threading.__excepthook__(bug)
    else:
        *_, place = traceback.extract_tb(bug.exc_traceback)
        what = f"{bug.exc_type.__name__}, {Path(place.filename).name} {place.lineno}"
        told = f"检查程序自身有误：{what}", f"a mistake of the examination itself: {what}"
        do = "请将此行告知维护人员", "Tell whoever maintains the program; the other lines stand."
        bug.thread.found.append(Finding(Grade.UNKNOWN, *told, *do))
        bug.thread.ended = True


def _examined(topic: Topic, case: Case) -> tuple[Finding, ...]:
    looking = _Looking(topic, case)
    looking.start()
    looking.join(topic.limit_s)
    told = tuple(looking.found)
    if looking.ended and told:
        return told
    if looking.is_alive():
        zh, en = f"{topic.limit_s:g} 秒内没有应答", f"no answer within {topic.limit_s:g} s"
    else:
        zh, en = "检查本身未完成", "the examination itself did not end"
    do = "磁盘或共享可能无响应：journalctl -k", "A disk or share may hang: see `journalctl -k`."
    return (*told, Finding(Grade.UNKNOWN, zh, en, *do))
