"""Whatever is seen of a file, it is never taken before it has rested, and never waited for beyond all patience."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.inboxes.judging import Doubt, Patience, is_unfinished, judged

PATIENCE = Patience(settle_s=5, unsure_s=60, give_up_s=900)
SECONDS = st.floats(0, 2000)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a closer look would find."""

    written: bool | None = False
    whole: bool = True

    def is_written_to(self) -> bool | None:
        return self.written

    def is_whole(self) -> bool:
        return self.whole


class Never:
    """A file that must not be opened."""

    def is_written_to(self) -> bool | None:
        raise AssertionError("opened")

    def is_whole(self) -> bool:
        raise AssertionError("opened")


@pytest.mark.parametrize(
    ("rested_s", "size", "seen", "verdict"),
    [
        (4.9, 1, Seen(), None),
        (5, 1, Seen(), Doubt.NONE),
        (5, 1, Seen(written=None), None),
        (60, 1, Seen(written=None), Doubt.NONE),
        (899, 1, Seen(written=True), None),
        (900, 1, Seen(written=True), Doubt.OPEN),
        (899, 1, Seen(whole=False), None),
        (900, 1, Seen(whole=False), Doubt.NOT_WHOLE),
        (899, 0, Seen(), None),
        (900, 0, Seen(), Doubt.EMPTY),
        (900, 1, Seen(written=None), Doubt.NONE),
    ],
)
def test_verdicts(rested_s: float, size: int, seen: Seen, verdict: Doubt | None) -> None:
    assert judged(rested_s, size, PATIENCE, seen) == verdict


@given(SECONDS, st.integers(0, 9), st.sampled_from([True, False, None]), st.booleans(), st.booleans())
def test_waiting_has_a_beginning_and_an_end(
    rested_s: float, size: int, written: bool | None, whole: bool, has_marker: bool
) -> None:
    found = judged(rested_s, size, PATIENCE, Seen(written, whole), has_marker=has_marker)
    assert found is None or rested_s >= 5
    assert found is not None or rested_s < 900
    if found is Doubt.NONE:
        assert written is not True
        assert whole
        assert size
    marked = judged(rested_s, size, Patience(marker=".done"), Never(), has_marker=has_marker)
    assert (marked is Doubt.NONE) == (has_marker and rested_s >= 5)
    assert marked is None or marked is Doubt.NONE


@given(SECONDS, SECONDS, st.integers(0, 9), st.sampled_from([True, False, None]), st.booleans())
def test_resting_longer_never_makes_a_file_wait_again(
    one_s: float, other_s: float, size: int, written: bool | None, whole: bool
) -> None:
    seen = Seen(written, whole)
    sooner, later = (judged(rested_s, size, PATIENCE, seen) for rested_s in sorted((one_s, other_s)))
    assert sooner is None or later is not None


@pytest.mark.parametrize("name", ["a.mp4.part", "A.TMP", "录像.mp4.filepart", "x.crdownload"])
def test_names_of_unfinished_files(name: str) -> None:
    assert is_unfinished(name)
    assert not is_unfinished(f"{name}.mp4")
