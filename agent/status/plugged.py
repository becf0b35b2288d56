"""What is plugged in, what the station makes of it, and why it is or isn't taken: in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from agent.config import Config
from agent.config.ports import slot_of
from agent.drivers.detect import MARK, MTP, REFUSALS
from agent.model import Phase
from agent.status.reasons import reason_words
from agent.status.words import named_as, words

Json = dict[str, Any]


class Made(StrEnum):
    """What the station makes of something that is plugged in."""

    DOCKED = "docked"
    WAITS = "waits"
    REFUSED = "refused"
    NOT_READY = "not_ready"
    LEFT_ALONE = "left_alone"


class _Verdict(NamedTuple):
    made: Made
    zh: str
    en: str
    do_zh: str = ""
    do_en: str = ""


_MADE: Final[Mapping[Made, tuple[str, str]]] = {
    Made.DOCKED: ("已接入采集", "docked"),
    Made.WAITS: ("等待采集", "waits"),
    Made.REFUSED: ("未采集", "not pulled"),
    Made.LEFT_ALONE: ("不处理", "left alone"),
    Made.NOT_READY: ("未就绪", "not ready"),
}
_FUNCTIONS: Final[Mapping[str, str]] = {
    "disk": "U盘", "camera": "相机", "serial": "串口", "sound": "声音", "video": "视频", "input": "键盘或鼠标",
    "network": "网卡", "printer": "打印机", "hub": "集线器", "smart card": "读卡器", "its maker's own": "厂商专用",
}  # fmt: skip
_DO: Final[Mapping[str, tuple[str, str]]] = {
    "no-disk": ("在设备上切换为U盘模式", "Switch it to disk mode (U盘模式) on the device itself."),
    "refused": (
        "如是本单位的记录仪，按 device identify 的提示登记",
        "If it is the bureau's recorder, `device identify` shows the line that lets it in.",
    ),
    "mounted": ("先卸载该盘", "Unmount it; then it is pulled by itself."),
    "in use": ("先停止使用该盘的程序", "End what uses it (RAID, LVM, encryption); then it is pulled by itself."),
    "trigger": (
        "重新插入，或运行 udevadm trigger -s usb -s block",
        "Plug it in again, or run `udevadm trigger -s usb -s block`.",
    ),
    "doctor": ("运行 capture-agent doctor", "Run `capture-agent doctor`."),
}

_NEW: Final = _Verdict(Made.NOT_READY, "刚刚插入，尚未处理", "it was plugged in just now: look again in a moment")
_NOT_LOOKED_AT: Final = _Verdict(Made.NOT_READY, "udev 尚未处理", "udev has not dealt with it", *_DO["trigger"])
_EMPTY: Final = _Verdict(
    Made.NOT_READY, "没有存储卡或介质", "there is no medium in it", "插入存储卡", "Put its card into it."
)
_READS: Final = ("disk", "camera")
"""What a recorder has at least; sound, video and serial lines it may have besides."""


def plugged_view(config: Config, told: Mapping[str, Any]) -> Json:
    """All that is plugged in, first what is docked; `told` is the answer of `agent.dock_orders`, served or not.

    Each has `slot`, `state`, `why` and `do` in both languages; `docked` is what detection says of each disk in it.
    """
    docked = list(told["docked"])
    rows = [_row(config, told, one, docked) for one in told["usb"]]
    taken = {id(entry) for row in rows for entry in row["docked"]}
    rows += [_elsewhere(entry, is_served=told["served"]) for entry in docked if id(entry) not in taken]
    order = list(Made)
    rows.sort(key=lambda row: order.index(Made(row["state"]["name"])))
    return {"served": told["served"], "trouble": told["trouble"], "plugged": rows}


def wanted(rows: Sequence[Json], which: str) -> list[Json]:
    """Those rows that a person means by a slot, a port, a serial number, a USB id, a node or the kernel's name."""
    return [row for row in rows if which in _names(row)]


def elsewhere_row(node: Mapping[str, Any]) -> Json:
    """A node that is on no USB port, and of no recorder."""
    known = node["known"]
    names = {"vendor": "ID_VENDOR", "product": "ID_MODEL", "serial": "ID_SERIAL_SHORT", "port": "ID_PATH"}
    told = _told(_left("不在 USB 口上，从不读取", "it is on no USB port, and never looked at"))
    row: Json = {"name": node["path"], "slot": "", "link_mbit_s": 0.0, "mark": node["mark"], "whose": "", "usb_id": ""}
    row |= {name: known.get(key, "") for name, key in names.items()}
    return row | {"functions": [], "docked": [], "nodes": [node], "known": {}, "line": None} | told


def plugged_lines(view: Mapping[str, Any]) -> Iterator[str]:
    """The same as text for a terminal."""
    if not view["served"]:
        yield "服务未应答，以下为直接查看的结果 (the service does not answer: this is a look of our own)"
    yield from (f"! {text}" for text in view["trouble"])
    for row in view["plugged"]:
        yield from row_lines(row)
    if not view["plugged"]:
        yield "未插入设备 (nothing is plugged in)"


def row_lines(row: Mapping[str, Any]) -> Iterator[str]:
    """One thing that is plugged in."""
    who = " ".join(text for text in (row["vendor"], row["product"], row["serial"]) if text)
    speed = f"  {row['link_mbit_s']:g} Mbit/s" if row["link_mbit_s"] else ""
    does = " + ".join(one["zh"] for one in row["functions"])
    yield f"{row['slot'] or row['port'] or row['name']}  {_both(row['state'])}  {who}  {does}{speed}".rstrip()
    if row["why"]["zh"]:
        yield f"  {_both(row['why'])}"
    if row["do"]["zh"]:
        yield f"  → {_both(row['do'])}"
    if row["line"]:
        yield f"  {_both(row['line'])}"
    for entry in row["docked"]:
        yield from _docked_lines(entry)


def _docked_lines(entry: Mapping[str, Any]) -> Iterator[str]:
    shown = entry["progress"]
    if shown is None:
        return
    phase = named_as(shown["phase"], Phase)
    files = f"{shown['files_done']}/{shown['files_total']} files" if shown["files_total"] else ""
    yield f"  {entry['slot']}  {entry['driver']}  {_both(phase)}  {files}  {shown['message']}".rstrip()


def _row(config: Config, told: Mapping[str, Any], one: Mapping[str, Any], docked: Iterable[Json]) -> Json:
    paths = {node["path"] for node in one["nodes"]}
    ours = [entry for entry in docked if entry["path"] in paths or _is_refused(entry["path"], one["name"])]
    verdict = _of_docked(ours, is_served=told["served"]) or _judged(config, one)
    kept = {key: value for key, value in one.items() if key not in ("functions", "known", "nodes")}
    nodes = [{key: value for key, value in node.items() if key != "known"} for node in one["nodes"]]
    does = [{"name": name} | words(_FUNCTIONS.get(name, name), name) for name in one["functions"]]
    slot = slot_of(one["port"], config.slots)
    more = {"slot": slot, "functions": does, "nodes": nodes, "docked": ours, "line": _line(config, one, slot)}
    return kept | more | _told(verdict)


def _is_refused(path: str, name: str) -> bool:
    """Of a USB device that was refused, detection tells the folder in which the kernel describes it."""
    return path.startswith("/sys/") and path.endswith(f"/{name}")


def _line(config: Config, one: Mapping[str, Any], slot: str) -> Json | None:
    """Whether a recorder is spoken to over its serial line, and by which profile; None if it has no line."""
    place = slot.partition(" ")[0]
    named = (
        name
        for name, profile in config.recorders.items()
        if any(match.usb == one["usb_id"] or (place and match.slot in (slot, place)) for match in profile.matches)
    )
    name = next(named, "")
    has_line = "serial" in one["functions"] or any(node["subsystem"] == "tty" for node in one["nodes"])
    if not has_line and not name:
        return None
    if not name:
        told = words(
            f"串口：没有 {one['usb_id']} 的型号配置", f"serial line: no profile for {one['usb_id']} in recorders/"
        )
    elif not place:
        told = words(
            f"串口：配置 {name} 只用于已命名的端口", f"serial line: profile {name}, but its port is no named slot"
        )
    else:
        told = words(f"串口：按配置 {name} 通讯", f"serial line: spoken to by profile {name}")
    return {"profile": name} | told


def _elsewhere(entry: Json, *, is_served: bool) -> Json:
    """What is docked without being plugged into a USB port: an image file, a folder."""
    verdict = _of_docked([entry], is_served=is_served)
    assert verdict is not None
    kept = {key: entry[key] for key in ("slot", "vendor", "product", "serial", "port", "link_mbit_s")}
    nothing: Json = {"name": entry["key"], "usb_id": "", "functions": [], "whose": "", "mark": "", "nodes": []}
    nothing["line"] = None
    return nothing | kept | {"docked": [entry]} | _told(verdict)


def _told(verdict: _Verdict) -> Json:
    state = {"name": verdict.made.value} | words(*_MADE[verdict.made])
    return {"state": state, "why": words(verdict.zh, verdict.en), "do": words(verdict.do_zh, verdict.do_en)}


def _of_docked(entries: Sequence[Mapping[str, Any]], *, is_served: bool) -> _Verdict | None:
    """What detection says of a device, if it says anything."""
    refused = [entry["refusal"] for entry in entries if entry["refusal"]]
    if refused:
        told = reason_words(refused[0])
        found = next((key for key, text in REFUSALS.items() if text == refused[0]), refused[0])
        return _Verdict(Made.REFUSED, told["zh"], told["en"], *_DO.get(found, _DO["refused"]))
    if not entries:
        return None
    if not is_served:
        return _Verdict(Made.WAITS, "服务启动后采集", "it is pulled as soon as the service runs")
    return _Verdict(Made.DOCKED, "", "")


def _judged(config: Config, one: Mapping[str, Any]) -> _Verdict:
    """Why detection says nothing of it: the first that is true, in the order in which our rules ask."""
    disks = [node for node in one["nodes"] if node["subsystem"] == "block"]
    marks = {one["mark"], *(disk["mark"] for disk in disks)}
    whose, slot = one["whose"], slot_of(one["port"], config.slots)
    is_recorder = any(name in _READS for name in one["functions"]) or whose == "slot"
    reasons: tuple[tuple[bool, _Verdict], ...] = (
        (not config.dock.usb, _left("按配置不采集 USB 设备", "dock.usb is switched off")),
        ("own" in marks, _left("本站自用设备", "a local rule (61) says that it is this station's own")),
        (one["mark"] in REFUSALS, _NEW),
        (not one["is_looked_at"], _NOT_LOOKED_AT),
        (
            whose == "other" and bool(slot),
            _refused("端口登记后未重新插入", f"it was plugged in before its port became slot {slot}", "trigger"),
        ),
        (whose == "other", _left("不在采集口上", "its port is no slot of slots.toml")),
        (bool(disks) and not any(disk["size_bytes"] for disk in disks), _EMPTY),
        (bool({MARK[1], MTP} & marks), _NEW),
        (not is_recorder, _left("不是记录仪", "it has neither a disk nor a camera: no recorder")),
        (whose == "", _refused("设备规则未生效，或 slots.toml 有误", "our udev rules said nothing of it", "doctor")),
        (bool(disks), _refused("插入时本机已挂载此盘", "this computer had it mounted when it appeared", "trigger")),
    )
    fallback = _refused("没有可采集的磁盘", "there is no disk in it that could be pulled from", "no-disk")
    return next((verdict for is_true, verdict in reasons if is_true), fallback)


def _left(zh: str, en: str) -> _Verdict:
    return _Verdict(Made.LEFT_ALONE, zh, en)


def _refused(zh: str, en: str, do: str) -> _Verdict:
    return _Verdict(Made.REFUSED, zh, en, *_DO[do])


def _names(row: Mapping[str, Any]) -> Iterator[str]:
    yield from (row["slot"], row["port"], row["serial"], row["usb_id"], row["name"])
    yield from (node["path"] for node in row["nodes"])
    for entry in row["docked"]:
        yield from (entry["slot"], entry["path"], entry["key"])


def _both(told: Mapping[str, Any]) -> str:
    return f"{told['zh']} ({told['en']})"
