"""Time stamps of a real authority (openssl ts): what it proves is believed, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.errors import EvidenceError
from agent.timestamps import proved, request_for
from tests.authority import Authority, openssl

CONTENT = b"a manifest\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tsa") / "good")


def test_what_the_authority_stamped_is_proved_with_its_time_and_name(authority: Authority) -> None:
    request = request_for(CONTENT)
    answer = authority.answer(request.as_bytes())
    stamp = proved(answer, CONTENT, authority.roots.read_bytes(), request)
    assert stamp.authority == "CN=tsa.example"
    assert abs(stamp.at - datetime.now(UTC)) < timedelta(minutes=5)
    assert proved(answer, CONTENT, authority.roots.read_bytes()) == stamp
    assert authority.verify(answer, CONTENT)
    assert not authority.verify(answer, CONTENT + b"!")


def test_the_authority_never_sees_what_it_stamps(authority: Authority) -> None:
    assert CONTENT not in request_for(CONTENT).as_bytes()


def test_other_bytes_another_question_another_root_and_every_bent_answer_prove_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    request, roots = request_for(CONTENT), authority.roots.read_bytes()
    answer = authority.answer(request.as_bytes())
    stranger = Authority(tmp_path / "stranger")
    for bad in (
        (answer, CONTENT + b"!", roots, None),
        (answer, CONTENT, roots, request_for(CONTENT)),
        (answer, CONTENT, stranger.roots.read_bytes(), request),
        (answer, CONTENT, b"", request),
        (answer[:-1], CONTENT, roots, request),
        (b"", CONTENT, roots, request),
        (b"<html>", CONTENT, roots, request),
    ):
        with pytest.raises(EvidenceError):
            proved(*bad)
    for place in range(0, len(answer), 7):
        bent = bytearray(answer)
        bent[place] ^= 1
        try:
            again = proved(bytes(bent), CONTENT, roots, request)
        except EvidenceError:
            continue
        assert again == proved(answer, CONTENT, roots, request)  # in what no signature covers, and nobody reads


def test_an_authority_that_refuses_says_why(authority: Authority) -> None:
    query = openssl("ts", "-query", "-digest", "ab" * 64, "-sha512")
    with pytest.raises(EvidenceError, match="refused: status 2"):
        proved(authority.answer(query), CONTENT, authority.roots.read_bytes())
