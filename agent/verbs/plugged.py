"""`capture-agent device list`, `show`, `identify` and `simulate`: what is plugged in, and an image for training."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.config import Config, load
from agent.control import NotRunningError, ask
from agent.drivers.plugged import named_node
from agent.errors import DeviceError, UnknownError
from agent.journal import Reader
from agent.model import Clock
from agent.register import line, recognise
from agent.status.client import StatusUnavailable
from agent.status.identity import identity
from agent.status.plugged import elsewhere_row, plugged_view, row_lines, wanted
from agent.status.views import docking_view
from agent.verbs.base import Add, Fields, json_option, show, signed_options, text_of
from agent.verbs.pull import Bar, ended, watched


def add_plugged(own: Add) -> None:
    """The verbs of `capture-agent device` that tell of what is plugged in."""
    shown = own("show", _show, "one thing that is plugged in: what it is, what was pulled from it, what is to be done")
    known = own("identify", _identify, "all that udev knows of it, which rule it met, and lines to name or admit it")
    for verb in (shown, known):
        verb.add_argument("which", metavar="WHICH", help="slot, port, serial number, vendor:product, or node (/dev/…)")
    simulated = own("simulate", _simulate, "dock an image for training; only at a station that is configured for it")
    simulated.add_argument("path", type=Path, metavar="IMAGE")
    signed_options(simulated, "trains with it", text_of(line))
    for verb in (shown, known, simulated):
        json_option(verb)


def plugged_now(config: Config) -> Fields:
    """What is plugged in as the running service sees it, or as we do if none runs."""
    return plugged_view(config, asyncio.run(_told(config)))


async def _told(config: Config) -> Fields:
    try:
        return await ask(config.storage.root, "plugged", {})
    except NotRunningError:  # only now all is needed that a service is made of
        from agent.dock_orders import plugged_unserved

        return plugged_unserved(config)


def _show(options: argparse.Namespace, _clock: Clock) -> int:
    config = load(options.config)
    found = _found(plugged_now(config), options.which)
    for row in found:
        for entry in row["docked"]:
            entry["docking"] = _docking(config, entry)
    return show(options, {"plugged": found}, (text for row in found for text in _shown_lines(row)))


def _found(view: Fields, which: str) -> list[Fields]:
    if found := wanted(view["plugged"], which):
        return found
    raise DeviceError(
        "未找到该设备 / nothing that is plugged in is called that.",
        safe="Nothing was touched.",
        do="`capture-agent device list` shows what is plugged in.",
    )


def _docking(config: Config, entry: Mapping[str, Any]) -> Fields | None:
    """What the journal has of the docking that is under way: who the recorder is by its filesystem, and its files."""
    docking_id = (entry["progress"] or {}).get("docking_id")
    if not docking_id:
        return None
    with closing(Reader(config.storage.root / "journal.db")) as reader:
        try:
            docking = reader.docking(docking_id)
        except UnknownError:
            return None
    recorder, device = recognise(config.inventory, docking.device), docking.device
    marks = {"volume_label": device.label, "filesystem_ids": list(device.filesystem_ids)}
    return docking_view(docking) | marks | {"recorder_id": recorder.recorder_id if recorder else None}


def _shown_lines(row: Mapping[str, Any]) -> Iterator[str]:
    yield from row_lines(row)
    for node in row["nodes"]:
        facts = [f"{node['size_bytes'] / 1e9:.1f} GB" if node["size_bytes"] else "", node["mark"], node["busy"]]
        yield f"  {node['path']}  {node['subsystem']}  {' '.join(fact for fact in facts if fact)}".rstrip()
    for entry in row["docked"]:
        if docking := entry["docking"]:
            who = docking["recorder_id"] or "未登记 (not registered)"
            files = ", ".join(f"{count} {name}" for name, count in docking["accounting"].items() if count)
            yield f"  docking {docking['docking_id']}  {who}  {docking['volume_label']!r}"
            yield f"  {' '.join(docking['filesystem_ids'])}  {files}"


def _identify(options: argparse.Namespace, _clock: Clock) -> int:
    """By a look of our own: what udev knows is there for everybody to read."""
    from agent.dock_orders import plugged_unserved

    config = load(options.config)
    told: Fields = plugged_unserved(config)
    view = plugged_view(config, told)
    node = _node(options.which)
    which = node["path"] if node else options.which
    rows = wanted(view["plugged"], which) or ([elsewhere_row(node)] if node else _found(view, which))
    usb = {one["name"]: one for one in told["usb"]}
    found = [identity(config, row, usb.get(row["name"], row)) for row in rows]
    return show(options, {"devices": found}, (text for one in found for text in _identity_lines(one)))


def _node(which: str) -> Fields | None:
    """The node that is meant, if it is one."""
    try:
        return asdict(named_node(Path(which))) if which.startswith("/") else None
    except OSError:
        return None


def _identity_lines(one: Mapping[str, Any]) -> Iterator[str]:
    yield from row_lines(one["plugged"])
    for rule in one["rules"]:
        yield f"  {rule}"
    for path, known in one["known"].items():
        yield f"{path}:" if path else "udev:"
        yield from (f"  {name}={value}" for name, value in known.items())
    for file, text in one["lines"].items():
        yield f"{file}:"
        yield from (f"  {part}" for part in text.splitlines())


def _simulate(options: argparse.Namespace, _clock: Clock) -> int:
    config = load(options.config)
    bar = Bar(show=not options.json)
    return ended(options, asyncio.run(_simulated(config, options, bar)), bar)


async def _simulated(config: Config, options: argparse.Namespace, bar: Bar) -> Fields:
    asked = {"path": str(options.path.absolute()), "who": options.who, "why": options.why}
    try:
        answer = await ask(config.storage.root, "simulate", asked)
    except NotRunningError as error:
        raise StatusUnavailable(
            "The service does not run: there is nothing to train with.",
            safe="Nothing was docked.",
            do="Start it first.",
        ) from error
    return await watched(config, str(answer["slot"]), bar)
