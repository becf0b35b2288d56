"""What goes into a kit: the recordings that were asked for, and of each the files that are kept of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.errors import RequestError
from agent.journal import Reader
from agent.journal.views import DocumentView
from agent.kit.bag import DATA
from agent.model import ACTIVITY_LIMIT, Asset, Derivation, Role
from agent.sequence import name_of
from agent.status.record import Known, known_of

NEWEST: Final = (
    Role.ACCESS_COPY, Role.RECOVERY_COPY, Role.MOSAIC, Role.PLAYLIST, Role.SESSION_LIST, Role.FINDINGS,
    Role.CERTIFICATE,
)  # fmt: skip
"""Of what was made from an original these go with it, as they were made last."""

_SUFFIX: Final = re.compile(r"\.[A-Z0-9]{1,4}", re.ASCII)
_SUFFIXES: Final[Mapping[Role, str]] = {
    Role.STATEMENT: ".json",
    Role.FINDINGS: ".json",
    Role.CERTIFICATE: ".json",
    Role.PLAYLIST: ".m3u8",
    Role.SESSION_LIST: ".json",
    Role.MANIFEST: ".manifest",
    Role.TIMESTAMP: ".tsr",
}
_SIGNS: Final[Mapping[bytes, str]] = {
    b"%PDF-": ".pdf",
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"PK\x03\x04": ".docx",
    b"RIFF": ".wav",
    b'{"recordings"': ".json",
}
HEAD_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Piece:
    """One asset of a recording, and the name of its file in the bag, to which its kind may add a suffix."""

    asset: Asset
    stem: str
    suffix: str = ""

    def name(self, head: bytes) -> str:
        """Its name, by the first bytes of its content where nothing else tells what that is."""
        return self.stem + (self.suffix or _suffix_of(head))


@dataclass(frozen=True, slots=True)
class Item:
    """One recording of a kit, `number` from 1; `folder` is where its files are."""

    number: int
    folder: str
    known: Known
    original: Piece
    others: tuple[Piece, ...]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The original, then everything else."""
        return (self.original, *self.others)

    @property
    def subjects(self) -> frozenset[str]:
        """Whose events are told: of its assets, of those that keep its bytes, of the recording and its activities."""
        known = self.known
        assets = {piece.asset.asset_id for piece in self.pieces} | {known.kept.asset.asset_id}
        acts = {one.stated.activity_id for one in known.activities}
        return frozenset(
            assets | acts | {known.row.recording.recording_id, known.row.docking_id, known.session_id} - {""}
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants: recordings by their ids, and all of a case, of activities or of dockings."""

    recordings: Sequence[str] = ()
    case: str = ""
    activities: Sequence[str] = ()
    dockings: Sequence[str] = ()


def chosen(reader: Reader, wanted: Wanted) -> list[str]:
    """The ids of the recordings, each once, in the order in which they were seen.

    Raises UnknownError for a name that nothing has, RequestError if they are none or more than 6000.
    """
    found = [reader.recording(name).recording.recording_id for name in wanted.recordings]
    found += reader.recordings_of_case(wanted.case) if wanted.case else []
    found += [one for name in wanted.activities for one in reader.activity(name).stated.recordings]
    found += [one for name in wanted.dockings for one in reader.brought_by(name)]
    names = sorted(set(found))
    if not 1 <= len(names) <= ACTIVITY_LIMIT:
        raise RequestError(
            f"符合条件的记录有 {len(names)} 份 / there are {len(names)} recordings of these names.",
            safe="Nothing was exported.",
            do=f"Name 1 to {ACTIVITY_LIMIT}, by --recording, --case, --activity or --docking.",
        )
    return names


def items_of(reader: Reader, names: Sequence[str]) -> list[Item]:
    """What is kept of these recordings."""
    return [_item(number, known_of(reader, name)) for number, name in enumerate(names, 1)]


def _item(number: int, known: Known) -> Item:
    asset = known.row.asset
    folder = f"{DATA}/{number:03}_{asset.recording_id}"
    suffix = name_of(known.row.name).suffix
    named = suffix.lower() if _SUFFIX.fullmatch(suffix) else ".bin"
    original = Piece(asset, f"{folder}/original_{asset.asset_id}", named)
    others = tuple(
        Piece(one, f"{folder}/{one.role}_{one.asset_id}", _SUFFIXES.get(one.role, ""))
        for one in (*(view.asset for view in (*known.documents, *known.seals)), *_newest(known.made))
    )
    return Item(number, folder, known, original, others)


def _newest(made: Sequence[DocumentView]) -> Iterator[Asset]:
    last = {view.said.role: view for view in made if isinstance(view.said, Derivation)}
    yield from (last[role].asset for role in NEWEST if role in last)


def _suffix_of(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return ".m4a" if head[8:11] == b"M4A" else ".mp4"
    return next((suffix for sign, suffix in _SIGNS.items() if head.startswith(sign)), ".txt")


def said_of(record: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401  as JSON is
    """The value of a field in the record of a recording, None if nobody says it."""
    field = record["fields"].get(name)
    return field["value"] if field else None
