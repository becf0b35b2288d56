"""Storage in a bucket of an S3-compatible object store."""

from agent.uploader.s3.store import S3Store

__all__ = ["S3Store"]
