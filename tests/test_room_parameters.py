"""Parameter sets are read from what cameras send, which may be anything of any size."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rooms.parameters import SETS_LIMIT_BYTES, UNKNOWN_SIZE, sets_before, size_of
from agent.rooms.protocol import Back, Closed, Lost
from simulator.cameras.camera import Cameras
from simulator.cameras.footage import Footage
from simulator.cameras.frames import Known
from simulator.cameras.proxy import Proxy
from tests.recording import plan, recording

Pack = Callable[..., Path]
START = b"\0\0\0\1"


def key_frame(pack: Path) -> bytes:
    with pack.open("rb") as file:
        head, body = json.loads(file.readline()), file.read()
    _, _, _, at, size, *_ = next(row for row in head["packets"] if not row[1])
    return body[at : at + size]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_key_frame_says_its_parameters_and_its_size(codec: str, pack: Pack) -> None:
    picture = key_frame(pack(Footage(codec, audio="", laps=5)))
    sets = sets_before(av.Packet(picture), codec)
    assert sets.startswith(START)
    assert all(part in picture for part in sets.split(START))
    assert sets.count(START) == (2 if codec == "h264" else 3)
    assert size_of(av.Packet(picture), codec) == (320, 180)
    assert size_of(av.Packet(sets), codec) == UNKNOWN_SIZE


@pytest.mark.parametrize(("codec", "kinds"), [("h264", (0x67, 0x68)), ("hevc", (0x40, 0x42, 0x44))])
def test_sets_that_came_twice_or_in_part_are_no_other_sets(codec: str, kinds: tuple[int, ...]) -> None:
    """As for who joins a stream between two of them, or loses one on the way."""
    sets = [START + bytes((kind, kind, 7)) for kind in kinds]
    slice_ = START + bytes((0x65 if codec == "h264" else 0x26, 1)) + b"picture"
    whole = b"".join(sets)
    for parts in (sets, sets + sets, sets[1:] + sets, sets[::-1]):
        assert sets_before(av.Packet(b"".join(parts) + slice_), codec) == whole
    for left_out in range(len(sets)):
        part = b"".join(sets[:left_out] + sets[left_out + 1 :]) + slice_
        assert sets_before(av.Packet(part), codec) == b"", "a file can't be described by that"
        assert sets_before(av.Packet(part), codec, whole) == whole
    other = START + bytes((kinds[-1], 9))
    assert sets_before(av.Packet(other + slice_), codec, whole) == b"".join(sets[:-1]) + other
    assert sets_before(av.Packet(slice_), codec, whole) == b"", "none is no change"


def test_what_is_larger_than_any_parameter_set_is_not_looked_at() -> None:
    huge = START + b"\x67" + b"\x42" * (4 * SETS_LIMIT_BYTES) + START + b"\x65picture"
    assert sets_before(av.Packet(huge), "h264") == b""


@given(st.lists(st.binary(max_size=40), max_size=12).map(START.join), st.sampled_from(["h264", "hevc", "mjpeg"]))
def test_no_bytes_are_an_error(data: bytes, codec: str) -> None:
    sets = sets_before(av.Packet(data or b"x"), codec)
    assert len(sets) <= len(data) + 4


async def test_garbage_between_the_packets_is_survived_and_told(
    cameras: Callable[..., Cameras], pack: Pack, tmp_path: Path
) -> None:
    shown = pack()
    server = cameras({"front": shown})
    with Proxy(server.port) as proxy:
        async with recording(plan(tmp_path / "r", server.url("front", proxy.port))) as it:
            await it.wait(Closed)
            proxy.corrupt(20)
            await asyncio.sleep(3)
            await it.wait(Closed, len(it.all(Closed)) + 2)
            pid = it.recorder.pid
    found = Known(shown).match(it.files())
    assert pid
    assert not found.unreadable
    assert "recorder" not in it.causes()
    assert found.pictures == sorted(found.pictures)
    missing = sum(one.value for one in it.noticed("dropped") if one.track == "video")
    assert found.missing <= missing + len(found.damaged) or len(it.all(Lost)) == len(it.all(Back)) > 0
