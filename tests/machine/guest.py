"""Runs commands inside a test machine, through the agent of QEMU that its Debian starts: no network is needed."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Any

from tests.machine.qemu import MachineError, Qemu

ANSWER_LIMIT_S = 60.0
SYNC_S = 1.0
POLL_S = (0.02, 0.25)


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended; its standard output and error are one text."""

    returncode: int
    output: str


@dataclass(slots=True)
class Guest:
    """The inside of a running machine; everything is done as root."""

    qemu: Qemu
    number: int = 0

    def wait(self, limit_s: float) -> None:
        """Wait until the machine takes commands."""
        end = time.monotonic() + limit_s
        while not self._synchronised():
            if time.monotonic() > end or not self.qemu.runs:
                raise MachineError(f"no command can be run after {limit_s:g} s\n{self.qemu.tail()}")

    def _synchronised(self) -> bool:
        self.number += 1
        message = {"execute": "guest-sync-delimited", "arguments": {"id": self.number}}
        try:
            self.qemu.agent.send(message, start=b"\xff")
            while self.qemu.agent.receive(time.monotonic() + SYNC_S).get("return") != self.number:
                pass
        except TimeoutError:
            return False
        return True

    def _ask(self, command: str, **arguments: object) -> dict[str, Any]:
        words = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            self.qemu.agent.send({"execute": command, "arguments": words})
            answer = self.qemu.agent.receive(time.monotonic() + ANSWER_LIMIT_S)
        except (OSError, MachineError) as error:
            raise MachineError(f"{command}: {error}\n{self.qemu.tail()}") from error
        if "error" in answer:
            raise MachineError(f"{command}: {answer['error']['desc']}")
        found: dict[str, Any] = answer["return"]
        return found

    def call(self, script: str, limit_s: float = 60.0, given: bytes = b"") -> Done:
        """Run a bash script, which reads `given`; past its limit it ends with 124. It leaves nothing running."""
        words = ["-k", "5", f"{limit_s:.1f}", "/bin/bash", "-c", f"exec 2>&1; {script}"]
        text = base64.b64encode(given).decode()
        pid = self._ask("guest-exec", path="/usr/bin/timeout", arg=words, capture_output=True, input_data=text)["pid"]
        end, pause_s = time.monotonic() + 2 * limit_s + ANSWER_LIMIT_S, POLL_S[0]
        while not (state := self._ask("guest-exec-status", pid=pid))["exited"]:
            if time.monotonic() > end:
                raise MachineError(f"no end of {script!r}\n{self.qemu.tail()}")
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, POLL_S[1])
        output = base64.b64decode(state.get("out-data", "")).decode("utf-8", "replace")
        return Done(state.get("exitcode", 128 + state.get("signal", 0)), output)

    def run(self, script: str, limit_s: float = 60.0, given: bytes = b"") -> str:
        """What a script prints; it must succeed."""
        done = self.call(script, limit_s, given)
        assert done.returncode == 0, f"{script}: {done.returncode}\n{done.output}"
        return done.output

    def until(self, script: str, limit_s: float = 60.0) -> str:
        """Run a script again and again until it succeeds; what it prints then."""
        end = time.monotonic() + limit_s
        while (done := self.call(script, limit_s)).returncode != 0:
            assert time.monotonic() < end, f"not so after {limit_s:g} s: {script}\n{done.output}"
            time.sleep(POLL_S[1])
        return done.output

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        self.run(f'mkdir -p "$(dirname {path})"; cat >{path}', given=text.encode())

    def power_off(self) -> None:
        """Ask for an orderly power-off."""
        self.qemu.agent.send({"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}})
