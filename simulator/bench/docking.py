"""Cases a, b and c: one docking until every byte is durable and read back, against commands that promise the same."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent.journal import Reader
from agent.model import AssetState
from simulator.bench.measure import Cost, forget, run
from simulator.bench.place import Bench, contents, empty, write_card, write_files
from simulator.bench.report import BenchError, Row
from simulator.stage import Stage

MIB: Final = 1 << 20
BIG_GOAL: Final = 1.10
SMALL_GOAL: Final = 1.5
CPU_GOAL: Final = 1.2
MEMORY_GOAL_MB: Final = 150
_HAND: Final = "cp + sync + b3sum of the copy"
_UNREAD: Final = "+ sync; does not read the medium back"


@dataclass(slots=True)
class Ground:
    """The same files twice on one disk, as a recorder's image and plain, and where each side copies to."""

    bench: Bench
    stage: Stage
    files: int
    size_bytes: int
    image: Path = field(init=False)
    plain: Path = field(init=False)
    copy: Path = field(init=False)

    def __post_init__(self) -> None:
        self.image = self.stage.recorders / "recorder.img"
        self.plain = self.stage.recorders / "plain"
        self.copy = self.stage.root / "copy"

    @property
    def gib(self) -> float:
        """GiB of footage."""
        return self.files * self.size_bytes / (1 << 30)

    def make(self) -> None:
        """Write image and files."""
        self.bench.require_room(self.stage.root, 4 * self.files * self.size_bytes)
        self.bench.say(f"making {self.files} files of {self.size_bytes // 1024} KiB")
        files = contents(self.files, self.size_bytes)
        write_card(self.image, files)
        write_files(self.plain, files)

    def agent(self) -> Cost:
        """Dock the image by hand, from the start of the process to its end; all files must be HELD in the journal."""
        empty(self.stage.station)
        forget()
        said = self.bench.root / "pull.json"
        said.unlink(missing_ok=True)
        cost = run(self.stage.command("pull", str(self.image), "--json"), said, memory=True)
        told = json.loads(said.read_bytes().splitlines()[-1])
        with closing(Reader(self.stage.station / "journal.db")) as reader:
            held = reader.overview(datetime.now(UTC)).assets[AssetState.HELD].files
        if held != self.files or not told["may_remove"]:
            raise BenchError(f"{held} of {self.files} files are held: {told}")
        return cost

    def by_hand(self) -> Cost:
        """The same promise with plain commands: copy, make durable, read the copy from the medium."""
        cost = self._copied(["cp", "-r", self.plain, self.copy])
        forget()
        return cost + self.fingerprint("b3sum", self.copy)

    def by_ocopy(self) -> Cost:
        """With its own verification, which reads what the page cache has."""
        return self._copied([Path(sys.executable).with_name("ocopy"), "--machine-readable", self.plain, self.copy])

    def by_rclone(self) -> Cost:
        """Compares size and checksum of what it wrote, from the page cache."""
        return self._copied(["rclone", "copy", "--config", "/dev/null", self.plain, self.copy])

    def _copied(self, command: list[str | Path]) -> Cost:
        if self.copy.exists():
            shutil.rmtree(self.copy)
        if "ocopy" in str(command[0]):
            self.copy.mkdir()
        forget()
        return run(command, self.bench.log) + run(["sync", "--file-system", self.copy], self.bench.log)

    def fingerprint(self, tool: str, folder: Path) -> Cost:
        """Fingerprint all files of a folder with a command."""
        script = f'find "$0" -type f -print0 | xargs -0 {tool} >/dev/null'
        return run(["sh", "-c", script, folder], self.bench.log)

    def clean(self) -> None:
        """Give the room of the last round back."""
        empty(self.stage.station)
        if self.copy.exists():
            shutil.rmtree(self.copy)


def rounds(bench: Bench, contenders: dict[str, Callable[[], Cost]]) -> dict[str, list[Cost]]:
    """Let all contenders run in turn, every other round backwards, so that drift and warmth hit all alike."""
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for number in range(bench.rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            cost = contenders[name]()
            costs[name].append(cost)
            bench.say(f"round {number + 1} of {bench.rounds}: {name}: {cost.wall_s:.2f} s, CPU {cost.cpu_s:.2f} s")
    return costs


def big(bench: Bench) -> list[Row]:
    """Cases a and c: 4 GiB of video in four files."""
    files, size_bytes = (2, 24 * MIB) if bench.quick else (4, 1024 * MIB)
    with bench.stage("big") as stage:
        ground = Ground(bench, stage, files, size_bytes)
        ground.make()
        contenders = {"agent": ground.agent, "by hand": ground.by_hand, "ocopy": ground.by_ocopy}
        if shutil.which("rclone"):
            contenders["rclone"] = ground.by_rclone
        costs = rounds(bench, contenders)
        ground.clean()
        extra = [_fingerprints(ground) for _ in range(bench.rounds)]
    return [*_speed_rows(ground, costs), *_cpu_rows(ground, costs, extra)]


def _fingerprints(ground: Ground) -> Cost:
    forget()
    return ground.fingerprint("sha256sum", ground.plain) + ground.fingerprint("b3sum", ground.plain)


def _speed_rows(ground: Ground, costs: dict[str, list[Cost]]) -> list[Row]:
    what = f"{ground.gib:.2g} GiB docking, durable, read back, HELD"
    ours = _walls(costs["agent"])
    rows = [
        Row("a", what, "s", ours, _HAND, _walls(costs["by hand"]), BIG_GOAL),
        Row("a", what, "s", ours, f"ocopy {_UNREAD}", _walls(costs["ocopy"])),
    ]
    if "rclone" in costs:
        return [*rows, Row("a", what, "s", ours, f"rclone copy {_UNREAD}", _walls(costs["rclone"]))]
    return [*rows, Row("a", what, against="rclone copy", instead="rclone is not installed")]


def _cpu_rows(ground: Ground, costs: dict[str, list[Cost]], extra: list[Cost]) -> list[Row]:
    def per_gib(cost: Cost) -> float:
        return cost.cpu_s / ground.gib

    theirs = tuple(per_gib(copied + more) for copied, more in zip(costs["by hand"], extra, strict=True))
    return [
        Row(
            "c", "CPU per GiB, all processes", "s", tuple(map(per_gib, costs["agent"])),
            "cp + sync + sha256sum + 2 x b3sum", theirs, CPU_GOAL,
        ),
        Row("c", "peak memory of `pull` and helpers (PSS)", "MB", _peaks(costs["agent"]), goal=MEMORY_GOAL_MB),
    ]  # fmt: skip


def small(bench: Bench) -> list[Row]:
    """Case b: a card full of photos."""
    files = 500 if bench.quick else 20_000
    with bench.stage("small") as stage:
        ground = Ground(bench, stage, files, 64 * 1024)
        ground.make()
        costs = rounds(bench, {"agent": ground.agent, "by hand": ground.by_hand})
    what = f"{files} photos of 64 KiB, accounting and journal included"
    hand = "cp -r + sync + b3sum of the copy"
    return [
        Row("b", what, "s", _walls(costs["agent"]), hand, _walls(costs["by hand"]), SMALL_GOAL),
        Row("b", "CPU of the same", "s", _cpus(costs["agent"]), hand, _cpus(costs["by hand"])),
        Row("b", "peak memory of the same (PSS)", "MB", _peaks(costs["agent"]), goal=MEMORY_GOAL_MB),
    ]


def _walls(costs: list[Cost]) -> tuple[float, ...]:
    return tuple(cost.wall_s for cost in costs)


def _cpus(costs: list[Cost]) -> tuple[float, ...]:
    return tuple(cost.cpu_s for cost in costs)


def _peaks(costs: list[Cost]) -> tuple[float, ...]:
    return tuple(cost.peak_bytes / 1e6 for cost in costs)
