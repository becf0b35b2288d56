"""Puts a kit together: copies what is asked for, compares every byte, and hands over nothing that isn't journalled."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from agent import __version__, durable
from agent.config import Config
from agent.deadline import ZONE
from agent.errors import EvidenceError, RequestError, StoreError
from agent.journal import Reader
from agent.journal.views import CheckpointView
from agent.kit.bag import DATA, Bag
from agent.kit.contents import HEAD_BYTES, Item, Piece, Wanted, chosen, items_of
from agent.kit.extract import Extract, Told, checkpoint_of, extract
from agent.kit.place import check_place, part_of
from agent.kit.playlists import FOLDER, playlists
from agent.kit.premis import STATION, Happened, Object, premis
from agent.kit.reports import Frame, Reviewed, note, report, time_of
from agent.kit.review import PROOFS, Given, review
from agent.model import Acquired, Adopted, AssetChanged, Derivation, Matched, Role
from agent.papers.page import both, digest, filled, joined
from agent.papers.printing import PaperError, printed
from agent.pipeline.checkpoints import verifiers
from agent.status.activities import activity_view
from agent.status.record import record_view
from agent.tlog.keys import Verifier
from agent.uploader.base import Store
from agent.vault import Vault

_HERE: Final = Path(__file__)
_SPARE_BYTES: Final = 64 << 20
"""Room for papers and lists."""

Tell = Callable[[int, int], None]
"""Called with the bytes that are copied, and those that are to be."""

Journal = Callable[[dict[str, str]], Awaitable[Mapping[str, Any]]]
"""Takes down an export (`pipeline.exporting`); raises AgentError."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be exported where to, who exports it, and by whose approval."""

    wanted: Wanted
    folder: Path
    approval: str
    who: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Kit:
    """What was handed over. `missing` are recordings without their original; `unsound` those of which a proof fails."""

    folder: Path
    bag: str
    recordings: tuple[str, ...]
    files: int
    size_bytes: int
    missing: tuple[str, ...] = ()
    unsound: tuple[str, ...] = ()
    unprinted: str = ""


@dataclass(slots=True)
class Exporter:
    """One export. Everything is read from the journal once; the store is asked as long as it answers."""

    order: Order
    config: Config
    reader: Reader
    vault: Vault
    store: Store
    tell: Tell
    _done_bytes: int = 0
    _total_bytes: int = 0
    _silent: str = ""
    _keys: Sequence[Verifier] = field(default_factory=tuple)

    async def run(self, journal: Journal) -> Kit:
        """Write the kit, have it journalled, and only then give it its name; nothing is left of one that failed.

        Raises RequestError, UnknownError, EvidenceError (a file is not what it was), StoreError, OSError.
        """
        items = items_of(self.reader, chosen(self.reader, self.order.wanted))
        sizes = [piece.asset.expected_bytes for item in items for piece in item.pieces]
        self._total_bytes = sum(sizes)
        check_place(self.order.folder, self.config, self._total_bytes + _SPARE_BYTES)
        extracted = self._extract(items)
        part = part_of(self.order.folder)
        part.mkdir(mode=0o750)
        with ExitStack() as undo:
            undo.callback(durable.remove_work, part)
            with Bag(part) as bag:
                kit = await self._fill(bag, items, extracted)
            await journal(_asked(self.order, kit))
            durable.name_finished(part, self.order.folder)
            undo.pop_all()
        return kit

    def _extract(self, items: Sequence[Item]) -> Extract:
        view = self.reader.newest_checkpoint()
        seqs = self.reader.events_of(sorted({one for item in items for one in item.subjects}))
        unsigned = sum(view is None or seq > view.size for seq in seqs)
        if view is None or unsigned:
            raise RequestError(
                f"{unsigned} 条流转记录尚未签名 / {unsigned} events of these recordings are not signed yet.",
                safe="Nothing was exported.",
                do="Start the service, which signs the log with the station's key, and export again.",
            )
        self._keys = verifiers(self.reader, checkpoint_of(view).origin)
        return extract(self.reader, seqs, view, self._keys)

    async def _fill(self, bag: Bag, items: Sequence[Item], extracted: Extract) -> Kit:
        reviewed = [await self._one(bag, item, extracted) for item in items]
        extracted.write(bag)
        missing = tuple(one.name for one in reviewed if one.item.original.asset.asset_id not in one.given.sums)
        unsound = tuple(one.name for one in reviewed if any(check.holds is False for check in one.checks[:PROOFS]))
        for name, content in playlists(reviewed):
            bag.write(name, content)
        unprinted = await self._papers(bag, reviewed, extracted.view)
        bag.write(f"{FOLDER}/premis.xml", self._premis(reviewed, extracted))
        bag.write("keys.txt", "".join(f"{key.key.vkey}\n" for key in self._keys))
        bag.write("verify.py", _checker())
        bag.write("HOW-TO-CHECK.txt", _HERE.with_name("instructions.txt").read_bytes())
        payload = [sums for name, sums in bag.files.items() if name.startswith(f"{DATA}/")]
        made = bag.close(self._info())
        names = tuple(one.name for one in reviewed)
        size_bytes = sum(sums.size_bytes for sums in payload)
        return Kit(self.order.folder, made, names, len(payload), size_bytes, missing, unsound, unprinted)

    async def _one(self, bag: Bag, item: Item, extracted: Extract) -> Reviewed:
        given = Given()
        for piece in item.pieces:
            await self._give(bag, item, piece, given)
        await self._ask(item, given)
        told = extracted.about(item.subjects)
        original = item.original
        for entry in [one for one in told if _carries(one, original.asset.asset_id)][-1:]:
            extracted.write_proof(bag, entry, original.stem)
        record = record_view(item.known, self.config, self.order.at)
        activities = [activity_view(one, self.config.profile) for one in item.known.activities]
        checks = review(item, record, given, told, activities, self._keys)
        return Reviewed(item, record, given, checks, told)

    async def _give(self, bag: Bag, item: Item, piece: Piece, given: Given) -> None:
        """Copy one file from the vault, or from the store where that no longer has it."""
        asset = piece.asset
        receipt = asset.receipt or (item.known.kept.asset.receipt if asset is item.original.asset else None)
        if asset.digests is None:
            given.absent[asset.asset_id] = "尚未采集 (it was never pulled)"
            return
        source = self.vault.address(asset.digests.blake3)
        try:
            self._copy(bag, piece, source, given)
        except FileNotFoundError:
            if receipt is None:
                given.absent[asset.asset_id] = asset.reason or "本机没有，中心也没有 (neither here nor in the store)"
                return
            fetched = bag.folder / f"fetched{durable.PART_SUFFIX}"
            try:
                await self.store.fetch(receipt, fetched)
                self._copy(bag, piece, fetched, given)
            finally:
                durable.remove_part(fetched)

    def _copy(self, bag: Bag, piece: Piece, source: Path, given: Given) -> None:
        asset = piece.asset
        with durable.opened(source) as fd, open(fd, "rb", closefd=False) as file:
            name = piece.name(file.peek(HEAD_BYTES)[:HEAD_BYTES])
            sums = bag.add(name, file, self._copied)
        assert asset.digests is not None, "only what has digests is copied"
        if (sums.digests["blake3"], sums.digests["sha256"]) != (asset.digests.blake3, asset.digests.sha256):
            raise EvidenceError(
                f"{asset.role.value} {asset.asset_id} is not what was sealed: it has SHA-256 {sums.digests['sha256']}.",
                safe="Nothing was exported.",
                do="Run `capture-agent verify`; export again when it is mended.",
            )
        given.names[asset.asset_id], given.sums[asset.asset_id] = name, sums
        if asset.role is Role.MANIFEST:
            given.manifests.append((bag.folder / name).read_bytes())

    def _copied(self, size_bytes: int) -> None:
        self._done_bytes += size_bytes
        self.tell(self._done_bytes, self._total_bytes)

    async def _ask(self, item: Item, given: Given) -> None:
        """Have the store prove again that it has the original."""
        receipt = item.known.kept.asset.receipt
        if receipt is None or self._silent:
            given.centre = self._silent or None
            return
        try:
            await self.store.check(receipt, read=False)
            given.centre = ""
        except EvidenceError as error:
            given.centre, given.centre_lost = error.what, True
        except StoreError as error:
            self._silent = given.centre = error.what

    async def _papers(self, bag: Bag, reviewed: Sequence[Reviewed], view: CheckpointView) -> str:
        """Write both papers as HTML and PDF; returns why they could not be printed."""
        frame = self._frame(view)
        papers = {"note": note(frame, reviewed), "verification-report": report(frame, reviewed)}
        for name, paper in papers.items():
            bag.write(f"{FOLDER}/{name}.html", paper)
        try:
            for name, paper in papers.items():
                bag.write(f"{FOLDER}/{name}.pdf", await printed(paper))
        except PaperError as error:
            return error.what
        return ""

    def _frame(self, view: CheckpointView) -> Frame:
        order, station = self.order, self.config.station
        checkpoint = checkpoint_of(view)
        keys = joined(filled("<div>{one}</div>", one=digest(one.key.fingerprint)) for one in self._keys)
        rows = [
            (both("批准编号", "approval"), order.approval),
            (both("导出人", "exported by"), order.who),
            (both("事由", "why"), order.why),
            (both("导出及核验时间", "exported and checked at"), f"{time_of(order.at)}（北京时间，下同）"),
            (
                both("复制方法", "how it was copied"),
                both("由采集站逐字节复制，摘要值与采集时一致", "byte by byte, with the digests of the pull"),
            ),
            (both("单位", "organisation"), station.org_name or "—"),
            (both("采集站", "station"), f"{station.name}（{STATION} {__version__}）"),
            (both("签名密钥", "signing keys"), keys),
            (
                both("已签名的检查点", "signed checkpoint"),
                f"{checkpoint.origin}  № {view.number}  {checkpoint.size}  {' '.join(checkpoint.extensions)}",
            ),
        ]
        return Frame(order.at, rows, f"{station.name}  {order.approval}  {time_of(order.at)}")

    def _premis(self, reviewed: Sequence[Reviewed], extracted: Extract) -> bytes:
        objects = [
            Object(
                piece.asset.asset_id,
                one.given.names[piece.asset.asset_id],
                one.given.sums[piece.asset.asset_id],
                _original_name(one.item, piece),
                _source(one.item, piece),
            )
            for one in reviewed
            for piece in one.item.pieces
            if piece.asset.asset_id in one.given.sums
        ]
        names = [one.asset_id for one in objects]
        told = f"approval {self.order.approval}"
        now = (
            Happened("fixity", "fixity check", self.order.at, "success", "BLAKE3 and SHA-256 while copying", names),
            Happened("export", "exporting", self.order.at, "success", told, names),
        )
        software = f"{STATION} {__version__}"
        return premis(objects, extracted.events, now, {software: software, "station": self.config.station.name})

    def _info(self) -> list[tuple[str, str]]:
        order, station = self.order, self.config.station
        return [
            ("Source-Organization", station.org_name or station.name),
            ("Bagging-Date", order.at.astimezone(ZONE).date().isoformat()),
            ("External-Identifier", order.approval),
            ("External-Description", f"{order.wanted.case} 音像记录核验包 (recordings with what proves them)".strip()),
            ("Bag-Software-Agent", f"{STATION} {__version__}"),
        ]


def _asked(order: Order, kit: Kit) -> dict[str, str]:
    return {
        "bag": kit.bag,
        "approval": order.approval,
        "who": order.who,
        "why": order.why,
        "recordings": json.dumps(kit.recordings),
        "missing": json.dumps(kit.missing),
        "files": str(kit.files),
        "size_bytes": str(kit.size_bytes),
    }


def _carries(told: Told, asset_id: str) -> bool:
    """Whether an event carries the digests of an original."""
    entry = told.entry
    changed = isinstance(entry, AssetChanged) and isinstance(entry.event, Acquired | Matched)
    return told.subject == asset_id and (changed or isinstance(entry, Adopted))


def _original_name(item: Item, piece: Piece) -> str:
    return item.known.row.name if piece is item.original else ""


def _source(item: Item, piece: Piece) -> str:
    made = {view.asset.asset_id: view.said for view in item.known.made}
    said = made.get(piece.asset.asset_id)
    return said.source if isinstance(said, Derivation) else ""


def _checker() -> bytes:
    """`verify.py`, which the package has beside this file and a clone where it is made."""
    beside = _HERE.with_name("verify.py")
    return (beside if beside.exists() else _HERE.parents[2] / "packaging" / "kit" / "verify.py").read_bytes()
