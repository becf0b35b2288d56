"""One docking with a recorder in memory and everything else real: what is pulled, confirmed, rescued, left, told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.drivers.base import FetchReport, FetchRequest
from agent.errors import EvidenceError
from agent.journal.codec import decode
from agent.journal.views import DockingView
from agent.model import (
    BLOCK_BYTES,
    AssetState,
    Clip,
    Finding,
    Held,
    Observed,
    Outcome,
    Phase,
    SlotProgress,
    Stamp,
)
from agent.pipeline.acquire import Docking, End
from agent.pipeline.progress import Meter
from agent.pipeline.station import Station
from agent.vault import Settled
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder, FakeStore, digests_of
from tests.stations import dock, opened

BIG = bytes(range(251)) * (2 * BLOCK_BYTES // 251 + 9)
SMALL = {f"/DCIM/{n:04}.MP4": f"clip {n}".encode() * n for n in range(1, 40)}


class Written(FakeRecorder):
    """A recorder whose filesystem is another one after the first file was read."""

    async def fetch(self, requests: Sequence[FetchRequest]) -> AsyncGenerator[FetchReport, None]:
        self.metadata_blake3 = "11" * 32
        async for report in super().fetch(requests):
            yield report


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with opened(tmp_path / "root", clock) as station:
        yield station


def recorder(station: Station, files: dict[str, bytes], **switches: object) -> FakeRecorder:
    return FakeRecorder(dict(files), station.vault.staging_dir, **switches)  # type: ignore[arg-type]


def newest(station: Station) -> DockingView:
    return station.journal.reader.dockings(limit=1)[0]


def accounts(station: Station) -> dict[str, int]:
    """The accounting of the newest docking; what is zero is left out."""
    found = newest(station).accounting
    numbers = {outcome.value: getattr(found, outcome.value) for outcome in Outcome}
    assert found.seen == sum(numbers.values())
    return {name: number for name, number in numbers.items() if number}


def findings(station: Station) -> list[str]:
    events = [event for event in station.journal.reader.events(limit=10_000) if event.kind == "observed"]
    entries = [decode(event.kind, event.detail) for event in events if event.subject == newest(station).docking_id]
    return [entry.finding.kind for entry in entries if isinstance(entry, Observed)]


def incidents(station: Station) -> int:
    return [event.kind for event in station.journal.reader.events(0, 10_000)].count("incident")


def held(station: Station) -> dict[str, bytes]:
    """All originals of the vault by their BLAKE3, read as anybody would."""
    return {digest: path.read_bytes() for digest, path, _ in station.vault.originals()}


def expected(*contents: bytes) -> dict[str, bytes]:
    return {digests_of(content).blake3: content for content in contents}


async def test_everything_on_the_card_is_pulled_once_and_accounted_for(station: Station) -> None:
    card = recorder(station, SMALL | {"/BIG.MP4": BIG, "/EMPTY.TXT": b""})
    shown: list[SlotProgress] = []
    assert await dock(station, card, shown) is End.COMPLETE
    assert accounts(station) == {"pulled": 41}
    assert held(station) == expected(*SMALL.values(), BIG, b"")
    assert list(station.vault.staging_dir.iterdir()) == []
    assert shown[-1].phase is Phase.FINISHED
    assert shown[-1].may_remove
    assert shown[-1].bytes_done == shown[-1].bytes_total == sum(map(len, SMALL.values())) + len(BIG)
    assert not any(progress.may_remove for progress in shown[:-1])
    assert card.closed


async def test_docking_again_confirms_by_content_and_doubles_nothing(station: Station) -> None:
    await dock(station, recorder(station, SMALL | {"/BIG.MP4": BIG}))
    again = recorder(station, SMALL | {"/BIG.MP4": BIG, "/NEW.MP4": b"new"})
    await dock(station, again)
    assert accounts(station) == {"pulled": 1, "already_held": 40}
    assert again.order[0] == "/NEW.MP4", "new footage first"
    assert len(held(station)) == 41


async def test_equal_name_size_and_time_never_hide_other_content(station: Station) -> None:
    """F8: the recorder was reset and numbers its clips from the start again."""
    await dock(station, recorder(station, {"/0001.MP4": b"first hearing"}))
    await dock(station, recorder(station, {"/0001.MP4": b"other hearing"}))
    assert accounts(station) == {"pulled": 1}
    assert held(station) == expected(b"first hearing", b"other hearing")


async def test_equal_content_under_two_names_is_held_once_and_both_names_are_kept(station: Station) -> None:
    """F8: marking a clip copies it to a new name."""
    card = {"/0001.MP4": BIG, "/0001IMP.MP4": BIG, "/0002.WAV": b"voice", "/0003.WAV": b"voice"}
    await dock(station, recorder(station, card))
    assert accounts(station) == {"pulled": 2, "already_held": 2}
    states = station.journal.reader.overview(station.clock()).assets
    assert states[AssetState.MATCHED].files == 2
    views = station.journal.reader.recordings(limit=10)
    assert {view.clip.path for view in views if view.clip} == set(card)


async def test_a_changed_clock_or_zone_imports_nothing_twice(station: Station) -> None:
    """F8: the same card after its times moved by eight hours."""
    await dock(station, recorder(station, SMALL))
    moved = {path: Stamp("2026-11-20T01:00:00", None) for path in SMALL}
    await dock(station, recorder(station, SMALL, stamps=moved))
    assert accounts(station) == {"already_held": len(SMALL)}
    assert len(held(station)) == len(SMALL)


async def test_a_yank_loses_nothing_and_the_next_docking_goes_on_inside_the_file(station: Station) -> None:
    shown: list[SlotProgress] = []
    yanked = recorder(station, {"/BIG.MP4": BIG, "/LATER.MP4": b"later"}, gone_after_bytes=BLOCK_BYTES + 10)
    assert await dock(station, yanked, shown) is End.YANKED
    assert accounts(station) == {"left": 2}
    assert shown[-1].phase is Phase.UNPLUGGED
    assert not shown[-1].may_remove
    again = recorder(station, {"/BIG.MP4": BIG, "/LATER.MP4": b"later"})
    assert await dock(station, again) is End.COMPLETE
    assert accounts(station) == {"pulled": 2}
    assert held(station) == expected(BIG, b"later")
    assert again.read_bytes <= len(BIG) + len(b"later"), "one block was read again, one was not"


async def test_a_resume_never_mixes_two_recordings(station: Station) -> None:
    """F9: the card was swapped for a twin while it was away."""
    other = bytes(reversed(BIG))
    await dock(station, recorder(station, {"/BIG.MP4": BIG}, gone_after_bytes=BLOCK_BYTES + 10))
    await dock(station, recorder(station, {"/BIG.MP4": other}))
    assert accounts(station) == {"pulled": 1}
    assert held(station) == expected(other)
    await dock(station, recorder(station, {"/BIG.MP4": BIG}))
    assert accounts(station) == {"pulled": 1}
    assert held(station) == expected(BIG, other)
    states = station.journal.reader.overview(station.clock()).assets
    assert states[AssetState.WANTED].files == 0, "nothing waits for ever"


async def test_reserved_zeros_do_not_prove_that_two_recordings_are_the_same(station: Station) -> None:
    first = bytes(BLOCK_BYTES) + b"first"
    other = bytes(BLOCK_BYTES) + b"other"
    await dock(station, recorder(station, {"/A.MP4": first}, gone_after_bytes=BLOCK_BYTES))
    await dock(station, recorder(station, {"/A.MP4": other}))
    assert held(station) == expected(other)


async def test_two_recorders_with_one_identity_never_share_a_part(station: Station) -> None:
    """F9: cloned serial numbers, docked at the same time, equal names, sizes and times."""
    cards = [{"/BIG.MP4": BIG}, {"/BIG.MP4": bytes(reversed(BIG))}]
    ends = await asyncio.gather(*(dock(station, recorder(station, files)) for files in cards))
    assert ends == [End.COMPLETE, End.COMPLETE]
    assert held(station) == expected(BIG, bytes(reversed(BIG)))


async def test_two_recorders_with_the_same_footage_hold_it_once(station: Station) -> None:
    cards = [recorder(station, SMALL, serial=serial) for serial in ("A", "B")]
    await asyncio.gather(*(dock(station, card) for card in cards))
    total = station.journal.reader.overview(station.clock()).clips
    assert total[Outcome.PULLED].files == len(SMALL)
    assert total[Outcome.ALREADY_HELD].files == len(SMALL)
    assert held(station) == expected(*SMALL.values())


async def test_bad_sectors_cost_only_themselves_and_the_rest_comes_first(station: Station) -> None:
    card = recorder(station, {"/A.MP4": BIG, **SMALL}, bad={"/A.MP4": 1, "/DCIM/0003.MP4": 0})
    shown: list[SlotProgress] = []
    assert await dock(station, card, shown) is End.COMPLETE
    assert accounts(station) == {"pulled": len(SMALL) - 1, "unreadable": 2}
    assert card.order[-2:] == ["/A.MP4", "/DCIM/0003.MP4"], "the patient pass comes last"
    hole = BIG[:BLOCK_BYTES] + bytes(512) + BIG[BLOCK_BYTES + 512 :]
    assert hole in held(station).values()
    assert shown[-1].phase is Phase.FAILED
    assert not shown[-1].may_remove
    once = len(BIG) + sum(map(len, SMALL.values()))
    assert card.read_bytes <= once + 2 * BLOCK_BYTES + len(SMALL["/DCIM/0003.MP4"]), (
        "only the check block and the bad ones were read twice"
    )


async def test_a_failed_file_is_offered_again_at_the_next_docking(station: Station) -> None:
    """F7: the helper dies at one file until a person is needed; the next docking tries again."""
    await dock(station, recorder(station, {"/A.MP4": b"stubborn", "/B.MP4": b"fine"}, broken={"/A.MP4": 99}))
    assert accounts(station) == {"pulled": 1, "unreadable": 1}
    assert station.journal.reader.overview(station.clock()).assets[AssetState.STUCK].files == 1
    await dock(station, recorder(station, {"/A.MP4": b"stubborn", "/B.MP4": b"fine"}))
    assert accounts(station) == {"pulled": 1, "already_held": 1}
    assert held(station) == expected(b"stubborn", b"fine")


async def test_a_helper_that_dies_once_costs_nothing(station: Station) -> None:
    await dock(station, recorder(station, SMALL, broken={"/DCIM/0005.MP4": 1}))
    assert accounts(station) == {"pulled": len(SMALL)}


async def test_a_medium_that_shrinks_is_told_and_the_rest_is_safe(station: Station) -> None:
    """F5: fewer bytes than listed are never taken for the file."""
    await dock(station, recorder(station, {"/A.MP4": b"shrunk", "/B.MP4": b"fine"}, changed={"/A.MP4"}))
    assert accounts(station) == {"pulled": 1, "unreadable": 1}
    assert held(station) == expected(b"fine")


async def test_refused_entries_and_findings_are_kept(station: Station) -> None:
    gap = Finding("gap", {"directory": "/DCIM", "missing": [[3, 4]]})
    shown: list[SlotProgress] = []
    await dock(station, recorder(station, SMALL, refused={"/HUGE.MP4": "bad start"}, findings=[gap]), shown)
    assert accounts(station) == {"pulled": len(SMALL), "refused": 1}
    assert findings(station) == ["volume", "gap"]
    assert not shown[-1].may_remove


async def test_an_unreadable_recorder_is_told_in_words(station: Station) -> None:
    shown: list[SlotProgress] = []
    end = await dock(station, recorder(station, {}, unlistable="The filesystem can't be read."), shown)
    assert end is End.FAILED
    assert "administrator" in shown[-1].message
    assert incidents(station) == 1


async def test_a_card_that_something_writes_to_while_docked_is_reported(station: Station) -> None:
    await dock(station, Written(dict(SMALL), station.vault.staging_dir))
    assert "medium-changed" in findings(station)


async def test_the_most_urgent_footage_is_read_first(station: Station) -> None:
    files = {f"/{day:02}.MP4": f"day {day}".encode() * BLOCK_BYTES for day in (19, 12, 16)}
    stamps = {path: Stamp(f"2026-11-{path[1:3]}T09:00:00", 480) for path in files}
    small = {path: content[: BLOCK_BYTES + 1] for path, content in files.items()}
    card = recorder(station, small, stamps=stamps)
    await dock(station, card)
    assert card.order == ["/12.MP4", "/16.MP4", "/19.MP4"]


async def test_one_batch_is_read_back_while_the_one_before_is_named_and_the_order_stays(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.pipeline.acquire._BATCH_FILES", 8)
    settle, keep = station.vault.settle, station.vault.keep
    settled = threading.Semaphore(0)
    kept: list[str] = []

    def settling(parts: Sequence[tuple[str, int, str]]) -> list[Settled]:
        settled.release()
        return settle(parts)

    def keeping(parts: Sequence[Settled], tell_damaged: Callable[[str], None]) -> list[Held]:
        begun = 2 if not kept else 0 if len(kept) == 32 else 1  # this batch and the next one; then the next; none
        assert all(settled.acquire(timeout=10) for _ in range(begun)), "the next batch waits for this one"
        kept.extend(part.digests.blake3 for part in parts)
        return keep(parts, tell_damaged)

    monkeypatch.setattr(station.vault, "settle", settling)
    monkeypatch.setattr(station.vault, "keep", keeping)
    assert await dock(station, recorder(station, SMALL)) is End.COMPLETE
    assert kept == [digests_of(content).blake3 for content in SMALL.values()]
    assert held(station) == expected(*SMALL.values())


@pytest.mark.parametrize("failures", [2, 4])
async def test_a_batch_that_fails_while_the_next_one_is_pulled_costs_only_what_failed(
    station: Station, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """The disk gives back other bytes of one clip: in its batch, alone, and perhaps again when it is pulled anew."""
    monkeypatch.setattr("agent.pipeline.acquire._BATCH_FILES", 8)
    settle, keep = station.vault.settle, station.vault.keep
    card = recorder(station, SMALL)
    bad = list(SMALL.values())[3]
    failed: list[int] = []
    next_is_pulled = threading.Event()
    kept: list[str] = []

    def settling(parts: Sequence[tuple[str, int, str]]) -> list[Settled]:
        if digests_of(bad).blake3 in (digest for _, _, digest in parts) and len(failed) < failures:
            if not failed:
                assert next_is_pulled.wait(timeout=10), "the next batch waits for this one"
            failed.append(len(parts))
            raise EvidenceError("The disk gave back something else.")
        return settle(parts)

    def keeping(parts: Sequence[Settled], tell_damaged: Callable[[str], None]) -> list[Held]:
        kept.extend(part.digests.blake3 for part in parts)
        return keep(parts, tell_damaged)

    def show(progress: SlotProgress) -> None:
        if progress.bytes_done >= sum(map(len, list(SMALL.values())[:16])):
            next_is_pulled.set()

    monkeypatch.setattr(station.vault, "settle", settling)
    monkeypatch.setattr(station.vault, "keep", keeping)
    assert await Docking(station, card, "A1", Meter("A1", "", show)).run() is End.COMPLETE
    in_order = [digests_of(content).blake3 for content in SMALL.values() if content != bad]
    assert failed == [8, 1, 1, 1][:failures]
    assert kept == [*in_order, digests_of(bad).blake3], "the others keep their order, what failed comes last"
    assert card.order == [*SMALL, *["/DCIM/0004.MP4"] * (failures // 2)]
    assert accounts(station) == {"pulled": len(SMALL)}
    assert incidents(station) == failures // 2
    assert held(station) == expected(*SMALL.values())
    assert station.journal.reader.settled() == ()
    assert list(station.vault.staging_dir.iterdir()) == []


async def test_full_storage_leaves_the_footage_on_the_card_and_says_so(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = iter([0, 0, 10**12, 10**12])
    monkeypatch.setattr(type(station.vault), "free_bytes", lambda _: next(room, 10**12))
    monkeypatch.setattr("agent.pipeline.room._SPACE_CHECK_S", 0.01)
    shown: list[SlotProgress] = []
    assert await dock(station, recorder(station, SMALL), shown) is End.COMPLETE
    assert any(progress.phase is Phase.NO_SPACE for progress in shown)
    assert accounts(station) == {"pulled": len(SMALL)}
    assert isinstance(station.store, FakeStore)


async def test_a_helper_that_breaks_everywhere_is_not_blamed_on_the_clips(station: Station) -> None:
    shown: list[SlotProgress] = []
    broken = recorder(station, SMALL, broken=dict.fromkeys(SMALL, 1))
    assert await dock(station, broken, shown) is End.FAILED
    assert "administrator" in shown[-1].message
    assert accounts(station) == {"left": len(SMALL)}
    assert station.journal.reader.overview(station.clock()).assets[AssetState.STUCK].files == 0
    await dock(station, recorder(station, SMALL))
    assert accounts(station) == {"pulled": len(SMALL)}


class Buggy(FakeRecorder):
    """A driver with a bug of its own."""

    async def fetch(self, requests: Sequence[FetchRequest]) -> AsyncGenerator[FetchReport, None]:
        async for report in super().fetch(requests):
            yield report
            raise ValueError("our own bug")


async def test_a_docking_that_ends_in_a_bug_is_closed_by_the_next_one(station: Station) -> None:
    with pytest.raises(ValueError, match="our own bug"):
        await dock(station, Buggy(dict(SMALL), station.vault.staging_dir))
    assert len(station.journal.reader.open_dockings()) == 1
    await dock(station, recorder(station, SMALL))
    assert station.journal.reader.open_dockings() == ()
    assert accounts(station) == {"pulled": len(SMALL)}


async def test_what_could_not_be_read_is_never_called_held(station: Station) -> None:
    """A clip with holes gives the same zeros again at the next docking, and another clip may be the same zeros."""
    card = {"/A.MP4": bytes(400), "/B.MP4": bytes(400), "/C.MP4": b"fine"}
    bad = {"/A.MP4": 0, "/B.MP4": 0}
    shown: list[SlotProgress] = []
    await dock(station, recorder(station, card, bad=bad), shown)
    assert accounts(station) == {"pulled": 1, "unreadable": 2}
    await dock(station, recorder(station, card, bad=bad), shown)
    assert accounts(station) == {"already_held": 1, "unreadable": 2}
    assert not any(progress.may_remove for progress in shown)


async def test_an_original_that_somebody_took_away_is_pulled_again(station: Station) -> None:
    await dock(station, recorder(station, SMALL))
    _, gone, _ = next(station.vault.originals())
    gone.unlink()
    await dock(station, recorder(station, SMALL))
    assert accounts(station) == {"already_held": len(SMALL)}
    assert held(station) == expected(*SMALL.values())
    assert incidents(station) == 1


async def test_a_rotten_original_is_put_aside_and_healed_by_a_recorder_that_has_it(station: Station) -> None:
    await dock(station, recorder(station, SMALL))
    digest, rotten, size = next(station.vault.originals())
    rotten.chmod(0o600)
    rotten.write_bytes(bytes(size))
    renamed = {f"/COPY{path.replace('/', '_')}": content for path, content in SMALL.items()}
    assert await dock(station, recorder(station, renamed)) is End.COMPLETE
    assert accounts(station) == {"already_held": len(SMALL)}
    assert held(station) == expected(*SMALL.values())
    assert [path.name for path in station.vault.damaged_dir.iterdir()] == [f"{digest}.0"]
    assert incidents(station) == 1


class Cut(FakeRecorder):
    """A recorder whose directory says that a clip is longer than its clusters give."""

    def _clip(self, number: int, path: str, size: int) -> Clip:
        clip = super()._clip(number, path, size)
        return replace(clip, size_bytes=size + 100, flags=("chain-broken",)) if number == 1 else clip


async def test_a_clip_that_ends_too_early_is_kept_and_the_card_is_not_called_done(station: Station) -> None:
    shown: list[SlotProgress] = []
    await dock(station, Cut(dict(SMALL), station.vault.staging_dir), shown)
    assert accounts(station) == {"pulled": len(SMALL)}
    assert shown[-1].phase is Phase.FAILED
    assert "1 files end earlier" in shown[-1].message
    assert not shown[-1].may_remove
