"""From a source of `rooms.toml` to the address that its recorder opens, with user and password (RFC 3986, 3.2.1)."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from agent import durable
from agent.config.rooms import Room, Source
from agent.errors import RoomError
from agent.rooms.protocol import Cause, SourcePlan, Transport

Addresses = Callable[[Room, Source], Awaitable[SourcePlan]]
"""What the recorder of a source is told; raises RoomError in words without address and password."""

AskCamera = Callable[[str, int, str, str, str], Awaitable[str]]
"""Host, port, user, password, profile: the rtsp:// address that an ONVIF camera names."""

_ONVIF_PORT: Final = 80
_SECRET_LIMIT_BYTES: Final = 1024
_AUTH_LIMIT: Final = 127
"""FFmpeg reads no more of user and password, as they stand in an address (`auth[128]` in its rtsp.c)."""

_DELIMITERS: Final = "!$&'()*+,;="
"""Of those that RFC 3986 has, the ones that part nothing in front of the host."""

_SAFE: Final = "Nothing was changed; the other sources are not affected."


class CameraAddresses:
    """Puts a source's address together, anew each time it is asked: an ONVIF camera may name another one by then."""

    def __init__(self, ask: AskCamera) -> None:
        self._ask = ask

    async def __call__(self, room: Room, source: Source) -> SourcePlan:
        """Raise RoomError in words, without address and password."""
        url = source.url
        if url.startswith(("rtsp:", "onvif:")):
            user, password = user_and_password(source)
            if url.startswith("onvif:"):
                host, port, profile = onvif_place(source)
                url = await self._ask(host, port, user, password, profile)
            url = complete(url, user, password, source)
        return SourcePlan(source.name, url, Transport(source.transport), source.watch, source.plain_password)


def onvif_place(source: Source) -> tuple[str, int, str]:
    """Host, port and profile (empty without one) of a source that is onvif://…."""
    parts = urlsplit(source.url)
    return parts.hostname or "", parts.port or _ONVIF_PORT, unquote(parts.path.strip("/"))


def user_and_password(source: Source) -> tuple[str, str]:
    """Both empty without a credential."""
    if source.secret is None:
        return "", ""
    user, colon, password = _read(source.secret).rstrip("\r\n").partition(":")
    if not colon or not user or not (user + password).isprintable():
        raise _refused(source.secret, "must hold one line user:password", "Write it anew, then restart the service.")
    return user, password


def complete(url: str, user: str, password: str, source: Source) -> str:
    """The rtsp:// address with user and password in it; where it has {user} or {password}, they stand only there."""
    if "{user}" in url or "{password}" in url:
        return url.replace("{user}", quote(user, safe="")).replace("{password}", quote(password, safe=""))
    parts = urlsplit(url)
    auth = f"{quote(user, safe=_DELIMITERS)}:{quote(password, safe=_DELIMITERS)}" if user else ""
    if len(auth) > _AUTH_LIMIT:
        assert source.secret is not None
        why = f"user and password are too long: {len(auth)} characters in an address, where {_AUTH_LIMIT} are read"
        raise _refused(source.secret, why, "Give the camera a shorter password of letters and digits.")
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{auth}@{host}" if auth else host).geturl()


def _read(path: Path) -> str:
    try:
        with durable.opened(path, os.O_RDONLY) as fd:
            if stat.S_IMODE(os.fstat(fd).st_mode) & stat.S_IRWXO:
                raise _refused(path, "holds a secret, and everybody on this station may read it", f"chmod o= {path}")
            return os.read(fd, _SECRET_LIMIT_BYTES).decode()
    except OSError as error:
        do = f"LoadCredential={path.name} in a drop-in of the service, then restart it (docs/rooms.md)."
        raise _refused(path, f"can't be read: {error.strerror}", do) from error
    except UnicodeDecodeError as error:
        raise _refused(path, "is no text", "Write it anew, then restart the service.") from error


def _refused(path: Path, why: str, do: str) -> RoomError:
    return RoomError(f"The credential {path.name}: {why}.", cause=Cause.UNAUTHORISED, safe=_SAFE, do=do)
