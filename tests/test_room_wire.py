"""What a recorder says is taken only if it is a report; what it is told is a plan."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.child import ChildError
from agent.rooms.protocol import (
    Alive,
    Back,
    Begun,
    Cause,
    Closed,
    Kind,
    Lost,
    Noticed,
    Opened,
    Plan,
    Report,
    SourcePlan,
    Stop,
    Track,
    Transport,
    Why,
)
from agent.rooms.wire import order, packed, report

TRACKS = Track("video", "h264", 1920, 1080), Track("audio", "aac", rate_hz=16_000, channels=1)
CLOSED = Closed("a", 1, "a-000001.mp4", Why.LENGTH, 1, 2, 1, 3, 25, 15, TRACKS, 5, -6)
REPORTS: tuple[Report, ...] = (
    Opened("a", 1, TRACKS, 900), Begun("a", 1, "a-000001.mp4", 5), CLOSED, replace(CLOSED, camera_us=None, av_us=None),
    Lost("a", 3, Cause.STALLED, "why"), Back("a", 4), Noticed("a", Kind.JUMP, 1, None, -5, "video"),
    Alive("a", 1, 2, 3, 4, 5, True, -20.5, "a.jpg"), Alive("a", 1, 2, 3, 4, 5, False),
)  # fmt: skip
PLAN = Plan("s", "/x", (SourcePlan("a", "rtsp://u:p@h/1", Transport.UDP, False),), (7,), 60.0, 5.0, 2.0, True)


@pytest.mark.parametrize("said", REPORTS)
def test_a_report_comes_as_it_was_said(said: Report) -> None:
    assert report(json.loads(json.dumps(packed(said)))) == said


def test_a_plan_and_the_word_to_stop_come_as_they_were_said() -> None:
    assert [order(json.loads(json.dumps(packed(said)))) for said in (PLAN, Stop())] == [PLAN, Stop()]


@pytest.mark.parametrize("name", [name for name in packed(CLOSED) if name not in {"is", "camera_us", "av_us"}])
@pytest.mark.parametrize("value", [None, [], {}, 10**30, "x" * 10_000, 0.5, float("nan")])
def test_a_report_with_something_else_in_it_is_none(name: str, value: object) -> None:
    line = packed(CLOSED) | {name: value}
    if name in {"source", "file"} and isinstance(value, str):
        assert len(report(line).source) <= 10_000
        return
    if name == "tracks" and value == []:
        return
    with pytest.raises(ChildError):
        report(line)


@pytest.mark.parametrize("line", [None, 1, [], {}, {"is": "Plan"}, {"is": []}, {"is": "Back", "source": "a"}])
def test_what_is_no_report_is_refused(line: object) -> None:
    with pytest.raises(ChildError):
        report(line)
    with pytest.raises(ChildError):
        order(line)
