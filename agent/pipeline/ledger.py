"""The ledger of a room's session: what recorder and clock tell becomes lines, and what goes on now alarms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from agent.continuity import START_LIMIT
from agent.model import SessionNoted, SessionStarted
from agent.pipeline.segments import at
from agent.rooms.protocol import Back, Begun, Cause, Closed, Lost, Noticed, Report

GAP: Final = "gap"
LATE: Final = "late"
OVERRUN: Final = "overrun"
MISSING: Final = "missing"
SPACE: Final = "space"
EXTENDED: Final = "extended"

LATE_AFTER: Final = timedelta(seconds=60)
OVERRUN_AFTER: Final = timedelta(minutes=5)
MISSING_AFTER: Final = timedelta(seconds=60)
_LINES_LIMIT: Final = 5000


class Ledger:
    """The lines of one session; each is to be journalled. `lines` are those that a crash left, if it is resumed."""

    def __init__(self, started: SessionStarted, lines: Iterable[SessionNoted] = ()) -> None:
        self._started = started
        self._open = {_key(line): line for line in lines if line.end is None}
        self._begun = {line.source for line in lines if line.kind == GAP}
        self._written = 0
        self._ended_gaps: dict[str, SessionNoted] = {}
        self.gaps = dict.fromkeys(started.sources, 0)
        for line in lines:
            if line.kind == GAP and line.source in self.gaps:
                self.gaps[line.source] += 1

    def began(self, now: datetime, short_bytes: int = 0) -> list[SessionNoted]:
        """What is to be said at the start: too late for the plan, or `short_bytes` of space are missing."""
        lines, planned = [], self._started.planned_start
        if planned is not None and now - planned > LATE_AFTER:
            lines.append(self._line("", LATE, planned, now))
        if short_bytes:
            lines.append(self._line("", SPACE, now, detail={"missing_bytes": short_bytes}))
        return lines

    def outage(self, source: str, since: datetime, detail: Mapping[str, object]) -> list[SessionNoted]:
        """Nothing recorded this source since then, because nothing ran here; what still goes on is told anew."""
        self._begun.add(source)
        over = [line for line in self._open.values() if line.source == source and line.kind not in (GAP, MISSING)]
        for line in over:
            self._open.pop(_key(line))
        ended = [replace(line, end=max(line.start, since)) for line in over]
        return ended + self._gap(source, since, Cause.RECORDER, detail)

    def hear(self, report: Report) -> list[SessionNoted]:
        """The lines that a report makes."""
        match report:
            case Lost(source, since_us, cause, detail):
                return self._gap(source, at(since_us), cause, {"detail": detail[:200]} if detail else {})
            case Begun(source, at_us=at_us):
                return self._first(source, at(at_us))
            case Back(source, at_us):
                return self._first(source, at(at_us)) + self._end(source, GAP, at(at_us))
            case Closed(source, start_us=start_us):
                return self._sharpened(source, at(start_us))
            case Noticed():
                return self._noticed(report)
        return []

    def passing(self, now: datetime) -> list[SessionNoted]:
        """What the time that passes makes: sources that never came, and an end that was planned earlier."""
        started, planned = self._started.started_at, self._started.planned_end
        absent = [
            name for name in self._started.sources if name not in self._begun and not self._is_open(name, MISSING)
        ]
        lines = [self._line(name, MISSING, started) for name in absent if now - started > MISSING_AFTER]
        if planned is not None and now - planned > OVERRUN_AFTER and not self._is_open("", OVERRUN):
            lines.append(self._line("", OVERRUN, planned))
        return lines

    def extend(self, planned_end: datetime, now: datetime) -> list[SessionNoted]:
        """Another end is planned: what ran over the one before doesn't any more."""
        self._started = replace(self._started, planned_end=planned_end)
        return self._end("", OVERRUN, now)

    def ended(self, now: datetime) -> list[SessionNoted]:
        """Whatever goes on ends with the session."""
        lines = [replace(line, end=max(line.start, now)) for line in self._open.values()]
        self._open.clear()
        return lines

    def noticed(self, source: str) -> tuple[str, ...]:
        """The kinds of what goes on at a source now, besides gaps."""
        return tuple(
            sorted(
                line.kind for line in self._open.values() if line.source == source and line.kind not in (GAP, MISSING)
            )
        )

    def is_missing(self, source: str) -> bool:
        """Whether nothing ever came from it, though it should have by now."""
        return self._is_open(source, MISSING)

    def _first(self, source: str, begun: datetime) -> list[SessionNoted]:
        """The first that comes from a source: what it was late is a gap, whoever told of it before."""
        lines = self._end(source, MISSING, begun)
        late = begun - self._started.started_at > START_LIMIT
        if source not in self._begun and late and not self._is_open(source, GAP):
            lines += self._gap(source, self._started.started_at, Cause.UNREACHABLE, {})
        self._begun.add(source)
        return lines + self._end(source, GAP, begun)

    def _sharpened(self, source: str, start: datetime) -> list[SessionNoted]:
        """A file may begin with what came before it was begun: a gap ended as early as what follows it begins."""
        line = self._ended_gaps.pop(source, None)
        if line is None or line.end is None or start >= line.end:
            return []
        return [replace(line, end=max(line.start, start))]

    def _gap(self, source: str, since: datetime, cause: str, detail: Mapping[str, object]) -> list[SessionNoted]:
        before = self._open.get((source, GAP, ""))
        if before is not None:  # what is known of the cause changes; the gap began when it began
            since = before.start
            if before.cause == cause:
                return []
        elif source in self.gaps:
            self.gaps[source] += 1
        return [self._line(source, GAP, since, cause=str(cause), detail=detail)]

    def _noticed(self, report: Noticed) -> list[SessionNoted]:
        detail = {name: value for name, value in (("value", report.value), ("track", report.track)) if value}
        end = at(report.end_us) if report.end_us is not None else None
        line = SessionNoted(
            self._started.session_id, report.source, report.kind.value, at(report.start_us), end, detail=detail
        )
        before = self._open.pop(_key(line), None)
        if end is None:
            self._open[_key(line)] = line
        self._written += before is None
        lines = [line] if before is not None or self._written <= _LINES_LIMIT else []
        if before is not None and before.start != line.start:  # told before a crash: who tells now doesn't know of it
            lines.insert(0, replace(before, end=max(before.start, line.start)))
        return lines

    def _line(
        self, source: str, kind: str, start: datetime, end: datetime | None = None, cause: str = "",
        detail: Mapping[str, object] | None = None,
    ) -> SessionNoted:  # fmt: skip
        line = SessionNoted(self._started.session_id, source, kind, start, end, cause, detail or {})
        if end is None:
            self._open[_key(line)] = line
        return line

    def _end(self, source: str, kind: str, end: datetime) -> list[SessionNoted]:
        line = self._open.pop((source, kind, ""), None)
        if line is None:
            return []
        line = replace(line, end=max(line.start, end))
        if kind == GAP:
            self._ended_gaps[source] = line
        return [line]

    def _is_open(self, source: str, kind: str) -> bool:
        return (source, kind, "") in self._open


def extension(session_id: str, now: datetime, planned_end: datetime, who: str, why: str) -> SessionNoted:
    """Somebody has planned another end."""
    detail = {"planned_end": planned_end.isoformat(), "who": who, "why": why}
    return SessionNoted(session_id, "", EXTENDED, now, now, detail=detail)


def extended(started: SessionStarted, lines: Iterable[SessionNoted]) -> SessionStarted:
    """The same with the end that `extension` told last."""
    ends = [str(line.detail["planned_end"]) for line in lines if line.kind == EXTENDED]
    return replace(started, planned_end=datetime.fromisoformat(ends[-1])) if ends else started


def _key(line: SessionNoted) -> tuple[str, str, str]:
    return line.source, line.kind, str(line.detail.get("track", ""))
