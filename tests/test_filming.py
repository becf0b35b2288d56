"""Promise: a source's film has every picture of every segment, in order, at its time, and a card for every gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import av
import pytest

from agent.access.filming import Film, Footage, make_film
from agent.access.inspecting import inspect
from agent.access.laying import Missing, Part
from agent.access.plan import NoCopyError
from agent.access.watching import never
from agent.config import AccessCopies
from agent.durable import WORK_FOLDER
from tests.segments import AAC, G711, GOP, H264, H264_B, H265, RATE, camera, cut, decoded, killed, part

ZERO_US = 1_780_000_000_000_000
FRAME_S = 1 / RATE
Cut = tuple[float, float, float]
"""From and to in seconds of the camera's stream, and how long after the session's start that arrived."""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / WORK_FOLDER / "film"
    folder.mkdir(parents=True)
    return folder


async def filmed(
    tmp_path: Path, cuts: Sequence[Cut], lasts_s: float, missing: Sequence[Missing] = (),
    *, video: Sequence[str] = H264, audio: Sequence[str] = AAC, spoil: Callable[[list[Path]], object] = len,
) -> tuple[Film, list[Part]]:  # fmt: skip
    """A film of segments of one camera, each with time stamps that begin somewhere."""
    stream = camera(tmp_path, "camera", max(end for _, end, _ in cuts), video, audio)
    paths = [
        cut(stream, tmp_path / f"front-{number:06}", start, end, 1000.5 * number)
        for number, (start, end, _) in enumerate(cuts, 1)
    ]
    spoil(paths)
    parts = [
        await part(path, at, at + end - start, ZERO_US)
        for path, (start, end, at) in zip(paths, cuts, strict=True)
    ]  # fmt: skip
    footage = Footage("前方摄像机", parts, missing, (ZERO_US, ZERO_US + round(lasts_s * 1e6)))
    return await make_film(footage, tmp_path / WORK_FOLDER / "film", AccessCopies(), is_busy=never), parts


def pictures(parts: Sequence[Part]) -> list[bytes]:
    return [picture for one in parts for _, picture in decoded(one.path)]


def cards(film: Film) -> list[tuple[float, float]]:
    return [(one.at_us / 1e6, one.lasts_us / 1e6) for one in film.pieces if one.part is None]


async def test_segments_without_a_gap_are_one_film_without_a_seam(tmp_path: Path, work: Path) -> None:
    film, parts = await filmed(tmp_path, [(0, 2, 0), (2, 4, 2.03), (4, 6, 4.01)], 6, video=H264_B)
    assert (film.made.complete, film.made.remarks, cards(film)) == (True, (), [])
    shown = decoded(film.made.path)
    assert [picture for _, picture in shown] == pictures(parts)
    steps = [after - before for (before, _), (after, _) in pairwise(shown)]
    assert max(abs(step - FRAME_S) for step in steps) < 0.002
    assert "copy" in film.made.arguments[film.made.arguments.index("-c:a") :][:2], "no sound is missing: it is copied"
    assert list(work.iterdir()), "the film and its list are all that is there"
    sound = film.film.of("audio")
    assert sound is not None
    assert sound.packets == sum(one.of("audio").packets for one in film.seen)  # type: ignore[union-attr]


@pytest.mark.parametrize(("video", "audio"), [(H264_B, AAC), (H264, G711), (H265, AAC), (H264, ("-an",))])
async def test_a_gap_of_seven_seconds_has_a_card_and_nothing_is_lost(
    tmp_path: Path, work: Path, video: Sequence[str], audio: Sequence[str]
) -> None:
    gap = Missing(ZERO_US + 3_900_000, ZERO_US + 11_100_000, "摄像机断开连接 (the camera closed the connection)")
    film, parts = await filmed(
        tmp_path, [(0, 2, 0), (2, 4, 2), (4, 6, 11)], 13, [gap], video=video, audio=audio
    )  # fmt: skip
    assert (film.made.complete, film.made.remarks) == (True, ())
    assert cards(film) == [(4, 7)]
    (card,) = [one for one in film.pieces if one.part is None]
    assert card.lines[0] == "前方摄像机"
    assert card.lines[3:] == ("2026-05-29 04:26:44 至 04:26:51（00:00:07）", f"原因：{gap.reason}")
    shown = decoded(film.made.path)
    begin = shown[0][0]
    assert len(shown) == 6 * RATE + 7
    if video is not H265:
        own = pictures(parts)
        assert [picture for _, picture in shown[: 4 * RATE]] == own[: 4 * RATE]
        assert [picture for _, picture in shown[4 * RATE + 7 :]] == own[4 * RATE :]
    times = [at - begin for at, _ in shown]
    assert times[4 * RATE : 4 * RATE + 7] == pytest.approx([4 + second for second in range(7)], abs=0.002)
    assert times[4 * RATE + 7] == pytest.approx(11, abs=0.002)
    assert times[-1] == pytest.approx(13 - FRAME_S, abs=0.01)
    tracks = {track.kind: track for track in film.film.tracks}
    assert tracks["video"].codec == "h264"
    assert tracks["video"].span_ms == pytest.approx(13_000, abs=FRAME_S * 1000)
    if "-an" not in audio:
        assert tracks["audio"].codec == "aac"
        assert tracks["audio"].span_ms == pytest.approx(13_000, abs=300)
        assert tracks["audio"].jumped == 0
        assert loud(film.made.path, 1, 3)
        assert not loud(film.made.path, 5, 10)
        assert loud(film.made.path, 11.5, 12.5)


async def test_late_start_early_end_and_a_file_that_was_cut_by_sigkill(tmp_path: Path, work: Path) -> None:
    film, parts = await filmed(
        tmp_path, [(0, 2, 3.2), (2, 4, 5.2), (4, 6, 7.2)], 14.5, spoil=lambda paths: killed(paths[1], 9_000)
    )  # fmt: skip
    assert cards(film)[0] == (0, 3.2)
    assert sum(cards(film)[-1]) == pytest.approx(14.5, abs=0.01)
    frames = [len(decoded(one.path)) for one in parts]
    assert 0 < frames[1] < frames[0]
    assert [picture for _, picture in decoded(film.made.path)][4 : 4 + sum(frames)] == pictures(parts)
    assert film.film.of("audio").span_ms == pytest.approx(14_500, abs=300)  # type: ignore[union-attr]
    assert not film.made.complete
    assert [remark[:22] for remark in film.made.remarks] == ["segment 2 is truncated"]
    assert film.film.of("video").bad == 0  # type: ignore[union-attr]


async def test_pictures_of_another_size_and_a_segment_without_sound(tmp_path: Path, work: Path) -> None:
    small, large = camera(tmp_path, "small", 2), camera(tmp_path, "large", 2, size="640x360")
    dumb = camera(tmp_path, "dumb", 2, audio=("-an",))
    paths = [cut(one, tmp_path / f"{number}", 0, 2) for number, one in enumerate((small, large, small, dumb))]
    parts = [await part(path, 2 * number, 2 * number + 2, ZERO_US) for number, path in enumerate(paths)]
    footage = Footage("", parts, (), (ZERO_US, ZERO_US + 8_000_000))
    film = await make_film(footage, work, AccessCopies(), is_busy=never)
    assert film.made.complete, film.made.remarks
    shown = decoded(film.made.path)
    assert [picture for _, picture in shown] == pictures(parts)
    assert film.made.counts["converted"] == 1, "that has no sound"
    assert film.film.of("audio").span_ms == pytest.approx(8000, abs=300)  # type: ignore[union-attr]


async def test_sound_alone(tmp_path: Path, work: Path) -> None:
    film, _ = await filmed(tmp_path, [(0, 2, 0), (2, 4, 5)], 7, video=(), audio=G711)
    assert [track.kind for track in film.film.tracks] == ["audio"]
    assert film.film.tracks[0].span_ms == pytest.approx(7000, abs=300)
    assert not loud(film.made.path, 2.5, 4.5)
    assert loud(film.made.path, 5.5, 6.5)


async def test_of_nothing_there_is_no_film(tmp_path: Path, work: Path) -> None:
    empty = tmp_path / "front-000001.mp4"
    empty.write_bytes(b"\0" * 4096)
    footage = Footage("", [await part(empty, 0, 2, ZERO_US)], (), (ZERO_US, ZERO_US + 2_000_000))
    with pytest.raises(NoCopyError):
        await make_film(footage, work, AccessCopies(), is_busy=never)
    assert list(work.iterdir()) == []
    assert (await inspect(empty)).tracks == ()
    assert GOP == RATE, "segments are cut at key frames"


def loud(path: Path, start_s: float, end_s: float) -> bool:
    """Whether anything is heard between these times."""
    with av.open(path) as container:
        heard = [
            max(map(abs, memoryview(bytes(frame.planes[0])).cast("f")))
            for frame in container.decode(audio=0)
            if frame.time is not None and start_s <= frame.time < end_s
        ]
    assert heard
    return max(heard) > 0.01
