"""Promise: what a page tells of a recording is all that the journal has, in words, and nothing of other recordings."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from agent.errors import UnknownError
from agent.journal.recordings import Sort
from agent.model import AssetState, DeriveAsked, DockingListed, Exported
from agent.model import Role as Made
from agent.screens.pages import said
from agent.screens.supervisor import _wanted
from agent.status.custody import _KINDS
from agent.status.dossier import dossier, made_file
from tests.journal_entries import acquired, confirmed, document, opened
from tests.made import copy, derived
from tests.status_station import NOW, footage, serve
from tests.test_supervisor_page import FRIDAY, acquired_document

GOLDEN = Path(__file__).parent / "data" / "journal_format.jsonl"
ELSEWHERE = {"clip_refused", "clip_accounted", "observed", "incident"}


def test_every_event_of_a_recording_has_words() -> None:
    told = [json.loads(line)[:2] for line in GOLDEN.read_text("ascii").splitlines()]
    assert {kind for kind, subject in told if subject in ("a", "b", "rec-a")} - ELSEWHERE <= _KINDS.keys()


async def test_all_of_one_recording_and_nothing_of_another(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        record, reader = served.journal.record, served.journal.reader
        both = (footage(served.config, name, number, FRIDAY) for number, name in enumerate("ab", 1))
        await record(
            opened(), *both, DockingListed("d1", 2, "ab" * 32), acquired("a"), acquired("b", 2), confirmed("b")
        )
        await record(document("s", "a"), copy("p", "a"), acquired_document("p", 1000), derived("a"))
        await record(
            DeriveAsked("b", "李四", "新版工具"), Exported("ab" * 32, "批 7", "王五", "移送", ("rec-a",), 1, 1)
        )
        shown = dossier(reader, served.config, "rec-a", NOW)
        told = [event["kind"] for event in shown["custody"]]
        expected = [
            "docking_opened", "clip_seen", "docking_listed", "acquired", "document_added", "document_added", "derived",
            "exported",
        ]  # fmt: skip
        assert told == expected
        assert [event["seq"] for event in shown["custody"]] == sorted(event["seq"] for event in shown["custody"])
        whos = {event["kind"]: (event["who"], event["why"] and event["why"]["zh"]) for event in shown["custody"]}
        assert whos["exported"] == ("王五", "移送")
        assert shown["shown"] == {"access_copy": "p"}
        assert shown["deadline"]["recording_id"] == shown["record"]["recording_id"] == "rec-a"
        assert dossier(reader, served.config, "a", NOW) == shown, "by the id of its original too"
        assert made_file(reader, "rec-b", Made.ACCESS_COPY) is None
        for unknown in ("rec-x", "p", ""):
            with pytest.raises(UnknownError):
                dossier(reader, served.config, unknown, NOW)


async def test_a_page_that_can_t_be_made_says_so_in_words(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        status, _, body = await asyncio.to_thread(served.ask, "/recordings/rec-x")
        assert (status, "没有这个记录" in body.decode()) == (404, True)
        served.journal.reader.close()
        for path in ("/", "/recordings/rec-a", "/statistics"):
            status, _, body = await asyncio.to_thread(served.ask, path)
            assert (status, "故障" in body.decode(), b"Traceback" in body) == (503, True, False), path


def test_the_list_begins_with_what_no_store_has_and_is_filtered_by_what_is_asked() -> None:
    wanted, verdict = _wanted({})
    assert (wanted.unsafe, wanted.state, wanted.sort, verdict) == (True, None, Sort.DEADLINE, None)
    assert not _wanted({"state": "all"})[0].unsafe
    assert _wanted({"state": "stored", "verdict": ""})[0].state is AssetState.STORED
    wanted, verdict = _wanted({"verdict": "late", "from": "", "id": "rec-"})
    assert (wanted.unsafe, verdict, wanted.id_begins) == (False, "late", "rec-")
    with pytest.raises(web.HTTPBadRequest):
        _wanted({"state": "nonsense"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"name": "S08", "zh": "先行登记保存", "en": "x"}, "先行登记保存"),
        ([{"name": "张三", "cert_no": "1"}, {"name": "李四", "cert_no": ""}], "张三 · 1；李四"),
        ("2026-11-23T10:00:00.000+08:00", "2026-11-23 10:00"),
        ({"a": None, "b": [], "c": 0, "d": "x"}, "0 · x"),
    ],
)
def test_any_value_is_said_in_words(value: object, text: str) -> None:
    assert said(value, "zh") == text
