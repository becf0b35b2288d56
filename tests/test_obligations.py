"""Promise: what is to be recorded and what explains an interruption is what the documents say, with its article."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.config import Config, checked, load
from agent.continuity import obligation_of
from agent.errors import ConfigError
from agent.model import Duty

SHIPPED = Path(__file__).parent.parent / "config"
PROFILES = ("shandong", "nanchang", "wenshang", "qilin", "jiange")
WORTH = "直接涉及重大财产权益"
# Stage by stage what each document asks for: ● must_full, M must, ◐ should, ○ may, – silent; +● under a condition.
TABLE = """
S03 ○ ◐ ◐+● ◐ ◐
S04 ○ ◐ ◐+● – –
S05 ○+● ◐ ◐+● ◐ ◐
S08 ● ◐ ◐+● – ◐
S09 ● ◐ ◐+● – –+●
S10 –+● ● ◐+● ● ●
S13 ○ ◐ ◐ ◐ ◐
S14 – – – – –
S15 ○ – ◐ – ◐
S16 M ◐ ◐ ◐ ◐
S17 ○ ◐ ◐ ◐ ◐
S18 ○ – – – –
S19 –+● – ◐+● –+● –
"""
MARKS = {"●": Duty.MUST_FULL, "M": Duty.MUST, "◐": Duty.SHOULD, "○": Duty.MAY, "–": Duty.SILENT}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED, tmp_path / "etc")
    return tmp_path / "etc"


def configure(folder: Path, profile: str) -> Config:
    (folder / "agent.toml").write_text(f'[deadline]\nprofile = "{profile}"\n')
    return load(folder / "agent.toml")


@pytest.mark.parametrize("line", TABLE.strip().splitlines())
def test_each_stage_asks_for_what_the_documents_ask_for(folder: Path, line: str) -> None:
    stage, *cells = line.split()
    for profile, cell in zip(PROFILES, cells, strict=True):
        plain, others = obligation_of(configure(folder, profile).profile.obligations, stage)
        mark, _, more = cell.partition("+")
        assert plain.duty is MARKS[mark], (stage, profile)
        assert {one.duty for one in others} == ({MARKS[more]} if more else set()), (stage, profile)


def test_every_obligation_cites_its_article(folder: Path) -> None:
    for profile in PROFILES:
        obligations = configure(folder, profile).profile.obligations
        assert all(any(mark in one.citation for mark in ("第", "二（二）")) for one in obligations), profile
    sealed, _ = obligation_of(configure(folder, "shandong").profile.obligations, "S09")
    assert sealed.citation == "鲁医保发〔2019〕60号《山东省医疗保障行政执法全过程记录办法》第十一条"


def test_a_condition_holds_only_when_somebody_states_it(folder: Path) -> None:
    obligations = configure(folder, "shandong").profile.obligations
    assert obligation_of(obligations, "S10")[0].duty is Duty.SILENT
    assert obligation_of(obligations, "S10", [WORTH])[0].duty is Duty.MUST_FULL


def test_only_nanchang_asks_for_an_explanation_of_each_interruption(folder: Path) -> None:
    articles = {profile: configure(folder, profile).profile.interruption for profile in PROFILES}
    assert articles.pop("nanchang").endswith("第十九条")
    assert set(articles.values()) == {""}


def test_the_first_six_codes_are_the_article_and_the_others_are_ours(folder: Path) -> None:
    codes = {one.code: one for one in configure(folder, "shandong").profile.interruptions}
    assert [f"INT-0{n}" for n in range(1, 7)] == [name for name, one in codes.items() if "第十九条" in one.citation]
    assert [name for name, one in codes.items() if not one.objective] == ["INT-09", "INT-99"]
    assert [name for name, one in codes.items() if one.confirm] == ["INT-09", "INT-99"]
    assert [name for name, one in codes.items() if one.automatic] == ["INT-11"]
    assert codes["INT-03"].zh == "电量不足"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('stages = ["S8"]\nduty = "may"\ncitation = "c"', "obligation.stages = 'S8': must each be the code of a stage"),
        ('stages = ["S08"]\nduty = "always"\ncitation = "c"', "obligation.duty = 'always': must be \"silent\" or"),
        ('stages = ["S08"]\nduty = "may"', "obligation.citation = 'None': is missing"),
        ('stages = ["S08", "S08"]\nduty = "may"\ncitation = "c"', "is spoken of twice for the condition ''"),
        ('stage = ["S08"]\nduty = "may"\ncitation = "c"', "did you mean obligation.stages?"),
    ],
)
def test_a_wrong_obligation_is_refused_with_file_key_and_reason(folder: Path, text: str, told: str) -> None:
    rule = '[[rule]]\nkind = "same_day"\ncitation = "c"\n'
    (folder / "profiles" / "ours.toml").write_text(f'title = "t"\n{rule}[[obligation]]\n{text}\n', "utf-8")
    with pytest.raises(ConfigError) as error:
        configure(folder, "ours")
    assert told.replace("'None'", "None") in str(error.value)
    assert "ours.toml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('code = "INT-01"\nzh = "设备故障"\nen = "failure"', "code.code = 'INT-01': is there twice"),
        ('code = "X"\nzh = "词"\nen = "w"\nobjective = false', "so a supervisor has to confirm it"),
        ('code = "X"\nzh = "词"', "code.en = None: is missing"),
        ('code = "X Y"\nzh = "词"\nen = "w"', "must be a name of letters"),
    ],
)
def test_a_wrong_code_is_left_out_and_told_and_stops_nobody(folder: Path, text: str, told: str) -> None:
    with (folder / "interruptions.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n[[code]]\n{text}\n")
    config = configure(folder, "nanchang")
    assert told in "".join(config.refused)
    assert len(config.profile.interruptions) == 15
    with pytest.raises(ConfigError):
        checked(folder / "agent.toml")


def test_without_the_file_there_are_no_codes(folder: Path) -> None:
    (folder / "interruptions.toml").unlink()
    config = configure(folder, "nanchang")
    assert (config.profile.interruptions, config.refused) == ((), ())
