"""An enforcement activity: what a person states of it, and how its interruptions are explained."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agent.model.evidence import Deadline

ACTIVITY_LIMIT: Final = 6000
"""So many recordings can an activity have: a day of four cameras, a minute each, is 5760."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A spoken explanation: so many milliseconds into a recording."""

    recording_id: str
    offset_ms: int


@dataclass(frozen=True, slots=True)
class ActivityStated:
    """A person states an activity, or states it anew: from arrival to departure, with these recordings.

    `conditions` are those of the profile's obligations that held, in its words; `must_full`: the bureau's own list
    (音像记录事项清单) asks for full-course recording.
    """

    activity_id: str
    stage: str
    arrived_at: datetime
    left_at: datetime
    recordings: tuple[str, ...]
    who: str
    why: str
    conditions: tuple[str, ...] = ()
    must_full: bool = False


@dataclass(frozen=True, slots=True)
class ActivityEnded:
    """The activity of a recording ended later (or is no longer said to): its limit goes from `old` to `new`."""

    asset_id: str
    activity_id: str
    ended_at: datetime | None
    old: Deadline
    new: Deadline


@dataclass(frozen=True, slots=True)
class GapExplained:
    """A person explains an interruption of an activity: its `number` counts the explanations of this activity.

    `device_id`: of this source of a room alone, while another one was recorded. By `voice`, `written` in a file, or by
    `text` only; in each case asset `document` is what is kept of it. Not `resumed`: recording could not go on.
    """

    activity_id: str
    number: int
    start: datetime
    end: datetime
    code: str
    text: str
    who: str
    document: str
    written: bool = False
    resumed: bool = True
    voice: Voice | None = None
    device_id: str = ""


@dataclass(frozen=True, slots=True)
class GapConfirmed:
    """A supervisor accepts the explanation of that number, or refuses it."""

    activity_id: str
    number: int
    who: str
    why: str
    accepted: bool = True


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation as it stands: what was said, and what a supervisor said of it (None: nothing yet)."""

    said: GapExplained
    confirmed: GapConfirmed | None = None
