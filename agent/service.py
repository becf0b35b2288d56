"""The daemon: puts configuration, journal, vault, store, detection, lanes and status page together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final

from agent import control, notify
from agent.clocks import ClockState, ClockWatch, Step
from agent.config import Config, reloaded
from agent.config.ports import slot_of
from agent.config.slots import in_order
from agent.deadline import CLOCK_TOLERANCE, is_plausible
from agent.dock_orders import DockOrders
from agent.drivers.dock import DockedPath, DockListener, Heard
from agent.errors import ConfigError, JournalError, StoreError
from agent.manifest import Background, Json
from agent.model import Clock, ClockStepped, Incident
from agent.opening import detections, driver, fates, lines_of, opened, rooms_of, use
from agent.pipeline import checkpoints, history, limits
from agent.pipeline.asked import FILE_VERBS, VERBS
from agent.pipeline.own_disk import OwnDisk, journalled
from agent.pipeline.runner import Runner
from agent.pipeline.snapshot import snapshot
from agent.pipeline.station import Station
from agent.pipeline.storing import OVERTAKERS
from agent.pipeline.witness import listening
from agent.screens.guard import gate_for
from agent.screens.server import serving
from agent.screens.tls import Certificate
from agent.status.board import Board
from agent.status.health import Live, left_out
from agent.status.reasons import both, reason_words
from agent.status.record import known_of, sealed_view
from agent.status.summary import one_line

log: Final = logging.getLogger("capture-agent")

_WATCHDOG_S: Final = 5.0
_SLOW_MBIT_S: Final = 12.0
"""USB 1; what is made today is at least forty times as fast, unless cable or socket are bad."""


class Service:
    """A running daemon: hears from detection and from the control socket, and tells the status page."""

    def __init__(self, config: Config, station: Station, runner: Runner) -> None:
        self._config = config
        self._station = station
        self._runner = runner
        self._recording: set[asyncio.Task[None]] = set()
        self._troubles: dict[str, str] = {}
        self.certificate = Certificate(config.status.tls_certificate, config.status.tls_key)
        self._refused: dict[str, str] = {}
        self._orders = DockOrders(station, runner, lambda: self._config)
        self.disk = OwnDisk(station)
        self.rooms = rooms_of(station, config)
        self.lines = lines_of(station, config, self._record)
        self._refusals = history.Refusals()
        self._run, self._moves = 0, True
        self.judging = asyncio.Lock()
        self.fates = partial(fates, station)
        self.clocks = ClockWatch(station.clock, self.on_step, self.on_clock)
        station.background = self.background
        station.clock_is_kept = lambda: self.clocks.state().synced is True

    # Start

    async def start(self) -> None:
        """Take the station's key, and tell that we begin; without a key everything but signing goes on."""
        self.clocks.newest = await self._station.on_disk(self._station.journal.reader.newest)
        self._run = await history.begun(self._station, self._config.path)
        await checkpoints.start(self._station)
        await self._station.on_disk(self._station.book.load)

    def page_socket(self) -> socket.socket | None:
        """The socket at which systemd listens for the status page, if it is the configured address."""
        page = self._config.status
        ours, others = notify.listening(page.host, page.port)
        for other in others:
            told = f"capture-agent.socket listens at {other}, not at {page.host} port {page.port} of agent.toml"
            log.warning("%s: correct it with systemctl edit capture-agent.socket", told)
            self._troubles["socket"] = f"状态页地址与 capture-agent.socket 不一致 ({told})"
        return ours

    def background(self) -> Background:
        """What manifests that are made now say besides the files of their recording; called in a thread."""
        config, reader, clock = self._config, self._station.journal.reader, self._station.clock

        def metadata(recording_id: str) -> Json:
            return sealed_view(known_of(reader, recording_id), config, clock())

        environment = snapshot(self._station, self.clocks.state(), config.path, self._run)
        whose = {name: getattr(config.station, name) for name in ("name", "org_name", "org_code")}
        return Background(whose, environment, metadata)

    def witness(self) -> contextlib.AbstractAsyncContextManager[object]:
        """Where neighbours have their logs cosigned, if that is configured."""
        chosen = self._config.witness
        return listening(self._station, chosen.host, chosen.port) if chosen.host else contextlib.nullcontext()

    # Detection

    def hears(self, detection: str) -> DockListener:
        """A listener of its own for each kind of detection."""
        return Heard(self, partial(self.on_trouble, detection))

    def on_docked(self, docked: DockedPath) -> None:
        """A recorder can be read."""
        slot = self._slot_of(docked)
        log.info("docked %s", slot)
        folder = self._station.vault.staging_dir
        opener = partial(driver, self._config, folder, docked.path, docked.device, docked.batch)
        self._runner.dock(docked.key, slot, self.lines.announced(slot, docked, opener))
        self._orders.seen(docked, slot)
        if 0 < docked.link_mbit_s <= _SLOW_MBIT_S:
            what = f"slot {slot} is linked at {docked.link_mbit_s:g} Mbit/s only: try another cable or socket"
            log.warning("%s", what)
            self._troubles[docked.key] = f"端口 {slot} 连接仅 {docked.link_mbit_s:g} Mbit/s，请更换线缆或接口 ({what})"
            self._record(Incident("slow-link", {"slot": slot, "mbit_s": docked.link_mbit_s}))

    def _slot_of(self, docked: DockedPath) -> str:
        return slot_of(docked.slot, self._config.slots) or docked.slot

    def on_gone(self, key: str) -> None:
        """The recorder is no longer there."""
        log.info("gone %s", key)
        self._runner.undock(key)
        self.lines.gone(key)
        self._orders.gone(key)
        self._troubles.pop(key, None)
        if key in self._refused:
            self._runner.forget(self._refused.pop(key))

    def on_refused(self, docked: DockedPath, reason: str) -> None:
        """A recorder is there but must not be read."""
        slot = self._slot_of(docked)
        log.warning("refused %s: %s", slot, reason)
        self._refused[docked.key] = slot
        self._orders.seen(docked, slot, reason)
        self._runner.refuse(slot, docked.device.product, both(reason_words(reason)))
        self._record(Incident("refused", {"slot": slot, "reason": reason}))

    def on_trouble(self, detection: str, what: str) -> None:
        """One kind of detection is hindered, or works again."""
        self._troubles[detection] = what
        if what:
            log.warning("%s", what)
            self._record(Incident("detection", {"what": what}))

    def on_clock(self, clock: ClockState) -> None:
        """Another one keeps the clock right, or nobody any more: what times of this station are worth from now on."""
        log.info("clock synchronised: %s %s", clock.synced, clock.by)
        told = {"synced": clock.synced, "by": clock.by, "rtc_ahead_s": clock.rtc_ahead_s and round(clock.rtc_ahead_s)}
        self._record(Incident("clock", told))

    async def on_step(self, step: Step) -> bool:
        """The clock was set; whether the journal could take that down. Limits that hang on it are computed again."""
        entry = ClockStepped(step.before, step.after, round(step.size_s * 1000), self._run)
        try:
            await self._station.journal.record(entry)
        except JournalError:
            return False  # it is told again
        log.warning("the clock was set by %+.1f s", step.size_s)
        if abs(step.size_s) >= CLOCK_TOLERANCE.total_seconds() and is_plausible(step.after, step.after):
            async with self.judging:
                await self.recompute(again=True)
        self._station.held_news.set()
        return True

    def on_refusal(self, what: str, why: str) -> None:
        """Somebody asked for what isn't done here."""
        if (incident := self._refusals.refused(what, why)) is not None:
            self._record(incident)

    def _record(self, incident: Incident) -> None:
        task = asyncio.create_task(journalled(self._station, incident))
        self._recording.add(task)
        task.add_done_callback(self._recording.discard)

    # Control socket

    def verbs(self) -> dict[str, control.Verb]:
        """What the control socket answers."""
        asked = {name: partial(verb, self._station) for name, verb in VERBS.items()}
        return {**self._orders.verbs(), **self.rooms.verbs(), **asked}

    def file_verbs(self) -> dict[str, control.FileVerb]:
        """The same for what needs the bytes of a file."""
        return {name: partial(verb, self._station) for name, verb in FILE_VERBS.items()}

    # Rules

    async def reload(self) -> Config | None:
        """Take over what the files say now; None, with an alarm until mended, if they are bad."""
        self._troubles["certificate"] = await self._station.on_disk(self.certificate.renew)
        if refused := self._troubles["certificate"]:
            log.warning("%s", refused)
        try:
            config, waiting = await self._station.on_disk(reloaded, self._config)
        except ConfigError as error:
            self._refuse_rules(
                f"配置、放假安排、期限规则或设备登记有误，沿用此前的数据 (configuration or rules refused): {error}",
                error.what,
            )
            return None
        self._config = config
        use(self._station, config)
        self.rooms.use(config.rooms)
        self.lines.use(config.recorders, config.slots)
        what = f"{', '.join(waiting)} 已改，重新启动服务后生效 (changed; in force after a restart of the service)"
        self._troubles["restart"] = what if waiting else ""
        log.info("configuration read%s", f"; {', '.join(waiting)}: only after a restart" if waiting else "")
        await history.configured(self._station, config.path)
        await self.recompute()
        return config

    def _refuse_rules(self, told: str, what: str) -> None:
        log.warning("rules refused: %s", what)
        self._troubles["rules"] = told
        self._record(Incident("rules-refused", {"what": what}))

    async def recompute(self, *, again: bool = False) -> None:
        """Compute limits again if the rules are others than the last time; what hinders that is an alarm.

        `again`: also if they are the same.
        Not while a notice is refused: limits that are known stay as they are, those of new footage are provisional.
        """
        if self._config.refused:
            what = "\n".join(self._config.refused)
            told = f"放假安排有误，未采用，新期限暂按最早可能 (notice refused, new limits are provisional): {what}"
            self._refuse_rules(told, what)
            return
        try:
            if again:
                await limits.doubt(self._station)
            changed = await limits.recompute(self._station)
        except JournalError as error:
            self._troubles["rules"] = (
                f"期限尚未全部重新计算，请再次重新加载 (limits not computed again, reload): {error}"
            )
            return
        self._troubles.pop("rules", None)
        log.info("rules read, %s limits changed", changed)

    # Screens and watchdog

    def live(self) -> Live:
        """What only the running service knows."""
        custody = self._station.custody
        return Live(
            in_order(self._runner.slots(), self._config.slots),
            self._free_bytes(),
            self._runner.store_error,
            self.clocks.state(),
            self._problems(),
            self._station.store.locks,
            self._runner.uploads(),
            self._runner.audit(),
            self._runner.store_rate_bytes_s(),
            custody.key.fingerprint if custody.key is not None else "",
            self._runner.scrub(),
            not self.disk.trouble,
            self._moves,
            self._runner.store_heard,
            self.rooms.running(),
            self.rooms.planned(),
        )

    def version(self) -> tuple[object, ...]:
        """Another one when a slot has changed, or an alarm came or went: what the screens must show at once."""
        runner, rooms = self._runner, self.rooms.version()
        return (runner.version(), runner.store_error, self._moves, rooms, *self._problems())

    def _problems(self) -> tuple[str, ...]:
        told = (*self._troubles.values(), self.disk.shown, *self._runner.troubles(), *left_out(self._config))
        told = (*told, self._station.book.trouble, *self._station.custody.problems(), *self.rooms.problems())
        told = (*told, *self.lines.problems())
        return tuple(what for what in told if what)

    def _free_bytes(self) -> int | None:
        with contextlib.suppress(StoreError):
            return self._station.vault.free_bytes()
        return None

    async def feed_watchdog(self) -> None:
        """Tell systemd that we live, but only when every lane has moved since the last time."""
        before = self._ticks()
        while True:
            notify.status(self._one_line())
            await asyncio.sleep(_WATCHDOG_S)
            now = self._ticks()
            self._moves = all(new > old for new, old in zip(now, before, strict=True))
            if self._moves:
                notify.alive()
                before = now

    def _ticks(self) -> tuple[int, ...]:
        return (*self._runner.ticks(), self.rooms.ticks())

    def _one_line(self) -> str:
        runner, problems = self._runner, len(self._problems())
        return one_line(runner.slots(), len(runner.uploads()), problems, store_fails=bool(runner.store_error))


async def serve(config: Config, clock: Clock) -> None:
    """Run until SIGTERM or SIGINT. Nothing needs saving at the end, since all that counts is committed."""
    stop, asked = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with opened(config, clock) as station:
        runner = Runner(station)
        service = Service(config, station, runner)
        await service.start()
        board = Board(config, station.journal.reader, clock, service.live, service.version)
        page = config.status
        tls, bound = service.certificate.context, service.page_socket()
        root, verbs = config.storage.root, service.verbs()
        gate = gate_for(config, station.book, station.journal.record, service.on_refusal, clock)
        status = serving(board, gate, page.host, page.port, tls=tls, bound=bound, root=root, verbs=verbs)
        orders = control.serving(root, verbs, service.file_verbs(), service.on_refusal)
        async with status as port, orders, service.witness():
            log.info("screens at %s://%s:%s/", "https" if tls else "http", page.host, port)
            reloading = partial(_reloading, asked, service, board.use, gate.use)
            await _work_until(stop, _work(runner, service, config, reloading))
        notify.stopping()
        await journalled(station, Incident("stopped", {}))


async def _reloading(asked: asyncio.Event, service: Service, *uses: Callable[[Config], None]) -> None:
    """Compute limits again if the rules changed since the last time, then read the rules whenever SIGHUP asks for it.

    Beside the work: a station with years of recordings is ready at once. One after the other: an alarm about rules
    that were refused must not be taken back by what began before.
    """
    async with service.judging:
        await service.recompute()
    while await asked.wait():
        asked.clear()
        async with service.judging:
            config = await service.reload()
        if config is not None:
            for take_over in uses:
                take_over(config)


async def _work_until(stop: asyncio.Event, work_of: Coroutine[None, None, None]) -> None:
    work = asyncio.create_task(work_of)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    work.cancel()
    await asyncio.wait([work, stopping])
    if not work.cancelled():
        work.result()  # a bug outside a step ends the process; systemd starts it again


async def _work(
    runner: Runner, service: Service, config: Config, reloading: Callable[[], Coroutine[None, None, None]]
) -> None:
    async with asyncio.TaskGroup() as group:
        ready = asyncio.Event()
        group.create_task(runner.run(config.runner.store_workers + OVERTAKERS, ready.set))
        await ready.wait()
        group.create_task(notify.ready())
        log.info("ready")
        group.create_task(service.feed_watchdog())
        group.create_task(service.disk.watch())
        group.create_task(service.clocks.run())
        group.create_task(service.rooms.run())
        group.create_task(service.lines.run(service.hears("lines"), config.dock.rescan_s, usb=config.dock.usb))
        group.create_task(reloading())
        for detection in detections(config, service.hears, service.fates):
            group.create_task(detection)
