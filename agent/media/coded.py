"""What a coded packet tells without being decoded: who signed it, whether it is empty, where it should end."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

SIGNED_PACKETS_LIMIT: Final = 600
_SIGNED_BYTES: Final = 4096
_HEAD_BYTES: Final = 32
# An SEI message user_data_unregistered (H.264 D.2.7, H.265 D.3.7: type 5, length, UUID), as written by
# github.com/AxisCommunications/signed-video-framework (README.md) and
# github.com/onvif/media-signing-framework (kUuidONVIFMediaSigning).
_SIGNATURES: Final = re.compile(
    rb"\x05\xff*[\x00-\xfe](?:(?P<axis>Signed Video\.\.\.0)"
    rb"|(?P<onvif>\x00\x5b\xc9\x3f\x2d\x71\x5e\x95\xad\xa4\x79\x6f\x90\x87\x7a\x6f))",
    re.DOTALL,
)
_MP3_KBIT: Final = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),  # MPEG-2 and 2.5
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
)
_MP3_HZ: Final = (44100, 48000, 32000, 0)
_AMR_BYTES: Final = (13, 14, 16, 18, 20, 21, 27, 32, 6)


def signer(packet: memoryview) -> str:
    """The scheme whose mark is in the beginning of a coded picture ("axis", "onvif"), or "" if there is none."""
    found = _SIGNATURES.search(packet[:_SIGNED_BYTES])
    return (found.lastgroup or "") if found else ""


def is_void(packet: memoryview) -> bool:
    """Whether zeros stand where a compressed picture should begin: no codec writes so many."""
    return len(packet) >= _HEAD_BYTES and not any(packet[:_HEAD_BYTES])


def missing_bytes(container: str, packet: memoryview) -> int:
    """How much longer its own header says the last sound packet of an ADTS, MP3 or AMR-NB file is, in bytes."""
    head = bytes(packet[:_HEAD_BYTES])
    said_by = _FRAME_BYTES.get(container)
    return max(0, said_by(head) - len(packet)) if said_by and len(head) > 7 else 0


def _adts(head: bytes) -> int:
    """ISO/IEC 14496-3, 1.A.2.2."""
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if head[:1] == b"\xff" else 0


def _mp3(head: bytes) -> int:
    """ISO/IEC 11172-3, 2.4.1.3, for layer III; 0 for others."""
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    kbit, hz = _MP3_KBIT[version == 3][head[2] >> 4], _MP3_HZ[head[2] >> 2 & 3]
    if head[0] != 0xFF or layer != 1 or version == 1 or not kbit or not hz:
        return 0
    return (144 if version == 3 else 72) * 1000 * kbit // (hz >> (2, 0, 1, 0)[version]) + (head[2] >> 1 & 1)


def _amr(head: bytes) -> int:
    """RFC 4867, section 5.3."""
    kind = head[0] >> 3 & 15
    return _AMR_BYTES[kind] if kind < len(_AMR_BYTES) else 1


_FRAME_BYTES: Final[Mapping[str, Callable[[bytes], int]]] = {"aac": _adts, "mp3": _mp3, "amr": _amr}
