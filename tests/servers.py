"""Fixtures that give tests the real servers of central storage, each started when a test first asks for it.

Each worker of pytest-xdist has its own: a server starts in a second or two, and a test that kills its gateway, suspends
its user or fills its quota disturbs nobody. Where a server isn't installed its tests are skipped with the reason, but
they fail where CAPTURE_AGENT_CI is set: there everything must run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from simulator.stores.processes import NotInstalledError

if TYPE_CHECKING:
    from simulator.stores.ceph import Ceph


@contextmanager
def installed() -> Iterator[None]:
    """Skip the test if a server is not installed; in CI fail instead."""
    try:
        yield
    except NotInstalledError as missing:
        if os.environ.get("CAPTURE_AGENT_CI"):
            pytest.fail(f"CI must run this test: {missing}")
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A Ceph with object lock. Its gateway must run again when a test ends; buckets are the test's own."""
    from simulator.stores.ceph import Ceph

    with installed():
        server = Ceph(tmp_path_factory.mktemp("ceph") / "ceph")
    with server:
        yield server
