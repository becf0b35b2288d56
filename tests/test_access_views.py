"""What was made and found, in words: for the status, for the record of a recording, and for the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import cli
from agent.access.certificate import canonical, certificate, fingerprinted
from agent.access.made import OUTPUT, SOURCE, Everything, Made
from agent.config import load
from agent.journal import Journal, Reader
from agent.journal.recordings import ALL
from agent.journal.views import Copies
from agent.model import (
    Derivation,
    Derived,
    Digests,
    FindingKind,
    MediaFinding,
    Role,
)
from agent.status.access import access_view, certificate_lines, file_lines, finding_lines
from agent.status.board import Board
from agent.status.health import Live
from agent.status.record import known_of, record_lines, record_view
from simulator.stage import Stage
from tests.conftest import SettableClock
from tests.daemons import stage
from tests.journal_entries import NOW, acquired, listed, opened, probed, seen, wanted
from tests.made import copy, derived

FINDINGS = (
    MediaFinding(FindingKind.BLACK, 3_725_400, 3_730_000, detail="all of the picture"),
    MediaFinding(FindingKind.ZEROS, offset_bytes=4096, length_bytes=65536, detail="zero bytes"),
    MediaFinding(FindingKind.BACKWARDS, 5000),
)
SAYING = Derivation(Role.ACCESS_COPY, "a", NOW, "ffmpeg 5.1.9-0+deb12u1", "ab" * 32, complete=False)

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    return stage(tmp_path, {"access.enabled": "true"})


@pytest.fixture
async def filled(made: Stage, clock: SettableClock) -> Stage:
    """Two recordings, the first with a copy and findings, the second with a reason why it has none."""
    made.station.mkdir(exist_ok=True)
    async with Journal.open(made.station / "journal.db", clock) as journal:
        for entry in (opened(), seen("a"), seen("b", 2), seen("c", 3), listed(3), acquired("a"), acquired("b", 2)):
            await journal.record(entry)
        await journal.record(acquired("c", 3), probed("a"), probed("b"), probed("c"))
        first = copy("p", "a")
        await journal.record(replace(first, said=SAYING), Derived("a", FINDINGS, 7))
        await journal.record(copy("k", "b", Role.CERTIFICATE), derived("b", "it can't be decoded"))
    return made


@pytest.fixture
def say(made: Stage, capsys: pytest.CaptureFixture[str]) -> Say:
    def said(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["--config", str(made.config), "access", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return said


def record_of(made: Stage, identifier: str) -> dict[str, Any]:
    config = load(made.config)
    with closing(Reader(made.station / "journal.db")) as reader:
        return record_view(known_of(reader, identifier), config, NOW)


def test_findings_are_facts_with_their_place_in_both_languages(filled: Stage, say: Say) -> None:
    code, out, _ = say("findings", "rec-a")
    assert code == 0
    assert "发现 7 项 (7 findings)" in out
    assert "黑屏 black picture  01:02:05–01:02:10  all of the picture" in out
    assert "bytes 4096+65536" in out
    assert "00:00:05" in out
    assert "其余见检查结果文件" in out
    told = json.loads(say("findings", "a", "--json")[1])
    assert [one["kind"]["name"] for one in told["findings"]] == ["black", "zeros", "backwards"]
    assert told["findings"][0]["start_ms"] == 3_725_400
    assert "内容尚未检查" in say("findings", "rec-c")[1]


def test_the_files_are_listed_with_their_state_and_their_place(filled: Stage, say: Say) -> None:
    code, out, _ = say("list", "a")
    assert code == 0
    assert "查阅副本 access copy" in out
    assert "内容不全 (incomplete)" in out
    told = json.loads(say("list", "a", "--json")[1])
    (one,) = told["files"]
    assert (one["state"]["name"], one["certificate"]) == ("wanted", "ab" * 32)
    assert one["path"] == str(filled.vault / one["blake3"][:2] / one["blake3"])
    assert "无查阅副本 (no access copy): it can't be decoded" in say("list", "b")[1]


def test_what_is_stored_in_english_alone_is_shown_in_both_languages() -> None:
    found = MediaFinding(FindingKind.OFFSET, 0, 900, detail="the sound begins later")
    view = access_view("rec-a", Derived("a", (found,), 1, "nothing in it can be decoded"), (), Path)
    assert view["findings"][0]["detail"] == {"zh": "声音开始较晚", "en": "the sound begins later"}
    assert any("声音开始较晚 (the sound begins later)" in line for line in finding_lines(view))
    assert any("没有可解码的内容 (nothing in it can be decoded)" in line for line in file_lines(view))
    paper = {"reason": "", "problems": ["no pictures: X"], "files": [{"remarks": ["video track 1 is not in the copy"]}]}
    *_, problem, remark = certificate_lines(paper)
    assert (problem, remark) == (
        "没有制作图片：X (no pictures: X)",
        "副本中没有画面轨 1 (video track 1 is not in the copy)",
    )


def test_what_nobody_has_made_can_t_be_shown_or_checked(filled: Stage, say: Say) -> None:
    for verb in ("show", "check"):
        code, _, err = say(verb, "c")
        assert code == cli.Exit.USAGE
        assert "nothing was made" in err
    assert say("list", "nobody")[0] != 0


def test_whoever_asks_for_other_copies_is_kept_in_the_journal(filled: Stage, say: Say) -> None:
    code, out, _ = say("make", "rec-a", "--who", "李四", "--why", "新版工具")
    assert code == 0
    assert "重新制作" in out
    with closing(Reader(filled.station / "journal.db")) as reader:
        last = reader.events(0, 1000)[-1]
        assert (last.kind, json.loads(last.detail)) == (
            "derive_asked",
            {"asset_id": "a", "who": "李四", "why": "新版工具"},
        )
        assert reader.copies() == Copies(2, 0, 1)


def test_the_record_tells_of_the_access_copy_and_what_it_is_made_from(filled: Stage) -> None:
    field = record_of(filled, "a")["fields"]["access_copy"]
    assert field["zh"] == "查阅副本"
    assert field["source"] == "A"
    value = field["value"]
    assert (value["tool"], value["version"], value["derived_from"]) == ("ffmpeg", "5.1.9-0+deb12u1", "a")
    assert value["params"] == {"certificate": "ab" * 32, "complete": False}
    assert value["ref"] == "p"
    assert len(value["digest"]) == 64
    assert any("查阅副本" in line for line in record_lines(record_of(filled, "a")))
    assert "access_copy" in record_of(filled, "b")["absent"], "a certificate is no copy"


async def test_the_status_counts_copies_and_says_of_each_recording_whether_there_is_one(
    filled: Stage, clock: SettableClock
) -> None:
    with closing(Reader(filled.station / "journal.db")) as reader, ExitStack() as stack:
        board = Board(load(filled.config), reader, clock, Live, lambda: 0)
        stack.callback(board.close)
        status = json.loads(await board.status())
        rows = json.loads(await board.recordings(ALL, None, "", 50))["recordings"]
    access = status["access"]
    assert (access["enabled"], access["waiting"], access["made"], access["failed"]) == (True, 1, 1, 1)
    assert "已制作 1，待制作 1，无法制作 1" in access["zh"]
    assert any(fact["zh"] == access["zh"] for fact in status["facts"])
    assert status["counters"]["derived"]["wanted"]["files"] == 2
    assert status["counters"]["documents"]["wanted"]["files"] == 0
    shown = {row["asset_id"]: row["access"] for row in rows}
    assert shown["c"] is None
    assert (shown["a"]["copy"], shown["a"]["found"]) == (True, 7)
    assert "有查阅副本，检查发现 7 项" in shown["a"]["zh"]
    assert (shown["b"]["copy"], shown["b"]["reason"]["en"]) == (False, "it can't be decoded")


def test_nothing_that_is_shown_speaks_of_removing_or_of_guilt() -> None:
    view = access_view("rec-a", Derived("a", FINDINGS, 3), (), Path)
    text = json.dumps(view, ensure_ascii=False) + "".join(finding_lines(view))
    assert not any(word in text for word in ("删除", "违规", "篡改", "delete"))


# The certificate.


def test_the_certificate_is_canonical_and_tells_how_to_make_each_file_again(tmp_path: Path) -> None:
    path = tmp_path / "copy.mp4"
    path.write_bytes(b"copy")
    size, digests = fingerprinted(path)
    original = replace(wanted("a"), digests=Digests("a" * 64, "b" * 64))
    asset = replace(wanted("p"), role=Role.ACCESS_COPY, expected_bytes=size, digests=digests)
    words = ("-i", f"file:{SOURCE}", OUTPUT)
    one = Made(Role.ACCESS_COPY, path, "ffmpeg 5", words, False, False, ("sound was left out",), {"frames": 3})
    paper = certificate(original, Everything((one,), (), 0, "", ("no pictures",)), [asset], NOW)
    assert paper == canonical(json.loads(paper))
    told = json.loads(paper)
    assert told["source"]["sha256"] == "b" * 64
    assert told["problems"] == ["no pictures"]
    assert told["files"] == [
        {
            "arguments": list(words), "asset_id": "p", "blake3": digests.blake3, "sha256": digests.sha256,
            "complete": False, "counts": {"frames": 3}, "name": "copy.mp4", "remarks": ["sound was left out"],
            "repeatable": False, "role": "access_copy", "size_bytes": 4, "tool": "ffmpeg 5",
        }
    ]  # fmt: skip


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(OSError, match="symbolic"):
        fingerprinted(tmp_path / "link")
