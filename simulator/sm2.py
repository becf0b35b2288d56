"""An example of a signing command: SM2 with SM3 (GB/T 32918) by openssl in software, which passes no assessment (密评).

`python -m simulator.sm2 make KEY NAME` makes a private key and prints its public line for `manifest.key`;
`python -m simulator.sm2 sign KEY` signs standard input; `… verify KEY SIGNATURE` ends with 0 if the key signed it.
A bureau puts its token's own program in this place (docs/manifest.md).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from agent.tlog.keys import SM2_PUBLIC_BYTES, Algorithm, Key

_ID: Final = ("-rawin", "-digest", "sm3", "-pkeyopt", "distid:1234567812345678")
"""The id that all sign with who have no other (GB/T 35276)."""


def _openssl(*words: str, data: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *words], input=data, capture_output=True, check=True).stdout


def make(path: Path, name: str) -> Key:
    """Make a private key at `path`; returns its public one under that name."""
    _openssl("genpkey", "-algorithm", "SM2", "-out", str(path))
    path.chmod(0o600)
    public = _openssl("pkey", "-in", str(path), "-pubout", "-outform", "DER")
    return Key(name, Algorithm.SM2, public[-SM2_PUBLIC_BYTES:])


def sign(path: Path, message: bytes) -> bytes:
    """The signature, as DER."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(message)
        file.flush()
        return _openssl("pkeyutl", "-sign", "-inkey", str(path), "-in", file.name, *_ID)


def verify(path: Path, message: bytes, signature: bytes) -> bool:
    """Whether the key made the signature."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "message").write_bytes(message)
        (Path(folder) / "signature").write_bytes(signature)
        words = ("-verify", "-inkey", str(path), "-in", f"{folder}/message", "-sigfile", f"{folder}/signature", *_ID)
        return subprocess.run(["openssl", "pkeyutl", *words], capture_output=True, check=False).returncode == 0


def main(verb: str, path: str, *rest: str) -> int:
    """Run from the command line; what can't be done ends with openssl's own error."""
    if verb == "make":
        print(make(Path(path), rest[0]).vkey)
    elif verb == "sign":
        sys.stdout.buffer.write(sign(Path(path), sys.stdin.buffer.read()))
    else:
        return int(not verify(Path(path), sys.stdin.buffer.read(), Path(rest[0]).read_bytes()))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
