"""Case i: what the custody log costs: an event with its chain and tree, a proof, and checking a long log."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.journal import Reader, verify
from agent.journal.codec import encode
from agent.journal.log import Log
from agent.journal.schema import connect
from agent.journal.tree import plant
from agent.model import Incident
from agent.signing import SigningKey
from agent.tlog.checkpoint import Checkpoint
from agent.tlog.keys import Signer
from agent.tlog.proof import Proof
from simulator import journal
from simulator.bench.place import Bench
from simulator.bench.report import BenchError, Row

PROOF_GOAL_BYTES: Final = 2048
APPEND_GOAL: Final = 1.1
_AT: Final = datetime(2026, 11, 23, tzinfo=UTC)
_BYTES_EACH: Final = 3000


def log(bench: Bench) -> list[Row]:
    """Append one event a commit, as the journal does and as bare SQLite with the same row; then prove and hash all."""
    commits, recordings = (50, 500) if bench.quick else (2000, 345_000)
    bench.require_room(bench.root, recordings * _BYTES_EACH)
    ours, bare, rates, proofs = [], [], [], []
    bench.say(f"making a journal of {recordings} recordings")
    path = bench.root / "log.db"
    journal.fill(path, recordings)
    for number in range(bench.rounds):
        bare.append(_bare_ms(bench.root / f"bare-{number}.db", commits))
        ours.append(_appended_ms(bench.root / f"ours-{number}.db", commits))
        rates.append(_hashed_per_s(path))
        proofs.append(float(_proof_bytes(path)))
    replayed = _replayed_per_s(path)
    with closing(Reader(path)) as reader:
        size = f"{reader.log_size():,} events"
    against = "a bare INSERT of the same row and COMMIT, as durable"
    return [
        Row("i", "one event, chained and in the tree, committed", "ms", tuple(ours), against, tuple(bare), APPEND_GOAL),
        Row("i", f"{size}: every leaf hashed, the tree built", "events/s", tuple(rates)),
        Row("i", f"{size}: verified: replayed, every row and checkpoint compared", "events/s", (replayed,)),
        Row("i", f"{size}: a proof with its checkpoint", "bytes", tuple(proofs), goal=PROOF_GOAL_BYTES),
    ]


def _appended_ms(path: Path, commits: int) -> float:
    """Milliseconds for each commit of the journal's own writer."""
    with closing(Log(path, lambda: _AT)) as written:
        began_s = time.perf_counter()
        for number in range(commits):
            entries = [encode(Incident("bench", {"n": number}))]
            written.commit([partial(Log.append, entries=entries)])
        return (time.perf_counter() - began_s) * 1e3 / commits


def _bare_ms(path: Path, commits: int) -> float:
    """Milliseconds for each commit of a table with the same columns and nothing else, under the same pragmas."""
    with closing(connect(path, write=True)) as db:
        db.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, at, kind, subject, detail, hash)")
        began_s = time.perf_counter()
        for number in range(commits):
            row = (number, _AT.isoformat(), "incident", "", f'{{"details":{{"n":{number}}},"kind":"bench"}}', bytes(32))
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", row)
            db.execute("COMMIT")
        return (time.perf_counter() - began_s) * 1e3 / commits


def _hashed_per_s(path: Path) -> float:
    """Events a second when the tree of a journal is made from nothing, as its migration does."""
    with closing(connect(path, write=True)) as db:
        db.execute("BEGIN")
        db.execute("DELETE FROM tree")
        began_s = time.perf_counter()
        plant(db)
        took_s = time.perf_counter() - began_s
        (events,) = db.execute("SELECT count(*) FROM event").fetchone()
        db.execute("ROLLBACK")
        return float(events / took_s)


def _replayed_per_s(path: Path) -> float:
    """Events a second of `capture-agent verify --log-only`."""
    began_s = time.perf_counter()
    report = verify(path)
    if not report.consistent:
        raise BenchError(f"the journal that was made contradicts itself: {report.differences[0]}")
    return report.events / (time.perf_counter() - began_s)


def _proof_bytes(path: Path) -> int:
    """The size of a proof of the middle event, with a signed checkpoint."""
    station = Signer("capture-agent.example/dock-1", SigningKey(Ed25519PrivateKey.generate(), b""))
    with closing(Reader(path)) as reader:
        size = reader.log_size()
        note = Checkpoint(station.key.name, size, reader.log_root(size)).signed(station)
        return len(Proof(size // 2 - 1, tuple(reader.inclusion(size // 2, size)), note).encode())
