"""The words for what a disk or share refuses: what happened there, and what the administrator can do."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.errors import StoreError
from agent.uploader.base import SAFE

MARKER: Final = ".capture-agent-store"
"""The file that proves that the right disk or share is there; an empty mount point has none."""

_BY_ITSELF: Final = "storing goes on by itself."
_NO_ANSWER: Final = ("it does not answer", f"Check the network and the storage; {_BY_ITSELF}")
_NOT_ALLOWED: Final = (
    "the service's user has no right to do this",
    "Let folder and files belong to the user that the storage takes the service for; with root_squash root is nobody.",
)
_WORDS: Final[Mapping[int, tuple[str, str]]] = {
        errno.ENOSPC: ("it is full", f"Give it more room; {_BY_ITSELF}"),
        errno.EDQUOT: ("the quota is used up", f"Have the quota on the storage raised; {_BY_ITSELF}"),
        errno.EROFS: (
            "it can only be read",
            "Look in the system's log why (a disk with errors is made read-only), and mount it writable.",
        ),
        errno.EACCES: _NOT_ALLOWED,
        errno.EPERM: _NOT_ALLOWED,
        errno.ESTALE: ("the storage no longer knows what is open there", "Unmount the share and mount it again."),
        errno.EXDEV: ("parts of the folder are on another disk or share", "Mount all of it as one."),
        errno.EIO: ("reading or writing failed", "Have its disks and the connection checked."),
        errno.ENOTDIR: ("something else lies where a folder should be", "Look what lies there, and move it away."),
        **dict.fromkeys(
            (errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN,
             errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.ENODEV, errno.ENXIO),
            _NO_ANSWER,
        ),
}  # fmt: skip
_GONE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO, errno.EUCLEAN, errno.EBADMSG}
)


def in_words(error: OSError) -> tuple[str, str]:
    """What happened, with the system's own words, and what to do."""
    told = error.strerror or str(error)
    what, do = _WORDS.get(error.errno or 0, ("", "Have the storage checked."))
    return f"{what} ({told})" if what else told, do


def means_lost(error: OSError) -> bool:
    """Whether this says something about one object, and not only that the share can't be reached now."""
    return error.errno in _GONE


def not_taken(name: str, what: str, do: str, *, retry: bool = True) -> StoreError:
    """The store did not take an original."""
    return StoreError(f"The store {name} did not take the original: {what}.", safe=SAFE, do=do, retry=retry)


def away(name: str, what: str, do: str) -> StoreError:
    """The store is not there."""
    return StoreError(f"The store {name} is not there: {what}.", safe=SAFE, do=do)


def no_marker(name: str, root: Path) -> StoreError:
    """The folder is there, and may be an empty mount point."""
    do = f"Mount it. Only if it is mounted and really the store: touch {shlex.quote(os.fspath(root / MARKER))}"
    return away(name, f"{root} has no file {MARKER}, so it may be an empty mount point", do)
