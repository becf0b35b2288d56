"""`capture-agent recover`: list deleted files of a recorder or image, and copy what is left of them elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.config import Config, load
from agent.control import NotRunningError, ask
from agent.errors import RequestError
from agent.model import Clock
from agent.opening import hand_device, mass_storage
from agent.pipeline.carving import Order, Remnant, carve, check_folder, check_room, list_remnants
from agent.register import line
from agent.status.summary import printable
from agent.status.words import named
from agent.verbs.base import Add, Exit, json_option, signed_options, text_of


def add_recover(add: Add) -> None:
    """`capture-agent recover`."""
    text = "list deleted files of a recorder, and copy what is left of them into a new folder: never originals"
    recover = add("recover", _recover, text)
    recover.add_argument("path", type=Path, metavar="DEVICE|IMAGE")
    recover.add_argument("--into", type=Path, metavar="FOLDER", help="a folder that does not exist yet; without: list")
    help_only = "number of a file in the list; may be given more than once (default: all that can be copied)"
    recover.add_argument("--only", type=int, action="append", default=[], metavar="N", help=help_only)
    signed_options(recover, "asks for it", text_of(line))
    json_option(recover)


def _recover(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    order = Order(options.path.absolute(), (options.into or Path()).absolute(), options.who, options.why, clock())
    told = asyncio.run(_recovered(config, order, options.only, writes=options.into is not None))
    if options.json:
        print(json.dumps(told))
    else:
        print("\n".join(printable(text) for text in _lines(told)))
    return Exit.OK


async def _recovered(config: Config, order: Order, only: list[int], *, writes: bool) -> dict[str, Any]:
    device = hand_device(order.source)
    if writes:
        stores = (Path(str(value)) for value in config.store.options.values() if str(value).startswith("/"))
        kept = (config.storage.root, *stores)
        check_folder(order.folder, order.source, kept)
    recorder = mass_storage(config, order.folder, order.source, device)
    try:
        remnants, digest = await list_remnants(recorder)
        chosen = _chosen(remnants, only)
        copies: list[Any] = []
        if writes:
            check_room(order.folder, chosen)
            order = replace(order, journaled=await _journaled(config, order, chosen))
            order.folder.mkdir(mode=0o700)
            async with aclosing(carve(recorder, chosen, order, digest)) as certificates:
                copies = [certificate["output"] async for certificate in certificates]
    except OSError as error:
        what = f"{order.folder} can't be written: {error.strerror}."
        raise RequestError(what, safe="Nothing on the recorder was changed.", do="Name a folder elsewhere.") from error
    finally:
        await recorder.close()
    return {"deleted": [_view(one) for one in remnants], "copies": copies, "journaled": order.journaled}


def _chosen(remnants: list[Remnant], only: list[int]) -> list[Remnant]:
    """Those that were asked for; by name none that can't be copied."""
    refused = {one.number: one.refusal or "it was not found" for one in remnants if one.refusal}
    refused |= {number: "it was not found" for number in only if not 0 < number <= len(remnants)}
    for number in only:
        if number in refused:
            raise RequestError(
                f"Deleted file {number} can't be copied: {refused[number]}.", safe="Nothing was written."
            )
    return [one for one in remnants if not one.refusal and (not only or one.number in only)]


async def _journaled(config: Config, order: Order, chosen: list[Remnant]) -> bool:
    """Have the running service take down what is about to be done; false if there is none."""
    files = ", ".join(f"{one.number} {one.detail['path']}" for one in chosen)
    told = {"source": str(order.source), "folder": str(order.folder), "files": files}
    with suppress(NotRunningError):
        await ask(config.storage.root, "recover", told | {"who": order.who, "why": order.why})
        return True
    return False


def _view(one: Remnant) -> dict[str, Any]:
    told = {"number": one.number, "path": str(one.detail.get("path", "")), "size_bytes": one.size_bytes}
    return told | {"sure": named(one.sure), "doubts": list(one.doubts), "refusal": one.refusal}


def _lines(told: dict[str, Any]) -> Iterator[str]:
    yield f"{len(told['deleted'])} deleted files"
    for one in told["deleted"]:
        sure = f"{one['sure']['zh']} ({one['sure']['en']})"
        doubts = "".join(f"; {doubt}" for doubt in one["doubts"])
        can = f"no copy possible: {one['refusal']}" if one["refusal"] else f"{one['size_bytes']} bytes, {sure}{doubts}"
        yield f"{one['number']:4d}  {one['path']}  {can}"
    for copy in told["copies"]:
        yield f"copied: {copy['name']}  {copy['size_bytes']} bytes  SHA-256 {copy['sha256']}"
    if told["copies"]:
        yield "复原件，不是原始资料 (derivatives, no originals: read the certificates beside them)"
        yield "in the journal" if told["journaled"] else "the service doesn't run: this is not in its journal"
