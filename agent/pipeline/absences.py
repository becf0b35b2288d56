"""What one listing, and the ledger of the recorder's last docking, tell of recordings that are gone: as findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Final

from agent.absence import Absence, Fate, Trace, absences
from agent.deadline import instant
from agent.journal import Reader
from agent.model import Asset, AssetState, Clip, Finding, Medium, Space, Stamp
from agent.states import is_kept

KIND: Final = "absence"
FACTS_LIMIT: Final = 50
REMAINS_LIMIT: Final = 5000
GONE_LIMIT: Final = 10_000
_NAMED: Final = frozenset({"exact", "long", "inferred"})
_UNSURE: Final = frozenset({"after-end-mark", "checksum-bad"})
_YEARS: Final = range(1980, 2200)


class Traces:
    """Remembers of one listing the recordings and the deleted entries of recordings, as their names tell them."""

    def __init__(self, medium_of: Callable[[str], Medium]) -> None:
        self._medium_of = medium_of
        self._present: list[Trace] = []
        self._remains: list[tuple[Clip, Trace]] = []

    def clip(self, clip: Clip) -> None:
        """A file that is on the recorder."""
        if (medium := self._medium_of(clip.path)) is not Medium.OTHER:
            self._present.append(_trace(clip, medium))

    def deleted(self, detail: Mapping[str, object]) -> None:
        """A deleted entry, as the parser tells it; of a folder, or of one without content, nothing is said."""
        match detail:
            case {
                "path": str(path), "raw_name": str(raw), "name_quality": str(quality), "is_directory": False,
                "size": int(size), "created": list(created), "modified": list(modified), "flags": list(flags),
            } if size > 0 and len(self._remains) < REMAINS_LIMIT:  # fmt: skip
                clip = Clip(-1, path, _raw_name(path, raw, quality), size, 0, _stamp(created), _stamp(modified))
                proven = quality in _NAMED and not _UNSURE.intersection(map(str, flags))
                if (medium := self._medium_of(path)) is not Medium.OTHER:
                    self._remains.append((clip, replace(_trace(clip, medium), proven=proven)))

    def findings(
        self, reader: Reader, docking_id: str, device_id: str, space: Space | None, *, is_whole: bool
    ) -> list[Finding]:
        """The facts of this docking, the surest first; `told` are those that the docking before told already.

        Not `is_whole`: what could not be listed may be there, so only deleted entries are spoken of.
        """
        remains = [_known(trace, reader.known_clips(device_id, clip), reader) for clip, trace in self._remains]
        before = reader.listed_before(docking_id, device_id)
        gone = reader.gone(before, docking_id, GONE_LIMIT) if is_whole else []
        ledger = [(_trace(clip, self._medium_of(clip.path)), [asset] if asset else []) for clip, asset in gone]
        known = [_known(*one, reader) for one in ledger if self._medium_of(one[0].path) is not Medium.OTHER]
        facts = absences(self._present, remains, known, space if is_whole else None)
        told = [{**one.detail, "told": False} for one in reader.findings(before, (KIND,))]
        details = [detail_of(fact) | {"told": False} for fact in facts if is_whole or fact.proven]
        found = [Finding(KIND, {**detail, "told": detail in told}) for detail in details[:FACTS_LIMIT]]
        if more := len(details) - len(found):
            found.append(Finding("absences-not-listed", {"facts": more}))
        return found


def _trace(clip: Clip, medium: Medium) -> Trace:
    start, end = _time(clip.created), _time(clip.modified)
    lasted = start if start is not None and end is not None and start < end else None
    return Trace(clip.path, clip.size_bytes, lasted, end, photo=medium is Medium.PHOTO)


def _time(stamp: Stamp) -> datetime | None:
    """As a card's filesystem can hold it."""
    found = instant(stamp)
    return found if found is not None and found.year in _YEARS else None


def _stamp(raw: list[object]) -> Stamp:
    match raw:
        case [str(local), int() | None as offset_min]:
            return Stamp(local, offset_min)
    return Stamp()


def _raw_name(path: str, raw: str, quality: str) -> bytes:
    """The name as it stood in the entry; of a short one, deletion took the first letter."""
    try:
        name = bytes.fromhex(raw)
    except ValueError:
        return b""
    return path.rpartition("/")[2][:1].encode("gbk", "replace")[:1] + name[1:] if quality == "inferred" else name


def _known(trace: Trace, assets: Iterable[Asset], reader: Reader) -> Trace:
    """With what the journal knows of it."""
    kept = [reader.asset(asset.same_as) if asset.same_as else asset for asset in assets]
    for asset in kept:
        if asset.state is AssetState.RELEASED:
            return replace(trace, fate=Fate.RELEASED, asset_id=asset.asset_id)
    held = next((asset for asset in kept if is_kept(asset)), None)
    return replace(trace, fate=Fate.HELD, asset_id=held.asset_id) if held else trace


def detail_of(fact: Absence) -> dict[str, object]:
    """A fact as its finding has it."""
    detail = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(fact).items()}
    return detail | {
        name: at.isoformat() if at else None for name, at in (("since", fact.since), ("until", fact.until))
    }
