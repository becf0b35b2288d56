"""The demo's manifests: what belongs to each recording, signed, and checked with sha256sum and Python alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from simulator import proof
from simulator.show import Show
from simulator.stage import CHECKOUT, DemoError, Service, Stage, with_options

LOOK_S: Final = 0.5
SIGNED_LIMIT_S: Final = 300.0
CHECKER: Final = CHECKOUT / "packaging" / "kit" / "verify.py"


class Seals:
    """Manifests of all recordings, when everything has been said of them."""

    def __init__(self, stage: Stage, show: Show) -> None:
        self._stage = stage
        self._show = show

    def tell(self, service: Service, recordings: Sequence[str]) -> None:
        """Have them signed at once, and claim what they are worth; raises DemoError at the first that isn't true."""
        self._show.step("清单", "what belongs to each recording, signed; a demo doesn't wait for ten quiet minutes")
        text = self._stage.config.read_text("utf-8")
        self._stage.config.write_text(with_options(text, {"manifest.quiet_s": "0"}), "utf-8")
        os.kill(service.process.pid, signal.SIGHUP)
        counts = self._wait(service)
        self._show.say(f"  {counts['zh']}  {counts['en']}")
        newest = [self._stage.ask(f"/api/v1/metadata/{name}")["manifest"] for name in recordings]
        self._show.claim("each recording has a signed manifest", all(newest), True)
        files = [self._kept(one["blake3"]) for one in newest]
        told: list[dict[str, Any]] = [json.loads(file.read_bytes().split(b"\n", 1)[0]) for file in files]
        self._show.claim("each is of its own recording", [one["recording_id"] for one in told], list(recordings))
        self._check_assets(told)
        self._check_signatures(files)

    def _wait(self, service: Service) -> dict[str, Any]:
        """Until all are signed and stored; what the status page says then."""
        end = time.monotonic() + SIGNED_LIMIT_S
        while True:
            counts: dict[str, Any] = service.status()["manifests"]
            if counts["to_sign"] == 0 < counts["made"] == counts["stored"]:
                return counts
            if time.monotonic() > end:
                raise DemoError(f"after {SIGNED_LIMIT_S:g} s not all manifests are signed and stored: {counts}")
            time.sleep(LOOK_S)

    def _kept(self, blake3: str) -> Path:
        return self._stage.vault / blake3[:2] / blake3

    def _check_assets(self, told: Sequence[dict[str, Any]]) -> None:
        listed = {f"{one['sha256']}  {self._kept(one['blake3'])}\n" for manifest in told for one in manifest["assets"]}
        sums = self._stage.root / "manifests.sha256"
        sums.write_text("".join(sorted(listed)))
        code, _ = proof.run(["sha256sum", "--check", "--quiet", str(sums)])
        self._show.claim(f"{len(listed)} files that they name are what they say (sha256sum --check)", code, 0)

    def _check_signatures(self, files: Sequence[Path]) -> None:
        """With the court's checker, which knows nothing of the agent; and it notices another number."""
        folder, keys = self._stage.root / "manifests", self._stage.root / "keys.txt"
        folder.mkdir(exist_ok=True)
        for file in files:
            shutil.copyfile(file, folder / f"{file.name}.note")
        code, said = proof.run(self._stage.command("log", "key", "--json"))
        if code:
            raise DemoError(said)
        keys.write_text("\n".join(json.loads(said)["log"]), "utf-8")
        self._show.claim(f"{len(files)} signatures hold (verify.py, Python alone)", self._checked(folder, keys), 0)
        forged = folder / f"{files[0].name}.note"
        forged.write_bytes(files[0].read_bytes().replace(b'"number":', b'"number":1', 1))
        self._show.claim("with another number in one of them it says so", self._checked(folder, keys), 1)

    def _checked(self, folder: Path, keys: Path) -> int:
        """The checker's exit code: 0 all holds, 1 something is wrong."""
        sums = folder / "SHA256SUMS"
        names = sorted(path.name for path in folder.glob("*.note"))
        code, lines = proof.run(["sha256sum", *(str(folder / name) for name in names)])
        if code:
            raise DemoError(lines)
        sums.write_text(lines.replace(f"{folder}/", "") + "\n", "utf-8")
        return proof.run([sys.executable, "-I", "-S", str(CHECKER), str(folder), "--keys", str(keys)])[0]
