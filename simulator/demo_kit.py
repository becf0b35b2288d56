"""The demo's last chapter: an activity is handed over as a kit, and strangers' tools check it without the agent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from simulator import proof
from simulator.handling import LOOK_S
from simulator.show import Show
from simulator.stage import DemoError, Service, Stage, with_options

SEALED_LIMIT_S: Final = 120.0
APPROVAL: Final = ("--approval", "批〔2026〕7号", "--who", "李四", "--why", "移送法制审核")
BARE_PYTHON: Final = ("/usr/bin/python3", "-I", "-S")
LINES: Final = 4

Json = Mapping[str, Any]


class Kits:
    """Exports, and has the result checked; then a byte is changed, which must be found."""

    def __init__(self, stage: Stage, show: Show) -> None:
        self._stage = stage
        self._show = show

    def tell(self, service: Service) -> None:
        """Raises DemoError at the first claim that is not true."""
        self._show.step("核验包", "capture-agent export: a case is handed to a court")
        self._sealed(service)
        kit = self._stage.root / "kit"
        activity = self._ask("activity", "list")["activities"][0]["activity_id"]
        told = self._ask("export", "--activity", activity, "--to", str(kit), *APPROVAL)
        self._show.say(f"{len(told['recordings'])} recordings, {told['files']} files: {kit}")
        self._show.claim("every original is in it, and every proof holds", [*told["missing"], *told["unsound"]], [])
        self._show.claim("核验报告 and 附卷说明 are printed", len(list(kit.glob("data/reports/*.pdf"))), 2)
        self._checked("sha256sum -c", "sha256sum", "-c", "--quiet", "manifest-sha256.txt")
        self._checked("bagit.py --validate", sys.executable, "-m", "bagit", "--quiet", "--validate", ".")
        said = self._checked("verify.py under a bare Python", *BARE_PYTHON, "verify.py", ".")
        for line in said.splitlines()[-LINES:]:
            self._show.say(line)
        self._show.claim("the log has the digest of this kit", f"compare: {told['bag']}" in said, True)
        self._changed()

    def _sealed(self, service: Service) -> None:
        """Manifests are signed ten minutes behind the last news; a demo has less time."""
        config = self._stage.config
        config.write_text(with_options(config.read_text("utf-8"), {"manifest.quiet_s": "0"}), "utf-8")
        os.kill(service.process.pid, signal.SIGHUP)
        end = time.monotonic() + SEALED_LIMIT_S
        while waiting := service.status()["manifests"]["to_sign"]:
            if time.monotonic() > end:
                raise DemoError(f"after {SEALED_LIMIT_S:g} s {waiting} manifests are not signed")
            time.sleep(LOOK_S)
        self._show.claim("清单 every recording has its signed manifest", waiting, 0)

    def _ask(self, *arguments: str) -> Json:
        code, said = proof.run(self._stage.command(*arguments, "--json"))
        if code:
            raise DemoError(said)
        answer: Json = json.loads(said)
        return answer

    def _checked(self, name: str, *command: str) -> str:
        code, said = proof.run(["env", "-C", str(self._stage.root / "kit"), *command])
        self._show.claim(f"{name}: right, exit code 0", (code, said if code else ""), (0, ""))
        return said

    def _changed(self) -> None:
        """Whoever has a kit can change a byte of an original and write all sums anew."""
        kit, other = self._stage.root / "kit", self._stage.root / "kit-changed"
        shutil.copytree(kit, other)
        original = min(path for path in other.glob("data/*/original_*") if path.suffix not in (".event", ".tlog-proof"))
        content = bytearray(original.read_bytes())
        content[len(content) // 2] ^= 1
        original.write_bytes(content)
        code, said = proof.run([*BARE_PYTHON, str(other / "verify.py"), str(other)])
        self._show.claim("one changed bit of an original: exit code 1, and the file is named", code, 1)
        self._show.claim("  " + original.name, original.name in said, True)
        shutil.rmtree(other)
