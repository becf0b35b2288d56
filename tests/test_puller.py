"""The reading loops of the puller, in process: every byte, around bad sectors, from the device that was meant."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from array import array
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.card import FailReason
from agent.drivers import pulling, reading
from agent.drivers.pulling import Order, Puller
from agent.drivers.reading import FetchError, Layout, ReadAhead, Recorder, Rescue
from agent.drivers.source import LOOK_S, LOOKS, SECTOR_BYTES, open_read_only
from agent.model import Extent
from tests.disks import MIB, ext4, loop, run, tmpfs

BLOCK = 64 * 1024
CHUNK = 8 * 1024
quick = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64 KiB and chunks of 8 KiB, so that properties meet all their borders."""
    monkeypatch.setattr(pulling, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(pulling, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(reading, "CHUNK_BYTES", CHUNK)


@dataclass(slots=True)
class Collected:
    """Implements `Reports`."""

    blocks: list[tuple[int, int, int, str]] = field(default_factory=list)
    holes: list[Extent] = field(default_factory=list)
    done: list[tuple[int, int, list[Extent], str]] = field(default_factory=list)
    on_block: Callable[[int], None] = lambda _: None

    def block(self, number: int, index: int, size_bytes: int, blake3_hex: str, holes: list[Extent]) -> None:
        self.blocks.append((number, index, size_bytes, blake3_hex))
        self.holes += holes
        self.on_block(index)

    def progress(self, number: int, done_bytes: int) -> None:
        pass

    def fetched(self, number: int, size_bytes: int, holes: list[Extent], blake3_hex: str) -> None:
        self.done.append((number, size_bytes, holes, blake3_hex))


class BadSectors(Recorder):
    """A card on which some sectors give EIO, however often they are asked for."""

    bad: frozenset[int] = frozenset()
    reads = 0
    read_bytes = 0
    cost: Callable[[], None] = staticmethod(lambda: None)

    def read(self, offset: int, view: memoryview) -> None:
        self._try(offset, len(view))
        super().read(offset, view)
        self.read_bytes += len(view)

    def read_sectors(self, offset: int, view: memoryview) -> None:
        self._try(offset, len(view))
        super().read_sectors(offset, view)

    def _try(self, offset: int, length: int) -> None:
        self.reads += 1
        self.cost()
        if not self.bad.isdisjoint(range(offset // SECTOR_BYTES, -(-(offset + length) // SECTOR_BYTES))):
            raise OSError(errno.EIO, "Input/output error")


class Card:
    """A file as a card, opened for pulling into a folder."""

    def __init__(self, path: Path, content: bytes, staging: Path) -> None:
        path.write_bytes(content)
        staging.mkdir(exist_ok=True)
        self.staging = staging
        fd, identity = open_read_only(str(path))
        self.recorder = BadSectors(str(path), fd, identity)
        self.reports = Collected()
        self.now_s = 0.0
        self.pauses: list[float] = []
        self.rescue = Rescue(self.recorder, 100.0, lambda: None, lambda: self.now_s, self.pause)
        self._staging_fd = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
        self.puller = Puller(self.recorder, self._staging_fd, self.reports, self.rescue)

    def pull(self, *orders: Order) -> None:
        for order in orders:
            self.puller.expect(order)
        for order in orders:
            self.puller.pull(order)

    def pause(self, pause_s: float) -> None:
        self.pauses.append(pause_s)

    def part(self, name: str = "a.part") -> bytes:
        return (self.staging / name).read_bytes()

    def close(self) -> None:
        self.recorder.close()
        os.close(self._staging_fd)


def layout_of(extents: list[Extent], size: int | None = None, zero_from: int | None = None) -> Layout:
    flat = array("Q", [number for extent in extents for number in extent])
    return Layout(flat, sum(length for _, length in extents) if size is None else size, zero_from)


@st.composite
def files(draw: st.DrawFn) -> tuple[list[Extent], int, int | None]:
    """(extents on a card of 1 MiB, size, zero_from)."""
    lengths = draw(st.lists(st.integers(1, 40_000), max_size=12))
    extents = [(draw(st.integers(0, MIB - length)), length) for length in lengths]
    stored = sum(lengths)
    if draw(st.booleans()):
        return extents, stored + draw(st.integers(0, 150_000)), stored
    return extents, stored, None


def content_of(card: bytes, extents: list[Extent], size: int) -> bytes:
    stored = b"".join(card[offset : offset + length] for offset, length in extents)
    return stored + bytes(size - len(stored))


def blocks_of(content: bytes) -> list[tuple[int, int, str]]:
    pieces = [content[at : at + BLOCK] for at in range(0, max(len(content), 1), BLOCK)]
    return [(index, len(piece), blake3(piece).hexdigest()) for index, piece in enumerate(pieces)]


CARD = os.urandom(MIB)


# Pulling.


@quick
@given(first=files(), second=files())
def test_a_part_has_exactly_the_bytes_of_the_extents(
    tmp_path: Path, first: tuple[list[Extent], int, int | None], second: tuple[list[Extent], int, int | None]
) -> None:
    """Any layout, fragmented or with zeros behind: part, blocks and fingerprint are those of the file."""
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.pull(
            Order(1, "a.part", layout_of(*first)),
            Order(2, "b.part", layout_of(*second)),
            Order(3, "", layout_of(*first)),
        )
        wanted = [content_of(CARD, first[0], first[1]), content_of(CARD, second[0], second[1])]
        assert [card.part("a.part"), card.part("b.part")] == wanted
        for number, content in enumerate(wanted, 1):
            assert [block[1:] for block in card.reports.blocks if block[0] == number] == blocks_of(content)
        digest = blake3(wanted[0]).hexdigest()
        assert card.reports.done == [(1, first[1], [], ""), (2, second[1], [], ""), (3, first[1], [], digest)]


@quick
@given(file=files(), data=st.data())
def test_a_resumed_pull_reads_only_what_was_not_durable(
    tmp_path: Path, file: tuple[list[Extent], int, int | None], data: st.DataObject
) -> None:
    """Beside the rest of the file, one check block is read again; what lay behind the durable blocks is replaced."""
    extents, size, zero_from = file
    content = content_of(CARD, extents, size)
    durable = data.draw(st.integers(0, len(blocks_of(content))))
    junk = data.draw(st.integers(0, 2 * BLOCK))
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        (card.staging / "a.part").write_bytes(content[: durable * BLOCK] + bytes(junk))
        check = (durable - 1, blocks_of(content)[durable - 1][2]) if durable else None
        order = Order(1, "a.part", layout_of(extents, size, zero_from), durable, check)
        card.pull(order)
        assert card.part() == content
        assert [block[1:] for block in card.reports.blocks] == blocks_of(content)[durable:]
        assert card.recorder.read_bytes == order.device_bytes() == sum(length for _, length in order.device_pieces())
        assert card.recorder.read_bytes <= max(0, order.layout.stored_bytes - durable * BLOCK) + BLOCK


def test_another_recording_in_the_same_place_is_noticed_and_the_part_is_left_alone(tmp_path: Path) -> None:
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        (card.staging / "a.part").write_bytes(CARD[: 2 * BLOCK] + b"not durable")
        with pytest.raises(FetchError) as caught:
            card.pull(Order(1, "a.part", layout_of([(BLOCK, 3 * BLOCK)]), 2, (1, blocks_of(CARD)[1][2])))
        assert caught.value.reason is FailReason.DIFFERENT
        assert card.part() == CARD[: 2 * BLOCK] + b"not durable"


@pytest.mark.parametrize(("first_block", "there"), [(2, BLOCK), (4, 4 * BLOCK - 1), (1, 0)])
def test_a_part_that_lost_durable_blocks_is_not_continued(tmp_path: Path, first_block: int, there: int) -> None:
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        (card.staging / "a.part").write_bytes(CARD[:there])
        with pytest.raises(FetchError) as caught:
            card.pull(Order(1, "a.part", layout_of([(0, 4 * BLOCK)]), first_block))
        assert caught.value.reason is FailReason.BROKEN


@pytest.mark.parametrize("name", ["../a.part", "/tmp/a.part"])
def test_a_part_is_never_outside_the_staging_folder(tmp_path: Path, name: str) -> None:
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        with pytest.raises(FetchError) as caught:
            card.pull(Order(1, name, layout_of([(0, 5)])))
        assert caught.value.reason is FailReason.BROKEN
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card", "staging"]


def test_a_link_in_the_staging_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "original").write_bytes(b"precious")
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        (card.staging / "a.part").symlink_to(tmp_path / "original")
        with pytest.raises(FetchError):
            card.pull(Order(1, "a.part", layout_of([(0, 5)])))
    assert (tmp_path / "original").read_bytes() == b"precious"


def test_an_empty_clip_has_one_empty_block(tmp_path: Path) -> None:
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.pull(Order(1, "a.part", layout_of([])))
        assert card.part() == b""
        assert card.reports.blocks == [(1, 0, 0, blake3().hexdigest())]


def test_an_image_that_shrinks_is_changed_and_the_next_clip_goes_on(tmp_path: Path) -> None:
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.reports.on_block = lambda _: os.truncate(tmp_path / "card", 3 * BLOCK + 100)
        long, short = Order(1, "a.part", layout_of([(0, 5 * BLOCK)])), Order(2, "b.part", layout_of([(0, 100)]))
        card.puller.expect(long)
        card.puller.expect(short)
        with pytest.raises(FetchError) as caught:
            card.puller.pull(long)
        assert caught.value.reason is FailReason.CHANGED
        assert [index for _, index, _, _ in card.reports.blocks] == [0, 1, 2]
        card.puller.pull(short)
        assert card.part("b.part") == CARD[:100]


@pytest.mark.root
def test_a_full_staging_disk_is_told_and_earlier_blocks_are_good(tmp_path: Path) -> None:
    """F21: ENOSPC is never success."""
    with tmpfs(tmp_path / "staging", 4 * BLOCK) as staging:
        with closing(Card(tmp_path / "card", CARD, staging)) as card:
            with pytest.raises(FetchError) as caught:
                card.pull(Order(1, "a.part", layout_of([(0, MIB)])))
            assert caught.value.reason is FailReason.NO_SPACE
            good = len(card.reports.blocks)
            assert good >= 3
            assert card.part()[: good * BLOCK] == CARD[: good * BLOCK]


# Reading ahead.


@quick
@given(lengths=st.lists(st.integers(1, 5_000_000), min_size=1, max_size=40), steps=st.lists(st.integers(0, 4_000_000)))
def test_every_coming_piece_is_asked_for_once_and_not_too_early(
    tmp_path: Path, lengths: list[int], steps: list[int]
) -> None:
    asked: list[Extent] = []
    positions = {at: sum(lengths[:at]) for at in range(len(lengths))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "posix_fadvise", lambda _fd, offset, length, _advice: asked.append((offset, length)))
        ahead = ReadAhead(0)
        ahead.expect(iter([(at, length) for at, length in enumerate(lengths[:10])]))
        ahead.expect(iter([(at, length) for at, length in enumerate(lengths[10:], 10)]))
        now = 0
        for step in [0, *steps]:
            now = min(now + step, sum(lengths))
            ahead.advance(now)
            for at, _ in asked:
                assert positions[at] < now + reading.WINDOW_BYTES
            missing = set(positions) - {at for at, _ in asked}
            assert all(positions[at] < now or positions[at] >= now + reading.WINDOW_BYTES for at in missing)
    assert [at for at, _ in asked] == sorted({at for at, _ in asked})


def test_within_one_long_piece_only_the_beginning_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel goes on by itself, with large folios; where the next piece begins it can't know."""
    asked: list[Extent] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _fd, offset, length, _advice: asked.append((offset, length)))
    long = [(MIB * at, MIB) for at in range(7)]
    ahead = ReadAhead(0)
    ahead.expect(iter([*long[:5], (100 * MIB, 4096), (200 * MIB, 4096)]))
    ahead.advance(0)
    begun = -(-reading.RUN_BYTES // MIB)
    assert asked == [*long[:begun], (100 * MIB, 4096), (200 * MIB, 4096)]


@pytest.mark.root
def test_rescue_reads_nothing_that_was_not_asked_for(tmp_path: Path) -> None:
    """On a dying card each guess of the kernel costs seconds."""
    image = tmp_path / "card"
    image.write_bytes(bytes(8 * MIB))
    (tmp_path / "staging").mkdir()
    with loop(image, read_only=True) as device:
        fd, identity = open_read_only(str(device.path))
        with closing(Recorder(str(device.path), fd, identity)) as recorder:
            recorder.let_kernel_guess(False)
            before, _ = device.counters()
            recorder.read(4 * MIB, memoryview(bytearray(MIB)))
            assert device.counters()[0] - before == MIB
            recorder.let_kernel_guess(True)
            recorder.read(5 * MIB, memoryview(bytearray(64 << 10)))
            end = time.monotonic() + 10  # what the kernel guessed comes later than what was asked for
            while device.counters()[0] - before <= MIB + (64 << 10):
                assert time.monotonic() < end, "the kernel may guess, and doesn't: the test proves nothing"
                time.sleep(0.01)


# Bad sectors.


@quick
@given(bad=st.sets(st.integers(0, 400), max_size=30), start=st.integers(0, 20_000), size=st.integers(1, 180_000))
def test_rescue_loses_exactly_the_bad_sectors(tmp_path: Path, bad: set[int], start: int, size: int) -> None:
    """Everything else is kept as it is on the card; holes are zeros, and the map says where they are."""
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.recorder.bad = frozenset(bad)
        card.pull(Order(1, "a.part", layout_of([(start, size)]), rescue=True))
        expected = bytearray(CARD[start : start + size])
        lost: set[int] = set()
        for sector in bad:
            begin, end = max(sector * SECTOR_BYTES, start), min((sector + 1) * SECTOR_BYTES, start + size)
            lost.update(range(begin - start, end - start))
        for at in lost:
            expected[at] = 0
        assert card.part() == expected
        assert {at for offset, length in card.reports.holes for at in range(offset, offset + length)} == lost
        assert [block[1:] for block in card.reports.blocks] == blocks_of(bytes(expected))
        assert all(sum(one) < other[0] or sum(one) % BLOCK == 0 for one, other in pairwise(card.reports.holes))


def test_without_rescue_the_first_bad_sector_stops_the_clip(tmp_path: Path) -> None:
    """The first pass leaves bad areas for later: blocks before are good, the rest of the card goes on."""
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.recorder.bad = frozenset({2 * BLOCK // SECTOR_BYTES + 5})
        first, second = Order(1, "a.part", layout_of([(0, 4 * BLOCK)])), Order(2, "b.part", layout_of([(9, 5)]))
        card.puller.expect(first)
        card.puller.expect(second)
        with pytest.raises(FetchError) as caught:
            card.puller.pull(first)
        assert caught.value.reason is FailReason.UNREADABLE
        assert [block[1:] for block in card.reports.blocks] == blocks_of(CARD[: 2 * BLOCK])
        card.puller.pull(second)
        assert card.part("b.part") == CARD[9:14]


def test_a_dead_card_takes_bounded_time(tmp_path: Path) -> None:
    """Each read costs a second and fails: after the limit of 100 s only a few more are tried, in ever longer leaps."""
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.recorder.bad = frozenset(range(MIB // SECTOR_BYTES))

        def cost() -> None:
            card.now_s += 1.0

        card.recorder.cost = cost  # type: ignore[method-assign]
        card.pull(Order(1, "a.part", layout_of([(0, MIB)]), rescue=True))
        assert card.now_s <= 100 + MIB // CHUNK / 4
        assert card.part() == bytes(MIB)
        assert sum(length for _, length in card.reports.holes) == MIB


def test_after_the_limit_what_is_readable_is_still_read(tmp_path: Path) -> None:
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.rescue = Rescue(card.recorder, 0.0, lambda: None, pause=card.pause)
        card.puller = Puller(card.recorder, card._staging_fd, card.reports, card.rescue)
        card.recorder.bad = frozenset({0, 900})
        card.pull(Order(1, "a.part", layout_of([(0, MIB)]), rescue=True))
        lost = sum(length for _, length in card.reports.holes)
        assert lost <= 4 * CHUNK
        assert card.part()[2 * CHUNK : 448 * 1024] == CARD[2 * CHUNK : 448 * 1024]


def test_a_block_full_of_holes_stays_a_short_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_HOLES", 10)
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.recorder.bad = frozenset(range(0, MIB // SECTOR_BYTES, 2))
        card.pull(Order(1, "a.part", layout_of([(0, BLOCK)]), rescue=True))
        assert len(card.reports.holes) <= 10 + BLOCK // CHUNK
        lost = {at for offset, length in card.reports.holes for at in range(offset, offset + length)}
        part = card.part()
        assert all(part[at] == (0 if at in lost else CARD[at]) for at in range(BLOCK))


def test_rescue_resumes_behind_durable_blocks(tmp_path: Path) -> None:
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.recorder.bad = frozenset({BLOCK // SECTOR_BYTES})
        (card.staging / "a.part").write_bytes(CARD[:BLOCK])
        check = (0, blocks_of(CARD)[0][2])
        card.pull(Order(1, "a.part", layout_of([(0, 2 * BLOCK)]), 1, check, rescue=True))
        assert card.reports.holes == [(BLOCK, SECTOR_BYTES)]
        assert card.part() == CARD[:BLOCK] + bytes(SECTOR_BYTES) + CARD[BLOCK + SECTOR_BYTES : 2 * BLOCK]


# The device, and only this device.


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM, errno.ENOTCONN])
def test_an_error_of_an_unplugged_device_is_gone(tmp_path: Path, code: int) -> None:
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        with pytest.raises(FetchError) as caught:
            card.recorder.raise_if_gone(OSError(code, "gone"))
        assert caught.value.reason is FailReason.GONE
        card.recorder.raise_if_gone(OSError(errno.EIO, "only a bad sector"))


@pytest.mark.parametrize("swap", [False, True])
def test_a_read_error_while_the_path_is_something_else_is_gone(tmp_path: Path, swap: bool) -> None:
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        (tmp_path / "card").rename(tmp_path / "old")
        if swap:
            (tmp_path / "card").write_bytes(CARD)
        with pytest.raises(FetchError) as caught:
            card.recorder.raise_if_gone(OSError(errno.EIO, "Input/output error"))
        assert caught.value.reason is FailReason.GONE


class Unplugged(Card):
    """A card that is pulled out: all reads give EIO, and only some pauses later nothing is at its path any more."""

    pauses_left = 0

    def pause(self, pause_s: float) -> None:
        super().pause(pause_s)
        if len(self.pauses) == self.pauses_left:
            (self.staging.parent / "card").unlink()


@pytest.mark.parametrize("part", ["a.part", ""], ids=["pulled", "compared"])
@pytest.mark.parametrize("pauses_left", [1, LOOKS])
def test_errors_shortly_before_it_is_known_to_be_unplugged_are_no_bad_sectors(
    tmp_path: Path, part: str, pauses_left: int
) -> None:
    with closing(Unplugged(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.pauses_left = pauses_left
        card.recorder.bad = frozenset(range(BLOCK // SECTOR_BYTES, MIB // SECTOR_BYTES))
        with pytest.raises(FetchError) as caught:
            card.pull(Order(1, part, layout_of([(0, 2 * BLOCK)]), rescue=True))
        assert caught.value.reason is FailReason.GONE
        assert (card.reports.holes, card.reports.done) == ([], [])
        assert len(card.reports.blocks) == bool(part), "the block before is good"


def test_a_hole_is_only_waited_for_where_nothing_behind_it_was_read(tmp_path: Path) -> None:
    """What is read past the cache shows that the recorder was there; a hole that ends a block costs a second."""
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.recorder.bad = frozenset({3, BLOCK // SECTOR_BYTES + 1})
        card.pull(Order(1, "a.part", layout_of([(0, 2 * BLOCK)]), rescue=True))
        assert card.reports.holes == [(3 * SECTOR_BYTES, SECTOR_BYTES), (BLOCK + SECTOR_BYTES, SECTOR_BYTES)]
        assert card.pauses == [] or not card.recorder.is_direct
        card.pauses.clear()
        card.recorder.bad = frozenset({BLOCK // SECTOR_BYTES - 1})
        card.pull(Order(2, "b.part", layout_of([(0, 2 * BLOCK)]), rescue=True))
        assert card.pauses == [LOOK_S] * LOOKS
        assert card.reports.holes[2:] == [(BLOCK - SECTOR_BYTES, SECTOR_BYTES)]


def test_an_error_of_a_file_whose_disk_was_pulled_out_is_gone(tmp_path: Path) -> None:
    """What is mounted of it stays, with paths and all."""
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        card.recorder.raise_if_gone(OSError(errno.EIO, "only a bad sector"))
        card.recorder._disk = "/sys/dev/block/0:0"
        with pytest.raises(FetchError) as caught:
            card.recorder.raise_if_gone(OSError(errno.EIO, "Input/output error"))
        assert caught.value.reason is FailReason.GONE


def test_no_descriptor_of_the_recorder_can_write(tmp_path: Path) -> None:
    with closing(Card(tmp_path / "card", CARD, tmp_path / "staging")) as card:
        for fd in (card.recorder._fd, card.recorder._direct_fd):
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(fd, b"x")


@pytest.fixture(params=["vfat", "exfat", "ext4"])
def dirty_image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A filesystem that was not unmounted: a mount, even a read-only one, would write to it."""
    image = tmp_path / "dirty.img"
    if request.param == "ext4":
        with ext4(tmp_path / "mnt", tmp_path / "live.img", 16 * MIB) as device:
            (tmp_path / "mnt" / "clip.mp4").write_bytes(os.urandom(MIB))
            os.sync()
            run("cp", device.path, image)
        assert "needs_recovery" in run("dumpe2fs", "-h", image)
    else:
        image.write_bytes(bytes(16 * MIB))
        run(f"mkfs.{request.param}", image)
        at, dirty = {"vfat": (0x25, b"\x01"), "exfat": (0x6A, b"\x02")}[request.param]
        with image.open("r+b") as file:
            file.seek(at)
            file.write(dirty)
    return image


@pytest.mark.root
def test_pulling_from_a_dirty_card_changes_no_bit_of_it(tmp_path: Path, dirty_image: Path) -> None:
    """F11, F10: a writable block device with a dirty filesystem is the same before and after, and was never written."""
    before = hashlib.sha256(dirty_image.read_bytes()).hexdigest()
    size = dirty_image.stat().st_size
    (tmp_path / "staging").mkdir()
    with loop(dirty_image) as device:
        written_before = device.counters()[1]
        fd, identity = open_read_only(str(device.path))
        assert identity.size == size
        staging_fd = os.open(tmp_path / "staging", os.O_RDONLY | os.O_DIRECTORY)
        recorder = Recorder(str(device.path), fd, identity)
        reports = Collected()
        puller = Puller(recorder, staging_fd, reports, Rescue(recorder, 10.0, lambda: None))
        for rescue in (False, True):
            order = Order(1, "a.part", layout_of([(0, size)]), rescue=rescue)
            puller.expect(order)
            puller.pull(order)
        recorder.close()
        os.close(staging_fd)
        assert device.counters()[1] == written_before
    assert (tmp_path / "staging" / "a.part").read_bytes() == dirty_image.read_bytes()
    assert hashlib.sha256(dirty_image.read_bytes()).hexdigest() == before
