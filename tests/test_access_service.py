"""From a card to its access copies, with the real service and the real tool: made, told, checked, never in the way."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from agent.access.made import OUTPUT, SOURCE
from agent.access.tool import version
from agent.errors import ConfigError
from agent.journal import Reader, verify
from agent.journal.views import RecordingView
from agent.model import AssetState, FindingKind, Role
from agent.verbs.access import _made_again, _tool
from simulator.stage import COMMAND, Stage
from tests.cards import image
from tests.daemons import call, running, stage
from tests.damage import HOSTILE_NAMES, damaged
from tests.media import film

ON = {"access.enabled": "true", "runner.probe_pause_s": "0.05", "dock.rescan_s": "1"}
SLOW = ("-vf", "loop=loop=20:size=50,setpts=N/25/TB")
"""Longer than it took to make."""


def card_of(folder: Path, files: dict[str, bytes], name: str = "card.img") -> Path:
    return image(folder / name, dict(files))


def views(made: Stage) -> dict[str, RecordingView]:
    """By name of the clip."""
    with closing(Reader(made.station / "journal.db")) as reader:
        return {view.clip.path.rpartition("/")[2]: view for view in reader.recordings(limit=1000) if view.clip}


def files(made: Stage, recording_id: str) -> dict[str, Any]:
    """What was made of a recording, by role, as the command line tells it."""
    answer = call(made, "access", "list", recording_id, "--json")
    assert answer.returncode == 0, answer.stderr
    return {one["role"]["name"]: one for one in json.loads(answer.stdout)["files"]}


def is_settled(made: Stage, count: int) -> bool:
    """All originals are derived from, and all that came of it is stored."""
    with closing(Reader(made.station / "journal.db")) as reader:
        overview = reader.overview(reader.events(0, 1)[0].at)
        waiting = [overview.derived[state].files for state in (AssetState.WANTED, AssetState.HELD)]
        return sum(overview.copies[1:]) == count and not any(waiting)


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    return stage(tmp_path, ON)


def sound(made: Stage) -> None:
    report = verify(made.station / "journal.db")
    assert report.consistent, report.differences
    assert not list((made.station / "derived").iterdir())
    assert not list((made.station / "staging").iterdir())


def tools(made: Stage) -> dict[int, str]:
    """The command line of every ffmpeg that runs for this station, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == "ffmpeg":
                line = (entry / "cmdline").read_bytes().decode()
                if str(made.station) in line:
                    found[int(entry.name)] = line
    return found


def test_a_recording_becomes_copies_pictures_findings_and_a_certificate_that_holds(made: Stage, tmp_path: Path) -> None:
    clips = {"/DCIM/0001.MP4": film(tmp_path, "mp4"), "/DCIM/0002.WAV": film(tmp_path, "wav")}
    with running(made) as daemon:
        daemon.dock(card_of(tmp_path, clips))
        daemon.until(lambda: is_settled(made, len(clips)))
        access = daemon.status()["access"]
        assert (access["waiting"], access["made"], access["failed"]) == (0, 2, 0)
    video = views(made)["0001.MP4"]
    found = files(made, video.recording.recording_id)
    assert {"access_copy", "poster", "contact_sheet", "waveform", "findings", "certificate", "timeline"} <= set(found)
    for one in found.values():
        assert one["state"]["name"] in ("stored", "matched")
        assert blake3(Path(one["path"]).read_bytes()).hexdigest() == one["blake3"]
    told = json.loads(Path(found["certificate"]["path"]).read_bytes())
    assert told["source"]["blake3"] == video.asset.digests.blake3
    assert {one["role"] for one in told["files"]} == set(found) - {"certificate"}
    answer = call(made, "access", "check", video.asset.asset_id, "--json", timeout_s=120)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    outcomes = {one["role"]: one["outcome"] for one in json.loads(answer.stdout)["files"]}
    assert outcomes["access_copy"] == "same"
    assert set(outcomes.values()) <= {"same", "own", "not_claimed"}, outcomes
    assert "access_copy" in call(made, "metadata", "show", video.asset.asset_id).stdout
    sound(made)


async def test_what_was_never_claimed_is_no_evidence_against_a_copy(tmp_path: Path) -> None:
    original, folder, now = tmp_path / "original", tmp_path / "again", await version()
    original.write_bytes(film(tmp_path, "mp4", 1))
    folder.mkdir()
    paper = {
        "role": "access_copy", "asset_id": "a", "name": "a.mp4", "tool": now, "repeatable": False,
        "arguments": ["-hwaccel", "no such", "-i", SOURCE, OUTPUT], "sha256": "", "blake3": "",
    }  # fmt: skip

    async def outcome(words: list[str] | None = None, **changed: object) -> str:
        one = paper | changed | ({"arguments": words} if words else {})
        return str((await _made_again(one, original, folder, now))["outcome"])

    assert await outcome() == "not_claimed_failed", "a copy of another machine's encoder"
    assert await outcome(repeatable=True) == "failed"
    assert await outcome(repeatable=True, tool="ffmpeg 1") == "not_claimed_failed"
    assert await outcome(["-i", SOURCE, "-c", "copy", OUTPUT], name="b.mp4", repeatable=True) == "differs"
    assert await outcome(["-i", SOURCE, "-c", "copy", OUTPUT], name="c.mp4", tool="ffmpeg 1") == "not_claimed"


async def test_without_the_tool_a_check_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.access.tool._PROGRAM", "no-such-tool")
    with pytest.raises(ConfigError, match="nothing could be checked"):
        await _tool()


def test_a_service_that_is_killed_while_it_makes_a_copy_begins_again_and_leaves_nothing(
    made: Stage, tmp_path: Path
) -> None:
    clips = {"/DCIM/0001.AVI": film(tmp_path, "avi", 2, SLOW)}
    with running(made) as daemon:
        daemon.dock(card_of(tmp_path, clips))
        daemon.until(lambda: any((made.station / "derived").glob("*/*")))
        daemon.service.process.send_signal(signal.SIGKILL)
        daemon.service.process.wait()
        end = time.monotonic() + 10
        while tools(made):
            assert time.monotonic() < end, "the tool outlived the service"
            time.sleep(0.02)
    with running(made) as daemon:
        daemon.until(lambda: is_settled(made, 1))
    view = views(made)["0001.AVI"]
    assert view.made is not None
    assert view.made.reason == ""
    with closing(Reader(made.station / "journal.db")) as reader:
        assert len(reader.derivatives(view.recording.recording_id)) == len(files(made, view.asset.asset_id))
    sound(made)


def test_an_original_at_which_the_service_dies_three_times_is_left_alone(made: Stage, tmp_path: Path) -> None:
    """As if it was its fault: the attempt is counted before the work."""
    clips = {"/DCIM/0001.AVI": film(tmp_path, "avi", 2, SLOW)}
    card = card_of(tmp_path, clips)
    for number in range(3):
        with running(made) as daemon:
            if number == 0:
                daemon.dock(card)
            daemon.until(lambda: any((made.station / "derived").glob("*/*")))
            daemon.service.process.send_signal(signal.SIGKILL)
            daemon.service.process.wait()
    with running(made) as daemon:
        daemon.until(lambda: views(made)["0001.AVI"].made is not None)
        daemon.until(lambda: daemon.status()["access"]["failed"] == 1)  # what is told may be half a second old
    view = views(made)["0001.AVI"]
    assert view.made.reason.startswith("3 attempts")
    assert view.asset.state is AssetState.STORED
    sound(made)


def test_a_tool_that_is_killed_each_time_is_a_reason_and_the_others_get_their_copies(
    made: Stage, tmp_path: Path
) -> None:
    """Here the clip isn't hostile: the test kills the tool wherever it works on it."""
    clips = {"/DCIM/0001.AVI": film(tmp_path, "avi", 2, SLOW),
             "/DCIM/0002.WAV": film(tmp_path, "wav")}  # fmt: skip
    with running(made) as daemon:
        daemon.dock(card_of(tmp_path, clips))
        daemon.until(lambda: "0001.AVI" in views(made) and views(made)["0001.AVI"].asset.digests)
        digest = views(made)["0001.AVI"].asset.digests.blake3
        while not is_settled(made, len(clips)):
            daemon.service.alive()
            for pid, line in tools(made).items():
                with contextlib.suppress(OSError):
                    if digest in line:
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
    found = views(made)
    assert found["0001.AVI"].asset.state is AssetState.STORED, "the original is stored anyway"
    assert "ffmpeg" in found["0001.AVI"].made.reason
    assert found["0002.WAV"].made.reason == ""
    assert "certificate" in files(made, found["0001.AVI"].asset.asset_id)
    sound(made)


def test_without_ffmpeg_the_station_says_so_and_copies_are_made_once_it_is_there(
    made: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the service alone, in its own mount namespace: the machine keeps its ffmpeg."""
    tool = shutil.which("ffmpeg")
    wrapper = tmp_path / "wrapper"
    hidden = f"mount --bind /dev/null {tool}"
    wrapper.write_text(f'#!/bin/sh\nexec unshare -m sh -c \'{hidden} && exec "$0" "$@"\' {COMMAND} "$@"\n')
    wrapper.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr("simulator.stage.COMMAND", wrapper)
        with running(made) as daemon:
            daemon.dock(card_of(tmp_path, {"/DCIM/0001.WAV": film(tmp_path, "wav")}))
            daemon.until(lambda: any("ffmpeg" in one["zh"] for one in daemon.status()["health"]["problems"]))
            status = daemon.status()
            assert (status["access"]["waiting"], status["access"]["failed"]) == (1, 0)
            daemon.until(lambda: views(made)["0001.WAV"].asset.state is AssetState.STORED)
            subprocess.run(["nsenter", "-t", str(daemon.pid), "-m", "umount", str(tool)], check=True)
            daemon.until(lambda: is_settled(made, 1))
            assert not any("ffmpeg" in one["zh"] for one in daemon.status()["health"]["problems"])
    assert views(made)["0001.WAV"].made.reason == ""


def test_names_of_every_kind_never_reach_a_command_line(made: Stage, tmp_path: Path) -> None:
    """What a recorder calls its files is known to the journal alone."""
    content = film(tmp_path, "wav", 1)
    usable = [name for name in HOSTILE_NAMES if not set(name) & set('"*/:<>?\\|') and name.isprintable()]
    clips = {f"/DCIM/{name}": content + bytes([number]) for number, name in enumerate(usable)}
    seen: set[str] = set()
    with running(made) as daemon:
        daemon.dock(card_of(tmp_path, clips))
        while not is_settled(made, len(clips)):
            daemon.service.alive()
            seen |= set(tools(made).values())
            time.sleep(0.01)
    assert seen
    assert not any(name in line for name in usable for line in seen)
    assert all(view.made.reason == "" for view in views(made).values())


def test_damage_is_found_and_told_with_its_place(made: Stage, tmp_path: Path) -> None:
    cases = ("hole", "no-moov", "half")
    clips = {f"/DCIM/{name}.MP4": damaged(tmp_path, name).read_bytes() for name in cases}
    with running(made) as daemon:
        daemon.dock(card_of(tmp_path, clips))
        daemon.until(lambda: is_settled(made, len(clips)))
    for name in cases:
        answer = json.loads(
            call(made, "access", "findings", views(made)[f"{name}.MP4"].asset.asset_id, "--json").stdout
        )
        kinds = {one["kind"]["name"] for one in answer["findings"]}
        assert kinds, name
        assert FindingKind.CUT in kinds or name == "hole"
    assert Role.CERTIFICATE in files(made, views(made)["no-moov.MP4"].asset.asset_id)
    sound(made)
