"""The words for what the vault's disk refuses or gives back changed: what happened, and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.errors import EvidenceError, StoreError

_KEEP_IT: Final = "Keep the recorder as it is until this is settled."
_CHECK_DISK: Final = "Have the administrator check the station's disk and its free space."


def differs(path: Path, what: str) -> EvidenceError:
    """Bytes are not what they were."""
    return EvidenceError(
        f"The vault's disk does not give back what was written: {path.name} ({what}).", safe=_KEEP_IT, do=_CHECK_DISK
    )


def refused(path: Path, what: str) -> StoreError:
    """The disk did not do what was asked for."""
    return StoreError(f"The vault's disk refused {path.name}: {what}.", safe=_KEEP_IT, do=_CHECK_DISK)


@contextlib.contextmanager
def world(path: Path) -> Iterator[None]:
    """Writing, naming and flushing: what the disk refuses can be tried again later."""
    try:
        yield
    except OSError as error:
        raise refused(path, error.strerror or str(error)) from error


@contextlib.contextmanager
def medium(path: Path) -> Iterator[None]:
    """Reading back: what can't be read is not held."""
    try:
        yield
    except OSError as error:
        raise differs(path, error.strerror or str(error)) from error
