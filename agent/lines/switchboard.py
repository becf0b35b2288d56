"""Speaks to each recorder that has a serial line and a profile, once, before its files are read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from agent.config.ports import slot_of
from agent.config.recorders import Does, RecorderProfile
from agent.drivers.base import Docked
from agent.drivers.detect import UsbDock
from agent.drivers.dock import DockedPath, DockListener
from agent.lines.announced import Announced
from agent.lines.asking import Heard, converse
from agent.lines.ports import SerialPort, serial_ports
from agent.lines.wire import WORDS, Trouble
from agent.model import Device, Incident

log: Final = logging.getLogger("capture-agent")

_COMES_BACK_S: Final = 60.0
"""So long a recorder that was switched to a disk may take to appear as one."""
_GONE_LIMIT: Final = 64

_READING: Final = (Does.GREET, Does.UNLOCK, Does.CLOCK, Does.TELL)
_SETTING: Final = (Does.GREET, Does.UNLOCK, Does.CLOCK, Does.SET_CLOCK)

Speaker = Callable[[RecorderProfile, str, Sequence[Does]], Awaitable[Heard]]


@dataclass(slots=True, eq=False)
class Call:
    """One recorder that is spoken to, in which slot and over which node."""

    slot: str
    node: str
    profile: RecorderProfile
    serial: str = ""
    task: asyncio.Task[Heard] | None = None
    left_s: float = 0.0
    is_set: bool = False

    def heard(self) -> Heard | None:
        """What it said; None while it is still spoken to."""
        done = self.task is not None and self.task.done() and not self.task.cancelled()
        return self.task.result() if done and self.task is not None else None


@dataclass(slots=True)
class Switchboard:
    """The lines of this dock. `record` takes what is to be journalled, `seconds` is a clock that nobody sets.

    What fails is told while the recorder is docked; its files are read all the same.
    """

    record: Callable[[Incident], None]
    profiles: Mapping[str, RecorderProfile] = field(default_factory=dict)
    slots: Mapping[str, str] = field(default_factory=dict)
    look: Callable[[], Sequence[SerialPort]] = serial_ports
    speak: Speaker = converse
    seconds: Callable[[], float] = time.monotonic
    _here: dict[str, Call] = field(default_factory=dict)
    _wired: dict[str, Call] = field(default_factory=dict)
    _gone: list[Call] = field(default_factory=list)
    _troubles: dict[str, str] = field(default_factory=dict)
    _docked: dict[str, str] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def use(self, profiles: Mapping[str, RecorderProfile], slots: Mapping[str, str]) -> None:
        """Take over what the configuration says now; who is being spoken to is not disturbed."""
        self.profiles, self.slots = profiles, slots

    async def run(self, listener: DockListener, rescan_s: float, *, usb: bool = True) -> None:
        """Speak to what is plugged in, until cancelled, and tell what hinders that; without `usb` to wires only."""
        try:
            await (UsbDock(listener, rescan_s=rescan_s, look=self.looked).run() if usb else asyncio.Event().wait())
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def problems(self) -> tuple[str, ...]:
        """Who could not be spoken to, for the screens."""
        return tuple(self._troubles.values())

    def announced(self, slot: str, docked: DockedPath, opener: Callable[[], Docked]) -> Callable[[], Docked]:
        """The same recorder, whose listing begins with what it says over its line, where it has one."""
        self._docked[docked.key] = slot
        return lambda: Announced(opener(), partial(self.before, slot, docked.device))

    def gone(self, key: str) -> None:
        """The recorder that was docked under this key has left; what was told of a wire to its slot is over."""
        slot = self._docked.pop(key, "")
        for place in {slot, slot.partition(" ")[0]} & self._wired.keys():
            self._troubles.pop(place, None)
            del self._wired[place]

    async def before(self, slot: str, device: Device) -> Heard | None:
        """What the recorder in `slot` says, once it has said it; None if it isn't spoken to. Raises nothing.

        Over a line that is wired to the slot it is asked now.
        """
        with contextlib.suppress(OSError, ValueError):  # detection tells of that
            self.looked()
        base = slot.partition(" ")[0]
        here = next((call for call in self._here.values() if call.slot == base), None)
        call = here or self._handed_on(base, device) or self._call_wired({slot, base})
        if call is None or call.task is None:
            return None
        await asyncio.wait([call.task])
        return call.heard()

    def emptied(self, slot: str) -> None:
        """All that was on the recorder in `slot` was taken over: now its clock may be set, where that is wanted.

        Not that of one whose clock couldn't be compared: how wrong it was would be lost, and one that has refused its
        password would hear it again.
        """
        places = {slot, slot.partition(" ")[0]}
        for call in (*self._here.values(), *self._wired.values()):
            heard = call.heard()
            is_compared = heard is not None and heard.offset_ms is not None
            if call.slot in places and call.profile.set_clock and is_compared and not call.is_set:
                call.is_set = True
                self._spawn(self._set_clock(call))

    def looked(self) -> tuple[()]:
        """Compare what is plugged in with what was; as a look of detection, which docks nothing by it."""
        by_usb = {match.usb: profile for profile in self.profiles.values() for match in profile.matches if match.usb}
        seen = {port.key: port for port in self.look()} if by_usb or self._here else {}
        for key in [key for key in self._here if key not in seen]:
            self._left(self._here.pop(key))
        for key, port in seen.items():
            slot = slot_of(port.path, self.slots).partition(" ")[0]
            profile = by_usb.get(port.usb)
            taken = any(call.slot == slot for call in self._here.values())
            if slot and profile is not None and not taken and key not in self._here:
                wanted = _READING if port.is_disk else (*_READING, Does.DISK)
                self._here[key] = self._begun(Call(slot, port.node, profile, port.serial), wanted)
        return ()

    def _left(self, call: Call) -> None:
        """It was pulled out, or has become a disk."""
        self._troubles.pop(call.slot, None)
        call.left_s = self.seconds()
        self._gone = [*self._gone[-_GONE_LIMIT:], call]

    def _handed_on(self, slot: str, device: Device) -> Call | None:
        """The call of a recorder that was switched to the disk it now is: in this slot, not long ago, and once only."""
        now_s = self.seconds()
        self._gone = [call for call in self._gone if now_s - call.left_s <= _COMES_BACK_S]
        for call in reversed(self._gone):
            heard = call.heard()
            is_other = call.serial and device.serial and call.serial != device.serial
            became = heard is not None and (heard.is_disk or ("disk", Trouble.GONE) in heard.failed)
            if call.slot == slot and became and not is_other:  # it may go before its answer has come
                self._gone.remove(call)
                return call
        return None

    def _call_wired(self, places: set[str]) -> Call | None:
        for profile in self.profiles.values():
            for match in profile.matches:
                if match.slot in places:
                    self._troubles.pop(match.slot, None)
                    call = self._begun(Call(match.slot, match.node, profile), _READING)
                    self._wired[match.slot] = call
                    return call
        return None

    def _begun(self, call: Call, wanted: Sequence[Does]) -> Call:
        call.task = self._spawn(self._hold(call, wanted))
        return call

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hold(self, call: Call, wanted: Sequence[Does]) -> Heard:
        heard = await self.speak(call.profile, call.node, wanted)
        failed = ", ".join(f"{step}: {trouble.value}" for step, trouble in heard.failed)
        log.info("line %s: %s%s", call.slot, call.profile.name, f"; failed {failed}" if failed else "")
        if heard.failed:
            self.record(Incident("line", {"slot": call.slot, "profile": call.profile.name, "failed": failed}))
        if heard.failed and not heard.is_whole:
            words = WORDS[heard.failed[-1][1]]
            told = f"端口 {call.slot} 的记录仪串口通讯失败：{words}；录制内容照常采集"
            self._troubles[call.slot] = f"{told} (its serial line failed at {failed}; footage is pulled all the same)"
        self._compare_numbers(call, heard)
        return heard

    def _compare_numbers(self, call: Call, heard: Heard) -> None:
        """Two recorders that say one number are told apart by their slots; whose is which nobody knows."""
        number = heard.told.get("device_no")
        for other in (*self._here.values(), *self._wired.values()):
            said = other.heard() if other is not call else None
            if number and said is not None and said.told.get("device_no") == number and other.slot != call.slot:
                self.record(Incident("line-same-number", {"slots": sorted([call.slot, other.slot])}))
                told = f"端口 {call.slot} 与 {other.slot} 的记录仪设备号相同"
                self._troubles[call.slot] = f"{told} (two recorders say the same number)"

    async def _set_clock(self, call: Call) -> None:
        """Set it, and keep how wrong it was: afterwards nobody could tell any more."""
        heard = await self.speak(call.profile, call.node, _SETTING)
        detail = {name: value for name, value in heard.detail().items() if name != "told"}
        self.record(Incident("line-clock-set", {"slot": call.slot, "was_set": heard.was_set, **detail}))
