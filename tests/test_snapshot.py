"""What manifests tell of the station: true, or said to be unknown; options of theirs that can't work are refused."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import pytest

from agent import __version__
from agent.clocks import ClockState
from agent.config import load
from agent.config.digest import digest_of
from agent.errors import ConfigError
from agent.model import AssetChanged, Blocked, Incident
from agent.pipeline.snapshot import snapshot
from agent.pipeline.station import Station
from agent.status.record import known_of, record_view, sealed_view
from tests.conftest import SettableClock
from tests.noted import signer
from tests.stations import SHIPPED
from tests.test_seal_lane import recordings, station

__all__ = ["station"]
KEY = signer("bureau.example/key").key.vkey


async def test_the_environment_is_what_the_machine_and_the_journal_say(station: Station, tmp_path: Path) -> None:
    config = tmp_path / "config" / "agent.toml"
    config.parent.mkdir()
    config.write_text("[dock]\nusb = false\n")
    run = await station.journal.record(Incident("started", {"version": __version__}))
    await station.journal.record(Incident("storage-full"), Incident("storage-full"))
    await station.journal.record(
        AssetChanged(station.journal.reader.recordings()[0].asset.asset_id, Blocked("refused"))
    )
    told = snapshot(station, ClockState(synced=True, by="systemd-timesyncd", rtc_ahead_s=-1.5), config, run)
    assert told["agent"]["version"] == __version__
    assert len(told["agent"]["build_sha256"]) == 64
    assert (told["system"]["kernel"], told["python"]) == (platform.release(), platform.python_version())
    assert told["clock"] == {"synced": True, "by": "systemd-timesyncd", "rtc_ahead_s": -1.5, "step_s": 0.0}
    assert told["storage"]["filesystem"] in Path("/proc/filesystems").read_text()
    assert told["storage"]["immutable"] in (False, None), "these stations don't seal"
    assert told["configuration_sha256"] == digest_of(config)
    assert told["errors"] == {
        "incidents_since_start": {"started": 1, "storage-full": 2},
        "stuck_originals": 1,
        "doubted": 0,
    }


async def test_what_can_not_be_found_out_is_unknown_and_keeps_no_manifest_back(
    station: Station, tmp_path: Path
) -> None:
    unreadable = tmp_path / "config" / "agent.toml"
    unreadable.mkdir(parents=True)  # a folder where a file is expected
    told = snapshot(station, ClockState(), unreadable, 1)
    assert told["clock"]["synced"] is None
    assert told["configuration_sha256"] == "unknown"


def test_the_digest_of_a_configuration_is_over_all_its_files_as_documented(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "agent.toml").write_text("[dock]\n")
    (tmp_path / "profiles" / "shandong.toml").write_text("x = 1\n")
    (tmp_path / "README").write_text("no configuration")
    written = b"agent.toml\n7\n[dock]\nprofiles/shandong.toml\n6\nx = 1\n"
    assert digest_of(tmp_path / "agent.toml") == hashlib.sha256(written).hexdigest()
    (tmp_path / "roster.toml").write_text("")
    assert digest_of(tmp_path / "agent.toml") != hashlib.sha256(written).hexdigest()


async def test_a_manifest_leaves_out_what_hangs_on_today_or_on_others(station: Station, clock: SettableClock) -> None:
    known = known_of(station.journal.reader, recordings(station)[0])
    whole, told = record_view(known, SHIPPED, clock()), sealed_view(known, SHIPPED, clock())
    assert set(told["fields"]) <= set(whole["fields"])
    assert set(whole["fields"]) - set(told["fields"]) <= {"activity_id", "segment_no", "obligation", "interruptions"}
    assert "state" in whole["fields"]["deadline"]["value"]
    clock.advance(86400 * 30)
    assert sealed_view(known, SHIPPED, clock()) == told, "time alone is no news"
    assert told["missing"] == [one["name"] for one in whole["missing"]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[manifest]\ncommand = ["sign"]\n' + f'key = "{KEY}"\n', "absolute path"),
        (f'[manifest]\nkey = "{KEY}"\n', "absolute path"),
        ('[manifest]\ncommand = ["/bin/sign"]\n', "manifest.key = ''"),
        ('[manifest]\ncommand = ["/bin/sign"]\nkey = "a+00000000+AAAA"\n', "must be the command's public key"),
        ('[timestamp]\nurl = "ftp://x"\nca_file = "/x"\n', "must begin with http"),
        ('[timestamp]\nurl = "http://x y"\nca_file = "/x"\n', "must begin with http"),
        ('[timestamp]\nurl = "http://x/"\n', "timestamp.ca_file"),
    ],
)
def test_options_that_can_not_work_are_refused_with_the_configuration(tmp_path: Path, text: str, why: str) -> None:
    for name in ("profiles", "calendar"):
        (tmp_path / name).symlink_to(SHIPPED.path.parent / name)
    (tmp_path / "agent.toml").write_text(text)
    with pytest.raises(ConfigError, match=why):
        load(tmp_path / "agent.toml")
