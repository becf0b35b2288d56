"""The camera itself: GStreamer's RTSP server, with Debian's Python, fed from packs; commands come as JSON lines.

It goes on from a pack's end to its beginning without a seam, and never stops: whoever connects gets what is shown now,
from the next key frame on. Each picture says its number in a user-data SEI (H.264 D.1.7, H.265 D.2.7). Started by
`simulator.cameras.camera`, in a Python that has `gi` but nothing of ours.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import gi

for _name in ("Gst", "GstRtsp", "GstRtspServer", "GstApp"):
    gi.require_version(_name, "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtsp, GstRtspServer  # noqa: E402, F401

MARK: Final = b"capture-agent-no"
"""UUID of the user data: 16 bytes of which none is zero, so that nothing needs an emulation prevention byte."""
_SEI: Final[Mapping[str, bytes]] = {"h264": b"\x06", "hevc": b"\x4e\x01"}
_VIDEO: Final[Mapping[str, tuple[str, str]]] = {
    "h264": ("video/x-h264,stream-format=byte-stream,alignment=au", "h264parse ! rtph264pay"),
    "hevc": ("video/x-h265,stream-format=byte-stream,alignment=au", "h265parse ! rtph265pay"),
}
_AUDIO: Final[Mapping[str, tuple[str, int]]] = {
    "aac": ("audio/mpeg,mpegversion=4,stream-format=raw,rate={rate},channels=1,codec_data=(buffer){extra}", 97),
    "pcm_mulaw": ("audio/x-mulaw,rate=8000,channels=1", 0),
    "pcm_alaw": ("audio/x-alaw,rate=8000,channels=1", 8),
}
_PAY: Final[Mapping[str, str]] = {"aac": "aacparse ! rtpmp4gpay", "pcm_mulaw": "rtppcmupay", "pcm_alaw": "rtppcmapay"}


class Pack:
    """A pack: a line of JSON (codecs, length, and of each packet time, track, size, …), then the bytes."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            self.head: dict[str, Any] = json.loads(file.readline())
            self.body = file.read()
        self.packets: list[list[int]] = self.head["packets"]
        self.length_ns: int = self.head["length_ns"]
        self.pictures: int = self.head["pictures"]

    def data(self, packet: list[int], lap: int) -> bytes:
        """The bytes of a packet in the given lap; a picture is told its number."""
        _, track, _, at, size, _, cut, number = packet
        if track or number < 0:
            return self.body[at : at + size]
        said = MARK + b"%016x" % (lap * self.pictures + number)
        sei = b"\0\0\0\1" + _SEI[self.head["video"]] + b"\x05" + bytes([len(said)]) + said + b"\x80"
        return self.body[at : at + cut] + sei + self.body[at + cut : at + size]


class Mount:
    """One camera: what it shows now, whoever looks."""

    def __init__(self, pack: Pack, options: dict[str, Any], began: float) -> None:
        self.pack, self.began = pack, began
        self.speed: float = options.get("speed", 1.0)
        self.wrap_s: float | None = options.get("wrap_s")
        self.is_muted = self.is_ended = False
        self.muted_tracks: set[int] = set()

    def launch(self) -> str:
        """The pipeline from its packets to RTP, in the words of gst-launch."""
        head, parts = self.pack.head, []
        source = 'appsrc name={} is-live=true format=time block=false max-bytes=20000000 caps="{}" ! '
        if head["video"]:
            caps, pay = _VIDEO[head["video"]]
            parts.append(source.format("v", caps) + f"{pay} name=pay0 pt=96 config-interval=-1 {self._wrap(90000)}")
        if head["audio"]:
            caps, number = _AUDIO[head["audio"]]
            caps = caps.format(rate=head["rate"], extra=head["extra"])
            name = f"pay{len(parts)} pt={number} {self._wrap(head['rate'])}"
            parts.append(source.format("a", caps) + f"{_PAY[head['audio']]} name={name}")
        return f"( {' '.join(parts)} )"

    def _wrap(self, rate: int) -> str:
        if self.wrap_s is None:
            return ""
        return f"timestamp-offset={2**32 - int(self.wrap_s * rate)} seqnum-offset=65000"

    def configure(self, _factory: object, media: Any) -> None:  # noqa: ANN401
        """Begin to feed a pipeline that was made for who connected first."""
        element = media.get_element()
        media.set_reusable(False)
        sources = [element.get_by_name("v"), element.get_by_name("a")]
        threading.Thread(target=self._feed, args=(sources,), daemon=True).start()

    def _feed(self, sources: list[Any]) -> None:
        """Push what is shown from now on, until the pipeline is gone."""
        first, self.is_ended = None, False
        now_ns = int((time.monotonic() - self.began) * self.speed * 1e9)
        lap, at_ns = divmod(now_ns, self.pack.length_ns)
        begun_ns = lap * self.pack.length_ns
        while True:
            pack = self.pack  # perhaps another one: time and numbers go on, parameters change
            for packet in pack.packets:
                t_ns, track, pts_ns, _, _, is_key, _, _ = packet
                if first is None and (t_ns < at_ns or not is_key or (track and pack.head["video"])):
                    continue
                shown_ns = begun_ns + t_ns
                first = shown_ns if first is None else first
                time.sleep(max(0.0, self.began + shown_ns / 1e9 / self.speed - time.monotonic()))
                if self.is_ended:
                    for source in filter(None, sources):
                        source.emit("end-of-stream")
                    return
                if self.is_muted or track in self.muted_tracks or sources[track] is None:
                    continue
                buffer = Gst.Buffer.new_wrapped(pack.data(packet, lap))
                buffer.pts = max(0, int((shown_ns - t_ns + pts_ns - first) / self.speed))
                if not is_key:
                    buffer.set_flags(Gst.BufferFlags.DELTA_UNIT)
                if sources[track].emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                    return
            lap, at_ns, begun_ns = lap + 1, 0, begun_ns + pack.length_ns


def _allowed(auth: str, user: str, password: str, server: Any) -> Callable[[Any], None]:  # noqa: ANN401
    """Have the server ask for a password, and say how a mount is opened to who knows it."""
    if not auth:
        return lambda _factory: None
    asked, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if auth == "digest":
        asked.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        asked.add_digest(user, password, token)
    else:
        asked.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(asked)

    def permit(factory: Any) -> None:  # noqa: ANN401
        permissions = GstRtspServer.RTSPPermissions()
        for what in ("access", "construct"):
            permissions.add_permission_for_role("viewer", f"media.factory.{what}", True)
        factory.set_permissions(permissions)

    return permit


def _command(mounts: dict[str, Mount], said: dict[str, Any]) -> None:
    mount = mounts[said["mount"]]
    match said["do"]:
        case "mute":
            mount.is_muted = said["on"]
        case "mute-track":
            (mount.muted_tracks.add if said["on"] else mount.muted_tracks.discard)(said["track"])
        case "switch":
            mount.pack = Pack(said["pack"])
        case "end":
            mount.is_ended = True


def main() -> None:
    """Serve what the first line of standard input says, until it ends."""
    plan = json.loads(sys.stdin.readline())
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(plan["address"])
    server.set_service(str(plan["port"]))
    permit = _allowed(plan["auth"], plan["user"], plan["password"], server)
    mounts: dict[str, Mount] = {}
    for name, options in plan["mounts"].items():
        mount = mounts[name] = Mount(Pack(options["pack"]), options, plan["began"])
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(mount.launch())
        factory.set_shared(True)
        factory.set_enable_rtcp(True)
        permit(factory)
        factory.connect("media-configure", mount.configure)
        server.get_mount_points().add_factory(f"/{name}", factory)
    if not server.attach(None):
        sys.exit(f"port {plan['port']} is taken")
    print(json.dumps({"port": server.get_bound_port()}), flush=True)
    loop = GLib.MainLoop()
    threading.Thread(target=loop.run, daemon=True).start()
    for line in sys.stdin:
        _command(mounts, json.loads(line))
        print("{}", flush=True)


if __name__ == "__main__":
    main()
