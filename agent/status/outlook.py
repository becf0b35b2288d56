"""When everything will be stored at the present rate, and what will not be in time: the forecast in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from agent.config import Config, Milestone
from agent.deadline import ZONE
from agent.forecast import HORIZON, Forecast, Load, forecast
from agent.journal.views import Batch, Overview, RecordingView, Waiting
from agent.model import AssetState, SlotProgress
from agent.status.words import at, words

_MISSES_SHOWN: Final = 10
_NOTHING: Final = Forecast((), (), None, more=False)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the forecast looked at: `files` and `bytes` of it, and what it can't foretell.

    `unknown_files` are on recorders whose rate is not known yet, `absent_files` on recorders that are not docked;
    `stuck_files` wait for a person.
    `rate_bytes_s` is None, and nothing is foretold, while that of the store is not known.
    """

    found: Forecast
    files: int
    bytes: int
    unknown_files: int
    absent_files: int
    stuck_files: int
    rate_bytes_s: float | None


def outlook(
    config: Config,
    waiting: Waiting,
    overview: Overview,
    slots: Sequence[SlotProgress],
    store_rate_bytes_s: float | None,
    now: datetime,
) -> Outlook:
    """Foretell when what waits will be stored, or be held where the limit is met by that."""
    rates = {slot.docking_id: slot.rate_bytes_s for slot in slots if slot.rate_bytes_s > 0}
    coming = [
        load
        for docking_id, batches in waiting.coming.items()
        if docking_id in rates
        for load in _pulled(batches, rates[docking_id], now)
    ]
    docked = sum(batch.files for batches in waiting.coming.values() for batch in batches)
    loads, rest_bytes, files = coming, 0, sum(load.files for load in coming)
    central = config.deadline.satisfied_by is Milestone.CENTRAL
    if central:
        loads = coming + [Load(batch.due_at, batch.files, batch.bytes, now) for batch in waiting.held]
        files += waiting.held_in_all.files
        rest_bytes = max(0, waiting.held_in_all.bytes - sum(batch.bytes for batch in waiting.held))
    rate, spans = (store_rate_bytes_s, config.store.hours) if central else (math.inf, ())
    return Outlook(
        forecast(loads, rest_bytes, rate, spans, now) if rate is not None else _NOTHING,
        files,
        sum(load.bytes for load in loads) + rest_bytes,
        docked - sum(load.files for load in coming),
        max(0, waiting.wanted_in_all.files - docked),
        overview.assets[AssetState.STUCK].files,
        rate,
    )


def _pulled(batches: Sequence[Batch], rate_bytes_s: float, now: datetime) -> Iterator[Load]:
    """When each batch of a recorder will be here: it is read in this order."""
    size_bytes = 0
    for batch in batches:
        size_bytes += batch.bytes
        ready_at = now + min(timedelta(seconds=size_bytes / rate_bytes_s), HORIZON)
        yield Load(batch.due_at, batch.files, batch.bytes, ready_at)


def stored_by(row: RecordingView, waiting: Waiting, seen: Outlook) -> datetime | None:
    """When a recording will be stored at the latest; None where nothing can be said."""
    is_here = row.asset.state is AssetState.HELD
    is_coming = row.asset.state is AssetState.WANTED and row.docking_id in waiting.coming
    return seen.found.stored_by(row.recording.deadline.alarm_at) if is_here or is_coming else None


def outlook_view(seen: Outlook) -> dict[str, Any]:
    """The forecast as the status gives it; the words are for people."""
    found, rate = seen.found, seen.rate_bytes_s
    return {
        **_words(seen),
        "rate_bytes_s": None if rate is None or math.isinf(rate) else round(rate),
        "files": seen.files,
        "bytes": seen.bytes,
        "all_by": at(found.all_by) if seen.files and rate is not None else None,
        "missed": found.files_missed,
        "or_more": found.more and bool(found.misses),
        "misses": [
            {"due_at": at(miss.due_at), "files": miss.files, "stored_by": at(miss.stored_by)}
            for miss in found.misses[:_MISSES_SHOWN]
        ],
        "unknown_files": seen.unknown_files,
        "absent_files": seen.absent_files,
        "stuck_files": seen.stuck_files,
    }


def problems_ahead(seen: Outlook | None) -> list[dict[str, str]]:
    """What a person should do something about before it is too late."""
    if seen is None or not (files := seen.found.files_missed):
        return []
    more = "以上" if seen.found.more else ""
    zh = f"按目前速度，{files} 个{more}记录来不及在期限前入库"
    return [words(zh, f"at the present rate {files}{' or more' if more else ''} recordings will not be stored in time")]


def _words(seen: Outlook) -> dict[str, str]:
    found, rate = seen.found, seen.rate_bytes_s
    if not seen.files:
        told = words("没有等待入库的记录", "nothing waits to be stored")
        if seen.unknown_files or seen.absent_files or seen.stuck_files:
            told = words("没有其他等待入库的记录", "nothing else waits to be stored")
    elif rate is None:
        told = words(
            f"何时全部入库未知：{seen.files} 个待入库，尚无传输", "not known when all is stored: nothing moved yet"
        )
    else:
        pace = "" if math.isinf(rate) else f" {rate / 1e6:.1f} MB/s"
        zh, en = f"按目前速度{pace}", f"at the present rate{pace}"
        if found.all_by is None:
            told = words(f"{zh}，一年内不能全部入库", f"{en} not all will be stored within a year")
        else:
            by = (found.all_by + timedelta(minutes=1)).astimezone(ZONE)
            told = words(
                f"{zh}，全部将于 {by:%m月%d日 %H:%M} 前入库", f"{en} all will be stored by {by:%Y-%m-%d %H:%M}"
            )
    if found.files_missed:
        told = words(
            f"{told['zh']}；来不及 {found.files_missed} 个", f"{told['en']}; not in time: {found.files_missed}"
        )
    for count, zh, en in (
        (seen.unknown_files, "正在采集、速度未知", "being pulled at a rate not known yet"),
        (seen.absent_files, "在未连接的记录仪上", "on recorders that are not docked"),
        (seen.stuck_files, "需要处理", "that need a person"),
    ):
        if count:
            told = words(f"{told['zh']}；不含 {count} 个（{zh}）", f"{told['en']}; without {count} {en}")
    return told
