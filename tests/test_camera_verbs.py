"""`capture-agent camera`: an administrator sees what a camera says, and its password is nowhere."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from agent import cli
from agent.verbs import camera as camera_module
from simulator.stores.processes import HOST, free_port
from tests.onvif_cameras import PASSWORD, USER, private_network, puppet, start_recorded
from tests.servers import installed


async def said(monkeypatch: pytest.MonkeyPatch, *words: str, password: str = PASSWORD) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\n"))
    monkeypatch.setattr(camera_module, "_ROUNDS", 1)
    return await asyncio.to_thread(cli.main, ["camera", *words])


async def test_what_a_camera_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async with puppet(wants="digest", ahead=timedelta(minutes=5)) as camera:
        address = f"{HOST}:{camera.port}"
        assert await said(monkeypatch, "ask", address, "--user", USER) == 0
        text = capsys.readouterr().out
        assert "clock: +" in text
        assert "profile large: H264 1920x1080" in text
        assert text.endswith(f"records: rtsp://{HOST}:8554/live\n")
        assert await said(monkeypatch, "ask", address, "--user", USER, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert abs(told["clock"]["ahead_s"] - 300) < 60
        assert [one["token"] for one in told["profiles"]] == ["small", "large"]
        assert await said(monkeypatch, "ask", address, "--user", USER, password="wrong") == 4
        refused = capsys.readouterr().err
        assert "does not let this user in" in refused
        assert "wrong" not in refused
        assert await said(monkeypatch, "ask", address) == 4
        assert "wants a user" in capsys.readouterr().err
        assert all(call.startswith("Get") for call in camera.asked + camera.refused), "nothing is set"


async def test_what_is_no_camera(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert await said(monkeypatch, "ask", f"{HOST}:{free_port()}", "--json") == 4
    assert json.loads(capsys.readouterr().out)["exit"] == 4
    for address in ("", "[", "a:99999", "onvif://10.1.2.3", "10.1.2.3/x"):
        assert await said(monkeypatch, "ask", address) == 2


def test_cameras_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with private_network(tmp_path / "camera.log") as network:
        assert network.call(lambda: cli.main(["camera", "find", "--seconds", "0.2"])) == 4
        assert capsys.readouterr().out == "no camera answered\n"
        with installed():
            start_recorded(network)
        assert network.call(lambda: cli.main(["camera", "find", "--seconds", "0.5"])) == 0
        assert capsys.readouterr().out == "onvif://192.168.68.111:80  PREDATOR  HD_PREDATOR\n"
