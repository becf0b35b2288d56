"""The environment in which a manifest is made (民诉证据规定 93): programs, clock, storage, configuration, errors."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from functools import cache
from pathlib import Path
from typing import Final

from agent import __version__, durable
from agent.changes import seen
from agent.clocks import ClockState
from agent.config.digest import digest_of
from agent.manifest import Json
from agent.model import AssetState
from agent.pipeline.station import Station
from agent.uploader.mounts import mount_of
from agent.vault import Vault

_UNKNOWN: Final = "unknown"


def snapshot(station: Station, clock: ClockState, config: Path, run: int) -> Json:
    """Return what `docs/manifest.md` lists under environment; `run` is the event with which this run began.

    What can't be found out is said to be unknown: it keeps no manifest back.
    """
    return {
        "agent": {"version": __version__, "build_sha256": _build()},
        "system": {**_system(), "kernel": platform.release(), "machine": platform.machine()},
        "python": platform.python_version(),
        "clock": {"synced": clock.synced, "by": clock.by, "rtc_ahead_s": clock.rtc_ahead_s, "step_s": clock.step_s},
        "storage": _storage(station.vault),
        "configuration_sha256": _configuration(config),
        "errors": _errors(station, run),
    }


def _build() -> str:
    """SHA-256 over the sources of the agent, as they lie on the disk."""
    return _build_of(Path(__file__).parents[1])


def _of_sources(folder: Path) -> str:
    whole = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        whole.update(f"{file.relative_to(folder).as_posix()}\n".encode() + file.read_bytes())
    return whole.hexdigest()


_build_of: Final = cache(_of_sources)


def _system() -> Json:
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
        return {"name": release["NAME"], "version": release.get("VERSION_ID", "")}
    return {"name": _UNKNOWN, "version": ""}


def _storage(vault: Vault) -> Json:
    """The filesystem, and how a file that is kept there is protected; None: it has no such flag, or there is none."""
    kind, file = _UNKNOWN, None
    with contextlib.suppress(OSError), durable.opened(vault.originals_dir) as fd:
        kind = mount.kind if (mount := mount_of(fd)) is not None else _UNKNOWN
        file = seen(next((path for _, path, _ in vault.originals()), vault.originals_dir))
    return {"filesystem": kind, "immutable": file and file.immutable, "verity": file and file.verity}


def _configuration(config: Path) -> str:
    with contextlib.suppress(OSError):
        return digest_of(config)
    return _UNKNOWN


def _errors(station: Station, run: int) -> Json:
    """What went wrong since this run began, by kind, and how many originals wait for a person or are in doubt."""
    reader = station.journal.reader
    now = reader.overview(station.clock())
    return {
        "incidents_since_start": reader.incidents_since(run),
        "stuck_originals": now.assets[AssetState.STUCK].files,
        "doubted": now.doubted,
    }
