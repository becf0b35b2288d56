"""Promise: what is shipped for Prometheus and Grafana works: alerts fire and clear, and every panel shows something."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from agent.accounts.book import Role
from agent.screens.metrics import METRICS
from simulator import stage
from tests.prometheus import FLEET, RULES, Prometheus, promtool, wait
from tests.servers import installed

DASHBOARD = json.loads((FLEET / "capture-agent.dashboard.json").read_text("utf-8"))
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"].removeprefix("CaptureAgent"): rule
    for rule in yaml.safe_load(RULES.read_text("utf-8"))["groups"][0]["rules"]
}
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
WORDS = {name: f'capture_agent_{name}{{instance="one", job="capture-agent"}}' for name in (m.name for m in METRICS)}
RISING = "0+0x10 1+0x200 0+0x40"
"""In order for ten minutes, wrong for 201, in order again."""

FALLING = "1+0x10 0+0x200 1+0x40"
FAR = 10**9
STUCK = '{instance="one", job="capture-agent", state="stuck"}'
CASES: dict[str, tuple[dict[str, str], dict[str, str], int]] = {
    # series and their values, labels of the alert besides severity, minute in which it begins
    "Down": ({'up{instance="one", job="capture-agent"}': FALLING}, {}, 11),
    "NotWatched": ({'up{instance="one", job="capture-agent"}': "1+0x10 stale _x200 1+0x40"}, {"instance": ""}, 11),
    "NotPulling": ({WORDS["pulling"]: FALLING}, {}, 11),
    "Overdue": ({WORDS["overdue"]: RISING}, {}, 11),
    "WillMiss": ({WORDS["forecast_missed"]: RISING}, {}, 11),
    "DueSoon": ({WORDS["due_soon"]: RISING}, {}, 11),
    "StoreFails": ({WORDS["store_up"]: FALLING}, {}, 11),
    "NeedsPerson": (
        {f"capture_agent_originals{STUCK}": RISING, f"capture_agent_documents{STUCK}": "0+0x300"}, {}, 11,
    ),
    "Damaged": ({WORDS["scrub_damaged"]: RISING}, {}, 11),
    "DiskFull": ({WORDS["free_bytes"]: "9+0x10 2+0x200 9+0x40", WORDS["reserve_bytes"]: "2+0x300"}, {}, 11),
    "DiskFills": ({WORDS["free_bytes"]: "5000-5x211 99999+0x40", WORDS["reserve_bytes"]: "2+0x300"}, {}, 1),
    "ClockNotKept": ({WORDS["clock_synchronised"]: FALLING}, {}, 11),
    "CalendarEnds": ({WORDS["calendar_until_timestamp_seconds"]: f"{FAR}+0x10 0+0x200 {FAR}+0x40"}, {}, 11),
    "RecorderMissing": ({WORDS["recorders_not_back"]: RISING}, {}, 11),
    "RecorderNeedsPerson": (
        {'capture_agent_slots{instance="one", job="capture-agent", hold="ask"}': RISING}, {"hold": "ask"}, 11,
    ),
    "RoomLost": (
        {'capture_agent_room_sources{instance="one", job="capture-agent", light="lost"}': RISING},
        {"light": "lost"}, 11,
    ),
    "Degraded": ({WORDS["problems"]: RISING}, {}, 11),
}  # fmt: skip


def test_every_alert_fires_after_its_time_and_clears(tmp_path: Path) -> None:
    """By the tool of Prometheus, which lets its hours pass in no time."""
    assert CASES.keys() == ALERTS.keys()
    tests = []
    for name, (series, labels, begins) in CASES.items():
        rule = ALERTS[name]
        minutes = int(re.fullmatch(r"(\d+)m", rule["for"].replace("1h", "60m"))[1])  # type: ignore[index]
        whose = {"instance": "one", "job": "capture-agent"} | labels | rule["labels"]
        said = {key: text.replace("{{ $labels.instance }}", "one") for key, text in rule["annotations"].items()}
        fires = [{"exp_labels": {key: value for key, value in whose.items() if value}, "exp_annotations": said}]
        moments = {0: False, begins + minutes: True, 211: True, 213: False} | (
            {begins + minutes - 1: False} if minutes else {}
        )
        asked = [
            {"eval_time": f"{at}m", "alertname": rule["alert"], "exp_alerts": fires if fired else []}
            for at, fired in moments.items()
        ]
        given = [{"series": one, "values": values} for one, values in series.items()]
        tests.append({"interval": "1m", "input_series": given, "alert_rule_test": asked})
    told = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(json.dumps(told), "utf-8")
    with installed():
        promtool("test", "rules", tmp_path / "tests.yml")


@pytest.mark.parametrize(
    ("name", "metric", "values"),
    [
        ("ClockNotKept", "status_timestamp_seconds", "0+60x10 1000+60x40"),
        ("Damaged", "audit_lost_total", "0+0x10 1+0x40"),
        ("RecorderMissing", "recorders_past_limit", "0+0x10 1+0x40"),
    ],
)
def test_what_an_alert_looks_at_besides_is_told_too(name: str, metric: str, values: str, tmp_path: Path) -> None:
    """A clock that says it is synchronised and is minutes off; a store that lost something; a recorder not docked."""
    expression = ALERTS[name]["expr"]
    asked = [
        {"expr": expression, "eval_time": "10m", "exp_samples": []},
        {"expr": f"count({expression})", "eval_time": "11m", "exp_samples": [{"labels": "{}", "value": 1}]},
    ]
    given = [{"series": WORDS[metric], "values": values}]
    tests = [{"interval": "1m", "input_series": given, "promql_expr_test": asked}]
    (tmp_path / "tests.yml").write_text(json.dumps({"rule_files": [str(RULES)], "tests": tests}), "utf-8")
    with installed():
        promtool("test", "rules", tmp_path / "tests.yml")


def test_each_alert_says_in_both_languages_what_it_is_whether_the_evidence_is_safe_and_what_to_do() -> None:
    for name, rule in ALERTS.items():
        chinese, english = rule["annotations"]["description"].splitlines()
        assert re.search(r"[\u4e00-\u9fff]", chinese), name
        assert english.isascii(), name
        assert "删除" not in chinese
        assert re.fullmatch(r".*[\u4e00-\u9fff] \(.*\)", rule["annotations"]["summary"]), name


@pytest.mark.parametrize("text", [RULES.read_text("utf-8"), "\n".join(EXPRESSIONS)], ids=["rules", "dashboard"])
def test_only_metrics_that_are_there_are_asked(text: str) -> None:
    known = {metric.name for metric in METRICS}
    assert set(re.findall(r"\bcapture_agent_(\w+)", text)) <= known


def test_no_two_panels_lie_on_each_other() -> None:
    places = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in DASHBOARD["panels"]
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@dataclass(frozen=True, slots=True)
class Fleet:
    """Two real stations, and a real Prometheus that scrapes them."""

    prometheus: Prometheus
    stations: list[stage.Service]

    def fires(self, alert: str, station: int) -> bool:
        return (f"CaptureAgent{alert}", address(self.stations[station].stage)) in self.prometheus.firing()


def address(one: stage.Stage) -> str:
    return f"{stage.HOST}:{one.port}"


def config_for(folder: Path, stages: list[stage.Stage]) -> str:
    """The shipped configuration, with a block for each of these, over plain HTTP on loopback, each second."""
    text = (FLEET / "prometheus.yml").read_text("utf-8")
    text = text.replace("/usr/share/capture-agent/fleet/capture-agent.rules.yml", str(folder / "rules.yml"))
    text = text.replace("scheme: https", "scheme: http").replace("scrape_interval: 30s", "scrape_interval: 1s")
    head, name, block = re.sub(r" +tls_config:\n( {6}.*\n)", "", text).partition("  - job_name")
    blocks = [
        (name + block)
        .replace("station-1.example:8470", address(one))
        .replace("/etc/prometheus/station-1.token", str(one.root / "token"))
        .replace("station-1", one.root.name)
        for one in stages
    ]
    return f"global: {{evaluation_interval: 1s}}\n{head}{''.join(blocks)}"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    root = tmp_path_factory.mktemp("fleet")
    stages = [stage.prepare(root / name) for name in ("one", "two")]
    for one in stages:
        (one.root / "token").write_text(stage.enlist(one, Role.IT)[1])
    rules = re.sub(r"for: \w+", "for: 0s", RULES.read_text("utf-8"))
    with installed(), ExitStack() as running:
        services = [running.enter_context(stage.serving(one)) for one in stages]
        prometheus = Prometheus(root / "prometheus", config_for(root / "prometheus", stages), rules)
        yield Fleet(running.enter_context(prometheus), services)


def test_every_panel_of_the_dashboard_shows_something(fleet: Fleet) -> None:
    """Each query as Grafana asks it once its variables are filled in."""
    wait(
        lambda: len(fleet.prometheus.series("changes(capture_agent_status_timestamp_seconds[1m]) > 1")) == 2, "scrapes"
    )
    for expression in EXPRESSIONS:
        asked = expression.replace("$station", ".*").replace("$__rate_interval", "1m")
        assert "$" not in asked
        assert fleet.prometheus.series(asked), asked
    labels = {tuple(one["metric"]) for one in fleet.prometheus.series('{__name__=~"capture_agent_.*"}')}
    known = {"__name__", "instance", "job", *(metric.label for metric in METRICS)}
    assert {name for names in labels for name in names} <= known


def test_a_station_that_dies_is_told_and_no_longer_once_it_is_back(fleet: Fleet) -> None:
    wait(lambda: not fleet.fires("Down", 1) and fleet.prometheus.series("capture_agent_info"), "up")
    os.kill(fleet.stations[1].process.pid, signal.SIGKILL)
    wait(lambda: fleet.fires("Down", 1), "down")
    assert not fleet.fires("Down", 0)
    assert not fleet.prometheus.series(f'capture_agent_info{{instance="{address(fleet.stations[1].stage)}"}}')
    with stage.serving(fleet.stations[1].stage):
        wait(lambda: not fleet.fires("Down", 1), "up again")
