"""From a card to signed manifests at the store, with the real service killed in between, checked without the agent."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.journal import Reader, verify
from agent.journal.views import DocumentView
from agent.manifest import Manifest
from agent.model import AssetState, Role
from agent.vault import Vault
from simulator.content import Noise
from simulator.demo_seals import Seals
from simulator.show import Show
from simulator.stage import Stage
from tests.cards import image
from tests.daemons import call, running, stage
from tests.test_kit import KIT

QUICK = {"manifest.quiet_s": "0", "runner.probe_pause_s": "0.05", "dock.rescan_s": "1"}
FILES = {f"DCIM/{number:04}.MP4": Noise(20_000 + number, number) for number in range(1, 7)}
SAID = ("--field", "proof_object=证明药店未按处方销售药品", "--who", "张三", "--why", "现场")


def recordings(made: Stage) -> dict[str, str]:
    """SHA-256 of each original, by its recording."""
    with closing(Reader(made.station / "journal.db")) as reader:
        views = reader.recordings(limit=100)
        return {view.recording.recording_id: view.asset.digests.sha256 for view in views if view.asset.digests}


def seals(made: Stage, recording_id: str) -> tuple[DocumentView, ...]:
    with closing(Reader(made.station / "journal.db")) as reader:
        return reader.seals(recording_id)


def are_stored(made: Stage, number: int) -> bool:
    """Whether each recording's newest manifest is at the store, has at least this number, and says all."""
    with closing(Reader(made.station / "journal.db")) as reader:
        found = [reader.seals(view.recording.recording_id) for view in reader.recordings(limit=100)]
        newest = [all_of[-1].said.number for all_of in found if all_of]  # type: ignore[union-attr]
        is_done = len(newest) == len(FILES) and min(newest) >= number and reader.seal_counts().to_make == 0
        return is_done and all(one.asset.state is AssetState.STORED for all_of in found for one in all_of)


def plain(made: Stage, view: DocumentView, store: Path) -> dict[str, Any]:
    """What a manifest at the store says, checked by the court's checker with the station's public key alone."""
    assert view.asset.digests is not None
    name = view.asset.digests.blake3
    data = (store / "originals" / name[:2] / name).read_bytes()
    line, sha256, _, _, signature, _ = data.decode().split("\n")
    assert sha256 == f"sha256 {hashlib.sha256(line.encode()).hexdigest()}"
    origin = signature.split(" ")[1]
    with closing(Reader(made.station / "journal.db")) as reader:
        public = bytes.fromhex(reader.announced_keys()[0].public)
    key_id = hashlib.sha256(f"{origin}\n".encode() + b"\1" + public).digest()[:4]
    assert KIT.signers(KIT.note_of(data), [(origin, key_id, b"\1", public)]) == [(origin, b"\1", "")]
    told: dict[str, Any] = json.loads(line)
    return told


def bend(made: Stage, view: DocumentView) -> None:
    """Who edits the kept manifest, and makes its own digests right again, is found."""
    assert view.asset.digests is not None
    kept = Vault(made.station, seal=False).address(view.asset.digests.blake3)
    line, _, *rest = kept.read_text("utf-8").split("\n")
    bent = line.replace("未按处方", "已按处方")
    assert bent != line
    kept.chmod(0o600)
    kept.write_text("\n".join([bent, f"sha256 {hashlib.sha256(bent.encode()).hexdigest()}", *rest]), "utf-8")
    answer = call(made, "verify")
    assert answer.returncode not in (0, 2)
    assert view.asset.asset_id in answer.stdout + answer.stderr


def test_manifests_are_signed_stored_and_true_and_a_kill_costs_none_of_them(tmp_path: Path) -> None:
    made = stage(tmp_path, QUICK)
    with running(made) as daemon:
        daemon.dock(image(tmp_path / "card.img", dict(FILES)))
        daemon.until(lambda: any(seals(made, each) for each in recordings(made)))
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.service.process.wait()
    with running(made) as daemon:
        daemon.until(lambda: are_stored(made, 1))
        daemon.until(lambda: daemon.status()["manifests"]["to_sign"] == 0)  # a status may be half a second old
        originals = recordings(made)
        spoken = next(iter(originals))
        before = len(seals(made, spoken))
        assert call(made, "metadata", "set", spoken, *SAID).returncode == 0
        daemon.until(lambda: len(seals(made, spoken)) > before and are_stored(made, 1))
        Seals(made, Show(io.StringIO())).tell(daemon.service, list(originals))
    for recording_id, sha256 in originals.items():
        views = seals(made, recording_id)
        told = [plain(made, view, made.store) for view in views]
        assert [one["number"] for one in told] == list(range(1, len(told) + 1))
        assert [one["previous"] for one in told] == [
            "",
            *(view.asset.digests.blake3 for view in views[:-1] if view.asset.digests),
        ]
        assert {one["recording_id"] for one in told} == {recording_id}
        assert told[-1]["assets"][0]["sha256"] == sha256
    last = plain(made, seals(made, spoken)[-1], made.store)
    assert [one["role"] for one in last["assets"]] == [Role.ORIGINAL, Role.STATEMENT]
    assert last["metadata"]["fields"]["proof_object"] == {"source": "O", "value": "证明药店未按处方销售药品"}
    assert "central_receipt" not in last["metadata"]["fields"]
    assert last["environment"]["system"]["kernel"] == platform.release()
    assert last["environment"]["storage"]["immutable"] in (False, None)
    assert len(last["environment"]["configuration_sha256"]) == 64
    assert last["log"].startswith("capture-agent/")
    shown = json.loads(call(made, "metadata", "show", spoken, "--json").stdout)["manifest"]
    assert (shown["number"], shown["stamped"]) == (last["number"], None)
    assert shown["blake3"] in call(made, "metadata", "show", spoken).stdout
    assert call(made, "verify").returncode == 0
    assert verify(made.station / "journal.db").consistent
    bend(made, seals(made, spoken)[-1])
    Manifest.parse((made.store / "originals" / shown["blake3"][:2] / shown["blake3"]).read_bytes())
