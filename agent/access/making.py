"""Everything that is made from one original: each step for itself, so that what one can't do costs nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from agent.access.certificate import AGENT
from agent.access.copying import make_copy
from agent.access.encoders import proven
from agent.access.findings import findings_document, findings_of
from agent.access.inspecting import inspect
from agent.access.looking import Looked, lasts, look
from agent.access.made import Everything, Made, Original
from agent.access.plan import NoCopyError
from agent.access.salvage import salvage
from agent.access.scanning import scan
from agent.access.timeline import timeline_svg
from agent.access.tool import ToolError
from agent.config import AccessCopies
from agent.model import Integrity, Medium, Role

Busy = Callable[[], bool]


async def make_all(original: Original, folder: Path, settings: AccessCopies, is_busy: Busy) -> Everything:
    """Make all that can be made, in `folder`; raises ScanError if the file can't be read or isn't the original."""
    asset, path, problems = original.asset, original.path, []
    assert asset.digests is not None, "it is held"
    scanned = await scan(path, asset.expected_bytes, asset.digests.blake3, is_busy=is_busy)
    source = await inspect(path, is_busy=is_busy)
    try:
        looked = await look(path, original.facts, source, folder, is_busy=is_busy)
    except ToolError as error:
        looked = Looked()
        problems.append(f"no pictures: {error}")
    found = findings_of(original.facts, source, scanned, looked.detected)
    paper = Made(Role.FINDINGS, folder / "findings.json", AGENT)
    paper.path.write_bytes(findings_document(found, scanned, looked.tool))
    files = [*looked.pictures, paper]
    if original.facts.medium is not Medium.PHOTO and (lasts_ms := lasts(source)):
        strip = Made(Role.TIMELINE, folder / "timeline.svg", AGENT)
        strip.path.write_text(timeline_svg(lasts_ms, found), "utf-8")
        files.append(strip)
    reason, counts = "", asdict(source) | {"offset_ms": source.offset_ms}
    try:
        encoder = await proven(settings.encoder, folder, is_busy=is_busy)
        files.append(await make_copy(path, original.facts, source, folder, settings, encoder, is_busy=is_busy))
    except (NoCopyError, ToolError) as error:
        reason = str(error)
    if original.facts.integrity is Integrity.TRUNCATED and not original.facts.container:  # its index is lost
        try:
            files.append(await salvage(path, original.facts, original.reference, folder, is_busy=is_busy))
        except (NoCopyError, ToolError) as error:
            problems.append(f"no recovery copy: {error}")
    return Everything(tuple(files), found, len(found), reason, tuple(problems), counts)
