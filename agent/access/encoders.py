"""Who encodes pictures: the graphics hardware whose device is there and passes a test, or the processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ffmpeg

from agent import durable
from agent.access.inspecting import inspect
from agent.access.tool import Bounds, ToolError, run
from agent.access.watching import never
from agent.config import Encoder

THREADS: Final = 1
"""With two x264 gives other bytes now and then (4 of 40 runs of one film), and the copy is to be repeatable."""

_DEVICES: Final = Path("/dev")
_TEST: Final = "testsrc2=size=320x240:rate=25:duration=2"
_TEST_FRAMES: Final = 50
_TEST_BOUNDS: Final = Bounds(stall_s=20, total_s=60, cpu_s=60, output_bytes=16 << 20)


@dataclass(frozen=True, slots=True)
class Way:
    """How ffmpeg is told to encode H.264: words before the input (`{node}` is the device), filters, words behind it.

    `nodes` are the devices it needs, below /dev.
    """

    options: Mapping[str, object]
    nodes: str = ""
    before: Mapping[str, str] = field(default_factory=dict)
    filters: tuple[tuple[str, ...], ...] = ()

    def node(self) -> Path | None:
        """The first of its devices that is there."""
        return min(_DEVICES.glob(self.nodes), default=None) if self.nodes else None

    def opening(self) -> dict[str, str]:
        """What stands before the input."""
        return {name: word.format(node=self.node()) for name, word in self.before.items()}

    def filtered(self, stream: Any) -> Any:  # noqa: ANN401 - ffmpeg-python has no types
        """The pictures as the encoder takes them."""
        for name, *words in self.filters:
            stream = stream.filter(name, *words)
        return stream

    def devices(self) -> list[Path]:
        """What the cage has to leave open for it."""
        node = self.node()
        return [] if node is None else [node]


SOFTWARE: Final = "libx264"
WAYS: Final[Mapping[str, Way]] = {
    "h264_vaapi": Way(
        {"qp": 26}, "dri/renderD*", {"init_hw_device": "vaapi=hw:{node}", "filter_hw_device": "hw"},
        (("format", "nv12"), ("hwupload",)),
    ),
    "h264_qsv": Way({"global_quality": 26, "pix_fmt": "nv12"}, "dri/renderD*"),
    "h264_v4l2m2m": Way({"b:v": "4M", "pix_fmt": "yuv420p"}, "video1[0-9]"),
    SOFTWARE: Way({"crf": 26, "preset": "veryfast", "pix_fmt": "yuv420p", "threads:v": THREADS}),
}  # fmt: skip


async def proven(setting: Encoder, folder: Path, *, is_busy: Callable[[], bool] = never) -> str:
    """The first encoder that makes of a test picture what can be decoded again to its end; else the processor's."""
    if setting is Encoder.AUTO:
        for name, way in WAYS.items():
            if way.devices() and await _passes(name, way, folder / f"{name}{durable.PART_SUFFIX}", is_busy):
                return name
    return SOFTWARE


async def _passes(name: str, way: Way, path: Path, is_busy: Callable[[], bool]) -> bool:
    stream = way.filtered(ffmpeg.input(_TEST, f="lavfi", **way.opening()))
    words = ffmpeg.output(stream, f"file:{path}", f="mp4", **{"c:v": name, **way.options}).compile()[1:]
    reads = Path("/dev/null")
    try:
        await run(words, reads=reads, folder=path.parent, bounds=_TEST_BOUNDS, is_busy=is_busy, devices=way.devices())
        seen = (await inspect(path, is_busy=is_busy)).of("video")
    except (ToolError, OSError):
        return False
    finally:
        durable.remove_part(path)
    return seen is not None and (seen.codec, seen.frames, seen.bad) == ("h264", _TEST_FRAMES, 0)
