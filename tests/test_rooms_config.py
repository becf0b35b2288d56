"""Promise: a wrong room is left out and told with file, key, value and reason; no password is in it, nor told."""

from __future__ import annotations

import re
import shutil
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import Config, checked, load, reloaded
from agent.config.options import CREDENTIALS
from agent.config.rooms import Room, Source, read_rooms
from agent.errors import ConfigError
from agent.rooms.protocol import Transport
from agent.status.health import left_out

SHIPPED = Path(__file__).parent.parent / "config"
GOOD = '[room.a1.source.front]\nurl = "rtsp://10.1.2.3/main"\n'


def uncommented() -> str:
    """The shipped file with its example in force, as an administrator would have it."""
    text = (SHIPPED / "rooms.toml").read_text("utf-8")
    return re.sub(r"^# (\[room.*\]|\w+ = .*)$", r"\1", text, flags=re.MULTILINE)


def configured(folder: Path, text: str) -> Config:
    etc = folder / "etc"
    if not etc.exists():
        shutil.copytree(SHIPPED, etc)
    (etc / "rooms.toml").write_text(text, "utf-8")
    return load(etc / "agent.toml")


def read(folder: Path, text: str) -> tuple[dict[str, Room], str]:
    path = folder / "rooms.toml"
    path.write_text(text, "utf-8")
    found, problems = read_rooms(path)
    return dict(found), "\n".join(problems)


def test_as_shipped_there_is_no_room_and_its_example_is_the_defaults(tmp_path: Path) -> None:
    assert configured(tmp_path, (SHIPPED / "rooms.toml").read_text("utf-8")).rooms == {}
    found, told = read(tmp_path, uncommented())
    assert told == ""
    (source,) = found["hearing"].sources
    assert source.secret is not None
    assert source.secret.name == "capture-agent.camera-hearing"
    assert source.name == "front"
    stated = {"title", "schedule", "button", "lamp", "sources", "name"}
    kept = {option.name: getattr(found["hearing"], option.name) for option in fields(Room)} | {"sources": ()}
    assert replace(Room(), **{name: kept[name] for name in kept.keys() - stated}) == Room()


def test_every_option_is_documented_with_what_it_takes_and_its_default_and_no_other() -> None:
    text = (SHIPPED / "rooms.toml").read_text("utf-8")
    document = tomllib.loads(uncommented())["room"]["hearing"]
    source = document.pop("source")["front"]
    for kind, table in ((Room, document), (Source, source)):
        known = {option.name: option for option in fields(kind) if option.metadata}
        assert table.keys() == known.keys()
        for name, option in known.items():
            said = re.search(rf"^# (.*); (?:no default|default .*)\n# {name} = ", text, re.MULTILINE)
            assert said, name
            assert said[1] == option.metadata["takes"], name


def test_the_documented_default_is_the_real_one() -> None:
    text = (SHIPPED / "rooms.toml").read_text("utf-8")
    defaults = {option.name: option.default for kind in (Room, Source) for option in fields(kind)}
    told = dict(re.findall(r"^# .*; (no default|default \S+).*\n# (\w+) = .*$", text, re.MULTILINE))
    for stated, name in ((stated, name) for stated, name in told.items() if stated.startswith("default")):
        value = tomllib.loads(f"x = {stated.removeprefix('default ')}")["x"]
        assert value == ("" if defaults[name] is None else defaults[name]), name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[room.a1]\nsegment_s = 0\n", "room.a1.segment_s = 0: must be integer, 2..3600 seconds (line 2)"),
        ("[room.a1]\nstage = 'S98'\n", "room.a1.stage = 'S98': must be one of S01"),
        ("[room.a1]\nname = 'x'\n", "room.a1.name: there is no such option"),
        ("[room.a1]\nbutton = '/dev/input/event3'\n", "button = '/dev/input/event3': must be like evdev:/dev/input/"),
        ("[room.a1]\nschedule = 'x.ics'\n", "room.a1.schedule = 'x.ics': must be an absolute path"),
        ("[room.a1]\ntitle = 'x'\n", "room.a1.source = None: there must be at least one [room.a1.source.…] (line 1)"),
        ("[room.a1.source.f]\ntitle = 'x'\n", "room.a1.source.f.url = None: is missing"),
        ("[room.a1.source.f]\nurl = 'http://x/y'\n", "url = '…': must be like rtsp://"),
        ("[room.a1.source.f]\nurl = 'v4l2:/etc/passwd'\n", "url = '…': must be like rtsp://"),
        ("[room.a1.source.f]\nurl = 'rtsp://h:99999/x'\n", "url = '…': must be like rtsp://"),
        ("[room.a1.source.f]\nurl = 'rtsp://[/x'\n", "url = '…': must be like rtsp://"),
        ("[room.a1.source.f]\nurl = 'rtsp://a..b/x'\n", "url = '…': must be like rtsp://"),
        (f"[room.a1.source.f]\nurl = 'onvif://{'a' * 64}.cn'\n", "url = '…': must be like rtsp://"),
        (f"{GOOD}transport = 'http'\n", 'room.a1.source.front.transport = \'http\': must be "tcp" or "udp" (line 3)'),
        (f"{GOOD}[room.a1.source.b]\nurl = 'rtsp://10.1.2.3/main'\n", "b.url = None: is also the address of another"),
        ("[room.'第一']\ntitle = 'x'\n", "room = '第一': must be a name of letters"),
        ("[rooms.a1]\ntitle = 'x'\n", "rooms: there is no such option; did you mean room?"),
        ("room = 3", "room = None: must be tables like [room.a1]"),
        ("[room]\na1 = 3", "room = None: must be tables like [room.a1]"),
        ("[room.a1]\nsource = 3\n", "room.a1.source = None: must be tables like [room.a1.source.a1]"),
        ("".join(f"[room.a{number}]\n" for number in range(33)), "room = 33: must be at most 32"),
        ("[room", "is not a TOML file"),
        ("\x00", "is not a TOML file"),
    ],
)
def test_a_mistake_is_told_with_file_key_value_and_reason(tmp_path: Path, text: str, told: str) -> None:
    found, problems = read(tmp_path, text)
    assert told in problems
    assert all(line.startswith(f"{tmp_path}/rooms.toml: ") for line in problems.splitlines())
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        'url = "rtsp://admin:Geheim7@10.1.2.3/main"',
        'url = "rtsp://Geheim7@10.1.2.3/main"',
        'url = "rtsp//admin:Geheim7@10.1.2.3/main"',
        'url = "onvif://admin:Geheim7@10.1.2.3"',
        'url = "rtsp://10.1.2.3/user=admin_password=Geheim7_channel=1"',
        'url = "rtsp://10.1.2.3/x?PWD=Geheim7"',
        'url = "rtsp://admin:Geheim7 x@10.1.2.3/main"',
        'url = "rtsp://10.1.2.3/x"\ncredential = "admin:Geheim7"',
        'url = "rtsp://10.1.2.3/x"\npassword = "Geheim7"',
    ],
)
def test_a_password_has_no_place_in_the_file_and_is_never_told(tmp_path: Path, line: str) -> None:
    config = configured(tmp_path, f"[room.a1.source.front]\n{line}\n")
    assert config.rooms == {}
    (told,) = config.rooms_refused
    assert "Geheim" not in told + "".join(left_out(config))
    assert "room.a1.source.front." in told


def test_cameras_that_want_the_password_inside_the_address_get_it_there(tmp_path: Path) -> None:
    url = "rtsp://10.1.2.3/user={user}&password={password}&channel=1"
    found, told = read(tmp_path, f'[room.a1.source.front]\nurl = "{url}"\n')
    assert (found["a1"].sources[0].url, told) == (url, "")


def test_a_wrong_room_is_left_out_and_told_and_stops_neither_the_others_nor_the_dock(tmp_path: Path) -> None:
    config = configured(tmp_path, f"{GOOD}[room.b2]\nsegment_s = 0\n[room.b2.source.x]\nurl = 3\n")
    assert list(config.rooms) == ["a1"]
    assert config.rooms["a1"].title == "a1"
    assert config.rooms["a1"].sources == (Source(name="front", title="front", url="rtsp://10.1.2.3/main"),)
    (shown,) = left_out(config)
    assert shown.startswith("询问室、听证室配置有误")
    assert "room.b2.segment_s" in shown
    assert "room.b2.source.x.url" in shown
    with pytest.raises(ConfigError, match="segment_s") as caught:
        checked(config.path)
    assert "room.b2.source.x.url" in caught.value.what


def test_a_file_that_can_not_be_read_is_told_and_none_is_no_room(tmp_path: Path) -> None:
    assert read_rooms(tmp_path / "rooms.toml") == ({}, ())
    (tmp_path / "rooms.toml").mkdir()
    assert "can't be read" in "".join(read_rooms(tmp_path / "rooms.toml")[1])


def test_a_reload_takes_rooms_over_and_wrong_ones_leave_the_old_in_force(tmp_path: Path) -> None:
    before = configured(tmp_path, GOOD)
    configured(tmp_path, GOOD.replace("a1", "b2"))
    after, waiting = reloaded(before)
    assert (list(after.rooms), waiting) == (["b2"], ())
    configured(tmp_path, "[room.b2]\nsegment_s = 0\n")
    with pytest.raises(ConfigError, match="rooms that were read before stay"):
        reloaded(after)


def test_each_source_s_transport_is_one_that_the_recorder_knows(tmp_path: Path) -> None:
    for transport in Transport:
        found, told = read(tmp_path, f'{GOOD}transport = "{transport}"\n')
        assert told == ""
        assert Transport(found["a1"].sources[0].transport) is transport


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=20), st.booleans()), max_size=4))
def test_any_table_is_taken_or_refused_with_a_reason(table: dict[str, object]) -> None:
    problems: list[str] = []
    from agent.config.options import TomlFile
    from agent.config.rooms import _read_room

    room = _read_room(TomlFile(Path("rooms.toml"), problems), "a1", table)
    assert problems, "there is no source in it"
    assert room.sources == ()


def test_a_camera_s_credential_can_t_be_another_secret_of_the_service() -> None:
    assert not [name for name in CREDENTIALS if name.startswith("capture-agent.camera-")]
