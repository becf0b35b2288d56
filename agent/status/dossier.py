"""What pages show of recordings: all that is known of one, and rows of a list with makers and stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from agent.config import Config
from agent.deadline import Rules
from agent.journal import Reader
from agent.journal.views import DocumentView, RecordingView
from agent.metadata import so_far
from agent.model import STAGES, AssetState, Derivation, Medium, Role
from agent.status.access import access_view, made_files
from agent.status.activities import activity_view
from agent.status.custody import custody_view
from agent.status.devices import quarantined
from agent.status.explain import explain
from agent.status.record import history_view, known_of, record_view
from agent.status.views import recording_view
from agent.status.words import words

Json = dict[str, Any]

PICTURES: Final = (Role.POSTER, Role.CONTACT_SHEET, Role.WAVEFORM, Role.TIMELINE)
"""What was made to be looked at, beside the access copy."""
_OF_SESSION: Final = (Role.ACCESS_COPY, Role.MOSAIC, Role.CONTACT_SHEET, Role.TIMELINE)
_HERE: Final = (AssetState.HELD, AssetState.STORED)


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file that was made from an original and is here: never an original itself."""

    original_id: str
    asset_id: str
    role: Role
    blake3: str
    size_bytes: int


def rows_view(reader: Reader, config: Config, rows: Sequence[RecordingView], now: datetime) -> list[Json]:
    """Rows of a list, as `recording_view`, with `stage` (null: nobody has said it) and the names of `makers`."""
    rules, by, devices = Rules(config.profile, config.calendars), config.deadline.satisfied_by, reader.devices()
    unknown = quarantined(config, devices)
    said = reader.statements([row.recording.recording_id for row in rows])
    found = []
    for row in rows:
        fields = so_far(one.said.fields for one in said.get(row.recording.recording_id, ()))
        stage = STAGES.get(str(fields.get("stage", "")))
        more = {"stage": words(stage.zh, stage.en) if stage else None, "makers": _names(fields.get("makers", ()))}
        found.append(recording_view(row, rules, by, devices, now, unknown) | more)
    return found


def dossier(reader: Reader, config: Config, identifier: str, now: datetime) -> Json:
    """All that is known of a recording, by its id or its original's; raises UnknownError if there is none."""
    known = known_of(reader, identifier)
    recording_id, rules = known.row.recording.recording_id, Rules(config.profile, config.calendars)
    (row,) = rows_view(reader, config, [known.row], now)
    newest = {one.role.value: one.asset_id for one in shown_files(known.made, known.kept.asset.asset_id)}
    if (film := _film(reader, recording_id, known.kept.asset.asset_id)) is not None:
        newest[Role.ACCESS_COPY.value] = film[0].asset_id
    return {
        "recording": row,
        "record": record_view(known, config, now),
        "history": history_view(known)["versions"],
        "deadline": explain(known.row, rules, config.deadline.satisfied_by, now),
        "access": access_view(recording_id, reader.derived(recording_id), known.made, Path),
        "shown": newest,
        "begins_s": film[1] / 1000 if film else 0,
        "activities": [activity_view(one, config.profile) for one in known.activities],
        "custody": custody_view(reader, known),
    }


def made_file(reader: Reader, identifier: str, role: Role) -> MadeFile | None:
    """The newest file of a role that was made from a recording and is here; raises UnknownError as `dossier`."""
    row = reader.recording(identifier)
    recording_id, original_id = row.recording.recording_id, row.asset.same_as or row.asset.asset_id
    film = _film(reader, recording_id, original_id) if role is Role.ACCESS_COPY else None
    if film is not None:
        return film[0]
    found = shown_files(reader.derivatives(recording_id), original_id)
    return next((one for one in found if one.role is role), None)


def _film(reader: Reader, recording_id: str, original_id: str) -> tuple[MadeFile, int] | None:
    """The film that shows a segment of a session, and from when on (ms), if it is here."""
    told = reader.derived(recording_id)
    if told is None or not told.film:
        return None
    asset = reader.asset(told.film)
    if asset.state not in _HERE or asset.digests is None:
        return None
    film = MadeFile(original_id, asset.asset_id, asset.role, asset.digests.blake3, asset.expected_bytes)
    return film, told.film_ms


def session_files(reader: Reader, session_id: str) -> list[tuple[str, Medium, MadeFile]]:
    """Of what was made from a session and its sources, the newest that may be shown: whose, of what medium.

    Raises UnknownError for one that isn't known.
    """
    reader.session(session_id)
    found: dict[tuple[str, Role], MadeFile] = {}
    for view in reader.joined(session_id):
        asset, said = view.asset, view.said
        if isinstance(said, Derivation) and asset.state in _HERE and asset.digests and said.role in _OF_SESSION:
            file = MadeFile(said.source, asset.asset_id, said.role, asset.digests.blake3, asset.expected_bytes)
            found[said.of, said.role] = file
    return [(of, reader.recording(file.original_id).recording.medium, file) for (of, _), file in sorted(found.items())]


def shown_files(views: Sequence[DocumentView], original_id: str) -> list[MadeFile]:
    """Of what was made, the newest of each role that may be shown, if its bytes are here."""
    newest = {said.role: view.asset for view, said in made_files(views) if view.asset.state in _HERE}
    return [
        MadeFile(original_id, asset.asset_id, role, asset.digests.blake3, asset.expected_bytes)
        for role, asset in newest.items()
        if role in (Role.ACCESS_COPY, *PICTURES) and asset.digests is not None
    ]


def _names(makers: object) -> list[str]:
    told = makers if isinstance(makers, list | tuple) else ()
    return [str(one.get("name") or one.get("officer", "")) for one in told if isinstance(one, dict)]
