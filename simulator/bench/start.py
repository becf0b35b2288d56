"""Case e: a service that has served for years must start and answer as a new one does."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from contextlib import closing
from typing import Final

from simulator import journal
from simulator.bench.daemon import STATUS, ask_s, running
from simulator.bench.measure import forget
from simulator.bench.place import Bench
from simulator.bench.report import Row
from simulator.stage import HOST, Stage

READY_GOAL_S: Final = 1.0
QUERY_GOAL_MS: Final = 50
_BYTES_EACH: Final = 3000
_ANSWER_KEPT_S: Final = 0.55
"""The status is made anew after half a second: asked more often, it would be the same bytes again."""

_TIMES: Final = 10
_PAGES: Final = "/api/v1/recordings"
_QUERIES: Final = (
    STATUS, _PAGES, f"{_PAGES}?state=stored", f"{_PAGES}?state=held", f"{_PAGES}?state=wanted", f"{_PAGES}?state=stuck",
)  # fmt: skip


def start(bench: Bench) -> list[Row]:
    """Start with a long journal and with an empty one, in turn; ask everything that the status page can be asked."""
    recordings = 5000 if bench.quick else 1_000_000
    bench.require_room(bench.root, recordings * _BYTES_EACH)
    ready, empty, answers = [], [], []
    with bench.stage("start") as stage, bench.stage("start-empty") as new:
        bench.say(f"making a journal of {recordings} recordings")
        stage.station.mkdir()
        journal.fill(stage.station / "journal.db", recordings)
        for _ in range(bench.rounds):
            forget()
            with running(new) as daemon:
                empty.append(daemon.ready_s)
            shutil.rmtree(new.station)
            forget()
            with running(stage) as daemon:
                ready.append(daemon.ready_s)
                answers.append(_slowest_ms(stage, daemon.token))
                bench.say(f"ready in {daemon.ready_s:.2f} s, slowest query {answers[-1]:.1f} ms")
    what = f"{recordings:,} recordings in the journal"
    return [
        Row("e", f"{what}: from exec to READY=1", "s", tuple(ready), goal=READY_GOAL_S),
        Row("e", "the same with an empty journal", "s", tuple(empty)),
        Row("e", f"{what}: slowest query, median of {_TIMES}", "ms", tuple(answers), goal=QUERY_GOAL_MS),
    ]


def _slowest_ms(stage: Stage, token: str) -> float:
    """The slowest of all queries, each by its median; pages are asked from the first and from one behind it."""
    with closing(http.client.HTTPConnection(HOST, stage.port, timeout=20)) as connection:
        connection.request("GET", _PAGES, headers={"Authorization": f"Bearer {token}"})
        after = json.loads(connection.getresponse().read())["next_after"]
        times_ms = []
        for path in (*_QUERIES, f"{_PAGES}?after={after}"):
            times = []
            for _ in range(_TIMES):
                if path == STATUS:
                    time.sleep(_ANSWER_KEPT_S)
                times.append(1e3 * ask_s(connection, path, token))
            times_ms.append(sorted(times)[_TIMES // 2])
    return max(times_ms)
