"""The demo of a room, from its cameras to the film in a browser: every claim is checked by the demo itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simulator import demo_room
from simulator.demo_browser import Browser
from simulator.stage import CHECKOUT
from tests.servers import installed


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_claim_is_true(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simulator.demo_room", "--dir", str(tmp_path / "demo")],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout
    assert done.stdout.count("plays and seeks in Chromium") == (3 if Browser.is_there() else 0)
    assert not (tmp_path / "demo").exists()


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("precious")
    with installed():
        assert demo_room.main(["--dir", str(tmp_path)]) == 1
    assert "was not made by the demo" in capsys.readouterr().out
    assert (tmp_path / "mine").read_text() == "precious"
