"""MTP devices with the faults of real ones keep the contract of a driver; nothing is asked that could change them."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from agent.drivers.base import (
    BlockWritten,
    Docked,
    Failed,
    Fetched,
    FetchReport,
    FetchRequest,
    Listing,
    Progress,
    RefusedEntry,
)
from agent.drivers.mass_storage import Limits
from agent.drivers.mtp import Mtp
from agent.drivers.mtp_objects import MtpFile, Walk, stamp_of
from agent.drivers.ptp import (
    Conversation,
    GoneError,
    ObjectInfo,
    Operation,
    PtpError,
    Response,
    Session,
    StorageInfo,
)
from agent.drivers.ptp_usb import USBDEVFS_BULK, Interface, PtpUsb, interface_of
from agent.drivers.source import LOOKS
from agent.errors import DeviceError
from agent.model import BLOCK_BYTES, Clip, Device, FailReason, Finding, Phase, SlotProgress, Stamp, Volume
from agent.pipeline.acquire import Docking, End
from agent.pipeline.progress import Meter
from agent.pipeline.station import Station
from agent.status.reasons import reason_words
from simulator.mtp import PARTIAL, PROPERTY, READING, STORAGE, WRITING, MtpDevice, Thing, Vast, array, served
from tests.cards import accounts, assert_not_done, expected, held
from tests.conftest import SettableClock
from tests.driver_conformance import CARD, DriverConformance
from tests.stations import opened

ROOT = Path(__file__).resolve().parents[1]


class TestMtp(DriverConformance):
    """The conformance suite against an Android recorder."""

    operations = MtpDevice().operations
    extensions = MtpDevice().extensions

    @pytest.fixture(autouse=True)
    async def where(self) -> AsyncIterator[None]:
        made = MtpDevice(operations=self.operations, extensions=self.extensions)
        for path, data in CARD.items():
            made.add(path, data)
        async with served(made) as self.place:
            yield

    def dock(self, tmp_path: Path, staging: Path) -> Docked:
        return Mtp(Path(self.place), Device("mtp"), staging)


class TestMtpOfTheFirstGeneration(TestMtp):
    """The same of a device that reads in pieces only to 4 GiB."""

    operations = (*READING, PARTIAL, PROPERTY)
    extensions = "microsoft.com: 1.0;"


class TestPtpCamera(TestMtp):
    """The same of a camera that gives its objects only as a whole."""

    operations = READING
    extensions = ""


GIB = 1 << 30
SMALL = b"evidence" * 1000
USUAL, FAST = Limits(), Limits(stall_s=8.0)


async def listing(docked: Docked) -> list[Listing]:
    async with aclosing(docked.clips()) as items:
        return [item async for item in items]


def clips(items: Sequence[Listing]) -> dict[str, Clip]:
    return {item.path: item for item in items if isinstance(item, Clip)}


def findings(items: Sequence[Listing], kind: str) -> list[Mapping[str, object]]:
    return [item.detail for item in items if isinstance(item, Finding) and item.kind == kind]


async def fetched(docked: Docked, *requests: FetchRequest) -> list[FetchReport]:
    async with aclosing(docked.fetch(requests)) as reports:
        return [report async for report in reports]


@contextlib.asynccontextmanager
async def docked(device: MtpDevice, folder: Path, limits: Limits = USUAL) -> AsyncIterator[Mtp]:
    """The driver at a served device; in the end nothing was ever asked that changes anything."""
    async with served(device) as where:
        found = Mtp(Path(where), Device("mtp"), folder, limits)
        try:
            yield found
        finally:
            await found.close()
    assert set(device.asked) <= set(Operation)
    assert not set(device.asked) & set(WRITING)


def with_file(data: bytes | Vast = SMALL, **told: int | str) -> MtpDevice:
    device = MtpDevice()
    device.add("DCIM/100ANDRO/0001.MP4", data, **told)
    return device


PATH = "DCIM/100ANDRO/0001.MP4"


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (11_000_000_123, {"stated": 11_000_000_123 % (4 * GIB)}),
        (11_000_000_123, {"stated": 11_000_000_123 % (4 * GIB), "stated_64": 11_000_000_123 % (4 * GIB)}),
        (11_000_000_123, {"stated": 0, "stated_64": 0}),
        (11_000_000_123, {"stated_64": 0}),
        (4 * GIB - 2, {"stated": 0xFFFFFFFF, "stated_64": 0xFFFFFFFF}),
        (4 * GIB, {"stated": 0, "stated_64": 0}),
        (4 * GIB + 1, {"stated": 1, "stated_64": 1}),
        (70_000, {"stated": 70_512, "stated_64": 70_512}),
        (70_512, {"stated": 70_000, "stated_64": 70_512}),
        (70_000, {"stated": 70_000, "stated_64": 140_000}),
        (0, {"stated": 512}),
        (1, {"stated": 0}),
    ],
)
async def test_a_size_is_found_by_reading_whatever_the_device_says(
    size: int, told: dict[str, int], tmp_path: Path
) -> None:
    async with docked(with_file(Vast(size), **told), tmp_path) as driver:
        items = await listing(driver)
        (differing,) = findings(items, "size-differs")
        assert clips(items)[PATH].readable_bytes == differing["found"] == size
        assert differing["stated"] == told.get("stated", 0xFFFFFFFF)


@pytest.mark.parametrize("size", [0, 1, 4 * GIB - 2, 4 * GIB - 1, 4 * GIB, 4 * GIB + 1, 11_000_000_123])
async def test_a_true_size_is_not_doubted_beyond_4_gib_either(size: int, tmp_path: Path) -> None:
    """In 32 bits such an object has the size FFFFFFFF, which is no lie: the other statement has it."""
    async with docked(with_file(Vast(size)), tmp_path) as driver:
        items = await listing(driver)
        assert findings(items, "size-differs") == []
        assert (clips(items)[PATH].size_bytes, clips(items)[PATH].readable_bytes) == (size, size)


async def test_the_end_of_11_gb_is_read_where_an_earlier_attempt_stopped(tmp_path: Path) -> None:
    """Only the last block is asked for; the part is sparse, as nobody reads what was durable already."""
    size, device = 11_000_000_123, with_file(Vast(11_000_000_123), stated=0, stated_64=0)
    first = size // BLOCK_BYTES
    (tmp_path / "a.part").touch()
    os.truncate(tmp_path / "a.part", first * BLOCK_BYTES)
    async with docked(device, tmp_path) as driver:
        clip = clips(await listing(driver))[PATH]
        block, end = await fetched(driver, FetchRequest(clip, "a.part", first_block=first))
    assert isinstance(block, BlockWritten)
    assert isinstance(end, Fetched)
    assert (block.blake3, end.size_bytes) == (blake3(Vast(size)[first * BLOCK_BYTES : size]).hexdigest(), size)
    assert device.sent_bytes < 2 * BLOCK_BYTES


async def test_more_than_4_gib_of_an_old_device_are_counted_by_reading_all(tmp_path: Path) -> None:
    """It can't be asked for what lies behind; the device here ends earlier, so that no test takes minutes."""
    device = MtpDevice(operations=READING, extensions="")
    device.add("A.MP4", SMALL, stated=0xFFFFFFFF)
    device.add("B.MP4", SMALL, stated=0)
    async with docked(device, tmp_path) as driver:
        items = await listing(driver)
        assert {clip.readable_bytes for clip in clips(items).values()} == {len(SMALL)}
        assert len(findings(items, "size-differs")) == 2


class Camera(Session):
    """An old camera with one film, that it gives only as a whole, without a wire: that would take long."""

    reach_bytes = 0

    def __init__(self, mebibytes: int | None) -> None:
        self._film = itertools.repeat(memoryview(bytes(1 << 20)), *([] if mebibytes is None else [mebibytes]))

    def storages(self) -> tuple[int, ...]:
        return (STORAGE,)

    def storage(self, storage: int) -> StorageInfo:
        return StorageInfo(64 * GIB, 0, "", "")

    def children(self, storage: int, folder: int) -> tuple[int, ...]:
        return (1,)

    def object(self, handle: int) -> ObjectInfo:
        return ObjectInfo(STORAGE, False, 0xFFFFFFFF, "A.MOV".encode("utf-16-le"), "", "")

    def stated_size(self, handle: int) -> int | None:
        return None

    def whole(self, handle: int) -> Iterator[memoryview]:
        return self._film


@pytest.mark.parametrize(("mebibytes", "differing"), [(4096, 0), (4097, 0), (4095, 1)])
def test_a_size_that_32_bits_can_only_call_too_large_is_no_lie(mebibytes: int, differing: int) -> None:
    """It has no other statement; what it sends is counted."""
    _, file, *findings = Walk(Camera(mebibytes), lambda: None)
    assert isinstance(file, MtpFile)
    assert (file.size_bytes, len(findings)) == (mebibytes << 20, differing)


def test_an_object_without_an_end_is_left_when_it_is_larger_than_its_storage() -> None:
    with pytest.raises(PtpError, match="more of an object than its storage holds"):
        list(Walk(Camera(None), lambda: None))


@pytest.mark.parametrize("operations", [READING, (*READING, PARTIAL)])
async def test_an_object_with_more_bytes_than_stated_is_taken_as_it_comes(
    operations: tuple[int, ...], tmp_path: Path
) -> None:
    """512 bytes too many behind each object, in all that is known of it."""
    device = MtpDevice(operations=operations, extensions="")
    device.add("A.MP4", SMALL + bytes(512), stated=len(SMALL))
    async with docked(device, tmp_path) as driver:
        clip = clips(await listing(driver))["A.MP4"]
        _, end = await fetched(driver, FetchRequest(clip, "a.part"))
        assert isinstance(end, Fetched)
    assert (tmp_path / "a.part").read_bytes() == SMALL + bytes(512)
    assert clip.flags == ("size-differs",)


async def test_a_device_that_sends_more_than_it_was_asked_for_is_not_believed(tmp_path: Path) -> None:
    device = with_file()
    device.surplus = 512
    async with docked(device, tmp_path) as driver:
        with pytest.raises(DeviceError, match="sends more than was asked"):
            await listing(driver)


async def change_name(device: MtpDevice) -> None:
    device.things[3].name = "0002.MP4"


async def change_time(device: MtpDevice) -> None:
    device.things[3].made = "20261120T090001"


async def grow(device: MtpDevice) -> None:
    device.things[3].data = SMALL + b"more"


async def shrink(device: MtpDevice) -> None:
    device.things[3].data = SMALL[:-1]


async def remove(device: MtpDevice) -> None:
    del device.things[3]


@pytest.mark.parametrize("change", [change_name, change_time, grow, shrink, remove])
@pytest.mark.parametrize("reading", [False, True], ids=["before it is read", "while it is read"])
@pytest.mark.parametrize("operations", [READING, (*READING, PARTIAL)], ids=["whole", "pieces"])
async def test_an_object_that_changes_after_it_was_listed_is_not_taken(
    change: Callable[[MtpDevice], Awaitable[None]], reading: bool, operations: tuple[int, ...], tmp_path: Path
) -> None:
    device = with_file(SMALL * 400)
    device.operations, device.extensions = operations, ""
    async with docked(device, tmp_path) as driver:
        clip = clips(await listing(driver))[PATH]
        if reading:

            def changed(thing: Thing, offset: int) -> None:
                device.reads = lambda thing, offset: None
                asyncio.get_running_loop().create_task(change(device))

            device.reads = changed
        else:
            await change(device)
        reports = await fetched(driver, FetchRequest(clip, "a.part"))
        assert [report.reason for report in reports if isinstance(report, Failed)] == [FailReason.CHANGED]
        assert not any(isinstance(report, Fetched) for report in reports)


async def test_gone_in_the_middle_ends_everything_as_gone(tmp_path: Path) -> None:
    device = with_file(Vast(3 * BLOCK_BYTES))
    device.add("B.MP4", SMALL)
    device.gone_after = BLOCK_BYTES + BLOCK_BYTES // 2
    async with docked(device, tmp_path) as driver:
        wanted = [FetchRequest(clip, f"{clip.number}.part") for clip in clips(await listing(driver)).values()]
        wanted.sort(key=lambda request: -request.clip.size_bytes)
        reports = await fetched(driver, *wanted)
    assert [type(report) for report in reports if not isinstance(report, Progress)] == [BlockWritten, Failed, Failed]
    assert all(report.reason is FailReason.GONE for report in reports if isinstance(report, Failed))


async def test_a_device_that_falls_silent_costs_one_object_and_the_next_child_goes_on(tmp_path: Path) -> None:
    device = MtpDevice()
    for name in "AB":
        device.add(f"{name}.MP4", SMALL)
    async with docked(device, tmp_path, FAST) as driver:
        found = clips(await listing(driver))
        device.stall_after = device.sent_bytes + 1000
        device.reads = lambda thing, offset: None
        reports = driver.fetch([FetchRequest(found[f"{name}.MP4"], f"{name}.part") for name in "AB"])
        async with aclosing(reports):
            ends = []
            async for report in reports:
                device.stall_after = None
                if isinstance(report, (Fetched, Failed)):
                    ends.append(report)
    assert isinstance(ends[0], Failed)
    assert ends[0].reason is FailReason.BROKEN
    assert "not answered" in ends[0].message
    assert isinstance(ends[1], Fetched)
    assert (tmp_path / "B.part").read_bytes() == SMALL


async def test_a_new_child_that_finds_something_else_reads_nothing(tmp_path: Path) -> None:
    device = with_file()
    async with docked(device, tmp_path) as driver:
        clip = clips(await listing(driver))[PATH]
        await driver._stop_puller()
        device.add("new.mp4", b"new")
        (report,) = await fetched(driver, FetchRequest(clip, "a.part"))
        assert isinstance(report, Failed)
        assert report.reason is FailReason.BROKEN
        assert "something else" in report.message


async def test_all_of_10000_objects_in_two_storages_are_listed_and_named_once(tmp_path: Path) -> None:
    device = MtpDevice(storages={STORAGE: "", 0x00020001: "外置卡", 0x00030000: "no medium"})
    for number in range(10_000):
        device.add(f"{number % 7}/{number:05}.JPG", b"x" * (number % 3), STORAGE + (number % 2 << 16))
    async with docked(device, tmp_path) as driver:
        items = await listing(driver)
    found = clips(items)
    assert len(found) == 10_000
    assert sum(path.startswith("volume-2/") for path in found) == 5000
    assert [item.filesystem_id for item in items if isinstance(item, Volume)] == ["00010001", "外置卡"]


NAMES = [
    "执法_现场.MP4",
    "..",
    "a/b",
    "",
    "tab\there",
    "\ud800half",
    "same.mp4",
    "same.mp4",
    "x" * 254,
    "\u202egpj.exe",
]


async def test_odd_and_equal_names_are_all_kept_apart_and_safe(tmp_path: Path) -> None:
    device = MtpDevice()
    for number, name in enumerate(NAMES, 1):
        device.things[number] = Thing(name, bytes([number]) * number)
    async with docked(device, tmp_path) as driver:
        items = await listing(driver)
        found = [item for item in items if isinstance(item, Clip)]
        reports = await fetched(driver, *(FetchRequest(clip, f"{clip.number}.part") for clip in found))
    assert sorted(clip.raw_name for clip in found) == sorted(
        name.encode("utf-16-le", "surrogatepass") for name in NAMES
    )
    assert {"执法_现场.MP4", "<U+002E><U+002E>", "a<U+002F>b", "<empty>", "tab<U+0009>here"} <= {c.path for c in found}
    assert sum(isinstance(report, Fetched) for report in reports) == len(NAMES)
    contents = sorted((tmp_path / f"{clip.number}.part").read_bytes() for clip in found)
    assert contents == sorted(bytes([number]) * number for number in range(1, len(NAMES) + 1))


async def test_folders_in_circles_and_without_end_are_left_and_told(tmp_path: Path) -> None:
    device = with_file()
    for handle in range(100, 150):
        device.things[handle] = Thing(f"{handle}", None, parent=handle - 1 if handle > 100 else 0)
    device.things[200] = Thing("circle", None, parent=200)
    device.things[201] = Thing("entry", None, parent=0)
    device.things[1].parent = 0
    inside = device.answer

    def answer(code: int, parameters: tuple[int, ...]) -> tuple[int, Iterator[bytes] | None, tuple[int, ...]]:
        if code == Operation.GET_OBJECT_HANDLES and parameters[2] == 201:
            device.asked.append(code)
            return 0x2001, iter([array("I", 1, 201)]), ()
        return inside(code, parameters)

    device.answer = answer  # type: ignore[method-assign]
    async with docked(device, tmp_path) as driver:
        items = await listing(driver)
    assert list(clips(items)) == [PATH]
    assert len(findings(items, "directory-loop")) == 2
    assert len(findings(items, "too-deep")) == 1


async def test_what_a_device_refuses_to_give_is_told_as_refused(tmp_path: Path) -> None:
    device = with_file()
    device.add("protected.mp4", SMALL, code=0x200F)
    async with docked(device, tmp_path) as driver:
        items = await listing(driver)
    (refused,) = (item for item in items if isinstance(item, RefusedEntry))
    assert (refused.clip.path, "0x200f" in refused.reason) == ("protected.mp4", True)
    assert list(clips(items)) == [PATH]


async def test_a_busy_device_is_asked_again(tmp_path: Path) -> None:
    device = with_file()
    device.busy = 3
    async with docked(device, tmp_path) as driver:
        assert list(clips(await listing(driver))) == [PATH]


async def test_a_locked_telephone_without_a_storage_is_told_what_to_do(tmp_path: Path) -> None:
    async with docked(MtpDevice(storages={}), tmp_path) as driver:
        with pytest.raises(DeviceError, match="Unlock it, and choose file transfer"):
            await listing(driver)


async def test_a_storage_that_tells_nothing_of_itself_and_too_many_of_them_are_told_and_cost_no_other(
    tmp_path: Path,
) -> None:
    device = with_file()
    device.storages = {STORAGE + (number << 16): "" for number in range(20)} | {STORAGE - 0x10000: ""}
    device.refused = {STORAGE - 0x10000: 0x2013}
    async with docked(device, tmp_path) as driver:
        items = await listing(driver)
    assert list(clips(items)) == [f"volume-2/{PATH}"]
    whys = [str(found["why"]) for found in findings(items, "directory-damaged")]
    assert [why.rpartition(" ")[2] for why in whys] == ["storages", "0x2013"]


async def test_operations_of_another_maker_are_not_used_by_their_number(tmp_path: Path) -> None:
    """What reads in Android's devices may do anything in a camera that has the same number for something of its own."""
    device = with_file()
    device.extensions = "canon.com: 1.0"
    async with docked(device, tmp_path) as driver:
        clip = clips(await listing(driver))[PATH]
        await fetched(driver, FetchRequest(clip, "a.part"))
    assert not {code for code in device.asked if code > 0x1FFF}


@contextlib.asynccontextmanager
async def both_served(*devices: MtpDevice) -> AsyncIterator[list[Path]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [Path(await stack.enter_async_context(served(device))) for device in devices]


async def pulled(station: Station, where: Path, serial: str) -> tuple[End, SlotProgress]:
    shown: list[SlotProgress] = []
    driver = Mtp(where, Device("mtp", "DSJ", "V8", serial), station.vault.staging_dir)
    end = await Docking(station, driver, where.name, Meter(where.name, "V8", shown.append)).run()
    return end, shown[-1]


async def test_two_devices_with_one_serial_number_at_once_are_kept_apart(tmp_path: Path, clock: SettableClock) -> None:
    """The same names, sizes and times, and other footage: a whole docking each, and each again."""
    films = [Vast(2 * BLOCK_BYTES + 10)[begin : begin + BLOCK_BYTES + 1] for begin in (0, BLOCK_BYTES)]
    async with (
        opened(tmp_path / "root", clock) as station,
        both_served(*map(with_file, films)) as places,
    ):
        for outcome in ("pulled", "already_held"):
            ends = await asyncio.gather(*(pulled(station, where, "058F63666485") for where in places))
            assert [end for end, _ in ends] == [End.COMPLETE, End.COMPLETE]
            assert [shown.phase for _, shown in ends] == [Phase.FINISHED, Phase.FINISHED]
            assert accounts(station) == {outcome: 1}
        assert held(station) == expected(*films)


async def test_a_docking_whose_sizes_were_lies_has_all_and_is_not_called_complete(
    tmp_path: Path, clock: SettableClock
) -> None:
    device = with_file(SMALL, stated=0, stated_64=0)
    async with opened(tmp_path / "root", clock) as station, served(device) as where:
        _, shown = await pulled(station, Path(where), "1")
        assert held(station) == expected(SMALL)
        assert shown.phase is Phase.FAILED
        assert reason_words(shown.message)["zh"].startswith("1 个文件的大小与记录仪所述不符")
        await assert_not_done(station, shown)


@pytest.mark.parametrize("gone_after", [0, 300])
async def test_unplugged_while_it_is_listed_is_told_as_unplugged(
    gone_after: int, tmp_path: Path, clock: SettableClock
) -> None:
    device = with_file()
    device.gone_after = gone_after
    async with opened(tmp_path / "root", clock) as station, served(device) as where:
        end, shown = await pulled(station, Path(where), "1")
        assert (end, shown.phase, shown.message) == (End.YANKED, Phase.UNPLUGGED, "")


async def test_unplugged_in_the_middle_and_docked_again_it_goes_on(tmp_path: Path, clock: SettableClock) -> None:
    film = Vast(3 * BLOCK_BYTES + 5)
    device = with_file(film)
    device.gone_after = 2 * BLOCK_BYTES + BLOCK_BYTES // 2
    async with opened(tmp_path / "root", clock) as station, served(device) as where:
        assert (await pulled(station, Path(where), "1"))[0] is End.YANKED
        device.gone_after = None
        before = device.sent_bytes
        end, shown = await pulled(station, Path(where), "1")
        assert (end, shown.phase) == (End.COMPLETE, Phase.FINISHED)
        assert device.sent_bytes - before < 2 * BLOCK_BYTES + 3 * len(SMALL), "a block to compare, and the rest"
        assert held(station) == expected(film[0 : film.size_bytes])


async def test_libgphoto2_reads_the_same_from_it() -> None:
    """So the device of these tests is one that others understand, too, not only this driver."""
    if importlib.util.find_spec("gphoto2") is None:
        pytest.skip("gphoto2 is not installed: ./run test does it")
    device = MtpDevice()
    for path, data in CARD.items():
        device.add(path, data)
    async with served(device) as where:
        command = [sys.executable, "-m", "tests.gphoto_reader", f"{where}:{device.port}"]
        reader = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
        async with asyncio.timeout(60):
            output, _ = await reader.communicate()
    assert reader.returncode == 0
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in CARD.items() if data}
    assert {path.removeprefix("/store_00010001/"): one for path, one in json.loads(output).items()} == digests


@given(st.binary(max_size=200))
def test_a_dataset_of_any_bytes_is_read_or_refused(data: bytes) -> None:
    class Wire:
        def converse(self, operation: Operation, transaction: int, parameters: Sequence[int]) -> Conversation:
            yield memoryview(data)
            return Response(0x2001, transaction)

        def recover(self) -> None:
            pass

    session = Session(Wire())
    for ask in (session.open, session.storages, lambda: session.storage(1), lambda: session.object(1)):
        with contextlib.suppress(PtpError):
            ask()


@given(st.binary(max_size=100))
def test_descriptors_of_any_bytes_have_an_interface_or_none(descriptors: bytes) -> None:
    with contextlib.suppress(PtpError):
        assert interface_of(descriptors).bulk_in & 0x80


def descriptors(*interfaces: tuple[int, bytes, tuple[int, ...]]) -> bytes:
    """Of a device with these interfaces: number, class, and the addresses of two bulk endpoints and one for events."""
    data = bytes([18, 1, *bytes(16), 9, 2, *bytes(7)])
    for number, kind, ends in interfaces:
        data += bytes([9, 4, number, 0, len(ends), *kind, 0])
        for place, address in enumerate(ends):
            data += bytes([7, 5, address, 3 if place == 2 else 2, 0, 2, 0])
    return data


def test_the_interface_for_still_images_goes_before_those_of_the_maker() -> None:
    serial, mtp, ptp = (0, b"\xff\0\0", (0x81, 1)), (1, b"\xff\xff\0", (0x82, 2, 0x83)), (2, b"\6\1\1", (0x84, 4, 0x85))
    assert interface_of(descriptors(serial, mtp, ptp)) == Interface(2, 0x84, 4, 512)
    assert interface_of(descriptors(serial, mtp)) == Interface(1, 0x82, 2, 512)
    with pytest.raises(PtpError):
        interface_of(descriptors(serial))


class Usbfs:
    """The node of a device whose transfers fail, after a silence; the kernel notices `looks` later that it is gone."""

    def __init__(self, folder: Path, looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "001").write_bytes(descriptors((0, b"\6\1\1", (0x81, 1, 0x82))))
        self.fd = os.open(folder / "001", os.O_RDONLY)
        self.errors = itertools.chain([errno.ETIMEDOUT], itertools.repeat(errno.EPROTO))
        self.looks = looks
        self.pread = os.pread
        monkeypatch.setattr(fcntl, "ioctl", self.ioctl)
        monkeypatch.setattr(os, "pread", self.read)
        monkeypatch.setattr(time, "sleep", lambda _: None)

    def ioctl(self, fd: int, request: int, _data: bytes) -> int:
        if request == USBDEVFS_BULK:
            raise OSError(next(self.errors), "the transfer failed")
        return 0

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self.looks -= size == 1
        if self.looks < 0:
            raise OSError(errno.ENODEV, "No such device")
        return self.pread(fd, size, offset)


@pytest.mark.parametrize(
    ("looks", "raised"), [(0, GoneError), (LOOKS - 1, GoneError), (LOOKS, PtpError)], ids=["at once", "late", "never"]
)
def test_errors_shortly_before_it_is_known_to_be_unplugged_mean_that_it_is_gone(
    looks: int, raised: type[PtpError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usb = Usbfs(tmp_path, looks, monkeypatch)
    wire = PtpUsb(usb.fd, 1.0)
    with pytest.raises(PtpError) as caught:
        next(wire.converse(Operation.GET_DEVICE_INFO, 0, ()))
    assert type(caught.value) is raised
    os.close(usb.fd)


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("20261120T090000", Stamp("2026-11-20T09:00:00")),
        ("20261120T090000.5+0800", Stamp("2026-11-20T09:00:00.5", 480)),
        ("20261120T090000-0330", Stamp("2026-11-20T09:00:00", -210)),
        ("20261120T090000.0Z", Stamp("2026-11-20T09:00:00.0", 0)),
        ("20261120T090000+9900", Stamp("2026-11-20T09:00:00")),
        ("yesterday", Stamp()),
        ("", Stamp()),
    ],
)
def test_times_are_taken_as_they_were_written(text: str, stamp: Stamp) -> None:
    assert stamp_of(text) == stamp


def test_no_operation_that_changes_a_device_can_be_named() -> None:
    """Neither the operations that are known nor any number in the code that asks is one that writes."""
    reading = {0x1001, 0x1002, 0x1003, 0x1004, 0x1005, 0x1007, 0x1008, 0x1009, 0x101B, 0x9803, 0x95C1}
    assert set(Operation) == reading
    for path in sorted((ROOT / "agent" / "drivers").glob("*tp*.py")):
        numbers = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        codes = {number for number in numbers if isinstance(number, int) and 0x1001 <= number <= 0x1FFF}
        codes |= {number for number in numbers if isinstance(number, int) and 0x9000 <= number <= 0x9FFF}
        assert codes <= reading, path.name
