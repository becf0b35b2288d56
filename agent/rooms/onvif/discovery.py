"""Finds ONVIF cameras of the same network by WS-Discovery (2005/04), over IPv4."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import uuid
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from agent.errors import RoomError
from agent.rooms.onvif.soap import parsed, text

_GROUP: Final = "239.255.255.250", 3702
_KINDS: Final = "dn:NetworkVideoTransmitter", "tds:Device"
_INTERFACES: Final = 32
_ANSWERS: Final = 4096
_AGAIN_S: Final = 0.3
_SCOPE: Final = re.compile(r"onvif://www\.onvif\.org/(name|hardware)/(.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A camera that answered from `host`; `name` and `hardware` are what it says of itself, empty if nothing.

    Nothing of it is proven: whoever is in the network may answer.
    """

    host: str
    port: int
    name: str
    hardware: str


async def discover(timeout_s: float = 3.0) -> list[Found]:
    """The cameras that answer within `timeout_s`, by address; asked through each interface, twice, as UDP may lose."""
    number, found = str(uuid.uuid4()), dict[str, Found]()
    left = iter(range(_ANSWERS))

    def read(sender: socket.socket) -> None:
        with contextlib.suppress(OSError):  # an interface that went down
            content, (host, _) = sender.recvfrom(65536)
            if number.encode() in content and next(left, None) is not None and (answer := _found(content, host)):
                found.setdefault(host, answer)

    loop = asyncio.get_running_loop()
    first_s = min(_AGAIN_S, timeout_s / 2)
    with contextlib.ExitStack() as stack:
        senders = [stack.enter_context(_sender(index)) for index, _ in socket.if_nameindex()[:_INTERFACES]]
        for sender in senders:
            loop.add_reader(sender, read, sender)
            stack.callback(loop.remove_reader, sender)
        for pause_s in (first_s, timeout_s - first_s):
            for sender in senders:
                for kind in _KINDS:
                    with contextlib.suppress(OSError):  # an interface that is down, or has no IPv4
                        sender.sendto(_probe(number, kind).encode(), _GROUP)
            await asyncio.sleep(pause_s)
    return sorted(found.values())


def _sender(interface: int) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    by_index = struct.pack("4s4si", b"", b"", interface)  # struct ip_mreqn: no address of ours is needed
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by_index)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    return sender


def _probe(number: str, kind: str) -> str:
    discovery = "http://schemas.xmlsoap.org/ws/2005/04/discovery"
    return (
        '<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
        'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"><s:Header>'
        f"<a:Action>{discovery}/Probe</a:Action><a:MessageID>urn:uuid:{number}</a:MessageID>"
        "<a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header><s:Body>"
        f'<Probe xmlns="{discovery}"><Types xmlns:dn="http://www.onvif.org/ver10/network/wsdl" '
        f'xmlns:tds="http://www.onvif.org/ver10/device/wsdl">{kind}</Types></Probe></s:Body></s:Envelope>'
    )


def _found(content: bytes, host: str) -> Found | None:
    """What an answer from `host` says; None if it is none, or not of a camera."""
    try:
        match = parsed(content).find("{*}ProbeMatch")
    except RoomError:
        return None
    scopes = text(match, "{*}Scopes", 8192).split()
    if "NetworkVideoTransmitter" not in text(match, "{*}Types", 1024) and not any("onvif.org" in one for one in scopes):
        return None
    said = {one[1].lower(): " ".join(unquote(one[2])[:64].split()) for one in map(_SCOPE.fullmatch, scopes) if one}
    ports = [port for address in text(match, "{*}XAddrs", 4096).split() if (port := _port(address, host))]
    named = [said.get(key, "") for key in ("name", "hardware")]
    return Found(host, min(ports, default=80), *(value if value.isprintable() else "" for value in named))


def _port(address: str, host: str) -> int:
    """The port that an address says for `host`; 0 if it is another's, as of a second interface."""
    try:
        parts = urlsplit(address)
        return parts.port or 80 if parts.scheme == "http" and parts.hostname == host else 0
    except ValueError:
        return 0
