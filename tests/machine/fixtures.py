"""Fixtures of the machine tests: the package of this tree, the disk that has it installed, a machine that is on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.debs import shared
from tests.machine.image import Image, installed
from tests.machine.machine import Machine, booted, computer


@pytest.fixture(scope="session")
def machine_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this tree, as `./run deb` builds it, but not compressed."""
    return shared(tmp_path_factory)


@pytest.fixture(scope="session")
def machine_image(machine_package: Path) -> Image:
    """A Debian 12 in which that package is installed."""
    return installed(machine_package)


@pytest.fixture
def machine(machine_image: Image, tmp_path: Path) -> Iterator[Machine]:
    """A machine that has booted, with the package installed, an empty station and an empty dedicated storage.

    It goes on from a frozen one, whose clock it has: some time behind.
    """
    with computer(machine_image, tmp_path, frozen=booted(machine_image)) as made:
        made.power_on()
        yield made


@pytest.fixture(scope="session")
def is_long() -> bool:
    """Whether the long variant was asked for: `./run vm-test --long`."""
    return bool(os.environ.get("CAPTURE_AGENT_VM_LONG"))
