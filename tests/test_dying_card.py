"""The running service at a card of which nine tenths can't be read: two passes, a true map of holes, bounded time."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import pytest

from agent.journal import Reader
from simulator.content import Content, Noise
from tests.cards import MIB, card
from tests.daemons import call, running, stage
from tests.disks import faulty_image

pytestmark = pytest.mark.root

SIZE_BYTES = MIB
PERIOD_BYTES, GOOD_BYTES = 40_960, 4096
FINE: dict[str, Content] = {f"FINE{n}.MP4": Noise(100_000 + n, n) for n in (1, 2, 3)}
BAD = Noise(SIZE_BYTES, 9)


def true_holes() -> list[tuple[int, int]]:
    """Of each period all but the first piece, as (offset, length)."""
    return [
        (at + GOOD_BYTES, min(PERIOD_BYTES, SIZE_BYTES - at) - GOOD_BYTES)
        for at in range(0, SIZE_BYTES, PERIOD_BYTES)
        if SIZE_BYTES - at > GOOD_BYTES
    ]


def holes_of(journal: Path) -> list[tuple[int, int]]:
    """The map that the journal keeps of the only original that has one."""
    with closing(Reader(journal)) as reader:
        found = [json.loads(event.detail) for event in reader.events(limit=1000) if event.kind == "acquired"]
    (holes,) = [mapped for detail in found if (mapped := detail["event"]["acquired"].get("holes"))]
    return [(offset, length) for offset, length in holes]


@pytest.mark.parametrize("patient", [True, False], ids=["within its time", "out of time"])
def test_what_can_be_read_of_it_is_kept_and_what_cannot_is_mapped(tmp_path: Path, patient: bool) -> None:
    """Each bad sector takes its time, as on real cards: the good files don't wait for them, and it has an end."""
    made = stage(tmp_path, {
        "dock.image_dir": f'"{tmp_path / "fuse"}"', "dock.rescue_limit_s": "60" if patient else "1",
        "runner.backoff_base_s": "120", "runner.backoff_max_s": "120",
    })  # fmt: skip
    with card(tmp_path / "card.img", {"BAD.MP4": BAD, **FINE}) as image:
        ((begin, length),) = image.extents(image.node("BAD.MP4"))
    assert length >= SIZE_BYTES
    with faulty_image(tmp_path / "card.img", tmp_path / "fuse") as served:
        served.fail(striped=[begin, begin + SIZE_BYTES, PERIOD_BYTES, GOOD_BYTES], slow_s=0.001 if patient else 0.05)
        with running(made) as daemon:
            daemon.until(lambda: daemon.slot("card.img").get("outcomes", {}).get("pulled") == len(FINE))
            fine_at = time.monotonic()
            shown = daemon.until_phase("card.img", "failed", limit_s=90)
            assert patient or time.monotonic() - fine_at < 30, "all bad sectors, one by one, take minutes"
            assert shown["outcomes"]["unreadable"] == 1
            assert not shown["may_remove"]
            assert shown["hold"]["name"] == "ask"
            daemon.until(lambda: daemon.status()["counters"]["assets"]["stored"]["files"] == len(FINE) + 1)
    holes = holes_of(made.station / "journal.db")
    whole, got = bytearray(BAD.read()), bytearray(BAD.read())
    for offset, size in holes:
        got[offset : offset + size] = bytes(size)
    for offset, size in true_holes():
        whole[offset : offset + size] = bytes(size)
    if patient:
        assert holes == true_holes(), "not a byte more is missing than can't be read"
    assert all(any(a <= offset and offset + size <= a + b for a, b in holes) for offset, size in true_holes())
    kept = {path.read_bytes() for path in (made.station / "vault").rglob("*") if path.is_file()}
    assert kept == {bytes(got), *(content.read() for content in FINE.values())}
    assert not patient or got == whole
    assert call(made, "verify").returncode == 0
