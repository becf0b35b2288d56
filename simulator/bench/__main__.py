"""`./run bench`: measures the agent, prints the table, and writes it for the docs when asked."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from simulator.bench import access, crowd, docking, log, machine, place, rooms, schedule, screens, start, upload, verify
from simulator.bench.place import Bench
from simulator.bench.report import BenchError, Row, markdown, table

CASES: Final[Mapping[str, Callable[[Bench], list[Row]]]] = {
    "a": docking.big,
    "b": docking.small,
    "c": docking.big,
    "d": crowd.crowd,
    "e": start.start,
    "f": upload.upload,
    "g": schedule.schedule,
    "h": access.access,
    "i": log.log,
    "j": verify.verify,
    "k": screens.screens,
    "l": rooms.rooms,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen cases; 1 if a goal was missed, 2 if it can't be measured here."""
    options = _options(argv)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # so that devices and folders are given back
    chosen = [CASES[name] for name in CASES if name in options.only]
    try:
        with place.opened(
            options.dir, quick=options.quick, rounds=options.rounds or (1 if options.quick else 5)
        ) as bench:
            rows = [row for case in dict.fromkeys(chosen) for row in case(bench)]
            facts = machine.state(bench.root)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print("\n".join(f"{name}: {value}" for name, value in facts))
    print(table(rows, judged=not options.quick))
    if options.quick:
        print("quick: small sizes, nothing is judged by them")
    if options.markdown:
        command = " ".join(["./run bench", *(argv if argv is not None else sys.argv[1:])])
        options.markdown.write_text(markdown(rows, facts, command, judged=not options.quick), "utf-8")
    return 0 if options.quick or all(row.met is not False for row in rows) else 1


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute: only shows that it works")
    parser.add_argument("--only", type=_cases, default=frozenset(CASES), metavar="a,b", help="cases a to l")
    parser.add_argument("--rounds", type=int, default=0, help="alternated rounds (default: 5; quick: 1)")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="a folder on the disk to measure")  # noqa: S108
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    return parser.parse_args(argv)


def _cases(text: str) -> frozenset[str]:
    names = frozenset(text.split(","))
    if unknown := names - CASES.keys():
        raise argparse.ArgumentTypeError(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
