"""The issue register as pure functions: which recorder a docked device is, and where each handover leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from agent.deadline import ZONE
from agent.errors import JournalError
from agent.model import INBOX, SIMULATED, Custody, Device, DeviceIssued, DeviceReturned, Recorder, Standing

Inventory = Mapping[str, Recorder]
"""The recorders that the bureau owns, by id."""

_LINE_CHARACTERS: Final = 200
_FIRST_YEAR: Final = 2020
_LAST_YEAR: Final = 2199
_UNCHANGED: Final = "Nothing was changed."
_MAY_FOLLOW: Final[Mapping[Custody, frozenset[Custody]]] = {
    Custody.HERE: frozenset({Custody.OUT}),
    Custody.OUT: frozenset({Custody.UNPULLED, Custody.HERE, Custody.WRITTEN_OFF}),
    Custody.UNPULLED: frozenset({Custody.OUT, Custody.HERE, Custody.WRITTEN_OFF}),
    Custody.WRITTEN_OFF: frozenset({Custody.OUT, Custody.HERE}),
}
_IS: Final[Mapping[Custody, str]] = {
    Custody.HERE: "is here: it was not handed out, or was docked and pulled since",
    Custody.OUT: "is handed out already",
    Custody.UNPULLED: "is back already, and waits to be docked",
    Custody.WRITTEN_OFF: "was given up: it is waited for no longer",
}


def recognise(inventory: Inventory, device: Device) -> Recorder | None:
    """The recorder that a docked device is: every mark that the inventory states agrees, and only one recorder's do.

    One that was docked for training is none: a real one that is out would seem to be back.
    """
    if device.vendor == SIMULATED:
        return None
    found = [recorder for recorder in inventory.values() if _has_marks(device, recorder)]
    return found[0] if len(found) == 1 else None


def is_stranger(inventory: Inventory, device: Device) -> bool:
    """Whether nobody has registered a device; an inbox is the station's own, and what is for training is nobody's."""
    is_ours = device.driver == INBOX or device.vendor == SIMULATED
    return not is_ours and recognise(inventory, device) is None


def device_name(device: Device) -> str:
    """What a person knows a recorder by."""
    parts = [part for part in (device.vendor, device.product, device.serial) if part]
    return " ".join(parts) or device.label or device.driver


def step(standing: Standing | None, entry: DeviceIssued | DeviceReturned) -> Standing:
    """Where a recorder is after a handover; None is one that was never handed out. Raises JournalError.

    What it recorded before it came back without docking is still unseen when it is handed out again.
    """
    custody = Custody.HERE if standing is None else standing.custody
    new = Custody.OUT if isinstance(entry, DeviceIssued) else _custody_after(entry)
    if new not in _MAY_FOLLOW[custody]:
        raise _refused(entry, _IS[custody], "Look at `capture-agent device list`.")
    if isinstance(entry, DeviceIssued):
        return _issued(standing, entry)
    assert standing is not None, "nothing else follows on being here"
    if entry.at < standing.issued_at:
        raise _refused(entry, f"was handed out later than that, at {shown(standing.issued_at)}", "Correct the time.")
    unseen_since = standing.unseen_since if new is Custody.UNPULLED else None
    return replace(standing, custody=new, changed_at=entry.at, unseen_since=unseen_since, back_by=None)


def line(text: str) -> str:
    """One line of text as a person gives it; raises ValueError with the reason if it is anything else."""
    text = text.strip()
    if not 1 <= len(text) <= _LINE_CHARACTERS or not text.isprintable():
        raise ValueError(f"must be 1..{_LINE_CHARACTERS} characters on one line, without control characters")
    return text


def moment(text: str) -> datetime:
    """A time like 2026-11-22T08:30, in China's time unless it has a zone; raises ValueError with the reason."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a time like 2026-11-22T08:30") from None
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise ValueError(f"must be a time in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return (time if time.tzinfo else time.replace(tzinfo=ZONE)).astimezone(ZONE)


def shown(time: datetime) -> str:
    """A time as a message tells it, in China's."""
    return time.astimezone(ZONE).isoformat(timespec="minutes")


def _has_marks(device: Device, recorder: Recorder) -> bool:
    pairs = (
        (recorder.product, device.product),
        (recorder.serial, device.serial),
        (recorder.volume_label, device.label),
        (frozenset(recorder.filesystem_ids), frozenset(device.filesystem_ids)),
    )
    return all(stated == found for stated, found in pairs if stated)


def _custody_after(entry: DeviceReturned) -> Custody:
    if entry.docking_id:
        return Custody.HERE
    return Custody.WRITTEN_OFF if entry.unread else Custody.UNPULLED


def _issued(standing: Standing | None, entry: DeviceIssued) -> Standing:
    if entry.back_by is not None and entry.back_by <= entry.at:
        raise _refused(entry, "can't be expected back before it is handed out", "Correct the times.")
    unseen_since = entry.at
    if standing is not None:
        if entry.at < standing.changed_at:
            raise _refused(entry, f"came back later than that, at {shown(standing.changed_at)}", "Correct the time.")
        unseen_since = standing.unseen_since or entry.at
    return Standing(entry.recorder_id, Custody.OUT, entry.at, entry.at, unseen_since, entry.back_by)


def _refused(entry: DeviceIssued | DeviceReturned, why: str, do: str) -> JournalError:
    return JournalError(f"Recorder {entry.recorder_id} {why}.", safe=_UNCHANGED, do=do)
