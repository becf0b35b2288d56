"""Another key for the station: both sign that the new one follows the old, the log keeps it, then the files change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.config.environment import credential
from agent.errors import RequestError
from agent.model import KeyRotated
from agent.pipeline.checkpoints import origin_of
from agent.pipeline.limits import check_words
from agent.pipeline.station import Station
from agent.signing import CREDENTIAL, NEXT_FILE, exchange, made_key, read_key
from agent.tlog.keys import Key, Signer
from agent.tlog.note import signed

HEADER: Final = "capture-agent/key-rotation@1"


async def rotate(station: Station, asked: Mapping[str, str]) -> dict[str, object]:
    """Sign with a new key from now on: `who`, `why`; tells both fingerprints.

    What ends this between the event and the new file is finished by the next start. Raises ConfigError, JournalError or
    RequestError.
    """
    who, why = asked["who"], asked["why"]
    check_words(who, why)
    root, given, custody = station.vault.root, credential(CREDENTIAL), station.custody
    async with custody.signing:
        origin = await origin_of(station)
        if why_not := "a credential of systemd is the key" if given.exists() else custody.fork:
            raise _refused(why_not)
        if not origin:
            raise _refused("nothing was signed yet")
        old = await station.on_disk(read_key, root, given)
        new = await station.on_disk(made_key, root / NEXT_FILE)
        signers = Signer(origin, old), Signer(origin, new)
        note = signed(rotation_text(*(signer.key for signer in signers)), *signers).encode().decode()
        await station.journal.record(KeyRotated(old.public.hex(), new.public.hex(), note, who, why))
        await station.on_disk(exchange, root)
        if custody.key is not None:
            custody.key = new
    custody.asked.set()
    return {"before": old.fingerprint, "fingerprint": new.fingerprint}


def rotation_text(old: Key, new: Key) -> str:
    """What both keys sign: whoever trusts the old one can trust the new one by it."""
    return f"{HEADER}\n{old.name}\nold {old.vkey}\nnew {new.vkey}\n"


def _refused(why: str) -> RequestError:
    return RequestError(f"The key can't be changed: {why}.", safe="The key stays as it is.", do="See docs/service.md.")
