"""Verifies by reading: the log and its tables, signatures and manifests, every file here, every copy at the centre."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from agent import journal as log
from agent.errors import EvidenceError, StoreError, UnknownError
from agent.journal import Reader
from agent.journal.views import CheckpointView
from agent.manifest import contradictions, verified
from agent.model import DERIVED_ROLES, SEAL_ROLES, Asset, AssetState, Receipt, Role, Sealing
from agent.pipeline.checkpoints import verifiers
from agent.pipeline.rereading import read_all
from agent.pipeline.rotation import rotation_text
from agent.pipeline.verify_place import Place, Places
from agent.states import is_kept
from agent.tlog.checkpoint import opened
from agent.tlog.keys import Verifier
from agent.tlog.note import Note
from agent.tlog.texts import NoteError
from agent.tlog.witness import cosigned
from agent.uploader.base import Store
from agent.vault import Vault

_PAGE: Final = 50
REFUSED: Final = "checkpoint-refused"
OBJECTS: Final = "witness-objects"
"""Kinds of incidents: what the centre and witnesses say against a checkpoint."""

_TOLD_LIMIT: Final = 1000

Tell = Callable[[str, int, int], None]
"""Called with what is being checked, how much of it is done, and how much there is: events, or bytes."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is checked besides the log: `files` here, copies at the `centre`; only of one recording, if it is named."""

    files: bool = True
    centre: bool = True
    recording_id: str = ""


@dataclass(slots=True)
class Report:
    """What was checked, and the first thousand of the differences that were `found`, as sentences.

    Of `stored` copies the store proved again that it has them; `read_back` of these by reading them. `checkpoints` and
    `manifests` are signed by this station's keys, and hold; the store has proved `deposited` of the checkpoints, and
    witnesses have signed `cosigned` of them.
    `resumed`: what an earlier call had checked is counted too. `notes` tell what only a person can judge.
    """

    events: int = 0
    checkpoints: int = 0
    originals: int = 0
    manifests: int = 0
    stored: int = 0
    read_back: int = 0
    checked_bytes: int = 0
    deposited: int = 0
    cosigned: int = 0
    found: int = 0
    resumed: bool = False
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing differs."""
        return not self.found

    def tell(self, problem: str) -> None:
        """Something is not as it was recorded."""
        self.found += 1
        if len(self.problems) < _TOLD_LIMIT:
            self.problems.append(problem)


_ALL: Final = Scope()


async def verify(
    journal: Path, vault: Vault, store: Store, tell: Tell, *,
    scope: Scope = _ALL, resume: bool = False, witnesses: Sequence[Verifier] = (),
) -> Report:  # fmt: skip
    """Check the log, and what else the scope has, by reading it again; changes nothing but a note of how far it is.

    `witnesses` are those that our log is shown to. `resume`: go on where a call with the same scope was interrupted, if
    the log still begins with what that had seen.
    """
    places = Places(vault.root)
    place = places.recall() if resume else None
    chain = log.verify(journal, sizes=[place.events] if place else (), progress=partial(tell, "events"))
    report = Report(chain.events, chain.checkpoints, found=chain.found)
    report.problems += [f"{difference.where}: {difference.what}" for difference in chain.differences]
    if place is not None and (place.scope, place.root) == (repr(scope), chain.roots[place.events].hex()):
        _go_on(report, place)
    else:
        place = None
    with contextlib.closing(Reader(journal)) as reader:
        if scope.recording_id:
            scope = replace(scope, recording_id=reader.recording(scope.recording_id).recording.recording_id)
        root = reader.log_root(chain.events).hex()

        def reached(stage: str, after: str) -> None:
            place = partial(Place, repr(scope), stage, after, chain.events, root)
            counts = (report.originals, report.manifests, report.stored, report.read_back, report.checked_bytes)
            places.keep(place(*counts, tuple(report.problems[len(chain.differences) :])))

        check = _Check(reader, vault, store, scope, report, tell)
        check.signatures(witnesses)
        if scope.files and (place is None or place.stage == "files"):
            check.files(place.after if place else "", partial(reached, "files"))
        if scope.centre:
            await check.centre(place.after if place and place.stage == "centre" else "", partial(reached, "centre"))
    places.forget()
    return report


def _go_on(report: Report, place: Place) -> None:
    report.originals, report.manifests = place.originals, place.manifests
    report.stored, report.read_back, report.checked_bytes = place.stored, place.read_back, place.checked_bytes
    report.resumed = True
    for problem in place.problems:
        report.tell(problem)


class _Check:
    """One walk over everything that the scope has."""

    def __init__(self, reader: Reader, vault: Vault, store: Store, scope: Scope, report: Report, tell: Tell) -> None:
        self._reader = reader
        self._vault = vault
        self._store = store
        self._scope = scope
        self._report = report
        self._tell = tell
        self._ours: Sequence[Verifier] = ()
        self._rotated: dict[str, int] = {}
        self._lock = threading.Lock()

    def signatures(self, witnesses: Sequence[Verifier]) -> None:
        """Every checkpoint is signed by a key that signed at that time, in the name of the log's first one.

        What is said to be of one of our witnesses is, and none of them objects to what it was shown last.
        """
        origin, seen = "", 0
        for one in self._checkpoints():
            try:
                if not origin:
                    origin = one.note.partition("\n")[0]
                    self._keys(verifiers(self._reader, origin))
                note = Note.parse(one.note.encode())
                opened(note, origin, self._trusted(one.seq))
                if cosigned(note, witnesses):
                    self._report.cosigned, seen = self._report.cosigned + 1, one.number
            except (NoteError, ValueError) as error:
                self._report.tell(f"checkpoint {one.number}: {error}")
        for number, at in self._reader.objections(OBJECTS).items():
            if number > seen:
                what = f"a witness objects, which has seen another log, first at {_shown(at)}"
                self._report.tell(f"checkpoint {number}: {what}")

    def _keys(self, ours: Sequence[Verifier]) -> None:
        """Each key follows the one before by a note that both signed; one that was lost can't have signed."""
        self._ours = ours
        by_public = {verifier.key.public.hex(): verifier.key for verifier in ours}
        for one in self._reader.announced_keys()[1:]:
            if one.rotation is None:
                what = "another key signs from here on, and none before it signed that: compare its fingerprint"
                self._report.notes.append(f"event {one.seq}: {what}")
                continue
            old, new = by_public.get(one.rotation.old), by_public[one.rotation.new]
            self._rotated[one.rotation.old] = one.seq
            try:
                note = Note.parse(one.rotation.note.encode())
                holds = old is not None and note.text == rotation_text(old, new) and {old, new} <= note.verified(ours)
            except NoteError:
                holds = False
            if not holds:
                self._report.tell(f"event {one.seq}: the keys did not both sign that one follows the other")

    def _trusted(self, seq: int) -> list[Verifier]:
        """The keys whose signatures count in event `seq`: one that was followed by another signs no more."""
        return [one for one in self._ours if seq < self._rotated.get(one.key.public.hex(), seq + 1)]

    def files(self, after: str, reached: Callable[[str], None]) -> None:
        """Read every file that is here, and see what else lies among them."""
        done, total = _sizes(self._here(""), after)

        def moved(got: int) -> None:
            nonlocal done
            with self._lock:
                done += got
                self._tell("files", done, total)

        with contextlib.closing(read_all(self._vault, self._here(after), moved)) as files:
            for asset, error in files:
                self._settle(asset, error)
                reached(asset.asset_id)
        self._absent()
        if not self._scope.recording_id:
            self._strays()

    def _settle(self, asset: Asset, error: EvidenceError | None) -> None:
        if error is not None:
            if self._reader.asset(asset.asset_id).state is AssetState.RELEASED:
                return  # freed while this was running: the log says so, and the store has it
            since = _shown(self._reader.last_good(asset.asset_id))
            self._report.tell(f"{asset.asset_id}: {error.what} It was as recorded when it was last read, {since}.")
            return
        assert asset.size_bytes is not None
        self._report.originals += 1
        self._report.checked_bytes += asset.size_bytes
        if asset.role is Role.MANIFEST:
            self._manifest(asset)

    def _manifest(self, asset: Asset) -> None:
        """Its file is as it was recorded; whether it is signed, and says of each file what the log says."""
        assert asset.digests is not None
        told = self._reader.document(asset.asset_id)
        try:
            manifest, _ = verified(self._vault.address(asset.digests.blake3).read_bytes(), self._trusted(told.seq))
        except (NoteError, OSError) as error:
            self._report.tell(f"{asset.asset_id}: the manifest is not valid: {error}")
            return
        known = []
        for one in manifest.assets:
            with contextlib.suppress(UnknownError):
                known.append(self._reader.asset(one.asset_id))
        wrong = contradictions(manifest, asset.recording_id, known)
        if any(one.role is Role.ORIGINAL and one.recording_id != asset.recording_id for one in known):
            wrong.append("it lists the original of another recording")
        if told.said != Sealing(manifest.number, manifest.covers, manifest.previous):
            wrong.append("the log tells of another number, or of another manifest before it")
        for what in wrong:
            self._report.tell(f"{asset.asset_id}: manifest {manifest.number} of {asset.recording_id}: {what}")
        self._report.manifests += not wrong

    async def centre(self, after: str, reached: Callable[[str], None]) -> None:
        """Have the store prove what its receipts say, by reading it back where it lets us."""
        done, total = _sizes(self._stored(""), after)
        for asset in self._stored(after):
            assert asset.receipt is not None
            if (was_read := await self._prove(asset.asset_id, asset.receipt)) is not None:
                self._report.stored += 1
                self._report.read_back += was_read
            done += asset.expected_bytes
            self._tell("copies", done, total)
            reached(asset.asset_id)
        if not self._scope.recording_id:
            refused = self._reader.objections(REFUSED)
            for one in self._checkpoints():
                if one.receipt is not None:
                    await self._deposited(one, one.receipt)
                elif one.number in refused:
                    since = _shown(refused[one.number])
                    self._report.tell(
                        f"checkpoint {one.number}: refused by the store, which has another, first at {since}"
                    )

    async def _deposited(self, one: CheckpointView, receipt: Receipt) -> None:
        """What nobody here can set back is, under its number, what was signed here."""
        name, signed = f"checkpoint {one.number}", hashlib.sha256(one.signed.encode()).hexdigest()
        if receipt.digests.sha256 != signed or not receipt.object.endswith(f"/{one.number:08}"):
            self._report.tell(f"{name}: the receipt is of {receipt.object}, whose bytes are not what was signed here")
        elif await self._prove(name, receipt) is not None:
            self._report.deposited += 1

    async def _prove(self, name: str, receipt: Receipt) -> bool | None:
        """Whether it was read back; None, with what is wrong told, if the store doesn't prove it."""
        try:
            return await self._store.check(receipt, read=True)
        except (EvidenceError, StoreError) as error:
            self._report.tell(f"{name}: {error.what} The store confirmed it at {_shown(receipt.confirmed_at)}.")
            return None

    def _checkpoints(self) -> Iterator[CheckpointView]:
        after = 0
        while page := self._reader.checkpoints(after, _PAGE):
            yield from page
            after = page[-1].number

    def _known(self, after: str = "") -> Iterator[Asset]:
        """Every original that was ever held, whatever state it is in now, every document, and all that was made."""
        while page := self._reader.known_bytes(after, _PAGE, self._scope.recording_id):
            yield from page
            after = page[-1].asset_id

    def _here(self, after: str) -> Iterator[Asset]:
        return (one for one in self._known(after) if is_kept(one) and one.state is not AssetState.RELEASED)

    def _stored(self, after: str) -> Iterator[Asset]:
        return (one for one in self._known(after) if one.receipt is not None)

    def _absent(self) -> None:
        """What should be here, by its state; what the agent makes itself is made again."""
        for asset in self._known():
            if is_kept(asset):
                continue
            if asset.role is Role.ORIGINAL and asset.receipt is None:
                self._report.tell(f"{asset.asset_id}: was damaged here and is wanted again from its recorder")
            elif asset.role not in {Role.ORIGINAL, *DERIVED_ROLES, *SEAL_ROLES} and asset.state is AssetState.STUCK:
                self._report.tell(f"{asset.asset_id}: a document that is not here: {asset.reason}")

    def _strays(self) -> None:
        """Originals without a row: they are kept, and the service adopts them at its next start; and what is none."""
        for digest, _, _ in self._vault.originals():
            if self._reader.asset_by_blake3(digest, tuple(AssetState)) is None:
                self._report.tell(f"{digest}: in the vault without a row; the service adopts it at its next start")
        for path in self._vault.strangers():
            self._report.tell(f"{path}: is no original, and was not put there by the agent")


def _sizes(assets: Iterable[Asset], after: str) -> tuple[int, int]:
    """Bytes up to the asset `after`, and of all."""
    done = total = 0
    for asset in assets:
        total += asset.expected_bytes
        if asset.asset_id <= after:
            done = total
    return done, total


def _shown(time: datetime | None) -> str:
    return time.isoformat(timespec="seconds") if time is not None else "nobody knows when"
