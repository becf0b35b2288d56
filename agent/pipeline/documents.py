"""Documents about recordings: from what was said, or the bytes of a file, to an asset that is held like any original.

The part is durable and read back before the event tells of it and of its fingerprints; then the vault takes it. So a
part that no event tells of is debris, and a document that the vault doesn't hold is finished from its part, from the
vault, or by writing the same words again; if none of these has its bytes it is stuck, and the same file is asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from blake3 import blake3

from agent import durable
from agent.errors import CommitError, EvidenceError, JournalError, StoreError, UnknownError
from agent.journal import Reader, new_id
from agent.journal.codec import to_text
from agent.journal.views import DocumentView
from agent.model import (
    DOCUMENT_LIMIT_BYTES,
    RECORDINGS_LIMIT,
    Asset,
    AssetChanged,
    AssetState,
    Blocked,
    Derivation,
    DeriveAsked,
    Derived,
    Digests,
    DocumentAdded,
    Incident,
    JournalEntry,
    Resumed,
    Said,
    Sealing,
    Stamping,
    role_of,
)
from agent.pipeline.hold import ReadBack, hold
from agent.pipeline.station import Station
from agent.vault import Settled, Vault

_LOST: Final = "文件内容已丢失，请重新附上同一文件 (its bytes are lost here: attach the same file again)"
_RESEALED: Final = "文件内容已丢失，本站将另作清单 (its bytes are lost here: this station signs another manifest)"
_REMADE: Final = "文件内容已丢失，将由本站重新制作 (its bytes are lost here: this station makes it again)"


def written(said: Said, recordings: Sequence[str]) -> bytes:
    """What a document without a file of its own contains: canonical JSON, the same bytes for the same words."""
    return f'{{"recordings":{json.dumps(list(recordings))},"said":{to_text(said)}}}\n'.encode("ascii")


async def add_document(station: Station, said: Said, recordings: Sequence[str], content: bytes | None = None) -> Asset:
    """Add a document about 1 to 1000 recordings (their ids); returns its asset, held, or matched with an equal one.

    `content`: the bytes of a file; None if the words themselves are the document. Raises JournalError if it can't be
    about these recordings or is too large, StoreError if this station's disk refuses it: then nothing was entered, or
    it is finished at the next start.
    """
    body = written(said, recordings) if content is None else content
    _check_fits(station, len(body))
    await station.on_disk(_check_about, station.journal.reader, recordings)
    key = (new_id(station.clock), recordings[0], role_of(said), AssetState.WANTED)
    asset = Asset(*key, len(body), digests=Digests(blake3(body).hexdigest(), hashlib.sha256(body).hexdigest()))
    try:
        settled = await station.on_disk(_stage, station.vault, asset, body)
    except (EvidenceError, StoreError) as error:
        await station.on_disk(_remove, station.vault, asset.asset_id)
        raise StoreError(error.what, safe="Nothing was entered.", do=error.do) from error
    await _enter(station, DocumentAdded(asset, tuple(recordings), said))
    await hold(station, [ReadBack(settled, role=asset.role)])
    return await station.on_disk(station.journal.reader.asset, asset.asset_id)


async def add_made(station: Station, files: Sequence[tuple[Path, DocumentAdded]], *told: Derived) -> None:
    """Take finished files out of the work folder: all of them with what is told of their originals, or nothing.

    Raises as `add_document` does.
    """
    try:
        settled = await station.on_disk(_take_in, station.vault, files)
    except (EvidenceError, StoreError) as error:
        await station.on_disk(_remove, station.vault, *(entry.asset.asset_id for _, entry in files))
        raise StoreError(error.what, safe="Nothing was entered.", do=error.do) from error
    await _enter(station, *(entry for _, entry in files), *told)
    parts = [ReadBack(one, role=entry.asset.role) for one, (_, entry) in zip(settled, files, strict=True)]
    await hold(station, parts)


def _take_in(vault: Vault, files: Sequence[tuple[Path, DocumentAdded]]) -> list[Settled]:
    parts = []
    for path, entry in files:
        assert entry.asset.digests is not None, "a document is entered with its fingerprints"
        vault.take_in(path, entry.asset.asset_id)
        parts.append((entry.asset.asset_id, entry.asset.expected_bytes, entry.asset.digests.blake3))
    return vault.settle(parts)


async def _enter(station: Station, *entries: DocumentAdded | Derived) -> None:
    """What is refused leaves no part; only what may have been written after all keeps it for the next start."""
    try:
        await station.journal.record(*entries)
    except CommitError:
        raise
    except JournalError:
        added = (entry.asset.asset_id for entry in entries if isinstance(entry, DocumentAdded))
        await station.on_disk(_remove, station.vault, *added)
        raise


def is_lost(asset: Asset) -> bool:
    """Tell whether the bytes of a document are nowhere here, so that the same file has to be attached again."""
    return asset.state is AssetState.STUCK and asset.resume_to is AssetState.WANTED


def _check_fits(station: Station, size_bytes: int) -> None:
    if size_bytes > DOCUMENT_LIMIT_BYTES:
        limit = f"{DOCUMENT_LIMIT_BYTES // 1024 // 1024} MiB"
        raise JournalError(
            f"文件超过 {limit}，未附上 (a document has at most {limit}; this one has {size_bytes} bytes).",
            safe="Nothing was changed.",
            do="Attach a smaller file, or divide it.",
        )
    if station.vault.free_bytes() - station.reserve_bytes < size_bytes:
        what = "存储空间不足，未附上 (the storage is full; the document was not taken)."
        raise StoreError(what, safe="Nothing was changed.", do="Make room, then attach it again.")


def _check_about(reader: Reader, recordings: Sequence[str]) -> None:
    if not 1 <= len(set(recordings)) == len(recordings) <= RECORDINGS_LIMIT:
        raise JournalError(
            f"A document is about 1 to {RECORDINGS_LIMIT} different recordings, not {len(recordings)}.",
            safe="Nothing was changed.",
            do="Name each recording once; divide what is about more of them.",
        )
    for recording_id in recordings:
        if reader.asset(recording_id).recording_id != recording_id:
            raise UnknownError(f"{recording_id} is no recording.", do="Give the id of a recording.")


async def recover_documents(station: Station) -> None:
    """Finish every document whose bytes are not held, as far as that is possible without a person."""
    await station.on_disk(_drop_debris, station.vault, station.journal.reader)
    for view in await station.on_disk(station.journal.reader.unheld_documents):
        try:
            await complete_document(station, view)
        except (EvidenceError, StoreError) as error:
            # Our own disk refuses this one: it is tried again at the next start, and the station works meanwhile.
            await station.journal.record(Incident("part-waits", {"asset": view.asset.asset_id, "what": error.what}))


async def complete_document(station: Station, view: DocumentView) -> None:
    """Let the vault have a document that is not held; if its bytes are nowhere it is stuck, with what to do.

    What was made from an original is made again, and asks nobody.
    """
    asset = view.asset
    settled = await station.on_disk(_found, station.vault, view)
    if settled is not None:
        if asset.state is AssetState.STUCK:
            await station.journal.record(AssetChanged(asset.asset_id, Resumed("recovery", "its bytes are here")))
        await hold(station, [ReadBack(settled, role=asset.role)])
    elif isinstance(view.said, Derivation):
        await station.journal.unsettled(asset.asset_id)
        source = await station.on_disk(station.journal.reader.asset, view.said.source)
        await station.journal.record(*_asked_again(asset, view.said, can=source.state is not AssetState.RELEASED))
    elif asset.state is AssetState.WANTED:
        await station.journal.unsettled(asset.asset_id)
        told = _RESEALED if isinstance(view.said, Sealing | Stamping) else _LOST
        await station.journal.record(AssetChanged(asset.asset_id, Blocked(told)))


def _asked_again(asset: Asset, said: Derivation, *, can: bool) -> list[JournalEntry]:
    """Once: what is made then has other bytes, or brings these back. Of what is not here any more nothing is made."""
    if asset.reason == _REMADE or not can:
        return []
    free = [] if asset.state is AssetState.WANTED else [AssetChanged(asset.asset_id, Resumed("recovery", asset.reason))]
    return [
        *free,
        AssetChanged(asset.asset_id, Blocked(_REMADE)),
        DeriveAsked(said.source, "recovery", f"the bytes of {said.role} {asset.asset_id} are lost"),
    ]


def _found(vault: Vault, view: DocumentView) -> Settled | None:
    """Its bytes, durable and read back: from the part, from the vault, or written again."""
    asset, digests = view.asset, view.asset.digests
    assert digests is not None, "a document is entered with its fingerprints"
    if vault.part_bytes(asset.asset_id) is not None:
        with contextlib.suppress(EvidenceError):
            return vault.settle([(asset.asset_id, asset.expected_bytes, digests.blake3)])[0]
        _remove(vault, asset.asset_id)
    with contextlib.suppress(EvidenceError):
        held = vault.examine(asset.asset_id, digests.blake3)
        return Settled(asset.asset_id, held.size_bytes, held.digests)
    words = written(view.said, view.recordings)
    return _stage(vault, asset, words) if blake3(words).hexdigest() == digests.blake3 else None


def _stage(vault: Vault, asset: Asset, content: bytes) -> Settled:
    assert asset.digests is not None, "as above"
    name = vault.ready_part(asset.asset_id)
    with refusing(name):
        durable.write_part(vault.staging_dir / name, content)
    return vault.settle([(asset.asset_id, len(content), asset.digests.blake3)])[0]


def _remove(vault: Vault, *asset_ids: str) -> None:
    for name in map(vault.part_name, asset_ids):
        with refusing(name):
            durable.remove_part(vault.staging_dir / name)


def _drop_debris(vault: Vault, reader: Reader) -> None:
    """Parts of documents that were never entered (the part of an original is begun after its event), and begun work."""
    for folder in vault.work_dir.iterdir():
        with refusing(folder.name):
            durable.remove_work(folder)
    for part in vault.staging_dir.glob(f"*{durable.PART_SUFFIX}"):
        try:
            reader.asset(part.name.removesuffix(durable.PART_SUFFIX))
        except UnknownError:
            with refusing(part.name):
                durable.remove_part(part)


@contextlib.contextmanager
def refusing(name: str) -> Iterator[None]:
    """What this station's disk refuses can be tried again later; raises StoreError."""
    try:
        yield
    except OSError as error:
        what = f"The station's disk refused {name}: {error.strerror or error}."
        raise StoreError(what, safe="No original is affected.", do="Have the administrator check the disk.") from error
