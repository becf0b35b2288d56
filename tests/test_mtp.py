"""MTP devices with the faults of real ones keep the contract of a driver; nothing is asked that could change them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest
from blake3 import blake3

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
from agent.drivers.ptp import Operation
from agent.errors import DeviceError
from agent.model import BLOCK_BYTES, Clip, Device, FailReason, Finding, Volume
from simulator.mtp import PARTIAL, PROPERTY, READING, STORAGE, WRITING, MtpDevice, Thing, Vast, array, served
from tests.driver_conformance import CARD, DriverConformance


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
USUAL, FAST = Limits(), Limits(stall_s=3.0)


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
        with pytest.raises(DeviceError, match="unlock"):
            await listing(driver)


async def test_operations_of_another_maker_are_not_used_by_their_number(tmp_path: Path) -> None:
    """What reads in Android's devices may do anything in a camera that has the same number for something of its own."""
    device = with_file()
    device.extensions = "canon.com: 1.0"
    async with docked(device, tmp_path) as driver:
        clip = clips(await listing(driver))[PATH]
        await fetched(driver, FetchRequest(clip, "a.part"))
    assert not {code for code in device.asked if code > 0x1FFF}
