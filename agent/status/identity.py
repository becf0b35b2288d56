"""All that udev knows of one device, which of our rules it met, and the lines by which IT names or admits it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent.config import Config
from agent.drivers.detect import MARK, REFUSALS

Json = dict[str, Any]

RULES: Final = "62-capture-agent.rules"
LOCAL_RULES: Final = "/etc/udev/rules.d/61-capture-agent.rules"

_PLAIN: Final = re.compile(r"[\w .,:+-]{1,200}")
"""What may be copied into a rule or a TOML file as it is: neither quotes nor patterns nor escapes."""

_PORTS: Final[Mapping[str, str]] = {
    "any": "no port is named in slots.toml: every USB port is the dock's",
    "slot": "its port is a slot of slots.toml",
    "other": "its port is no slot of slots.toml",
    "": "our rules said nothing of its port: it is on no USB, or they were not in force, or slots.toml can't be read",
}


def identity(config: Config, row: Json, one: Mapping[str, Any]) -> Json:
    """The `rules` it met, what is `known` by node, `lines` to copy; `row` is of `plugged_view`, `one` of the look."""
    nodes = [node for node in one["nodes"] if node.get("known")]
    usb = one.get("known", {})  # none, if it was plugged in only a moment ago
    known = ({"": usb} if usb else {}) | {node["path"]: node["known"] for node in nodes}
    return {"plugged": row, "rules": list(_rules(one, nodes)), "known": known, "lines": dict(_lines(config, row))}


def _rules(one: Mapping[str, Any], nodes: list[Mapping[str, Any]]) -> Iterator[str]:
    """In the order in which udev has gone through them."""
    yield f"{RULES}: {_PORTS.get(one['whose'], one['whose'])} (CAPTURE_AGENT_PORT={one['whose'] or '-'})"
    mark, interfaces = one["mark"], one.get("known", {}).get("ID_USB_INTERFACES", "")
    if mark in REFUSALS:
        yield f"{RULES}: {REFUSALS[mark]} (interfaces {interfaces}, CAPTURE_AGENT={mark})"
    elif mark:
        yield f"{LOCAL_RULES if mark in ('own', MARK[1]) else RULES}: CAPTURE_AGENT={mark} (interfaces {interfaces})"
    for node in nodes:
        if node["mark"]:
            locked = "read-only" if node.get("is_read_only") else "NOT read-only"
            yield f"{RULES} or a local one: {node['path']} CAPTURE_AGENT={node['mark']}, {locked}"
        elif node["subsystem"] == "block":
            yield f"no rule marked {node['path']}: it is not looked at"


def _lines(config: Config, row: Json) -> Iterator[tuple[str, str]]:
    """Only those that make sense now, and only of texts that can be copied as they are."""
    if row["port"] and not row["slot"] and _PLAIN.fullmatch(row["port"]):
        yield "slots.toml", f'[slots]\n"{row["port"]}" = "1"'
    reads = any(one["name"] in ("disk", "camera") for one in row["functions"])
    marks = [f'{name} = "{row[name]}"' for name in ("product", "serial") if _PLAIN.fullmatch(row[name])]
    if reads and marks:
        yield "inventory.toml", "\n".join(["[recorder.DSJ-001]", 'number = "…"', *marks])
    if row["mark"].startswith("refused") and re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{4}", row["usb_id"]):
        vendor, _, product = row["usb_id"].partition(":")
        match = f'SUBSYSTEM=="usb", ATTR{{idVendor}}=="{vendor}", ATTR{{idProduct}}=="{product}"'
        yield LOCAL_RULES, f'{match}, ENV{{{MARK[0]}}}="{MARK[1]}"'
    elif reads and not config.slots and row["mark"] != "own" and _PLAIN.fullmatch(row["serial"]):
        serial = f'ENV{{ID_SERIAL_SHORT}}=="{row["serial"]}", ENV{{{MARK[0]}}}="own"'
        yield LOCAL_RULES, f'SUBSYSTEM=="block", {serial}\nSUBSYSTEM=="usb", {serial}'
