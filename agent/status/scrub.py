"""What the status says of the scrub: when all that is held was last read again, and what was found."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from agent.deadline import ZONE
from agent.model import ScrubProgress
from agent.status.words import at, words


def scrub_view(scrub: ScrubProgress) -> dict[str, Any]:
    """All that is known of it, with null for what isn't."""
    return asdict(scrub) | {"began_at": at(scrub.began_at), "full_at": at(scrub.full_at)}


def scrub_fact(scrub: ScrubProgress) -> dict[str, str]:
    """The last complete round, and how far the next one is, in one line."""
    zh, en = "最近一次全量校验：尚未进行", "all files read again: not yet"
    if scrub.full_at is not None:
        when = f"{scrub.full_at.astimezone(ZONE):%Y-%m-%d %H:%M}"
        zh = f"最近一次全量校验 {when}，{scrub.full_files} 个文件，异常 {scrub.full_damaged}"
        en = f"all {scrub.full_files} files read again {when}, {scrub.full_damaged} damaged"
    if scrub.began_at is not None:
        zh += f"；正在校验，已完成 {scrub.files} 个，异常 {scrub.damaged}"
        en += f"; under way: {scrub.files} read, {scrub.damaged} damaged"
    return words(zh, en)
