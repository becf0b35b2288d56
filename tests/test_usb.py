"""Promise: recorders are read-only and apart, each in the slot that the dock's print says; what is none is refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import checked, ports, reloaded
from agent.config.ports import slot_of
from agent.config.slots import in_order
from agent.drivers.detect import REFUSALS
from agent.drivers.dock import DockedPath
from agent.errors import ConfigError
from agent.model import Device, Phase, SlotProgress
from agent.pipeline.runner import Runner
from agent.service import Service
from agent.status.reasons import reason_words
from tests.conftest import SettableClock
from tests.stations import SHIPPED, opened
from tests.status_station import configured
from tests.udev_world import play

PORT = "pci-0000:00:14.0-usb-0:"
SCSI = ":1.0-scsi-0:0:0:"


@pytest.mark.root
@pytest.mark.parametrize("scene", ["disks", "policy", "nodes", "detection"])
def test_the_rules_as_they_are_shipped(scene: str) -> None:
    """Played by the real udevadm among made devices; each scene's promise is told in usb_world."""
    play(scene, "tests.usb_world")


# The slots.

SLOTS = {f"{PORT}1.2": "二", f"{PORT}1.1": "一", "pci-0000:00:14.0-usb-0:9": "一"}


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"{PORT}1.1", "一"),
        (f"{PORT}1.1{SCSI}0", "一"),
        (f"{PORT}9{SCSI}0", "一"),
        (f"{PORT}1.2{SCSI}1", "二 /1"),
        (f"{PORT}1.2:1.1-scsi-0:0:0:0", "二 :1.1"),
        (f"{PORT}1.2.4{SCSI}0", "二 .4"),
        (f"{PORT}1.2.4{SCSI}1", "二 .4/1"),
        (f"{PORT}1.20{SCSI}0", ""),
        (f"{PORT}1{SCSI}0", ""),
        ("DSJ.img", ""),
        ("", ""),
    ],
)
def test_a_port_is_the_slot_that_is_printed_on_the_dock(path: str, shown: str) -> None:
    assert slot_of(path, SLOTS) == shown


PATHS = st.builds(
    "{}{}:1.{}-scsi-0:0:0:{}".format,
    st.just(f"{PORT}1"),
    st.sampled_from(["", ".1", ".2", ".1.2"]),
    *[st.integers(0, 12)] * 2,
)


@given(st.lists(PATHS, unique=True, max_size=30))
def test_no_two_disks_in_one_slot_have_the_same_name(paths: list[str]) -> None:
    """Otherwise the screen would show one recorder in the place of another."""
    assert len({slot_of(path, {f"{PORT}1": "3"}) for path in paths}) == len(paths)


def test_screens_show_the_slots_in_the_order_of_the_dock() -> None:
    names = ("sdz", "一", "二 /1", "二", "by hand: /dev/sdb")
    shown = in_order([SlotProgress(name, "", Phase.READING) for name in sorted(names)], SLOTS)
    assert [slot.slot for slot in shown] == ["二", "二 /1", "一", "by hand: /dev/sdb", "sdz"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[slots]\n"usb 1" = "1"', "must be a USB port, like"),
        ('[slots]\n"" = "1"', "must be a USB port, like"),
        (f'[slots]\n"{PORT}1" = ""', "must be a name of 1..16 characters without blanks"),
        (f'[slots]\n"{PORT}1" = "a b"', "must be a name of 1..16"),
        (f'[slots]\n"{PORT}1" = "a\\u202eb"', "must be a name of 1..16"),
        (f'[slots]\n"{PORT}1" = 1', "must be a name of 1..16"),
        (f'[slots]\n"{PORT}1" = "1"\n"{PORT}1.2" = "2"', f"'{PORT}1.2': is a part of the port {PORT}1"),
        ("slots = 3", "must be a table of ports and names"),
        ("[slot]", "did you mean slots?"),
        ("[slots", "is not a TOML file"),
    ],
)
def test_a_wrong_file_of_slots_is_refused(tmp_path: Path, text: str, told: str) -> None:
    config = configured(tmp_path)
    file = config.path.parent / "slots.toml"
    file.write_text(text, "utf-8")
    for read in (lambda: checked(config.path), lambda: reloaded(config)):
        with pytest.raises(ConfigError) as caught:
            read()
        assert told in caught.value.what
        assert str(file) in caught.value.what


def test_the_example_of_the_shipped_file_is_one(tmp_path: Path) -> None:
    """As shipped no slot is named; taken out of its comments it names three; SIGHUP is enough."""
    config = configured(tmp_path)
    assert config.slots == {}
    file = config.path.parent / "slots.toml"
    file.write_text(file.read_text("utf-8").replace('# "pci', '"pci'), "utf-8")
    assert list(reloaded(config)[0].slots.items()) == [(f"{PORT}1.{slot}", f"{slot}") for slot in (1, 2, 3)]
    file.unlink()
    assert checked(config.path).slots == {}


@pytest.mark.parametrize(
    ("text", "path", "told"),
    [
        (None, f"{PORT}1", "any"),
        ("", f"{PORT}1", "any"),
        ("[slots]", "", "any"),
        (f'[slots]\n"{PORT}1" = "1"', f"{PORT}1{SCSI}0", "slot"),
        (f'[slots]\n"{PORT}1" = "1"', f"{PORT}12", "other"),
        (f'[slots]\n"{PORT}1" = "1"', "", "other"),
        ("[slots", f"{PORT}1", ""),
        ("slots = 3", f"{PORT}1", ""),
        ("\udcff", f"{PORT}1", ""),
    ],
)
def test_udev_is_told_whose_port_it_is_or_nothing(tmp_path: Path, text: str | None, path: str, told: str) -> None:
    """As udev calls it: without the agent's packages."""
    file = tmp_path / "slots.toml"
    if text is not None:
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = subprocess.run(
        ["/usr/bin/python3", "-IS", ports.__file__, file, path], capture_output=True, text=True, check=False
    )
    assert done.stdout == (f"CAPTURE_AGENT_PORT={told}" if told else "")
    assert (done.returncode == 0) == bool(told)


# The screens.


def docked(port: str, link_mbit_s: float = 480) -> DockedPath:
    return DockedPath(f"sd{port}#1", Path("/dev/null"), f"{PORT}{port}{SCSI}0", Device("mass_storage"), link_mbit_s)


async def test_a_slot_has_its_name_and_a_slow_link_is_told_until_it_is_unplugged(
    tmp_path: Path, clock: SettableClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with opened(tmp_path / "root", clock) as station:
        runner = Runner(station)
        service = Service(replace(SHIPPED, slots={f"{PORT}1": "左一", f"{PORT}2": "右一"}), station, runner)
        async with runner._group:
            for number, speed in (("2", 12.0), ("1", 480.0), ("3", 0.0)):
                service.on_docked(docked(number, speed))
            assert [slot.slot for slot in service.live().slots] == ["左一", "右一", f"{PORT}3{SCSI}0"]
            (told,) = service.live().problems
            assert "端口 右一 连接仅 12 Mbit/s" in told
            assert "slot 右一 is linked at 12 Mbit/s" in caplog.text
            for number in "213":
                service.on_gone(docked(number).key)
            assert service.live().problems == ()
        await asyncio.gather(*service._recording)
        told = [event.detail for event in station.journal.reader.events(0, 100) if "slow-link" in event.detail]
        assert json.loads(told[0])["detail"] == {"mbit_s": 12.0, "slot": "右一"}
        assert len(told) == 1


async def test_what_is_no_recorder_is_shown_in_its_slot_in_both_languages(tmp_path: Path, clock: SettableClock) -> None:
    async with opened(tmp_path / "root", clock) as station:
        service = Service(replace(SHIPPED, slots={f"{PORT}1": "1"}), station, Runner(station))
        bad = DockedPath("1-1#5", Path("/sys/1-1"), f"{PORT}1", Device("usb", "DSJ", "V8"))
        service.on_refused(bad, REFUSALS["refused-input"])
        (slot,) = service.live().slots
        assert (slot.slot, slot.device_label, slot.phase, slot.may_remove) == ("1", "V8", Phase.UNSUPPORTED, False)
        assert (
            slot.message == "未授权设备：其中有键盘或鼠标，已禁用 (a keyboard or a mouse is in it: it was switched off)"
        )
        service.on_gone(bad.key)
        assert service.live().slots == ()


def test_every_reason_is_told_in_chinese_too() -> None:
    for reason in (*REFUSALS.values(), "mounted", "in use"):
        assert reason_words(reason)["zh"].isascii() is False
