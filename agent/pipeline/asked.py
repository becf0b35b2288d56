"""What a person may ask of a station, by name: the same for the control socket and for the command line alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from agent.errors import RequestError
from agent.model import AssetChanged, AssetState, Deadline, Declared, DeriveAsked, Resumed, Role, Stated
from agent.pipeline import (
    accounts,
    activities,
    allowing,
    carving,
    cosigning,
    exporting,
    guarding,
    handover,
    limits,
    receipts,
    rotation,
    saying,
    transcripts,
    witness,
)
from agent.pipeline.documents import complete_document
from agent.pipeline.station import Station
from agent.register import line

Asked = Mapping[str, str]
Answer = dict[str, object]
Verb = Callable[[Station, Asked], Awaitable[Answer]]
FileVerb = Callable[[Station, Asked, bytes], Awaitable[Answer]]


async def _resume(station: Station, asked: Asked) -> Answer:
    """Let a stuck asset be tried again: `id`, `who`, `why`."""
    asset = await station.on_disk(station.journal.reader.asset, asked["id"])
    await station.journal.record(AssetChanged(asset.asset_id, Resumed(asked["who"], asked["why"])))
    if asset.role is not Role.ORIGINAL and asset.resume_to is AssetState.WANTED:
        await complete_document(station, await station.on_disk(station.journal.reader.document, asset.asset_id))
    station.held_news.set()
    return {"asset": asset.asset_id}


async def _derive(station: Station, asked: Asked) -> Answer:
    """Have everything made again from an original: `id`, `who`, `why`."""
    asset = await station.on_disk(station.journal.reader.asset, asked["id"])
    keeper = asset.same_as or asset.asset_id
    if (await station.on_disk(station.journal.reader.asset, keeper)).state is AssetState.RELEASED:
        what = "本机副本已释放，无法重新制作 (its local copy was freed: nothing can be made of it here)."
        raise RequestError(what, safe="Nothing was changed; the store has it.", do="Make copies where the original is.")
    await station.journal.record(DeriveAsked(keeper, line(asked["who"]), line(asked["why"])))
    return {"asset": keeper}


async def _state(station: Station, asked: Asked) -> Answer:
    stated = Stated(limits.moment(asked["at"]), asked["who"], asked["why"])
    return _told(await limits.state_time(station, asked["id"], stated))


async def _declare(station: Station, asked: Asked) -> Answer:
    at = limits.moment(asked["at"])
    declared = Declared(asked["event"], at, asked["cause"], asked["who"], asked["why"])
    return _told(await limits.declare(station, asked["id"], declared))


def _told(limit: Deadline) -> Answer:
    return {"rule": limit.rule, "due_at": limit.due_at.isoformat(), "basis": limit.basis.value}


VERBS: Final[Mapping[str, Verb]] = MappingProxyType(
    {
        "resume": _resume,
        "derive": _derive,
        "state": _state,
        "declare": _declare,
        "device_issue": handover.issue,
        "device_return": handover.give_back,
        "transcript_sign": transcripts.sign,
        "transcript_nothing_spoken": transcripts.nothing_spoken,
        "activity_state": activities.state,
        "activity_explain": activities.explain,
        "activity_confirm": activities.confirm,
        "metadata_set": saying.say,
        "metadata_check": saying.check,
        "key_rotate": rotation.rotate,
        "log_keys": witness.log_keys,
        "witness_ask": cosigning.witness_ask,
        "receipt_issue": receipts.asked_for,
        "guard_examined": guarding.examined,
        "recover": carving.journal_recovery,
        "release_ask": allowing.ask,
        "release_confirm": allowing.confirm,
        "release_freeze": allowing.freeze,
        "export_begin": exporting.begin,
        "export": exporting.journal_export,
        "account_list": accounts.listed,
        "account_add": accounts.add,
        "account_password": accounts.password,
        "account_disable": accounts.disable,
        "account_enable": accounts.enable,
        "account_token": accounts.token,
    }
)
"""Each takes texts by name and returns what is to be told; raises AgentError, or ValueError for what is no request."""

FILE_VERBS: Final[Mapping[str, FileVerb]] = MappingProxyType(
    {
        "transcript_add": transcripts.add,
        "activity_explain_in_writing": activities.explain,
        "witness_answer": witness.witness_answer,
        "witness_take": cosigning.witness_take,
    }
)
"""The same for those that need the bytes of a file, which the asking process has read."""
