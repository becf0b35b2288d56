"""Which manifest vouches for a recording, whether others said when, and how many are still to be signed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from agent.config import Config
from agent.journal.views import DocumentView, Overview
from agent.model import Sealing, Stamping
from agent.status.words import at, named, words

Json = dict[str, Any]


def manifest_view(seals: Sequence[DocumentView]) -> Json | None:
    """The newest manifest among a recording's, with its time stamp if it has one; None if there is no manifest."""
    made = [(view, view.said) for view in seals if isinstance(view.said, Sealing)]
    if not made:
        return None
    view, said = made[-1]
    asset, digests = view.asset, view.asset.digests
    stamps = [one.said for one in seals if isinstance(one.said, Stamping) and one.said.manifest == asset.asset_id]
    return {
        "number": said.number,
        "at": at(view.at),
        "asset_id": asset.asset_id,
        "blake3": digests.blake3 if digests else None,
        "state": named(asset.state),
        "stamped": {"at": at(stamps[-1].at), "authority": stamps[-1].authority} if stamps else None,
    }


def manifest_lines(manifest: Json | None) -> Iterator[str]:
    """The same as text for a terminal."""
    if manifest is None:
        yield "清单 manifest：尚未签署 (none is signed yet)"
        return
    state = f"{manifest['state']['zh']} {manifest['state']['en']}"
    yield f"清单 manifest：{manifest['number']}  {manifest['at']}  {manifest['blake3']}  {state}"
    if manifest["stamped"]:
        yield f"时间戳 time stamp：{manifest['stamped']['at']}  {manifest['stamped']['authority']}"


def manifests_view(config: Config, overview: Overview) -> Json:
    """How many manifests and time stamps there are and are stored, and how many are still wanted."""
    seals = overview.seals
    zh = f"清单与时间戳：共 {seals.made}，已入库 {seals.stored}；待签 {seals.to_make}"
    en = f"manifests and time stamps: {seals.made}, {seals.stored} of them stored; {seals.to_make} to be signed"
    stamps = bool(config.timestamp.url)
    told = (
        words(f"{zh}，待盖时间戳 {seals.to_stamp}", f"{en}, {seals.to_stamp} to be stamped")
        if stamps
        else words(zh, en)
    )
    counts = {"made": seals.made, "stored": seals.stored, "stuck": seals.stuck, "to_sign": seals.to_make}
    return {**counts, "to_stamp": seals.to_stamp if stamps else None, **told}
