"""The findings are right for each file of the list of bad input: all that is wrong with it, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.access import inspecting, looking
from agent.access.findings import findings_of
from agent.access.inspecting import inspect
from agent.access.looking import Looked, look
from agent.access.scanning import scan
from agent.access.tool import ToolError
from agent.media.probing import probe
from agent.model import Facts, FindingKind, MediaFinding, Medium, Role
from tests.damage import CASES, MIB, damaged

BACKWARDS, CUT, FROZEN, GAP, OFFSET, SILENT, UNDECODABLE, ZEROS = (
    FindingKind.BACKWARDS, FindingKind.CUT, FindingKind.FROZEN, FindingKind.GAP, FindingKind.OFFSET,
    FindingKind.SILENT, FindingKind.UNDECODABLE, FindingKind.ZEROS,
)  # fmt: skip
NEAR_MS = 250

Expected = tuple[FindingKind, int | None, int | None]
"""Kind; from, to in milliseconds, or offset and length in bytes; None where there is no place, or any."""

UNREAD: list[Expected] = [(UNDECODABLE, None, None)]
EXPECTED: dict[str, list[Expected]] = {
    # Of a cut file the last packet is damaged, unless it was cut between two.
    "half": [(UNDECODABLE, 3000, 3040), (CUT, 3040, 3040)],
    "half-index-behind": [(CUT, None, None), *UNREAD],
    "gop-edge": [(CUT, 3008, 3008)],
    # The noise is eight seconds long, its sound six.
    "hole": [(ZEROS, 3_805_184, MIB), (UNDECODABLE, 3960, 5120), (UNDECODABLE, 3968, 5120), (OFFSET, 6000, 8000)],
    "zero-tail": [(ZEROS, 155_648, 98_782), (UNDECODABLE, 3560, 6000), (UNDECODABLE, 3584, 6000)],
    "no-moov": [(CUT, None, None), *UNREAD],
    "preallocated": [(CUT, None, None), *UNREAD, (ZEROS, 176_128, 4 * MIB)],
    "empty": UNREAD,
    "one-byte": UNREAD,
    "text": UNREAD,
    "random": UNREAD,
    "large": [(ZEROS, 253_952, 4 << 30)],
    "avi-no-index": [(CUT, 6000, 6000)],
    "avi-half": [(UNDECODABLE, 3000, 3040), (CUT, 3040, 3040)],
    "wav-too-long": [(UNDECODABLE, 5952, 6000), (CUT, 6000, 6000)],
    "wav-no-length": [(UNDECODABLE, 5952, 6000), (CUT, 6000, 6000)],
    "mp3-half": [(CUT, 3000, 3000)],
    "aac-half": [(UNDECODABLE, 3008, 3072), (CUT, 3072, 3072)],
    "photo-half": [(CUT, None, None)],
    "png-bomb": [*UNREAD, (UNDECODABLE, 0, 40)],
    "jpeg-bomb": [*UNREAD, (UNDECODABLE, 0, 40)],
    "heic-half": [(CUT, None, None), *UNREAD],
    "insane": [(UNDECODABLE, 0, 6000)],
    "unknown-codec": [(UNDECODABLE, 0, 6000)],
    "jump-forward": [(GAP, 2000, 7000), (OFFSET, 6000, 11_000)],
    "ts-jump-forward": [(UNDECODABLE, 2984, 3024), (GAP, 3064, 103_000), (GAP, 3072, 102_936)],
    "ts-jump-back": [(BACKWARDS, 0, 63_008), (BACKWARDS, 64, 63_000), (UNDECODABLE, 62_920, 62_960)],
    "ts-half": [(UNDECODABLE, 1624, 1664), (CUT, 1664, 1664)],
    "fmp4-half": [(UNDECODABLE, 3064, 3104), (CUT, 3104, 3104)],
    "mkv-half": [(CUT, 3064, 3064)],
    "m3u8": UNREAD,
    "m3u8-as-mp4": UNREAD,
    "ffconcat": UNREAD,
    "mpd": UNREAD,
    "mov-alias": UNREAD,
}
"""Of files that are not named here nothing is wrong."""


async def probed(path: Path) -> Facts:
    fd = os.open(path, os.O_RDONLY)
    try:
        return await probe(fd, gps=False)
    finally:
        os.close(fd)


def matches(one: MediaFinding, expected: Expected) -> bool:
    kind, first, second = expected
    told = (one.offset_bytes, one.length_bytes) if kind is ZEROS else (one.start_ms, one.end_ms)
    near = 2 * 4096 if kind is ZEROS else NEAR_MS
    return one.kind is kind and all(
        want is None or (have is not None and abs(have - want) <= near)
        for want, have in zip((first, second), told, strict=True)
    )


@pytest.mark.parametrize("name", [name for name in CASES if name != "slow"])
async def test_all_that_is_wrong_with_a_file_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    path, work = damaged(tmp_path, name), tmp_path / "work"
    work.mkdir()
    facts, source = await probed(path), await inspect(path)
    seen = await look(path, facts, source, work)
    found = list(findings_of(facts, source, await scan(path, path.stat().st_size), seen.detected))
    for expected in EXPECTED.get(name, []):
        told = next((one for one in found if matches(one, expected)), None)
        assert told is not None, f"{expected} is not among {found}"
        found.remove(told)
    assert found == []
    roles = {one.role for one in seen.pictures}
    shown = {track.kind for track in source.tracks if track.frames} if facts.medium is not Medium.PHOTO else set()
    assert (Role.POSTER in roles, Role.CONTACT_SHEET in roles) == ("video" in shown, "video" in shown)
    assert (Role.WAVEFORM in roles) is ("audio" in shown)


async def test_a_recording_that_takes_its_reader_too_long_is_said_to_be_one(tmp_path: Path) -> None:
    path = damaged(tmp_path, "slow")
    facts, source = await probed(path), await inspect(path, bounds=inspecting.Bounds(decode_s=1))
    told = findings_of(facts, source, await scan(path, path.stat().st_size), Looked().detected)
    assert [one.kind for one in told] == [UNDECODABLE]
    assert "not decoded to its end" in told[0].detail
    with pytest.raises(ToolError, match=r"did not end within|made no progress|ended with"):
        await look(path, facts, source, tmp_path, bounds=looking.Bounds(total_s=1))
