"""The service between detection and screens, without a daemon around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import JournalError
from agent.pipeline import limits
from agent.pipeline.runner import Runner
from agent.service import Service
from tests.conftest import SettableClock
from tests.stations import SHIPPED, opened


async def test_the_recovery_of_one_detection_does_not_hide_the_trouble_of_another(
    tmp_path: Path, clock: SettableClock
) -> None:
    """USB recorders and images are detected by different parts: each tells and takes back only its own trouble."""
    async with opened(tmp_path / "root", clock) as station:
        service = Service(SHIPPED, station, Runner(station))
        usb, images = service.hears("usb"), service.hears("images")
        usb.on_trouble("udev does not answer")
        images.on_trouble("the folder is missing")
        assert set(service.live().problems) == {"udev does not answer", "the folder is missing"}
        images.on_trouble("")
        assert service.live().problems == ("udev does not answer",)
        usb.on_trouble("")
        assert service.live().problems == ()


async def test_a_journal_that_fails_during_a_reload_is_an_alarm_until_the_next_one(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new rules are in force; that limits were not computed again is said, and done by the next reload."""

    async def full(_: object) -> int:
        raise JournalError("the disk is full")

    async with opened(tmp_path / "root", clock) as station:
        service = Service(SHIPPED, station, Runner(station))
        with monkeypatch.context() as patch:
            patch.setattr(limits, "recompute", full)
            assert await service.reload() is not None
        assert "the disk is full" in service.live().problems[0]
        assert await service.reload() is not None
        assert service.live().problems == ()
