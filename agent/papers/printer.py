"""The child that prints: takes a paper as one line of JSON, gives its PDF; reads fonts and programs, writes nothing."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from collections.abc import Sequence
from typing import Final

import weasyprint
from weasyprint.urls import URLFetcher

from agent.child import LINE_LIMIT_BYTES
from agent.drivers.sandbox import READ_DIR, READ_FILE, lock_tool, step_back

_READS: Final = ("/usr", "/lib", "/lib64", "/etc/fonts", "/etc/ld.so.cache", "/var/cache/fontconfig")
_PIECE_BYTES: Final = LINE_LIMIT_BYTES // 2
_MEMORY_BYTES: Final = 4 << 30
_CPU_S: Final = 600


def main(_: Sequence[str]) -> int:
    """Entry point: `agent.papers.printer`; standard input is the paper, standard output lines of base64."""
    # Modules and fonts are loaded when they are first needed.
    readable = [path for path in (*_READS, *sys.path) if os.path.exists(path)]
    step_back()
    lock_tool(list(map(_rule, readable)), memory_bytes=_MEMORY_BYTES, cpu_s=_CPU_S, output_bytes=0)
    paper = json.loads(sys.stdin.buffer.readline())
    # A paper carries all that it shows: nothing is fetched.
    html = weasyprint.HTML(string=paper, url_fetcher=URLFetcher(allowed_protocols=()))
    pdf = html.write_pdf(pdf_variant="pdf/a-3u")
    for start in range(0, len(pdf), _PIECE_BYTES):
        sys.stdout.write(json.dumps(base64.b64encode(pdf[start : start + _PIECE_BYTES]).decode()) + "\n")
    sys.stdout.flush()
    return 0


def _rule(path: str) -> tuple[int, int]:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    return fd, READ_FILE | READ_DIR if stat.S_ISDIR(os.fstat(fd).st_mode) else READ_FILE
