"""Twenty thousand files at once: the service takes all of them over, once, and stays alive meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.daemons import running
from tests.test_inbox_service import dockings, stored, with_inbox

FILES = 20_000


@pytest.mark.soak
def test_twenty_thousand_files_are_one_batch(tmp_path: Path) -> None:
    made, inbox = with_inbox(tmp_path)
    for number in range(FILES):
        folder = inbox / f"{number // 500:03}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number:05}.txt").write_bytes(b"%d" % number)
    with running(made) as daemon:
        daemon.until(lambda: dockings(made) and dockings(made)[0].closed_at is not None, limit_s=3000)
        daemon.until(lambda: stored(daemon, FILES), limit_s=3000)
    (docking,) = dockings(made)
    assert (docking.reason, docking.accounting.pulled, docking.accounting.left) == ("complete", FILES, 0)
