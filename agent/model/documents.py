"""What persons and programs say about recordings: each is a file of its own, sealed and stored like an original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from agent.card import BLOCK_BYTES
from agent.model.evidence import Asset, Role


class TranscriptKind(StrEnum):
    """人工、机器、校对: who wrote it down; `checked` is a machine's text that a person has corrected and signed."""

    HUMAN = "human"
    MACHINE = "machine"
    CHECKED = "checked"


@dataclass(frozen=True, slots=True)
class Statement:
    """Capture metadata as an officer says it; `version_of` is the asset of the statement that this one replaces."""

    who: str
    why: str
    at: datetime
    fields: Mapping[str, object] = field(default_factory=dict)
    version_of: str = ""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A text of what is said in a recording. `name`: of the file as it was attached; `tool`: of a machine's text."""

    kind: TranscriptKind
    author: str
    at: datetime
    name: str
    tool: str = ""
    signed: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a recording was interrupted, or is missing; `gap` names the gap of the activity."""

    activity_id: str
    who: str
    at: datetime
    gap: str = ""
    code: str = ""
    why: str = ""


Said = Statement | Transcript | Explanation

DOCUMENT_LIMIT_BYTES: Final = BLOCK_BYTES
"""So large can one document be."""

RECORDINGS_LIMIT: Final = 1000
"""So many recordings can one document be about."""

ROLE_OF: Final[Mapping[type, Role]] = {
    Statement: Role.STATEMENT,
    Transcript: Role.TRANSCRIPT,
    Explanation: Role.EXPLANATION,
}


@dataclass(frozen=True, slots=True)
class DocumentAdded:
    """A document about recordings, the first of which is the asset's own; the digests of its bytes are known."""

    asset: Asset
    recordings: tuple[str, ...]
    said: Statement | Transcript | Explanation
