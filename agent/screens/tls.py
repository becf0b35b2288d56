"""TLS for the screens beyond this machine: versions 1.2 and 1.3, forward secrecy, authenticated encryption only."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from agent.errors import ConfigError

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2 (RFC 9325, 4.2); those of 1.3 are all fit."""


class Certificate:
    """The station's certificate as it is now, with its key or that in the same file; none without a path.

    Raises ConfigError if they aren't fit.
    """

    def __init__(self, certificate: Path | None, key: Path | None) -> None:
        self._paths = certificate, key
        self._newest = self.context = context(certificate, key)
        if self.context is not None:
            self.context.sni_callback = self._take

    def renew(self) -> str:
        """Use what the files have now, for connections from now on; else what is wrong, in words."""
        try:
            self._newest = context(*self._paths)
        except ConfigError as error:
            told = f"sign-in from other machines goes on with the certificate of before: {error.what}"
            return f"页面证书有误，沿用此前的证书，到期前请更正后重新加载 ({told})"
        return ""

    def _take(self, connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        """For each connection, whether it names a host or not, before a certificate is shown."""
        if self._newest is not None:
            connection.context = self._newest


def ends_at(certificate: Path) -> datetime:
    """When the first of the chain, the station's own, ends; raises OSError or ValueError if there is none."""
    return x509.load_pem_x509_certificates(certificate.read_bytes())[0].not_valid_after_utc


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
