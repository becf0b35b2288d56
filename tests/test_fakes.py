"""The fake recorder keeps the same contract as the real ones, or tests that use it would prove nothing."""

from __future__ import annotations

from pathlib import Path

from agent.drivers.base import Docked
from tests.driver_conformance import CARD, DriverConformance
from tests.fakes import FakeRecorder


class TestFakeRecorder(DriverConformance):
    """The conformance suite against the recorder in memory."""

    def dock(self, tmp_path: Path, staging: Path) -> Docked:
        return FakeRecorder(dict(CARD), staging)
