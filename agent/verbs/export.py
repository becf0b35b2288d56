"""`capture-agent export`: recordings with all that proves them, in a folder that a court can check alone."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path

from agent.config import Config, load
from agent.errors import RequestError
from agent.journal import Reader
from agent.kit.contents import Wanted
from agent.kit.exporting import Exporter, Kit, Order
from agent.model import Clock
from agent.opening import opened_store
from agent.register import line
from agent.vault import Vault
from agent.verbs.base import Add, Exit, entered, json_option, show, signed_options, text_of


def add_export(add: Add) -> None:
    """`capture-agent export`."""
    text = "hand recordings over with all that proves them, by approval: a folder that anybody can check"
    export = add("export", _export, text)
    for name, what in (
        ("recording", "a recording"),
        ("activity", "all of an activity"),
        ("docking", "all of a docking"),
    ):
        export.add_argument(f"--{name}", action="append", default=[], metavar="ID", help=f"{what}; may be repeated")
    export.add_argument("--case", default="", metavar="NUMBER", help="all recordings of a case")
    reads = text_of(line)
    export.add_argument(
        "--approval", required=True, type=reads, metavar="NUMBER", help="number of the written approval"
    )
    export.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="a folder that is new, or empty")
    signed_options(export, "exports", reads)
    json_option(export)


def _export(options: argparse.Namespace, clock: Clock) -> int:
    wanted = Wanted(options.recording, options.case, options.activity, options.docking)
    order = Order(wanted, options.to.absolute(), options.approval, options.who, options.why, clock())
    try:
        kit = asyncio.run(_exported(load(options.config), order, clock, quiet=options.json))
    except OSError as error:
        what = f"导出未完成 / the export did not end: {error.filename or order.folder}: {error.strerror}."
        do = "Run it as the service's user, with a folder that this user may write."
        raise RequestError(what, safe="The station's originals are unchanged.", do=do) from error
    show(options, asdict(kit) | {"folder": str(kit.folder)}, _lines(kit))
    return Exit.EVIDENCE if kit.missing or kit.unsound else Exit.OK


async def _exported(config: Config, order: Order, clock: Clock, *, quiet: bool) -> Kit:
    journal = partial(entered, config, clock)
    await journal("export_begin", {})
    vault = Vault(config.storage.root, seal=False)
    tell = _nothing if quiet or not sys.stderr.isatty() else _progress
    with closing(Reader(config.storage.root / "journal.db")) as reader:
        async with opened_store(config, clock) as store:
            return await Exporter(order, config, reader, vault, store, tell).run(partial(journal, "export"))


def _progress(done_bytes: int, total_bytes: int) -> None:
    print(f"\r\033[K{done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB", end="", file=sys.stderr, flush=True)


def _nothing(_done_bytes: int, _total_bytes: int) -> None:
    pass


def _lines(kit: Kit) -> list[str]:
    lines = [
        (
            f"{len(kit.recordings)} 份记录已导出到 {kit.folder} ({len(kit.recordings)} recordings, {kit.files} files,"
            f" {kit.size_bytes} bytes)"
        ),
        f"核验包摘要值 (digest of the bag): {kit.bag}",
    ]
    lines += [f"缺少原始资料 (its original is missing): {name}" for name in kit.missing]
    lines += [f"有不成立的证明 (a proof does not hold, see the report): {name}" for name in kit.unsound]
    return lines + ([f"PDF 未生成 (not printed): {kit.unprinted}"] if kit.unprinted else [])
