"""The demo's chapter about viewing: what was made of each recording and found in it, and that it can be made again."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from agent.journal import Reader
from agent.journal.views import DocumentView
from agent.model import Derivation, Role
from simulator import proof
from simulator.handling import LOOK_S, recordings
from simulator.recorders import Fate, Original, Recorder
from simulator.show import Show
from simulator.stage import DemoError, Service, Stage

LIMIT_S: Final = 600.0
VIEWED: Final = (".mp4", ".wav", ".jpg")
FINDING_LINES: Final = 4

Json = Mapping[str, Any]


class Copies:
    """Waits until everything is made and stored, behind all originals, and checks it with tools of the system."""

    def __init__(self, stage: Stage, show: Show) -> None:
        self._stage = stage
        self._show = show

    def tell(self, service: Service, recorders: Sequence[Recorder]) -> None:
        """Raises DemoError at the first claim that is not true."""
        self._show.step("查阅副本", "access copies, pictures and findings, made behind everything else")
        self._wait(service)
        rows = {row["blake3"]: row for row in recordings(self._stage) if not row["same_as"]}
        views = {digest: self._views(row["recording_id"]) for digest, row in rows.items()}
        made = Counter(view.said.role for each in views.values() for view in each if isinstance(view.said, Derivation))
        self._show.say(", ".join(f"{count} × {role}" for role, count in sorted(made.items())))
        originals = [original for recorder in recorders for original in recorder.originals]
        whole = [one for one in originals if one.fate is Fate.KEPT and one.path.lower().endswith(VIEWED)]
        without = [one.path for one in whole if not _copy_of(views[one.blake3], complete=True)]
        self._show.claim("every whole film, sound and photo has a complete copy", without, [])
        self._repeat(rows[whole[0].blake3])
        for one in (one for one in originals if one.fate is Fate.CUT):
            self._cut(rows[one.blake3], views[one.blake3])

    def files(self) -> list[tuple[Original, str | None]]:
        """All that was made and is stored, as the journal names it, and until when the store has locked it."""
        found = []
        for row in recordings(self._stage):
            for view in self._views(row["recording_id"]):
                asset = view.asset
                if isinstance(view.said, Derivation) and asset.digests is not None and asset.receipt is not None:
                    size, digests, until = asset.expected_bytes, asset.digests, asset.receipt.locked_until
                    one = Original(view.said.role, size, size, digests.blake3, digests.sha256, Fate.KEPT)
                    found.append((one, until.isoformat() if until else None))
        return found

    def _views(self, recording_id: str) -> tuple[DocumentView, ...]:
        with closing(Reader(self._stage.station / "journal.db")) as reader:
            return reader.derivatives(recording_id)

    def _wait(self, service: Service) -> None:
        end = time.monotonic() + LIMIT_S
        while True:
            status = service.status()
            left = sum(status["counters"]["derived"][state]["files"] for state in ("wanted", "held", "stuck"))
            if not status["access"]["waiting"] and not left:
                self._show.say(f"{status['access']['zh']}  {status['access']['en']}")
                return
            if time.monotonic() > end:
                raise DemoError(f"after {LIMIT_S:g} s not all copies are made and stored: {status['access']}")
            time.sleep(LOOK_S)

    def _repeat(self, row: Json) -> None:
        code, said = proof.run(self._stage.command("access", "check", row["recording_id"]))
        for line in said.splitlines():
            self._show.say(f"  {line}")
        self._show.claim("the certificate's words give the same bytes again, exit code 0", code, 0)

    def _cut(self, row: Json, views: Sequence[DocumentView]) -> None:
        """The clip whose recorder lost power: said, and given back as far as it can be, beside the original."""
        _, said = proof.run(self._stage.command("access", "findings", row["recording_id"]))
        for line in said.splitlines()[:FINDING_LINES]:
            self._show.say(f"  {line}")
        again = _of(views, Role.RECOVERY_COPY)
        self._show.claim("the clip that lost its power has a copy of what can be seen of it", len(again), 1)
        self._show.claim("it is marked as incomplete", [_said(view).complete for view in again], [False])
        frames = _frames(self._stage.vault / _address(again[0]))
        self._show.claim(f"{frames} pictures of it can be seen again", frames > 0, True)


def _of(views: Sequence[DocumentView], role: Role) -> list[DocumentView]:
    return [view for view in views if isinstance(view.said, Derivation) and view.said.role is role]


def _said(view: DocumentView) -> Derivation:
    assert isinstance(view.said, Derivation), "only these were chosen"
    return view.said


def _copy_of(views: Sequence[DocumentView], *, complete: bool) -> bool:
    return any(_said(view).complete is complete for view in _of(views, Role.ACCESS_COPY))


def _address(view: DocumentView) -> Path:
    assert view.asset.digests is not None, "it is stored"
    return Path(view.asset.digests.blake3[:2], view.asset.digests.blake3)


def _frames(path: Path) -> int:
    words = ["-v", "error", "-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames"]
    done = subprocess.run(
        ["ffprobe", *words, "-of", "csv=p=0", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    return int(done.stdout.strip() or 0) if not done.returncode else 0
