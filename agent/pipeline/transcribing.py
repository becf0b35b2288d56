"""Runs the configured command on a sealed original: it can only read, and is bounded, niced, killed with its kin."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.errors import ConfigError
from agent.transcripts import LARGEST_BYTES

ORIGINAL: Final = "{original}"
"""Stands for the path of the original in the command's words."""

_PIECE_BYTES: Final = 64 * 1024
_STDERR_TAIL_BYTES: Final = 4096
_REAP_LIMIT_S: Final = 5
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SAFE: Final = "The original is untouched, and nothing was added."


def written_down(command: Sequence[str], original: Path, *, timeout_s: float) -> bytes:
    """What the command writes to its standard output about the original; raises ConfigError if it fails.

    The command may read everything and write only into a folder of its own, which is gone afterwards
    (`drivers.readonly`). Its end, or that of its time, is the end of everything in its process group.
    """
    if not any(ORIGINAL in word for word in command):
        raise ConfigError(
            "No command makes transcripts here.", safe="Nothing was changed.",
            do=f"Set transcript.command, with {ORIGINAL} for the path; see docs/transcripts.md.",
        )  # fmt: skip
    words = [word.replace(ORIGINAL, str(original)) for word in command]
    with tempfile.TemporaryDirectory(prefix="transcript-") as folder:
        environment = {"PATH": _PATH, "TZ": "UTC", "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder}
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "agent.drivers.readonly", str(os.getpid()), folder, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, env=environment, cwd=folder,
        )  # fmt: skip
        try:
            output, complaint = _listen(process, time.monotonic() + timeout_s)
        finally:
            _end(process)
    if process.returncode:
        tail = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise _failed(f"以 {process.returncode} 结束", f"ended with {process.returncode}{': ' if tail else ''}{tail}")
    return output


def _listen(process: subprocess.Popen[bytes], until: float) -> tuple[bytes, bytes]:
    """Everything from standard output, the tail of standard error, until the command has ended."""
    assert process.stdout is not None
    assert process.stderr is not None
    output, complaint = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for stream, heard in ((process.stdout, output), (process.stderr, complaint)):
            selector.register(stream, selectors.EVENT_READ, heard)
        while selector.get_map():
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise _failed("超过时限", "took longer than transcript.timeout_s")
            for key, _ in selector.select(left_s):
                piece = os.read(key.fd, _PIECE_BYTES)
                if not piece:
                    selector.unregister(key.fileobj)
                key.data.extend(piece)
            if len(output) > LARGEST_BYTES:
                raise _failed("输出过大", f"wrote more than {LARGEST_BYTES >> 20} MiB")
            del complaint[:-_STDERR_TAIL_BYTES]
    try:
        process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _failed("超过时限", "took longer than transcript.timeout_s") from None
    return bytes(output), bytes(complaint)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_REAP_LIMIT_S)


def _failed(zh: str, en: str) -> ConfigError:
    do = "Try the command by hand; a person can also write the text: `transcript add`."
    return ConfigError(f"转写程序{zh} / the transcribing command {en}.", safe=_SAFE, do=do)
