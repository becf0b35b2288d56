"""The demo's chapter about persons: an activity, a gap explained, who made it and what it proves, a transcript."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from simulator import proof
from simulator.handling import LOOK_S, recordings
from simulator.show import Show
from simulator.stage import DemoError, Service, Stage

STORED_LIMIT_S: Final = 300.0
SAID: Final = ("--who", "张三", "--why", "现场检查后登记")
PROOF: Final = "证明检查人员到场后封存了药品进销存台账"
TRANSCRIPT: Final = "问：你单位的进销存台账由谁保管？\n答：由我保管。\n"
STATEMENT: Final = "16时许记录仪电量耗尽，更换电池后继续记录。记录人：张三\n"
EXPLAINED_LINES: Final = 12

Json = Mapping[str, Any]


class Words:
    """What officers enter after the last recorder is back, by the real command line; storing waited for none of it."""

    def __init__(self, stage: Stage, show: Show) -> None:
        self._stage = stage
        self._show = show

    def tell(self, service: Service) -> None:
        """Say it, and claim what came of it; raises DemoError at the first claim that is not true."""
        self._show.step("登记", "what officers say of it afterwards, on the command line")
        activity = self._activity()
        self._explain(activity)
        self._metadata(activity)
        self._transcript()
        self._deadline()
        self._statistics()
        self._documents_stored(service)

    def _ask(self, *arguments: str) -> Json:
        code, said = proof.run(self._stage.command(*arguments, "--json"))
        if code:
            raise DemoError(said)
        answer: Json = json.loads(said)
        return answer

    def _activity(self) -> Json:
        """The longest group of recordings that may be one activity, as the sealing of evidence."""
        proposals = self._ask("activity", "propose")["proposals"]
        found = max(proposals, key=lambda proposal: len(proposal["recordings"]))
        self._show.say(f"activity propose: {len(proposals)} groups; {len(found['recordings'])} recordings are accepted")
        stated = ("--stage", "S09", "--arrived", found["from"], "--left", found["to"], "--proposal", found["key"])
        self._ask("activity", "state", *stated, *SAID)
        activity: Json = self._ask("activity", "list")["activities"][0]
        duty = activity["obligation"]
        self._show.say(f"  {activity['stage']['zh']}：{duty['zh']}  {duty['en']}  ({duty['citation']})")
        self._show.claim("红色标记 full-course recording was due, and there are gaps", activity["red_flag"], True)
        return activity

    def _explain(self, activity: Json) -> None:
        longest = max(activity["gaps"], key=lambda gap: gap["length_s"])
        statement = self._file("书面说明.txt", STATEMENT)
        said = ("--gap", str(longest["number"]), "--code", "INT-03", "--statement", str(statement), *SAID)
        self._ask("activity", "explain", activity["activity_id"], *said)
        after = self._ask("activity", "show", activity["activity_id"])["gaps"]
        now = next(gap for gap in after if gap["number"] == longest["number"])
        self._show.claim(
            f"中断 {_clock(now['from'])}–{_clock(now['to'])} explained in writing (INT-03 电量不足)",
            now["state"]["name"],
            "explained",
        )

    def _metadata(self, activity: Json) -> None:
        ids = [part["recording_id"] for part in activity["recordings"]]
        fields = (
            "act_type=inspection",
            "stage=S09",
            "method=body_camera",
            f"proof_object={PROOF}",
            "makers=张三",
            "makers=李四",
        )
        said = [part for field in fields for part in ("--field", field)]
        self._ask("metadata", "set", *ids, *said, *SAID)
        states = {row["recording_id"]: row["completeness"]["name"] for row in recordings(self._stage)}
        silent = [row["recording_id"] for row in recordings(self._stage) if row["medium"]["name"] != "audio"]
        told = {states[name] for name in ids if name in silent}
        self._show.claim(f"已补充 {len(ids)} recordings say who made them and what they prove", told, {"filled"})

    def _transcript(self) -> None:
        sound = next(row for row in recordings(self._stage) if row["medium"]["name"] == "audio")
        text = self._file("转写.txt", TRANSCRIPT)
        by = ("--kind", "machine", "--author", "张三", "--tool", "demo 1.0")
        self._ask("transcript", "add", sound["recording_id"], str(text), *by)
        machine = self._ask("transcript", "list", sound["recording_id"])
        self._show.claim("机器转写·未核对 a machine's text completes nothing", machine["complete"], False)
        self._ask("transcript", "sign", sound["recording_id"], *SAID)
        signed = self._ask("transcript", "list", sound["recording_id"])
        self._show.claim("校对 it does when a person has signed it", signed["complete"], True)

    def _deadline(self) -> None:
        row = next(recordings(self._stage))
        code, said = proof.run(self._stage.command("deadline", "explain", row["recording_id"]))
        for line in said.splitlines()[:EXPLAINED_LINES]:
            self._show.say(line)
        self._show.claim("deadline explain gives the article and every day, exit code 0", code, 0)

    def _statistics(self) -> None:
        year = datetime.fromisoformat(next(recordings(self._stage))["captured"]["latest"]).year
        chart = self._stage.root / f"stats-{year}.svg"
        made = self._stage.command("stats", "--year", str(year), "--format", "svg", "--output", str(chart))
        code, said = proof.run(made)
        if code:
            raise DemoError(said)
        self._show.say(f"stats --year {year}: no persons, no small numbers; chart: {chart}")

    def _documents_stored(self, service: Service) -> None:
        """Statements, the written explanation and the transcript are sealed and stored like the footage."""
        end = time.monotonic() + STORED_LIMIT_S
        while service.status()["counters"]["documents"]["held"]["files"]:
            if time.monotonic() > end:
                raise DemoError(f"after {STORED_LIMIT_S:g} s not all documents are stored")
            time.sleep(LOOK_S)
        stored = service.status()["counters"]["documents"]["stored"]["files"]
        self._show.claim("three documents are stored like the footage", stored, 3)

    def _file(self, name: str, text: str) -> Path:
        path = self._stage.root / name
        path.write_text(text, "utf-8")
        return path


def _clock(time_text: str) -> str:
    return f"{datetime.fromisoformat(time_text):%H:%M:%S}"
