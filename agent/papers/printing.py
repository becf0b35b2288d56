"""Has a paper printed as PDF by a child process, so that no font or layout can harm or hold up the agent."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from agent.child import Child, ChildError
from agent.errors import AgentError

_SIZE_LIMIT_BYTES: Final = 256 << 20


class PaperError(AgentError):
    """A paper could not be printed; its HTML says the same."""


async def printed(paper: str, *, stall_limit_s: float = 120.0) -> bytes:
    """Return the PDF of a paper (HTML of `page`), for archives (PDF/A-3u); raises PaperError."""
    pieces: list[bytes] = []
    try:
        child = await Child.start("agent.papers.printer", (), stall_limit_s=stall_limit_s)
        try:
            await child.send(paper)
            while (line := await child.line()) is not None:
                pieces.append(base64.b64decode(str(line), validate=True))
                if sum(map(len, pieces)) > _SIZE_LIMIT_BYTES:
                    raise ChildError("gives more than any paper has")
        finally:
            await child.stop()
    except (ChildError, binascii.Error) as error:
        raise _refused(str(error)) from error
    pdf = b"".join(pieces)
    if not pdf.startswith(b"%PDF-") or not pdf.rstrip().endswith(b"%%EOF"):
        raise _refused("gave no PDF")
    return pdf


def _refused(why: str) -> PaperError:
    return PaperError(
        f"The paper could not be printed: what prints it {why}.",
        safe="No recording was touched.",
        do="Take the HTML, which says the same. Then see with `capture-agent doctor` whether a font is missing.",
    )
