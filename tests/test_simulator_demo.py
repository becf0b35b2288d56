"""The demo touches only what is its own, says what is not as claimed, and its proofs notice a changed byte."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from agent.config import load
from agent.uploader.directory_errors import MARKER as MARKER_OF_STORES
from simulator import demo, proof, stage, telling
from simulator.handling import Handling, ReadMeter, Slot, slot_news
from simulator.recorders import Fate, Original, Recorder
from simulator.show import Show, megabytes, share_of
from simulator.stage import MARKER, DemoError, Service, Stage, prepare, wipe, with_options
from simulator.stores.ceph import Ceph


def slot(phase: str = "reading", done: int = 0, total: int = 100, docking: str = "d1", name: str = "card.img") -> Slot:
    return {
        "slot": name, "docking_id": docking, "phase": {"name": phase, "zh": "读取中", "en": phase},
        "files": {"done": 1, "total": 2}, "bytes": {"done": done, "total": total}, "rate_bytes_s": 5_000_000,
    }  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# The stage.


def test_the_shipped_configuration_is_used_and_is_valid(tmp_path: Path) -> None:
    made = prepare(tmp_path / "demo")
    config = load(made.config)
    assert config.dock.image_dir == made.dock
    assert not config.dock.usb, "the demo must never touch a recorder that happens to be plugged in"
    assert config.storage.root == made.station
    assert (config.store.kind, config.store.options) == ("directory", {"path": str(made.store)})
    assert (made.store / MARKER_OF_STORES).is_file()
    assert config.status.port == made.port
    assert config.profile.name == "shandong"


def test_another_kind_of_store_is_configured_with_its_options(tmp_path: Path) -> None:
    made = stage.empty(tmp_path / "demo")
    options = {"endpoint": "https://127.0.0.1:1", "lock_days": 7, "bucket": '名"\\'}
    stage.configure(made, "s3", options)
    config = load(made.config)
    assert (config.store.kind, config.store.options) == ("s3", options)
    assert not made.store.exists()


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    with pytest.raises(DemoError, match="was not made by the demo"):
        prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_an_earlier_demo_is_wiped_and_sealed_originals_with_it(tmp_path: Path) -> None:
    made = prepare(tmp_path / "demo")
    sealed = made.store / "original"
    sealed.write_text("x")
    subprocess.run(["chattr", "+i", str(sealed)], check=False, capture_output=True)
    again = prepare(tmp_path / "demo")
    assert [path.name for path in again.store.iterdir()] == [MARKER_OF_STORES]
    wipe(again.root)
    assert not again.root.exists()


def test_a_wipe_that_was_interrupted_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prepare(tmp_path / "demo")
    with monkeypatch.context() as broken:
        broken.setattr(stage.shutil, "rmtree", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            wipe(made.root)
    assert (made.root / MARKER).exists()
    wipe(made.root)
    assert not made.root.exists()


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20))
def test_an_option_is_replaced_in_its_section_only(value: str) -> None:
    text = '[a]\n# name = "comment"\nname = "x"\nport = 1\n[b]\nname = "y"\n[b.options]\n'
    changed = with_options(text, {"b.name": f'"{value}"'})
    assert changed == text.replace('"y"', f'"{value}"')


def test_an_option_that_is_not_there_is_told() -> None:
    with pytest.raises(DemoError, match=r"a\.port"):
        with_options("[a]\nname = 1\n[b]\nport = 2\n", {"a.port": "3"})


def test_a_service_that_ended_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    made = Stage(tmp_path, 1)
    made.log.write_text("first\nlast words\n")
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    process.wait()
    with pytest.raises(DemoError, match=r"(?s)ended with 7.*last words"):
        Service(process, made).alive()


def test_stopping_gives_the_exit_code(tmp_path: Path) -> None:
    code = "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(3))\nprint('ready', flush=True)\nsignal.pause()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        assert Service(process, Stage(tmp_path, 1)).stop() == 3


def test_a_false_configuration_ends_the_demo_with_the_services_own_words(tmp_path: Path) -> None:
    made = prepare(tmp_path / "demo")
    made.config.write_text("[dock]\nnonsense = 1\n")
    with pytest.raises(DemoError, match="nonsense"), stage.serving(made):
        pytest.fail("it must not start")


# What is shown.


def test_a_claim_that_is_not_true_ends_the_demo_with_both_sides() -> None:
    out = io.StringIO()
    show = Show(out)
    show.claim("two is two", 2, 2)
    with pytest.raises(DemoError, match="one is two: expected 2, found 1"):
        show.claim("one is two", 1, 2)
    assert "✓ two is two" in out.getvalue()
    assert "✗ one is two" in out.getvalue()
    assert show.claims == 2


def test_colours_and_redrawn_lines_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, terminal = io.StringIO(), Terminal()
    for out in (plain, terminal):
        show = Show(out)
        show.step("插入", "docked")
        show.progress(slot(done=10))
        show.claim("true", 1, 1)
    assert "\033" not in plain.getvalue()
    assert "\r" not in plain.getvalue()
    assert "\033[32m" in terminal.getvalue()
    assert "\r" in terminal.getvalue()


def test_without_a_terminal_progress_is_a_line_per_quarter() -> None:
    out = io.StringIO()
    show = Show(out)
    for done in range(101):
        show.progress(slot(done=done))
    assert out.getvalue().count("\n") == 5


def test_shares_and_sizes_are_told_truly() -> None:
    assert share_of(slot(done=25)) == 0.25
    assert share_of(slot(done=0, total=0)) == 0.0
    assert megabytes(367_315_709) == "367 MB"


# The proofs.


def original(content: bytes, path: str = "DCIM/a.mp4") -> Original:
    digests = blake3(content).hexdigest(), hashlib.sha256(content).hexdigest()
    return Original(path, len(content), len(content), *digests, Fate.KEPT)


def keep(root: Path, content: bytes) -> Path:
    name = blake3(content).hexdigest()
    path = root / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_changed_recorder_is_noticed(tmp_path: Path) -> None:
    image = tmp_path / "card.img"
    image.write_bytes(bytes(4096))
    digest = proof.note_checksum(image)
    assert digest == hashlib.sha256(bytes(4096)).hexdigest()
    assert proof.differs_from_note(image) == ""
    with image.open("r+b") as card:
        card.seek(4095)
        card.write(b"\1")
    assert "FAILED" in proof.differs_from_note(image)


def test_a_recorder_that_is_away_can_not_be_noted(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="No such file"):
        proof.note_checksum(tmp_path / "away.img")


@pytest.mark.parametrize("tool", ["sha256sum", "b3sum"])
def test_missing_and_changed_originals_are_noticed(tmp_path: Path, tool: str) -> None:
    def differs(*originals: Original) -> str:
        return proof.differs(tool, tmp_path, originals, tmp_path / "checklist")

    one, two = original(b"one"), original(b"two")
    kept = keep(tmp_path, b"one")
    assert differs(one, one) == ""
    assert two.blake3 in differs(one, two)
    kept.write_bytes(b"0ne")
    assert "FAILED" in differs(one)


def test_only_originals_are_counted(tmp_path: Path) -> None:
    keep(tmp_path, b"one")
    keep(tmp_path, b"two")
    (tmp_path / ".incoming-1").write_bytes(b"")
    (tmp_path / "ab").mkdir(exist_ok=True)
    assert proof.kept_files(tmp_path) == 2


def test_a_command_tells_its_code_and_all_that_it_said() -> None:
    assert proof.run(["sh", "-c", "echo out; echo err >&2; exit 4"]) == (4, "out\nerr")


# Hands and eyes.


@pytest.fixture
def page() -> Iterator[tuple[Stage, list[bytes]]]:
    """A status page that sends prepared events and then ends."""
    frames: list[bytes] = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            for frame in frames:
                self.wfile.write(frame)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Stage(Path("/nowhere"), server.server_port), frames
    server.shutdown()
    thread.join()
    server.server_close()


def frame(*slots: Slot) -> bytes:
    return b"event: slots\ndata: " + json.dumps({"slots": slots}).encode() + b"\n\n"


def test_slots_come_from_the_events_and_nothing_else_does(page: tuple[Stage, list[bytes]]) -> None:
    made, frames = page
    frames += [b"retry: 2000\n\n", b'id: 7\nevent: journal\ndata: {"seq": 7}\n\n', frame(slot()), b": still here\n\n"]
    assert list(slot_news(made)) == [[slot()], None]


def test_a_docking_is_followed_until_it_ended_and_never_taken_for_the_next(
    page: tuple[Stage, list[bytes]], tmp_path: Path
) -> None:
    made, frames = page
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    handling = Handling(Service(process, made), Show(io.StringIO()))
    recorder = Recorder(tmp_path / "card.img", "fat32", "", (), (), ())
    try:
        frames += [frame(slot("finished", name="other.img")), frame(slot(done=30)), frame(slot("unplugged"))]
        assert handling.follow(recorder, lambda seen: share_of(seen) > 0.2)["bytes"]["done"] == 30
        assert handling.ended(recorder)["phase"]["name"] == "unplugged"
        frames.append(frame(slot("finished", docking="d2")))
        assert handling.ended(recorder)["docking_id"] == "d2"
        with pytest.raises(DemoError, match="not done"):
            handling.ended(recorder)
        gone = handling.gone(slot())
        assert gone is not None
        assert gone["phase"]["name"] == "unplugged"
        assert handling.gone(slot(docking="d0")) is None, "a slot that is no longer shown had been pulled"
    finally:
        process.kill()
        process.wait()


def test_docking_is_a_link_that_is_there_at_once_and_yanking_takes_it_away(tmp_path: Path) -> None:
    made = prepare(tmp_path / "demo")
    image = made.recorders / "card.img"
    image.write_bytes(b"card")
    recorder = Recorder(image, "fat32", "", (), (), ())
    process = subprocess.Popen(["true"])
    process.wait()
    handling = Handling(Service(process, made), Show(io.StringIO()))
    handling.dock(recorder)
    assert (made.dock / "card.img").samefile(image)
    handling.yank(recorder)
    assert list(made.dock.iterdir()) == []
    assert image.read_bytes() == b"card"


def test_the_meter_counts_what_a_puller_reads_and_nobody_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(bytes(3 << 20))
    code = "import sys; f = open(sys.argv[1], 'rb'); f.read(); print('read', flush=True); sys.stdin.read()"
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(data), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in ("agent.drivers.puller", "somebody.else")
    ]
    meter = ReadMeter(os.getpid())
    try:
        with meter.watching():
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == b"read\n"
            seen = threading.Event()
            while (meter.read_bytes or 0) < 3 << 20:
                seen.wait(0.01)
    finally:
        for child in children:
            child.communicate()
    assert meter.read_bytes is not None
    assert 3 << 20 <= meter.read_bytes < (3 << 20) + demo.START_BYTES


def demo_command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "simulator.demo", "--fast", "--dir", str(folder), *options]


@pytest.mark.timeout(600)
def test_the_demo_runs_and_every_claim_is_true(tmp_path: Path) -> None:
    done = subprocess.run(demo_command(tmp_path / "demo"), cwd=demo.CHECKOUT, capture_output=True, check=False)
    told = done.stdout.decode()
    assert done.returncode == 0, told
    assert "已拔出，剩余" in told
    assert "verify found no difference" in told
    assert "\033" not in told
    assert not (tmp_path / "demo").exists()


@pytest.mark.timeout(600)
def test_the_demo_against_ceph_survives_the_death_of_the_gateway(tmp_path: Path, ceph: Ceph) -> None:
    """`ceph` is only asked for to know whether it is installed: the demo starts its own."""
    del ceph
    command = demo_command(tmp_path / "demo", "--store", "s3")
    done = subprocess.run(command, cwd=demo.CHECKOUT, capture_output=True, check=False)
    told = done.stdout.decode()
    assert done.returncode == 0, told
    assert "专用存储器不可用（已采集的数据在本机安全保存）" in told
    assert re.search(r"the upload went on: [1-9]\d* of \d+ parts were there, [1-9]\d* came now", told)
    assert re.search(r"已入库 stored at .*, locked until 20\d\d-", told)
    assert "every version is locked, mode COMPLIANCE" in told
    assert not (tmp_path / "demo").exists()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_no_service_outlives_an_interrupted_demo(tmp_path: Path, number: signal.Signals) -> None:
    command = demo_command(tmp_path / "demo")
    with subprocess.Popen(command, cwd=demo.CHECKOUT, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        address = next(found for line in process.stdout if (found := re.search(rb"127\.0\.0\.1:(\d+)", line)))
        process.send_signal(number)
        assert b"interrupted" in process.stdout.read()
    assert process.returncode == 130
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address[1])), 5)


def test_a_refusal_is_told_in_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("x")
    assert demo.main(["--dir", str(tmp_path)]) == 1
    assert "was not made by the demo" in capsys.readouterr().out
    assert (tmp_path / "mine").exists()


def test_a_missing_tool_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(telling.shutil, "which", lambda tool: None if tool == "mkfs.exfat" else tool)
    assert demo.main(["--dir", str(tmp_path / "demo")]) == 1
    assert "mkfs.exfat can't be found" in capsys.readouterr().out
    assert not (tmp_path / "demo").exists()
