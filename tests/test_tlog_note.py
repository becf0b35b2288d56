"""Signed notes and keys: the published examples are read, and every way to bend a note is refused or without effect."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tlog.keys import Algorithm, Ed25519Verifier, Key
from agent.tlog.note import SIGNATURE_LIMIT, Note, Signature, signed
from agent.tlog.texts import TEXT_LIMIT_BYTES, NoteError, bytes_of, number_of
from tests.noted import signer, trusts, witness

# c2sp.org/signed-note, "Example", and the documentation of golang.org/x/mod/sumdb/note.
EXAMPLES = [
    (
        ["example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"],
        (
            "This is an example message.\n\n— example.com/foo"
            " Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
        ),
    ),
    (
        [
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
        ],
        (
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
            "— PeterNeumann"
            " x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
            "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
        ),
    ),
]

DOCK, NEIGHBOUR = signer(), signer("neighbour.example")
TEXT = "Held.\n\n执法记录仪\n"
GOOD = signed(TEXT, DOCK, NEIGHBOUR)


@pytest.mark.parametrize(("vkeys", "text"), EXAMPLES)
def test_the_published_examples_are_verified(vkeys: list[str], text: str) -> None:
    keys = [Key.parse(vkey) for vkey in vkeys]
    assert [key.vkey for key in keys] == vkeys
    note = Note.parse(text.encode())
    assert note.verified(map(Ed25519Verifier, keys)) == set(keys)
    assert note.encode() == text.encode()


def test_a_note_is_what_the_specification_says() -> None:
    """Written down once more by hand, without the agent's code."""
    lines = []
    for one in (DOCK, NEIGHBOUR):
        key_id = hashlib.sha256(one.key.name.encode() + b"\n\x01" + one.key.public).digest()[:4]
        lines.append(f"— {one.key.name} {base64.b64encode(key_id + one.sign(TEXT.encode())).decode()}\n")
    assert GOOD.encode() == f"{TEXT}\n{''.join(lines)}".encode()


def test_who_signed_is_told_and_whom_nobody_knows_is_kept() -> None:
    note = Note.parse(GOOD.encode())
    assert note == GOOD
    assert note.verified(trusts(DOCK)) == {DOCK.key}
    assert note.verified(trusts(DOCK, NEIGHBOUR, signer("absent.example"))) == {DOCK.key, NEIGHBOUR.key}
    assert [one.name for one in note.signatures] == [DOCK.key.name, NEIGHBOUR.key.name]


def test_a_text_may_have_empty_lines_at_its_end() -> None:
    note = signed("a\n\n\n", DOCK)
    assert Note.parse(note.encode()) == note


def test_sixteen_signatures_of_the_largest_kind_are_taken() -> None:
    large = [Signature(f"w{number}.example", bytes(4), bytes(5000)) for number in range(15)]
    note = Note.parse(signed(TEXT, DOCK).plus(*large).encode())
    assert len(note.signatures) == 16
    assert note.verified(trusts(DOCK)) == {DOCK.key}


def test_the_order_of_signatures_and_doubled_lines_change_nothing() -> None:
    other = replace(GOOD, signatures=(*reversed(GOOD.signatures), *GOOD.signatures))
    assert Note.parse(other.encode()).verified(trusts(DOCK, NEIGHBOUR)) == {DOCK.key, NEIGHBOUR.key}
    assert GOOD.plus(*GOOD.signatures) == GOOD


@settings(deadline=None)
@given(st.integers(0, len(GOOD.encode()) - 1))
def test_a_truncated_note_says_no_more_than_is_signed(length: int) -> None:
    try:
        note = Note.parse(GOOD.encode()[:length])
    except NoteError:
        return
    assert note.text == TEXT
    assert note.signatures == GOOD.signatures[:1]


@settings(deadline=None)
@given(st.integers(0, len(GOOD.encode()) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unseen_by_whom_trusts_both(place: int, change: int) -> None:
    data = bytearray(GOOD.encode())
    data[place] ^= change
    try:
        signers = Note.parse(bytes(data)).verified(trusts(DOCK, NEIGHBOUR))
    except NoteError:
        return
    assert len(signers) < 2, "at most, a signature became one of nobody we know"


def lines(*names_and_data: tuple[str, bytes]) -> bytes:
    signatures = "".join(f"— {name} {base64.b64encode(data).decode()}\n" for name, data in names_and_data)
    return f"{TEXT}\n{signatures}".encode()


RAW = DOCK.key.key_id + DOCK.sign(TEXT.encode())
NAME = DOCK.key.name


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        TEXT.encode(),
        TEXT.encode() + b"\n",
        lines((NAME, RAW)).replace(b"\n", b"\r\n"),
        lines((NAME, RAW))[:-1],
        lines((NAME, RAW)) + b"\n",
        lines((NAME, RAW)) + b"garbage\n",
        b"\xef\xbb\xbf" + lines((NAME, RAW)) + b"\x00",
        b"\xff" + lines((NAME, RAW)),
        b"tab\there\n" + lines((NAME, RAW)),
        lines(("", RAW)),
        lines(("two words", RAW)),
        lines(("no\u00a0break", RAW)),
        lines(("a+b", RAW)),
        lines(("n" * 256, RAW)),
        lines((NAME, b"")),
        lines((NAME, RAW[:4])),
        lines((NAME, RAW)).replace("— ".encode(), b"- "),
        lines((NAME, RAW)).replace("— ".encode(), "—".encode()),
        lines((NAME, RAW)).replace(b"=\n", b"\n"),
        lines((NAME, RAW)).replace(b"=\n", b"= \n"),
        lines((NAME, RAW)).replace(b"=\n", b"==\n"),
        lines((NAME, RAW)) + lines((NAME, RAW))[:10],
        lines(*[(NAME, RAW)] * (SIGNATURE_LIMIT + 1)),
        b"x" * TEXT_LIMIT_BYTES + b"\n\n" + lines((NAME, RAW)),
    ],
)
def test_a_malformed_note_is_refused(data: bytes) -> None:
    with pytest.raises(NoteError):
        Note.parse(data)


def test_a_signature_with_bits_behind_its_end_is_refused() -> None:
    """68 bytes leave two free bits in base64: else one signature could be written in four ways."""
    data = lines((NAME, RAW))
    assert data.endswith(b"=\n")
    last = data[-3:-2]
    other = bytes([b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[_digit(last) ^ 1]])
    with pytest.raises(NoteError, match="bits behind its end"):
        Note.parse(data[:-3] + other + data[-2:])


def _digit(char: bytes) -> int:
    return b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".index(char)


@pytest.mark.parametrize(
    "data",
    [
        lines(("other.example", RAW)),  # another name, the right id
        lines((NAME, NEIGHBOUR.key.key_id + RAW[4:])),  # the right name, another id
        lines((NAME, signer("other.example").key.key_id + RAW[4:])),
        lines((NAME, witness(NAME).key.key_id + RAW[4:])),
    ],
)
def test_what_only_unknown_keys_signed_is_not_signed(data: bytes) -> None:
    with pytest.raises(NoteError, match="not signed by a key that is trusted"):
        Note.parse(data).verified(trusts(DOCK))


@pytest.mark.parametrize(
    "data",
    [
        lines((NAME, RAW[:-1] + bytes([RAW[-1] ^ 1]))),
        lines((NAME, RAW + b"\0")),
        lines((NAME, RAW[:-1])),
        lines((NAME, RAW)).replace(b"Held", b"Lost"),
        lines((NAME, RAW), (NAME, RAW[:4] + bytes(64))),
        lines((NAME, RAW[:4] + NEIGHBOUR.sign(TEXT.encode()))),
    ],
)
def test_a_false_signature_of_a_known_key_spoils_the_note(data: bytes) -> None:
    with pytest.raises(NoteError, match=f"says that {NAME} signed it, and it did not"):
        Note.parse(data).verified(trusts(DOCK, NEIGHBOUR))


def test_a_witness_key_does_not_sign_plain_notes() -> None:
    cosigner = witness()
    with pytest.raises(NoteError, match="did not"):
        signed(TEXT, cosigner).verified(trusts(cosigner))


@pytest.mark.parametrize("text", ["", "no newline", "bell\a\n", "carriage\r\n", "half \ud800\n"])
def test_what_can_not_be_a_note_is_not_signed(text: str) -> None:
    with pytest.raises(NoteError):
        signed(text, DOCK)


VKEY = DOCK.key.vkey
BENT = f"{NAME}+{DOCK.key.key_id.hex()}+{{encoded}}"


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+01020304",
        VKEY.replace("dock", "duck"),
        VKEY.replace("+", " ", 1),
        VKEY[:-1],
        VKEY.upper(),
        f"+{VKEY}",
        BENT.format(encoded=base64.b64encode(b"\x02" + DOCK.key.public).decode()),
        BENT.format(encoded=base64.b64encode(b"\x01" + DOCK.key.public[:-1]).decode()),
        BENT.format(encoded=""),
    ],
)
def test_a_malformed_key_is_refused(vkey: str) -> None:
    with pytest.raises(NoteError):
        Key.parse(vkey)


WEAK = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]
"""Points of small order, and points that are written in a second way."""


@pytest.mark.parametrize("public", WEAK)
def test_a_key_that_anybody_can_sign_with_is_none(public: str) -> None:
    """OpenSSL takes it: with the first one, this verifies under any text."""
    with pytest.raises(NoteError, match="anybody can sign"):
        Ed25519Verifier(Key(NAME, Algorithm.ED25519, bytes.fromhex(public)))


def test_the_same_bytes_for_another_algorithm_are_another_key() -> None:
    other = replace(DOCK.key, algorithm=Algorithm.COSIGNATURE)
    assert other.key_id != DOCK.key.key_id
    assert Key.parse(other.vkey) == other


@pytest.mark.parametrize("text", ["", "-1", "+1", "01", "00", "1_0", " 1", "1.0", "٣", str(1 << 63), "9" * 5000])
def test_a_number_has_one_form(text: str) -> None:
    with pytest.raises(NoteError):
        number_of(text)


def test_the_largest_number_is_taken() -> None:
    assert number_of(str((1 << 63) - 1)) == (1 << 63) - 1
    assert number_of("0") == 0


@pytest.mark.parametrize("text", ["=", "QQ", "QQ=", "QR==", "Q Q=", "QQ==\n", "-_==", "Ａ==="])
def test_base64_has_one_form(text: str) -> None:
    with pytest.raises(NoteError):
        bytes_of(text)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_an_error_in_words(data: bytes) -> None:
    with pytest.raises(NoteError, match=r"."):
        Note.parse(data).verified(trusts(DOCK))
