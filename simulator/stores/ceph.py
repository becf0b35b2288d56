"""A one-node Ceph with its S3 gateway on loopback: the store with object lock that tests, demo and bench upload to.

`python -m simulator.stores.ceph --folder F` keeps one running for a person, who can kill and restart the gateway.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import subprocess
import sys
import threading
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from botocore.exceptions import ClientError

from simulator.stores.certificates import Certificates
from simulator.stores.cluster import Cluster
from simulator.stores.oracle import Identity, s3_client
from simulator.stores.processes import HOST, NotInstalledError, ServerError, Servers, free_port, program

if TYPE_CHECKING:
    from botocore.client import BaseClient

__all__ = ["ADMIN", "AUDITOR", "UPLOADER", "Ceph", "Identity", "LockMode", "Retention", "Version", "uploader_policy"]

_NAME: Final = "client.rgw.one"

# Objects that are gone free their memory after seconds, not hours. Without a cache there is no gateway to be told of
# changes: one that was killed would be waited for, 30 s long, by whoever changes a user or a quota.
_GATEWAY_CONF: Final = """\
[{name}]
rgw_data = {folder}
rgw_frontends = beast endpoint={host}:{port} ssl_endpoint={host}:{tls_port} ssl_certificate={certificate}
rgw_dns_name = localhost
rgw_thread_pool_size = 64
rgw_cache_enabled = false
rgw_gc_obj_min_wait = 2
rgw_gc_processor_period = 5
rgw_gc_processor_max_time = 5
"""

_MAY_OBJECT: Final = ("PutObject", "ListMultipartUploadParts", "PutObjectRetention", "GetObjectRetention")
_MAY_BUCKET: Final = ("ListBucketVersions", "GetBucketObjectLockConfiguration", "GetBucketVersioning")
# Without a word against it, who put an object owns it, and may read it.
_MUST_NOT: Final = (
    "GetObject", "GetObjectVersion", "GetObjectAcl", "GetObjectVersionAcl", "DeleteObject", "DeleteObjectVersion",
    "PutObjectAcl", "PutObjectVersionAcl", "AbortMultipartUpload", "BypassGovernanceRetention",
)  # fmt: skip


ADMIN: Final = Identity("admin", "ADMINKEY", "adminsecret")
"""Owns the buckets."""
UPLOADER: Final = Identity("uploader", "UPKEY", "upsecret")
"""May put and prove, by the policy of the bucket; may not make buckets."""
AUDITOR: Final = Identity("auditor", "AUDKEY", "audsecret")
"""Reads everything."""


class LockMode(StrEnum):
    """How firmly a version is locked."""

    GOVERNANCE = "GOVERNANCE"
    COMPLIANCE = "COMPLIANCE"


class Version(NamedTuple):
    """One version of an object, as the store lists it; the ETag without quotes."""

    key: str
    version_id: str
    etag: str
    size_bytes: int
    is_latest: bool


class Retention(NamedTuple):
    """The lock in force on a version."""

    mode: LockMode
    until: datetime


_TRIES: Final = 3
"""Ceph 16's gateway sometimes crashes while one of its threads reads the configuration that another one still makes."""


class Ceph:
    """Context manager around one Ceph in a new folder; all its processes end with ours.

    `endpoint` is plain HTTP, `tls_endpoint` HTTPS with a certificate of `certificates`. `admin_keys`, `uploader_keys`
    and `auditor_keys` are its users. Data is in memory, or in a file if `on_disk`. Raises NotInstalledError and
    ServerError. What administers and looks behind the store is boto3 and radosgw-admin, never our own client.
    """

    admin_keys = ADMIN
    uploader_keys = UPLOADER
    auditor_keys = AUDITOR

    def __init__(
        self, folder: Path, *, port: int | None = None, on_disk: bool = False, size_bytes: int = 8 << 30
    ) -> None:
        for name in ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph"):
            program(name)
        self.folder = folder.absolute()
        self.port = port or free_port()
        self.tls_port = free_port()
        self.endpoint = f"http://{HOST}:{self.port}"
        self.tls_endpoint = f"https://{HOST}:{self.tls_port}"
        self._on_disk = on_disk
        self._size_bytes = size_bytes
        self._gateway: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise ServerError(f"{self.folder} is not empty")
        self.certificates = Certificates(self.folder / "tls")
        with ExitStack() as undo:
            self._servers = Servers(self.folder / "log")
            undo.callback(self._servers.close)
            self._cluster = Cluster(self.folder, self._servers, on_disk=self._on_disk, size_bytes=self._size_bytes)
            self._cluster.start(
                _GATEWAY_CONF.format(
                    name=_NAME, folder=self.folder, host=HOST, port=self.port, tls_port=self.tls_port,
                    certificate=self.certificates.server_file,
                )
            )  # fmt: skip
            self.start_gateway()
            self._make_users()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    # The gateway: what a client sees of the store.

    @property
    def gateway_pid(self) -> int | None:
        """Process id of the running gateway."""
        return self._gateway.pid if self._gateway is not None and self._gateway.poll() is None else None

    def start_gateway(self, **options: str | int) -> None:
        """Start the gateway and wait until it answers; `options` are Ceph's, as `rgw_max_concurrent_requests=1`."""
        given = [f"--{name}={value}" for name, value in options.items()]
        with self._changing:
            if self.gateway_pid is not None:
                raise ServerError("the gateway is running")
            for tries_left in reversed(range(_TRIES)):
                self._gateway = self._servers.start(
                    program("radosgw"), "-c", self._cluster.conf, "-n", _NAME, "-f", *given
                )
                try:
                    self._servers.wait_until(self._answers, "the gateway of Ceph")
                    break
                except ServerError:
                    if tries_left == 0 or self.gateway_pid is not None:
                        raise

    def kill_gateway(self) -> None:
        """End the gateway by SIGKILL; one that has ended already is fine."""
        self._end_gateway(signal.SIGKILL)

    def stop_gateway(self) -> None:
        """Let the gateway finish what it is doing, and end."""
        self._end_gateway(signal.SIGTERM)

    # Buckets and users.

    def make_bucket(
        self,
        name: str,
        *,
        lock: bool = True,
        default_days: int | None = None,
        mode: LockMode = LockMode.COMPLIANCE,
        policy: bool = True,
    ) -> None:
        """Make a bucket, versioned if it can `lock`, that the uploader may write to but not read or remove from.

        With `default_days` each new version is locked for that long without being asked.
        """
        with self.client(ADMIN) as s3:
            s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)
            if default_days is not None:
                rule = {"DefaultRetention": {"Mode": mode.value, "Days": default_days}}
                s3.put_object_lock_configuration(
                    Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
                )
            if policy:
                s3.put_bucket_policy(Bucket=name, Policy=json.dumps(uploader_policy(name)))

    def admin(self, *arguments: str) -> Any:  # noqa: ANN401
        """Run radosgw-admin and return what it prints, parsed if it is JSON; raises ServerError."""
        printed = self._cluster.call("radosgw-admin", "-n", _NAME, *arguments)
        try:
            return json.loads(printed)
        except ValueError:
            return printed

    def set_quota(self, bucket: str, max_bytes: int) -> None:
        """Refuse what would make a bucket larger than `max_bytes` (QuotaExceeded); negative takes the limit off."""
        self.admin("quota", "set", "--quota-scope=bucket", f"--bucket={bucket}", f"--max-size={max_bytes}")
        self.admin("quota", "enable", "--quota-scope=bucket", f"--bucket={bucket}")

    def suspend(self, user: Identity) -> None:
        """Refuse all requests of a user (UserSuspended)."""
        self.admin("user", "suspend", f"--uid={user.name}")

    def resume(self, user: Identity) -> None:
        """Undo `suspend`."""
        self.admin("user", "enable", f"--uid={user.name}")

    # Looking behind the store, past our own client.

    def versions(self, bucket: str, prefix: str = "") -> list[Version]:
        """List all versions of a bucket; marks of deletion are not versions."""
        with self.client(ADMIN) as s3:
            pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
            return [
                Version(one["Key"], one["VersionId"], one["ETag"].strip('"'), one["Size"], one["IsLatest"])
                for page in pages
                for one in page.get("Versions", [])
            ]

    def uploads(self, bucket: str) -> list[tuple[str, str]]:
        """List multipart uploads that were begun and not completed, as (key, upload id)."""
        with self.client(ADMIN) as s3:
            pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
            return [(one["Key"], one["UploadId"]) for page in pages for one in page.get("Uploads", [])]

    def read(self, bucket: str, key: str, version_id: str) -> bytes:
        """Read a whole version as the auditor."""
        with self.client(AUDITOR) as s3:
            body = s3.get_object(Bucket=bucket, Key=key, VersionId=version_id)["Body"].read()
        assert isinstance(body, bytes)
        return body

    def retention(self, bucket: str, key: str, version_id: str) -> Retention | None:
        """Return the lock in force on a version."""
        with self.client(AUDITOR) as s3:
            try:
                found = s3.get_object_retention(Bucket=bucket, Key=key, VersionId=version_id)["Retention"]
            except ClientError as error:
                if error.response["Error"]["Code"] not in {
                    "NoSuchObjectLockConfiguration",
                    "ObjectLockConfigurationNotFoundError",
                }:
                    raise
                return None
        return Retention(LockMode(found["Mode"]), found["RetainUntilDate"])

    def remove_version(self, bucket: str, key: str, version_id: str) -> None:
        """Lose a version, even a locked one, as only the administrator of the storage can."""
        self.admin("object", "rm", f"--bucket={bucket}", f"--object={key}", f"--object-version={version_id}")

    def client(self, user: Identity, endpoint: str | None = None) -> AbstractContextManager[BaseClient]:
        """Give an S3 client of boto3, for this store or for what stands before it."""
        return s3_client(endpoint or self.endpoint, user, self.certificates.ca_file)

    def _make_users(self) -> None:
        for user, more in ((ADMIN, ()), (UPLOADER, ("--max-buckets=-1",)), (AUDITOR, ("--system",))):
            keys = (f"--access-key={user.access_key}", f"--secret={user.secret_key}")
            self.admin("user", "create", f"--uid={user.name}", f"--display-name={user.name}", *keys, *more)

    def _answers(self) -> bool:
        self._cluster.tend()
        if self.gateway_pid is None:
            raise ServerError(f"the gateway has ended: {self._servers.said()}")
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status < 500
        except OSError:
            return False
        finally:
            connection.close()

    def _end_gateway(self, number: signal.Signals) -> None:
        with self._changing:
            if self._gateway is not None:
                self._servers.stop(self._gateway, number)
                self._gateway = None


def uploader_policy(bucket: str) -> dict[str, object]:
    """Return the policy of a bucket that lets the uploader write and prove, and nothing else."""
    objects, itself = f"arn:aws:s3:::{bucket}/*", f"arn:aws:s3:::{bucket}"

    def statement(effect: str, actions: tuple[str, ...], resource: str) -> dict[str, object]:
        who = {"AWS": [f"arn:aws:iam:::user/{UPLOADER.name}"]}
        named = [f"s3:{action}" for action in actions]
        return {"Effect": effect, "Principal": who, "Action": named, "Resource": [resource]}

    statements = [
        statement("Allow", _MAY_OBJECT, objects),
        statement("Allow", _MAY_BUCKET, itself),
        statement("Deny", _MUST_NOT, objects),
    ]
    return {"Version": "2012-10-17", "Statement": statements}


_WELCOME: Final = """\
endpoint   {endpoint}
TLS        {tls_endpoint}  (trust {ca})
bucket     {bucket}  (object lock, every version locked for one day)
admin      {admin.access_key} / {admin.secret_key}
uploader   {uploader.access_key} / {uploader.secret_key}
auditor    {auditor.access_key} / {auditor.secret_key}
radosgw-admin -c {conf} -n {name} ...

Type "kill" to kill the gateway as a power cut would (or: kill -9 {pid}), "start" to start it again. Ctrl-C ends all.
"""


def _obey(ceph: Ceph, word: str) -> str:
    match word:
        case "kill":
            ceph.kill_gateway()
            return "killed; clients can't connect now"
        case "start" if ceph.gateway_pid is None:
            ceph.kill_gateway()
            ceph.start_gateway()
            return f"answers again, as process {ceph.gateway_pid}"
        case "start":
            return "it is running"
    return 'type "kill" or "start"; Ctrl-C ends all'


def main() -> None:
    """Keep a store running until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m simulator.stores.ceph", description=main.__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for everything")
    parser.add_argument("--port", type=int, help="port of the plain endpoint (default: a free one)")
    parser.add_argument("--bucket", default="evidence", help="bucket to make (default: %(default)s)")
    parser.add_argument("--on-disk", action="store_true", help="keep the data in a file instead of in memory")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Ceph(given.folder, port=given.port, on_disk=given.on_disk) as ceph:
            ceph.make_bucket(given.bucket, default_days=1)
            print(
                _WELCOME.format(
                    endpoint=ceph.endpoint, tls_endpoint=ceph.tls_endpoint, ca=ceph.certificates.ca_file,
                    bucket=given.bucket, admin=ADMIN, uploader=UPLOADER, auditor=AUDITOR,
                    conf=ceph.folder / "ceph.conf", name=_NAME, pid=ceph.gateway_pid,
                ),
                flush=True,
            )  # fmt: skip
            for line in sys.stdin:
                print(_obey(ceph, line.strip()), flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("ended")
    except (NotInstalledError, ServerError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
