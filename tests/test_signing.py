"""Promise: the station's key is made once, is private, and nothing of the agent ever replaces it."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import durable, signing
from agent.errors import ConfigError
from agent.signing import FILE, read_key, station_key

NO_CREDENTIAL = Path("/nonexistent/credential")
SLOW = settings(max_examples=30, deadline=None)


def openssl(*words: str | Path, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *words], input=given, capture_output=True, check=True).stdout


def test_it_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    made = station_key(tmp_path, NO_CREDENTIAL)
    content = (tmp_path / FILE).read_bytes()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    again = station_key(tmp_path, NO_CREDENTIAL)
    assert (again.fingerprint, again.public) == (made.fingerprint, made.public)
    assert (tmp_path / FILE).read_bytes() == content
    assert read_key(tmp_path, NO_CREDENTIAL).der == made.der


def test_two_stations_have_two_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert station_key(tmp_path / "a", NO_CREDENTIAL).der != station_key(tmp_path / "b", NO_CREDENTIAL).der


def test_openssl_reads_it_finds_the_same_fingerprint_and_verifies_what_it_signs(tmp_path: Path) -> None:
    """Nobody needs this software to check."""
    key = station_key(tmp_path, NO_CREDENTIAL)
    der = openssl("pkey", "-in", tmp_path / FILE, "-pubout", "-outform", "DER")
    assert hashlib.sha256(der).hexdigest() == key.fingerprint
    (tmp_path / "public.pem").write_text(key.pem)
    (tmp_path / "message").write_bytes("清单".encode())
    (tmp_path / "signature").write_bytes(key.sign("清单".encode()))
    verify = ("pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "public.pem", "-rawin", "-in", tmp_path / "message")
    assert b"Verified Successfully" in openssl(*verify, "-sigfile", tmp_path / "signature")


@SLOW
@given(message=st.binary(max_size=300), flipped=st.integers(0, 511))
def test_a_signature_is_of_one_message_only(message: bytes, flipped: int) -> None:
    key = signing.SigningKey(one := signing.Ed25519PrivateKey.from_private_bytes(bytes(range(32))), b"")
    public, signature = Ed25519PublicKey.from_public_bytes(key.public), bytearray(key.sign(message))
    assert len(signature) == 64
    assert key.sign(message) == signature == one.sign(message)
    public.verify(bytes(signature), message)
    signature[flipped // 8] ^= 1 << flipped % 8
    with pytest.raises(InvalidSignature):
        public.verify(bytes(signature), message)


def test_it_is_never_shown(tmp_path: Path) -> None:
    key = station_key(tmp_path, NO_CREDENTIAL)
    assert "PRIVATE" not in f"{key!r} {key.pem}"
    assert "private" not in repr(key).lower()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_one_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    station_key(tmp_path, NO_CREDENTIAL)
    (tmp_path / FILE).chmod(mode)
    with pytest.raises(ConfigError, match="can be read by others") as refused:
        station_key(tmp_path, NO_CREDENTIAL)
    assert "chmod 600" in refused.value.do


def damages(content: bytes) -> dict[str, bytes]:
    rsa = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-quiet")
    locked = openssl("pkey", "-aes128", "-passout", "pass:x", given=content)
    public = openssl("pkey", "-pubout", given=content)
    return {
        "empty": b"", "cut": content[:60], "zeros": bytes(len(content)), "swapped": content[::-1], "another kind": rsa,
        "with a password": locked, "only the public part": public, "too long": b"#" * 100_000 + content,
    }  # fmt: skip


def test_a_damaged_one_is_refused_in_words_and_stays_as_it_is(tmp_path: Path) -> None:
    station_key(tmp_path, NO_CREDENTIAL)
    path = tmp_path / FILE
    for name, content in damages(path.read_bytes()).items():
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"damaged or no private key|not an Ed25519 key") as refused:
            station_key(tmp_path, NO_CREDENTIAL)
        assert "stored all the same" in str(refused.value), name
        assert path.read_bytes() == content, "never overwritten"


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    station_key(tmp_path / "elsewhere", NO_CREDENTIAL)
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere" / FILE)
    with pytest.raises(ConfigError, match="can't be read"):
        station_key(tmp_path, NO_CREDENTIAL)


def test_reading_makes_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        read_key(tmp_path, NO_CREDENTIAL)
    assert not list(tmp_path.iterdir())


def test_a_credential_goes_before_the_file_which_stays(tmp_path: Path) -> None:
    own = station_key(tmp_path, NO_CREDENTIAL)
    given = tmp_path / "credential"
    given.write_bytes(openssl("genpkey", "-algorithm", "ed25519"))
    given.chmod(0o440)  # as systemd's ACL looks
    assert station_key(tmp_path, given).der != own.der
    assert station_key(tmp_path, NO_CREDENTIAL).der == own.der
    given.chmod(0o444)
    with pytest.raises(ConfigError, match="can be read by others"):
        station_key(tmp_path, given)


@pytest.mark.parametrize("ends_before", ["write_part", "fsync_file", "rename_no_replace", "fsync_dir"])
def test_a_death_while_it_is_made_leaves_one_whole_key_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_before: str
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(durable, ends_before, dies)
        with pytest.raises(KeyboardInterrupt):
            station_key(tmp_path, NO_CREDENTIAL)
    before = (tmp_path / FILE).read_bytes() if (tmp_path / FILE).exists() else None
    key = station_key(tmp_path, NO_CREDENTIAL)
    assert before in {None, (tmp_path / FILE).read_bytes()}
    assert read_key(tmp_path, NO_CREDENTIAL).der == key.der
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_disk_that_is_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(durable, "fsync_file", full)
    with pytest.raises(ConfigError, match="can't be made: No space left on device"):
        station_key(tmp_path, NO_CREDENTIAL)
    assert not (tmp_path / FILE).exists()
