"""Promise: an officer's form works from the command line, with the service and without it, and on the status page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli import Exit
from agent.journal import verify
from simulator.content import Noise
from simulator.stage import Stage
from tests.cards import image
from tests.daemons import Daemon, call, running, stage

ROSTER = '[officer.A-017]\nname = "张三"\ncert_no = "37080012345"\nvalid_until = 2019-12-31\n'
PROOF = "证明药店未按处方销售药品"
SIGNED = ("--who", "王五", "--why", "回到单位后补充")
SAID = (
    "--field", "stage=询问（调查）", "--field", "makers=@A-017", "--field", "makers=李四/2/记录",
    "--field", "method=现场录像", "--field", f"proof_object={PROOF}",
)  # fmt: skip
MARK = "\u202e"


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    made = stage(tmp_path)
    (made.config.parent / "roster.toml").write_text(ROSTER)
    return made


def docked(daemon: Daemon, tmp_path: Path) -> list[dict[str, Any]]:
    card = image(tmp_path / "card.img", {"DCIM/0001.MP4": Noise(1, 4000), "DCIM/0002.MP4": Noise(2, 4000)})
    daemon.until_phase(daemon.dock(card), "finished")
    rows: list[dict[str, Any]] = daemon.stage.ask("/api/v1/recordings")["recordings"]
    return rows


def run(made: Stage, *arguments: str) -> tuple[int, str]:
    done = call(made, "metadata", *arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def tile(daemon: Daemon) -> int:
    return next(int(tile["count"]) for tile in daemon.status()["tiles"] if tile["zh"] == "待补充信息")


def test_a_form_of_a_whole_docking_by_the_service_and_then_without_it(made: Stage, tmp_path: Path) -> None:
    with running(made) as daemon:
        rows = docked(daemon, tmp_path)
        assert [row["completeness"]["zh"] for row in rows] == ["待补充", "待补充"]
        assert [one["name"] for one in rows[0]["missing"]] == ["method", "makers", "proof_object"]
        assert tile(daemon) == 2
        code, said = run(made, "set", "--docking", rows[0]["docking_id"], *SAID, *SIGNED)
        assert (code, "2 recordings; 已补充 filled in: 2; version 1" in said) == (Exit.OK, True), said
        assert "执法证待核：录制当日已过有效期" in said
        daemon.until(lambda: tile(daemon) == 0)
        one, other = (row["recording_id"] for row in rows)
        record = daemon.stage.ask(rows[0]["metadata"])
        assert record["fields"]["proof_object"]["value"] == PROOF
        assert record["versions"][0]["who"] == "王五"
        statement = record["versions"][0]["document"]["asset_id"]
        daemon.until(lambda: record_of(daemon, one)["versions"][0]["document"]["state"]["name"] == "stored")
        assert statement not in {row["asset_id"] for row in daemon.stage.ask("/api/v1/recordings")["recordings"]}
        code, said = run(made, "check", one, other, "--who", "赵六", "--why", "与笔录核对", "--json")
        assert (code, json.loads(said)["completeness"]) == (Exit.OK, {"checked": 2})
        checked = {"incomplete": 0, "filled": 0, "checked": 2}
        daemon.until(lambda: daemon.status()["counters"]["completeness"] == checked)  # it may be a second old
        status = daemon.status()
        assert not any(word in json.dumps(status, ensure_ascii=False) for word in ("张三", "王五", "李四", PROOF))
        log = made.log.read_text("utf-8")
        assert not any(word in log for word in ("张三", "王五", "李四", "赵六", PROOF, "A-017"))

    code, said = run(made, "set", one, "--if-version", "1", "--field", "place_text=济宁市任城区", *SIGNED)
    assert (code, "version 2" in said) == (Exit.OK, True), said
    code, said = run(made, "set", one, "--if-version", "1", "--field", "place_text=别处", *SIGNED)
    assert (code, "is at version 2, not 1" in said) == (Exit.JOURNAL, True)
    code, said = run(made, "show", one)
    assert (code, "已补充" in said, "O place_text 地点: 济宁市任城区" in said) == (Exit.OK, True, True), said
    assert json.loads(run(made, "show", other, "--json")[1])["completeness"]["name"] == "checked"
    code, said = run(made, "history", one)
    assert (code, "version 2" in said, "place_text 地点: — → 济宁市任城区" in said) == (Exit.OK, True, True)
    code, said = run(made, "parts", one)
    assert (code, said.splitlines()[0], len(said.splitlines())) == (Exit.OK, "#EXTM3U", 3), said
    report = verify(made.station / "journal.db")
    assert report.consistent, report.differences


def record_of(daemon: Daemon, recording_id: str) -> dict[str, Any]:
    return dict(daemon.stage.ask(f"/api/v1/metadata/{recording_id}"))


def test_what_is_wrong_is_told_with_its_field_and_the_exit_code_of_a_wrong_request(made: Stage, tmp_path: Path) -> None:
    with running(made) as daemon:
        one = docked(daemon, tmp_path)[0]["recording_id"]
        wrong = ("--field", "proof_object=无", "--field", f"place_text=济{MARK}宁", "--field", "sensitivity=国家秘密")
        code, said = run(made, "set", one, *wrong, *SIGNED)
        assert code == Exit.USAGE
        assert all(
            word in said for word in ("proof_object 证明对象：", "place_text 地点：", "U+202E", "改用涉密专用渠道")
        )
        assert MARK not in said
        told = json.loads(run(made, "set", one, *wrong, *SIGNED, "--json")[1])
        assert (told["exit"], len(told["error"].splitlines())) == (Exit.USAGE, 3)
        assert run(made, "set", one, "--field", "stage", *SIGNED)[0] == Exit.USAGE
        assert run(made, "set", one, *SAID, "--who", "", "--why", "x")[0] == Exit.USAGE
        assert run(made, "set", "nobody", *SAID, *SIGNED)[0] == Exit.JOURNAL
        assert run(made, "show", "nobody")[0] == Exit.JOURNAL
        code, said = run(made, "check", one, *SIGNED)
        assert (code, "can't be checked yet (待补充)" in said) == (Exit.JOURNAL, True)
    assert json.loads(run(made, "history", one, "--json")[1])["versions"] == []
    assert PROOF not in made.log.read_text("utf-8")


def test_a_form_in_a_file_and_what_is_wrong_with_the_file(made: Stage, tmp_path: Path) -> None:
    with running(made) as daemon:
        one = docked(daemon, tmp_path)[0]["recording_id"]
    form = tmp_path / "form.toml"
    form.write_text(f'stage = "S05"\nproof_object = "{PROOF}"\nmakers = [{{officer = "A-017"}}, {{name = "李四"}}]\n')
    code, said = run(made, "set", one, "--file", str(form), "--field", "stage=S03", "--withdraw", "case_no", *SIGNED)
    assert code == Exit.OK, said
    fields = json.loads(run(made, "show", one, "--json")[1])["fields"]
    assert fields["stage"]["value"]["zh"] == "现场检查", "the command line goes before the file"
    assert fields["makers"]["value"][0]["cert_no"] == "37080012345"
    for text, told in {
        "stage = [": "is not a TOML file",
        "x" * 300_000: "is larger than",
        "stage = 3": "须为代码",
    }.items():
        form.write_text(text)
        code, said = run(made, "set", one, "--file", str(form), *SIGNED)
        assert (code, told in said) == (Exit.USAGE, True), said
    assert run(made, "set", one, "--file", str(tmp_path / "none"), *SIGNED)[0] == Exit.USAGE


def test_the_fields_are_listed_with_the_stages_of_the_profile(made: Stage) -> None:
    profile = made.config.parent / "profiles" / "shandong.toml"
    profile.write_text(profile.read_text("utf-8").replace("title =", 'stages = ["S03", "S05"]\ntitle =', 1), "utf-8")
    code, said = run(made, "fields")
    assert (code, "proof_object  证明对象" in said, "第二十条" in said, "officers: A-017" in said) == (
        0,
        True,
        True,
        True,
    )
    listed = json.loads(run(made, "fields", "--json")[1])
    stages = next(field for field in listed["fields"] if field["name"] == "stage")
    assert list(stages["codes"]) == ["S03", "S05"]
    assert "张三" not in said, "ids only: the list is for choosing"
