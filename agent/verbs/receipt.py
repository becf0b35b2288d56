"""`capture-agent receipt`: the custody receipt of a docking as a paper, and whether one is genuine."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from agent.config import Config, load
from agent.errors import EvidenceError, RequestError
from agent.journal import Reader
from agent.model import Clock
from agent.papers.printing import printed
from agent.receipts import Verified, list_digest, named, origin_of, verified
from agent.status.receipt import CLEARING, code_of, issued, read_receipt, receipt_page, told
from agent.tlog.keys import Ed25519Verifier, Key, Verifier
from agent.tlog.proof import Proof
from agent.verbs.base import Add, Fields, entered, group, json_option, show, text_of

_READ_LIMIT_BYTES: Final = 16 << 20


def add_receipt(add: Add, clock: Clock) -> None:
    """`capture-agent receipt` and its verbs."""
    own = group(add, clock, "receipt", "custody receipts (交接回执) of dockings: print one, verify one")
    shown = own("show", _show, "show the newest receipt of a docking, or make a paper of it")
    shown.add_argument("docking", nargs="?", default="", metavar="DOCKING", help="default: the newest with a receipt")
    shown.add_argument("--html", type=Path, metavar="FILE", help="write it as HTML, with the whole list of files")
    shown.add_argument("--pdf", type=Path, metavar="FILE", help="write it as one page for the printer")
    another = own("issue", _issue, "issue another receipt of a docking that says who handed the recorder over")
    another.add_argument("docking", metavar="DOCKING", help="as `receipt show` prints it")
    another.add_argument("--by", required=True, type=text_of(named), help="who handed it over (is kept in the journal)")
    checked = own("verify", _verify, "tell whether a receipt is genuine, and what it says")
    text = "text of the code; or a file with it, or the HTML of the receipt; - or nothing: standard input"
    checked.add_argument("text", nargs="?", default="-", metavar="TEXT", help=text)
    text = "keys that are trusted, a line name+id+base64 each; default: those of this station"
    checked.add_argument("--keys", action="append", default=[], type=Path, metavar="FILE", help=text)
    checked.add_argument("--docking", default="", metavar="DOCKING", help="it must be the receipt of this docking")
    for verb in (shown, another, checked):
        json_option(verb)


def _show(options: argparse.Namespace, _clock: Clock) -> int:
    config = load(options.config)
    with closing(_reader(config)) as reader:
        found = issued(reader, options.docking)
    said = found.receipt.said
    if options.html:
        _write(options.html, receipt_page(found, config.station).encode())
    if options.pdf:
        _write(options.pdf, asyncio.run(printed(receipt_page(found, config.station, is_whole=False))))
    code = code_of(found.proof) if found.proof else ""
    rows = told(said, found.receipt.at)
    lines = [*_lines(rows), " ".join(CLEARING[said.clearing]), *code.splitlines()]
    return show(options, _fields(rows) | {"clearing": said.clearing.value, "list": found.listed, "code": code}, lines)


def _issue(options: argparse.Namespace, clock: Clock) -> int:
    asked = {"docking": options.docking, "by": options.by}
    answer = asyncio.run(entered(load(options.config), clock, "receipt_issue", asked))
    return show(options, answer, [f"{answer['docking']} / {answer['number']}: {answer['clearing']}"])


def _verify(options: argparse.Namespace, _clock: Clock) -> int:
    code, listed = read_receipt(_text(options.text))
    proof = Proof.parse(code.encode())
    if options.keys:
        found = verified(proof, _keys(options.keys))
    else:
        with closing(_reader(load(options.config))) as reader:
            found = verified(proof, reader.verifiers(origin_of(proof)))
            if reader.log_leaf(found.seq) != found.leaf:
                raise _refused(f"event {found.seq} of this station's journal says something else")
    if listed is not None and list_digest(listed) != found.said.list_sha256:
        raise _refused("its list of files is not the one that was signed")
    if options.docking not in ("", found.said.docking_id):
        raise _refused(f"it is of docking {found.said.docking_id}")
    rows = told(found.said, found.at)
    lines = [*_lines(rows), " ".join(CLEARING[found.said.clearing]), *_signed(found)]
    return show(options, _fields(rows) | {"clearing": found.said.clearing.value, "event": found.seq}, lines)


def _signed(found: Verified) -> list[str]:
    keys = [f"signed by {key.vkey}\n  SHA256 {key.fingerprint}" for key in found.keys]
    return ["GENUINE 真实有效", f"event {found.seq} of {found.checkpoint.origin}", *keys]


def _lines(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    return [f"{zh} {en}: {value}" for zh, en, value in rows]


def _fields(rows: Sequence[tuple[str, str, str]]) -> Fields:
    return {en: value for _, en, value in rows}


def _text(given: str) -> str:
    """What was given, or what the file or standard input has of it."""
    if given == "-":
        return sys.stdin.buffer.read(_READ_LIMIT_BYTES).decode("utf-8", "replace")
    try:
        if "\n" not in given and Path(given).is_file():
            with Path(given).open("rb") as file:
                return file.read(_READ_LIMIT_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise RequestError(f"{given} can't be read: {error.strerror}.", do="Check the path.") from error
    return given


def _keys(files: Sequence[Path]) -> list[Verifier]:
    found: list[Verifier] = []
    for path in files:
        try:
            lines = path.read_text("utf-8").split()
        except (OSError, ValueError) as error:
            raise RequestError(f"{path} can't be read: {error}.", do="Give a file with a key on each line.") from error
        found += [Ed25519Verifier(Key.parse(vkey)) for vkey in lines]
    return found


def _reader(config: Config) -> Reader:
    return Reader(config.storage.root / "journal.db")


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise RequestError(f"{path} can't be written: {error.strerror}.", do="Choose another place.") from error


def _refused(why: str) -> EvidenceError:
    return EvidenceError(
        f"NOT GENUINE 不真实: {why}.",
        safe="Nothing was changed.",
        do="Keep the paper, and have the station issue the receipt anew.",
    )
