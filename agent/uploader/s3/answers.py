"""Reads what an S3 server answers: XML of bounded length that is believed in nothing but its form."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from agent.errors import StoreError
from agent.uploader.base import SAFE
from agent.uploader.network import as_number


class LockMode(StrEnum):
    """How an object is locked; `governance` may be lifted by who has that right, `compliance` by nobody."""

    COMPLIANCE = "compliance"
    GOVERNANCE = "governance"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object; `version` is empty where the bucket keeps none. `etag` is without quotes."""

    key: str
    version: str
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an upload under way."""

    number: int
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Retention:
    """A lock that is in force."""

    mode: LockMode
    until: datetime

    def __str__(self) -> str:
        return f"{self.mode} until {self.until:%Y-%m-%d}"

    def covers(self, wanted: Retention) -> bool:
        """Whether this lock is at least as strong and long as another."""
        return self.until >= wanted.until and (self.mode == wanted.mode or self.mode is LockMode.COMPLIANCE)


def versions(body: bytes) -> tuple[list[Version], dict[str, str]]:
    """Versions of a ListObjectVersions answer, and what asks for the next page (empty at the end)."""
    root = _root(body, "ListVersionsResult")
    found = [
        Version(_text(item, "Key"), _text(item, "VersionId"), unquoted(_text(item, "ETag")), _number(item, "Size"))
        for item in root.iterfind("{*}Version")
    ]
    return found, _following(root, {"key-marker": "NextKeyMarker", "version-id-marker": "NextVersionIdMarker"})


def parts(body: bytes) -> tuple[list[Part], dict[str, str]]:
    """Parts of a ListParts answer, and what asks for the next page (empty at the end)."""
    root = _root(body, "ListPartsResult")
    found = [
        Part(_number(item, "PartNumber"), unquoted(_text(item, "ETag")), _number(item, "Size"))
        for item in root.iterfind("{*}Part")
    ]
    return found, _following(root, {"part-number-marker": "NextPartNumberMarker"})


def _following(root: ET.Element, markers: Mapping[str, str]) -> dict[str, str]:
    more = _text(root, "IsTruncated") == "true"
    return {asked: _text(root, told) for asked, told in markers.items()} if more else {}


def upload_id(body: bytes) -> str:
    """The name of the upload that CreateMultipartUpload has begun."""
    found = _text(_root(body, "InitiateMultipartUploadResult", "InitiateMultipartUpload"), "UploadId")
    if not found or len(found) > 1024 or not found.isprintable():
        raise MalformedError("it gives no name to the upload")
    return found


def retention(body: bytes) -> Retention:
    """The lock of a GetObjectRetention answer."""
    root = _root(body, "Retention")
    try:
        mode = LockMode(_text(root, "Mode").lower())
        until = datetime.fromisoformat(_text(root, "RetainUntilDate"))
    except ValueError as error:
        raise MalformedError(f"a lock it tells of makes no sense: {error}") from error
    return Retention(mode, until if until.tzinfo else until.replace(tzinfo=UTC))


def locks(body: bytes) -> bool:
    """Whether a GetObjectLockConfiguration answer says that the bucket can lock."""
    return _text(_root(body, "ObjectLockConfiguration"), "ObjectLockEnabled") == "Enabled"


def default_rule(body: bytes) -> str:
    """The lock that the bucket gives by itself, in words; empty if none."""
    rule = _root(body, "ObjectLockConfiguration").find("{*}Rule/{*}DefaultRetention")
    return "" if rule is None else " ".join(item.text or "" for item in rule)


def is_versioned(body: bytes) -> bool:
    """Whether a GetBucketVersioning answer says that nothing is overwritten."""
    return _text(_root(body, "VersioningConfiguration"), "Status") == "Enabled"


def error(body: bytes) -> tuple[str, str] | None:
    """Code and message if a body is an error, even one that came with 200; None if it is something else."""
    try:
        root = _root(body, "Error")
    except StoreError:
        return None
    return _text(root, "Code")[:80], " ".join(_text(root, "Message").split())[:200]


def unquoted(etag: str) -> str:
    """An ETag as it can be compared."""
    return etag.strip().removeprefix("W/").strip('"').lower()


class MalformedError(StoreError):
    """The store answered with something that is not S3."""

    def __init__(self, why: str) -> None:
        do = "Check the address, and what stands between this station and the store."
        super().__init__(f"The store gives an answer that is not S3: {why}.", safe=SAFE, do=do)


def _root(body: bytes, *names: str) -> ET.Element:
    if b"<!" in body or b"\0" in body:  # a document type, also in UTF-16, could make a short answer long
        raise MalformedError("a document type")
    try:
        root = ET.fromstring(body)  # noqa: S314 - bounded in length, and without declarations
    except (ET.ParseError, ValueError) as error:
        raise MalformedError(f"no {names[0]}, {error}") from error
    if root.tag.rpartition("}")[2] not in names:
        raise MalformedError(f"{root.tag.rpartition('}')[2][:80]} instead of {names[0]}")
    return root


def _text(item: ET.Element, name: str) -> str:
    return item.findtext(f"{{*}}{name}") or ""


def _number(item: ET.Element, name: str) -> int:
    found = as_number(_text(item, name))
    if found < 0:
        raise MalformedError(f"{name} is no number")
    return found
