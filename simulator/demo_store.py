"""The demo's dedicated storage: what the agent is told of it, and proofs that need no agent; a folder at first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from simulator import proof
from simulator.recorders import Original
from simulator.show import Show
from simulator.stage import Stage, make_store

if TYPE_CHECKING:
    from simulator.outage import Server


class DemoStore(Protocol):
    """Where the originals of one demo go."""

    @property
    def kind(self) -> str:
        """The agent's `store.kind`."""

    @property
    def options(self) -> Mapping[str, str | int]:
        """The agent's `store.options`."""

    @property
    def server(self) -> Server | None:
        """What can be killed and started again; None for a store that is no server."""

    def prove(self, originals: Sequence[Original], locked_until: Mapping[str, str | None], show: Show) -> None:
        """Check without the agent that the store has exactly these files (originals, and what was made), and claim it.

        `locked_until` is what the agent says of each, by BLAKE3. Raises DemoError at the first claim that is not true.
        """


@contextlib.contextmanager
def folder_store(stage: Stage, show: Show) -> Iterator[DemoStore]:
    """A folder, as of a mounted disk."""
    del show
    yield FolderStore(stage)


class FolderStore:
    """A folder beside the station."""

    kind = "directory"
    server = None

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.options = make_store(stage)

    def prove(self, originals: Sequence[Original], locked_until: Mapping[str, str | None], show: Show) -> None:
        """With `sha256sum`."""
        del locked_until  # a folder has no such lock
        kept = self._stage.store / "originals"
        wrong = proof.differs("sha256sum", kept, originals, self._stage.root / "store.sha256")
        show.claim("every file in the store is what was brought in, or made of it (sha256sum --check)", wrong, "")
        distinct = len({original.blake3 for original in originals})
        show.claim("nothing else is kept there", proof.kept_files(kept), distinct)
