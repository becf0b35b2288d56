"""Makes throw-away certificates for TLS on loopback: an authority, a server and a client."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Certificates:
    """Files in a folder: `ca_file` to trust, `server_file` and `client_file` each with key and chain (PEM)."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = folder / "ca.pem"
        self.server_file = folder / "server.pem"
        self.client_file = folder / "client.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        server = authority.issue_cert("localhost", "*.localhost", "127.0.0.1")
        server.private_key_and_cert_chain_pem.write_to_path(str(self.server_file))
        client = authority.issue_cert("station@example.org", common_name="station")
        client.private_key_and_cert_chain_pem.write_to_path(str(self.client_file))
        for secret in (self.server_file, self.client_file):
            secret.chmod(0o600)

    def server_context(self, *, mutual: bool = False) -> ssl.SSLContext:
        """What a server needs; if `mutual` it turns clients without our client certificate away."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca_file)
        context.load_cert_chain(self.server_file)
        context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
        return context

    def client_context(self, *, mutual: bool = False) -> ssl.SSLContext:
        """What a client needs that trusts nobody else; if `mutual` it shows the client certificate."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if mutual:
            context.load_cert_chain(self.client_file)
        return context
