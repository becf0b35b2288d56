"""The real daemon, killed again and again while it uploads to a real Ceph: stored once, and never claimed too early."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from blake3 import blake3

from agent.journal import Reader
from agent.journal.views import RecordingView
from agent.model import AssetState
from agent.uploader.s3.upload import PART_BYTES
from simulator.card import Card
from simulator.content import Noise
from simulator.stage import Stage, configure, empty, tail, with_options
from simulator.stores.faults import Alter, Call, Fault, Rule
from simulator.stores.http_stream import Answer
from tests.daemons import QUICK

if TYPE_CHECKING:
    from simulator.stores.ceph import Ceph
    from simulator.stores.proxy import Exchange, FaultProxy

SENDERS = 4
DAYS = 7
BIG = Noise((1 << 30) - 12345, seed=1)
MIDDLE = [Noise(2 * PART_BYTES + 100 * seed, seed) for seed in range(2, 10)]
SMALL = [Noise(1 + 4567 * seed, seed) for seed in range(10, 22)]
LIFE_LIMIT_S = 90.0
LOOK_S = 0.005
EARLY_S = 1.5
SPARE_BYTES = 6 * PART_BYTES
RATE_BYTES_S = 64_000_000  # no life that is killed by the clock may get through a tenth of the way
"""Kept for the last kills: before an original is whole, Complete is not sent."""

MOMENTS = {
    "create": ("POST", "?uploads"),
    "a part": ("PUT", "?partNumber="),
    "complete": ("POST", "?uploadId="),
    "lock": ("PUT", "?retention="),
    "proof of the lock": ("GET", "?retention="),
}
Unit = tuple[str, ...]
"""What is sent as one: a part of an upload, or a small object."""


def blake3_of(content: Noise) -> str:
    hasher = blake3()
    for chunk in content.chunks():
        hasher.update(chunk)
    return hasher.hexdigest()


def key_of(digest: str) -> str:
    return f"originals/{digest[:2]}/{digest}"


def unit_of(exchange: Exchange) -> Unit | None:
    """Which bytes a request carries; None for all that is not an original's."""
    target = urlsplit(exchange.target)
    query = parse_qs(target.query, keep_blank_values=True)
    if exchange.method != "PUT" or "retention" in query or "/originals/" not in target.path:
        return None
    return (target.path, *query.get("uploadId", []), *query.get("partNumber", []))


def lethal(kill: Callable[[], object], *, after: bool) -> Fault:
    """A fault that kills with a request: when only its head has arrived, or `after` it was carried out."""

    def edit(answer: Answer) -> Answer:
        kill()
        return answer

    def cut() -> None:
        kill()
        raise ConnectionResetError

    return Alter(edit) if after else Call(cut)


@dataclass(slots=True)
class World:
    """A station with held originals, its store behind a proxy that counts, and what became of both."""

    stage: Stage
    ceph: Ceph
    proxy: FaultProxy
    bucket: str
    dice: random.Random
    truth: dict[str, int] = field(default_factory=dict)
    hit: Counter[str] = field(default_factory=Counter)
    tenths: Counter[int] = field(default_factory=Counter)
    most_sent_again: int = 0
    """Of one original in one life: what two kills cut off of two originals may be sent again in the same one."""
    most_cut_off: int = 0
    _sent: set[Unit] = field(default_factory=set)
    _answered: set[Unit] = field(default_factory=set)
    _seen: int = 0

    @property
    def kills(self) -> int:
        return self.hit.total()

    def hold(self, contents: list[Noise]) -> None:
        """Pull a card by hand: everything is held and nothing is stored yet; what comes first is most urgent."""
        image = self.stage.recorders / "card.img"
        with Card.exfat(image, sum(one.size_bytes for one in contents) + (64 << 20), cluster_bytes=32768) as card:
            for number, content in enumerate(contents):
                taken = datetime(2026, 11, 20, 9) + timedelta(minutes=number)  # noqa: DTZ001 - a card knows local time
                card.add(f"DCIM/100ANDRO/{number:04}.MP4", content, modified=taken)
        subprocess.run(self.stage.command("pull", str(image), "--json"), check=True, capture_output=True, timeout=300)
        image.unlink()
        self.truth = {blake3_of(content): content.size_bytes for content in contents}

    @contextlib.contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """A life of the daemon, killed at its end at the latest; then what is claimed must be true."""
        self._count()
        self._seen = len(self.proxy.exchanges)
        self.proxy.clear()
        with self.stage.log.open("ab") as log:
            process = subprocess.Popen(
                self.stage.command("run"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
        self.check_true()

    def until(self, process: subprocess.Popen[bytes], true: Callable[[], object]) -> None:
        """Wait for something while the daemon lives; it must not end by itself."""
        end = time.monotonic() + LIFE_LIMIT_S
        while not true():
            assert process.poll() is None, f"it ended by itself:\n{tail(self.stage.log)}"
            assert time.monotonic() < end, f"{self._states()}\n{tail(self.stage.log)}"
            time.sleep(LOOK_S)

    def until_killed(self, process: subprocess.Popen[bytes], rule: Rule) -> None:
        """Wait until a rule has killed the daemon."""
        end = time.monotonic() + LIFE_LIMIT_S
        while process.poll() is None:
            assert time.monotonic() < end, f"{rule} never came: {self._states()}\n{tail(self.stage.log)}"
            time.sleep(LOOK_S)
        assert rule.happened, f"it ended by itself:\n{tail(self.stage.log)}"

    def sent_bytes(self) -> int:
        """Bytes of originals that the store was sent in this life."""
        return sum(one.sent_bytes for one in self.proxy.exchanges[self._seen :] if unit_of(one))

    def done_bytes(self) -> int:
        """Bytes of originals in parts or objects that the store has said it has."""
        done = {unit: one.sent_bytes for one in self.proxy.exchanges if one.status == 200 and (unit := unit_of(one))}
        return sum(done.values())

    # Ways to die.

    def kill_after(self, share_bytes: float, what: str = "sending") -> None:
        """One life that sends so many bytes."""
        with self.daemon() as process:
            self.until(process, lambda: self.sent_bytes() >= share_bytes)
        self._note(what)

    def kill_early(self) -> None:
        """One life of a random time, in which it hardly gets ready."""
        with self.daemon() as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.dice.random() * EARLY_S)
            assert process.poll() is None, f"it ended by itself:\n{tail(self.stage.log)}"
        self._note("start")

    def kill_at(self, moment: str, key: str = "", *, after: bool) -> None:
        """One life that ends with a request that does not arrive whole, or that was carried out and its reply lost."""
        with self.daemon() as process:
            rule = self.proxy.on(lethal(process.kill, after=after), MOMENTS[moment][0], key + MOMENTS[moment][1])
            self.until_killed(process, rule)
        self._note(f"{'after' if after else 'at'} {moment}")

    def finish(self) -> None:
        """One life until everything is stored."""
        with self.daemon() as process:
            self.until(process, lambda: not self._states().keys() - {AssetState.STORED})
        self._count()

    def _note(self, what: str) -> None:
        self.hit[what] += 1
        self.tenths[min(9, self.done_bytes() * 10 // sum(self.truth.values()))] += 1

    # What must be true.

    def _count(self) -> None:
        """Compare what this life has sent with what those before it had."""
        life = self.proxy.exchanges[self._seen :]
        units = [unit for one in life if one.sent_bytes and (unit := unit_of(one))]
        again = self._sent.intersection(units)
        assert not again & self._answered, "the store had it, and it was sent again"
        of_one = Counter(target for target, *_ in again)
        self.most_sent_again = max(self.most_sent_again, *of_one.values(), 0)
        self._sent.update(units)
        answered = {unit for one in life if one.status == 200 and (unit := unit_of(one))}
        self._answered.update(answered)
        self.most_cut_off = max(self.most_cut_off, len(set(units) - answered))

    def views(self) -> tuple[RecordingView, ...]:
        with contextlib.closing(Reader(self.stage.station / "journal.db")) as reader:
            return reader.recordings(limit=1000)

    def _states(self) -> Counter[AssetState]:
        return Counter(view.asset.state for view in self.views())

    def check_true(self) -> None:
        """Each object is one whole version; what the journal says is stored is there, and locked."""
        listed = self.ceph.versions(self.bucket)
        versions = {version.key: version for version in listed}
        assert len(versions) == len(listed), "an original was stored twice"
        sizes = {key_of(digest): size for digest, size in self.truth.items()}
        originals = {key: one.size_bytes for key, one in versions.items() if not key.startswith("checkpoints/")}
        assert originals.items() <= sizes.items()
        for view in self.views():
            receipt = view.asset.receipt
            assert (view.asset.state is AssetState.STORED) == (receipt is not None)
            if receipt is not None:
                there = versions[receipt.object]
                assert (there.version_id, there.etag, there.size_bytes) == (
                    receipt.version, receipt.etag, receipt.size_bytes,
                )  # fmt: skip
                lock = self.ceph.retention(self.bucket, receipt.object, receipt.version)
                assert lock is not None
                assert (lock.mode, lock.until) == ("COMPLIANCE", receipt.locked_until)

    def check_exact(self) -> None:
        """Everything is stored, once, locked for as long as was wanted, and the auditor reads the bytes of the card."""
        self.check_true()
        assert self._states() == {AssetState.STORED: len(self.truth)}
        for view in self.views():
            receipt = view.asset.receipt
            assert receipt is not None
            assert receipt.object == key_of(receipt.digests.blake3)
            assert receipt.locked_until is not None
            assert receipt.locked_until > datetime.now(UTC) + timedelta(days=DAYS - 1)
            assert self._read(receipt.object, receipt.version) == receipt.digests.blake3
        keys = {version.key for version in self.ceph.versions(self.bucket)}
        assert {key for key in keys if not key.startswith("checkpoints/")} == {key_of(digest) for digest in self.truth}
        assert "Traceback" not in self.stage.log.read_text("utf-8")

    def _read(self, key: str, version: str) -> str:
        hasher = blake3()
        with self.ceph.client(self.ceph.auditor_keys) as s3:
            body = s3.get_object(Bucket=self.bucket, Key=key, VersionId=version)["Body"]
            for chunk in body.iter_chunks(1 << 20):
                hasher.update(chunk)
        return hasher.hexdigest()


@pytest.fixture
def seed() -> int:
    """Another one in each run; pytest shows it when a test fails."""
    return random.SystemRandom().randrange(1 << 32)


@pytest.fixture
def world(ceph: Ceph, fault_proxy: Callable[..., FaultProxy], tmp_path: Path, seed: int) -> World:
    """A station that may only write to its bucket, through the proxy."""
    bucket = f"kills-{seed}"
    ceph.make_bucket(bucket)
    stage = empty(tmp_path / "stage")
    user, credentials = ceph.uploader_keys, tmp_path / "credentials"
    credentials.touch(mode=0o600)
    credentials.write_text(
        f"[default]\naws_access_key_id = {user.access_key}\naws_secret_access_key = {user.secret_key}\n"
    )
    proxy = fault_proxy(ceph.port, seed=seed)
    configure(
        stage,
        "s3",
        {
            "endpoint": proxy.endpoint, "bucket": bucket, "credentials_file": str(credentials), "lock_days": DAYS,
            "parallel_parts": SENDERS, "rate_limit_bytes_s": RATE_BYTES_S,
        },
        copies=False,
    )  # fmt: skip
    stage.config.write_text(with_options(stage.config.read_text("utf-8"), QUICK), "utf-8")
    return World(stage, ceph, proxy, bucket, random.Random(seed))


@pytest.mark.timeout(600)
def test_fifty_kills_over_an_upload_of_one_gib_store_it_once_and_send_little_again(world: World) -> None:
    world.hold([BIG, *MIDDLE, *SMALL])
    big = key_of(blake3_of(BIG))
    dice = world.dice
    for after in (False, True):
        world.kill_at("create", big, after=after)
    plan = ["sending"] * 36 + ["start"] * 5 + ["a part"] * 4
    dice.shuffle(plan)
    for number, what in enumerate(plan):
        if what == "start":
            world.kill_early()
        elif what == "a part":
            world.kill_at("a part", after=number % 2 == 0)
        else:  # at a random place of each of as many equal stretches of the way as there are kills
            done = world.done_bytes()
            aim = sum(world.truth.values()) * (number + dice.random()) / len(plan)
            world.kill_after(max(0, min(aim, BIG.size_bytes - SPARE_BYTES) - done))
    for moment in ("complete", "lock", "proof of the lock"):
        for after in (False, True):
            world.kill_at(moment, big, after=after)
    world.finish()

    most = f"{world.most_cut_off} cut off, {world.most_sent_again} sent again"
    print(f"{world.kills} kills: {dict(world.hit)}; tenths {dict(world.tenths)}; {most}")  # noqa: T201 - with -s
    assert world.kills >= 50
    assert len(world.tenths) == 10, f"the kills came all over the upload: {world.tenths}"
    assert world.most_cut_off <= SENDERS, "what one kill costs"
    assert world.most_sent_again <= SENDERS
    world.check_exact()


@pytest.mark.timeout(300)
def test_a_gateway_killed_again_and_again_alone_and_with_the_agent_changes_nothing(world: World) -> None:
    world.hold([Noise(384 << 20, seed=50), *MIDDLE[:2]])
    total = sum(world.truth.values())

    def kill_gateway() -> None:
        world.ceph.kill_gateway()
        time.sleep(world.dice.random())
        world.ceph.start_gateway()

    with world.daemon() as process:  # it lives on
        for _ in range(4):
            before = world.sent_bytes()
            world.until(process, lambda: world.sent_bytes() > before + world.dice.random() * total / 10)  # noqa: B023
            kill_gateway()
    for _ in range(3):
        with world.daemon() as process:
            goal = world.dice.random() * max(0, total - world.done_bytes() - SPARE_BYTES) / 3
            world.until(process, lambda: world.sent_bytes() >= goal)  # noqa: B023
            world.ceph.kill_gateway()
            process.kill()
            world.ceph.start_gateway()
    world.finish()
    world.check_exact()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("after", [False, True], ids=["at the request", "when it was done"])
@pytest.mark.parametrize("moment", ["create", "a part", "complete", "lock"])
def test_gateway_and_agent_killed_in_the_same_moment(world: World, moment: str, after: bool) -> None:
    world.hold([MIDDLE[0], SMALL[0]])
    method, query = MOMENTS[moment]
    with world.daemon() as process:

        def both() -> None:
            world.ceph.kill_gateway()
            process.kill()

        world.until_killed(process, world.proxy.on(lethal(both, after=after), method, query))
        world.ceph.start_gateway()
    world.finish()
    world.check_exact()
