"""`capture-agent config check` and `store check`: whether a station can start, and what its store can do."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from agent.config import Config, checked, load
from agent.errors import ConfigError, StoreError
from agent.model import Clock
from agent.opening import opened_store
from agent.uploader.base import Trait
from agent.verbs.base import Add, Exit, json_option

_VERDICT: Final[Mapping[bool | None, str]] = {True: "ok  ", False: "BAD ", None: "    "}


def add_checks(add: Add) -> None:
    """`capture-agent config check` and `capture-agent store check`."""
    config = add("config", _config_check, "check the configuration")
    store = add("store", _store_check, "find out what the store can do by trying it with a probe, and what to mend")
    for check in (config, store):
        check.add_argument("action", choices=["check"])
        json_option(check)


def _config_check(options: argparse.Namespace, clock: Clock) -> int:
    config = checked(options.config)
    try:
        asyncio.run(_look(config, clock))
    except StoreError as error:
        raise ConfigError(error.what, safe="Nothing was changed.", do=error.do) from error
    years = ", ".join(str(year) for year in sorted(config.calendars))
    if options.json:
        print(
            json.dumps({"config": str(config.path), "profile": config.profile.name, "years": sorted(config.calendars)})
        )
    else:
        print(f"{config.path}: correct; profile {config.profile.name}, holiday notices for {years}")
    return Exit.OK


async def _look(config: Config, clock: Clock) -> None:
    async with opened_store(config, clock) as store:
        await store.look()


def _store_check(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    traits = asyncio.run(_survey(config, clock))
    if options.json:
        found = {"store": config.store.name, "kind": config.store.kind, "traits": [asdict(trait) for trait in traits]}
        print(json.dumps(found, ensure_ascii=False))
    else:
        for trait in traits:
            print(f"{_VERDICT[trait.good]} {trait.name}: {trait.what}")
            if trait.do:
                print(f"     {'mend it: ' if trait.good is False else ''}{trait.do}")
    return Exit.STORE if any(trait.good is False for trait in traits) else Exit.OK


async def _survey(config: Config, clock: Clock) -> Sequence[Trait]:
    async with opened_store(config, clock) as store:
        return await store.survey()
