"""TLS for the screens beyond this machine: versions 1.2 and 1.3, forward secrecy, authenticated encryption only."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from agent.errors import ConfigError

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2 (RFC 9325, 4.2); those of 1.3 are all fit."""


def context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """With this certificate, if any, and its key or that in the same file; raises ConfigError if they aren't fit."""
    if certificate is None:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(_CIPHERS)
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    made.set_alpn_protocols(["http/1.1"])
    try:
        made.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"status.tls_certificate {certificate} and status.tls_key {key or certificate} can't be used: {reason}.",
            safe="Nothing was started and no recording was touched.",
            do="Put a PEM certificate and its key, without a password, there; the service's user must read them.",
        ) from error
    return made
