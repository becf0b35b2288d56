"""A whole station on a folder of its own, for tests that drive the pipeline without the daemon around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from agent.config import Runner, load
from agent.deadline import Rules
from agent.journal import Journal
from agent.model import Clock, SlotProgress
from agent.pipeline.acquire import Docking, End
from agent.pipeline.progress import Meter
from agent.pipeline.station import Station
from agent.uploader.base import Store
from agent.vault import Vault
from tests.fakes import FakeRecorder, FakeStore

SHIPPED = load(Path(__file__).parent.parent / "config" / "agent.toml")
QUICK = Runner(attempts=3, backoff_base_s=0, backoff_max_s=0)


@asynccontextmanager
async def opened(root: Path, clock: Clock, *, store: Store | None = None, seal: bool = False) -> AsyncIterator[Station]:
    """A station whose journal and vault are under `root`."""
    vault = Vault(root, seal=seal)
    rules = Rules(SHIPPED.profile, SHIPPED.calendars)
    with ThreadPoolExecutor(4, thread_name_prefix="disk") as disk:
        async with Journal.open(root / "journal.db", clock) as journal:
            yield Station(journal, vault, store or FakeStore(), rules, clock, QUICK, 0, disk)


async def dock(station: Station, recorder: FakeRecorder, shown: list[SlotProgress] | None = None) -> End:
    """One docking from plug to its end; everything published goes to `shown`."""
    published = [] if shown is None else shown
    return await Docking(station, recorder, "1", Meter("1", "V8", published.append)).run()
