"""What the join lane works on: a session that has ended, its segments by source; and what shows the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from agent.access.certificate import AGENT, fingerprinted
from agent.access.laying import CARD_US
from agent.access.looking import make_sheet
from agent.access.made import Everything, Made
from agent.access.mosaic import Tile, make_mosaic
from agent.access.plan import NoCopyError
from agent.access.playlist import Listed, session_list
from agent.access.timeline import session_svg
from agent.access.tool import ToolError
from agent.continuity import GapState, judge
from agent.journal.segments import continuity_of
from agent.journal.views import RecordingView, SessionView
from agent.model import (
    Asset,
    AssetState,
    Derivation,
    Derived,
    DocumentAdded,
    FindingKind,
    Role,
    SegmentTaken,
    SessionEnded,
    source_id,
)
from agent.pipeline.deriving import entries_of
from agent.pipeline.station import Station

HERE: Final = (AssetState.HELD, AssetState.STORED)
_SHOWN: Final[Mapping[str, FindingKind]] = {
    "black": FindingKind.BLACK, "frozen": FindingKind.FROZEN, "silent": FindingKind.SILENT, "flat": FindingKind.SILENT,
    "jump": FindingKind.BACKWARDS, "damaged": FindingKind.UNDECODABLE,
}  # fmt: skip

Files = list[tuple[Path, DocumentAdded]]


class Row(NamedTuple):
    """A segment, its recording, and the original that has its bytes."""

    taken: SegmentTaken
    view: RecordingView
    keeper: Asset

    @property
    def is_open(self) -> bool:
        """Whether a film is to be made of it; what has the same bytes as another original follows that."""
        return self.view.asset.state in HERE

    def has(self, kind: str) -> bool:
        """Whether there is video, or audio, in it."""
        return self.view.facts is not None and any(stream.kind == kind for stream in self.view.facts.streams)


@dataclass(frozen=True, slots=True)
class Work:
    """A session; of `source` a film is to be made, the last that lacks one if `is_last`. `title` is for persons."""

    view: SessionView
    ended: SessionEnded
    rows: Mapping[str, Sequence[Row]]
    source: str
    title: Callable[[str], str]
    is_last: bool = False

    @property
    def session_id(self) -> str:
        """Of this session."""
        return self.view.started.session_id

    @property
    def own(self) -> list[Row]:
        """The segments of the source of which there are bytes here."""
        return [row for row in self.rows[self.source] if row.keeper.state in HERE and row.view.facts is not None]

    @property
    def span_us(self) -> tuple[int, int]:
        """From the beginning to the end of all that is shown; the same for all sources."""
        taken = [row.taken for rows in self.rows.values() for row in rows]
        first = min([self.view.started.started_at, *(one.start for one in taken)])
        return us(first), us(max([self.ended.ended_at, *(one.end for one in taken)]))

    def spans_us(self, source: str, *kinds: str) -> list[tuple[int, int, str]]:
        """From, to and cause of the lines of the ledger about a source."""
        until = self.ended.ended_at
        found = (one for one in self.view.notes if one.source == source and one.kind in kinds)
        return [(us(one.start), us(one.end or until), one.cause) for one in found]

    def listed(self, name: str, film_ms: Mapping[str, int], film: Asset | None) -> Listed:
        """A source as lists and playlists have it."""
        return Listed(name, self.title(name), [(row.taken, row.keeper) for row in self.rows[name]], film_ms, film)


def said_of(station: Station, work: Work) -> Iterator[tuple[int, int, str]]:
    """From, to, and in words how persons have explained what the source has not, so far."""
    reader, codes = station.journal.reader, {one.code: one for one in station.rules.profile.interruptions}
    own = ("", source_id(work.view.started.room, work.source))
    for activity_id in reader.activities_of(work.own[0].view.recording.recording_id):
        view = reader.activity(activity_id)
        found = continuity_of(view)
        for gap in (one for one in (*found.gaps, *found.of_sources) if one.device_id in own):
            judged = judge(gap, view.explanations, codes)
            if judged.explained is not None:
                known = codes.get(judged.explained.said.code)
                told = f"{known.code} {known.zh} ({known.en})" if known else judged.explained.said.code
                waits = "，待确认" if judged.state is GapState.UNCONFIRMED else ""
                yield us(gap.start), us(gap.end), told + waits


def us(at: datetime) -> int:
    """Microseconds since 1970."""
    return round(at.timestamp() * 1_000_000)


async def whole_session(
    station: Station, work: Work, files: Files, told: Sequence[Derived], folder: Path, is_busy: Callable[[], bool]
) -> Files:
    """What shows the whole session, with a certificate; `files` and `told` are those of the last source.

    Of the mosaic and the sheet what can't be made is told in the certificate.
    """
    films = await station.on_disk(_films, station, work, files)
    first_us, last_us = work.span_us
    lasts_ms, problems, made = (last_us - first_us) // 1000, list[str](), list[Made]()
    tiles = [
        Tile(work.title(name), path, any(row.has("audio") for row in work.rows[name]))
        for name, (_, path) in films.items()
        if any(row.has("video") for row in work.rows[name])
    ]
    try:
        if len(tiles) > 1:
            made.append(await make_mosaic(tiles, first_us, lasts_ms, folder, is_busy=is_busy))
        if tiles:
            shown = made[0].path if made else tiles[0].path
            made.append(await make_sheet(shown, lasts_ms, folder, is_busy=is_busy))
    except (NoCopyError, ToolError) as error:
        problems.append(str(error))
    return await station.on_disk(
        _papers, station, work, films, told, Everything(tuple(made), problems=tuple(problems)), folder
    )


def _papers(
    station: Station, work: Work, films: Mapping[str, tuple[Asset, Path]], told: Sequence[Derived],
    everything: Everything, folder: Path,
) -> Files:  # fmt: skip
    """Time axis, list and certificate, with the pictures that are made already."""
    first_us, last_us = work.span_us
    film_ms = {one.asset_id: one.film_ms for one in (*_derived(station, work), *told) if one.film}
    places = {
        row.view.recording.recording_id: film_ms[row.taken.asset.asset_id]
        for rows in work.rows.values() for row in rows if row.taken.asset.asset_id in film_ms
    }  # fmt: skip
    sources = [work.listed(name, places, films[name][0] if name in films else None) for name in work.rows]
    mosaic = next((fingerprinted(one.path) for one in everything.files if one.role is Role.MOSAIC), None)
    paper, strip = (Made(role, folder / name, AGENT) for role, name in _PAPERS)
    paper.path.write_bytes(session_list(work.view.started, work.ended, work.view.notes, sources, mosaic))
    shown = [(work.title(name), dict(_noticed(work, name))) for name in work.rows]
    strip.path.write_text(session_svg((last_us - first_us) // 1000, shown), "utf-8")
    whole = Everything(
        (*everything.files, strip, paper), problems=everything.problems, source={"session": work.session_id}
    )
    return entries_of(station, work.own[0].keeper, whole, folder, (work.session_id, ""))


_PAPERS: Final = ((Role.SESSION_LIST, "session.json"), (Role.TIMELINE, "timeline.svg"))


def _films(station: Station, work: Work, files: Files) -> dict[str, tuple[Asset, Path]]:
    """The newest film of each source, and where it is."""
    found: dict[str, tuple[Asset, Path]] = {}
    for view in station.journal.reader.joined(work.session_id):
        asset, said = view.asset, view.said
        if isinstance(said, Derivation) and said.role is Role.ACCESS_COPY and asset.state in HERE and asset.digests:
            found[said.of] = asset, station.vault.address(asset.digests.blake3)
    for path, entry in files:
        if entry.asset.role is Role.ACCESS_COPY:
            found[work.source] = entry.asset, path
    return {name: found[name] for name in work.rows if name in found}


def _derived(station: Station, work: Work) -> Iterator[Derived]:
    for name, rows in work.rows.items():
        for row in rows if name != work.source else ():
            if (told := station.journal.reader.derived(row.view.recording.recording_id)) is not None:
                yield told


def _noticed(work: Work, name: str) -> Iterator[tuple[FindingKind, list[tuple[int, int]]]]:
    """What is missing in a source, between its segments and at both ends, and what was noticed of it."""
    first_us, before_us = work.span_us[0], work.span_us[0]
    missing = []
    for start_us, end_us in [
        *((us(row.taken.start), us(row.taken.end)) for row in work.rows[name]),
        (work.span_us[1],) * 2,
    ]:
        if start_us - before_us >= CARD_US:
            missing.append(((before_us - first_us) // 1000, (start_us - first_us) // 1000))
        before_us = max(before_us, end_us)
    yield FindingKind.GAP, missing
    for kind in dict.fromkeys(_SHOWN.values()):
        noted = work.spans_us(name, *(word for word, shown in _SHOWN.items() if shown is kind))
        if noted:
            yield kind, [((start - first_us) // 1000, (end - first_us) // 1000) for start, end, _ in noted]
