"""A hearing room on made footage: two cameras, one of which loses its power; its gap, its film, every claim checked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import av

from agent.accounts.book import Role
from agent.control import ask
from agent.journal import Reader
from agent.journal.views import DocumentView, SessionView
from agent.model import Asset, AssetState, Derivation
from agent.model import Role as Made
from simulator import proof
from simulator.cameras.camera import PASSWORD, USER, Cameras
from simulator.cameras.footage import Footage, made
from simulator.cameras.frames import Known
from simulator.demo_browser import Browser
from simulator.recorders import Fate, Original
from simulator.show import Show, megabytes
from simulator.stage import CHECKOUT, DemoError, Service, Stage, configure, enlist, make_store, serving
from simulator.telling import exit_with, options, told

PACKS: Final = CHECKOUT / ".cache" / "cameras"
ROOM: Final = "hearing"
TITLES: Final[Mapping[str, str]] = {"front": "前方摄像机", "rear": "后方摄像机"}
SHOWN: Final[Mapping[str, Footage]] = {
    "front": Footage(size="640x360", kbit_s=600, laps=250), "rear": Footage(size="480x360", audio="pcm_alaw", laps=250),
}  # fmt: skip
SEGMENT_S: Final = 4
CALM_S: Final = 7.0
OUTAGE_S: Final = 5.0
LIMIT_S: Final = 120.0
FILMS_LIMIT_S: Final = 300.0
NEAR_S: Final = 8.0
"""What is recorded again begins with a key picture, after the camera's server has started and was found."""
NEEDED: Final = ("ffmpeg", "b3sum")
NEEDED_BYTES: Final = 1_000_000_000
ORDER: Final[Mapping[str, str]] = {
    "room": ROOM, "who": "李四", "why": "演示", "stage": "S13", "title": "听证会", "case_number": "鲁文执罚〔2026〕7号",
    "participants": "当事人 张三\n主持人 王五",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if every claim was checked and true, 1 otherwise."""
    given = options("demo room", __doc__, "demo-room", "look around until Ctrl-C").parse_args(arguments)

    def story(stage: Stage, show: Show) -> None:
        configure(stage, "directory", make_store(stage))
        RoomDemo(stage, show).run(stay=given.stay)

    return told(given, NEEDED, NEEDED_BYTES, story)


class RoomDemo:
    """The story, from the cameras to the film in a browser."""

    def __init__(self, stage: Stage, show: Show) -> None:
        self._stage = stage
        self._show = show
        self._session = ""

    def run(self, *, stay: bool) -> None:
        """Tell it; raises DemoError at the first claim that is not true."""
        show, stage = self._show, self._stage
        show.step(
            "摄像机", "Two cameras of GStreamer's RTSP server; their footage is encoded the first time (some 20 s)"
        )
        packs = {name: made(footage, PACKS) for name, footage in SHOWN.items()}
        with ExitStack() as stack:
            cameras = {name: stack.enter_context(Cameras({name: pack})) for name, pack in packs.items()}
            for name, footage in SHOWN.items():
                show.say(
                    f"{TITLES[name]} {footage.size} {footage.video}, {footage.audio}: port {cameras[name].port}, digest"
                )
            rooms = _room(stage, cameras)
            password = enlist(stage, Role.SUPERVISOR)[0]
            service = stack.enter_context(serving(stage))
            show.step("采集站", f"capture-agent runs; the room's page: {stage.address}rooms/{ROOM}")
            show.say(f"登录 sign in (this demo's own account): supervisor {password}")
            gone, back = self._record(service, cameras["rear"])
            self._tell_gap(gone, back)
            self._stored(service)
            films = self._films(service)
            self._pictures(packs, films)
            self._watch(password)
            self._verify()
            if stay:
                show.step("页面", f"Look around as supervisor {password}; Ctrl-C ends it")
                show.say(f"{stage.address}rooms/{ROOM}  start and stop another session by hand; rooms.toml: {rooms}")
                show.say(f"{stage.address}sessions/{self._session}  the one above, its films behind it")
                with contextlib.suppress(KeyboardInterrupt):
                    signal.pause()
            show.step("停止", "SIGTERM")
            show.claim("the service ended by itself, exit code 0", service.stop(), 0)
        show.step("完成", f"all {show.claims} claims were checked and are true, {show.seconds():.0f} s")

    # The session.

    def _record(self, service: Service, rear: Cameras) -> tuple[float, float]:
        """A session with an outage in the middle; from when to when that camera had no power."""
        show = self._show
        show.step("开始", "A hearing begins: case, stage and participants are attached")
        self._session = str(self._ask("session_start", ORDER)["session"])
        self._until(service, "both cameras are recorded", lambda room: _connected(room) == {"front", "rear"})
        show.claim("录制中 the page's light is on", "录制中" in self._page(), True)
        time.sleep(CALM_S)
        show.step("中断", f"{TITLES['rear']} loses its power for {OUTAGE_S:g} s")
        gone = time.time()
        rear.kill()
        self._until(service, "the outage is noticed", lambda room: _connected(room) == {"front"})
        show.claim(
            f"noticed after {time.time() - gone:.1f} s; 信号中断 is on the page", "信号中断" in self._page(), True
        )
        time.sleep(max(0.0, gone + OUTAGE_S - time.time()))
        rear.start()
        back = time.time()
        self._until(service, "the camera is recorded again", lambda room: _connected(room) == {"front", "rear"})
        show.claim(f"recorded again {time.time() - back:.1f} s after it had power", time.time() - back < NEAR_S, True)
        time.sleep(CALM_S)
        show.step("结束", "The hearing ends")
        self._ask("session_stop", {"session": self._session, "who": "李四", "why": "听证结束"})
        self._wait(service, "the session has ended", lambda: self._view().ended is not None, LIMIT_S)
        return gone, back

    def _tell_gap(self, gone: float, back: float) -> None:
        """What the ledger says of the outage, compared with when it really was."""
        show, view = self._show, self._view()
        show.step("台账", f"The ledger: {self._stage.address}sessions/{self._session}")
        gaps = [note for note in view.notes if note.kind == "gap"]
        for note in view.notes:
            show.say(f"{note.source or '—'} {note.kind} {note.cause} {note.start:%H:%M:%S.%f} – {note.end or '…'}")
        inside = [note for note in gaps if note.start.timestamp() > gone - 2 and note.source == "rear"]
        show.claim("the outage is one gap of the rear camera", len(inside), 1)
        (gap,) = inside
        assert gap.end is not None, "it was waited for"
        show.claim("it begins within 2 s of the power cut", abs(gap.start.timestamp() - gone) < 2, True)
        show.claim("it ends when pictures came again", 0 <= gap.end.timestamp() - back < NEAR_S, True)
        during = [note for note in gaps if note.source == "front" and note.start.timestamp() > gone - 2]
        show.claim("the front camera has none", during, [])

    # What became of it.

    def _stored(self, service: Service) -> None:
        show = self._show
        show.step("入库", "Every segment is an original of its own: proved, sealed, stored")
        self._wait(service, "all segments are stored", self._all_stored, LIMIT_S)
        originals = self._originals()
        size = sum(one.expected_bytes for one in originals)
        show.claim(f"已入库 {len(originals)} segments, {megabytes(size)}", len(originals) >= 2 * len(TITLES), True)
        kept = [_kept(one) for one in originals]
        wrong = proof.differs("b3sum", self._stage.store / "originals", kept, self._stage.root / "store.b3")
        show.claim("the store has every one of them (b3sum --check)", wrong, "")

    def _films(self, service: Service) -> dict[str, Path]:
        """The films, once they are made; by source, "" for all side by side."""
        show = self._show
        show.step("合成片", "While nothing else needs the station, films are made; the originals stay as they are")
        self._wait(service, "the films are made", lambda: Made.SESSION_LIST in self._made(""), FILMS_LIMIT_S)
        found = {name: self._path(self._made(name)[Made.ACCESS_COPY]) for name in TITLES}
        found[""] = self._path(self._made("")[Made.MOSAIC])
        lengths = {name: _seconds(path) for name, path in found.items()}
        view = self._view()
        assert view.ended is not None, "it was waited for"
        lasts = (view.ended.ended_at - view.started.started_at).total_seconds()
        for name, path in found.items():
            show.say(
                f"{TITLES.get(name, '多画面 side by side')}: {lengths[name]:.1f} s, {megabytes(path.stat().st_size)}"
            )
        show.claim(
            f"each lasts as long as the session, {lasts:.1f} s",
            max(abs(one - lasts) for one in lengths.values()) < 1,
            True,
        )
        complete = [
            view.said.complete
            for name in TITLES
            for view in self._made(name).values()
            if isinstance(view.said, Derivation)
        ]
        show.claim("nothing is missing in them", all(complete), True)
        return found

    def _pictures(self, packs: Mapping[str, Path], films: Mapping[str, Path]) -> None:
        """Each picture of these cameras has a number in it."""
        for name, pack in packs.items():
            files = [self._address(one) for one in self._originals(name)]
            recorded, shown = (Known(pack).match(listed) for listed in (files, [films[name]]))
            self._show.claim(
                f"{TITLES[name]}: the film has all {len(recorded.pictures)} pictures of {len(files)} segments in order",
                shown.pictures, recorded.pictures,
            )  # fmt: skip
            self._show.say(f"  {len(recorded.gaps)} gap in the numbers of its pictures")

    def _watch(self, password: str) -> None:
        show, films = self._show, f"{self._stage.address}sessions/{self._session}/films"
        show.step("观看", films)
        if not Browser.is_there():
            show.warn("Chromium is not installed: open it yourself, as supervisor")
            return
        with Browser() as browser:
            browser.sign_in(f"{self._stage.address}login?next=/sessions/{self._session}", "supervisor", password)
            show.claim("the page of the session shows the gap", "中断" in browser.text(), True)
            for number, name in enumerate(("front", "rear", "")):
                browser.open(films)
                told = browser.play(name, "演示")
                show.claim(f"{TITLES.get(name, '多画面 side by side')}: plays and seeks in Chromium", told, "ended")
                assert number < len(films), "each is looked at once"
        viewed = [event for event in self._events() if event == "copy_viewed"]
        show.claim("each view is in the journal, with its reason", len(viewed), 3)

    def _verify(self) -> None:
        self._show.step("校验", "capture-agent verify")
        code, said = proof.run(self._stage.command("verify"))
        for line in said.splitlines()[-4:]:
            self._show.say(line)
        self._show.claim("verify found no difference, exit code 0", code, 0)

    # How it is asked.

    def _ask(self, verb: str, asked: Mapping[str, str]) -> dict[str, Any]:
        return asyncio.run(ask(self._stage.station, verb, dict(asked)))

    def _page(self) -> str:
        with urllib.request.urlopen(f"{self._stage.address}rooms/{ROOM}", timeout=20) as answer:  # noqa: S310 - ours
            return str(answer.read().decode())

    def _until(self, service: Service, what: str, is_so: Callable[[dict[str, Any]], bool]) -> None:
        self._wait(service, what, lambda: is_so(self._stage.ask(f"/api/v1/rooms/{ROOM}")), LIMIT_S)

    def _wait(self, service: Service, what: str, is_so: Callable[[], bool], limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not is_so():
            service.alive()
            if time.monotonic() > end:
                raise DemoError(f"{what}: not after {limit_s:g} s")
            time.sleep(0.2)
        self._show.say(what)

    def _reader(self) -> closing[Reader]:
        return closing(Reader(self._stage.station / "journal.db"))

    def _view(self) -> SessionView:
        with self._reader() as reader:
            return reader.session(self._session)

    def _events(self) -> list[str]:
        with self._reader() as reader:
            return [event.kind for event in reader.events(limit=1_000_000)]

    def _originals(self, source: str = "") -> list[Asset]:
        with self._reader() as reader:
            taken = [one for one in reader.session(self._session).segments if source in ("", one.source)]
            return [reader.asset(one.asset.asset_id) for one in taken]

    def _all_stored(self) -> bool:
        return all(one.state is AssetState.STORED for one in self._originals())

    def _made(self, source: str) -> dict[Made, DocumentView]:
        """The newest file of each role that was made of a source, or of the whole session."""
        with self._reader() as reader:
            views = reader.joined(self._session)
        return {one.asset.role: one for one in views if isinstance(one.said, Derivation) and one.said.of == source}

    def _path(self, view: DocumentView) -> Path:
        return self._address(view.asset)

    def _address(self, asset: Asset) -> Path:
        assert asset.digests is not None, "it is held"
        return self._stage.vault / asset.digests.blake3[:2] / asset.digests.blake3


def _room(stage: Stage, cameras: Mapping[str, Cameras]) -> Path:
    """One room of two cameras; user and password are in a credential, as systemd gives it to the service."""
    secrets = stage.root / "credentials"
    secrets.mkdir(mode=0o700)
    (secrets / "capture-agent.camera-demo").write_text(f"{USER}:{PASSWORD}\n")
    (secrets / "capture-agent.camera-demo").chmod(0o600)
    os.environ["CREDENTIALS_DIRECTORY"] = str(secrets)
    lines = [
        f"[room.{ROOM}]",
        'title = "第一听证室"',
        f"segment_s = {SEGMENT_S}",
        "planned_h = 0.1",
        "bitrate_kbit_s = 1000",
    ]
    for name, camera in cameras.items():
        lines += [f"[room.{ROOM}.source.{name}]", f'title = "{TITLES[name]}"', 'credential = "demo"']
        lines += [f'url = "rtsp://127.0.0.1:{camera.port}/{name}"']
    path = stage.config.parent / "rooms.toml"
    path.write_text("\n".join([*lines, ""]), "utf-8")
    return path


def _connected(room: Mapping[str, Any]) -> set[str]:
    return {str(one["source"]) for one in room["sources"] if one["light"]["name"] == "recording"}


def _kept(asset: Asset) -> Original:
    assert asset.digests is not None, "it is stored"
    size = asset.expected_bytes
    return Original("", size, size, asset.digests.blake3, asset.digests.sha256, Fate.KEPT)


def _seconds(path: Path) -> float:
    with av.open(path) as film:
        return (film.duration or 0) / 1_000_000


if __name__ == "__main__":
    exit_with(main)
