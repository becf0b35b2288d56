"""Journal entries for tests: one small vocabulary of dockings, clips, recordings and proofs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from blake3 import blake3

from agent.journal import Journal, verify
from agent.model import (
    Acquired,
    ActivityStated,
    Asset,
    AssetChanged,
    AssetState,
    Basis,
    CaptureTime,
    Clip,
    ClipSeen,
    ClockTrust,
    Confirmed,
    Deadline,
    Device,
    DeviceIssued,
    DeviceReturned,
    Digests,
    DockingListed,
    DockingOpened,
    DocumentAdded,
    Extent,
    Facts,
    Held,
    Integrity,
    JournalEntry,
    Measured,
    Medium,
    Mode,
    Outcome,
    Probed,
    Receipt,
    Recording,
    Role,
    Said,
    SegmentTaken,
    SessionStarted,
    Stamp,
    StartedBy,
    Statement,
    StreamFacts,
    TimeBasis,
    TimeSource,
    role_of,
)

NOW = datetime(2026, 7, 6, 9, 0, tzinfo=UTC)
STATEMENT = Statement("张三", "补充", NOW, {"place": "县城"})
DEVICE = Device("mass_storage", "EXAMPLE", "DSJ-V8", "058F63666485", "1-2", ("1A2B-3C4D",), "执法仪", 32_000_000_000)


def digests_of(content: str) -> Digests:
    """The digests of some bytes."""
    data = content.encode()
    return Digests(blake3(data).hexdigest(), hashlib.sha256(data).hexdigest())


def deadline(hours: float = 48, basis: Basis = Basis.OFFICIAL) -> Deadline:
    """A deadline some hours after NOW, with an alarm one hour before."""
    due = NOW + timedelta(hours=hours)
    return Deadline("shandong", "working_days", "§ 15", NOW, due, due - timedelta(hours=1), basis)


def recording(name: str, *, hours: float = 48, basis: Basis = Basis.OFFICIAL) -> Recording:
    """A recording with the id `rec-<name>`."""
    limits = deadline(hours, basis)
    return Recording(f"rec-{name}", "device", Medium.VIDEO, None, NOW, ClockTrust.UNMEASURED, limits)


def wanted(name: str, size: int = 1000) -> Asset:
    """The new original of `recording(name)`, with the id `name`."""
    return Asset(name, f"rec-{name}", Role.ORIGINAL, AssetState.WANTED, size)


def clip(number: int, size: int = 1000, *, path: str = "") -> Clip:
    """A clip; `path` makes it look like another one."""
    path = path or f"DCIM/100/视频{number:05}.MP4"
    stamp = Stamp("2026-07-06T08:00:00", None)
    return Clip(
        number,
        path,
        path.encode("utf-16-le", "surrogatepass"),
        size,
        size,
        stamp,
        stamp,
        ("archive",),
        4096 + 32 * number,
    )


def document(name: str, *about: str, content: str = "", said: Said = STATEMENT) -> DocumentAdded:
    """A document with the id `name` about the recordings of assets `about`."""
    recordings = tuple(f"rec-{original}" for original in about)
    key = (name, recordings[0], role_of(said), AssetState.WANTED, 1000)
    return DocumentAdded(Asset(*key, digests=digests_of(content or name)), recordings, said)


def opened(docking: str = "d1", device_id: str = "device") -> DockingOpened:
    """A docking begins."""
    return DockingOpened(docking, device_id, DEVICE, "slot-1")


def seen(name: str, number: int = 1, docking: str = "d1", *, size: int = 1000, hours: float = 48) -> ClipSeen:
    """New footage."""
    return ClipSeen(docking, clip(number, size), Mode.PULL, name, recording(name, hours=hours), wanted(name, size))


def seen_again(name: str, number: int = 1, docking: str = "d2", mode: Mode = Mode.CONFIRM) -> ClipSeen:
    """Footage that looks like that of asset `name`."""
    return ClipSeen(docking, clip(number), mode, name)


def held(name: str, size: int = 1000, content: str = "") -> Held:
    """What the vault would prove about asset `name`."""
    digests = digests_of(content or name)
    return Held(name, Path("/vault") / digests.blake3[:2] / digests.blake3, size, digests, sealed=True)


def session_started(session_id: str = "s1", room: str = "xunwen", **changes: object) -> SessionStarted:
    """A session of one camera begins in a room at NOW."""
    plain = SessionStarted(session_id, room, "询问", NOW, StartedBy.SCREEN, "张三", "询问", "S05", ("cam",))
    return replace(plain, **changes)  # type: ignore[arg-type]


def segment_taken(name: str, number: int = 1, session_id: str = "s1", *, source: str = "cam") -> SegmentTaken:
    """A minute of a session, which is asset `name`."""
    start = NOW + timedelta(minutes=number - 1)
    end = start + timedelta(minutes=1)
    made = replace(recording(name), device_id=f"room:xunwen:{source}", captured_earliest=end, captured_latest=end)
    return SegmentTaken(session_id, source, number, f"{source}-{number:06}.mp4", start, end, made, wanted(name))


def acquired(
    name: str,
    number: int = 1,
    docking: str = "d1",
    *,
    size: int = 1000,
    content: str = "",
    holes: tuple[Extent, ...] = (),
) -> AssetChanged:
    """The clip was pulled and is held."""
    outcome = Outcome.UNREADABLE if holes else Outcome.PULLED
    return AssetChanged(name, Acquired(held(name, size, content), holes), docking, number, outcome)


def receipt(name: str, size: int = 1000, content: str = "") -> Receipt:
    """What a store would prove about asset `name`."""
    return Receipt("central", f"originals/{name}", size, digests_of(content or name), NOW, NOW + timedelta(days=180))


def confirmed(name: str, size: int = 1000) -> AssetChanged:
    """The store has it."""
    return AssetChanged(name, Confirmed(receipt(name, size)))


def issued(recorder_id: str = "DSJ-001", *, hours: float = 0, back_by: float | None = None) -> DeviceIssued:
    """A recorder is handed out so many hours after NOW."""
    at = NOW + timedelta(hours=hours)
    expected = None if back_by is None else NOW + timedelta(hours=back_by)
    return DeviceIssued(recorder_id, at, "ZF-17", "keeper", "inspection", expected)


def returned(
    recorder_id: str = "DSJ-001", *, hours: float = 1, docking: str = "", unread: bool = False
) -> DeviceReturned:
    """It came back so many hours after NOW."""
    return DeviceReturned(recorder_id, NOW + timedelta(hours=hours), "keeper", "end of shift", docking, unread)


def activity(*names: str, activity_id: str = "act", **changes: object) -> ActivityStated:
    """An activity of an hour from NOW, with recordings `rec-<name>`."""
    recordings = tuple(f"rec-{name}" for name in names or ("a",))
    plain = ActivityStated(activity_id, "S08", NOW, NOW + timedelta(hours=1), recordings, "张三", "先行登记保存")
    return replace(plain, **changes)  # type: ignore[arg-type]


def probed(
    name: str, *, integrity: Integrity = Integrity.COMPLETE, old: Deadline | None = None, new: Deadline | None = None
) -> Probed:
    """The content of asset `name` was read: four seconds of film that end at NOW."""
    old = old or deadline()
    tracks = (StreamFacts("video", "h264", 1920, 1080, "25", duration_ms=4000), StreamFacts("audio", "aac"))
    facts = Facts(
        Medium.AUDIO if name == "sound" else Medium.VIDEO,
        integrity,
        "" if integrity is Integrity.COMPLETE else "why",
        "mov,mp4",
        4000,
        Measured.PACKETS,
        4000,
        tracks,
        2,
        "2026-07-06T08:59:56Z",
    )
    begin = NOW - timedelta(seconds=4)
    source = TimeSource(TimeBasis.CONTAINER, facts.created, (NOW,), agrees=True)
    trust, basis = ClockTrust.UNMEASURED, TimeBasis.CONTAINER
    time = CaptureTime(NOW, NOW, trust, made_start=begin, made_end=NOW, basis=basis, sources=(source,))
    return Probed(name, facts, time, old, new or old)


def listed(count: int, docking: str = "d1") -> DockingListed:
    """The listing is complete."""
    return DockingListed(docking, count, "ab" * 32)


async def write(path: Path, *entries: JournalEntry) -> None:
    """Record entries one by one in the journal at `path`."""
    async with Journal.open(path, lambda: NOW) as journal:
        for entry in entries:
            await journal.record(entry)


def assert_consistent(path: Path) -> None:
    """The tables are exactly what the log says."""
    report = verify(path)
    assert report.differences == ()
    assert report.consistent
