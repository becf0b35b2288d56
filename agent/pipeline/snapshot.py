"""The environment in which a manifest is made (民诉证据规定 93): programs, clock, storage, configuration, errors."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from functools import cache
from pathlib import Path
from typing import Final

from agent import __version__, durable
from agent.clocks import ClockState
from agent.config.digest import digest_of
from agent.manifest import Json
from agent.model import AssetState
from agent.pipeline.station import Station
from agent.uploader.mounts import mount_of

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
        "storage": {"filesystem": _filesystem(station.vault.originals_dir), "immutable": station.vault.seal},
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


def _filesystem(folder: Path) -> str:
    with contextlib.suppress(OSError), durable.opened(folder) as fd:
        mount = mount_of(fd)
        return mount.kind if mount is not None else _UNKNOWN
    return _UNKNOWN


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
