"""What is made from an original for viewing, and what is found wrong with it: facts, never a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from agent.model.evidence import Role

SEAL_ROLES: Final = frozenset({Role.MANIFEST, Role.TIMESTAMP})
"""What the station itself signs or has stamped: it vouches for everything else of a recording."""

_SAID_ROLES: Final = frozenset({Role.STATEMENT, Role.TRANSCRIPT, Role.EXPLANATION})
DERIVED_ROLES: Final = frozenset(Role) - SEAL_ROLES - _SAID_ROLES - {Role.ORIGINAL}
"""What is made from an original; everything else is what it is, was said about it, or vouches for it."""

FINDINGS_LIMIT: Final = 200
"""So many findings of a recording are in the journal; its findings document has all of them, up to a bound."""


class FindingKind(StrEnum):
    """What can be seen in a recording without knowing what it shows.

    GAP, BACKWARDS: the time stamps of a track jump; OFFSET: a track begins or ends apart from the others.
    UNDECODABLE: packets that give no picture or sound. ZEROS: bytes that are zero for longer than any content is.
    CUT: the end or the index is missing.
    """

    BLACK = "black"
    FROZEN = "frozen"
    SILENT = "silent"
    GAP = "gap"
    BACKWARDS = "backwards"
    OFFSET = "offset"
    UNDECODABLE = "undecodable"
    ZEROS = "zeros"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class MediaFinding:
    """One fact. Times count from the first packet of the recording; None where the fact has no place in time.

    `offset_bytes` and `length_bytes` are a range of the file, for what has a place there. `detail` is English.
    """

    kind: FindingKind
    start_ms: int | None = None
    end_ms: int | None = None
    offset_bytes: int | None = None
    length_bytes: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Derivation:
    """A file that was made from an original (its asset id is `source`): how, tells the certificate with this BLAKE3.

    `certificate` is empty for certificates themselves. Not `complete`: less is in it than its original has or says.
    Of a session in a room (`session_id`) it shows all segments of the source `of`, the first of which is `source`; of
    the whole session if that is empty.
    """

    role: Role
    source: str
    at: datetime
    tool: str
    certificate: str = ""
    complete: bool = True
    session_id: str = ""
    of: str = ""


@dataclass(frozen=True, slots=True)
class Derived:
    """All that could be made from the original `asset_id` is made; `reason` says why there is no access copy.

    `findings` are the first of `found`. A segment of a session has no copy of its own: the asset `film` shows it, from
    `film_ms` on.
    """

    asset_id: str
    findings: tuple[MediaFinding, ...] = ()
    found: int = 0
    reason: str = ""
    film: str = ""
    film_ms: int = 0


@dataclass(frozen=True, slots=True)
class DeriveAsked:
    """Somebody wants copies of an original to be made again, because the tool or its settings are others now."""

    asset_id: str
    who: str
    why: str
