"""Promise: what a recording lacks follows from the log alone, whoever tells it, and is counted as it changes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import JournalError
from agent.journal import Journal, Reader, rebuild
from agent.journal.codec import from_text, to_text
from agent.journal.schema import MIGRATIONS, connect, migrate
from agent.model import (
    Checked,
    ClipSeen,
    ClockTrust,
    Completeness,
    JournalEntry,
    Medium,
    Probed,
    Stated,
    Statement,
    TimeStated,
    Transcript,
    TranscriptKind,
)
from tests.journal_entries import NOW, acquired, assert_consistent, deadline, document, opened, probed, seen, write

WHOLE = {"method": "photo", "makers": [{"name": "张三"}], "proof_object": "证明药店未按处方销售药品"}
CHECK = Checked(("rec-a",), (1,), "王五", "核对")
ACQUIRED = acquired("a", ord("a"))
GONE: dict[str, object] = {"method": None}
LACKS = ["makers", "method", "proof_object"]


def footage(name: str, medium: Medium = Medium.VIDEO, trust: ClockTrust = ClockTrust.UNMEASURED) -> ClipSeen:
    new = seen(name, ord(name[0]))
    assert new.recording is not None
    return replace(new, recording=replace(new.recording, medium=medium, clock_trust=trust))


def said(
    name: str, *about: str, fields: dict[str, object] | None = None, versions: tuple[int, ...] = ()
) -> JournalEntry:
    return document(name, *about, said=Statement("张三", "补充", NOW, WHOLE if fields is None else fields, versions))


def text(name: str, kind: TranscriptKind) -> JournalEntry:
    return document(name, "a", said=Transcript(kind, "张三", NOW, "a.txt"))


def content(name: str, medium: Medium | None, trust: ClockTrust = ClockTrust.UNMEASURED) -> Probed:
    told = probed(name)
    return replace(told, facts=replace(told.facts, medium=medium), time=replace(told.time, clock_trust=trust))


async def after(path: Path, *entries: JournalEntry) -> tuple[Completeness, list[str], int]:
    """How complete recording `a` is after these; the tables are what a replay gives."""
    await write(path, opened(), *entries)
    assert_consistent(path)
    with closing(Reader(path)) as reader:
        known = reader.recording("a").metadata
        assert known == reader.metadata("rec-a")
        return known.completeness, sorted(known.lacks), known.version


INCOMPLETE, FILLED, CHECKED = Completeness
HUMAN, MACHINE, SIGNED = TranscriptKind
AUDIO, VIDEO = Medium.AUDIO, Medium.VIDEO


@pytest.mark.parametrize(
    ("entries", "state", "lacks", "version"),
    [
        ((footage("a"),), INCOMPLETE, LACKS, 0),
        ((footage("a"), said("s", "a")), FILLED, [], 1),
        ((footage("a"), said("s", "a"), said("t", "a", fields=GONE)), INCOMPLETE, ["method"], 2),
        ((footage("a"), said("s", "a"), CHECK), CHECKED, [], 1),
        (
            (footage("a"), said("s", "a"), CHECK, said("t", "a", fields={"stage": "S03"})),
            FILLED, [], 2,
        ),
        ((footage("a", AUDIO), said("s", "a")), INCOMPLETE, ["transcript"], 1),
        ((footage("a", AUDIO), said("s", "a"), text("m", MACHINE)), INCOMPLETE, ["transcript"], 1),
        ((footage("a", AUDIO), said("s", "a"), text("h", HUMAN)), FILLED, [], 1),
        ((footage("a", AUDIO), text("c", SIGNED), said("s", "a")), FILLED, [], 1),
        ((footage("a", trust=ClockTrust.UNTRUSTED), said("s", "a")), INCOMPLETE, ["made_at"], 1),
        (
            (
                footage("a", trust=ClockTrust.UNTRUSTED), said("s", "a"),
                TimeStated("a", Stated(NOW, "张三", "时钟复位"), deadline(), deadline()),
            ),
            FILLED, [], 1,
        ),
        # What the content says: the name had said video, the time was right, or wrong.
        ((footage("a"), ACQUIRED, said("s", "a"), content("a", AUDIO)), INCOMPLETE, ["transcript"], 1),
        ((footage("a", AUDIO), ACQUIRED, said("s", "a"), content("a", VIDEO)), FILLED, [], 1),
        ((footage("a", AUDIO), ACQUIRED, content("a", None)), INCOMPLETE, [*LACKS, "transcript"], 0),
        (
            (footage("a", AUDIO), ACQUIRED, text("h", HUMAN), said("s", "a"), content("a", AUDIO)),
            FILLED, [], 1,
        ),
        (
            (footage("a"), ACQUIRED, said("s", "a"), content("a", VIDEO, ClockTrust.CONTRADICTED)),
            INCOMPLETE, ["made_at"], 1,
        ),
        (
            (
                footage("a"), ACQUIRED, said("s", "a"), CHECK,
                content("a", VIDEO),
            ),
            CHECKED, [], 1,
        ),
    ],
)  # fmt: skip
async def test_what_is_lacking_after_each_thing_that_can_be_told(
    tmp_path: Path, entries: tuple[JournalEntry, ...], state: Completeness, lacks: list[str], version: int
) -> None:
    assert await after(tmp_path / "journal.db", *entries) == (state, lacks, version)


async def test_a_statement_that_follows_another_version_is_refused_with_all_it_brings(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with Journal.open(path, lambda: NOW) as journal:
        for entry in (opened(), footage("a"), footage("b"), said("s", "a", "b", versions=(0, 0))):
            await journal.record(entry)
        for wrong in (
            said("t", "b", "a", versions=(1, 0)),
            said("t", "a", "b", versions=(1,)),
            Checked(("rec-a", "rec-b"), (1, 2), "王五", "核对"),
            Checked(("rec-a", "rec-z"), (1, 0), "王五", "核对"),
        ):
            with pytest.raises(JournalError):
                await journal.record(wrong)
        await journal.record(said("t", "a", versions=(1,)))
    assert_consistent(path)
    with closing(Reader(path)) as reader:
        assert [reader.metadata(f"rec-{name}").version for name in "ab"] == [2, 1]
        assert [len(one) for one in reader.statements(["rec-a", "rec-b"]).values()] == [2, 1]


async def test_the_counts_are_those_of_the_rows_also_after_a_rebuild(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await write(path, opened(), *map(footage, "abcd"), said("s", "a", "b"), CHECK, said("t", "b", fields=GONE))
    for _ in range(2):
        with closing(Reader(path)) as reader:
            assert reader.completeness() == {INCOMPLETE: 3, FILLED: 0, CHECKED: 1}
            assert reader.overview(NOW).metadata == reader.completeness()
        rebuild(path)


async def test_recordings_of_the_version_before_lack_what_they_lacked_then(tmp_path: Path) -> None:
    path, old = tmp_path / "journal.db", tmp_path / "old.db"
    stated = TimeStated("c", Stated(NOW, "张三", "时钟复位"), deadline(), deadline())
    wrong = ClockTrust.UNTRUSTED
    await write(path, opened(), footage("a"), footage("b", AUDIO, wrong), footage("c", trust=wrong), stated)
    with closing(sqlite3.connect(path)) as new, closing(connect(old, write=True)) as db:
        migrate(db, old, MIGRATIONS[:4])
        for table in ("event", "device", "docking", "recording", "asset", "clip", "counter"):
            names = ", ".join(name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,)))
            known = "WHERE scope <> 'metadata'" if table == "counter" else ""
            for row in new.execute(f"SELECT {names} FROM {table} {known}"):
                db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        migrate(db, old)
    assert_consistent(old)
    with closing(Reader(old)) as reader:
        assert reader.metadata("rec-b").lacks == {*LACKS, "made_at", "transcript"}
        assert reader.metadata("rec-c").lacks == set(LACKS)
        assert reader.completeness() == {INCOMPLETE: 3}


@given(
    st.dictionaries(st.text(), st.recursive(st.none() | st.text(), lambda inner: st.lists(inner, max_size=3))),
    st.text(), st.text(), st.lists(st.integers(0, 9), max_size=3).map(tuple),
)  # fmt: skip
def test_any_statement_comes_back_from_its_json_character_by_character(
    fields: dict[str, object], who: str, why: str, versions: tuple[int, ...]
) -> None:
    statement = Statement(who, why, NOW, fields, versions, ("method",), "1")
    assert from_text(Statement, to_text(statement)) == statement
