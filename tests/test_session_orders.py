"""Sessions started and stopped by name, as screens and commands do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import JournalError, RequestError
from agent.model import StartedBy
from agent.pipeline.session_orders import session_verbs
from tests.conftest import SettableClock
from tests.stations import opened
from tests.studio import Studio


async def test_a_session_is_started_and_stopped_with_words_alone(tmp_path: Path, clock: SettableClock) -> None:
    studio = Studio()
    async with opened(tmp_path / "station", clock) as station, studio.serving(station) as sessions:
        verbs = session_verbs(sessions)
        until = clock() + timedelta(hours=1)
        asked = {
            "room": "xunwen",
            "who": "张三",
            "started_by": "screen",
            "stage": "S05",
            "case_number": "鲁医保〔2026〕1号",
            "participants": "当事人/王某\n\n 记录人/李四 ",
            "planned_end": until.isoformat(),
        }
        answer = await verbs["session_start"](asked)
        started = station.journal.reader.session(str(answer["session"])).started
        assert (started.started_by, started.who, started.stage) == (StartedBy.SCREEN, "张三", "S05")
        assert started.participants == ("当事人/王某", "记录人/李四")
        assert started.planned_end == until
        assert await verbs["session_stop"]({"room": "xunwen", "who": "李四"}) == answer | {"ended": True}
        ended = station.journal.reader.session(started.session_id).ended
        assert ended is not None
        assert (ended.who, ended.reason) == ("李四", "stopped")


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"room": "nowhere"}, "no room"),
        ({"stage": "S77"}, "no stage"),
        ({"who": ""}, "visible characters"),
        ({"participants": "x\ty"}, "visible characters"),
        ({"participants": "\n".join(map(str, range(51)))}, "too many persons"),
        ({"planned_end": "soon"}, "is no time"),
    ],
)
async def test_what_makes_no_sense_starts_nothing(
    tmp_path: Path, clock: SettableClock, asked: dict[str, str], what: str
) -> None:
    studio = Studio()
    async with opened(tmp_path / "station", clock) as station, studio.serving(station) as sessions:
        with pytest.raises((RequestError, JournalError), match=what):
            await session_verbs(sessions)["session_start"]({"room": "xunwen", "who": "张三"} | asked)
        with pytest.raises(RequestError, match="nothing is being recorded"):
            await session_verbs(sessions)["session_stop"]({"room": "xunwen", "who": "张三"})
        assert station.journal.reader.open_sessions() == ()
