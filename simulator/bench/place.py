"""Where the bench works: a folder of its own with a station, recorder images and plain files, removed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from simulator.bench.report import BenchError
from simulator.card import Card
from simulator.content import Noise
from simulator.stage import Stage, prepare, wipe, with_options

SPARE_BYTES: Final = 8 << 30
_CLUSTER_BYTES: Final = 128 * 1024
_NEWEST: Final = datetime(2026, 11, 20, 18, 0)  # noqa: DTZ001 - a card knows local time only


@dataclass(slots=True)
class Bench:
    """Folders and choices of one run."""

    root: Path
    quick: bool
    rounds: int
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.root / "commands.log"

    def say(self, text: str) -> None:
        """Tell how far the bench is."""
        print(f"bench: {text}", flush=True)

    @contextlib.contextmanager
    def stage(self, name: str, changes: dict[str, str] | None = None) -> Iterator[Stage]:
        """A station of its own, wiped at the end."""
        made = prepare(self.root / name)
        try:
            made.config.write_text(with_options(made.config.read_text("utf-8"), changes or {}), "utf-8")
            yield made
        finally:
            wipe(made.root)

    def require_room(self, folder: Path, need_bytes: int) -> None:
        """Raise BenchError if the medium of `folder` lacks room, before anything is written."""
        free = shutil.disk_usage(folder).free
        if free < need_bytes + SPARE_BYTES * (not self.quick):
            raise BenchError(
                f"{folder} has {free / 1e9:.0f} GB free; this case needs {need_bytes / 1e9:.0f} GB and a rest"
            )


@contextlib.contextmanager
def opened(folder: Path, *, quick: bool, rounds: int) -> Iterator[Bench]:
    """A new folder below `folder`; afterwards it is gone, whatever happened."""
    root = Path(tempfile.mkdtemp(prefix="capture-agent-bench-", dir=folder))
    try:
        yield Bench(root, quick, rounds)
    finally:
        subprocess.run(["chattr", "-R", "-f", "-i", str(root)], capture_output=True, check=False)
        shutil.rmtree(root)


def contents(files: int, size_bytes: int, seed: int = 0) -> list[tuple[str, Noise]]:
    """Names and contents of a recorder: no two files are equal, no byte is compressible."""
    suffix = "MP4" if size_bytes > (1 << 20) else "JPG"
    return [
        (f"DCIM/{100 + at // 1000}MEDIA/DSJ{at:05}.{suffix}", Noise(size_bytes, seed + at + 1)) for at in range(files)
    ]


def write_card(image: Path, files: Sequence[tuple[str, Noise]]) -> None:
    """An exFAT card with the files, the newest first, so that the order of deadlines is not that of the listing."""
    rounded = sum(-(-noise.size_bytes // _CLUSTER_BYTES) * _CLUSTER_BYTES for _, noise in files)
    with Card.exfat(image, rounded + rounded // 16 + (64 << 20), cluster_bytes=_CLUSTER_BYTES) as card:
        for at, (path, noise) in enumerate(files):
            card.add(path, noise, modified=_NEWEST - timedelta(minutes=at))


def write_files(folder: Path, files: Sequence[tuple[str, Noise]]) -> None:
    """The same files as plain ones: what the other commands copy."""
    for path, noise in files:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            out.writelines(noise.chunks())
            out.flush()
            os.fdatasync(out.fileno())


def empty(station: Path) -> None:
    """Remove what the agent or a command wrote in the round before."""
    if station.exists():
        subprocess.run(["chattr", "-R", "-f", "-i", str(station)], capture_output=True, check=False)
        shutil.rmtree(station)
