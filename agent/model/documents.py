"""What persons and programs say about recordings: each is a file of its own, sealed and stored like an original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

from agent.card import BLOCK_BYTES
from agent.model.activities import Voice
from agent.model.derived import Derivation
from agent.model.evidence import Asset, Role


class TranscriptKind(StrEnum):
    """人工、机器、校对: who wrote it down; `checked` is a machine's text that a person has corrected or signed."""

    HUMAN = "human"
    MACHINE = "machine"
    CHECKED = "checked"


class TextForm(StrEnum):
    """What sort of text a transcript is."""

    PLAIN = "plain"
    SRT = "srt"
    VTT = "vtt"


class Encoding(StrEnum):
    """How the bytes of a file are text; never guessed, since a wrong guess makes other words."""

    UTF_8 = "utf-8"
    GB18030 = "gb18030"
    UTF_16 = "utf-16"


@dataclass(frozen=True, slots=True)
class Statement:
    """Capture metadata as an officer says it: the `fields` that change, None for one that is no longer said.

    `versions` are those of the recordings, in their order, that this follows; none: whatever they are. `assumed` names
    the fields that the agent added by itself. `schema` is that of the fields.
    """

    who: str
    why: str
    at: datetime
    fields: Mapping[str, object]
    versions: tuple[int, ...] = ()
    assumed: tuple[str, ...] = ()
    schema: str = ""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A text of what is said in a recording, and the person who answers for it; nobody does for a machine's.

    `name`: of the file as it was attached. `tool`: what wrote a machine's text, name and version. `signed`: BLAKE3 of
    the machine's text that the author answers for, unchanged; `why` is his word on that.
    """

    kind: TranscriptKind
    author: str
    at: datetime
    name: str = ""
    tool: str = ""
    signed: str = ""
    why: str = ""
    form: TextForm = TextForm.PLAIN
    encoding: Encoding = Encoding.UTF_8
    language: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why recording was interrupted: `gap` is from when to when. By `voice` it is spoken in a recording.

    Not `resumed`: recording could not go on. `device_id`: of this source of a room alone. The document is the file that
    was attached, else these words.
    """

    activity_id: str
    who: str
    at: datetime
    gap: str = ""
    code: str = ""
    why: str = ""
    resumed: bool = True
    voice: Voice | None = None
    device_id: str = ""


@dataclass(frozen=True, slots=True)
class Sealing:
    """Manifest `number` (清单) of a recording was signed; it covers the first `covers` events of the log.

    `previous` is the BLAKE3 of the manifest before, "" for the first.
    """

    number: int
    covers: int
    previous: str = ""


@dataclass(frozen=True, slots=True)
class Stamping:
    """A time stamping authority (RFC 3161) says that the manifest, an asset's id, existed `at`."""

    manifest: str
    at: datetime
    authority: str = ""


Said = Statement | Transcript | Explanation | Derivation | Sealing | Stamping

DOCUMENT_LIMIT_BYTES: Final = BLOCK_BYTES
"""So large can one document be that somebody attaches; what is made from an original has no limit here."""

RECORDINGS_LIMIT: Final = 1000
"""So many recordings can one document be about."""


def role_of(said: Said) -> Role:
    """What the file of these words is to its recording."""
    match said:
        case Statement():
            return Role.STATEMENT
        case Transcript():
            return Role.TRANSCRIPT
        case Explanation():
            return Role.EXPLANATION
        case Derivation():
            return said.role
        case Sealing():
            return Role.MANIFEST
        case Stamping():
            return Role.TIMESTAMP
        case _:
            assert_never(said)


@dataclass(frozen=True, slots=True)
class Checked:
    """Somebody has checked all that is said of these recordings, each at the version named in the same place."""

    recordings: tuple[str, ...]
    versions: tuple[int, ...]
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class DocumentAdded:
    """A document about recordings, the first of which is the asset's own; the digests of its bytes are known."""

    asset: Asset
    recordings: tuple[str, ...]
    said: Said


@dataclass(frozen=True, slots=True)
class NoSpeechFound:
    """A tool found nothing that is spoken in the original `asset_id`: a fact about the tool, and no transcript."""

    asset_id: str
    tool: str
