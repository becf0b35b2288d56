"""The release lane: frees local copies, one at a time, each only behind proof; the only caller of the one deletion."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent import durable
from agent.changes import seen
from agent.errors import EvidenceError, JournalError, StoreError
from agent.journal.guard_queries import open_alarms
from agent.journal.release_queries import Witness
from agent.model import AssetChanged, AssetState, FreeWhen, Releasable, Released
from agent.pipeline.auditing import void
from agent.pipeline.checkpoints import verifiers
from agent.pipeline.damage import put_aside
from agent.pipeline.documents import refusing
from agent.pipeline.releasable import Content, Rule, judged, needed, plan, prove, too_many
from agent.pipeline.rereading import UnreadableError, rereading
from agent.pipeline.station import Station
from agent.tlog.checkpoint import opened
from agent.tlog.texts import NoteError
from agent.vault import Vault
from agent.vault_errors import world

log: Final = logging.getLogger("capture-agent")

_PAUSE_S: Final = 3600.0
_SOON_S: Final = 60.0


class ReleaseLane:
    """Looks every hour, and when a recorder finds no room; `trouble` says in two languages why it frees nothing.

    While a recorder is being read it begins with nothing.

    When in doubt nothing goes: without a clock that is kept right, with a log that can't be signed, while the store
    does not prove every copy once more, or when more would go than one person may have freed.
    """

    def __init__(self, station: Station, is_busy: Callable[[], bool], pause_s: float = _PAUSE_S) -> None:
        self._station = station
        self._is_busy = is_busy
        self._pauses_s = min(pause_s, _SOON_S), pause_s
        self._is_soon = True
        self._terms = station.terms
        self._witness = Witness((), ())
        self._hindrance = ""
        self.trouble = ""

    async def step(self) -> None:
        """Wait for the next time to look, and free what may go."""
        station = self._station
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pauses_s[not self._is_soon]):
                await station.room_wanted.wait()
        station.room_wanted.clear()
        self._terms, self._hindrance = station.terms, ""
        if self._terms.when is not FreeWhen.OFF and not self._is_trusted():
            self._hindrance = "时钟未校准或流转记录无法签名，暂不释放本机副本 (clock or log can't be trusted)"
        if self._may_free() and open_alarms((await station.on_disk(station.journal.reader.alarms))[0]):
            self._hindrance = "有未核查的文件外部改动，暂不释放本机副本 (capture-agent guard has open alarms)"
        if self._may_free():
            self._witness = await station.on_disk(station.journal.reader.witness)  # what is known now is enough
            await self._round()
        self.trouble, self._is_soon = self._hindrance, bool(station.wanted_bytes) or self._is_busy()

    def _may_free(self) -> bool:
        """Whether to go on, on the terms with which this round began."""
        station, terms = self._station, self._terms
        if self._hindrance or station.terms != terms or terms.when is FreeWhen.OFF or not self._is_trusted():
            return False
        if self._is_busy() and not station.wanted_bytes:
            return False
        if terms.when is FreeWhen.DONE:
            return True
        free_bytes = station.vault.free_bytes() - station.reserve_bytes
        return any(free_bytes < need_bytes for need_bytes in station.wanted_bytes.values())

    def _is_trusted(self) -> bool:
        custody = self._station.custody
        return self._station.clock_is_kept() and custody.key is not None and not custody.fork

    async def _round(self) -> None:
        station = self._station
        found = await station.on_disk(plan, station.journal.reader, self._rule())
        left = await station.on_disk(too_many, station.journal.reader, self._terms, found.goes.files)
        if left is not None:
            told = f"{found.goes.files} copies would go, {left} may: capture-agent release --dry-run"
            self._hindrance = f"释放本机副本的数量超过限额，须由第二人确认 ({told})"
            return
        for blake3 in (*station.surplus, *(one.digests.blake3 for one in found.first if one.digests is not None)):
            if not self._may_free():
                return
            await self._free(blake3)

    def _rule(self) -> Rule:
        station = self._station
        return Rule(self._terms, self._witness, station.clock(), station.access.enabled, station.forms.names)

    async def _free(self, blake3: str) -> None:
        """One content. Whatever is not proved leaves it here; only our own disk or store make the round end."""
        station = self._station
        content = await self._judged(blake3)
        if content is None:
            return
        try:
            if not await self._is_at_centre(content):
                return
            identity = await self._read_here(content)
            async with station.freeing, station.commit:
                if not self._may_free() or await self._judged(blake3) != content:
                    return  # something is other than before: the next round sees it
                proof = await station.on_disk(_proof, station, content, identity)
                await self._release(content, proof)
        except EvidenceError as error:
            log.warning("local copy %s stays: %s", blake3, error.what)
        except StoreError as error:
            self._hindrance = f"暂不释放本机副本 (nothing is freed now): {error.what}"

    async def _judged(self, blake3: str) -> Content | None:
        """What is known of a content that nothing keeps here; None if something does."""
        station = self._station
        content, kept_by = await station.on_disk(judged, station.journal.reader, blake3, self._rule())
        return None if kept_by else content

    async def _is_at_centre(self, content: Content) -> bool:
        """Whether the store proves once more all that is asked for; what it lost is no longer called stored."""
        station, terms = self._station, self._terms
        for asset in needed(content, terms):
            assert asset.receipt is not None, "what nothing keeps has its receipt"
            try:
                was_read = await station.store.check(asset.receipt, read=terms.read_back)
            except EvidenceError as gone:
                await void(station, asset, gone)
                # If that is the store's fault, it loses more: then others mustn't all be sent again at once.
                self._hindrance = f"专用存储器未能证明其副本，暂不释放本机副本 (a copy is not proved): {gone.what}"
                return False
            if terms.read_back and not was_read:
                do = "Give the station the right to read, or set release.read_back = false."
                raise StoreError("专用存储器不允许回读 (the store does not let this station read back).", do=do)
        if not await station.store.apart():
            raise StoreError("专用存储器与本机在同一磁盘 (the store is on this station's own disk).")
        return True

    async def _read_here(self, content: Content) -> tuple[int, int, int, int]:
        """The identity of the file here, once it has given its bytes back; one that differs is put aside first."""
        station = self._station
        try:
            return await station.on_disk(_reread, station, content)
        except UnreadableError:
            raise  # the fault may be the disk's or a mount's: whoever reads all files in turn finds out
        except EvidenceError as error:
            await put_aside(station, content.keeper, str(error))
            raise

    async def _release(self, content: Content, proof: Releasable) -> None:
        """The log first: a copy that is gone without a word would look like a theft; one that is left over goes later.

        Both while nothing can be taken in: what comes next finds the file there, or gone and told so.
        """
        station = self._station
        station.still_here(proof.blake3)
        entries = [
            AssetChanged(asset.asset_id, Released(asset.receipt))
            for asset in content.assets
            if asset.state is AssetState.STORED and asset.receipt is not None
        ]
        await station.journal.record(*entries)
        await station.on_disk(_remove, station.vault, proof)
        station.surplus.discard(proof.blake3)


def _reread(station: Station, content: Content) -> tuple[int, int, int, int]:
    """The identity of the file with these bytes, read from the medium while nobody changed it; raises EvidenceError."""
    kept = content.keeper
    assert kept.digests is not None, "it is known by them"
    path = station.vault.address(kept.digests.blake3)
    with world(path):
        if not station.vault.place.is_same():
            raise UnreadableError(
                f"{path.parent} is not the vault.", safe="Nothing is freed.", do="Look at its mounts."
            )
    identity = _identity(path)
    with contextlib.closing(rereading(path, kept.expected_bytes, kept.digests)) as blocks:
        deque(blocks, 0)
    if _identity(path) != identity:
        raise UnreadableError(f"{path.name} was changed while it was read.", safe="It stays as it is.")
    return identity


def _identity(path: Path) -> tuple[int, int, int, int]:
    with refusing(path.name):
        found = seen(path)
    if found is None:
        raise UnreadableError(f"{path.name} is not there any more.", safe="The store has it.")
    return found.device, found.inode, found.size_bytes, found.changed_ns


def _proof(station: Station, content: Content, identity: tuple[int, int, int, int]) -> Releasable:
    return prove(station.journal.reader, station.vault, content, identity, _signed(station))


def _signed(station: Station) -> Callable[[int], bool]:
    """Tells whether an event is proved to be under a checkpoint that a key of this station signed."""
    reader, origin = station.journal.reader, station.custody.origin
    known = verifiers(reader, origin)

    def signed(seq: int) -> bool:
        try:
            proof = reader.proof(seq)
            return proof is not None and bool(opened(proof.checkpoint, origin, known))
        except (JournalError, NoteError) as error:
            raise EvidenceError(str(error), safe="The local copy stays.") from error

    return signed


def _remove(vault: Vault, proof: Releasable) -> None:
    with refusing(proof.blake3), vault.changes.of(proof.path):
        durable.free_original(proof)
