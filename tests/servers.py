"""Fixtures that give tests the real servers of central storage, each started when a test first asks for it.

Each worker of pytest-xdist has its own: a server starts in a second or two, and a test that kills its gateway, suspends
its user or fills its quota disturbs nobody. Where a server isn't installed its tests are skipped with the reason, but
they fail where CAPTURE_AGENT_CI is set: there everything must run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from simulator.stores.processes import NotInstalledError

if TYPE_CHECKING:
    from simulator.stores.ceph import Ceph
    from simulator.stores.certificates import Certificates
    from simulator.stores.proxy import FaultProxy
    from simulator.stores.rclone import RcloneS3
    from simulator.stores.tinyproxy import ForwardProxy
    from simulator.stores.tus import TusServer


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
def running_ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """The Ceph of this worker."""
    from simulator.stores.ceph import Ceph

    with installed():
        server = Ceph(tmp_path_factory.mktemp("ceph") / "ceph")
    with server:
        yield server


@pytest.fixture
def ceph(running_ceph: Ceph) -> Iterator[Ceph]:
    """A Ceph with object lock, whose gateway runs; a test makes buckets of its own."""
    yield running_ceph
    if running_ceph.gateway_pid is None:
        running_ceph.start_gateway()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, a server and a client."""
    from simulator.stores.certificates import Certificates

    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def fault_proxy(certificates: Certificates) -> Iterator[Callable[..., FaultProxy]]:
    """Make proxies: `fault_proxy(port of the store, tls=False, mutual=False, seed=0)`; they end with the test."""
    from simulator.stores.proxy import FaultProxy

    with ExitStack() as proxies:

        def make(upstream_port: int, *, tls: bool = False, mutual: bool = False, seed: int = 0) -> FaultProxy:
            shown = certificates if tls or mutual else None
            return proxies.enter_context(FaultProxy(upstream_port, tls=shown, mutual=mutual, seed=seed))

        yield make


@pytest.fixture(scope="session")
def running_tus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TusServer]:
    """The tus server of this worker."""
    from simulator.stores.tus import TusServer

    with installed():
        server = TusServer(tmp_path_factory.mktemp("tus") / "uploads")
    with server:
        yield server


@pytest.fixture
def tus_server(running_tus_server: TusServer) -> Iterator[TusServer]:
    """A tus server that runs and behaves; a test that makes it misbehave need not tidy up."""
    yield running_tus_server
    if not running_tus_server.behaves:
        running_tus_server.kill()
        running_tus_server.start()


@pytest.fixture(scope="session")
def fake_lock_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneS3]:
    """A store that says yes to object lock, and locks nothing."""
    from simulator.stores.rclone import RcloneS3

    with installed():
        server = RcloneS3(tmp_path_factory.mktemp("rclone") / "data")
    with server:
        yield server


@pytest.fixture(scope="session")
def forward_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForwardProxy]:
    """A forward proxy that takes everybody."""
    from simulator.stores.tinyproxy import ForwardProxy

    with installed():
        server = ForwardProxy(tmp_path_factory.mktemp("tinyproxy") / "proxy")
    with server:
        yield server
