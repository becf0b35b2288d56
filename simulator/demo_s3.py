"""The demo's store that is a bucket: a real Ceph with Object Lock, looked into by boto3, never by our own client."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from simulator import proof
from simulator.recorders import Original
from simulator.show import Show
from simulator.stage import DemoError, Stage
from simulator.stores.ceph import ADMIN, AUDITOR, UPLOADER, Ceph, Identity, LockMode, Version
from simulator.stores.processes import NotInstalledError, ServerError

BUCKET: Final = "evidence"
LOCK_DAYS: Final = 180
RATE_BYTES_S: Final = 16_000_000
"""What the agent may send per second, so that there is a half-way; Ceph on one machine would be too quick."""
MEMORY_BYTES: Final = 4 << 30
"""With less memory free than this, Ceph keeps its data in a file, which takes longer to start."""
FORBIDDEN: Final = 403
_WHO: Final[Mapping[Identity, str]] = {
    UPLOADER: "the uploader", ADMIN: "the owner of the bucket", AUDITOR: "the system's own user",
}  # fmt: skip


class Part(NamedTuple):
    """A part of an upload under way, as the server lists it."""

    number: int
    size_bytes: int
    modified_at: datetime


@contextlib.contextmanager
def ceph_store(stage: Stage, show: Show) -> Iterator[CephStore]:
    """Start Ceph and make the bucket; raises DemoError if it can't be, or later if it can't be asked."""
    try:
        show.step("存储", "A Ceph of one node starts on loopback, and IT makes a bucket with Object Lock")
        with Ceph(stage.root / "ceph", on_disk=_free_memory_bytes() < MEMORY_BYTES) as ceph:
            ceph.make_bucket(BUCKET, default_days=LOCK_DAYS)
            store = CephStore(ceph, stage)
            store.introduce(show)
            yield store
    except (NotInstalledError, ServerError, BotoCoreError, ClientError) as error:
        raise DemoError(f"Ceph: {error}") from error


def _free_memory_bytes() -> int:
    found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


class CephStore:
    """A bucket whose uploader may write, and neither read nor remove."""

    kind = "s3"

    def __init__(self, ceph: Ceph, stage: Stage) -> None:
        self._ceph = ceph
        self._stage = stage
        credentials = stage.root / "uploader.credentials"
        credentials.touch(0o600)
        credentials.write_text(
            f"[default]\naws_access_key_id = {UPLOADER.access_key}\naws_secret_access_key = {UPLOADER.secret_key}\n"
        )
        self.options: Mapping[str, str | int] = {
            "endpoint": ceph.tls_endpoint,
            "ca_file": str(ceph.certificates.ca_file),
            "bucket": BUCKET,
            "credentials_file": str(credentials),
            "lock_mode": "compliance",
            "lock_days": LOCK_DAYS,
            "rate_limit_bytes_s": RATE_BYTES_S,
        }

    def introduce(self, show: Show) -> None:
        """Say what it is."""
        show.say(f"gateway {self._ceph.tls_endpoint}, process {self.pid}; bucket {BUCKET}, every version locked")
        show.say(f"the agent is its user `{UPLOADER.name}`, who may write, and neither read nor remove")
        show.say(f"the agent's options: {' '.join(f'{name}={value}' for name, value in self.options.items())}")

    # The server: what can fail.

    @property
    def server(self) -> CephStore:
        """Itself."""
        return self

    @property
    def pid(self) -> int | None:
        """Process of the gateway; None if it is gone."""
        return self._ceph.gateway_pid

    def kill(self) -> None:
        """End the gateway as a power cut would."""
        self._ceph.kill_gateway()

    def start(self) -> None:
        """Start the gateway again."""
        self._ceph.kill_gateway()
        self._ceph.start_gateway()

    def parts(self, original: Original) -> list[Part]:
        """The parts that the server lists for the upload of an original (ListParts); empty if there is none."""
        key = _key(original)
        uploads = [upload for name, upload in self._ceph.uploads(BUCKET) if name == key]
        with self._ceph.client(AUDITOR) as s3:
            pages = [
                page
                for upload in uploads
                for page in s3.get_paginator("list_parts").paginate(Bucket=BUCKET, Key=key, UploadId=upload)
            ]
        listed = [part for page in pages for part in page.get("Parts", [])]
        return [Part(part["PartNumber"], part["Size"], part["LastModified"]) for part in listed]

    def log_bytes(self) -> int:
        """How long the gateway's log is now."""
        return (self._ceph.folder / "log").stat().st_size

    def received(self, original: Original, since_bytes: int) -> list[int]:
        """Numbers of the parts that the gateway has received since, from its log of requests."""
        with (self._ceph.folder / "log").open("rb") as log:
            log.seek(since_bytes)
            text = log.read().decode("ascii", "replace")
        asked = rf'"PUT /{BUCKET}/{_key(original)}\?(?:\S*&)?partNumber=(\d+)\S* HTTP/1\.1" 200 '
        return sorted(int(number) for number in re.findall(asked, text))

    # Proofs.

    def prove(self, originals: Sequence[Original], locked_until: Mapping[str, str | None], show: Show) -> None:
        """As the auditor, with boto3, `sha256sum` and `b3sum`."""
        versions = self._ceph.versions(BUCKET, "originals/")
        expected = sorted({_key(original) for original in originals})
        show.claim(
            f"the bucket has each of {len(expected)} files exactly once, in one version, and nothing else",
            sorted(version.key for version in versions),
            expected,
        )
        show.claim(
            "no upload is left half-way, no mark of deletion", (self._ceph.uploads(BUCKET), self._marks()), ([], 0)
        )
        self._prove_bytes(originals, versions, show)
        until = self._prove_locks(versions, locked_until, show)
        for user, who in _WHO.items():
            refusals = self._statuses(user, "delete_object", versions, BypassGovernanceRetention=True)
            show.claim(f"deleting a version is refused to {who} until {until} (403)", refusals, {FORBIDDEN})
        reading = self._statuses(UPLOADER, "get_object", versions)
        show.claim("the uploader may not read what it wrote (403)", reading, {FORBIDDEN})

    def _prove_bytes(self, originals: Sequence[Original], versions: Sequence[Version], show: Show) -> None:
        folder = self._stage.root / "auditor"
        with self._ceph.client(AUDITOR) as s3:
            for version in versions:
                path = folder.joinpath(*version.key.split("/")[1:])
                path.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(BUCKET, version.key, str(path), ExtraArgs={"VersionId": version.version_id})
        for tool in ("sha256sum", "b3sum"):
            wrong = proof.differs(tool, folder, originals, self._stage.root / f"store.{tool}")
            show.claim(f"every version, downloaded, is what was brought in or made of it ({tool} --check)", wrong, "")
        shutil.rmtree(folder)

    def _prove_locks(self, versions: Sequence[Version], locked_until: Mapping[str, str | None], show: Show) -> str:
        """Claim that each version is locked as the agent says; the earliest day."""
        told = {_name(version): datetime.fromisoformat(locked_until[_name(version)] or "") for version in versions}
        found = {_name(one): self._ceph.retention(BUCKET, one.key, one.version_id) for one in versions}
        day = f"{min(told.values()):%Y-%m-%d}"
        modes = {lock and lock.mode for lock in found.values()}
        show.claim(f"every version is locked, mode {LockMode.COMPLIANCE.value}", modes, {LockMode.COMPLIANCE})
        dates = {name: lock and lock.until for name, lock in found.items()}
        show.claim(f"the lock in force ends when the agent says: {day}", dates, told)
        return day

    def _marks(self) -> int:
        with self._ceph.client(ADMIN) as s3:
            pages = s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix="originals/")
            return sum(len(page.get("DeleteMarkers", [])) for page in pages)

    def _statuses(self, user: Identity, verb: str, versions: Sequence[Version], **more: bool) -> set[int]:
        """The HTTP statuses that a user gets who asks something of each version."""
        found = set()
        with self._ceph.client(user) as s3:
            for version in versions:
                try:
                    answer = getattr(s3, verb)(Bucket=BUCKET, Key=version.key, VersionId=version.version_id, **more)
                except ClientError as error:
                    answer = error.response
                found.add(int(answer["ResponseMetadata"]["HTTPStatusCode"]))
        return found


def _key(original: Original) -> str:
    return f"originals/{original.blake3[:2]}/{original.blake3}"


def _name(version: Version) -> str:
    return version.key.rpartition("/")[2]
