"""Verifies everything by reading it: the journal's chain and tables, every held original, every stored one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from agent import journal as log
from agent.errors import EvidenceError, StoreError
from agent.journal import Reader
from agent.model import DERIVED_ROLES, Asset, AssetState, Role
from agent.states import is_kept
from agent.uploader.base import Store
from agent.vault import Vault

_WITH_BYTES: Final = tuple(state for state in AssetState if state is not AssetState.MATCHED)

_PAGE: Final = 50

Tell = Callable[[str, int, int], None]
"""Called with what is being read, how many are done, and how many there are."""


@dataclass(slots=True)
class Report:
    """What was checked, and every difference that was found, as sentences.

    Of `stored` originals the store proved again that it has them; `read_back` of these by reading them.
    """

    events: int = 0
    originals: int = 0
    stored: int = 0
    read_back: int = 0
    checked_bytes: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing differs."""
        return not self.problems


async def verify(
    journal: Path, vault: Vault, store: Store, now: datetime, tell: Tell, *, read_originals: bool = True
) -> Report:
    """Check the journal and, unless told otherwise, read every original in the vault and in the store again."""
    report = Report()
    tell("journal", 0, 1)
    chain = log.verify(journal)
    report.events = chain.events
    report.problems += [f"{difference.where}: {difference.what}" for difference in chain.differences]
    if not read_originals:
        return report
    with contextlib.closing(Reader(journal)) as reader:
        overview = reader.overview(now)
        kinds = overview.assets, overview.documents, overview.derived
        total = sum(tallies[state].files for tallies in kinds for state in _WITH_BYTES)
        for done, asset in enumerate(_known_bytes(reader)):
            tell("originals", done, total)
            if is_kept(asset) and asset.state is not AssetState.RELEASED:
                _check_held(vault, asset, report)
            elif asset.role is not Role.ORIGINAL:
                if asset.state is AssetState.STUCK and asset.role not in DERIVED_ROLES:  # those are made again
                    report.problems.append(f"{asset.asset_id}: a document that is not here: {asset.reason}")
            elif asset.receipt is None:
                report.problems.append(f"{asset.asset_id}: was damaged here and is wanted again from its recorder")
            if asset.receipt is not None:
                await _check_stored(store, asset, report)
        _check_strays(vault, reader, report)
    return report


def _known_bytes(reader: Reader) -> Iterator[Asset]:
    """Every original that was ever held, whatever state it is in now, every document, and all that was made."""
    after = ""
    while page := reader.known_bytes(after, _PAGE):
        yield from page
        after = page[-1].asset_id


def _check_held(vault: Vault, asset: Asset, report: Report) -> None:
    assert asset.digests is not None
    try:
        held = vault.examine(asset.asset_id, asset.digests.blake3)
    except EvidenceError as error:
        report.problems.append(f"{asset.asset_id}: {error.what}")
        return
    report.originals += 1
    report.checked_bytes += held.size_bytes
    if (held.size_bytes, held.digests) != (asset.size_bytes, asset.digests):
        report.problems.append(
            f"{asset.asset_id}: the vault has SHA-256 {held.digests.sha256}, {held.size_bytes} bytes"
        )


async def _check_stored(store: Store, asset: Asset, report: Report) -> None:
    assert asset.receipt is not None
    try:
        was_read = await store.check(asset.receipt, read=True)
    except (EvidenceError, StoreError) as error:
        report.problems.append(f"{asset.asset_id}: {error.what}")
    else:
        report.stored += 1
        report.read_back += was_read


def _check_strays(vault: Vault, reader: Reader, report: Report) -> None:
    """Originals without a row: they are kept, and the service adopts them at its next start; and what is none."""
    for digest, _, _ in vault.originals():
        if reader.asset_by_blake3(digest, tuple(AssetState)) is None:
            report.problems.append(f"{digest}: in the vault without a row; the service adopts it at its next start")
    report.problems += [f"{path}: is no original, and was not put there by the agent" for path in vault.strangers()]
