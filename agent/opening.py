"""Opens what a station works with: its journal, its vault, and the store that the configuration names."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from agent.config import Config
from agent.deadline import Rules
from agent.errors import ConfigError
from agent.journal import Journal
from agent.model import Clock
from agent.pipeline import limits
from agent.pipeline.station import Station
from agent.uploader.base import Store
from agent.vault import Vault

_DISK_THREADS: Final = 8


@contextlib.asynccontextmanager
async def opened(config: Config, clock: Clock) -> AsyncIterator[Station]:
    """Open everything a station works with; raises ConfigError, StoreError or JournalError with what to do."""
    _check_owner(config.storage.root)
    vault = Vault(config.storage.root, seal=config.storage.seal)
    rules = Rules(config.profile, config.calendars)
    with ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="disk") as disk:
        async with (
            opened_store(config, clock) as store,
            Journal.open(config.storage.root / "journal.db", clock) as journal,
        ):
            reserve_bytes, hours, owned = config.storage.reserve_bytes, config.store.hours, config.inventory
            station = Station(journal, vault, store, rules, clock, config.runner, reserve_bytes, disk, hours, owned)
            if config.refused:
                await limits.doubt(station)
            yield station


def _check_owner(root: Path) -> None:
    """What one user writes into the vault another one could not read: only the owner works there."""
    try:
        owner = root.stat().st_uid
    except FileNotFoundError:
        return  # whoever makes it owns it
    except PermissionError:
        owner = -1
    if owner != os.geteuid():
        name = "somebody else" if owner < 0 else _name_of(owner)
        raise ConfigError(
            f"The storage {root} belongs to {name}, not to the user who runs this.",
            safe="Nothing was touched.",
            do=f"Run it as that user, for example with sudo -u {name}, or ask the running service.",
        )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


@contextlib.asynccontextmanager
async def opened_store(config: Config, clock: Clock) -> AsyncIterator[Store]:
    """The store that the configuration names, found by entry point; no other is imported. Raises ConfigError."""
    choice = config.store
    found = {point.name: point for point in entry_points(group="capture_agent.stores")}
    if choice.kind not in found:
        raise ConfigError(
            f"{config.path}: store.kind = {choice.kind!r}: no such store; known are {', '.join(sorted(found))}",
            safe="Nothing was changed.",
            do="Correct store.kind.",
        )
    kind = found[choice.kind].load()
    store: Store = kind(choice.name, choice.options, vault_root=config.storage.root, clock=clock)
    try:
        yield store
    finally:
        await store.close()
