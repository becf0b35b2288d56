"""Promise: a wrong configuration is refused before anything starts, each mistake with file, key, value and reason."""

from __future__ import annotations

import contextlib
import re
import shutil
import tomllib
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import AT_START, SECTIONS, Config, Milestone, checked, load, reloaded
from agent.config.options import Unfit
from agent.config.rules import read_calendars
from agent.deadline import Rules
from agent.errors import ConfigError
from agent.model import RuleKind
from agent.tlog.keys import Algorithm, Key
from tests.noted import signer

SHIPPED = Path(__file__).parent.parent / "config"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "etc"))


def configure(folder: Path, text: str) -> Config:
    (folder / "agent.toml").write_text(text)
    return load(folder / "agent.toml")


def refused(folder: Path, text: str) -> str:
    (folder / "agent.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        checked(folder / "agent.toml")
    return caught.value.what


def documented() -> dict[str, str]:
    """Each option of the shipped file with the comment lines above it."""
    section, comments, found = "", "", {}
    for line in (SHIPPED / "agent.toml").read_text().splitlines():
        if line.startswith("#"):
            comments += line[1:]
        elif match := re.fullmatch(r"\[([a-z]+)(?:\.([a-z]+))?\]", line):
            section = match[1]
            if match[2]:
                found[f"{section}.{match[2]}"] = comments
            comments = ""
        elif match := re.match(r"(\w+) = ", line):
            found[f"{section}.{match[1]}"] = comments
            comments = ""
    return found


def options() -> dict[str, Any]:
    return {f"{section}.{option.name}": option for section, kind in SECTIONS.items() for option in fields(kind)}


def test_the_file_as_shipped_equals_the_defaults(folder: Path) -> None:
    shipped = load(folder / "agent.toml")
    assert shipped == configure(folder, "")
    assert shipped.deadline.satisfied_by is Milestone.CENTRAL
    assert shipped.status.host == "127.0.0.1"
    assert sorted(shipped.calendars) == [2024, 2025, 2026]


def test_every_option_is_in_the_shipped_file_and_no_other() -> None:
    document = tomllib.loads((SHIPPED / "agent.toml").read_text())
    assert {f"{section}.{key}" for section, table in document.items() for key in table} == set(options())


@pytest.mark.parametrize("key", sorted(options()))
def test_every_option_is_documented_with_what_it_takes_and_its_default(key: str) -> None:
    comment = documented()[key]
    assert options()[key].metadata["takes"] in comment
    assert "default" in comment or key == "status.port"


def test_the_documented_default_is_the_real_one() -> None:
    for line in re.findall(r"^# .*default (.*)\n(\w+) = (.*)$", (SHIPPED / "agent.toml").read_text(), re.MULTILINE):
        stated, key, value = line
        assert stated.startswith(value), key


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[storage]\nroot = 'relative'", "storage.root = 'relative': must be an absolute path"),
        ("[storage]\nroot = '/var/../etc'", "storage.root = '/var/../etc': must be an absolute path without .."),
        ("[storage]\nreserve_bytes = -1", "storage.reserve_bytes = -1: must be integer, 0.."),
        ("[storage]\nreserve_bytes = true", "storage.reserve_bytes = True: must be integer"),
        ("[storage]\nseal = 1", "storage.seal = 1: must be true or false"),
        ("[dock]\nrescan_s = nan", "dock.rescan_s = nan: must be number, 1..3600 seconds"),
        ("[dock]\nrescan_s = inf", "dock.rescan_s = inf: must be number"),
        ("[dock]\nrescan_s = 0", "dock.rescan_s = 0: must be number"),
        ("[dock]\nimage_dir = 'x'", "dock.image_dir = 'x': must be an absolute path"),
        ("[deadline]\nsatisfied_by = 'never'", 'deadline.satisfied_by = \'never\': must be "central" or "local"'),
        ("[deadline]\nprofile = '../../etc/passwd'", "deadline.profile = '../../etc/passwd': must be a name of"),
        ("[deadline]\nprofile = 'beijing'", "there is no such profile (deadline.profile = 'beijing'); there are: cus"),
        ("[station]\nname = ''", "station.name = '': must be text, 1..64"),
        ('[station]\ncontact = "a\\nb"', "station.contact = 'a\\nb': must be text"),
        ("[store]\noptions = 3", "store.options = 3: must be a table"),
        ("[status]\nhost = '0.0.0.0'", "status.host = '0.0.0.0': is not a loopback address"),
        ("[status]\nhost = '192.168.1.2'", "is not a loopback address"),
        ("[status]\nhost = 'localhost'", "status.host = 'localhost': must be an IP address"),
        ("[runner]\nbackoff_base_s = 10\nbackoff_max_s = 5", "runner.backoff_max_s = 5.0: must not be less"),
        ("[storage]\nrot = '/x'", "storage.rot: there is no such option; did you mean storage.root?"),
        ("[storge]\nroot = '/x'", "storge: there is no such option; did you mean storage?"),
        ("zzz = 1", "zzz: there is no such option; known are access, deadline, dock"),
        ("storage = 3", "storage = 3: must be a table"),
        ("[storage", "is not a TOML file"),
        ("a = 1\na = 2", "is not a TOML file"),
        ("x = " + "[" * 5000, "is not a TOML file"),
        ("#" + "x" * (1 << 20), "it is larger than"),
    ],
)
def test_a_mistake_is_told_with_file_key_value_and_reason(folder: Path, text: str, told: str) -> None:
    what = refused(folder, text)
    assert told in what
    assert str(folder) in what


def test_all_mistakes_of_all_files_are_told_at_once(folder: Path) -> None:
    (folder / "calendar" / "cn-2027.toml").write_text("year = 2027\ncomplete = 1\n")
    what = refused(folder, "[storage]\nroot = 1\nsael = true\n[runner]\nattempts = 0\n[deadline]\nprofile = 'x'\n")
    assert len(what.splitlines()) == 5
    assert "cn-2027.toml: complete = 1" in what


def test_a_missing_or_binary_file_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        load(folder / "nowhere.toml")
    (folder / "agent.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not a TOML file"):
        load(folder / "agent.toml")


def test_the_error_tells_that_nothing_was_touched_and_what_to_do(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        configure(folder, "x = 1")
    assert "no recording was touched" in caught.value.safe
    assert "config check" in caught.value.do


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "2001:db8::7"])
def test_beyond_loopback_there_is_tls_of_our_own_and_behind_a_proxy_there_is_no_beyond(folder: Path, host: str) -> None:
    assert "set tls_certificate" in refused(folder, f"[status]\nhost = '{host}'")
    for tls in ("", "\ntls_certificate = '/x'"):
        told = refused(folder, f"[status]\nhost = '{host}'\nbehind_proxy = true{tls}")
        assert "past the proxy" in told, "he could forge X-Forwarded-For"
    assert configure(folder, f"[status]\nhost = '{host}'\ntls_certificate = '/x'").status.host == host
    for here in ("127.0.0.1", "::1"):
        assert configure(folder, f"[status]\nhost = '{here}'\nbehind_proxy = true").status.host == here


def test_a_value_that_is_shown_is_shortened(folder: Path) -> None:
    assert max(map(len, refused(folder, f"[storage]\nroot = '{'x' * 5000}'").splitlines())) < 300


@given(value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())))
def test_any_value_is_taken_or_refused_with_a_reason(value: object) -> None:
    for option in options().values():
        with contextlib.suppress(Unfit):
            taken = option.metadata["read"](value)
            plain = list(taken) if isinstance(taken, tuple) else str(taken) if isinstance(taken, Path) else taken
            assert value == plain or (value, taken) == ("", None)


def test_the_profiles_are_the_articles(folder: Path) -> None:
    shandong = configure(folder, "").profile
    assert [(rule.kind, rule.days) for rule in shandong.rules] == [(RuleKind.WORKING_DAYS, 2)]
    assert "鲁医保发〔2019〕60号" in shandong.citation
    assert "第二十一条" in shandong.citation
    nanchang = configure(folder, "[deadline]\nprofile = 'nanchang'").profile
    assert [rule.name for rule in nanchang.rules] == ["same_day", "hours_after:24:return_to_unit"]
    assert "第二十二条" in nanchang.citation


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title = 't'\n[[rule]]\nkind = 'same_day'", "rule.citation = None: is missing"),
        ("title = 't'\n[[rule]]\nkind = 'same_day'\ncitation = 'c'\ndays = 2", "rule.days = 2: must be"),
        ("title = 't'\n[[rule]]\nkind = 'working_days'\ncitation = 'c'", "rule.days = 0: must be"),
        ("title = 't'\n[[rule]]\nkind = 'soon'\ncitation = 'c'", "rule.kind = 'soon': must be"),
        ("title = 't'\n[[rule]]\nkind = 'same_day'\ncitation = 'c'\nhours = 2", "rule.hours = 2: hours_after needs"),
        ("title = 't'\n[[rule]]\nkind = 'hours_after'\ncitation = 'c'", "rule.hours = 0: hours_after needs"),
        ("title = 't'\ncomputation = [1]", "computation = [1]: must be a list of"),
        ("title = 't'\nrule = 'same_day'", "rule = 'same_day': must be a list of tables"),
        ("title = 't'\nrule = []", "rule = None: there must be at least one"),
        (
            "title = 't'\n[[rule]]\nkind = 'hours_after'\ncitation = 'c'\nhours = 1\nevent = 'e'\ncauses = ['A b']",
            "can't be the only rule",
        ),
        ("title = 't'\n[[rule]]\nkind = 'same_day'\ncitation = 'c'\ninstead_of = 'same_day'", "of another rule"),
    ],
)
def test_a_wrong_profile_is_refused(folder: Path, text: str, told: str) -> None:
    (folder / "profiles" / "ours.toml").write_text(text)
    assert told in refused(folder, "[deadline]\nprofile = 'ours'")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("off = ['2027-10-01']\nwork = ['2027-10-01']", "work = '2027-10-01'"),
        ("work = ['2027-10-04']", "work = '2027-10-04': is no Saturday or Sunday"),
        ("off = ['2026-10-01']", "off = '2026-10-01': is not in 2027"),
        ("off = ['2028-01-01']", "off = '2028-01-01': is not in 2027"),
        ("off = ['2027-02-30']", "is not a day like"),
        ("off = ['2027-02-03..2027-02-01']", "is not a span of at most 32 days"),
        ("off = ['2027-01-01..2027-12-31']", "is not a span of at most 32 days"),
        ("off = ['2027-01-01..2027-01-02..2027-01-03']", "is not a span"),
        ("off = '2027-01-01'", "must be a list of days"),
        ("off = [7]", "must be a day"),
        ("issued = 2026-11-01T00:00:00", "must be a day"),
        ("loca = []", "loca: there is no such option"),
        ("[[local]]\nregion = '450000'\nsource = 's'", "local.off = None: is missing"),
        ("[[local]]\nregion = '45'\nsource = 's'\noff = []", "local.region = '45': must be"),
        ("[[local]]\nregion = '00000x'\nsource = 's'\noff = []", "local.region = '00000x': must be a code"),
        ("[[local]]\nregion = '450000'\nsource = 's'\noff = ['2026-04-01']", "local.off = '2026-04-01': is not in"),
    ],
)
@pytest.mark.parametrize("place", ["calendar", "calendar.d"])
def test_a_wrong_holiday_notice_is_refused(folder: Path, text: str, told: str, place: str) -> None:
    (folder / place).mkdir(exist_ok=True)
    (folder / place / "cn-2027.toml").write_text(f"year = 2027\ncomplete = true\nsource = 's'\n{text}\n")
    assert told in refused(folder, "")


def test_a_mistake_is_told_with_its_line(folder: Path) -> None:
    text = "year = 2027\ncomplete = true\nsource = 's'\nwork = [\n  '2027-02-06',\n  '2027-02-08',  # a Monday\n]\n"
    (folder / "calendar" / "cn-2027.toml").write_text(text)
    assert "cn-2027.toml: work = '2027-02-08': is no Saturday or Sunday, so it needs no make-up rule (line 6)" in (
        refused(folder, "")
    )
    (folder / "calendar" / "cn-2027.toml").write_text("year = 2027\ncomplete = 1\nsource = 's'\n")
    assert "complete = 1: must be true or false (line 2)" in refused(folder, "")


@pytest.mark.parametrize(
    ("text", "doubted"),
    [
        ("year = 2026\ncomplete = true\nsource = 's'\nwork = ['2026-10-01']\n", {2026}),
        ("year = 2025\ncomplete = 1\nsource = 's'\n", {2025}),
        ("year = 1\n", {2024, 2025, 2026}),
        ("off = [\n", {2024, 2025, 2026}),
        ("", {2024, 2025, 2026}),
    ],
)
def test_a_wrong_notice_makes_nobody_wait_and_its_year_uncertain(folder: Path, text: str, doubted: set[int]) -> None:
    """What it was to change is unknown: its days are as before, and nothing is official on them."""
    good = configure(folder, "")
    (folder / "calendar.d").mkdir()
    (folder / "calendar.d" / "bad.toml").write_text(text)
    found = configure(folder, "")
    assert found.refused
    assert all("bad.toml" in problem for problem in found.refused)
    for year, notice in found.calendars.items():
        assert notice.complete is (year not in doubted), year
        assert (notice.off, notice.work) == (good.calendars[year].off, good.calendars[year].work)


def test_days_off_of_a_minority_area_count_in_its_region_only(folder: Path) -> None:
    """放假办法 art. 4."""
    notice = "year = 2026\ncomplete = false\nsource = 's'\n[[local]]\nregion = '450000'\nsource = '广西三月三'\n"
    (folder / "calendar.d").mkdir()
    (folder / "calendar.d" / "local.toml").write_text(notice + "off = ['2026-04-20..2026-04-21']\n")
    festival = date(2026, 4, 20)
    for region, off in (("450100", True), ("450000", True), ("370800", False), ("", False)):
        year = configure(folder, f"[deadline]\nregion = '{region}'").calendars[2026]
        assert (festival in year.off) is off, region
    assert "广西三月三" in configure(folder, "[deadline]\nregion = '450100'").calendars[2026].cited[festival]


def test_a_file_of_ours_wins_over_the_packaged_one(folder: Path) -> None:
    (folder / "calendar.d").mkdir()
    (folder / "calendar.d" / "aa.toml").write_text(
        "year = 2026\ncomplete = false\nsource = '补充'\nwork = ['2026-10-04']\n"
    )
    year = configure(folder, "").calendars[2026]
    assert date(2026, 10, 4) in year.work - year.off
    assert year.cited[date(2026, 10, 4)] == "补充"
    assert year.cited[date(2026, 10, 5)] == "国办发明电〔2025〕7号"


def test_every_profile_cites_its_article_and_says_what_it_leaves_out(folder: Path) -> None:
    for path in (folder / "profiles").glob("*.toml"):
        profile = configure(folder, f"[deadline]\nprofile = '{path.stem}'").profile
        assert profile.uncovered, path
        assert all(len(rule.citation) > 5 for rule in profile.rules), path
        binding = {"shandong", "nanchang", "wenshang"}
        assert all(rule.binding == (path.stem in binding) for rule in profile.rules), path
    names = sorted(path.stem for path in (folder / "profiles").glob("*.toml"))
    assert names == ["custom", "jiange", "nanchang", "qilin", "shandong", "wenshang"]


def test_a_notice_may_settle_the_last_days_of_the_year_before(folder: Path) -> None:
    text = "year = 2027\ncomplete = true\nsource = 's'\noff = ['2026-12-31..2027-01-03']\nwork = ['2026-12-27']\n"
    (folder / "calendar" / "cn-2027.toml").write_text(text)
    assert date(2026, 12, 31) in configure(folder, "").calendars[2027].off


def test_a_later_file_wins_for_a_day_and_keeps_the_rest(folder: Path) -> None:
    text = "year = 2026\ncomplete = false\nsource = '补充通知'\noff = ['2026-09-03']\nwork = ['2026-10-04']\n"
    (folder / "calendar" / "cn-2026a.toml").write_text(text)
    year = configure(folder, "").calendars[2026]
    assert year.complete
    assert year.source == "国办发明电〔2025〕7号；补充通知"
    assert {date(2026, 9, 3), date(2026, 10, 5)} <= year.off
    assert date(2026, 10, 4) in year.work - year.off


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("= 3", "inventory.toml: is not a TOML file"),
        ("recorder = 3", "recorder = 3: must be tables like [recorder.DSJ-001]"),
        ("[recorders.x]", "recorders: there is no such option; did you mean recorder?"),
        ("[recorder]\nx = 3", "recorder.x = 3: must be a table"),
        ("[recorder.'../x']\nnumber = '1'", "recorder = '../x': must be a name of letters"),
        ("[recorder.x]\nserial = 's'\nproduct = 'p'", "recorder.x.number = None: is missing"),
        ("[recorder.x]\nnumber = ''", "recorder.x.number = '': must be text, 1..64"),
        ('[recorder.x]\nnumber = "a\\u202e"', "recorder.x.number = 'a\\u202e': must be text, 1..64"),
        ("[recorder.x]\nnumber = '1'\nkind = 'drone'", "recorder.x.kind = 'drone': must be \"body_camera\" or"),
        ("[recorder.x]\nnumber = '1'\nserial = 's'", "recorder.x = 'serial': are too few marks"),
        ("[recorder.x]\nnumber = '1'\nproduct = 'p'\nvolume_label = 'v'", "are too few marks to recognise it by"),
        ("[recorder.x]\nnumber = '1'\nfilesystem_ids = 'x'", "filesystem_ids = 'x': must be a list of texts"),
        ("[recorder.x]\nnumber = '1'\nseriall = 's'", "recorder.x.seriall: there is no such option; did you mean"),
        (
            "".join(f"[recorder.{name}]\nnumber = '{name}'\nserial = 's'\nproduct = 'p'\n" for name in "xy"),
            "recorder.y = 'y': has the same marks as recorder.x",
        ),
        ("[recorder.x]\n[recorder.x]", "inventory.toml: is not a TOML file"),
        ("x" * (2 << 20), "it is larger than"),
    ],
)
def test_a_wrong_inventory_is_refused(folder: Path, text: str, told: str) -> None:
    (folder / "inventory.toml").write_text(text)
    what = refused(folder, "")
    assert told in what
    assert str(folder / "inventory.toml") in what


def test_an_inventory_that_can_not_be_read_is_not_taken_for_none(folder: Path) -> None:
    (folder / "inventory.toml").unlink()
    (folder / "inventory.toml").symlink_to("nowhere")
    assert "inventory.toml: can't be read" in refused(folder, "")


def test_without_an_inventory_nobody_is_owned(folder: Path) -> None:
    (folder / "inventory.toml").unlink()
    assert configure(folder, "").inventory == {}


def test_no_calendars_is_no_error_only_provisional(tmp_path: Path) -> None:
    problems: list[str] = []
    assert read_calendars([tmp_path / "none"], "", problems) == {}
    assert problems == []


# Roster and items: never in the way of pulling, and nobody is named in what goes to logs.

ROSTER = """
[officer.A-17]
name = "张三丰"
cert_no = "37080012345"
valid_from = 2024-03-01
valid_until = 2029-02-28
[officer.A-18]
name = "李四光"
[officer.A-19]
cert_no = "99887766"
[officer.A-20]
name = "王五"
valid_from = 2026-01-01
valid_until = 2025-01-01
[officer.A-21]
name = "赵六"
valid_until = "2025-01-01"
[officer."钱七"]
name = "钱七"
[officer.A-22]
name = "孙八"
cert = "1"
"""


def test_a_wrong_line_of_the_roster_is_left_out_and_told_by_its_number_without_naming_anybody(folder: Path) -> None:
    (folder / "roster.toml").write_text(ROSTER)
    forms = configure(folder, "").forms
    assert sorted(forms.officers) == ["A-17", "A-18"]
    assert forms.officers["A-17"].valid_until == date(2029, 2, 28)
    told = "\n".join(forms.refused)
    lines = [int(number) for number in re.findall(r"line (\d+)", told)]
    assert lines == [9, 14, 17, 18, 22]
    assert not re.search("[\u4e00-\u9fff]|A-|9988|2025", told)
    with pytest.raises(ConfigError, match=r"roster\.toml"):
        checked(folder / "agent.toml")


@pytest.mark.parametrize("text", ["[officer", "officer = 3", "[officers.a]\nname = 'x'", "officer.a = 3", "\x00"])
def test_a_roster_that_makes_no_sense_stops_nobody(folder: Path, text: str) -> None:
    (folder / "roster.toml").write_text(text)
    forms = configure(folder, "").forms
    assert forms.officers == {}
    assert "roster.toml" in "".join(forms.refused)


def test_roster_and_items_are_read_again_and_bad_ones_leave_the_old_in_force(folder: Path) -> None:
    config = configure(folder, "")
    assert (config.forms.officers, config.forms.items, config.forms.refused) == ({}, {}, ())
    (folder / "items.toml").write_text('[item.XC-01]\ntitle = "检查"\nstage = "S03"\n')
    (folder / "roster.toml").write_text('[officer.A-17]\nname = "张三"\n')
    config, _ = reloaded(config)
    assert config.forms.items["XC-01"].stage == "S03"
    assert config.forms.officers["A-17"].cert_no == ""
    (folder / "items.toml").write_text('[item.XC-01]\ntitle = "检查"\nstage = "S98"\n')
    with pytest.raises(ConfigError, match="roster, items, rooms that were read before stay"):
        reloaded(config)


KEY = signer("bureau.example/key").key.vkey
LOG, WITNESS = (
    Key(name, algorithm, bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")).vkey
    for name, algorithm in (("dock-b", Algorithm.ED25519), ("dock-b/witness", Algorithm.COSIGNATURE))
)
"""The public key of RFC 8032 §7.1, test 1, as a neighbour's."""

OTHERS = {
    "station.name": '"x"', "station.contact": '"x"', "station.org_name": '"x"', "station.org_type": '"agency"',
    "station.org_code": '"11370000MB2847382F"', "storage.root": '"/x"', "storage.reserve_bytes": "1",
    "storage.seal": "false",
    "store.kind": '"s3"', "store.name": '"x"', "store.hours": '["19:00-07:00"]',
    "scrub.hours": '["19:00-07:00"]', "store.options": "{ path = '/x' }",
    "deadline.profile": '"nanchang"', "deadline.region": '"450100"', "deadline.satisfied_by": '"local"',
    "dock.unknown": '"take"',
    "dock.receiver": '"/x"',
    "dock.image_dir": '"/x"', "status.host": '"::1"', "status.tls_certificate": '"/x"', "status.tls_key": '"/x"',
    "oidc.issuer": '"https://sso.example"\nclient_id = "x"\naddress = "https://dock"\nroles = { x = "it" }',
    "oidc.client_id": '"x"', "oidc.client_secret": '"/x"', "oidc.ca_file": '"/x"', "oidc.address": '"x"',
    "oidc.name_claim": '"sub"', "oidc.roles_claim": '"x"', "oidc.roles": '{ x = "it" }',
    "transcript.command": '["/x", "{original}"]\ntool = "x"',
    "transcript.tool": '"x"', "transcript.language": '"zh"', "access.encoder": '"software"', "access.overlay": '"time"',
    "manifest.command": f'["/x"]\nkey = "{KEY}"', "manifest.key": f'"{KEY}"\ncommand = ["/x"]',
    "timestamp.url": '"https://tsa"\nca_file = "/x"', "timestamp.ca_file": '"/x"',
    "release.when": '"when_full"', "release.roles": '["transcript"]',
    "access.notice": '"x"', "log.origin": '"x"', "witness.host": '"::1"',
    "log.witnesses": f'["{WITNESS} http://10.0.0.2:8471"]', "witness.logs": f'["{LOG}"]',
}  # fmt: skip


def another(key: str) -> str:
    """A value of an option that isn't its default, as TOML."""
    default = options()[key].default
    if key in OTHERS:
        return OTHERS[key]
    return str(not default).lower() if isinstance(default, bool) else str(default + 1)


@pytest.mark.parametrize("key", sorted(options()))
def test_a_reload_takes_an_option_over_or_says_that_it_needs_a_new_start(folder: Path, key: str) -> None:
    before = configure(folder, "")
    section, _, name = key.partition(".")
    training = '[station]\nname = "演练"\n' if key == "dock.simulate" else ""
    changed = configure(folder, f"{training}[{section}]\n{name} = {another(key)}\n")
    after, waiting = reloaded(before)

    def value(config: Config) -> object:
        return getattr(getattr(config, section), name)

    assert value(changed) != value(before)
    assert waiting == ((key,) if name in AT_START.get(section, ()) else ())
    assert value(after) == value(before if waiting else changed)
    assert reloaded(changed) == (changed, ()), "what is in force waits for nothing"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("agent.toml", "[dock]\nusb = 1\n", "dock.usb = 1: must be true or false (line 2)"),
        (
            "slots.toml",
            '[slots]\n"pci-0000:00:14.0-usb-0:1" = ""\n',
            "slots.pci-0000:00:14.0-usb-0:1 = '': must be a name",
        ),
        ("inventory.toml", "[recorder.A-1]\nserial = 7\n", "recorder.A-1.serial = 7: must be text"),
        ("interruptions.toml", "[[code]]\ncode = 'INT-01'\nzh = 3\n", "code.zh = 3: must be text"),
        ("roster.toml", "[officer.A-17]\nname = 3\n", "name = …: must be text, 1..40 characters, on one line (line 2)"),
        ("items.toml", "[item.XC-01]\ntitle = 3\n", "title = …: must be text"),
        ("profiles/shandong.toml", "title = 3\n", "title = 3: must be text"),
        ("calendar/cn-2026.toml", "year = 2026\ncomplete = 1\n", "complete = 1: must be true or false (line 2)"),
        ("calendar.d/ours.toml", "year = 2026\ncomplete = 1\n", "complete = 1: must be true or false (line 2)"),
    ],
)
def test_every_file_is_checked_and_named_with_key_value_and_reason(
    folder: Path, name: str, text: str, told: str
) -> None:
    (folder / "calendar.d").mkdir()
    (folder / name).write_text(text)
    what = refused(folder, text if name == "agent.toml" else "")
    assert f"{folder / name}: {told}" in what


def test_a_reload_with_a_mistake_in_any_file_changes_nothing_and_names_them_all(folder: Path) -> None:
    config = configure(folder, "")
    (folder / "agent.toml").write_text("[station]\nname = ''\n")
    for name in ("inventory", "interruptions", "roster", "items"):
        (folder / f"{name}.toml").write_text("wrong = 1\n")
    with pytest.raises(ConfigError) as caught:
        reloaded(config)
    for name in ("agent", "inventory", "interruptions", "roster", "items"):
        assert f"{name}.toml: " in caught.value.what


def profiled(folder: Path, line: str) -> Config:
    path = folder / "profiles" / "shandong.toml"
    path.write_text(path.read_text().replace("[[rule]]\nkind", f"{line}\n[[rule]]\nkind", 1))
    return configure(folder, "")


def test_a_profile_says_which_stages_it_has_without_changing_any_limit(folder: Path) -> None:
    before = configure(folder, "")
    after = profiled(folder, "stages = ['S03', 'S05']\ncase_no = '鲁医保案〔20[0-9]{2}〕[0-9]{1,4}号'")
    assert (after.forms.stages, after.forms.case_no[:4]) == (("S03", "S05"), "鲁医保案")
    assert Rules(after.profile, after.calendars).digest == Rules(before.profile, before.calendars).digest


@pytest.mark.parametrize("line", ["stages = ['S03', 'S21']", "stages = 'S03'", "case_no = '(a+)+'", "case_no = '['"])
def test_a_profile_can_t_invent_stages_nor_a_pattern_that_never_ends(folder: Path, line: str) -> None:
    with pytest.raises(ConfigError, match=r"stages|case_no"):
        profiled(folder, line)


@pytest.mark.parametrize("code", ["113700000", "11370000MB284647I9", "11370000mb28464709"])
def test_a_code_that_is_no_credit_code_is_refused(folder: Path, code: str) -> None:
    assert "must be code of 18 digits" in refused(folder, f"[station]\norg_code = '{code}'")
    assert configure(folder, "[station]\norg_code = '11370000MB28464709'").station.org_code
