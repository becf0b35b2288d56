"""Which recorders are here, handed out or not back, and how long footage on them may still wait: never an officer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from agent.config import Config
from agent.config.dock import Unknown
from agent.deadline import ZONE, Rules, deadline_for
from agent.journal.views import DockingView
from agent.model import SIMULATED, Basis, Custody, Device, Recorder, Standing
from agent.register import Inventory, is_stranger
from agent.status.words import Whereabouts, named

Json = dict[str, Any]

DOCKINGS: Final = 20
"""Among how many of the newest dockings recorders that the inventory doesn't know are looked for."""

_OF_CUSTODY: Final[Mapping[Custody, Whereabouts]] = {
    Custody.HERE: Whereabouts.HERE,
    Custody.OUT: Whereabouts.ISSUED,
    Custody.UNPULLED: Whereabouts.UNPULLED,
    Custody.WRITTEN_OFF: Whereabouts.WRITTEN_OFF,
}


def devices_view(
    inventory: Inventory,
    standings: Mapping[str, Standing],
    dockings: Iterable[DockingView],
    rules: Rules,
    now: datetime,
) -> Json:
    """All recorders, first those with footage that may not be pulled, the most urgent of them first.

    `ran_out` counts those whose earliest possible time limit has passed, `not_back` those expected back before now. One
    that was docked but is in no inventory is `unregistered`; without an inventory there is none.
    """
    ids = sorted(inventory.keys() | standings.keys())
    rows = [_row(name, inventory.get(name), standings.get(name), rules, now) for name in ids]
    rows.sort(key=lambda row: (row["alarm_at"] is None, row["alarm_at"] or "", row["back_by"] or "~", row["id"]))
    found = {_identity(docking.device): docking for docking in reversed(list(dockings))}
    strangers = [_stranger(docking) for docking in found.values() if is_stranger(inventory, docking.device)]
    return {
        "recorders": rows,
        "missing": sum(row["alarm_at"] is not None for row in rows),
        "ran_out": sum(row["ran_out"] for row in rows),
        "not_back": sum(row["state"]["name"] == Whereabouts.NOT_BACK for row in rows),
        "unregistered": strangers if inventory else [],
    }


def quarantined(config: Config, devices: Mapping[str, Device]) -> Mapping[str, Whereabouts]:
    """Those devices from which everything is marked: docked for training, or not in the inventory; and with what."""
    marks = {name: Whereabouts.SIMULATED for name, device in devices.items() if device.vendor == SIMULATED}
    if config.dock.unknown is not Unknown.QUARANTINE or not config.inventory:
        return marks
    strange = {name for name, device in devices.items() if is_stranger(config.inventory, device)}
    return dict.fromkeys(strange, Whereabouts.UNREGISTERED) | marks


def device_lines(devices: Mapping[str, Any], *, everything: bool = False) -> Iterator[str]:
    """The same as text for a terminal; without `everything` only what somebody should look at."""
    for row in devices["recorders"]:
        if everything or row["alarm_at"] is not None:
            since = f"  since {row['since']}" if row["since"] else ""
            back_by = f"  back by {row['back_by']}" if row["back_by"] else ""
            yield f"recorder {row['id']}  {row['number']}  {_both(row['state'])}{since}{back_by}"
            if row["warning"]:
                yield f"  {_both(row['warning'])}"
    for row in devices["unregistered"]:
        marks = "  ".join(f"{name}={row[name]!r}" for name in ("product", "serial", "volume_label", "filesystem_ids"))
        yield f"docked {row['docked_at']}  {_both(row['state'])}  {marks}"


def _row(name: str, recorder: Recorder | None, standing: Standing | None, rules: Rules, now: datetime) -> Json:
    unseen_since = standing.unseen_since if standing else None
    row: Json = {
        "id": name,
        "number": recorder.number if recorder else "",
        "kind": named(recorder.kind) if recorder else None,
        "registered": recorder is not None,
        "state": named(_OF_CUSTODY[standing.custody] if standing else Whereabouts.HERE),
        "since": _at(unseen_since),
        "changed_at": _at(standing.changed_at) if standing else None,
        "back_by": _at(standing.back_by) if standing else None,
        "alarm_at": None,
        "basis": None,
        "citation": "",
        "ran_out": False,
        "warning": None,
    }
    if standing is None or unseen_since is None:
        return row
    limit = deadline_for(rules, unseen_since, unseen_since)
    ran_out = now >= limit.alarm_at
    is_late = ran_out or (standing.back_by is not None and now >= standing.back_by)
    if standing.custody is Custody.OUT and is_late:
        row["state"] = named(Whereabouts.NOT_BACK)
    words = {"alarm_at": _at(limit.alarm_at), "basis": named(limit.basis), "citation": limit.citation}
    return row | words | {"ran_out": ran_out, "warning": _warning(limit.alarm_at, limit.basis, now)}


def _warning(alarm_at: datetime, basis: Basis, now: datetime) -> Json:
    """Nobody has seen a recording, so none is called overdue: the words say what may be."""
    if now >= alarm_at:
        zh, en = "最早可能的期限已过", "the earliest possible time limit has passed"
    else:
        day = alarm_at.astimezone(ZONE) - timedelta(days=1)
        zh, en = f"最早期限 {day.month}月{day.day}日 24:00", f"earliest limit 24:00 on {day:%a} {day.day} {day:%b}"
        if basis is Basis.PROVISIONAL:
            zh, en = f"{zh}（暂定）", f"{en} (provisional)"
    return {"zh": f"可能有未采集的音像记录，{zh}", "en": f"there may be footage that was not pulled: {en}"}


def _stranger(docking: DockingView) -> Json:
    device = docking.device
    return {
        "state": named(Whereabouts.UNREGISTERED),
        "docked_at": _at(docking.opened_at),
        "product": device.product,
        "serial": device.serial,
        "volume_label": device.label,
        "filesystem_ids": list(device.filesystem_ids),
    }


def _identity(device: Device) -> tuple[Sequence[str], ...]:
    marks = asdict(device)
    return tuple(marks[name] for name in ("product", "serial", "label", "filesystem_ids"))


def _both(words: Mapping[str, Any]) -> str:
    return f"{words['zh']} ({words['en']})"


def _at(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(ZONE).isoformat(timespec="seconds")
