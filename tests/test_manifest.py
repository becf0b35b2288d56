"""Manifests: what is written is read back, anybody can check it, and no byte of it can be changed unseen."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.manifest import Listed, Manifest, contradictions, verified
from agent.model import Asset, AssetState, Digests, Role
from agent.tlog.note import Note, Signature, signed
from agent.tlog.texts import NoteError
from tests.noted import made_log, signer, trusts
from tests.test_kit import KIT

DOCK, STRANGER = signer(), signer("stranger.example")
AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
MADE = Manifest(
    recording_id="rec-a",
    number=2,
    previous="ab" * 32,
    made_at=AT,
    covers=11,
    station={"name": "采集站", "org_code": "11370800MB2857833F"},
    metadata={"version": 3, "fields": {"proof_object": {"source": "O", "value": "证明药店未按处方销售药品"}}},
    assets=(
        Listed("a", Role.ORIGINAL, 1000, "01" * 32, "02" * 32, sealed=True),
        Listed("s", Role.STATEMENT, 200, "03" * 32, "04" * 32),
    ),
    environment={"agent": "1.0", "clock": {"synced": True, "rtc_ahead_s": -0.5}, "errors": {}},
    log=made_log(11).note(11).encode().decode(),
)
FILE = MADE.sealed(DOCK)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def assets() -> list[Asset]:
    """The same as the journal knows them."""
    return [
        Asset(one.asset_id, "rec-a", one.role, AssetState.HELD, one.size_bytes, one.size_bytes,
              Digests(one.blake3, one.sha256))
        for one in MADE.assets
    ]  # fmt: skip


def test_what_was_signed_is_read_back_with_who_signed_it() -> None:
    assert verified(FILE, trusts(DOCK)) == (MADE, {DOCK.key})
    assert verified(MADE.sealed(DOCK, STRANGER), trusts(STRANGER))[1] == {STRANGER.key}


@settings(max_examples=40, deadline=None)
@given(metadata=st.dictionaries(st.text(), JSON, max_size=4))
def test_whatever_was_said_is_written_in_one_form_and_once_read_stays_the_same(metadata: dict[str, object]) -> None:
    first, _ = Manifest.parse(replace(MADE, metadata=metadata).sealed(DOCK))
    assert Manifest.parse(first.sealed(DOCK)) == (first, Note.parse(first.sealed(DOCK)))


def test_half_characters_and_huge_numbers_of_a_hostile_card_are_written_out() -> None:
    first, _ = Manifest.parse(replace(MADE, metadata={"path": "A\udcff\n", "size": 1 << 63}).sealed(DOCK))
    assert first.metadata == {"path": "A\\udcff\n", "size": str(1 << 63)}


def test_a_manifest_is_what_the_documentation_says(tmp_path: Path) -> None:
    """With json, hashlib, OpenSSL and the court's checker, and nothing of the agent."""
    line, sha256, sm3, empty, signature, end = FILE.decode().split("\n")
    assert (empty, end) == ("", "")
    assert signature.startswith(f"— {DOCK.name} ")
    plain = json.loads(line)
    assert line == json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert plain["schema"] == "capture-agent/manifest@1"
    assert sha256 == f"sha256 {hashlib.sha256(line.encode()).hexdigest()}"
    told = subprocess.run(["openssl", "dgst", "-sm3", "-r"], input=line.encode(), capture_output=True, check=True)
    assert sm3 == f"sm3 {told.stdout[:64].decode()}"
    (tmp_path / "m.note").write_bytes(FILE)
    (tmp_path / "m").write_text(f"{line}\n{sha256}\n{sm3}\n", encoding="utf-8")
    check = KIT.Check(str(tmp_path), [KIT.key_of(DOCK.key.vkey)])
    assert check.signed("m.note")[0] == [(DOCK.name, b"\1", "")]


def test_a_changed_byte_is_noticed_wherever_it_is() -> None:
    for place in range(len(FILE)):
        bent = bytearray(FILE)
        bent[place] ^= 1
        with pytest.raises(NoteError):
            verified(bytes(bent), trusts(DOCK))


def rewritten(manifest: Manifest) -> bytes:
    """By who has everything but the key: right digests, and the old signature."""
    return Note(Note.parse(manifest.sealed(STRANGER)).text, Note.parse(FILE).signatures).encode()


@pytest.mark.parametrize(
    "forged",
    [
        rewritten(replace(MADE, made_at=AT - timedelta(days=2))),
        rewritten(replace(MADE, recording_id="rec-b")),
        rewritten(replace(MADE, assets=MADE.assets[:1])),
        replace(MADE, number=3).sealed(STRANGER),
        Note(Note.parse(FILE).text, (Signature.by(DOCK.key, bytes(64)),)).encode(),
        Note(Note.parse(FILE).text, (*Note.parse(FILE).signatures, Signature.by(DOCK.key, bytes(64)))).encode(),
        replace(MADE, number=3).sealed(replace(STRANGER, name=DOCK.name)),
    ],
    ids=[
        "re-dated",
        "other recording",
        "asset left out",
        "other key",
        "false",
        "true and false",
        "other key, same name",
    ],
)
def test_a_forged_manifest_is_signed_by_nobody(forged: bytes) -> None:
    Manifest.parse(forged)  # its form is right: only the key tells
    with pytest.raises(NoteError):
        verified(forged, trusts(DOCK))


def test_the_keys_own_holder_can_be_told_by_the_form() -> None:
    """Signed by the station itself, but not as it signs."""
    line = MADE.line
    for text in (
        json.dumps(json.loads(line)),
        line.replace('"number":2', '"number":0'),
        line.replace('"number":2', '"number":1'),
        line.replace('"number":2', '"number":2.5'),
        line.replace('"number":2', '"number":2,"number":2'),
        line.replace("manifest@1", "manifest@2"),
        line.replace('"asset_id":"s"', '"asset_id":"a"'),
        line.replace('"size_bytes":200', '"size_bytes":-1'),
        line.replace("+00:00", ""),
        line.replace('"covers":11,', ""),
        line.replace('"covers":11,', '"covers":11,"extra":1,'),
        "[1]", "1", "", "[" * 100_000,
    ):  # fmt: skip
        data = text.encode()
        sm3 = subprocess.run(["openssl", "dgst", "-sm3", "-r"], input=data, capture_output=True, check=True).stdout[:64]
        note = signed(f"{text}\nsha256 {hashlib.sha256(data).hexdigest()}\nsm3 {sm3.decode()}\n", DOCK)
        with pytest.raises(NoteError):
            verified(note.encode(), trusts(DOCK))
    with pytest.raises(NoteError, match="own digests"):
        verified(signed(f"{line}\nsha256 {'0' * 64}\nsm3 {'0' * 64}\n", DOCK).encode(), trusts(DOCK))


def test_swapped_recordings_and_other_bytes_contradict_the_manifest() -> None:
    known = assets()
    assert contradictions(MADE, "rec-a", [*known, replace(known[1], asset_id="came later")]) == []
    assert contradictions(MADE, "rec-b", known) == ["the manifest is of recording rec-a, not of rec-b"]
    assert contradictions(MADE, "rec-a", known[1:]) == ["original a of the manifest is unknown"]
    for bent in (
        replace(known[0], digests=known[1].digests),
        replace(known[0], expected_bytes=999),
        replace(known[0], role=Role.STATEMENT),
    ):
        assert contradictions(MADE, "rec-a", [bent, known[1]]) == ["original a has other bytes than the manifest says"]


def test_what_no_note_can_have_is_refused_before_anything_is_signed() -> None:
    with pytest.raises(NoteError):
        replace(MADE, metadata={"words": "x" * (1 << 18)}).sealed(DOCK)
    with pytest.raises(NoteError):
        replace(MADE, metadata={"what": object()}).sealed(DOCK)


def test_the_signature_is_over_the_three_lines() -> None:
    line = next(one for one in FILE.decode().split("\n") if one.startswith("—"))
    data = base64.b64decode(line.rpartition(" ")[2])
    text = FILE.decode().rpartition("\n\n")[0] + "\n"
    assert DOCK.private.sign(text.encode()) == data[4:]
