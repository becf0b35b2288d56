"""The demo's last chapter: an activity is handed over as a kit, and strangers' tools check it without the agent."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from typing import Any, Final

from simulator import proof
from simulator.show import Show
from simulator.stage import DemoError, Stage

APPROVAL: Final = ("--approval", "批〔2026〕7号", "--who", "李四", "--why", "移送法制审核")
BARE_PYTHON: Final = ("/usr/bin/python3", "-I", "-S")
LINES: Final = 4

Json = Mapping[str, Any]


class Kits:
    """Exports, and has the result checked; then a byte is changed, which must be found."""

    def __init__(self, stage: Stage, show: Show) -> None:
        self._stage = stage
        self._show = show

    def tell(self) -> None:
        """Raises DemoError at the first claim that is not true."""
        self._show.step("核验包", "capture-agent export: a case is handed to a court")
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
