"""The service between detection and screens, without a daemon around it."""

from __future__ import annotations

from pathlib import Path

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
