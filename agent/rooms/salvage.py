"""Counts what a segment has that nobody closed: a child does it for the daemon, which opens no media itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import av
from av.error import FFmpegError

from agent.rooms.protocol import Track
from agent.rooms.writer import described


@dataclass(frozen=True, slots=True)
class Counted:
    """Packets of video and of audio that can be read, how long they play, and the tracks."""

    frames: int = 0
    samples: int = 0
    media_us: int = 0
    tracks: tuple[Track, ...] = ()


def counted(path: Path) -> Counted:
    """Read a file to its end, or to where it is damaged; nothing counts for one that doesn't open."""
    counts, ends = {"video": 0, "audio": 0}, {"video": 0, "audio": 0}
    tracks: tuple[Track, ...] = ()
    try:
        with av.open(f"file:{path}") as file:
            streams = [stream for stream in file.streams if stream.type in counts]
            tracks = tuple(described(stream) for stream in streams)
            for packet in file.demux(streams):
                if packet.dts is not None and packet.size and packet.time_base:
                    kind, base = packet.stream.type, packet.time_base
                    counts[kind] += 1
                    end = packet.dts + (packet.duration or 0)
                    ends[kind] = max(ends[kind], end * base.numerator * 1_000_000 // base.denominator)
    except (FFmpegError, ValueError):
        pass
    return Counted(counts["video"], counts["audio"], ends["video"] or ends["audio"], tracks)


def main(arguments: Sequence[str]) -> int:
    """Say what the file of that name has, as one line."""
    sys.stdout.write(json.dumps(asdict(counted(Path(arguments[0])))) + "\n")
    sys.stdout.flush()
    return 0
