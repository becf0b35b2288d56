"""Freeing local copies: only behind proof, only on terms that two persons want, and never when anything is in doubt."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent import cli
from agent.config import load
from agent.errors import ConfigError, RequestError, StoreError
from agent.journal import verify as verify_journal
from agent.journal.codec import to_text
from agent.journal.guard_queries import EXAMINED, TAMPERED
from agent.model import (
    AssetChanged,
    AssetState,
    ClockStepped,
    Derivation,
    Derived,
    FreeWhen,
    Incident,
    Lost,
    Outcome,
    Phase,
    Receipt,
    Role,
    SlotProgress,
    Statement,
    Stays,
    Transcript,
    TranscriptKind,
)
from agent.pipeline import allowing
from agent.pipeline.asked import VERBS
from agent.pipeline.auditing import AuditLane
from agent.pipeline.checkpoints import sign
from agent.pipeline.damage import put_aside
from agent.pipeline.documents import add_document
from agent.pipeline.healing import bring_back
from agent.pipeline.probing import ProbeLane
from agent.pipeline.recover import census
from agent.pipeline.releasable import plan, rule_of, too_many
from agent.pipeline.releasing import ReleaseLane
from agent.pipeline.station import Station
from agent.pipeline.verify import verify
from agent.verbs.base import here
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder, FakeStore
from tests.journal_entries import NOW
from tests.releasing import (
    CARD,
    DAYS,
    TERMS,
    agree,
    describe,
    one_round,
    originals,
    read,
    ready,
    seal,
    states,
    store_all,
    store_of,
    stored,
    vault_files,
    wait_days,
)
from tests.stations import SHIPPED, dock, opened

ROOT = Path(__file__).resolve().parents[1]
ALL = len(CARD)
TRANSCRIPT = Transcript(TranscriptKind.HUMAN, "李四", NOW, "笔录.txt")
STATEMENT = Statement("张三", "补充", NOW, {"place": "县城"})


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with opened(tmp_path / "root", clock) as station:
        yield station


def stays(station: Station) -> dict[Stays, int]:
    """Why copies stay, in files."""
    return {reason: tally.files for reason, tally in plan(station.journal.reader, rule_of(station)).stays.items()}


def has_all(station: Station) -> bool:
    return set(CARD.values()) <= vault_files(station)


async def test_what_is_proved_goes_and_everything_else_goes_on(station: Station, clock: SettableClock) -> None:
    await ready(station, clock)
    lane = await one_round(station)
    assert lane.trouble == ""
    assert states(station) == [AssetState.RELEASED] * ALL
    assert not set(CARD.values()) & vault_files(station), "the copies are gone"
    assert len(vault_files(station)) == 2 * ALL, "documents stay"
    assert set(CARD.values()) <= set(store_of(station).objects.values())
    events = [event.kind for event in station.journal.reader.events(limit=1000)]
    assert events.count("released") == ALL
    report = await verify(station.vault.root / "journal.db", station.vault, station.store, lambda *_: None)
    assert [told for told in report.problems if "the manifest is not valid" not in told] == [], "ours are mere bytes"
    assert (report.stored, report.originals) == (3 * ALL, 2 * ALL)


async def test_it_is_off_until_somebody_turns_it_on(station: Station, clock: SettableClock) -> None:
    await ready(station, clock, terms=replace(TERMS, when=FreeWhen.OFF))
    assert plan(station.journal.reader, rule_of(station)).goes.files == ALL
    await one_round(station)
    assert has_all(station)


# What keeps a copy here.


async def frozen(station: Station) -> None:
    ids = originals(station)[0].asset_id
    await allowing.freeze(station, {"ids": ids, "frozen": "yes", "who": "王五", "why": "审核"})


async def doubted(station: Station) -> None:
    await station.journal.note(originals(station)[0].asset_id, {"doubt": "the store had other bytes once"})


async def asked_again(station: Station) -> None:
    await VERBS["derive"](station, {"id": originals(station)[0].asset_id, "who": "王五", "why": "新工具"})


async def lost(station: Station) -> None:
    await station.journal.record(AssetChanged(originals(station)[0].asset_id, Lost("not there")))


async def other_content(station: Station) -> None:
    """A document that was attached has the bytes of an original."""
    first = originals(station)[0]
    await add_document(station, TRANSCRIPT, [first.recording_id], CARD["/A.MP4"])
    await store_all(station)


async def said_again(station: Station) -> None:
    """What was said last isn't stored yet."""
    await add_document(station, STATEMENT, [originals(station)[0].recording_id])


async def important(station: Station) -> None:
    said = replace(STATEMENT, fields={"mark": {"mark": "important", "reason": "重大案件"}})
    await add_document(station, said, [originals(station)[0].recording_id])
    await store_all(station)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (frozen, Stays.FROZEN),
        (doubted, Stays.DOUBTED),
        (asked_again, Stays.UNREAD),
        (lost, None),
        (other_content, Stays.SHARED),
        (said_again, Stays.UNSTORED),
        (important, Stays.MARKED),
    ],
)
async def test_one_that_anything_is_said_against_stays(
    station: Station, clock: SettableClock, harm: Callable[[Station], Awaitable[None]], reason: Stays | None
) -> None:
    await ready(station, clock)
    await harm(station)
    told = stays(station)
    also = {Stays.YOUNG, Stays.LACKING} if harm in {other_content, said_again, important} else set()
    assert told.keys() - also == ({reason} if reason else set())
    await one_round(station)
    assert states(station)[1:] == [AssetState.RELEASED] * (ALL - 1), "the others go"
    assert CARD["/A.MP4"] in vault_files(station)


async def test_what_was_said_since_the_last_manifest_has_to_be_in_the_next_one(
    station: Station, clock: SettableClock
) -> None:
    await ready(station, clock)
    first = originals(station)[0]
    await said_again(station)
    await store_all(station)
    assert stays(station) == {Stays.LACKING: 1}
    await seal(station, first)
    assert stays(station) == {Stays.UNSTORED: 1}
    await store_all(station)
    assert stays(station) == {}


@pytest.mark.parametrize("role", [Role.STATEMENT, Role.MANIFEST])
async def test_without_a_document_that_is_asked_for_it_stays(
    station: Station, clock: SettableClock, role: Role
) -> None:
    other = Role.STATEMENT if role is Role.MANIFEST else Role.MANIFEST
    await stored(station, terms=replace(TERMS, roles=(other,)))
    late = {"/D.MP4": b"nobody said anything of it"}
    await dock(station, FakeRecorder(late, station.vault.staging_dir, serial="SN2"))
    await store_all(station)
    await wait_days(station, clock)
    station.terms = replace(TERMS, roles=(role,))
    assert stays(station) == {Stays.LACKING: 1, Stays.UNREAD: 1}


async def test_a_thawed_one_goes(station: Station, clock: SettableClock) -> None:
    await ready(station, clock)
    await frozen(station)
    ids = originals(station)[0].asset_id
    await allowing.freeze(station, {"ids": ids, "frozen": "no", "who": "王五", "why": "审核完毕"})
    await one_round(station)
    assert states(station) == [AssetState.RELEASED] * ALL


async def test_what_a_recorder_marked_or_could_not_give_whole_stays(station: Station, clock: SettableClock) -> None:
    await stored(station, {"/DCIM/123456_1234567_20261120090000_0001IMP.MP4": b"marked on the recorder"})
    recorder = FakeRecorder({"/BAD.MP4": b"x" * 3000}, station.vault.staging_dir, serial="SN2", bad={"/BAD.MP4": 0})
    await dock(station, recorder)
    await read(station)
    await describe(station, originals(station)[0])
    await store_all(station)
    await wait_days(station, clock)
    assert stays(station) == {Stays.MARKED: 1, Stays.INCOMPLETE: 1}


async def test_what_a_recorder_marked_by_its_folder_stays_while_a_rule_says_so(
    station: Station, clock: SettableClock
) -> None:
    await stored(station, {"/DCIM/101ANDRO/123456_1234567_20261120090000_0001.MP4": b"marked on the recorder"})
    await wait_days(station, clock)
    before = stays(station)
    station.forms = SHIPPED.forms
    assert Stays.MARKED not in before
    assert stays(station)[Stays.MARKED] == 1


async def test_a_lock_that_ends_too_soon_keeps_it_here(station: Station, clock: SettableClock) -> None:
    await ready(station, clock, terms=replace(TERMS, lock_days=30))
    assert stays(station) == {Stays.UNLOCKED: ALL}
    await one_round(station)
    assert has_all(station)


# Time.


async def test_a_clock_that_is_set_ten_years_ahead_frees_nothing(station: Station, clock: SettableClock) -> None:
    """Neither while the service runs, which is journalled, nor between two runs of it."""
    await stored(station)
    await agree(station)
    for is_told in (True, False):
        before = clock()
        clock.advance(3653 * 86400)
        if is_told:
            await station.journal.record(ClockStepped(before, clock(), 3653 * 86_400_000, 1))
        await sign(station)
        assert stays(station) == {Stays.YOUNG: ALL}
        await one_round(station)
        assert has_all(station)


async def test_steps_of_a_day_each_free_nothing(station: Station, clock: SettableClock) -> None:
    await stored(station)
    await agree(station)
    for _ in range(10):
        before = clock()
        clock.advance(86400)
        await station.journal.record(ClockStepped(before, clock(), 86_400_000, 1))
        await sign(station)
    assert stays(station) == {Stays.YOUNG: ALL}


async def test_days_on_which_nothing_was_signed_do_not_count(station: Station, clock: SettableClock) -> None:
    await stored(station)
    await agree(station)
    clock.advance(100 * 86400)
    await sign(station)
    assert stays(station) == {Stays.YOUNG: ALL}
    await wait_days(station, clock, DAYS)
    assert stays(station) == {}


async def test_a_clock_that_was_behind_when_it_came_makes_nothing_old(station: Station, clock: SettableClock) -> None:
    """What came in 1970 by the clock is as old as the log says."""
    right = clock()
    await stored(station, {"/OLD.MP4": b"an old one"})
    await wait_days(station, clock, 5)
    clock.set(right - timedelta(days=20000))
    await stored(station, {"/B.MP4": b"came while the clock was wrong"})
    clock.set(right + timedelta(days=6))
    await station.journal.record(ClockStepped(right - timedelta(days=20000), clock(), 20006 * 86_400_000, 1))
    assert stays(station) == {Stays.YOUNG: 1}


async def test_without_a_clock_that_is_kept_right_or_a_log_that_is_signed_nothing_goes(
    station: Station, clock: SettableClock
) -> None:
    await ready(station, clock)
    station.clock_is_kept = lambda: False
    assert "时钟未校准" in (await one_round(station)).trouble
    station.clock_is_kept = lambda: True
    station.custody.fork = "the log was set back"
    assert (await one_round(station)).trouble
    assert has_all(station)


async def test_while_somebody_else_has_changed_files_and_nobody_has_looked_nothing_goes(
    station: Station, clock: SettableClock
) -> None:
    await ready(station, clock)
    await station.journal.record(Incident(TAMPERED, {"path": "vault/ab/abcd", "what": ["written"]}))
    assert "未核查" in (await one_round(station)).trouble
    assert has_all(station)
    await station.journal.record(Incident(EXAMINED, {"who": "王五", "why": "误操作"}))
    assert (await one_round(station)).trouble == ""
    assert states(station) == [AssetState.RELEASED] * ALL


async def test_what_covers_the_vault_is_not_the_vault(
    station: Station, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready(station, clock)
    monkeypatch.setattr(station.vault.place, "is_same", lambda: False)
    await one_round(station)
    assert has_all(station)


# Attacks on journal and vault.


def attack(station: Station, *statements: tuple[str, object]) -> None:
    """Somebody with root's rights writes into the journal."""
    with closing(sqlite3.connect(station.vault.root / "journal.db")) as db:
        db.execute("DROP TRIGGER IF EXISTS event_is_never_changed")
        for statement, *values in statements:
            db.execute(statement, values)
        db.commit()


async def test_a_receipt_that_was_forged_in_the_table_frees_nothing(station: Station, clock: SettableClock) -> None:
    await stored(station)
    late = {"/D.MP4": b"never stored"}
    await dock(station, FakeRecorder(late, station.vault.staging_dir, serial="SN2"))
    asset = originals(station)[-1]
    assert asset.state is AssetState.HELD
    assert asset.digests is not None
    store_of(station).objects[asset.digests.blake3] = b"never stored"
    receipt = Receipt("fake", asset.digests.blake3, asset.expected_bytes, asset.digests, clock())
    attack(
        station,
        ("UPDATE asset SET state = 'stored', receipt = ? WHERE asset_id = ?", to_text(receipt), asset.asset_id),
    )
    await wait_days(station, clock)
    station.terms = replace(TERMS, roles=())
    assert stays(station)[Stays.DIFFERS] == 1
    await agree(station)
    await one_round(station)
    assert b"never stored" in vault_files(station)
    assert not verify_journal(station.vault.root / "journal.db").consistent


async def test_an_event_that_was_changed_proves_nothing(station: Station, clock: SettableClock) -> None:
    """Changed with its row, so that log and table agree: the signed checkpoint doesn't."""
    await ready(station, clock)
    asset = originals(station)[0]
    assert asset.receipt is not None
    forged = to_text(replace(asset.receipt, etag="forged"))
    where = "WHERE subject = ? AND kind = 'confirmed'"
    change = f"UPDATE event SET detail = json_set(detail, '$.event.confirmed.receipt.etag', 'forged') {where}"
    table = "UPDATE asset SET receipt = ? WHERE asset_id = ?"
    attack(station, (table, forged, asset.asset_id), (change, asset.asset_id))
    assert stays(station) == {}, "log and table agree"
    await one_round(station)
    assert CARD["/A.MP4"] in vault_files(station)


@pytest.mark.parametrize("harm", ["gone", "other bytes", "a statement is gone"])
async def test_what_the_store_lost_stays_and_is_sent_again(station: Station, clock: SettableClock, harm: str) -> None:
    await ready(station, clock)
    first, objects = originals(station)[0], store_of(station).objects
    assert first.digests is not None
    victim = first.digests.blake3
    if harm.startswith("a statement"):
        views = station.journal.reader.documents(first.recording_id)
        victim = next(view.asset.digests.blake3 for view in views if view.asset.role is Role.STATEMENT)  # type: ignore[union-attr]
    content = objects.pop(victim)
    if harm == "other bytes":
        objects[victim] = b"other bytes"
    await one_round(station)
    assert CARD["/A.MP4"] in vault_files(station)
    objects.pop(victim, None)
    await store_all(station)
    assert objects[victim] == content


class WriteOnly(FakeStore):
    """A store that lets this station write, and proves by its own word alone."""

    async def check(self, receipt: Receipt, *, read: bool) -> bool:
        await super().check(receipt, read=read)
        return False


class Away(FakeStore):
    """A store that doesn't answer any more."""

    async def check(self, receipt: Receipt, *, read: bool) -> bool:
        raise StoreError("The store is away.")


@pytest.mark.parametrize("kind", [WriteOnly, Away, FakeStore])
async def test_a_store_that_can_not_prove_it_now_or_is_our_own_disk_frees_nothing(
    tmp_path: Path, clock: SettableClock, kind: type[FakeStore]
) -> None:
    async with opened(tmp_path / "root", clock, store=kind(elsewhere=kind is not FakeStore)) as station:
        await ready(station, clock)
        lane = await one_round(station)
        assert "暂不释放本机副本" in lane.trouble
        assert has_all(station)
        station.terms = replace(TERMS, read_back=False)
        await agree(station)
        await one_round(station)
        assert has_all(station) is (kind is not WriteOnly)


@pytest.mark.parametrize("harm", ["changed", "replaced by a link", "gone"])
async def test_a_file_that_is_not_what_was_held_is_evidence_of_its_own_and_stays(
    station: Station, clock: SettableClock, harm: str
) -> None:
    await ready(station, clock)
    first = originals(station)[0]
    assert first.digests is not None
    path = station.vault.address(first.digests.blake3)
    if harm == "changed":
        path.chmod(0o600)
        path.write_bytes(b"a filM")
    elif harm == "gone":
        path.unlink()
    else:
        path.rename(path.with_name("aside"))
        path.symlink_to("/etc/hostname")
    await one_round(station)
    is_changed = harm == "changed"
    state = AssetState.STUCK if is_changed else AssetState.STORED
    assert states(station) == [state, AssetState.RELEASED, AssetState.RELEASED]
    assert path.is_symlink() is (harm == "replaced by a link"), "what can't be read is left to those who read all"
    assert [aside.read_bytes() for aside in station.vault.damaged_dir.iterdir()] == [b"a filM"] * is_changed
    if not is_changed:
        return
    await bring_back(station, originals(station)[0])
    assert path.read_bytes() == CARD["/A.MP4"], "the store has it"


async def test_a_file_that_is_swapped_at_the_last_moment_stays(
    station: Station, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading it and removing it: the log says released, the other file is still there, and it is told."""
    await ready(station, clock, {"/A.MP4": b"a film"})
    record = station.journal.record

    async def swapped(*entries: object) -> int:
        done = await record(*entries)  # type: ignore[arg-type]
        if entries and type(entries[0]) is AssetChanged:
            path = station.vault.address(originals(station)[0].digests.blake3)  # type: ignore[union-attr]
            path.rename(path.with_name("aside"))
            path.write_bytes(b"b film")
        return done

    monkeypatch.setattr(station.journal, "record", swapped)
    lane = await one_round(station)
    monkeypatch.undo()
    assert "not the file that was read" in lane.trouble
    assert b"b film" in vault_files(station)
    await one_round(station)
    assert b"b film" in vault_files(station), "nor later"


# Whose word it takes.


async def test_what_would_free_much_waits_for_a_second_person(station: Station, clock: SettableClock) -> None:
    await stored(station)
    await wait_days(station, clock)
    lane = await one_round(station)
    assert "须由第二人确认" in lane.trouble
    with pytest.raises(RequestError, match="没有待确认的申请"):
        await allowing.confirm(station, {"who": "李四", "why": "好"})
    await allowing.ask(station, {"who": "张 三", "why": "磁盘将满"})
    for name in ("张三", "张 三 "):
        with pytest.raises(RequestError, match="另一人"):
            await allowing.confirm(station, {"who": name, "why": "好"})
    assert (await one_round(station)).trouble
    assert has_all(station)
    await allowing.confirm(station, {"who": "李四", "why": "已核对"})
    await sign(station)
    assert (await one_round(station)).trouble == ""
    assert states(station) == [AssetState.RELEASED] * ALL


async def test_a_policy_that_is_changed_at_night_frees_nothing(station: Station, clock: SettableClock) -> None:
    """Two persons agreed on a year; at night the file says a day, and that a million may go without anybody."""
    calm = replace(TERMS, retention_days=365, files_max=1)
    await ready(station, clock, terms=calm)
    station.terms = replace(TERMS, retention_days=1, files_max=1_000_000, percent_max=100)
    lane = await one_round(station)
    assert "须由第二人确认" in lane.trouble
    assert has_all(station)
    station.terms = calm
    assert (await one_round(station)).trouble == ""


async def test_one_person_may_have_a_few_freed_and_a_row_of_small_changes_frees_no_more(
    station: Station, clock: SettableClock
) -> None:
    await ready(station, clock, terms=replace(TERMS, retention_days=365, files_max=1))
    allowed = plan(station.journal.reader, rule_of(station)).goes.files
    assert allowed == 0
    ids = " ".join(asset.asset_id for asset in originals(station))
    await allowing.freeze(station, {"ids": ids, "frozen": "yes", "who": "王五", "why": "审核"})
    station.terms = replace(TERMS, files_max=1)
    for number, asset in enumerate(originals(station)):
        await allowing.freeze(station, {"ids": asset.asset_id, "frozen": "no", "who": "王五", "why": "完毕"})
        lane = await one_round(station)
        assert bool(lane.trouble) is (number > 0)
    assert states(station) == [AssetState.RELEASED, AssetState.STORED, AssetState.STORED]


async def test_what_was_asked_for_is_what_is_confirmed(station: Station, clock: SettableClock) -> None:
    await stored(station)
    await allowing.ask(station, {"who": "张三", "why": "磁盘将满"})
    station.terms = replace(TERMS, retention_days=1)
    with pytest.raises(RequestError, match="不同"):
        await allowing.confirm(station, {"who": "李四", "why": "好"})
    assert too_many(station.journal.reader, TERMS, ALL) is not None


# Afterwards.


async def released(station: Station, clock: SettableClock) -> None:
    await ready(station, clock)
    await one_round(station)
    assert states(station) == [AssetState.RELEASED] * ALL


async def test_a_recorder_that_still_has_it_is_not_pulled_again(station: Station, clock: SettableClock) -> None:
    await released(station, clock)
    shown: list[SlotProgress] = []
    await dock(station, FakeRecorder(dict(CARD), station.vault.staging_dir), shown)
    assert shown[-1].phase is Phase.FINISHED
    assert shown[-1].outcomes[Outcome.ALREADY_HELD] == ALL
    assert not set(CARD.values()) & vault_files(station)


async def test_the_same_footage_from_elsewhere_is_a_recording_of_its_own_and_goes_when_its_time_comes(
    station: Station, clock: SettableClock
) -> None:
    await released(station, clock)
    recorder = FakeRecorder({"/Z.MP4": CARD["/A.MP4"]}, station.vault.staging_dir, serial="SN9")
    await dock(station, recorder)
    newest = originals(station)[-1]
    assert newest.state is AssetState.MATCHED
    probing = ProbeLane(station, lambda: False)
    await probing.step()
    assert station.journal.reader.recording(newest.asset_id).facts is not None, "what equal bytes said is known"
    await one_round(station)
    await describe(station, newest)
    await store_all(station)
    await one_round(station)
    assert CARD["/A.MP4"] in vault_files(station), "it came today"
    await wait_days(station, clock)
    await one_round(station)
    assert CARD["/A.MP4"] not in vault_files(station)
    assert station.surplus == set()


async def test_the_audit_looks_at_the_only_copy_too_and_its_loss_needs_a_person(
    station: Station, clock: SettableClock
) -> None:
    await released(station, clock)
    first = originals(station)[0]
    assert first.digests is not None
    del store_of(station).objects[first.digests.blake3]
    station.limits = replace(station.limits, audit_pause_s=0)
    audit = AuditLane(station)
    for _ in range(3 * ALL):
        await audit.step()
    assert (audit.progress.lost, audit.progress.checked) == (1, 3 * ALL)
    assert originals(station)[0].state is AssetState.STUCK
    await dock(station, FakeRecorder(dict(CARD), station.vault.staging_dir))
    assert station.journal.reader.asset(first.asset_id).state is AssetState.HELD, "its recorder still had it"


async def test_nothing_is_made_of_what_is_not_here(station: Station, clock: SettableClock) -> None:
    await released(station, clock)
    with pytest.raises(RequestError, match="已释放"):
        await VERBS["derive"](station, {"id": originals(station)[0].asset_id, "who": "王五", "why": "新工具"})


async def test_what_was_made_of_it_comes_back_from_the_store_since_nobody_can_make_it_again(
    station: Station, clock: SettableClock
) -> None:
    await stored(station)
    first, copy = originals(station)[0], b"a copy of a film"
    said = Derivation(Role.ACCESS_COPY, first.asset_id, NOW, "ffmpeg")
    made = await add_document(station, said, [first.recording_id], copy)
    await seal(station, first)
    await store_all(station)
    await wait_days(station, clock)
    await agree(station)
    await one_round(station)
    assert made.digests is not None
    path = station.vault.address(made.digests.blake3)
    path.chmod(0o600)
    path.write_bytes(b"another thing")
    assert await put_aside(station, station.journal.reader.asset(made.asset_id), "it was changed")
    again = station.journal.reader.next_to_bring_back(clock(), timedelta(days=1))
    assert again is not None
    await bring_back(station, again)
    assert path.read_bytes() == copy


async def test_verifying_beside_a_service_that_frees_tells_nothing_wrong(
    station: Station, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready(station, clock)
    before = originals(station)
    await one_round(station)
    monkeypatch.setattr("agent.pipeline.verify._Check._here", lambda _self, _after: iter(before))
    report = await verify(station.vault.root / "journal.db", station.vault, station.store, lambda *_: None)
    assert report.problems == []


async def test_who_wants_to_read_it_here_is_told_that_it_is_not(station: Station, clock: SettableClock) -> None:
    await released(station, clock)
    first = originals(station)[0]
    assert first.digests is not None
    with pytest.raises(RequestError, match="可能已释放"):
        here(station.vault.address(first.digests.blake3))


async def test_a_file_that_was_left_over_goes_when_the_service_has_looked(
    station: Station, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died between the log and the file. Lost at the centre meanwhile, the file saves it."""
    await ready(station, clock)
    monkeypatch.setattr("agent.durable.free_original", lambda _: None)
    await one_round(station)
    monkeypatch.undo()
    station.surplus.clear()
    assert has_all(station)
    await census(station)
    assert len(station.surplus) == ALL
    first = originals(station)[0]
    assert first.digests is not None
    content = store_of(station).objects.pop(first.digests.blake3)
    await sign(station)
    rounds = [await one_round(station) for _ in range(2)]
    assert [lane.trouble for lane in rounds if "未能证明" in lane.trouble], "one that is lost ends the round"
    assert states(station) == [AssetState.HELD, AssetState.RELEASED, AssetState.RELEASED]
    assert vault_files(station) & set(CARD.values()) == {content}


# A full disk.


async def test_a_recorder_that_finds_no_room_makes_the_oldest_go_and_no_more_than_that(
    station: Station, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.pipeline.room._SPACE_CHECK_S", 0.01)
    for path, content in CARD.items():
        await stored(station, {path: content}, replace(TERMS, when=FreeWhen.FULL))
        clock.advance(1)
    await wait_days(station, clock)
    await agree(station)
    await one_round(station)
    assert has_all(station), "nobody needs room"
    big = 1 << 40

    def free_bytes() -> int:
        return big if CARD["/A.MP4"] not in vault_files(station) else 0

    station.terms = replace(station.terms, when=FreeWhen.DONE)
    await ReleaseLane(station, lambda: True, pause_s=0).step()
    assert has_all(station), "while a recorder is being read, nothing else begins"
    station.terms = replace(station.terms, when=FreeWhen.FULL)
    monkeypatch.setattr(station.vault, "free_bytes", free_bytes)
    lane = ReleaseLane(station, lambda: True)
    recorder = FakeRecorder({"/Y.MP4": b"new footage"}, station.vault.staging_dir, serial="SN2")
    async with asyncio.timeout(10):
        docking = asyncio.create_task(dock(station, recorder))
        await lane.step()
        await docking
    assert states(station) == [AssetState.RELEASED, AssetState.STORED, AssetState.STORED, AssetState.HELD]
    assert b"new footage" in vault_files(station)
    assert station.wanted_bytes == {}


async def test_what_comes_in_while_one_goes_waits_for_it(station: Station, clock: SettableClock) -> None:
    """The same bytes on another recorder, taken in at the very moment: they are somewhere at every moment."""
    await ready(station, clock)
    async with station.freeing:
        recorder = FakeRecorder({"/Z.MP4": CARD["/A.MP4"]}, station.vault.staging_dir, serial="SN9")
        docking = asyncio.create_task(dock(station, recorder))
        while not station.journal.reader.is_settled(originals(station)[0].digests.blake3):  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        assert stays(station) == {Stays.UNDER_WAY: 1}, "and who would free it sees that"
    await docking
    assert originals(station)[-1].state is AssetState.MATCHED


# The command line.


def config_of(station: Station, when: str) -> Path:
    """A configuration as shipped, but for this station and its terms."""
    folder = station.vault.root.parent / "etc"
    shutil.copytree(ROOT / "config", folder)
    terms = f'when = "{when}"\nretention_days = {DAYS}\nlock_days = 0\nfiles_max = 100\npercent_max = 50\n'
    (folder / "agent.toml").write_text(f'[storage]\nroot = "{station.vault.root}"\n[release]\n{terms}', "utf-8")
    return folder / "agent.toml"


async def test_the_command_line_tells_what_would_go_and_takes_two_persons_words(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agent.cli._now", clock)
    async with opened(tmp_path / "root", clock) as station:
        await stored(station)
        for asset in originals(station):
            await station.journal.record(Derived(asset.asset_id))
        await wait_days(station, clock)
        config, ids = config_of(station, "when_done"), [asset.asset_id for asset in originals(station)]

    def told(*words: str) -> str:
        code = cli.main(["--config", str(config), "release", *words])
        said = capsys.readouterr()
        return f"{code} {said.out}{said.err}"

    def work() -> None:
        assert f"可释放 would go: {ALL} 个 files" in told("--dry-run")
        assert "须由第二人确认" in told("--dry-run")
        assert told("--freeze", ids[0], "--who", "王五", "--why", "审核").endswith("已冻结 (frozen)\n")
        assert "1 个 files, 0.0 GB  审核冻结 (frozen for review)" in told("--dry-run")
        assert told("--thaw", ids[0], "--who", "王五", "--why", "完毕").startswith("0 ")
        assert told("--ask").startswith("2 ")
        assert told("--ask", "--who", "张三", "--why", "磁盘将满").startswith(f"0 {ALL} / {ALL}")
        assert "另一人" in told("--confirm", "--who", "张三", "--why", "好")
        assert told("--confirm", "--who", "李四", "--why", "已核对").startswith("0 ")
        answer = json.loads(told("--dry-run", "--json").partition(" ")[2])
        assert (answer["on"], answer["goes"]["files"], answer["second_person"]) == (True, ALL, False)

        config.write_text(config.read_text("utf-8") + '[store.options]\npath = "/elsewhere"\n', "utf-8")
        assert "须由第二人确认" in told("--dry-run"), "another store has to prove it now"

    await asyncio.to_thread(work)


def test_a_station_that_is_the_dedicated_storage_itself_frees_nothing(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "etc")
    path = tmp_path / "etc" / "agent.toml"
    path.write_text('[deadline]\nsatisfied_by = "local"\n[release]\nwhen = "when_done"\n', "utf-8")
    with pytest.raises(ConfigError, match="专用存储器"):
        load(path)
