"""Who is spoken to before a docking, and to which docking what was said belongs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.recorders import Match
from agent.drivers.base import Docked, ListingEnd
from agent.drivers.dock import DockedPath
from agent.drivers.mass_storage import MassStorage
from agent.lines.announced import Announced
from agent.lines.asking import Heard
from agent.lines.wire import Trouble
from agent.model import Device, Finding, Volume
from simulator.card import Card
from simulator.serial_recorder import Fault, SerialRecorder
from tests.dock_listener import Ear, running
from tests.driver_conformance import CARD, DriverConformance
from tests.fakes import FakeRecorder
from tests.lines import SLOTS, Dock, hand_over, quick, quick_recorder, shipped

DISK = Device("mass_storage", serial="SN1")


@pytest.fixture
def dock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dock:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    hand_over(tmp_path)
    return Dock()


async def test_a_recorder_that_is_a_disk_too_is_heard_before_it_and_not_switched(dock: Dock) -> None:
    with quick_recorder(ahead_s=60) as recorder:
        dock.plug("3", recorder, is_disk=True)
        heard = await dock.board.before("3", DISK)
    assert heard is not None
    assert heard.offset_ms is not None
    assert abs(heard.offset_ms - 60_000) <= heard.uncertainty_ms + 1
    assert heard.told["device_no"] == "0000217"
    assert not recorder.is_disk
    assert "MSDC" not in recorder.heard


async def test_a_recorder_that_becomes_a_disk_is_switched_and_what_it_said_goes_to_that_disk_once(dock: Dock) -> None:
    with quick_recorder(ahead_s=60) as recorder:
        dock.plug("3", recorder, serial="SN1")
        dock.board.looked()
        async with asyncio.timeout(20):
            while not recorder.is_disk:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        dock.ports.clear()
        heard = await dock.board.before("3", DISK)
        assert heard is not None
        assert heard.is_disk
        assert await dock.board.before("3", DISK) is None, "what sits there next said nothing"
    assert recorder.heard.count("MSDC") == 1


class Leaving(SerialRecorder):
    """Becomes a disk before its answer to that has come, or is pulled out at another request."""

    leaves_at = "MSDC"

    def reply(self, request: str) -> str:
        """As ever."""
        if request == self.leaves_at:
            self.fault, self.fault_from = Fault.GONE, 0
        return SerialRecorder.reply(self, request)


@pytest.mark.parametrize("leaves_at", ["MSDC", "POWER?", "INFO?"])
async def test_one_that_goes_before_it_has_said_that_it_will_be_a_disk_is_known_again_and_no_other(
    dock: Dock, leaves_at: str
) -> None:
    with Leaving(ahead_s=60, tenths=True) as recorder:
        recorder.leaves_at = leaves_at
        dock.plug("3", recorder, serial="SN1")
        dock.board.looked()
        (call,) = dock.board._here.values()
        assert call.task is not None
        spoken = await call.task
        dock.ports.clear()
        heard = await dock.board.before("3", DISK)
    assert spoken.failed[-1] == ("disk" if leaves_at == "MSDC" else "tell", Trouble.GONE)
    assert spoken.offset_ms is not None
    assert heard == (spoken if leaves_at == "MSDC" else None)
    assert dock.kinds() == ["line"]
    assert dock.board.problems() == ()
    assert await dock.board.before("3", DISK) is None


@pytest.mark.parametrize("why", ["other slot", "other serial", "too late", "never switched"])
async def test_what_one_recorder_said_is_not_ascribed_to_another(dock: Dock, why: str) -> None:
    with quick_recorder(fault=Fault.SILENT if why == "never switched" else Fault.NONE, fault_from=4) as recorder:
        dock.plug("3", recorder, serial="SN2" if why == "other serial" else "")
        dock.board.looked()
        (call,) = dock.board._here.values()
        assert call.task is not None
        await call.task
    dock.ports.clear()
    dock.board.looked()
    dock.now_s += 61 if why == "too late" else 1
    assert await dock.board.before("4" if why == "other slot" else "3", DISK) is None


async def test_a_slot_without_a_line_and_a_line_without_a_profile_are_not_waited_for(dock: Dock) -> None:
    assert await dock.board.before("2", DISK) is None
    with quick_recorder() as recorder:
        dock.plug("2", recorder)
        dock.ports["2"] = replace(dock.ports["2"], usb="ffff:0001")
        assert await dock.board.before("2", DISK) is None
        assert recorder.heard == []
        dock.board.use({}, SLOTS)
        assert await dock.board.before("2", DISK) is None


async def test_a_line_outside_of_the_dock_is_never_spoken_to(dock: Dock) -> None:
    with quick_recorder() as recorder:
        dock.plug("3", recorder)
        dock.ports["3"] = replace(dock.ports["3"], path="pci-0000:00:1a.0-usb-0:7:1.0")
        dock.board.looked()
        assert await dock.board.before("3", DISK) is None
    assert recorder.heard == []


async def test_a_line_that_is_wired_to_a_slot_is_spoken_to_at_each_docking(dock: Dock) -> None:
    with quick_recorder(ahead_s=-5) as recorder:
        dock.wired("body camera.img", recorder.node)
        for _ in range(2):
            heard = await dock.board.before("body camera.img", DISK)
            assert heard is not None
            assert heard.offset_ms is not None
            assert heard.offset_ms < -4000
        assert await dock.board.before("other.img", DISK) is None
    assert recorder.heard.count("INIT") == 2
    assert "MSDC" not in recorder.heard


async def test_a_recorder_that_does_not_answer_is_told_until_it_is_gone_and_read_all_the_same(dock: Dock) -> None:
    with quick_recorder(fault=Fault.GARBAGE) as recorder:
        dock.plug("3", recorder, is_disk=True)
        heard = await dock.board.before("3", DISK)
    assert heard is not None
    assert heard.offset_ms is None
    (told,) = dock.board.problems()
    assert "端口 3" in told
    assert "波特率" in told
    assert [(one.kind, one.detail["failed"]) for one in dock.incidents] == [("line", "greet: garbage")]
    dock.ports.clear()
    dock.board.looked()
    assert dock.board.problems() == ()


async def test_what_is_told_of_a_wire_is_over_when_its_recorder_leaves(dock: Dock, tmp_path: Path) -> None:
    with quick_recorder(fault=Fault.OTHER) as recorder:
        dock.wired("3", recorder.node)
        docked = DockedPath("sda#1", tmp_path, "3", DISK)
        opener = dock.board.announced("3", docked, lambda: FakeRecorder({"a.mp4": b"a"}, tmp_path))
        async with aclosing(opener().clips()) as items:
            assert [item.detail["failed"] async for item in items if isinstance(item, Finding)]
    assert len(dock.board.problems()) == 1
    dock.board.gone("sdb#2")
    assert len(dock.board.problems()) == 1
    dock.board.gone("sda#1")
    assert dock.board.problems() == ()


async def test_two_recorders_of_one_number_are_told_and_each_keeps_its_own_clock(dock: Dock) -> None:
    with quick_recorder(ahead_s=100) as one, quick_recorder(ahead_s=-100) as other:
        dock.plug("1", one, is_disk=True, serial="SAME")
        dock.plug("2", other, is_disk=True, serial="SAME")
        same = Device("mass_storage", serial="SAME")
        first, second = await asyncio.gather(dock.board.before("1", same), dock.board.before("2", same))
    assert first is not None
    assert second is not None
    assert first.offset_ms is not None
    assert second.offset_ms is not None
    assert (first.offset_ms > 98_000, second.offset_ms < -98_000) == (True, True)
    assert dock.kinds() == ["line-same-number"]
    assert any("设备号相同" in told for told in dock.board.problems())


async def test_the_clock_is_set_after_everything_was_taken_over_and_only_where_that_is_wanted(dock: Dock) -> None:
    with quick_recorder(ahead_s=3600) as recorder:
        for set_clock in (False, True):
            dock.wired("3", recorder.node, set_clock=set_clock)
            await dock.board.before("3", DISK)
            assert recorder.ahead_s == 3600, "never before"
            dock.board.emptied("3")
            dock.board.emptied("3")
            await asyncio.gather(*dock.board._tasks)
            assert (abs(recorder.ahead_s) < 2) is set_clock
    (told,) = dock.incidents
    assert (told.kind, told.detail["was_set"]) == ("line-clock-set", True)
    assert abs(int(str(told.detail["offset_ms"])) - 3_600_000) < 1000, "how wrong it was is kept"


async def test_who_has_refused_its_password_doesn_t_hear_it_again_when_its_clock_could_be_set(dock: Dock) -> None:
    with quick_recorder(ahead_s=3600, password="654321") as recorder:
        dock.wired("3", recorder.node, set_clock=True)
        heard = await dock.board.before("3", DISK)
        assert heard is not None
        assert heard.failed == (("unlock", Trouble.REFUSED),)
        dock.board.emptied("3")
        await asyncio.gather(*dock.board._tasks)
    assert recorder.heard == ["INIT", "PASS 000000"]
    assert dock.kinds() == ["line"]


async def test_a_look_that_fails_is_a_trouble_and_hinders_no_docking(dock: Dock) -> None:
    def blind() -> list[object]:
        raise OSError(5, "Input/output error")

    dock.board.look = blind  # type: ignore[assignment]
    assert await dock.board.before("3", DISK) is None
    ear = Ear()
    async with running(dock.board.run(ear, 0.05)):
        await ear.until(lambda: bool(ear.troubles))


async def test_detection_speaks_by_itself_and_leaves_nothing_behind(dock: Dock) -> None:
    with quick_recorder(delay_s=0.3) as recorder:
        dock.plug("3", recorder)
        ear = Ear()
        async with running(dock.board.run(ear, 0.05)):
            await ear.until(lambda: bool(recorder.heard))
    assert dock.board._tasks == set()


class TestAnnounced(DriverConformance):
    """A recorder that was spoken to is a recorder like any other."""

    def dock(self, tmp_path: Path, staging: Path) -> Docked:
        image = Card.exfat(tmp_path / "exfat.img", 160 << 20)
        with image as card:
            for path, content in CARD.items():
                card.add(path, content)

        async def said() -> Heard:
            return Heard("v8", {"device_no": "0000217"})

        return Announced(MassStorage(image.path, Device("mass_storage"), staging), said)


async def test_what_was_said_is_a_finding_behind_the_volumes_of_the_first_listing(tmp_path: Path) -> None:
    async def said() -> Heard:
        return Heard("v8", {"device_no": "0000217"}, failed=())

    docked = Announced(FakeRecorder({"a.mp4": b"a"}, tmp_path), said)
    async with aclosing(docked.clips()) as items:
        first = [item async for item in items]
    assert isinstance(first[0], Volume)
    assert first[1] == Finding("line", {"profile": "v8", "told": {"device_no": "0000217"}, "failed": []})
    async with aclosing(docked.clips()) as items:
        again = [item async for item in items]
    assert [item for item in first if item != first[1]] == again
    assert isinstance(again[-1], ListingEnd)


async def test_nobody_waits_for_a_recorder_that_is_pulled_out_while_it_is_spoken_to(tmp_path: Path) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    docked = Announced(FakeRecorder({"a.mp4": b"a"}, tmp_path), never)

    async def listing() -> None:
        async with aclosing(docked.clips()) as items:
            async for _ in items:
                pass

    task = asyncio.create_task(listing())
    await asyncio.sleep(0.05)
    await docked.unplugged()
    async with asyncio.timeout(20):
        await asyncio.gather(task, return_exceptions=True)


def test_profiles_for_usb_and_for_wires_are_told_apart() -> None:
    assert shipped().matches == (Match(usb="1d6b:0947"),)
    assert quick().clock_step_ms == 100
