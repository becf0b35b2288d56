"""Asks a running service for its status, for the command line."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final

from agent.control import SCREENS_NAME, address_below
from agent.errors import AgentError

_ANSWER_LIMIT_BYTES: Final = 64 << 20
_TIMEOUT_S: Final = 10.0


class StatusUnavailable(AgentError):  # noqa: N818 - a state of the world, told to a person
    """No service answers below the configured storage, or it can't serve."""


class _Connection(http.client.HTTPConnection):
    """To the socket below the station's storage."""

    def __init__(self, root: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._root = root

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        with address_below(self._root, SCREENS_NAME) as address:
            self.sock.connect(address)


def fetch_status(root: Path, path: str = "/api/v1/status") -> dict[str, Any]:
    """Fetch a JSON object from the service of this storage; raises StatusUnavailable if it isn't running or has none.

    It needs the rights of root or of the service's group, and no password.
    """
    connection = _Connection(root)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        body = answer.read(_ANSWER_LIMIT_BYTES)
    except (ConnectionRefusedError, FileNotFoundError) as error:
        raise StatusUnavailable(
            f"The service is not running: nothing listens below {root}.",
            safe="What was pulled and stored is safe on the disk.",
            do="Start it with `systemctl start capture-agent`, or check storage.root in the configuration.",
        ) from error
    except PermissionError as error:
        raise StatusUnavailable(
            f"This user may not ask the service below {root}.",
            do="Run it as root, or as a member of the service's group.",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _no_status(root, str(error) or type(error).__name__) from error
    finally:
        connection.close()
    return _object(body, answer.status, root)


def _object(body: bytes, status: int, root: Path) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _no_status(root, f"the answer ({status}) is not JSON") from error
    if not isinstance(found, dict):
        raise _no_status(root, f"the answer ({status}) is no JSON object")
    if status != http.client.OK:
        told = found.get("error")
        message = told.get("message") if isinstance(told, dict) else told
        raise _no_status(root, f"{status} {message}")
    return found


def _no_status(root: Path, reason: str) -> StatusUnavailable:
    return StatusUnavailable(
        f"The service below {root} gives no status: {reason}.",
        do="Check its log (`journalctl -u capture-agent`).",
    )
