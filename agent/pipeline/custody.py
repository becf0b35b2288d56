"""Under which name, with which key and how often this station signs its own log, and what hinders that."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agent.config.neighbours import CustodyLog, Witness
from agent.model import CheckpointSigned
from agent.signing import SigningKey
from agent.tlog.keys import Signer


@dataclass(slots=True)
class Custody:
    """What all who sign share. Without a key nothing is signed; with a `fork` nothing is any more.

    `last` is what this run signed last: the journal must still know it. `asked` is set by whom a new checkpoint would
    serve; `signed` is set when there is one, and another event takes its place. `troubles` are for the status page,
    by what they are about; empty ones are none.
    """

    settings: CustodyLog = field(default_factory=CustodyLog)
    neighbours: Witness = field(default_factory=Witness)
    origin: str = ""
    key: SigningKey | None = None
    fork: str = ""
    last: CheckpointSigned | None = None
    troubles: dict[str, str] = field(default_factory=dict)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    signed: asyncio.Event = field(default_factory=asyncio.Event)
    signing: asyncio.Lock = field(default_factory=asyncio.Lock)
    witnessing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def signers(self) -> tuple[Signer, ...]:
        """Who signs checkpoints and manifests of this station, under the name of its log; nobody without a key."""
        return () if self.key is None else (Signer(self.origin, self.key),)

    def problems(self) -> tuple[str, ...]:
        """What the status page shows of it."""
        fork = f"流转记录与已签名的不一致，已停止签名，请保留现状并联系管理员 ({self.fork})" if self.fork else ""
        return (fork, *self.troubles.values())
