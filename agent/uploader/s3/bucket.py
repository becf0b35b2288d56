"""The few things that are asked of a bucket; there is no verb that removes an original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from agent.model import Digests
from agent.uploader.base import PROBES
from agent.uploader.network import Answer, Body
from agent.uploader.s3 import answers
from agent.uploader.s3.answers import Part, Retention, Version
from agent.uploader.s3.client import Ask, Client, RefusedError
from agent.uploader.source import Tally

T = TypeVar("T")

MAX_PARTS: Final = 1000
_MAX_PAGES: Final = 10
_XMLNS: Final = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Bucket:
    """Requests as functions; all raise StoreError, RefusedError where the store said no."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def locking(self) -> tuple[bool, str, bool]:
        """Whether the bucket says that it locks, for how long by itself, and whether it keeps versions."""
        locks, rule = False, ""
        try:
            body = (await self._get("s3:GetBucketObjectLockConfiguration", "", {"object-lock": ""})).body
            locks, rule = answers.locks(body), answers.default_rule(body)
            body = (await self._get("s3:GetBucketVersioning", "", {"versioning": ""})).body
            return locks, rule, answers.is_versioned(body)
        except RefusedError as error:
            # A store without locks has many words for that; who may not ask has only one.
            if error.code != "ObjectLockConfigurationNotFoundError" and error.status not in {400, 405, 501}:
                raise
        except answers.MalformedError:
            pass
        return locks, rule, False

    async def versions(self, key: str, version: str = "") -> Sequence[Version]:
        """All versions of exactly this key; where listing isn't possible, only `version` or the latest one."""

        def read(body: bytes) -> tuple[list[Version], dict[str, str]]:
            page, following = answers.versions(body)
            is_behind = bool(page) and page[-1].key > key
            return [one for one in page if one.key == key], {} if is_behind else following

        try:
            return await self._pages("s3:ListBucketVersions", "", {"versions": "", "prefix": key}, read)
        except RefusedError as error:
            if error.code == "NoSuchBucket" or not _is_denied(error):
                raise
            return await self._head(key, version, error)

    async def _head(self, key: str, version: str, denied: RefusedError) -> Sequence[Version]:
        query = {"versionId": version} if version else {}
        try:
            answer = await self.client.call(Ask("s3:GetObject", "HEAD", key, query))
        except RefusedError as error:
            if error.status == 404:
                return []
            raise denied from error
        size = answer.number("Content-Length")
        if size < 0:
            raise answers.MalformedError("an object without a size")
        return [Version(key, answer.headers.get("x-amz-version-id", ""), _etag(answer), size)]

    async def put_object(self, key: str, body: Body, size_bytes: int, md5: str, headers: Mapping[str, str]) -> None:
        """Sent once only: whether it arrived after a failure must be looked up."""
        ask = Ask("s3:PutObject", "PUT", key, headers=headers, body=body, size_bytes=size_bytes, md5=md5)
        await self.client.call(ask, tries=1)

    async def create_upload(self, key: str, headers: Mapping[str, str]) -> str:
        """Begin an upload in parts, and give its id."""
        ask = Ask("s3:PutObject", "POST", key, {"uploads": ""}, headers)
        return answers.upload_id((await self.client.call(ask)).body)

    async def parts(self, key: str, upload_id: str) -> Sequence[Part]:
        """The parts that an upload has; its refusal says that it is over, or that we may not know."""
        return await self._pages("s3:ListMultipartUploadParts", key, {"uploadId": upload_id}, answers.parts)

    async def put_part(self, key: str, upload_id: str, number: int, body: Body, size_bytes: int, md5: str) -> None:
        """Send a part, or send it again; raises StoreError if the store got other bytes."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        ask = Ask("s3:PutObject", "PUT", key, query, body=body, size_bytes=size_bytes, md5=md5)
        answer = await self.client.call(ask)
        etag = _etag(answer)
        if etag not in {md5, ""}:  # without one, the object's own ETag will tell
            raise answers.MalformedError(f"part {number} arrived with the digest {etag[:80]} instead of {md5}")

    async def complete(self, key: str, upload_id: str, md5s: Sequence[str], headers: Mapping[str, str]) -> None:
        """Ask to make an object of the parts, once. No answer of it proves anything: look for the version."""
        part = '<Part><PartNumber>{}</PartNumber><ETag>"{}"</ETag></Part>'
        items = "".join(part.format(number, md5) for number, md5 in enumerate(md5s, 1))
        body = f"<CompleteMultipartUpload {_XMLNS}>{items}</CompleteMultipartUpload>".encode()
        ask = Ask("s3:PutObject", "POST", key, {"uploadId": upload_id}, headers, body)
        await self.client.call(ask, tries=1)

    async def retention(self, key: str, version: str) -> Retention | None:
        """The lock that is in force on a version; None if there is none."""
        query = {"retention": "", "versionId": version}
        try:
            return answers.retention((await self._get("s3:GetObjectRetention", key, query)).body)
        except RefusedError as error:
            if error.is_absence or error.code == "InvalidRequest":
                return None
            raise

    async def lock(self, key: str, version: str, wanted: Retention) -> None:
        """Ask for a lock; what came of it must be looked up."""
        lock = f"<Mode>{wanted.mode.name}</Mode><RetainUntilDate>{stamp(wanted.until)}</RetainUntilDate>"
        body = f"<Retention {_XMLNS}>{lock}</Retention>".encode()
        query = {"retention": "", "versionId": version}
        await self.client.call(Ask("s3:PutObjectRetention", "PUT", key, query, body=body))

    async def read(self, found: Version, tally: Tally | None = None) -> tuple[int, Digests] | None:
        """Size and fingerprints of what the store gives back of a version, once; nothing if it says that it has none.

        `tally` gets the bytes. None if we may not read. Raises StoreError if the bytes came from somebody else.
        """
        tally = tally or Tally()
        query = {"versionId": found.version} if found.version else {}
        action = "s3:GetObjectVersion" if found.version else "s3:GetObject"
        try:
            answer = await self.client.call(Ask(action, "GET", found.key, query, sink=tally.add), tries=1)
        except RefusedError as error:
            if error.status == 403:
                return None
            if not error.is_absence:
                raise
        else:
            if _etag(answer) != found.etag:
                raise answers.MalformedError(f"something without the ETag of {found.key}")
        return tally.found()

    async def remove_probe(self, key: str, version: str = "") -> bool:
        """Try to remove what `store check` wrote; whether the store did."""
        assert f"{PROBES}/" in key, "only probes"
        query = {"versionId": version} if version else {}
        try:
            await self.client.call(Ask("s3:DeleteObject", "DELETE", key, query))
        except RefusedError as error:
            if _is_denied(error) or 400 <= error.status < 500:
                return False
            raise
        return True

    async def _pages(
        self, action: str, key: str, query: dict[str, str], read: Callable[[bytes], tuple[list[T], dict[str, str]]]
    ) -> list[T]:
        found: list[T] = []
        for _ in range(_MAX_PAGES):
            page, following = read((await self._get(action, key, query)).body)
            found += page
            if not following:
                return found
            query |= following
        raise answers.MalformedError("a list without an end")

    async def _get(self, action: str, key: str, query: Mapping[str, str]) -> Answer:
        return await self.client.call(Ask(action, "GET", key, query))


def lock_headers(wanted: Retention | None) -> dict[str, str]:
    """What asks for a lock when an object is made; some stores forget it."""
    lock = {"mode": wanted.mode.name, "retain-until-date": stamp(wanted.until)} if wanted else {}
    return {f"x-amz-object-lock-{name}": value for name, value in lock.items()}


def stamp(moment: datetime) -> str:
    """A time as S3 writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_denied(error: RefusedError) -> bool:
    """Whether our rights or the store's abilities don't reach, rather than our credentials."""
    known = {"AccessDenied", "MethodNotAllowed", "NotImplemented"}
    return error.code in known if error.code else error.status in {403, 405, 501}


def _etag(answer: Answer) -> str:
    return answers.unquoted(answer.headers.get("ETag", ""))
