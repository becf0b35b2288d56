"""Bad input: real recordings of every kind in the field, what happens to them, and what is to be said of each."""

from __future__ import annotations

import functools
import http.server
import random
import struct
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av

from agent.model import Integrity, Medium
from tests.media import box

COMPLETE, TRUNCATED, UNREADABLE, SUSPECT = (
    Integrity.COMPLETE, Integrity.TRUNCATED, Integrity.UNREADABLE, Integrity.SUSPECT,
)  # fmt: skip
MIB: Final = 1 << 20
TIME_LIMIT_S: Final = 60
HOSTILE_NAMES: Final = (
    "-i.mp4",
    "a b'c\"d$(id)`id`.mp4",
    "concat:a|b.mp4",
    "http:x.mp4",
    "%03d [*?].mp4",
    "line\nbreak\r\ttab\x1b[2J.mp4",
    "警号 000123 \u202e4pm.mp4",
    "\\..\\x,y;z=1@#&{}<>.mp4",
    "e\u0301" * 60 + ".mp4",
)

Piece = bytes | int
"""Bytes, or a hole of so many bytes that takes no room on the disk."""


@dataclass(frozen=True, slots=True)
class Case:
    """A file: how it is made (in a folder that is kept as long as it), what it is, and what a probe has to find."""

    make: Callable[[Path], bytes | Sequence[Piece]]
    what: str
    integrity: Integrity
    medium: Medium | None = Medium.VIDEO
    suffix: str = "mp4"


def damaged(folder: Path, name: str) -> Path:
    """The file of a case in this folder; its content is made once in a session. Don't change it: copy it."""
    path = folder / f"{name}.{CASES[name].suffix}"
    if not path.exists():
        if name in FOLLOWERS:
            pieces: Sequence[Piece] = (FOLLOWERS[name](str(secret(folder))),)
        else:
            pieces = _pieces(name)
        with path.open("wb") as file:
            for piece in pieces:
                if isinstance(piece, int):
                    file.truncate(file.seek(piece, 1))
                else:
                    file.write(piece)
    return path


def secret(folder: Path) -> Path:
    """A recording that no other file's reader may open; its picture is 176 pixels wide, all others are not."""
    path = folder / "secret.ts"
    if not path.exists():
        path.write_bytes(clip("ts", pictures=picture(2, "176x144"), codec=(*H264, "-c:a", "aac")))
    return path


class Listener(http.server.ThreadingHTTPServer):
    """A real web server on loopback that writes down what is asked of it."""

    daemon_threads = False

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        """An address of a recording, as a playlist would name it."""
        return f"http://127.0.0.1:{self.server_port}/secret.ts"


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def listener() -> Iterator[Listener]:
    """It listens while the block runs."""
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


# What is recorded.

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-threads", "1")
X265 = "log-level=error:pools=none:keyint=25:bframes=3"
H265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x265-params", X265, "-tag:v", "hvc1")
BFRAMES = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-pix_fmt", "yuv420p", "-g", "25", "-threads", "1")
AAC = ("-c:a", "aac", "-b:a", "32k")
SECONDS = 6
FRAGMENTED = ("-movflags", "frag_keyframe+empty_moov+default_base_moof")
FRONT = ("-movflags", "+faststart")


def picture(seconds: float = SECONDS, size: str = "160x120", more: str = "") -> tuple[str, ...]:
    """Input of moving pictures, 25 a second; `more` are filters."""
    return ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration={seconds}{more}")


def tone(seconds: float = SECONDS) -> tuple[str, ...]:
    """Input of a tone."""
    return ("-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=16000:duration={seconds}")


@functools.cache
def clip(
    kind: str = "mp4",
    *,
    pictures: Sequence[str] = picture(),
    sound: Sequence[str] = tone(),
    codec: Sequence[str] = (*H264, *AAC),
    more: Sequence[str] = (),
) -> bytes:
    """A recording of six seconds by real ffmpeg; the same words give the same bytes, made once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"made.{kind}")
        front = ("ffmpeg", "-nostdin", "-loglevel", "error", "-y")
        command = [*front, *pictures, *sound, *codec, "-fflags", "+bitexact", *more, str(path)]
        subprocess.run(command, check=True, timeout=TIME_LIMIT_S)
        return path.read_bytes()


def key_offsets(content: bytes) -> list[int]:
    """Where in a file the key pictures begin."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(content)
        file.flush()
        words = ["-v", "error", "-select_streams", "v", "-show_entries", "packet=pos,flags", "-of", "csv=p=0"]
        told = subprocess.run(["ffprobe", *words, file.name], check=True, capture_output=True, timeout=TIME_LIMIT_S)
    lines = [line.split(",") for line in told.stdout.decode().split()]
    return [int(line[0]) for line in lines if line[1].startswith("K")]


def boxes(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, begin, end) of the boxes of an MP4 file or in a box."""
    at = 0
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        yield name, at, at + length
        at += length


def noisy() -> bytes:
    """Eight megabytes of pictures that can't be made small, the index in front."""
    noise = picture(8, more=",noise=alls=100:allf=t")
    return clip(pictures=noise, codec=(*H264, "-qp", "8", *AAC), more=FRONT)


# What happens to it.


def cut(content: bytes, share: float = 0.5) -> bytes:
    """The first part."""
    return content[: int(len(content) * share)]


def zeroed(content: bytes, begin: int, length: int) -> bytes:
    """With zeros in a range."""
    return content[:begin] + bytes(length) + content[begin + length :]


def without_index(content: bytes) -> bytes:
    """An MP4 whose recorder lost power before it wrote the moov: its mdat has no length yet."""
    _, begin, end = next(found for found in boxes(content) if found[0] == b"mdat")
    return content[:begin] + bytes(4) + content[begin + 4 : end]


def replaced(content: bytes, path: Sequence[bytes], body: Callable[[bytes], bytes]) -> bytes:
    """With another content of all boxes at `path`, which may lie in others; these grow with it."""
    parts = []
    for name, begin, end in boxes(content):
        part = content[begin:end]
        if name == path[0]:
            inner = part[8:]
            part = box(name, body(inner) if len(path) == 1 else replaced(inner, path[1:], body))
        parts.append(part)
    return b"".join(parts)


def beyond_4_gib(_: Path) -> list[Piece]:
    """A box of media that is longer than 32 bits can say, and the index behind it."""
    content = clip()
    _, begin, end = next(found for found in boxes(content) if found[0] == b"mdat")
    head = struct.pack(">I4sQ", 1, b"mdat", (4 << 30) + end - begin + 8)  # ffmpeg leaves eight bytes free before it
    return [content[: begin - 8] + head + content[begin + 8 : end], 4 << 30, content[end:]]


def amr(_: Path) -> bytes:
    """Six seconds of AMR-NB by a real encoder, which Debian's ffmpeg doesn't have."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made.amr")
        with av.open(str(path), "w", format="amr") as container:
            stream = container.add_stream("libopencore_amrnb", rate=8000)
            assert isinstance(stream, av.AudioStream)
            stream.layout = "mono"
            stream.bit_rate = 12200
            for number in range(50 * SECONDS):
                frame = av.AudioFrame(format="s16", layout="mono", samples=160)
                frame.rate, frame.pts = 8000, number * 160
                frame.planes[0].update(struct.pack("<160h", *((9000 if i % 20 < 10 else -9000) for i in range(160))))
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


def with_external_data(target: str) -> bytes:
    """A MOV whose tracks lie in another file, named as QuickTime does: by an alias, which ffmpeg's reader knows."""
    name = target.encode().rpartition(b"/")[2][:63]
    alias = bytes(10) + bytes([4]) + b"disk".ljust(27, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    alias += bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    path = target.encode()
    alias += struct.pack(">hH", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">hH", -1, 0)
    dref = bytes(4) + struct.pack(">I", 1) + box(b"alis", bytes(4) + alias)
    return replaced(clip("mov"), [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"], lambda _: dref)


def with_url_data(target: str) -> bytes:
    """An MP4 whose tracks lie at an address (ISO/IEC 14496-12, 8.7.2)."""
    dref = bytes(4) + struct.pack(">I", 1) + box(b"url ", bytes(4) + target.encode() + b"\0")
    return replaced(clip(), [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"], lambda _: dref)


def dash(target: str) -> bytes:
    """A DASH manifest of one recording."""
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        '<AdaptationSet mimeType="video/mp2t"><Representation id="1" bandwidth="9000" width="176" height="144">'
        f"<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ).encode()


FOLLOWERS: Final[Mapping[str, Callable[[str], bytes]]] = {
    "m3u8": lambda to: f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{to}\n#EXT-X-ENDLIST\n".encode(),
    "m3u8-as-mp4": lambda to: f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{to}\n#EXT-X-ENDLIST\n".encode(),
    "ffconcat": lambda to: f"ffconcat version 1.0\nfile '{to}'\n".encode(),
    "mpd": dash,
    "mov-alias": with_external_data,
    "mp4-url": with_url_data,
}
"""Files that ask their reader to open another one: from its path or address."""


def jpeg() -> bytes:
    """A photo."""
    return clip("jpg", sound=(), codec=("-frames:v", "1", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p"))


def with_bad_exif(photo: bytes) -> bytes:
    """The photo with an EXIF directory whose fields point behind the end, at each other and at themselves."""
    fields = b"".join(
        struct.pack("<HHII", tag, kind, count, value)
        for tag, kind, count, value in [
            (0x010F, 2, 0xFFFFFFFF, 8),
            (0x8769, 4, 1, 8),
            (0x8825, 4, 1, 0xFFFFFFF0),
            (0x9003, 2, 20, 0x7FFFFFFF),
        ]
    )
    body = b"Exif\0\0" + struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", 400) + fields + struct.pack("<I", 8)
    return photo[:2] + struct.pack(">HH", 0xFFE1, 2 + len(body)) + body + photo[2:]


def png(side: int, depth: int = 1, colours: int = 1) -> bytes:
    """A picture of `side` by `side` points in a thousandth of their bytes; every row leans on the one above it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = (b"\4" + bytes((side * depth * colours + 7) // 8)) * 100
    squeeze = zlib.compressobj(9, wbits=-15)
    packed = (squeeze.compress(rows) + squeeze.flush(zlib.Z_FULL_FLUSH)) * (side // 100)
    check = functools.reduce(lambda before, _: zlib.adler32(rows, before), range(side // 100), 1)
    head = struct.pack(">IIBBBBB", side, side, depth, {1: 0, 3: 2}[colours], 0, 0, 0)
    data = b"\x78\xda" + packed + b"\3\0" + struct.pack(">I", check)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg_bomb(photo: bytes) -> bytes:
    """A photo that says it is 65,500 by 65,500 points large."""
    at = photo.index(b"\xff\xc0") + 5
    return photo[:at] + struct.pack(">HH", 65500, 65500) + photo[at + 4 :]


def slow(folder: Path) -> bytes:
    """Forty seconds of pictures of 35 million points in seven megabytes: each takes its decoder a long time."""
    black = ("-f", "lavfi", "-i", "color=black:size=8192x4352:rate=25")
    codec = ("-frames:v", "1", "-c:v", "libx264", "-preset", "superfast", "-threads", "1", "-pix_fmt", "yuv420p")
    (folder / "slow.h264").write_bytes(clip("h264", pictures=black, sound=(), codec=codec) * 1000)
    return clip(pictures=("-f", "h264", "-i", str(folder / "slow.h264")), sound=(), codec=("-c", "copy"))


def insane(_: Path) -> bytes:
    """An MP4 whose pictures are random bytes behind lengths that are right."""
    content = bytearray(clip(sound=(), codec=H264, more=FRONT))
    _, begin, end = next(found for found in boxes(bytes(content)) if found[0] == b"mdat")
    dice, at = random.Random("insane"), begin + 8
    while at + 4 < end:
        length = int.from_bytes(content[at : at + 4], "big")
        content[at + 6 : at + 4 + length] = dice.randbytes(length - 2)
        at += 4 + length
    return bytes(content)


def turned(content: bytes) -> bytes:
    """An MP4 whose pictures are to be shown a quarter turn clockwise, as a recorder on its side tells."""
    at = content.index(b"tkhd") + 4 + 40
    return content[:at] + struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 120 << 16, 0, 1 << 30) + content[at + 36 :]


def signed(content: bytes, uuid: bytes) -> bytes:
    """A recording whose encoder's own message (SEI type 5) in the first picture is that of a signing camera."""
    for own in (bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"), bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e")):
        content = content.replace(own, uuid)
    assert uuid in content
    return content


def wav() -> bytes:
    """Sound without compression."""
    return clip("wav", pictures=(), codec=("-c:a", "pcm_s16le"))


def wav_with_length(content: bytes, length: int) -> bytes:
    """Sound whose header tells another length."""
    at = content.index(b"data") + 4
    return content[:at] + struct.pack("<I", length) + content[at + 4 :]


def mjpeg_avi() -> bytes:
    """What simple recorders make."""
    return clip("avi", codec=("-c:v", "mjpeg", "-q:v", "5", "-pix_fmt", "yuvj420p", "-c:a", "pcm_s16le"))


def without_avi_index(content: bytes) -> bytes:
    """An AVI whose recorder was switched off before it wrote the index; the lengths are right."""
    at = content.rindex(b"idx1")
    return content[:4] + struct.pack("<I", at - 8) + content[8:at]


def heic(_: Path) -> bytes:
    """A photo as telephones make it (ISO/IEC 23008-12): one H.265 picture and the boxes that tell where it is."""
    film = clip(pictures=picture(0.04), sound=(), codec=H265)
    coded = next(film[begin + 8 : end] for name, begin, end in boxes(film) if name == b"mdat")
    at = film.index(b"hvcC") - 4
    config = film[at : at + int.from_bytes(film[at : at + 4], "big")]
    ftyp = box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")
    zero = bytes(4)
    hdlr = box(b"hdlr", zero + zero + b"pict" + bytes(13))
    pitm = box(b"pitm", zero + struct.pack(">H", 1))
    iinf = box(
        b"iinf", zero + struct.pack(">H", 1) + box(b"infe", b"\2\0\0\0" + struct.pack(">HH4sB", 1, 0, b"hvc1", 0))
    )
    ispe = box(b"ispe", zero + struct.pack(">II", 160, 120))
    ipma = box(b"ipma", zero + struct.pack(">IHBBB", 1, 1, 2, 0x81, 2))
    iprp = box(b"iprp", box(b"ipco", config + ispe) + ipma)

    def meta(offset: int) -> bytes:
        place = struct.pack(">HHHHHII", 0x4400, 1, 1, 0, 1, offset, len(coded))
        return box(b"meta", zero + hdlr + pitm + box(b"iloc", zero + place) + iinf + iprp)

    return ftyp + meta(len(ftyp) + len(meta(0)) + 8) + box(b"mdat", coded)


def joined(*seconds: float) -> bytes:
    """Transport streams one behind the other, each beginning at its own time."""
    return b"".join(clip("ts", pictures=picture(3), sound=tone(3), more=("-output_ts_offset", str(s))) for s in seconds)


JUMP = picture(more=r",setpts=PTS+gte(N\,50)*5/TB")
VFR = picture(more=r",select=not(mod(n\,5))+lt(n\,50)")
SMOOTH = ("-fps_mode", "passthrough")

CASES: Final[Mapping[str, Case]] = {
    "whole": Case(lambda _: clip(), "H.264 and AAC, index behind", COMPLETE),
    "front": Case(lambda _: clip(more=FRONT), "H.264 and AAC, index in front", COMPLETE),
    "half": Case(lambda _: cut(clip(more=FRONT)), "cut at 50 %, index in front", TRUNCATED),
    "half-index-behind": Case(lambda _: cut(clip()), "cut at 50 %, index was behind", TRUNCATED, None),
    "gop-edge": Case(lambda _: (c := clip(more=FRONT))[: key_offsets(c)[3]], "cut where a GOP begins", TRUNCATED),
    "hole": Case(lambda _: zeroed(c := noisy(), len(c) // 2, MIB), "1 MiB of zeros in the middle", SUSPECT),
    "zero-tail": Case(
        lambda _: zeroed(c := clip(more=FRONT), len(c) * 6 // 10, len(c) - len(c) * 6 // 10),
        "the last 40 % are zeros, index in front", SUSPECT,
    ),
    "no-moov": Case(lambda _: without_index(clip()), "power lost: all media, no index", TRUNCATED, None),
    "preallocated": Case(
        lambda _: [cut(without_index(clip()), 0.7), 4 * MIB], "power lost; the card had reserved more", TRUNCATED, None
    ),
    "empty": Case(lambda _: b"", "0 bytes", UNREADABLE, None),
    "one-byte": Case(lambda _: b"\0", "1 byte", UNREADABLE, None),
    "text": Case(lambda _: "警情说明 a text, no film\n".encode() * 200, "text named .mp4", UNREADABLE, None),
    "random": Case(lambda _: random.Random("no film").randbytes(200_000), "random bytes", UNREADABLE, None),
    "large": Case(beyond_4_gib, "more than 4 GiB, mostly a hole, index behind", COMPLETE),
    "vfr": Case(lambda _: clip(pictures=VFR, codec=(*SMOOTH, *H264, *AAC)), "variable frame rate", COMPLETE),
    "rotated": Case(lambda _: turned(clip()), "display matrix: a quarter turn", COMPLETE),
    "b-frames": Case(lambda _: clip(codec=(*BFRAMES, *AAC)), "H.264 with B-frames", COMPLETE),
    "h265": Case(lambda _: clip(codec=(*H265, *AAC)), "H.265 with B-frames", COMPLETE),
    "mjpeg-avi": Case(lambda _: mjpeg_avi(), "Motion JPEG and PCM in AVI", COMPLETE, suffix="avi"),
    "avi-no-index": Case(lambda _: without_avi_index(mjpeg_avi()), "AVI without idx1", SUSPECT, suffix="avi"),
    "avi-half": Case(lambda _: cut(mjpeg_avi()), "AVI cut at 50 %", TRUNCATED, suffix="avi"),
    "wav": Case(lambda _: wav(), "PCM", COMPLETE, Medium.AUDIO, "wav"),
    "wav-too-long": Case(
        lambda _: wav_with_length(wav(), 10 * MIB), "PCM, length of the data wrong", TRUNCATED, Medium.AUDIO, "wav"
    ),
    "wav-no-length": Case(
        lambda _: wav_with_length(wav(), 0), "PCM, length never written", TRUNCATED, Medium.AUDIO, "wav"
    ),
    "amr": Case(amr, "AMR-NB", COMPLETE, Medium.AUDIO, "amr"),
    "odd": Case(
        lambda _: clip(pictures=picture(size="161x121"), codec=(*H264, "-pix_fmt", "yuv444p", *AAC)),
        "161 x 121 points, 4:4:4", COMPLETE,
    ),
    "ten-bit": Case(lambda _: clip(codec=(*H264, "-pix_fmt", "yuv420p10le", *AAC)), "H.264 High 10", COMPLETE),
    "no-audio": Case(lambda _: clip(sound=(), codec=H264), "pictures only", COMPLETE),
    "audio-only": Case(lambda _: clip("m4a", pictures=(), codec=AAC), "AAC only", COMPLETE, Medium.AUDIO, "m4a"),
    "mp3": Case(lambda _: clip("mp3", pictures=(), codec=()), "MP3", COMPLETE, Medium.AUDIO, "mp3"),
    "mp3-half": Case(
        lambda _: cut(clip("mp3", pictures=(), codec=())), "MP3 cut at 50 %", TRUNCATED, Medium.AUDIO, "mp3"
    ),
    "aac": Case(lambda _: clip("aac", pictures=(), codec=AAC), "AAC (ADTS)", COMPLETE, Medium.AUDIO, "aac"),
    "aac-half": Case(
        lambda _: cut(clip("aac", pictures=(), codec=AAC)), "AAC (ADTS) cut at 50 %", TRUNCATED, Medium.AUDIO, "aac"
    ),
    "photo": Case(lambda _: jpeg(), "JPEG", COMPLETE, Medium.PHOTO, "jpg"),
    "photo-half": Case(lambda _: cut(jpeg()), "JPEG cut at 50 %", TRUNCATED, Medium.PHOTO, "jpg"),
    "bad-exif": Case(lambda _: with_bad_exif(jpeg()), "JPEG with corrupt EXIF", COMPLETE, Medium.PHOTO, "jpg"),
    "png-bomb": Case(lambda _: png(30_000), "PNG of 900 million points", UNREADABLE, Medium.PHOTO, "png"),
    "png-large": Case(lambda _: png(15_000), "PNG of 225 million points", COMPLETE, Medium.PHOTO, "png"),
    "jpeg-bomb": Case(lambda _: jpeg_bomb(jpeg()), "JPEG of 4,290 million points", UNREADABLE, Medium.PHOTO, "jpg"),
    "heic": Case(heic, "HEIC", COMPLETE, Medium.PHOTO, "heic"),
    "heic-half": Case(lambda folder: cut(heic(folder)), "HEIC cut at 50 %", TRUNCATED, None, "heic"),
    "slow": Case(slow, "pictures of 35 million points", COMPLETE),
    "insane": Case(insane, "the pictures are random bytes", COMPLETE),
    "unknown-codec": Case(lambda _: clip().replace(b"avc1", b"svac"), "a codec that ffmpeg doesn't know", COMPLETE),
    "jump-forward": Case(lambda _: clip(pictures=JUMP, codec=(*SMOOTH, *H264, *AAC)), "pictures jump 5 s", COMPLETE),
    "ts": Case(lambda _: joined(0), "MPEG-TS", COMPLETE, suffix="ts"),
    "ts-jump-forward": Case(lambda _: joined(0, 103), "MPEG-TS, 100 s are left out", SUSPECT, suffix="ts"),
    "ts-jump-back": Case(lambda _: joined(60, 0), "MPEG-TS, a minute back", SUSPECT, suffix="ts"),
    "ts-half": Case(lambda _: joined(0)[: 188 * 400 + 77], "MPEG-TS cut", TRUNCATED, suffix="ts"),
    "fmp4": Case(lambda _: clip(more=FRAGMENTED), "fragmented MP4", COMPLETE),
    "fmp4-half": Case(lambda _: cut(clip(more=FRAGMENTED)), "fragmented MP4 cut at 50 %", TRUNCATED),
    "mkv": Case(lambda _: clip("mkv"), "Matroska", COMPLETE, suffix="mkv"),
    "mkv-half": Case(lambda _: cut(clip("mkv")), "Matroska cut at 50 %", SUSPECT, suffix="mkv"),
    "m3u8": Case(lambda _: b"", "an HLS playlist", UNREADABLE, None, "m3u8"),
    "m3u8-as-mp4": Case(lambda _: b"", "an HLS playlist named .mp4", UNREADABLE, None),
    "ffconcat": Case(lambda _: b"", "a list of ffmpeg", UNREADABLE, None, "ffconcat"),
    "mpd": Case(lambda _: b"", "a DASH manifest", UNREADABLE, None, "mpd"),
    "mov-alias": Case(lambda _: b"", "MOV whose tracks lie in another file", SUSPECT, suffix="mov"),
    "mp4-url": Case(lambda _: b"", "MP4 whose tracks lie at an address, and here", COMPLETE),
}  # fmt: skip


@functools.cache
def _pieces(name: str) -> tuple[Piece, ...]:
    with tempfile.TemporaryDirectory() as folder:
        made = CASES[name].make(Path(folder))
    return (made,) if isinstance(made, bytes) else tuple(made)
