"""Case j: reading again all that is held, against b3sum of the same files with dropped caches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from simulator.bench.docking import MIB, Ground, rounds
from simulator.bench.measure import Cost, forget, run
from simulator.bench.place import Bench
from simulator.bench.report import Row

GOAL: Final = 1 / 0.9
"""At least 0.9 of the speed of b3sum."""


def verify(bench: Bench) -> list[Row]:
    """Films, with the goal; then photos. The agent computes SHA-256 too, proves that it reads, and checks the log."""
    files, photos = (2, 50) if bench.quick else (4, 5000)
    large = _measured(bench, files, 24 * MIB if bench.quick else 1024 * MIB, GOAL)
    return [*large, *_measured(bench, photos, 64 * 1024, None)]


def _measured(bench: Bench, files: int, size_bytes: int, goal: float | None) -> list[Row]:
    with bench.stage(f"verify-{files}") as stage:
        ground = Ground(bench, stage, files, size_bytes)
        ground.make()
        ground.agent()
        held = [path for path in (stage.station / "vault").rglob("*") if path.is_file()]
        contenders: dict[str, Callable[[], Cost]] = {
            "verify": lambda: _cold(bench, stage.command("verify", "--local")),
            "b3sum": lambda: _cold(bench, ["b3sum", *map(str, held)]),
        }
        costs = rounds(bench, contenders)
    ours, theirs = (tuple(cost.wall_s for cost in costs[name]) for name in contenders)
    what = f"{files} files of {size_bytes // 1024} KiB: `verify --local`, log included"
    return [Row("j", what, "s", ours, "b3sum of the same files", theirs, goal)]


def _cold(bench: Bench, command: list[str]) -> Cost:
    forget()
    return run(command, bench.log)
