"""The station's signing key (Ed25519, RFC 8032): made once, private, never overwritten; and keys behind a command."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from agent import durable
from agent.errors import ConfigError

FILE: Final = "signing.key"
"""Name of the key below the station's storage: PKCS #8 as PEM, as `openssl genpkey -algorithm ed25519` writes it."""

NEXT_FILE: Final = "signing.key.next"
"""Name of a new key until the log knows that it follows the one before."""

WITNESS_FILE: Final = "witness.key"
"""Name of the key that cosigns the logs of neighbours: what a witness says must not be taken for a log's own word."""

CREDENTIAL: Final = "capture-agent.signing-key"
"""Name of the systemd credential that is taken instead, if it is given."""

_SHOWN_DIGITS: Final = 16
_SIZE_LIMIT_BYTES: Final = 4096
_SIGNATURE_LIMIT_BYTES: Final = 4096
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SAFE: Final = "Recordings are pulled and stored all the same; nothing can be signed."
_DO: Final = "Bring it back from its backup. If there is none, move the file aside: the next start makes a new key."


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Signs for this station; `der` is its public key as SubjectPublicKeyInfo (RFC 8410), for everybody."""

    _private: Ed25519PrivateKey = field(repr=False)
    der: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key, 64 hexadecimal digits: `openssl pkey -pubout -outform DER | sha256sum`."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def public(self) -> bytes:
        """The public key's 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    @property
    def pem(self) -> str:
        """The public key as a file for `openssl pkeyutl -verify -pubin`."""
        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, message: bytes) -> bytes:
        """64 bytes, the same for the same message."""
        return self._private.sign(message)


@dataclass(frozen=True, slots=True)
class CommandKey:
    """A private key that only a program of the bureau can use: a token, a card, a cryptographic machine (密码机).

    The command reads the message from its standard input and writes nothing but the signature to its output.
    """

    words: tuple[str, ...]
    public: bytes
    limit_s: float = 30.0

    def sign(self, message: bytes) -> bytes:
        """Return what the command wrote; raises ConfigError if it fails, takes too long, or writes no signature."""
        try:
            process = subprocess.Popen(
                self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                start_new_session=True, env={"PATH": _PATH, "LANG": "C.UTF-8"}, cwd="/",
            )  # fmt: skip
        except OSError as error:
            raise self._failed(f"can't be started: {error.strerror}") from error
        with process:
            try:
                written, _ = process.communicate(message, self.limit_s)
            except subprocess.TimeoutExpired:
                raise self._failed(f"gave no answer within {self.limit_s:g} s") from None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode or not 0 < len(written) <= _SIGNATURE_LIMIT_BYTES:
            raise self._failed(f"ended with {process.returncode} and {len(written)} bytes")
        return written

    def _failed(self, why: str) -> ConfigError:
        do = "Try it by hand, as the service's user; what is to be signed waits."
        return ConfigError(f"The signing command {self.words[0]} {why}.", safe=_SAFE, do=do)


def station_key(root: Path, credential: Path, rotated: str = "") -> SigningKey:
    """The key that systemd hands over as `credential`, if it does, else the one below `root`, made if there is none.

    `rotated`: the public key, in hexadecimal, that signs by now as the log has it; an exchange that was cut off is
    finished. Raises ConfigError, as `read_key` does.
    """
    if not credential.exists() and (root / NEXT_FILE).exists() and made_key(root / NEXT_FILE).public.hex() == rotated:
        exchange(root)
    return read_key(root, credential) if credential.exists() else made_key(root / FILE)


def made_key(path: Path) -> SigningKey:
    """The key in this file, made if there is none; raises ConfigError."""
    if not path.exists():
        _make(path)
    return _read(path, stat.S_IRWXO | stat.S_IRWXG)


def exchange(root: Path) -> None:
    """Put the next key in the place of the key, which stays beside it under its fingerprint; raises ConfigError."""
    path = root / FILE
    try:
        if path.exists():
            aside = path.with_name(f"signing-{made_key(path).fingerprint[:_SHOWN_DIGITS]}.key")
            durable.rename_no_replace(path, aside)
        durable.rename_no_replace(root / NEXT_FILE, path)
        durable.fsync_dir(root)
    except OSError as error:
        raise _refused(path, f"can't be exchanged: {error.strerror}", "Start the service again.") from error


def read_key(root: Path, credential: Path) -> SigningKey:
    """The same, but never made; raises ConfigError if there is none, or it is damaged or not private."""
    # systemd lets the service's user read a credential by an ACL, whose mask stands where a group's rights do.
    if credential.exists():
        return _read(credential, stat.S_IRWXO)
    return _read(root / FILE, stat.S_IRWXO | stat.S_IRWXG)


def _read(path: Path, foreign: int) -> SigningKey:
    """The key in this file, on which nobody but its owner may have any of the rights `foreign`."""
    try:
        with durable.opened(path) as fd:
            if stat.S_IMODE(os.fstat(fd).st_mode) & foreign:
                raise _refused(path, "can be read by others", f"Find out who had it; if nobody had: chmod 600 {path}")
            private = load_pem_private_key(os.read(fd, _SIZE_LIMIT_BYTES), password=None)
    except FileNotFoundError as error:
        raise _refused(path, "is not there", "The service makes one when it starts.") from error
    except OSError as error:
        raise _refused(path, f"can't be read: {error.strerror}", "Run this as the service's user.") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _refused(path, "is damaged or no private key", _DO) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _refused(path, "is not an Ed25519 key", _DO)
    return SigningKey(private, private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _make(path: Path) -> None:
    """Make a key durable under its name, whole or not at all; one that is there already stays."""
    content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    part = path.with_name(path.name + durable.PART_SUFFIX)
    try:
        durable.remove_part(part)
        durable.write_part(part, content)
        with durable.opened(part) as fd:
            durable.fsync_file(fd)
        durable.rename_no_replace(part, path)
        durable.fsync_dir(path.parent)
    except OSError as error:
        raise _refused(
            path, f"can't be made: {error.strerror}", "Free space on its disk or have it checked."
        ) from error


def _refused(path: Path, why: str, do: str) -> ConfigError:
    return ConfigError(f"The station's signing key {path} {why}.", safe=_SAFE, do=do)
