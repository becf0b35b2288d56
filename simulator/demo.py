"""The whole job on made footage: two recorders docked, one of them yanked, everything stored, every claim checked."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from typing import Any, Final

from agent.accounts.book import Role
from agent.journal import Reader
from agent.journal.codec import decode
from agent.model import BLOCK_BYTES, Observed
from agent.status.absences import absence_view
from simulator import demo_lines, proof
from simulator.console import Console
from simulator.demo_copies import Copies
from simulator.demo_inbox import Inbox
from simulator.demo_kit import Kits
from simulator.demo_receipts import Receipts
from simulator.demo_s3 import ceph_store
from simulator.demo_seals import Seals
from simulator.demo_store import DemoStore, folder_store
from simulator.demo_words import Words
from simulator.hand import Hand, slowed
from simulator.handling import LOOK_S, Handling, ReadMeter, Slot, recordings
from simulator.outage import Outage, Server
from simulator.recorders import Fate, Original, Recorder, body_camera, long_camera, site_camera
from simulator.show import Show, megabytes, share_of
from simulator.stage import CHECKOUT, DemoError, Service, Stage, configure, enlist, serving
from simulator.telling import exit_with, options, told

FOOTAGE: Final = CHECKOUT / ".cache" / "demo"
FAST_SCALE: Final = 0.6
YANK_FROM: Final = 0.2
YANK_TO: Final = 0.7
YANK_TRIES: Final = 3
MORE: Final = 3
"""How much larger the next card is when the hand was too slow."""
VERIFY_LINES: Final = 6
START_BYTES: Final = 8 << 20
"""What a puller reads before any footage: Python itself, and its orders."""
STORE_LIMIT_S: Final = 240.0
LONG_S: Final = 8.0
MORE_S: Final = 1.5
"""How much longer a clip is that somebody docks by hand."""
BY_HAND_SCALE: Final = 0.7
NEEDED: Final = ("ffmpeg", "mkfs.vfat", "mkfs.exfat", "sha256sum", "b3sum")
NEEDED_BYTES: Final = 4_000_000_000
STORES: Final[Mapping[str, Callable[[Stage, Show], AbstractContextManager[DemoStore]]]] = {
    "directory": folder_store, "s3": ceph_store,
}  # fmt: skip
OUTCOMES: Final[Mapping[str, str]] = {
    "pulled": "采集 pulled", "already_held": "此前已采集 already held", "refused": "无法采集 refused",
    "unreadable": "读取失败 unreadable", "left": "未采集 left",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if every claim was checked and true, 1 otherwise."""
    parser = options("demo", __doc__, "demo-data", "dock and yank by hand")
    parser.add_argument(
        "--store", choices=STORES, default="directory", help="where originals go: a folder, or a bucket of a real Ceph"
    )
    parser.add_argument("--fast", action="store_true", help="less footage")
    given = parser.parse_args(arguments)

    def story(stage: Stage, show: Show) -> None:
        with STORES[given.store](stage, show) as store:
            configure(stage, store.kind, store.options)
            Demo(stage, store, show, FAST_SCALE if given.fast else 1.0).run(stay=given.stay)

    return told(given, NEEDED, NEEDED_BYTES, story)


class Demo:
    """The story, from filming to the last check."""

    def __init__(self, stage: Stage, store: DemoStore, show: Show, scale: float) -> None:
        self._stage = stage
        self._store = store
        self._show = show
        self._scale = scale
        self._recorders: list[Recorder] = []
        self._inbox = Inbox(stage, FOOTAGE)

    def run(self, *, stay: bool) -> None:
        """Tell it; raises DemoError at the first claim that is not true."""
        show = self._show
        show.step("记录仪", "Two recorders after a day's work; their footage is filmed the first time (some 20 s)")
        now = datetime.now(UTC)
        body = self._ready(body_camera(self._stage.recorders / "body-camera.img", FOOTAGE, now, self._scale))
        site = self._ready(site_camera(self._stage.recorders / "site-camera.img", FOOTAGE, now, self._scale))
        signs_in = {role: enlist(self._stage, role)[0] for role in (Role.SUPERVISOR, Role.OFFICER)}
        with demo_lines.wired(self._stage, body.image.name) as line, serving(self._stage) as service:
            show.step(
                "采集站", f"capture-agent runs; kiosk: {self._stage.address}kiosk, supervisors: {self._stage.address}"
            )
            accounts = ", ".join(f"{role.value} {secret}" for role, secret in signs_in.items())
            show.say(f"登录 sign in (this demo's own accounts): {accounts}")
            handling = Handling(service, show)
            with self._inbox.uploading(show):
                self._dock_in_peace(handling, body)
                demo_lines.tell(self._stage, show, body, line)
            self._dock_and_yank(handling, service, site)
            self._wait_until_stored(service)
            if self._store.server:
                self._check_store()
                self._outage(handling, service, self._store.server)
            self._tell_deadlines()
            Receipts(self._stage, show).tell(service)
            copies = Copies(self._stage, show)
            copies.tell(service, self._recorders)
            self._verify()
            self._prove(copies)
            Words(self._stage, show).tell(service)
            Seals(self._stage, show).tell(service, [row["recording_id"] for row in recordings(self._stage)])
            Kits(self._stage, show).tell()
            self._verify()
            if stay:
                self.stay(handling, service, signs_in)
            show.step("停止", "SIGTERM")
            show.claim("the service ended by itself, exit code 0", service.stop(), 0)
        show.step("完成", f"all {show.claims} claims were checked and are true, {show.seconds():.0f} s")

    # Recorders.

    def _ready(self, recorder: Recorder) -> Recorder:
        fates = Counter(original.fate for original in recorder.originals)
        facts = [f"{len(recorder.originals)} files, {megabytes(recorder.size_bytes)}"]
        if recorder.deleted:
            facts.append(f"{len(recorder.deleted)} deleted")
        if recorder.missing_numbers:
            facts.append(f"number {', '.join(map(str, recorder.missing_numbers))} missing")
        if recorder.twins:
            facts.append(f"{recorder.twins} 重点 copy")
        if unfinished := fates[Fate.CUT] + fates[Fate.RESERVED]:
            facts.append(f"{unfinished} clip whose recorder lost power")
        self._show.say(f"{recorder.image.name} ({recorder.filesystem}): {', '.join(facts)}")
        self._show.say(f"  sha256sum {proof.note_checksum(recorder.image)}")
        self._recorders.append(recorder)
        return recorder

    # Dockings.

    def _dock_in_peace(self, handling: Handling, recorder: Recorder) -> None:
        self._show.step("插入", f"{recorder.image.name} is docked")
        handling.dock(recorder)
        slot = handling.ended(recorder)
        self._account(handling, recorder, slot, already_held=recorder.twins, left=0)
        self._show.claim("可以取走 may be taken away", slot["may_remove"], True)
        self._tell_findings(recorder, slot)
        handling.yank(recorder)

    def _dock_and_yank(self, handling: Handling, service: Service, recorder: Recorder) -> None:
        for attempt in range(YANK_TRIES):
            if attempt:
                recorder = self._more_footage(attempt)
            self._show.step("拔出", f"{recorder.image.name} is docked, and yanked in the middle")
            handling.dock(recorder)
            slot = handling.follow(recorder, lambda slot: share_of(slot) >= YANK_FROM)
            handling.yank(recorder)
            gone = handling.gone(slot)
            left = handling.docking(slot)["accounting"]["left"]
            if gone and left:
                self._show.warn(f"{gone['hold']['zh']}  {gone['hold']['en']}")
            self._account(handling, recorder, slot, already_held=0, left=left)
            if left:
                self._redock(handling, service, recorder, slot)
            share = share_of(slot)
            if left and share <= YANK_TO:
                return
            self._show.warn(f"too quick: {share:.0%} had been read when it was yanked")
        raise DemoError("this machine is too quick for the demo's hand: nothing could be yanked in the middle")

    def _more_footage(self, attempt: int) -> Recorder:
        self._show.step("记录仪", "Another recorder, with more footage")
        image = self._stage.recorders / f"site-camera-{attempt + 1}.img"
        scale = self._scale * MORE**attempt
        return self._ready(site_camera(image, FOOTAGE, datetime.now(UTC), scale, seed=200 + 100 * attempt))

    def _redock(self, handling: Handling, service: Service, recorder: Recorder, before: Slot) -> None:
        self._show.step("再插入", f"{recorder.image.name} is docked again and goes on where it stopped")
        held = handling.docking(before)["accounting"]["pulled"]
        parts = self._parts()
        meter = ReadMeter(service.process.pid)
        with meter.watching():
            handling.dock(recorder)
            slot = handling.ended(recorder)
        self._account(handling, recorder, slot, already_held=held, left=0)
        self._tell_findings(recorder, slot)
        self._went_on(recorder, parts, meter.read_bytes)
        handling.yank(recorder)

    def _account(self, handling: Handling, recorder: Recorder, slot: Slot, *, already_held: int, left: int) -> None:
        """Check that every file of the card went where it must have gone."""
        found = handling.docking(slot)["accounting"]
        seen = len(recorder.originals)
        expected = {
            "pulled": seen - already_held - left, "already_held": already_held, "refused": 0, "unreadable": 0,
            "left": left,
        }  # fmt: skip
        sums = " + ".join(f"{found[name]} {words}" for name, words in OUTCOMES.items())
        self._show.claim(
            f"发现 seen {found['seen']} = {sums}",
            {name: found[name] for name in ("seen", *OUTCOMES)},
            {"seen": seen, **expected},
        )

    def _parts(self) -> dict[int, int]:
        """Inode and durable bytes of each part that waits for the rest of its clip."""
        with closing(Reader(self._stage.station / "journal.db")) as journal:
            return {
                part.stat().st_ino: sum(block.size_bytes for block in journal.blocks(part.stem))
                for part in (self._stage.station / "staging").glob("*.part")
            }

    def _went_on(self, recorder: Recorder, parts: Mapping[int, int], read_bytes: int | None) -> None:
        """Check that a clip that was pulled half was not begun anew."""
        durable = {inode: size for inode, size in parts.items() if size}
        if not durable:
            self._show.say("the yank fell between two clips: none was pulled half")
            return
        kept, whole = sum(durable.values()), recorder.stored_bytes
        vault = {path.stat().st_ino for path in (self._stage.station / "vault").glob("*/*")}
        self._show.claim(
            f"the clip pulled half went on behind its first {megabytes(kept)}", durable.keys() - vault, set()
        )
        again = -1 if read_bytes is None else read_bytes - (whole - kept)
        if again < 0:
            self._show.say("how much was read from the card could not be measured here (root can)")
            return
        self._show.claim(
            f"{megabytes(whole - kept + again)} of {megabytes(whole)} read from the card: the rest, 16 MiB to check the"
            " clip pulled half, and what is held already, to confirm it",
            again <= len(durable) * BLOCK_BYTES + START_BYTES,
            True,
        )

    def _tell_findings(self, recorder: Recorder, slot: Slot) -> None:
        with closing(Reader(self._stage.station / "journal.db")) as journal:
            events = [event for event in journal.events(limit=1_000_000) if event.subject == slot["docking_id"]]
        entries = [decode(event.kind, event.detail) for event in events]
        findings = [entry.finding for entry in entries if isinstance(entry, Observed)]
        deleted = {str(finding.detail["path"]) for finding in findings if finding.kind == "deleted"}
        self._show.claim(f"已删除 deleted entries found: {len(deleted) or 'none'}", deleted, set(recorder.deleted))
        missing = [absence_view(finding.detail) for finding in findings if finding.kind == "absence"]
        for one in missing:
            self._show.say(f"{one['zh']}  {one['en']}")
        lost = {int(path.rpartition("_")[2].partition(".")[0]) for path in recorder.deleted}
        count = sum(one["segments"] for one in missing)
        self._show.claim(f"缺 {count} 段 segments missing", count, len(lost | set(recorder.missing_numbers)))

    # What became of it.

    def _originals(self) -> list[Original]:
        on_cards = [original for recorder in self._recorders for original in recorder.originals]
        return [*on_cards, *self._inbox.originals]

    def _distinct(self) -> int:
        return len({original.blake3 for original in self._originals()})

    def _wait_until_stored(self, service: Service) -> None:
        self._show.step("入库", "every original goes to the store")
        end = time.monotonic() + STORE_LIMIT_S
        while True:
            assets = service.status()["counters"]["assets"]
            if not sum(assets[state]["files"] for state in ("wanted", "held", "stuck")):
                break
            if time.monotonic() > end:
                raise DemoError(f"after {STORE_LIMIT_S:g} s not everything is stored: {assets}")
            time.sleep(LOOK_S)
        stored = assets["stored"]
        self._show.claim(
            f"已入库 stored and verified: {stored['files']} originals, {megabytes(stored['bytes'])}",
            stored["files"],
            self._distinct(),
        )

    def _tell_deadlines(self) -> None:
        rows = self._stored()
        told = Counter((row["due_text"]["zh"], row["due_text"]["en"], row["citation"]) for row in rows)
        for (chinese, english, citation), count in sorted(told.items()):
            self._show.say(f"{count} × {chinese}  {english}  ({citation})")
        verdicts = {row["verdict"]["name"] for row in rows}
        self._show.claim("按期入库 all stored in time", verdicts, {"in_time"})

    def _stored(self) -> list[Mapping[str, Any]]:
        return [row for row in recordings(self._stage) if row["state"]["name"] == "stored"]

    def _verify(self) -> None:
        self._show.step("校验", "capture-agent verify")
        code, said = proof.run(self._stage.command("verify"))
        for line in said.splitlines()[-VERIFY_LINES:]:
            self._show.say(line)
        self._show.claim("verify found no difference, exit code 0", code, 0)

    def _prove(self, copies: Copies) -> None:
        self._show.step("证明", "sha256sum and b3sum, without the agent")
        originals = self._originals()
        for recorder in self._recorders:
            self._show.claim(f"{recorder.image.name} is unchanged", proof.differs_from_note(recorder.image), "")
        made = copies.files()
        kept = [*originals, *(one for one, _ in made)]
        locks = {one.blake3: until for one, until in made}
        locks |= {row["blake3"]: row["locked_until"] for row in self._stored()}
        self._store.prove(kept, locks, self._show)
        wrong = proof.differs("b3sum", self._stage.vault, kept, self._stage.root / "vault.b3")
        self._show.claim("every file in the vault is what was brought in, or made of it (b3sum --check)", wrong, "")
        distinct = len({one.blake3 for one in kept})
        self._show.claim("nothing else is kept there", proof.kept_files(self._stage.vault), distinct)

    # Stores that are servers.

    def _check_store(self) -> None:
        self._show.step("检查", "capture-agent store check")
        code, said = proof.run(self._stage.command("store", "check"))
        for line in said.splitlines():
            self._show.say(line)
        self._show.claim("the store keeps what it promises, exit code 0", code, 0)

    def _outage(self, handling: Handling, service: Service, server: Server) -> None:
        recorder = self._long_clip(LONG_S * self._scale)
        self._dock_in_peace(handling, recorder)
        Outage(server, service, self._show).play(recorder)

    def _long_clip(self, length_s: float) -> Recorder:
        self._show.step("记录仪", "Another recorder, with one long clip (it is filmed, some 10 s)")
        number = len(self._recorders)
        image = self._stage.recorders / f"long-camera-{number}.img"
        return self._ready(long_camera(image, FOOTAGE, datetime.now(UTC), length_s, seed=1000 * number))

    # Afterwards.

    def stay(self, handling: Handling, service: Service, signs_in: Mapping[Role, str]) -> None:
        """Let whoever is at the keyboard dock and yank, until he has seen enough."""
        show, at = self._show, self._stage.address
        show.step("页面", "Now by hand: watch both pages while you type")
        show.say(f"{at}kiosk  采集站屏幕, without sign-in; to fill in: officer, PIN {signs_in[Role.OFFICER]}")
        show.say(f"{at}  监督页面: supervisor, password {signs_in[Role.SUPERVISOR]}")
        show.say(
            "look: 请勿拔出 while it is read, 已拔出，剩余 n 个未采集 after a yank, 可以取走 once all is read back"
        )
        hand = Hand(self._another, handling, show)
        with contextlib.suppress(KeyboardInterrupt), slowed(service.process.pid):
            Console(self._store.server, service, show, hand).run()

    def _another(self) -> Recorder:
        """A recorder to be docked by hand; where the upload is to be seen, one with a long clip."""
        if self._store.server:
            return self._long_clip(LONG_S * MORE_S)
        number = len(self._recorders) + 1
        image = self._stage.recorders / f"recorder-{number}.img"
        return self._ready(
            site_camera(image, FOOTAGE, datetime.now(UTC), BY_HAND_SCALE * self._scale, seed=1000 * number)
        )


if __name__ == "__main__":
    exit_with(main)
