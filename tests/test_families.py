"""Promise: files that belong together are linked, on real cards too; nothing is joined, and doubt links nothing."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.access.parts import Part, parts_m3u8
from agent.deadline import ZONE
from agent.drivers.folder import inbox_device
from agent.families import Filed, Kin, families
from agent.journal.ids import device_id
from agent.kit import exporting
from agent.kit.contents import Wanted
from agent.media.formats import FORMATS
from agent.media.kinds import RAW, medium_of
from agent.model import ClipSeen, DockingListed, DockingOpened, Integrity, Medium, Mode
from agent.naming import proposed
from agent.papers.printing import PaperError
from agent.pipeline.checkpoints import sign
from agent.pipeline.probing import ProbeLane
from agent.pipeline.station import Station
from agent.status import families as status_families
from agent.status.families import parts_of, playlist, related
from agent.status.record import known_of, record_view, sealed_view
from simulator.card import Card
from simulator.content import Content, Noise
from simulator.exif import with_exif
from tests.cards import KINDS, docked
from tests.conftest import SettableClock
from tests.journal_entries import DEVICE, clip, recording, wanted
from tests.kits import export, filled
from tests.media import facts_of, film
from tests.parsing import wall
from tests.stations import QUICK, SHIPPED
from tests.stations import opened as station_of
from tests.test_kit import check

NINE = datetime(2026, 11, 20, 9, 0, tzinfo=ZONE)
GIB = 1 << 30


def files(*names: str) -> list[Filed]:
    """Files without times, the first the largest."""
    return [
        Filed(number, name, 1000 - number, medium_of(name), said=proposed(SHIPPED.forms.names, name))
        for number, name in enumerate(names)
    ]


def recorded(*made: tuple[str, float, float, int]) -> list[Filed]:
    """Files with begin and length in minutes, and size."""
    return [
        replace(
            files(name)[0], number=number, size_bytes=size,
            start=NINE + timedelta(minutes=start), end=NINE + timedelta(minutes=start + lasts),
        )
        for number, (name, start, lasts, size) in enumerate(made)
    ]  # fmt: skip


def told(listing: Sequence[Filed]) -> list[tuple[str, str]]:
    paths = {one.number: one.path.rpartition("/")[2] for one in listing}
    return [(one.kin.value, " ".join(paths[number] for number in one.members)) for one in families(listing)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("D/GX010001.MP4", "D/GX010001.THM", "D/GL010001.LRV"), "GX010001.MP4 GL010001.LRV GX010001.THM"),
        (("D/DJI_0001.MP4", "D/DJI_0001.SRT", "D/DJI_0001.LRF"), "DJI_0001.MP4 DJI_0001.LRF DJI_0001.SRT"),
        (("CLIP/C0001.MP4", "CLIP/C0001M01.XML"), "C0001.MP4 C0001M01.XML"),
        (("V/a.mp4", "V/A.gpx"), "a.mp4 A.gpx"),
        (("V/a.mp4", "V/a.jpg"), "a.mp4 a.jpg"),
        (("D/DSC_0001.JPG", "D/DSC_0001.WAV"), "DSC_0001.JPG DSC_0001.WAV"),
        (("R/001.wav", "R/001.txt"), "001.wav 001.txt"),
        (("V/a.mp4", "W/a.thm"), None),
        (("V/a.thm", "V/a.srt"), None),
        (("V/a.mp4", "V/a.avi"), None),
        (("V/a.bin", "V/a.txt"), None),
        (("V/a.mp4",), None),
    ],
)
def test_what_was_put_beside_a_recording_is_linked_to_it(names: tuple[str, ...], expected: str | None) -> None:
    assert told(files(*names)) == ([("sidecar", expected)] if expected else [])


def test_one_photo_twice_is_a_pair_and_its_description_belongs_to_the_developed_one() -> None:
    listing = files("D/DSC_0001.NEF", "D/DSC_0001.JPG", "D/DSC_0001.XMP", "D/DSC_0002.NEF", "D/DSC_0002.DNG")
    assert told(listing) == [("pair", "DSC_0001.JPG DSC_0001.NEF"), ("sidecar", "DSC_0001.JPG DSC_0001.XMP")]


def photos(*seconds: float | None, name: str = "D/DSC_{:04}.JPG", year: int = 2026) -> list[Filed]:
    return [
        replace(
            one, end=None if at is None else NINE.replace(year=year) + timedelta(seconds=at)
        )
        for at, one in zip(seconds, files(*(name.format(n) for n in range(1, len(seconds) + 1))), strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("listing", "bursts"),
    [
        (photos(0, 0, 0, 2, 2, 60), ["DSC_0001.JPG DSC_0002.JPG DSC_0003.JPG DSC_0004.JPG DSC_0005.JPG"]),
        (photos(0, 2), []),
        (photos(0, 3, 6, 9), []),
        (photos(None, None, None), []),
        (photos(0, 0, 0, year=1980), []),
        (photos(0, 0, 0, name="D/DSC_{0:04}.JPG")[::2], []),
        (photos(*[0.0] * 200), []),
        (photos(*(n / 20 for n in range(200))), [" ".join(f"DSC_{n:04}.JPG" for n in range(1, 201))]),
        (
            files("C/IMG_20261123_101500_BURST001_COVER.jpg", "C/IMG_20261123_101500_BURST002.jpg", "C/IMG_1.jpg"),
            ["IMG_20261123_101500_BURST001_COVER.jpg IMG_20261123_101500_BURST002.jpg"],
        ),
    ],
)
def test_photos_of_one_press_are_a_burst_and_those_of_a_clock_that_stands_still_are_not(
    listing: list[Filed], bursts: list[str]
) -> None:
    assert [members for kin, members in told(listing) if kin == Kin.BURST] == bursts


FULL = 4 * GIB - 5000


@pytest.mark.parametrize(
    ("made", "parts"),
    [
        ([("V/MOVI0001.MP4", 0, 17, FULL), ("V/MOVI0002.MP4", 17, 17, FULL), ("V/MOVI0003.MP4", 34, 2, 1)], [3]),
        ([("V/MOVI0001.MP4", 0, 5, 9), ("V/MOVI0002.MP4", 5, 5, 9), ("V/MOVI0003.MP4", 10.01, 2, 5)], [3]),
        ([("V/MOVI0001.MP4", 0, 5, 9), ("V/MOVI0002.MP4", 5.2, 5, 9)], []),
        ([("V/MOVI0001.MP4", 0, 4, 9), ("V/MOVI0002.MP4", 4, 4, 9)], []),
        ([("V/MOVI0001.MP4", 0, 5, 9), ("V/MOVI0002.MP4", 5, 9, 9)], []),
        ([("V/MOVI0001.MP4", 0, 5, 9), ("V/MOVI0003.MP4", 5, 5, 9)], []),
        ([("V/MOVI0001.MP4", 0, 5, 9), ("V/MOVI0002.AVI", 5, 5, 9)], []),
        ([("V/MOVI0001.MP4", 0, 5, 9), ("W/MOVI0002.MP4", 5, 5, 9)], []),
        ([("V/20261120_090000.mp4", 0, 10, 9), ("V/20261120_091000.mp4", 10, 10, 9)], [2]),
        ([("V/20261120_091000.mp4", 10, 10, 9), ("V/20261120_090000.mp4", 0, 10, 9)], [2]),
        ([("R/A001.wav", 0, 30, 9), ("R/A002.wav", 30, 1, 9), ("R/A003.wav", 31, 30, 9), ("R/A004.wav", 61, 9, 9)],
         [2, 2]),
        ([("D/GX010001.MP4", 0, 9, 9), ("D/GX010002.MP4", 50, 9, 9), ("D/GX020001.MP4", 9, 9, 9)], [2]),
        ([("D/GX010001.MP4", 9, 9, 9), ("D/GX020001.MP4", 0, 9, 9)], []),
        ([("D/GX010001.MP4", 0, 9, 9), ("D/GX030001.MP4", 18, 9, 9)], []),
        ([("DATA/20060928/102339.wav", 0, 9, 9), ("DATA/20060928/102339_2.wav", 9, 9, 9)], [2]),
        ([("V/a.mp4", 0, 5, 9), ("V/b.thm", 5, 5, 9)], []),
    ],
)  # fmt: skip
def test_a_recording_that_its_recorder_cut_is_one_in_order_and_two_recordings_stay_two(
    made: list[tuple[str, float, float, int]], parts: list[int]
) -> None:
    found = [one for one in families(recorded(*made)) if one.kin is Kin.PARTS]
    assert sorted(len(one.members) for one in found) == parts
    listing = recorded(*made)
    for one in found:
        starts = [listing[number].start for number in one.members]
        assert starts == sorted(starts, key=str)


NAMED = st.sampled_from(["V/MOVI", "V/GX01", "W/20261120_09", "D/IMG_20261123_101500_BURST", ""])
ENDINGS = st.sampled_from([".MP4", ".mp4", ".THM", ".JPG", ".NEF", ".wav", ".xml", ".LRV", ""])
TIMES = st.none() | st.integers(0, 900).map(lambda s: NINE + timedelta(seconds=s))
PATHS = st.builds("{}{:04}{}".format, NAMED, st.integers(0, 30), ENDINGS) | st.text(max_size=20)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(PATHS, TIMES, TIMES, st.sampled_from([0, 9, FULL])), max_size=40))
def test_any_listing_is_answered_and_each_file_stays_itself(
    made: list[tuple[str, datetime | None, datetime | None, int]],
) -> None:
    listing = [
        replace(files(path)[0], number=number, start=start, end=end, size_bytes=size)
        for number, (path, start, end, size) in enumerate(made)
    ]
    found = families(listing)
    assert found == families(listing)
    for one in found:
        assert 2 <= len(set(one.members)) == len(one.members)
        assert set(one.members) <= set(range(len(listing)))
    for kin in (Kin.PARTS, Kin.BURST):
        members = [number for one in found if one.kin is kin for number in one.members]
        assert len(members) == len(set(members)), "no file is part of two"


def test_a_card_with_very_many_files_is_answered() -> None:
    numbers = range(20_000)
    listing = recorded(*((f"V/MOVI{number:05}.MP4", 5.0 * number, 5.0, 9) for number in numbers))
    assert [len(one.members) for one in families(listing)] == [20_000]
    assert families(replace(one, start=None, end=None) for one in listing) == ()


def test_the_kinds_of_recordings_are_known_by_their_endings() -> None:
    kinds = {
        Medium.AUDIO: "录音.WAV a.mp3 a.m4a a.amr a.DSS a.ds2 a.wma a.opus",
        Medium.VIDEO: "a.MP4 a.mov a.insv a.dav a.mts",
        Medium.PHOTO: "a.JPG a.heic a.CR3 a.dng",
        Medium.OTHER: "a.THM a.LRF a.srt a.gpx a.xml a .mp4 mp4 a.mp4.part",
    }
    for medium, names in kinds.items():
        assert {medium_of(f"V/{name}") for name in names.split()} == {medium}
    assert all(medium_of(f"a{ending}") is Medium.PHOTO for ending in RAW)
    assert "dss" in FORMATS.split(",")


def sound(path: Path, codec: str) -> bytes:
    made = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=8000:duration=2")
    rate = "48000" if codec == "libopus" else "8000"
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", *made, "-ar", rate, "-c:a", codec, str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        ("wav", "pcm_s16le"), ("wav", "adpcm_ima_wav"), ("mp3", "libmp3lame"), ("m4a", "aac"), ("wma", "wmav2"),
        ("flac", "flac"), ("ogg", "libopus"), ("aiff", "pcm_s16be"), ("au", "pcm_mulaw"),
    ],
)  # fmt: skip
async def test_what_voice_recorders_make_is_sound_by_name_and_by_content(
    tmp_path: Path, ending: str, codec: str
) -> None:
    path = tmp_path / f"made.{ending}"
    facts = await facts_of(sound(path, codec), tmp_path)
    assert (facts.medium, medium_of(path.name)) == (Medium.AUDIO, Medium.AUDIO)
    assert facts.integrity is Integrity.COMPLETE


# Real recordings on real cards.


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with station_of(tmp_path / "station", clock) as made:
        made.limits = replace(QUICK, probe_pause_s=0)
        yield made


def card(path: Path, kind: str, made: dict[str, tuple[Content, float, float]]) -> Path:
    """A card with files that began so many seconds after nine, and lasted so long."""
    with (Card.fat32 if kind == "fat32" else Card.exfat)(path, 64 << 20, cluster_bytes=4096) as image:
        for name, (content, start, lasts) in made.items():
            begun = wall("2026-11-20 09:00") + timedelta(seconds=start)
            image.add(name, content, created=begun, modified=begun + timedelta(seconds=lasts))
    return path


async def probed(station: Station) -> None:
    lane = ProbeLane(station, lambda: False)
    while station.journal.reader.next_to_probe(lane.given_up) is not None:
        await lane.step()


def of(station: Station, path: str, clock: SettableClock, *, sealed: bool = False) -> dict[str, dict[str, Any]]:
    """What belongs to a recording, by kind."""
    row = next(row for row in station.journal.reader.recordings(limit=200) if row.name == path)
    known = known_of(station.journal.reader, row.recording.recording_id)
    fields = (sealed_view if sealed else record_view)(known, SHIPPED, clock())["fields"]
    return {one["kind"]["name"]: one for one in fields["related"]["value"]} if "related" in fields else {}


def paths(one: dict[str, Any]) -> list[str]:
    return [member["path"].rpartition("/")[2] for member in one["members"]]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_long_recording_and_its_sidecars_on_a_real_card(
    tmp_path: Path, station: Station, clock: SettableClock, kind: str
) -> None:
    whole = film(tmp_path, "mp4", 2)
    made: dict[str, tuple[Content, float, float]] = {}
    for number in range(3):
        made[f"DCIM/100MEDIA/MOVI{number + 1:04}.MP4"] = (whole + bytes(number), 300 * number, 300)
    made["DCIM/100MEDIA/MOVI0002.THM"] = (film(tmp_path, "jpg", 1), 300, 1)
    made["DCIM/100MEDIA/MOVI0002.SRT"] = (b"1\n00:00:00,000 --> 00:00:01,000\n117.1E\n", 300, 300)
    made["DCIM/100MEDIA/MOVI0005.MP4"] = (Noise(5000, 7), 4000, 77)
    await docked(station, card(tmp_path / "card.img", kind, made))
    for number in (1, 2, 3):
        found = of(station, f"DCIM/100MEDIA/MOVI{number:04}.MP4", clock)
        assert (found["parts"]["place"], found["parts"]["count"]) == (number, 3)
        assert paths(found["parts"]) == ["MOVI0001.MP4", "MOVI0002.MP4", "MOVI0003.MP4"]
        assert [one["name"] for one in found["parts"]["by"]] == ["names", "times"]
        assert ("sidecar" in found) is (number == 2)
    assert paths(of(station, "DCIM/100MEDIA/MOVI0002.THM", clock)["sidecar"])[0] == "MOVI0002.MP4"
    assert of(station, "DCIM/100MEDIA/MOVI0005.MP4", clock) == {}
    rows = station.journal.reader.recordings()
    assert len({row.asset.asset_id for row in rows}) == len(made), "each is an original of its own"
    sealed = of(station, "DCIM/100MEDIA/MOVI0002.MP4", clock, sealed=True)
    assert sealed == of(station, "DCIM/100MEDIA/MOVI0002.MP4", clock)
    part = next(row for row in rows if row.name.endswith("MOVI0002.MP4"))
    whole_one = next(row for row in rows if row.name.endswith("MOVI0005.MP4"))
    assert parts_of(station.journal.reader, whole_one, SHIPPED.forms.names) == [whole_one]
    parts = parts_of(station.journal.reader, part, SHIPPED.forms.names)
    assert [row.name[-8:] for row in parts] == ["0001.MP4", "0002.MP4", "0003.MP4"]


async def test_what_is_still_being_listed_is_looked_up_again_and_a_huge_card_says_nothing(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, rules = station.journal, SHIPPED.forms.names

    def kin() -> list[int]:
        return [one["count"] for one in related(journal.reader, journal.reader.recording("a1"), rules)]

    await journal.record(DockingOpened("d1", "device", DEVICE, "1"))
    for number, name in enumerate(("a1", "a2", "a3"), 1):
        path = f"V/MOVI0001.{('MP4', 'THM', 'SRT')[number - 1]}"
        place = (clip(number, 900 // number, path=path), Mode.PULL, name, recording(name), wanted(name, 9))
        await journal.record(ClipSeen("d1", *place))
        assert kin() == ([number] if number > 1 else [])
    await journal.record(DockingListed("d1", 3, "00" * 32))
    assert kin() == [3]
    monkeypatch.setattr(status_families, "LISTED_MAX", 2)
    status_families._kept.cache_clear()
    assert kin() == []
    status_families._kept.cache_clear()


async def test_a_sidecar_in_a_later_batch_of_an_inbox_is_linked_and_one_of_a_recorder_or_of_another_day_is_not(
    station: Station, clock: SettableClock
) -> None:
    journal, nvr = station.journal, inbox_device("nvr")
    batches = {
        "d1": (nvr, {"a": "V/a.mp4", "p1": "V/DSC1.ARW"}), "d2": (inbox_device("ftp"), {"other": "V/a.thm"}),
        "d3": (nvr, {"s": "V/a.srt", "p2": "V/DSC1.JPG", "b": "W/a.srt"}), "d4": (nvr, {"a-again": "V/a.mp4"}),
        "d5": (DEVICE, {"m": "V/a.mp4"}), "d6": (DEVICE, {"t": "V/a.thm"}), "late": (nvr, {"g": "V/a.gpx"}),
    }  # fmt: skip
    for docking_id, (device, made) in batches.items():
        if docking_id == "late":
            clock.now += timedelta(hours=25)
        await journal.record(DockingOpened(docking_id, device_id(device), device, "1"))
        for number, (name, path) in enumerate(made.items(), 1):
            place = (clip(number, 900, path=path), Mode.PULL, name, recording(name), wanted(name, 9))
            await journal.record(ClipSeen(docking_id, *place))
        await journal.record(DockingListed(docking_id, len(made), "00" * 32))

    def kin(name: str) -> list[tuple[str, int, list[str]]]:
        found = related(journal.reader, journal.reader.recording(name), SHIPPED.forms.names)
        return [
            (
                one["kind"]["name"],
                one["place"],
                [member["recording_id"].removeprefix("rec-") for member in one["members"]],
            )
            for one in found
        ]

    assert kin("a") == [("sidecar", 1, ["a", "s"])]
    assert kin("s") == [("sidecar", 2, ["a-again", "s"])], "of two versions that of the nearest batch"
    assert kin("a-again") == [("sidecar", 1, ["a-again", "s"])]
    assert kin("p1") == [("pair", 2, ["p2", "p1"])]
    assert [kin(name) for name in ("other", "b", "m", "t", "g")] == [[]] * 5


async def test_parts_play_in_order_by_a_list_of_what_is_in_a_kit_and_of_what_the_vault_has(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: str) -> bytes:
        raise PaperError("not printed here.")

    monkeypatch.setattr(exporting, "printed", refuse)
    whole = film(tmp_path, "mp4", 2)
    chapters = {f"DCIM/100GOPRO/GX{part:02}0007.MP4": whole + bytes(part) for part in (1, 2, 3)}
    async with filled(tmp_path / "station", clock, chapters) as station:
        await probed(station)
        await sign(station)
        reader = station.journal.reader
        rows = {row.name: row for row in reader.recordings()}
        first, second, _ = (rows[name] for name in chapters)
        entries = parts_m3u8(playlist(reader, second, SHIPPED.forms.names)).decode().splitlines()
        assert entries[:2] == ["#EXTM3U", "#EXTINF:2,DCIM/100GOPRO/GX010007.MP4"]
        played = [station.vault.originals_dir / line for line in entries if not line.startswith("#")]
        assert [path.read_bytes() for path in played] == list(chapters.values())
        wanted = [one.recording.recording_id for one in (first, second)]
        kit = await export(station, tmp_path / "kit", Wanted(recordings=wanted))
    (listed,) = (kit.folder / "data/reports").glob("*.m3u8")
    lines = listed.read_text("utf-8").splitlines()
    assert lines[-1] == "# not here: DCIM/100GOPRO/GX030007.MP4"
    found = [listed.parent / line for line in lines if not line.startswith("#")]
    assert [path.read_bytes() for path in found] == list(chapters.values())[:2]
    code, text = check(kit.folder)
    assert code == 0, text


def test_what_stands_in_a_list_is_a_line_each() -> None:
    parts = [Part("V/a\n#EXTM3U\ud800.mp4", "aa/bb", 1499), Part("V/b\r.mp4", "", None), Part("c", "cc", None)]
    assert parts_m3u8(parts, 7).decode().split("\n") == [
        "#EXTM3U", "#EXTINF:1,V/a?#EXTM3U?.mp4", "aa/bb", "# not here: V/b?.mp4", "#EXTINF:-1,c", "cc",
        "# 7 more parts", "",
    ]  # fmt: skip


async def test_a_burst_is_what_exif_agrees_with(tmp_path: Path, station: Station, clock: SettableClock) -> None:
    jpeg = film(tmp_path, "jpg", 1)
    made: dict[str, tuple[Content, float, float]] = {}
    for number in range(1, 9):
        # The first four were taken at once; the others minutes apart, and copied onto the card at once.
        taken = NINE + timedelta(seconds=number if number < 5 else 600 * number)
        exif = with_exif(jpeg, taken, "DSJ-H7")
        made[f"DCIM/100MEDIA/DSC_{number:04}.JPG"] = (exif, 0 if number < 5 else 7000, 1)
    made["DCIM/100MEDIA/DSC_0002.NEF"] = (Noise(9000, 2), 0, 1)
    await docked(station, card(tmp_path / "card.img", "exfat", made))
    first, other = ("DCIM/100MEDIA/DSC_0002.JPG", "DCIM/100MEDIA/DSC_0006.JPG")
    assert "burst" in of(station, other, clock), "names and times alone"
    await probed(station)
    burst = of(station, first, clock)["burst"]
    assert (paths(burst)[0], burst["count"], burst["place"]) == ("DSC_0001.JPG", 4, 2)
    assert [one["name"] for one in burst["by"]] == ["names", "times", "exif"]
    assert of(station, other, clock) == {}
    assert paths(of(station, first, clock)["pair"]) == ["DSC_0002.JPG", "DSC_0002.NEF"]
    assert set(of(station, first, clock, sealed=True)) == {"pair"}, "a burst hangs on what was read of others"
