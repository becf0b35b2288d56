"""What the service tells of this moment, what may be done with a recorder, and whether the station is in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from agent.clocks import ClockState
from agent.config import Config
from agent.deadline import Coverage
from agent.journal.views import Overview, Tally
from agent.model import AssetState, AuditProgress, Outcome, Phase, ScrubProgress, SlotProgress, Upload
from agent.model.sessions import LiveSession
from agent.status.clock import clock_problems
from agent.status.outlook import Outlook, problems_ahead
from agent.status.reasons import on_screen
from agent.status.rooms import room_problems
from agent.status.words import Health, Hold, named, words

Json = dict[str, Any]

_TAKEN_OVER: Final = (Outcome.PULLED, Outcome.ALREADY_HELD)
_NONE: Final = Tally()
_NO_AUDIT: Final = AuditProgress()
_NO_SCRUB: Final = ScrubProgress()
_CLOCK_UNKNOWN: Final = ClockState()


@dataclass(frozen=True, slots=True)
class Live:
    """What only the running service knows; None and empty mean that it doesn't know either.

    `writes`: the journal's disk takes what is written; `moves`: every lane has done something lately; `store_heard`:
    the store was asked for something since the start. `sessions` are those that run in rooms, `planned` from when to
    when the next one of a room is to last.
    """

    slots: tuple[SlotProgress, ...] = ()
    free_bytes: int | None = None
    store_error: str = ""
    clock: ClockState = _CLOCK_UNKNOWN
    problems: tuple[str, ...] = ()
    store_locks: bool | None = None
    uploads: tuple[Upload, ...] = ()
    audit: AuditProgress = _NO_AUDIT
    store_rate_bytes_s: float | None = None
    key_fingerprint: str = ""
    scrub: ScrubProgress = _NO_SCRUB
    writes: bool = True
    moves: bool = True
    store_heard: bool = True
    sessions: tuple[LiveSession, ...] = ()
    planned: Mapping[str, tuple[datetime, datetime | None]] = field(default_factory=dict)


def left_out(config: Config) -> tuple[str, ...]:
    """Alarms about lines of files beside agent.toml that are wrong, and stop nobody."""
    forms = "名册、音像记录事项清单或文件名规则有误，有误的未采用 (parts of roster, items or names left out)"
    rooms = "询问室、听证室配置有误，有误的房间未采用 (rooms left out of rooms.toml)"
    recorders = "记录仪型号配置有误，有误的型号未采用 (profiles of recorders left out)"
    told = ((forms, config.forms.refused), (rooms, config.rooms_refused), (recorders, config.recorders_refused))
    return tuple(f"{words}: {'; '.join(refused)}" for words, refused in told if refused)


def hold_of(slot: SlotProgress) -> Hold:
    """What may be done with the recorder; TAKE only if everything on it is here and was read back."""
    match slot.phase:
        case Phase.IDENTIFYING | Phase.READING | Phase.VERIFYING:
            return Hold.KEEP
        case Phase.UNPLUGGED:
            return Hold.GONE
        case Phase.FINISHED if slot.may_remove and missing_files(slot) == 0:
            return Hold.TAKE
        case _:
            return Hold.ASK


def missing_files(slot: SlotProgress) -> int:
    """Clips on the recorder that are not safely here."""
    return max(slot.files_total, sum(slot.outcomes.values())) - sum(slot.outcomes.get(out, 0) for out in _TAKEN_OVER)


def health_view(
    config: Config,
    live: Live,
    coverage: Coverage,
    overview: Overview,
    register: Json | None = None,
    ahead: Outlook | None = None,
    rooms: Iterable[Json] = (),
) -> Json:
    """Whether a person should look at the station, and why; `register` is what `devices_view` gave, `rooms` likewise.

    `failed` means that nothing can be pulled, whatever else is wrong.
    """
    problems = [*map(on_screen, live.problems), *_hindrances(config, live), *room_problems(rooms)]
    if live.store_error:
        zh = f"{config.store.name}不可用（已采集的数据在本机安全保存）：{live.store_error}"
        problems.append(words(zh, f"{config.store.name} fails; what was pulled is safe here"))
    if doubted := overview.doubted:
        zh = f"{config.store.name}中有 {doubted} 个记录复核不符，正在由本机重新上传"
        problems.append(words(zh, f"{doubted} stored recordings failed their audit; they are sent again"))
    if stuck := overview.assets[AssetState.STUCK].files:
        problems.append(words(f"{stuck} 个记录需要处理", f"{stuck} recordings need a person"))
    if stuck := overview.documents.get(AssetState.STUCK, _NONE).files:
        problems.append(words(f"{stuck} 份材料需要处理", f"{stuck} documents need a person"))
    if register and (ran_out := register["ran_out"]):
        zh = f"{ran_out} 台记录仪未采集，可能有未采集的音像记录，最早可能的期限已过"
        problems.append(words(zh, f"recorders not back or not docked: {ran_out}; there may be footage on them"))
    if register and (not_back := register["not_back"]):
        problems.append(words(f"{not_back} 台记录仪未按期归还", f"recorders not back in time: {not_back}"))
    if live.scrub.trouble:
        problems.append(on_screen(live.scrub.trouble))
    problems += problems_ahead(ahead)
    problems += clock_problems(live.clock)
    if coverage.missing is not None:
        zh = f"缺少 {coverage.missing} 年放假安排，期限暂按最早可能提醒"
        problems.append(words(zh, f"the holiday notice of {coverage.missing} is missing; alarms come early"))
    name = Health.OK if not problems else Health.DEGRADED if pulls(config, live) else Health.FAILED
    return {**named(name), "problems": problems}


def _hindrances(config: Config, live: Live) -> Iterator[dict[str, str]]:
    """What keeps recorders from being pulled."""
    if not live.moves:
        yield words("采集程序没有响应，将自动重新启动", "the service does not move; it is started again")
    if live.free_bytes is None:
        yield words("本机存储空间无法读取", "the free space of this station can't be read")
    if not has_room(config, live):
        yield words("存储空间不足，已停止采集", "storage is full, pulling has stopped")
    if asking := sum(hold_of(slot) is Hold.ASK for slot in live.slots):
        yield words(f"{asking} 台记录仪未能全部采集", f"recorders that could not be pulled: {asking}")


def has_room(config: Config, live: Live) -> bool:
    """Whether there is room for another recording: above the reserve, and no recorder waits for some."""
    full = live.free_bytes is not None and live.free_bytes <= config.storage.reserve_bytes
    return not full and not any(slot.phase is Phase.NO_SPACE for slot in live.slots)


def pulls(config: Config, live: Live) -> bool:
    """Whether anything can be pulled; if not, the station is out of order (故障)."""
    return live.writes and live.moves and live.free_bytes is not None and has_room(config, live)
