"""The demo's chapter about custody receipts: what each docking's says, and what becomes of a forged one."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from simulator import proof
from simulator.handling import LOOK_S
from simulator.show import Show
from simulator.stage import DemoError, Service, Stage

ISSUED_LIMIT_S: Final = 240.0


class Receipts:
    """What officers take home, asked of the real command line."""

    def __init__(self, stage: Stage, show: Show) -> None:
        self._stage = stage
        self._show = show

    def tell(self, service: Service) -> None:
        """Tell it; raises DemoError at the first claim that is not true."""
        self._show.step("回执", "a custody receipt for each docking; may its recorder be cleared?")
        receipts = self._issued(service)
        for docking in receipts:
            self._show.say(f"{docking['slot']}: {docking['receipt']['zh']}  {docking['receipt']['en']}")
        last = receipts[-1]["receipt"]["name"]
        self._show.claim("可以清空 what was yanked and docked again may be cleared", last, "clear")
        code, paper = self._code(), self._stage.root / "receipt.pdf"
        answer, _ = proof.run(self._stage.command("receipt", "show", "--pdf", str(paper)))
        is_paper = answer == 0 and paper.read_bytes().startswith(b"%PDF-")
        self._show.claim(f"it is printed with a QR code of {len(code.encode())} bytes", is_paper, True)
        genuine, _ = proof.run(self._stage.command("receipt", "verify", code))
        self._show.claim("receipt verify takes the text of the code for genuine, exit code 0", genuine, 0)
        forged = code.replace("extra W", "extra X", 1)
        refused, _ = proof.run(self._stage.command("receipt", "verify", forged))
        self._show.claim("one letter of it changed: not genuine, exit code 1", refused, 1)

    def _issued(self, service: Service) -> list[Mapping[str, Any]]:
        """All dockings, oldest first, when each has its last receipt."""
        end = time.monotonic() + ISSUED_LIMIT_S
        while time.monotonic() < end:
            dockings = [one for one in service.status()["dockings"] if one["listed_at"]]
            if all(one["receipt"] and one["receipt"]["name"] != "not_stored" for one in dockings):
                return dockings[::-1]
            time.sleep(LOOK_S)
        raise DemoError("not every docking has its receipt")

    def _code(self) -> str:
        """The text of the newest receipt's code, as soon as the log is signed that far."""
        end = time.monotonic() + ISSUED_LIMIT_S
        while time.monotonic() < end:
            answer, said = proof.run(self._stage.command("receipt", "show", "--json"))
            if answer == 0 and (code := str(json.loads(said)["code"])):
                return code
            time.sleep(LOOK_S)
        raise DemoError("no receipt was issued and signed")
