"""Reads a room's schedule in a process of its own: a calendar may ask for more dates than there is time for."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from agent.child import Child, ChildError
from agent.config.schedules import CHINA, SESSIONS_LIMIT, Schedule, read_schedule
from agent.errors import ConfigError
from agent.model import Planned

_CPU_LIMIT_S: Final = 20
_MEMORY_LIMIT_BYTES: Final = 1 << 30
_STALL_LIMIT_S: Final = 60.0
_TOLD_LIMIT: Final = 20
_NEITHER: Final = "Sessions that were read from it before stay planned; a session that runs goes on."


async def read(path: Path, first: datetime, last: datetime) -> Schedule:
    """As config.schedules.read_schedule, within bounds of time and memory; raises ConfigError for a wrong file."""
    try:
        child = await Child.start(
            __name__, [str(path), first.isoformat(), last.isoformat()], stall_limit_s=_STALL_LIMIT_S
        )
    except ChildError as error:
        raise _refused(path, f"its reader {error}") from error
    sessions: list[Planned] = []
    try:
        while isinstance(line := await child.line(), dict) and "end" not in line:
            if len(sessions) >= SESSIONS_LIMIT or "refused" in line:
                raise _refused(path, str(line.get("refused", "has too many sessions")))
            sessions.append(_planned(line))
        if not isinstance(line, dict):
            raise ChildError("ended too early")
        return Schedule(tuple(sessions), tuple(line["end"]))
    except (ChildError, ValueError, KeyError, TypeError) as error:
        raise _refused(path, f"can't be read within bounds: its reader {error}") from error
    finally:
        await child.stop()


def _planned(line: dict[str, Any]) -> Planned:
    start, end = (datetime.fromisoformat(line.pop(name)).astimezone(CHINA) for name in ("start", "end_at"))
    return Planned(start=start, end=end, participants=tuple(line.pop("participants")), **line)


def _refused(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path}: {why}", safe=_NEITHER, do="Correct the file; it is read again within a minute.")


def main(arguments: Sequence[str]) -> int:
    """Print a line for each session, then one with what is wrong."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT_S, _CPU_LIMIT_S))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    path, first, last = Path(arguments[0]), *map(datetime.fromisoformat, arguments[1:])
    try:
        found = read_schedule(path, first, last)
    except OSError as error:
        _say({"refused": f"can't be read: {error.strerror}"})
    except (ValueError, MemoryError) as error:
        _say({"refused": str(error) or "needs too much memory"})
    else:
        for one in found.sessions:
            _say(
                {
                    "key": one.key, "start": one.start.isoformat(), "end_at": one.end.isoformat(), "title": one.title,
                    "stage": one.stage, "case_number": one.case_number, "participants": one.participants,
                }
            )  # fmt: skip
        more = len(found.problems) - _TOLD_LIMIT
        told = [*found.problems[:_TOLD_LIMIT], *([f"{path}: {more} more mistakes"] if more > 0 else [])]
        _say({"end": told})
    sys.stdout.flush()
    return 0


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
