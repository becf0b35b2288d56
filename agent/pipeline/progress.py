"""Measures one docking for the screens: files, bytes, rate and time left, and whether the recorder may be taken."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from agent.model import Outcome, Phase, SlotProgress

_WINDOW_S: Final = 10.0
_PERIOD_S: Final = 10.0
_PERIODS: Final = 30
_TOO_SHORT_S: Final = 1.0

Publish = Callable[[SlotProgress], None]


class Meter:
    """Publishes a new SlotProgress at every change; the rate is that of the last ten seconds."""

    def __init__(
        self, slot: str, device_label: str, publish: Publish, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._timer = timer
        self._publish = publish
        self._samples: deque[tuple[float, int]] = deque(maxlen=256)
        self._outcomes: Counter[Outcome] = Counter()
        self._state = SlotProgress(slot, device_label, Phase.IDENTIFYING)
        publish(self._state)

    @property
    def state(self) -> SlotProgress:
        """What was published last."""
        return self._state

    def phase(self, phase: Phase, message: str = "", *, docking_id: str = "") -> None:
        """Enter a phase; only FINISHED without anything left allows the recorder to be taken away."""
        self._update(
            phase=phase, message=message, docking_id=docking_id or self._state.docking_id,
            may_remove=phase is Phase.FINISHED,
        )  # fmt: skip

    def label(self, device_label: str) -> None:
        """The name of the recorder, once its filesystem told it."""
        self._update(device_label=device_label)

    def listed(self, files: int, size_bytes: int) -> None:
        """More clips were listed."""
        self._update(
            files_total=self._state.files_total + files, bytes_total=self._state.bytes_total + size_bytes
        )  # fmt: skip

    def read(self, size_bytes: int) -> None:
        """Bytes came from the recorder (or were found durable from an earlier docking)."""
        now = self._timer()
        done = self._state.bytes_done + size_bytes
        self._samples.append((now, done))
        while self._samples[0][0] < now - _WINDOW_S:
            self._samples.popleft()
        began, before = self._samples[0]
        rate = (done - before) / (now - began) if now > began else self._state.rate_bytes_s
        left = max(0, self._state.bytes_total - done)
        self._update(bytes_done=done, rate_bytes_s=rate, eta_s=left / rate if rate > 0 else None)

    def settled(self, outcome: Outcome, files: int = 1) -> None:
        """Clips got their outcome."""
        self._outcomes[outcome] += files
        self._update(files_done=self._state.files_done + files, outcomes=dict(self._outcomes))

    def final(self, outcomes: Mapping[Outcome, int]) -> None:
        """The accounting of the journal, which is the truth, at the end of the docking."""
        self._outcomes = Counter(outcomes)
        self._update(files_done=sum(outcomes.values()) - outcomes.get(Outcome.LEFT, 0), outcomes=dict(outcomes))

    def _update(self, **changes: object) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]
        self._publish(self._state)


class Flow:
    """Measures bytes per second over the last five minutes in which there was something to move; rest doesn't count."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._periods: deque[tuple[float, int]] = deque(maxlen=_PERIODS)
        self._seconds, self._bytes = 0.0, 0
        self._since: float | None = None

    def busy(self) -> None:
        """Something is on its way from now on."""
        self._turn(self._timer())

    def idle(self) -> None:
        """Nothing is on its way any more."""
        self._turn(None)

    def add(self, size_bytes: int) -> None:
        """So much came through."""
        self._bytes += size_bytes
        if self._since is not None:
            self._turn(self._timer())

    def rate_bytes_s(self) -> float | None:
        """The rate; None as long as nothing moved, or for too short a time to say."""
        if self._since is not None:
            self._turn(self._timer())
        seconds = self._seconds + sum(seconds for seconds, _ in self._periods)
        size_bytes = self._bytes + sum(size for _, size in self._periods)
        return size_bytes / seconds if size_bytes and seconds >= _TOO_SHORT_S else None

    def _turn(self, since: float | None) -> None:
        now_s = self._timer()
        if self._since is not None:
            self._seconds += now_s - self._since
        self._since = since
        if self._seconds >= _PERIOD_S:
            self._periods.append((self._seconds, self._bytes))
            self._seconds, self._bytes = 0.0, 0
