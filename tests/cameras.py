"""Fixtures that give tests cameras: footage that is encoded once for each worker, and the server that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers import installed

if TYPE_CHECKING:
    from simulator.cameras.camera import Cameras
    from simulator.cameras.footage import Footage


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The pack of some footage: `pack(Footage(...))`, or `pack()` for small H.264 with AAC."""
    from simulator.cameras.footage import Footage, made

    folder = tmp_path_factory.mktemp("packs")

    def of(footage: Footage | None = None) -> Path:
        return made(footage or Footage(), folder)

    return of


@pytest.fixture
def cameras() -> Iterator[Callable[..., Cameras]]:
    """Starts camera servers that end with the test: `cameras({"front": pack()}, ...)` as `Cameras` takes it."""
    from simulator.cameras.camera import Cameras

    with ExitStack() as stack:

        def start(*mounts: object, **options: object) -> Cameras:
            with installed():
                return stack.enter_context(Cameras(*mounts, **options))  # type: ignore[arg-type]

        yield start
