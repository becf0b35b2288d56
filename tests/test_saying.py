"""Promise: what persons say is kept as versions, each a sealed file of its own, and overwrites nobody's words."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.errors import JournalError, RequestError, UnknownError
from agent.journal import Reader, rebuild, verify
from agent.model import AssetState, Completeness, Forms, Officer, Recorder, RecorderKind, Role
from agent.pipeline.activities import state
from agent.pipeline.saying import check, say
from agent.pipeline.station import Station
from agent.status.record import history_lines, history_view, known_of, record_lines, record_view
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder
from tests.stations import SHIPPED, dock
from tests.stations import opened as station_of

FILES = {
    "/DCIM/0001.MP4": b"video one", "/DCIM/0002.MP4": b"video two",
    "/DCIM/0003.JPG": b"photo", "/DCIM/0004.WAV": b"sound",
}  # fmt: skip
PROOF = "证明药店未按处方销售药品"
WHOLE = {"makers": ["@A-17", "李四/2"], "proof_object": PROOF, "stage": "现场检查"}


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with station_of(tmp_path / "root", clock) as station:
        station.forms = Forms(officers={"A-17": Officer("A-17", "张三", "37080012345")})
        yield station


def own(station: Station) -> None:
    """The recorder of the tests is in the inventory."""
    device = recorder(station).device
    owned = Recorder("DSJ-001", "0117", RecorderKind.BODY_CAMERA, device.product, device.serial)
    station.inventory = {"DSJ-001": owned}


def recorder(station: Station, **files: bytes) -> FakeRecorder:
    return FakeRecorder(
        {f"/DCIM/{name}": data for name, data in files.items()} or dict(FILES), station.vault.staging_dir
    )


async def docked(station: Station) -> dict[str, str]:
    """Recording ids by the ending of their file's name."""
    await dock(station, recorder(station))
    rows = station.journal.reader.recordings()
    return {Path(row.clip.path).stem.lstrip("0"): row.recording.recording_id for row in rows if row.clip}


def asked(fields: dict[str, Any] | None = None, *ids: str, **more: str) -> dict[str, str]:
    form = {} if fields is None else {"fields": json.dumps(fields)}
    return {"ids": " ".join(ids), "who": "张三", "why": "回到单位后补充", **form, **more}


def states(station: Station) -> dict[str, int]:
    return {state.value: count for state, count in station.journal.reader.completeness().items() if count}


def record(station: Station, identifier: str, clock: SettableClock) -> dict[str, Any]:
    config = replace(SHIPPED, inventory=station.inventory, forms=station.forms)
    return record_view(known_of(station.journal.reader, identifier), config, clock())


def history(station: Station, identifier: str) -> list[dict[str, Any]]:
    versions: list[dict[str, Any]] = history_view(known_of(station.journal.reader, identifier))["versions"]
    return versions


async def test_a_form_for_many_recordings_is_one_sealed_document_that_waits_for_the_store(station: Station) -> None:
    ids = await docked(station)
    told = await say(station, asked(WHOLE | {"method": "现场录像"}, ids["1"], ids["2"]))
    (name,) = told["statements"]  # type: ignore[misc]
    asset = station.journal.reader.asset(name)
    assert (asset.role, asset.state) == (Role.STATEMENT, AssetState.HELD)
    assert told["recordings"] == 2
    assert told["completeness"] == {"filled": 2}
    assert told["versions"] == [1]
    assert asset.digests is not None
    content = station.vault.originals_dir / asset.digests.blake3[:2] / asset.digests.blake3
    written = json.loads(content.read_bytes())
    assert written["recordings"] == [ids["1"], ids["2"]]
    said = written["said"]["statement"] if "statement" in written["said"] else written["said"]
    assert said["fields"]["proof_object"] == PROOF
    assert said["who"] == "张三"
    assert states(station) == {"incomplete": 2, "filled": 2}


async def test_the_method_of_a_recorder_of_the_inventory_is_added_and_marked(
    station: Station, clock: SettableClock
) -> None:
    own(station)
    ids = await docked(station)
    before = record(station, ids["1"], clock)
    assert before["fields"]["method"] == {
        "zh": "制作方法", "en": "method", "source": "A",
        "value": {"name": "body_camera", "zh": "执法记录仪摄录", "en": "body-worn camera"},
    }  # fmt: skip
    assert [one["name"] for one in before["missing"]] == ["makers", "proof_object"]
    told = await say(station, asked(WHOLE, *ids.values()))
    assert len(told["statements"]) == 3, "video, photo and sound are made in different ways"  # type: ignore[arg-type]
    assert told["completeness"] == {"filled": 3, "incomplete": 1}
    methods = {name: record(station, one, clock)["fields"]["method"] for name, one in ids.items()}
    assert {name: field["value"]["name"] for name, field in methods.items()} == {
        "1": "body_camera", "2": "body_camera", "3": "photo", "4": "audio",
    }  # fmt: skip
    assert {field["source"] for field in methods.values()} == {"A"}
    await say(station, asked({"method": "复制"}, ids["1"]))
    assert record(station, ids["1"], clock)["fields"]["method"]["source"] == "O"
    assert history(station, ids["1"])[1]["changed"]["method"] == {"old": "body_camera", "new": "copy", "assumed": False}


async def test_the_method_of_an_unknown_recorder_stays_missing(station: Station, clock: SettableClock) -> None:
    ids = await docked(station)
    await say(station, asked(WHOLE, ids["1"]))
    shown = record(station, ids["1"], clock)
    assert [one["name"] for one in shown["missing"]] == ["method"]
    assert "method" in shown["absent"]


async def test_sound_is_complete_only_with_a_transcript(station: Station) -> None:
    own(station)
    ids = await docked(station)
    await say(station, asked(WHOLE, ids["4"]))
    assert station.journal.reader.metadata(ids["4"]).lacks == {"transcript"}


async def test_whoever_speaks_without_having_seen_the_last_word_is_refused(station: Station) -> None:
    ids = await docked(station)
    await say(station, asked({"proof_object": PROOF}, ids["1"], version="0"))
    with pytest.raises(JournalError, match=f"{ids['1']} is at version 1, not 0"):
        await say(station, asked({"proof_object": "别的证明对象"}, ids["2"], ids["1"], version="0"))
    assert history(station, ids["2"]) == []
    await say(station, asked({"stage": "S05"}, ids["1"], version="1"))
    assert [one["changed"] for one in history(station, ids["1"])] == [
        {"proof_object": {"old": None, "new": PROOF, "assumed": False}},
        {"stage": {"old": None, "new": "S05", "assumed": False}},
    ]


async def test_of_two_who_speak_at_once_none_overwrites_the_other_unseen(station: Station) -> None:
    """Both saw version 0: the second is refused by the journal itself, whatever the order of steps."""
    ids = await docked(station)
    forms = [asked({"place_text": f"地点{n}"}, ids["1"]) for n in range(4)]
    ends = await asyncio.gather(*(say(station, form) for form in forms), return_exceptions=True)
    done = [end for end in ends if not isinstance(end, BaseException)]
    refused = [end for end in ends if isinstance(end, BaseException)]
    assert all(isinstance(end, JournalError) and "somebody else has spoken since" in end.what for end in refused)
    assert len(history(station, ids["1"])) == len(done) >= 1
    changes = [one["changed"]["place_text"] for one in history(station, ids["1"])]
    assert [change["old"] for change in changes[1:]] == [change["new"] for change in changes[:-1]]


async def test_a_field_can_be_withdrawn_and_what_was_said_stays_in_the_history(
    station: Station, clock: SettableClock
) -> None:
    own(station)
    ids = await docked(station)
    await say(station, asked(WHOLE, ids["1"]))
    told = await say(station, asked({"proof_object": None, "place_text": "济宁"}, ids["1"]))
    assert told["completeness"] == {"incomplete": 1}
    shown = record(station, ids["1"], clock)
    assert "proof_object" not in shown["fields"]
    assert shown["fields"]["place_text"]["value"] == "济宁"
    assert history(station, ids["1"])[1]["changed"]["proof_object"] == {"old": PROOF, "new": None, "assumed": False}
    assert any("—" in told for told in history_lines({"recording_id": "r", "versions": history(station, ids["1"])}))


async def test_checked_holds_until_somebody_says_something_else(station: Station) -> None:
    own(station)
    ids = await docked(station)
    with pytest.raises(JournalError, match=r"can't be checked yet .*lacks method makers proof_object"):
        await check(station, asked(None, ids["1"]))
    await say(station, asked(WHOLE, ids["1"], ids["2"]))
    told = await check(station, asked(None, ids["1"], ids["2"], who="王五"))
    assert told["completeness"] == {"checked": 2}
    assert told["own_words"] == 0
    assert (await check(station, asked(None, ids["1"])))["own_words"] == 1, "the same person: it is only told"
    await say(station, asked({"place_text": "济宁"}, ids["1"]))
    assert states(station) == {"incomplete": 2, "filled": 1, "checked": 1}
    with pytest.raises(JournalError, match="is at version 2, not 1"):
        await check(station, asked(None, ids["1"], version="1"))


async def test_one_that_lacks_something_lets_nothing_of_a_batch_be_checked(station: Station) -> None:
    own(station)
    ids = await docked(station)
    await say(station, asked(WHOLE, ids["1"]))
    with pytest.raises(JournalError, match=f"{ids['3']} can't be checked yet"):
        await check(station, asked(None, ids["1"], ids["3"]))
    assert states(station) == {"incomplete": 3, "filled": 1}


async def test_a_docking_stands_for_the_recordings_that_were_new_in_it(station: Station) -> None:
    ids = await docked(station)
    card = {**FILES, "/DCIM/0005.MP4": b"video of the next day"}
    await dock(station, FakeRecorder(card, station.vault.staging_dir))
    first, second = (docking.docking_id for docking in reversed(station.journal.reader.dockings()))
    assert set(station.journal.reader.brought_by(first)) == set(ids.values())
    told = await say(station, asked({"stage": "S03"}, docking=second))
    assert told["recordings"] == 1, "what an earlier day said of older footage on the card stays"
    told = await say(station, asked({"stage": "S05"}, *ids.values(), docking=first))
    assert told["recordings"] == 4


async def test_an_activity_stands_for_all_its_recordings(station: Station, clock: SettableClock) -> None:
    ids = await docked(station)
    times = {"arrived": "2026-11-20 08:00", "left": "2026-11-20 09:30"}
    recordings = f"{ids['1']} {ids['3']}"
    stated = await state(station, {"stage": "S03", "recordings": recordings, "who": "张三", "why": "检查", **times})
    told = await say(station, asked({"proof_object": PROOF}, ids["3"], activity=str(stated["activity"])))
    assert told["recordings"] == 2
    assert record(station, ids["1"], clock)["fields"]["activity_id"]["value"] == [stated["activity"]]
    assert history(station, ids["2"]) == []


async def test_a_record_tells_its_place_in_each_activity(station: Station, clock: SettableClock) -> None:
    """Two activities, one of them sealing: each with its own place, duty and coverage; outside of any: nothing."""
    ids = await docked(station)
    said = {"who": "张三", "why": "检查", "arrived": "2026-11-20 08:00", "left": "2026-11-20 23:00"}
    both = f"{ids['1']} {ids['3']}"
    first = await state(station, {"stage": "S09", "recordings": both, **said})
    second = await state(station, {"stage": "S03", "recordings": ids["3"], **said})
    fields = record(station, ids["3"], clock)["fields"]
    order = {place["activity_id"]: place for place in fields["segment_no"]["value"]}
    assert order.keys() == {first["activity"], second["activity"]} == set(fields["activity_id"]["value"])
    other = record(station, ids["1"], clock)["fields"]["segment_no"]["value"][0]
    places = sorted([other["segment_no"], order[first["activity"]]["segment_no"]])
    assert places == [1, 2]
    assert {other["prev_item"], order[first["activity"]]["prev_item"]} <= {"", ids["1"], ids["3"]}
    assert order[second["activity"]]["prev_item"] == ""
    duties = {duty["activity_id"]: duty["must_full"] for duty in fields["obligation"]["value"]}
    assert duties == {first["activity"]: True, second["activity"]: False}
    assert all(0 <= one["at_least"] <= one["at_most"] <= 1 for one in fields["coverage_ratio"]["value"])
    assert "segment_no" in record(station, ids["2"], clock)["absent"]
    assert "\n".join(record_lines(record(station, ids["3"], clock)))


async def test_nothing_is_entered_if_anything_is_wrong(station: Station) -> None:
    ids = await docked(station)
    head = station.journal.reader.events(limit=10_000)[-1].seq
    wrong: list[tuple[type[Exception], dict[str, str]]] = [
        (RequestError, asked({"proof_object": "无"}, ids["1"])),
        (RequestError, asked({"sensitivity": "国家秘密"}, ids["1"])),
        (RequestError, asked({}, ids["1"])),
        (RequestError, {**asked({}, ids["1"]), "fields": "[]"}),
        (RequestError, asked({"original_carrier": "released/批-1"}, ids["1"])),
        (UnknownError, asked({"stage": "S03"}, ids["1"], "nobody")),
        (JournalError, asked({"stage": "S03"})),
        (JournalError, asked({"stage": "S03"}, docking="nothing")),
        (ValueError, asked({"stage": "S03"}, ids["1"], who="")),
        (ValueError, asked({"stage": "S03"}, ids["1"], why="x\u202ey\n")),
    ]
    for error, form in wrong:
        with pytest.raises(error):
            await say(station, form)
    assert station.journal.reader.events(limit=10_000)[-1].seq == head


async def test_warnings_name_the_recording_once_and_hinder_nothing(station: Station) -> None:
    ids = await docked(station)
    told = await say(station, asked({"makers": "王五", "stage": "S05"}, *ids.values()))
    assert [(one["field"], one["zh"][:5]) for one in told["warnings"]] == [
        ("makers", "检查、询问"),
        ("makers[1]", "执法证待核"),
    ]  # type: ignore[attr-defined]
    assert {one["recording"] for one in told["warnings"]} <= set(ids.values())  # type: ignore[attr-defined]


async def test_the_log_alone_gives_back_every_word_and_every_count(station: Station, tmp_path: Path) -> None:
    own(station)
    ids = await docked(station)
    await say(station, asked(WHOLE, *ids.values()))
    await check(station, asked(None, ids["1"]))
    await say(station, asked({"proof_object": None}, ids["2"]))
    before = states(station)
    path = tmp_path / "root" / "journal.db"
    report = verify(path)
    assert report.consistent, report.differences
    await station.journal.close()
    rebuild(path)
    with closing(Reader(path)) as reader:
        assert {state.value: count for state, count in reader.completeness().items() if count} == before
        assert reader.metadata(ids["1"]).completeness is Completeness.CHECKED


async def test_a_record_tells_every_field_with_who_says_it_and_makes_none_up(
    station: Station, clock: SettableClock
) -> None:
    own(station)
    ids = await docked(station)
    await say(station, asked(WHOLE | {"voice_statement_given": "yes/1:15", "document_refs": "笔录/1"}, ids["1"]))
    shown = record(station, ids["1"], clock)
    fields, absent = shown["fields"], set(shown["absent"])
    assert {field["source"] for field in fields.values()} <= set("DAOP")
    assert all(field["zh"] and field["en"] and field["value"] not in (None, "") for field in fields.values())
    assert not absent & fields.keys()
    assert {"accepted_central_at", "central_receipt", "org_code", "case_no", "transcript"} <= absent
    assert fields["source_path"]["value"] == "/DCIM/0001.MP4"
    assert bytes.fromhex(fields["source_name_raw"]["value"])
    assert fields["device"]["value"]["recorder_id"] == "DSJ-001"
    assert fields["deadline"]["value"]["citation"].startswith("鲁医保发〔2019〕60号")
    assert fields["secured_local_at"]["value"]
    assert [one["cert_valid_on_day"] for one in fields["makers"]["value"]] == [True, None]
    assert fields["voice_statement_given"]["value"]["offset_s"] == 75
    lines = "\n".join(record_lines(shown))
    assert "证明对象" in lines
    assert PROOF in lines
    json.dumps(shown)


async def test_nothing_that_is_said_goes_to_a_log(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    """Not even about which recording: its id is in the log where it was docked and stored, for IT to search by."""
    caplog.set_level(logging.DEBUG)
    ids = await docked(station)
    before = len(caplog.text)
    await say(station, asked(WHOLE, ids["1"]))
    with pytest.raises(RequestError):
        await say(station, asked({"stage": PROOF}, ids["1"]))
    assert not any(word in caplog.text for word in ("张三", "李四", PROOF, "A-17"))
    assert ids["1"] not in caplog.text[before:]
