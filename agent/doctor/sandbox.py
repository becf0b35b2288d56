"""What the unit of the service lets it reach, as systemd has it in force: addresses and devices."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final

from agent.doctor.finding import ask

UNIT: Final = "capture-agent.service"
_ASKED: Final = "LoadState,ActiveState,IPAddressAllow,IPAddressDeny,DevicePolicy,DeviceAllow,SupplementaryGroups"
_CLOSED: Final = frozenset({"closed", "strict"})


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Networks as IPAddressAllow= and IPAddressDeny= name them, devices as DeviceAllow= does; `devices` None: all."""

    is_active: bool
    allowed: tuple[IPv4Network | IPv6Network, ...] = ()
    denied: tuple[IPv4Network | IPv6Network, ...] = ()
    devices: frozenset[str] | None = None
    groups: frozenset[str] = frozenset()

    def reaches(self, address: str) -> bool:
        """Whether packets pass: what is allowed does, also if it is denied (systemd.resource-control(5))."""
        one = ip_address(address)
        return any(one in network for network in self.allowed) or not any(one in network for network in self.denied)

    def opens(self, path: str, driver: str, group: str) -> bool:
        """Whether a character device may be opened, by its path or its driver, as a member of its group."""
        named = self.devices is None or not self.devices.isdisjoint({path, f"char-{driver}", "char-*"})
        return named and group in self.groups


def in_force() -> Sandbox | None:
    """None where systemd doesn't run or doesn't know the service."""
    told = ask("systemctl", "show", UNIT, f"--property={_ASKED}") if Path("/run/systemd/system").exists() else None
    return read(told[1]) if told is not None and told[0] == 0 else None


def read(shown: str) -> Sandbox | None:
    """What `systemctl show` tells of the unit; None if it isn't installed."""
    lines = [line.partition("=")[::2] for line in shown.splitlines()]
    one = dict(lines)
    if one.get("LoadState") != "loaded":
        return None
    allowed, denied = (
        tuple(ip_network(network) for network in one.get(name, "").split())
        for name in ("IPAddressAllow", "IPAddressDeny")
    )
    devices = frozenset(value.split()[0] for name, value in lines if name == "DeviceAllow" and value)
    is_closed = bool(devices) or one.get("DevicePolicy") in _CLOSED
    groups = frozenset(one.get("SupplementaryGroups", "").split())
    return Sandbox(one.get("ActiveState") == "active", allowed, denied, devices if is_closed else None, groups)
