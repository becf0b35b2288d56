"""Looks at S3 stores through boto3: what our own client says must be what another one finds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import boto3
from botocore.client import Config

if TYPE_CHECKING:
    from botocore.client import BaseClient

REGION: Final = "us-east-1"


class Identity(NamedTuple):
    """A user of a store and its keys."""

    name: str
    access_key: str
    secret_key: str


@contextmanager
def s3_client(endpoint: str, user: Identity, ca_file: Path | None = None) -> Iterator[BaseClient]:
    """Give a client that tries once, sends no checksums unasked, takes no proxy and leaves no connection open."""
    s3 = _session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=user.access_key,
        aws_secret_access_key=user.secret_key,
        verify=str(ca_file) if ca_file is not None else None,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={},
            retries={"total_max_attempts": 1},
        ),
    )
    try:
        yield s3
    finally:
        s3.close()


@cache
def _session() -> boto3.session.Session:
    """One for the whole process: it reads megabytes of descriptions of the service, and then knows them."""
    return boto3.session.Session()
