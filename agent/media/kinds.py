"""Which endings of file names recordings have, and what they are then: until the content is read, and only then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.model import Medium
from agent.sequence import name_of

_RAW: Final = "3fr arw cr2 cr3 dng erf iiq kdc mrw nef nrw orf pef raf raw rw2 sr2 srf srw x3f"
RAW: Final = frozenset(f".{ending}".upper() for ending in _RAW.split())
"""Photos as the sensor saw them, each maker's own (camera RAW)."""

_MEDIA: Final[Mapping[Medium, str]] = {
    Medium.VIDEO: "mp4 mov m4v avi mkv mts m2ts m2t ts 3gp 3g2 wmv asf mpg mpeg vob flv dav dv mxf webm ogv rm rmvb"
    " insv h264 h265 264 265",
    Medium.AUDIO: "wav mp3 m4a aac amr awb wma ogg oga opus spx flac pcm aif aiff caf ape au ac3 3ga dss ds2 dvf msv"
    " vox voc act",
    Medium.PHOTO: f"jpg jpeg jpe png bmp heic heif avif webp tif tiff insp {_RAW}",
}
_MEDIUM_OF: Final[Mapping[str, Medium]] = {
    f".{ending}".upper(): medium for medium, endings in _MEDIA.items() for ending in endings.split()
}


def medium_of(path: str) -> Medium:
    """What the name suggests; the content has the last word once it is probed."""
    return _MEDIUM_OF.get(name_of(path).suffix, Medium.OTHER)
