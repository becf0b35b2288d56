"""Checkpoints, proofs that go alone, and cosigning: what a log, its neighbour and a court exchange as texts."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tlog.checkpoint import Checkpoint, opened
from agent.tlog.note import Note, Signature
from agent.tlog.proof import Proof
from agent.tlog.texts import NoteError, base64_of
from agent.tlog.tree import EMPTY_ROOT
from agent.tlog.witness import AddCheckpoint, Answer, answer, cosignature, cosigned, with_answer
from tests.noted import ORIGIN, MadeLog, made_log, signer, trusts, witness

AT = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
LOG = made_log()
TRUST = trusts(LOG.signer)
WITNESS = witness()

# c2sp.org/tlog-checkpoint, -cosignature and -witness: examples whose keys are not published.
CHECKPOINT = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""
COSIGNED = (
    CHECKPOINT
    + """
— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""  # noqa: E501
)
REQUEST = f"""old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

{COSIGNED}"""


def test_the_published_examples_are_read_and_written_back() -> None:
    checkpoint = Checkpoint.parse(CHECKPOINT)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text == CHECKPOINT
    note = Note.parse(COSIGNED.encode())
    assert (note.text, note.encode().decode()) == (CHECKPOINT, COSIGNED)
    assert int.from_bytes(note.signatures[1].data[:8], "big") == 1679315147
    request = AddCheckpoint.parse(REQUEST.encode())
    assert (request.old, len(request.path)) == (20852014, 4)
    assert request.encode().decode() == REQUEST


def test_a_signed_checkpoint_is_opened_by_whom_trusts_the_log() -> None:
    note = Note.parse(LOG.note(7).encode())
    assert opened(note, ORIGIN, TRUST) == LOG.checkpoint(7)
    with_more = replace(LOG.checkpoint(7), extensions=("more", "and more"))
    assert opened(with_more.signed(LOG.signer), ORIGIN, TRUST) == with_more


def test_a_checkpoint_of_another_log_or_another_signer_is_refused() -> None:
    with pytest.raises(NoteError, match="not of 'other"):
        opened(LOG.note(7), "other.example/log", TRUST)
    with pytest.raises(NoteError, match="not signed by a key that is trusted"):
        opened(LOG.note(7), ORIGIN, trusts(signer("other.example/log")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{ORIGIN}\n7\n",
        f"{ORIGIN}\n7\n{base64_of(EMPTY_ROOT)}",
        f"\n7\n{base64_of(EMPTY_ROOT)}\n",
        f"{ORIGIN}\n07\n{base64_of(EMPTY_ROOT)}\n",
        f"{ORIGIN}\n-7\n{base64_of(EMPTY_ROOT)}\n",
        f"{ORIGIN}\n{1 << 63}\n{base64_of(EMPTY_ROOT)}\n",
        f"{ORIGIN}\n7\n{base64_of(EMPTY_ROOT[1:])}\n",
        f"{ORIGIN}\n7\n{base64_of(EMPTY_ROOT)[:-1]}\n",
        f"{ORIGIN}\n7\n{base64_of(EMPTY_ROOT)}\n\n",
        f"{ORIGIN}\n7\n{base64_of(EMPTY_ROOT)}\n\nmore\n",
        f"{ORIGIN}\n{base64_of(EMPTY_ROOT)}\n7\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


def test_a_proof_goes_alone_and_comes_back() -> None:
    proof = replace(LOG.proof(4, 11), extra=b"receipt 7")
    read = Proof.parse(proof.encode())
    assert read == proof
    assert read.verified(b"event 4", ORIGIN, TRUST) == LOG.checkpoint(11)
    assert proof.encode().startswith(b"c2sp.org/tlog-proof@v1\nextra cmVjZWlwdCA3\nindex 4\n")


def test_the_only_leaf_of_a_log_has_an_empty_path() -> None:
    proof = LOG.proof(0, 1)
    assert b"index 0\n\n" in proof.encode()
    assert Proof.parse(proof.encode()).verified(b"event 0", ORIGIN, TRUST).size == 1


def test_a_proof_in_a_log_of_a_million_is_below_two_kilobytes() -> None:
    checkpoint = Checkpoint("capture-agent.example.gov.cn/station/dock-07", 1_000_000, bytes(range(32)))
    note = checkpoint.signed(signer(checkpoint.origin))
    note = note.plus(*(cosignature(note, witness(f"neighbour.example.gov.cn/{n}"), AT) for n in range(3)))
    assert len(Proof(999_999, (bytes(32),) * 20, note).encode()) < 2048


def test_a_proof_says_nothing_of_another_leaf_place_log_or_size() -> None:
    proof = LOG.proof(4, 11)
    bent = [
        (proof, b"event 5"),
        (replace(proof, index=5), b"event 4"),
        (replace(proof, index=11), b"event 4"),
        (replace(proof, checkpoint=LOG.note(10)), b"event 4"),
        (replace(proof, path=proof.path[:-1]), b"event 4"),
        (replace(proof, path=(*proof.path, bytes(32))), b"event 4"),
        (replace(proof, path=proof.path[::-1]), b"event 4"),
    ]
    for one, leaf in bent:
        with pytest.raises(NoteError, match="doesn't hold"):
            Proof.parse(one.encode()).verified(leaf, ORIGIN, TRUST)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_of_a_proof_goes_unseen(place: int, change: int) -> None:
    data = bytearray(LOG.proof(4, 11).encode())
    data[place % len(data)] ^= change
    with pytest.raises(NoteError):
        Proof.parse(bytes(data)).verified(b"event 4", ORIGIN, TRUST)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"c2sp.org/tlog-proof@v1", b"c2sp.org/tlog-proof@v2"),
        (b"\nindex 4", b""),
        (b"index 4", b"index 04"),
        (b"index 4", b"index -4"),
        (b"index 4", b"extra =\nindex 4"),
        (b"index 4", b"index 4\nextra QQ=="),
        (b"index 4", b"index 4\nQQ=="),
        (b"index 4", b"\nindex 4"),
        (b"index 4\n", b"index 4\n" + (base64_of(bytes(32)).encode() + b"\n") * 64),
        (b"\n", b"\r\n"),
    ],
)
def test_a_malformed_proof_is_refused(old: bytes, new: bytes) -> None:
    data = LOG.proof(4, 11).encode()
    assert old in data
    with pytest.raises(NoteError):
        Proof.parse(data.replace(old, new))


# Witnesses.


def test_a_cosignature_is_what_the_specification_says() -> None:
    note = LOG.note(5)
    line = cosignature(note, WITNESS, AT)
    message = f"cosignature/v1\ntime {int(AT.timestamp())}\n{note.text}".encode()
    assert line.data == int(AT.timestamp()).to_bytes(8, "big") + WITNESS.sign(message)
    assert cosigned(Note.parse(note.plus(line).encode()), trusts(WITNESS)) == {WITNESS.key: AT}
    assert opened(note.plus(line), ORIGIN, TRUST).size == 5, "for the log's own verifier it is an unknown key"


def test_a_witness_counts_once_with_its_latest_time() -> None:
    note, later = LOG.note(5), AT + timedelta(hours=1)
    note = note.plus(cosignature(note, WITNESS, later), cosignature(note, WITNESS, AT))
    assert cosigned(note, trusts(WITNESS, witness("other.example"))) == {WITNESS.key: later}
    assert cosigned(note, trusts(witness("other.example"))) == {}


@pytest.mark.parametrize("at_s", [0, 1, 1 << 63, (1 << 64) - 1, 253402300800])
def test_a_cosignature_of_no_time_or_another_time_is_refused(at_s: int) -> None:
    note = LOG.note(5)
    line = cosignature(note, WITNESS, AT)
    changed = Signature(line.name, line.key_id, at_s.to_bytes(8, "big") + line.data[8:])
    with pytest.raises(NoteError, match="says that neighbour"):
        cosigned(note.plus(changed), trusts(WITNESS))


def test_a_plain_signature_is_no_cosignature_and_the_other_way_round() -> None:
    note = LOG.note(5)
    plain = Signature.by(WITNESS.key, WITNESS.sign(note.text.encode()))
    with pytest.raises(NoteError, match="did not"):
        cosigned(note.plus(plain), trusts(WITNESS))
    with pytest.raises(NoteError, match="did not"):
        cosigned(note, TRUST)


def asked(request: bytes, latest: Checkpoint | None = None) -> Answer:
    known = {} if latest is None else {latest.origin: latest}
    return answer(request, {ORIGIN: TRUST}, known, WITNESS, AT)


def test_a_log_is_cosigned_from_its_first_checkpoint_on() -> None:
    latest = None
    for old, size in [(0, 0), (0, 1), (1, 1), (1, 4), (4, 11)]:
        request = LOG.growth(old, size)
        assert AddCheckpoint.parse(request.encode()) == request
        said = asked(request.encode(), latest)
        assert said.status == HTTPStatus.OK
        assert said.checkpoint == LOG.checkpoint(size)
        note = with_answer(request.checkpoint, said.body, trusts(WITNESS))
        assert cosigned(note, trusts(WITNESS)) == {WITNESS.key: AT}
        latest = said.checkpoint


def rewritten() -> MadeLog:
    log = made_log()
    log.leaves[2] = b"rewritten"
    return log


@pytest.mark.parametrize(
    ("request_", "latest", "status"),
    [
        (b"nonsense", None, HTTPStatus.BAD_REQUEST),
        (LOG.growth(4, 11).encode().replace(b"old 4", b"old 04"), 4, HTTPStatus.BAD_REQUEST),
        (LOG.growth(4, 11).encode().replace(b"\n", b"\r\n"), 4, HTTPStatus.BAD_REQUEST),
        (replace(LOG.growth(4, 11), old=12).encode(), 4, HTTPStatus.BAD_REQUEST),
        (made_log(11, "stranger.example").growth(0, 11).encode(), None, HTTPStatus.NOT_FOUND),
        (replace(LOG.growth(0, 4), checkpoint=LOG.checkpoint(4).signed(WITNESS)).encode(), None, HTTPStatus.FORBIDDEN),
        (LOG.growth(4, 11).encode().replace(b"\n11\n", b"\n10\n"), 4, HTTPStatus.FORBIDDEN),
        (LOG.growth(3, 11).encode(), 4, HTTPStatus.CONFLICT),
        (LOG.growth(0, 11).encode(), 4, HTTPStatus.CONFLICT),
        (replace(LOG.growth(0, 11), path=(bytes(32),)).encode(), None, HTTPStatus.UNPROCESSABLE_ENTITY),
        (replace(LOG.growth(4, 11), path=()).encode(), 4, HTTPStatus.UNPROCESSABLE_ENTITY),
        (rewritten().growth(4, 11).encode(), 4, HTTPStatus.UNPROCESSABLE_ENTITY),
        (rewritten().growth(4, 4).encode(), 4, HTTPStatus.UNPROCESSABLE_ENTITY),
        (
            AddCheckpoint(0, (), Checkpoint(ORIGIN, 0, bytes(32)).signed(LOG.signer)).encode(),
            None,
            HTTPStatus.UNPROCESSABLE_ENTITY,
        ),
    ],
)
def test_what_a_witness_must_not_cosign_is_refused_as_the_specification_says(
    request_: bytes, latest: int | None, status: HTTPStatus
) -> None:
    said = asked(request_, None if latest is None else LOG.checkpoint(latest))
    assert said.status == status
    assert said.checkpoint is None
    if status is HTTPStatus.CONFLICT:
        assert (said.body, said.content_type) == (b"4\n", "text/x.tlog.size")


def test_a_log_takes_only_what_its_witnesses_signed() -> None:
    request = LOG.growth(0, 4)
    body = asked(request.encode()).body
    other = str(cosignature(request.checkpoint, witness("other.example"), AT)).encode()
    assert len(with_answer(request.checkpoint, other + body, trusts(WITNESS)).signatures) == 2
    for bad in (b"", b"\n", other, body[:-1], body.replace(b"neighbour", b"stranger"), base64.b64encode(body)):
        with pytest.raises(NoteError):
            with_answer(request.checkpoint, bad, trusts(WITNESS))
    with pytest.raises(NoteError, match="did not"):
        with_answer(LOG.note(5), body, trusts(WITNESS))
