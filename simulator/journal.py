"""A journal of any size, written with bulk SQL: a big one must open and answer as fast as a small one.

`python -m simulator.journal [recordings]` builds one and times every query of the status page.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from agent.journal import Journal, Reader, device_id
from agent.journal.codec import FIRST_LINK, encode, leaf, link, to_text
from agent.journal.recordings import Sort, Wanted
from agent.journal.rows import likeness, sortable
from agent.journal.schema import connect, migrate
from agent.journal.tree import Growth
from agent.model import (
    Acquired,
    Asset,
    AssetChanged,
    AssetState,
    Basis,
    Clip,
    ClipSeen,
    ClockTrust,
    Completeness,
    Confirmed,
    Deadline,
    Device,
    Digests,
    DockingClosed,
    DockingListed,
    DockingOpened,
    Held,
    JournalEntry,
    Medium,
    Mode,
    Outcome,
    Receipt,
    Recording,
    Released,
    Role,
    Stamp,
)
from agent.tlog.tree import Frontier

NOW: Final = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
CLIPS_PER_DOCKING: Final = 1000
SIZE_BYTES: Final = 65_536
_DEVICE: Final = Device(
    "mass_storage", "EXAMPLE", "DSJ-V8", "058F63666485", "1-2", ("1A2B-3C4D",), "recorder", 64 << 30
)
_OWNER: Final = device_id(_DEVICE)
_IN_STORE: Final = (AssetState.STORED, AssetState.RELEASED)
_ONCE: Final = (AssetState.WANTED, AssetState.HELD, AssetState.STORED)
"""What each recording that is stored was at some time: its counter stays, at 0."""

State = Callable[[int], AssetState]


def name_of(index: int) -> str:
    """The asset id of recording `index`."""
    return f"019ab000-0000-7000-8000-{index:012x}"


def state_of(index: int) -> AssetState:
    """Of a hundred recordings 94 are stored, 4 held and 2 wanted."""
    rest = index % 100
    return AssetState.STORED if rest >= 6 else AssetState.HELD if rest >= 2 else AssetState.WANTED


def freed(index: int) -> AssetState:
    """The same where nothing is held: what a store has was freed here, and the rest is still on recorders."""
    return AssetState.RELEASED if state_of(index) is AssetState.STORED else AssetState.WANTED


def fill(path: Path, recordings: int, state: State = state_of) -> None:
    """Write a new journal with that many recordings, one per clip, exactly as if each had been recorded."""
    with closing(connect(path, write=True)) as db:
        db.execute("PRAGMA synchronous = OFF")
        migrate(db, path)
        db.execute("BEGIN")
        at, seq, head, tree = sortable(NOW), 0, FIRST_LINK, Growth(db, Frontier())
        for first in range(0, recordings, CLIPS_PER_DOCKING):
            numbers = range(first, min(first + CLIPS_PER_DOCKING, recordings))
            _fill_tables(db, seq, numbers, at, state)
            rows = []
            for kind, subject, detail, _ in map(encode, _events(numbers, state)):
                seq, content = seq + 1, leaf(seq + 1, at, kind, subject, detail)
                head = link(head, content)
                tree.append(seq, content)
                rows.append((seq, at, kind, subject, detail, head))
            db.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")


def _events(numbers: range, state: State) -> Iterator[JournalEntry]:
    docking = f"docking-{numbers.start:09}"
    yield DockingOpened(docking, _OWNER, _DEVICE, "slot-1")
    for index in numbers:
        yield _seen(docking, index, index - numbers.start)
    yield DockingListed(docking, len(numbers), "ab" * 32)
    for index in numbers:
        if state(index) is not AssetState.WANTED:
            held = Held(name_of(index), Path("/vault") / name_of(index), SIZE_BYTES, _digests(index), sealed=True)
            yield AssetChanged(name_of(index), Acquired(held), docking, index - numbers.start, Outcome.PULLED)
    yield DockingClosed(docking, "complete")
    for index in numbers:
        if state(index) in _IN_STORE:
            yield AssetChanged(name_of(index), Confirmed(_receipt(index)))
        if state(index) is AssetState.RELEASED:
            yield AssetChanged(name_of(index), Released(_receipt(index)))


def _fill_tables(db: sqlite3.Connection, seq: int, numbers: range, at: str, state: State) -> None:
    docking = f"docking-{numbers.start:09}"
    opened = (_OWNER, seq + 1, seq + 1)
    db.execute("INSERT INTO device VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET last_seq = excluded.last_seq", opened)
    row = (seq + 1, docking, _OWNER, at, at, "ab" * 32, at, "complete")
    db.execute("INSERT INTO docking VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, NULL, '')", row)
    _count(db, docking, Counter(map(state, numbers)))
    items = [(index, index - numbers.start, seq + 2 + index - numbers.start) for index in numbers]
    recordings = [
        (f"rec-{name_of(index)}", _OWNER, own_seq, to_text(_deadline(index)), Medium.PHOTO)
        for index, _, own_seq in items
    ]
    db.executemany(
        "INSERT INTO recording (recording_id, device_id, seq, deadline, medium) VALUES (?, ?, ?, ?, ?)", recordings
    )
    lacking = [(row[0], Completeness.INCOMPLETE, "method makers proof_object", 0, 0) for row in recordings]
    db.executemany("INSERT INTO metadata VALUES (?, ?, ?, ?, ?)", lacking)
    assets = [_asset_row(index, at, state(index)) for index in numbers]
    db.executemany("INSERT INTO asset VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, '', NULL, ?)", assets)
    clips = [(docking, number, own_seq, *_clip_row(index, number, state(index))) for index, number, own_seq in items]
    db.executemany("INSERT INTO clip VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", clips)
    held = [f"rec-{name_of(index)}" for index in numbers if state(index) is not AssetState.WANTED]
    touched = [(name, acquired, at) for acquired, name in enumerate(held, seq + len(numbers) + 3)]
    db.executemany("INSERT INTO manifest VALUES (?, ?, ?, 0, NULL, NULL)", touched)


def _count(db: sqlite3.Connection, docking: str, states: Counter[AssetState]) -> None:
    pulled = states.total() - states[AssetState.WANTED]
    outcomes = {Outcome.PENDING: 0, Outcome.PULLED: pulled, Outcome.LEFT: states[AssetState.WANTED]}
    rows: list[tuple[str, str, int]] = [
        (scope, outcome, files) for scope in (docking, "clip") for outcome, files in outcomes.items()
    ]
    rows += [("asset", state, states[state]) for state in {*_ONCE, *states}]
    counted = [(*row, row[2] * SIZE_BYTES) for row in rows]
    db.executemany(
        "INSERT INTO counter VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET files = files + excluded.files, bytes = bytes + excluded.bytes",
        [*counted, ("metadata", Completeness.INCOMPLETE, states.total(), 0)],
    )


def _asset_row(index: int, at: str, state: AssetState) -> tuple[object, ...]:
    digests, name = _digests(index), name_of(index)
    receipt = _receipt_text(index) if state in _IN_STORE else None
    known = (None, None, None) if state is AssetState.WANTED else (SIZE_BYTES, digests.blake3, digests.sha256)
    limits = _deadline(index)
    late_at = sortable(limits.due_at) if limits.basis is Basis.OFFICIAL else None
    kept = (name, f"rec-{name}", Role.ORIGINAL, state, SIZE_BYTES, *known, receipt)
    held_at = None if state is AssetState.WANTED else at
    return (*kept, "", None, "", sortable(limits.alarm_at), late_at, held_at, _OWNER, sortable(_captured(index)))


def _clip_row(index: int, number: int, state: AssetState) -> tuple[object, ...]:
    outcome = Outcome.LEFT if state is AssetState.WANTED else Outcome.PULLED
    alarm_at = sortable(_deadline(index).alarm_at)
    return (name_of(index), likeness(_OWNER, _clip(index, number)), SIZE_BYTES, Mode.PULL, outcome, "", alarm_at)


def _seen(docking: str, index: int, number: int) -> ClipSeen:
    name = name_of(index)
    limits = _deadline(index)
    recording = Recording(f"rec-{name}", _OWNER, Medium.PHOTO, None, _captured(index), ClockTrust.UNMEASURED, limits)
    asset = Asset(name, f"rec-{name}", Role.ORIGINAL, AssetState.WANTED, SIZE_BYTES)
    return ClipSeen(docking, _clip(index, number), Mode.PULL, name, recording, asset)


def _clip(index: int, number: int) -> Clip:
    path = f"DCIM/{index // 1000:06}/IMG{index:09}.JPG"
    stamp = Stamp("2026-11-23T09:00:00", None)
    return Clip(number, path, path.rpartition("/")[2].encode(), SIZE_BYTES, SIZE_BYTES, stamp, stamp)


def _captured(index: int) -> datetime:
    """Some time in the month before, in no order."""
    return NOW - timedelta(seconds=index * 7919 % (30 * 86400))


def _deadline(index: int) -> Deadline:
    """One an index later, by seconds: the first recordings are overdue, every third on a provisional calendar."""
    due = NOW + timedelta(seconds=index - 5000)
    basis = Basis.PROVISIONAL if index % 3 == 0 else Basis.OFFICIAL
    return Deadline("shandong", "working_days", "art. 15", NOW, due, due - timedelta(hours=1), basis)


def _digests(index: int) -> Digests:
    return Digests(f"{index * 0x9E3779B97F4A7C15 % (1 << 256):064x}", f"{index:064x}")


def _receipt(index: int) -> Receipt:
    return Receipt("central", f"originals/{name_of(index)}", SIZE_BYTES, _digests(index), NOW)


def _receipt_text(index: int) -> str:
    return to_text(_receipt(index))


def questions(reader: Reader, recordings: int) -> Mapping[str, Callable[[], object]]:
    """Everything the status page and the pipeline ask, by name."""
    some, docking = name_of(recordings // 2 + 50), "docking-000000000"
    clip = _clip(recordings // 2 + 50, 500)
    page = reader.recordings(limit=50)
    far = NOW + timedelta(days=3650)
    others = _log_questions(reader, recordings) | _seal_questions(reader, some) | _of_recordings(reader, some)
    return others | {
        "overview": lambda: reader.overview(NOW),
        "recordings, newest": reader.recordings,
        "recordings, next page": lambda: reader.recordings(after=page[-1].after if page else ""),
        "recordings, stored": lambda: reader.recordings(state=AssetState.STORED),
        "recordings, held": lambda: reader.recordings(state=AssetState.HELD),
        "recordings, stuck": lambda: reader.recordings(state=AssetState.STUCK),
        "recordings, due": lambda: reader.recordings(due_before=far),
        "recordings, due and wanted": lambda: reader.recordings(due_before=far, state=AssetState.WANTED),
        "asset": lambda: reader.asset(some),
        "recording": lambda: reader.recording(some),
        "asset of a recording": lambda: reader.asset(f"rec-{some}"),
        "dockings": reader.dockings,
        "open dockings": reader.open_dockings,
        "receipts": lambda: [reader.next_to_receipt(), list(reader.taken_files(docking)), reader.receipt_of(docking)],
        "accounting": lambda: reader.accounting(docking),
        "events": lambda: reader.events(recordings),
        "devices": reader.devices,
        "standings": reader.standings,
        "known clips": lambda: reader.known_clips(_OWNER, clip),
        "asset by content": lambda: reader.asset_by_blake3(_digests(recordings // 2 + 50).blake3, tuple(AssetState)),
        "kept asset": lambda: reader.kept_asset(_digests(recordings // 2 + 50).blake3),
        "next clips": lambda: reader.next_clips(docking, 256),
        "next asset to store": lambda: reader.next_to_store(NOW),
        "next to derive": reader.next_to_derive,
        "what was found": lambda: reader.derived(f"rec-{some}"),
        "derivatives": lambda: reader.derivatives(f"rec-{some}"),
        "copies": reader.copies,
        "documents": lambda: reader.documents(f"rec-{some}"),
        "unheld documents": reader.unheld_documents,
        "known bytes": lambda: reader.known_bytes("", 50),
        "undecided": lambda: reader.undecided("", 50),
        "next asset to store, some under way": lambda: reader.next_to_store(NOW, [some]),
        "what waits": reader.waiting,
        "open clip of": lambda: reader.open_clip_of(some),
        "last dock-out": lambda: reader.last_dock_out(_OWNER),
        "completeness": reader.completeness,
        "metadata": lambda: reader.metadata(f"rec-{some}"),
        "statements": lambda: reader.statements([f"rec-{some}"]),
        "brought by": lambda: reader.brought_by(docking),
        "notes": lambda: (reader.blocks(some), reader.settled(), reader.is_settled("00"), reader.attempt(some)),
    }


def _pages(reader: Reader, some: str) -> dict[str, Callable[[], object]]:
    """What the table of recordings can be asked: each order, each filter, and what nothing fits to."""
    day = {"captured_from": NOW - timedelta(days=2), "captured_before": NOW - timedelta(days=1)}
    filters: dict[str, dict[str, Any]] = {
        "all": {}, "stored": {"state": AssetState.STORED}, "stuck": {"state": AssetState.STUCK}, "of a day": day,
        "id": {"id_begins": some[:-3]}, "checked": {"completeness": Completeness.CHECKED},
        "not safe": {"unsafe": True}, "elsewhere": {"device_id": "none", "state": AssetState.STORED, **day},
        "accepted": {"accepts": lambda view: False, "unsafe": True},
    }  # fmt: skip
    return {
        f"page by {sort}, {name}": partial(reader.page, Wanted(sort, **chosen))
        for sort in Sort
        for name, chosen in filters.items()
    }


def _of_recordings(reader: Reader, some: str) -> dict[str, Callable[[], object]]:
    """Pages of them, and what the log tells of one docking, one recording and one asset."""
    return _pages(reader, some) | {
        "history": lambda: (reader.absences("docking-000000000"), reader.told_of([some]), reader.events_of([some])),
        "receipts to withdraw": lambda: (reader.next_to_withdraw(), reader.is_lacking("docking-000000000")),
        "told of it": lambda: (reader.no_speech_found(some), reader.witnessed("a"), reader.acquired(some)),
    }


def _log_questions(reader: Reader, recordings: int) -> dict[str, Callable[[], object]]:
    """What a checkpoint and the proofs for a receipt, a court and a witness need."""
    return {
        "root": lambda: reader.log_root(reader.log_size()),
        "leaf": lambda: reader.log_leaf(recordings),
        "inclusion": lambda: reader.inclusion(recordings, reader.log_size()),
        "consistency": lambda: reader.consistency(recordings, reader.log_size()),
    }


def _seal_questions(reader: Reader, some: str) -> dict[str, Callable[[], object]]:
    """What manifests need."""
    hour = timedelta(hours=1)
    return {
        "next to seal": lambda: reader.next_to_seal(NOW, hour, hour, 20),
        "next to stamp": lambda: reader.next_to_stamp(NOW, hour),
        "belongings": lambda: reader.belongings(f"rec-{some}"),
        "seals": lambda: reader.seals(f"rec-{some}"),
        "seal counts": reader.seal_counts,
        "incidents since": lambda: reader.incidents_since(1),
    }


def main(recordings: int) -> None:
    """Build a journal and print how long opening and each query take."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder) / "journal.db"
        began = time.perf_counter()
        fill(path, recordings)
        print(f"{recordings} recordings: {path.stat().st_size / 1e9:.1f} GB in {time.perf_counter() - began:.0f} s")
        began = time.perf_counter()
        journal = Journal.open(path, lambda: NOW)
        print(f"{'open':30} {(time.perf_counter() - began) * 1e3:9.2f} ms")
        for name, ask in questions(journal.reader, recordings).items():
            times = []
            for _ in range(5):
                began = time.perf_counter()
                ask()
                times.append((time.perf_counter() - began) * 1e3)
            print(f"{name:30} {times[0]:9.2f} ms, then {min(times[1:]):7.2f} ms")
        asyncio.run(journal.close())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
