"""Asks a running service for its status, for the command line."""

from __future__ import annotations

import http.client
import json
from typing import Any, Final

from agent.errors import AgentError

_ANSWER_LIMIT_BYTES: Final = 64 << 20
_TIMEOUT_S: Final = 10.0


class StatusUnavailable(AgentError):  # noqa: N818 - a state of the world, told to a person
    """No service answers at the configured address, or what answers isn't ours."""


def fetch_status(host: str, port: int, path: str = "/api/v1/status") -> dict[str, Any]:
    """Fetch a JSON object from the status page; raises StatusUnavailable if the service isn't running or has none."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        body = answer.read(_ANSWER_LIMIT_BYTES)
    except ConnectionRefusedError as error:
        raise StatusUnavailable(
            f"The service is not running: nothing listens at {host} port {port}.",
            safe="What was pulled and stored is safe on the disk.",
            do="Start it with `systemctl start capture-agent`, or check [status] in the configuration.",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _no_status(host, port, str(error) or type(error).__name__) from error
    finally:
        connection.close()
    return _object(body, answer.status, host, port)


def _object(body: bytes, status: int, host: str, port: int) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _no_status(host, port, f"the answer ({status}) is not JSON") from error
    if not isinstance(found, dict):
        raise _no_status(host, port, f"the answer ({status}) is no JSON object")
    if status != http.client.OK:
        told = found.get("error")
        message = told.get("message") if isinstance(told, dict) else told
        raise _no_status(host, port, f"{status} {message}")
    return found


def _no_status(host: str, port: int, reason: str) -> StatusUnavailable:
    return StatusUnavailable(
        f"{host} port {port} gives no status: {reason}.",
        do="Check whether it is capture-agent that listens there, and its log (`journalctl -u capture-agent`).",
    )
