"""`capture-agent log`: the signed log shown, proved and compared, and its cosigning by neighbours with a stick."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from agent.config import load
from agent.control import read_file
from agent.errors import EvidenceError, RequestError
from agent.journal import Reader
from agent.journal.views import CheckpointView
from agent.model import Clock
from agent.pipeline.checkpoints import verifiers
from agent.tlog.checkpoint import Checkpoint, opened
from agent.tlog.note import Note
from agent.tlog.proof import HEADER, Proof
from agent.verbs.base import Add, Exit, Fields, entered, group, json_option, show


def add_log(add: Add, clock: Clock) -> None:
    """`capture-agent log` and its verbs."""
    own = group(add, clock, "log", "the signed log of all events: show, prove, compare, have it cosigned")
    json_option(own("show", _show, "how long it is, its newest checkpoint, and who else has that"))
    checkpoint = own("checkpoint", _checkpoint, "print a signed checkpoint with its cosignatures")
    checkpoint.add_argument("--number", type=int, help="which; else the newest")
    prove = own("prove", _prove, "print the proof that an event is in the log (c2sp.org/tlog-proof)")
    prove.add_argument("seq", type=int, metavar="EVENT", help="its number, as the status and `log show` count them")
    verify = own("verify", _verify, "compare a checkpoint or a proof that was kept elsewhere with the log as it is now")
    verify.add_argument("file", type=Path, metavar="FILE")
    json_option(verify)
    json_option(own("key", _key, "print the keys in the form in which neighbours write them down"))
    ask = own("ask", _ask, "print what is to be carried to a witness")
    ask.add_argument("witness", metavar="WITNESS", help="its name in log.witnesses")
    ask.add_argument("--old", default="", metavar="SIZE", help="how many events it says to have seen")
    answer = own("answer", _answer, "as a witness: cosign what a neighbour asks for, and print what goes back")
    answer.add_argument("file", type=Path, metavar="FILE")
    take = own("take", _take, "take what a witness answered")
    take.add_argument("witness", metavar="WITNESS")
    take.add_argument("file", type=Path, metavar="FILE")


def _show(options: argparse.Namespace, _clock: Clock) -> int:
    with closing(_reader(options)) as reader:
        newest, size = _newest(reader), reader.log_size()
        checkpoint = _content(newest)
        waiting = reader.checkpoint_to_store()
        keys = [verifier.key.fingerprint for verifier in reader.verifiers(checkpoint.origin)]
        names = sorted({one.name for one in Note.parse(newest.note.encode()).signatures} - {checkpoint.origin})
    told: Fields = {
        "origin": checkpoint.origin, "events": size, "checkpoint": newest.number, "covers": newest.size,
        "signed": " ".join(checkpoint.extensions).removeprefix("time "), "cosigned": names, "keys": keys,
        "stored": newest.number if waiting is None else waiting.number - 1,
    }  # fmt: skip
    lines = (
        f"{checkpoint.origin}: {size} events",
        f"checkpoint {newest.number} of {newest.size} events, signed {told['signed']}",
        f"stored at the centre up to checkpoint {told['stored']}",
        f"cosigned by {', '.join(names) or 'nobody yet'}",
        *(f"key SHA256 {fingerprint}" for fingerprint in keys),
    )
    return show(options, told, lines)


def _checkpoint(options: argparse.Namespace, _clock: Clock) -> int:
    with closing(_reader(options)) as reader:
        view = _newest(reader) if options.number is None else reader.checkpoint(options.number)
        if view is None:
            raise RequestError(f"There is no checkpoint {options.number}.")
        return _print(view.note)


def _prove(options: argparse.Namespace, _clock: Clock) -> int:
    with closing(_reader(options)) as reader:
        proof = reader.proof(options.seq)
        if proof is None:
            raise RequestError(f"Event {options.seq} is not signed yet.", do="Wait for the next checkpoint.")
        return _print(proof.encode().decode())


def _verify(options: argparse.Namespace, _clock: Clock) -> int:
    content = read_file(options.file)
    with closing(_reader(options)) as reader:
        lines = list(_compared(reader, content))
    return show(options, {"file": str(options.file), "told": lines}, lines)


def _compared(reader: Reader, content: bytes) -> Iterator[str]:
    """What a checkpoint or proof proves about the log; raises NoteError or EvidenceError if it is against it."""
    origin = _content(_newest(reader)).origin
    keys = verifiers(reader, origin)
    if content.startswith(HEADER.encode()):
        proof = Proof.parse(content)
        note = proof.checkpoint
        proof.verified(reader.log_leaf(proof.index + 1), origin, keys)
        yield f"event {proof.index + 1} is the one that was signed"
    else:
        note = Note.parse(content)
    checkpoint = opened(note, origin, keys)
    size = reader.log_size()
    if size < checkpoint.size:
        raise _other(
            f"it has {size} events, and {checkpoint.size} were signed: its end was cut, or it is an older copy"
        )
    if reader.log_root(checkpoint.size) != checkpoint.root:
        raise _other(f"its first {checkpoint.size} events are not those that were signed")
    when = ", ".join(checkpoint.extensions)
    yield f"the log of {size} events begins with the {checkpoint.size} that were signed: {when}"
    for signature in note.signatures:
        yield f"signed by {signature.name} {signature.key_id.hex()}"


def _key(options: argparse.Namespace, clock: Clock) -> int:
    told = asyncio.run(entered(load(options.config), clock, "log_keys", {}))
    return show(options, told, [f"log     {vkey}" for vkey in told["log"]] + [f"witness {told['witness']}"])


def _ask(options: argparse.Namespace, clock: Clock) -> int:
    asked = {"witness": options.witness, "old": options.old}
    return _print(asyncio.run(entered(load(options.config), clock, "witness_ask", asked))["request"])


def _answer(options: argparse.Namespace, clock: Clock) -> int:
    content = read_file(options.file)
    return _print(asyncio.run(entered(load(options.config), clock, "witness_answer", {}, content))["answer"])


def _take(options: argparse.Namespace, clock: Clock) -> int:
    asked, content = {"witness": options.witness}, read_file(options.file)
    told = asyncio.run(entered(load(options.config), clock, "witness_take", asked, content))
    return _print(f"checkpoint {told['number']} is cosigned by {told['witness']}\n")


def _reader(options: argparse.Namespace) -> Reader:
    return Reader(load(options.config).storage.root / "journal.db")


def _newest(reader: Reader) -> CheckpointView:
    view = reader.newest_checkpoint()
    if view is None:
        raise RequestError("Nothing was signed yet.", do="Start the service once.")
    return view


def _content(view: CheckpointView) -> Checkpoint:
    return Checkpoint.parse(Note.parse(view.note.encode()).text)


def _other(why: str) -> EvidenceError:
    do = "Keep journal.db as it is, and call the administrator."
    return EvidenceError(f"The log is not the one that was signed: {why}.", safe="Nothing was changed.", do=do)


def _print(text: str) -> int:
    """Texts for other tools, byte for byte."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
    return Exit.OK
