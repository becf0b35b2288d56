"""The court's checker, which imports nothing of the agent: it agrees with it and `cryptography`, and finds attacks."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tlog import tree
from agent.tlog.note import Note, signed
from agent.tlog.proof import Proof
from agent.tlog.texts import NoteError
from agent.tlog.witness import cosignature
from tests.noted import MadeLog, made_log, signer, trusts, witness
from tests.test_tlog_note import EXAMPLES, WEAK
from tests.test_tlog_tree import FORGERIES, NODE, ROOTS, forged

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "packaging" / "kit" / "verify.py"
AT = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
ORDER = 2**252 + 27742317777372353535851937790883648493


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kit_verify", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KIT = loaded()


def test_it_is_short_and_needs_python_3_8_alone() -> None:
    text = SCRIPT.read_text("utf-8")
    assert text.count("\n") < 300
    module = ast.parse(text, feature_version=(3, 8))
    imports = [node for node in ast.walk(module) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {name.name for node in imports if isinstance(node, ast.Import) for name in node.names}
    assert names <= sys.stdlib_module_names
    assert {node.module for node in imports if isinstance(node, ast.ImportFrom)} <= sys.stdlib_module_names


# Ed25519.

RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]


def kit_says(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        return bool(KIT.ed25519(public, message, signature))
    except ValueError:
        return False


def openssl_says(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize("vector", RFC_8032)
def test_the_vectors_of_rfc_8032_are_verified(vector: tuple[str, str, str]) -> None:
    public, message, signature = map(bytes.fromhex, vector)
    assert kit_says(public, message, signature)
    assert not kit_says(public, message + b"x", signature)


CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "none": lambda data, _: data,
    "bit": lambda data, chance: (int.from_bytes(data, "big") ^ 1 << chance.randrange(len(data) * 8)).to_bytes(
        len(data), "big"
    ),
    "short": lambda data, _: data[:-1],
    "long": lambda data, _: data + b"\0",
    "empty": lambda _, __: b"",
    "s plus order": lambda data, _: data[:32] + (int.from_bytes(data[32:], "little") + ORDER).to_bytes(32, "little"),
    "top bit": lambda data, _: data[:-1] + bytes([data[-1] ^ 0x80]),
    "r written otherwise": lambda data, _: b"\xee" + b"\xff" * 30 + b"\x7f" + data[32:],
    "zero": lambda data, _: bytes(len(data)),
    "halves swapped": lambda data, _: data[32:] + data[:32],
}


@settings(max_examples=120, deadline=None)
@given(
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=80),
    st.sampled_from(sorted(CHANGES)),
    st.sampled_from(["signature", "key", "message"]),
    st.randoms(use_true_random=False),
)
def test_it_judges_signatures_as_cryptography_does(
    seed: bytes, message: bytes, how: str, what: str, chance: random.Random
) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)
    if what == "signature":
        signature = CHANGES[how](signature, chance)
    elif what == "key":
        public = CHANGES["bit"](public, chance)
    else:
        message += b"." * chance.randrange(2)
    assert kit_says(public, message, signature) == openssl_says(public, message, signature)


def encoded(point: tuple[int, int, int, int]) -> bytes:
    x, y, z, _ = point
    one = pow(z, -1, KIT.P)
    return ((y * one % KIT.P) | (x * one % KIT.P & 1) << 255).to_bytes(32, "little")


def torsion(public: str) -> tuple[int, int, int, int]:
    """The point of small order that the checker itself refuses."""
    y = int.from_bytes(bytes.fromhex(public), "little") & (1 << 255) - 1
    u, v = (y * y - 1) % KIT.P, (KIT.D * y * y + 1) % KIT.P
    x = u * v**3 * pow(u * v**7, (KIT.P - 5) // 8, KIT.P) % KIT.P
    if (v * x * x - u) % KIT.P:
        x = x * KIT.SQRT_MINUS_1 % KIT.P
    return x, y, 1, x * y % KIT.P


def test_a_key_of_mixed_order_is_judged_as_openssl_does() -> None:
    """Verifiers that multiply by the cofactor take all of these; two that differ would let somebody choose."""
    base, eighth = KIT.point(KIT.BASE), torsion(WEAK[7])
    secret, nonce = 0x1234567890ABCDEF << 60, 0xFEDCBA0987654321 << 70
    public = encoded(KIT.add(KIT.times(secret, base), eighth))
    r = encoded(KIT.times(nonce, base))
    judged = []
    for number in range(40):
        message = b"message %d" % number
        h = int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % ORDER
        signature = r + ((nonce + h * secret) % ORDER).to_bytes(32, "little")
        judged.append(kit_says(public, message, signature))
        assert judged[-1] == openssl_says(public, message, signature)
    assert True in judged
    assert False in judged


@pytest.mark.parametrize("public", WEAK)
def test_a_key_that_anybody_can_sign_with_is_refused(public: str) -> None:
    with pytest.raises(ValueError, match="公钥无效"):
        KIT.ed25519(bytes.fromhex(public), b"anything", b"\1" + bytes(63))


def test_why_it_must_be_refused() -> None:
    """Nobody has a private key to this one, and OpenSSL verifies a signature of any message by it."""
    assert openssl_says(bytes.fromhex(WEAK[0]), b"any message at all", b"\1" + bytes(63))


# Merkle proofs: the agent makes them, the checker judges as the agent does.


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.data(), st.sampled_from([*FORGERIES, ""]), st.randoms(use_true_random=False))
def test_it_judges_proofs_as_the_agent_does(size: int, data: st.DataObject, how: str, chance: random.Random) -> None:
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    leaf = f"leaf {index}".encode()
    path = forged(tree.inclusion(index, size, NODE), how, chance)
    judged = tree.includes(tree.leaf_hash(leaf), index, size, path, ROOTS[size])
    assert KIT.includes(leaf, index, size, path, ROOTS[size]) == judged
    path = forged(tree.consistency(old, size, NODE), how, chance)
    judged = tree.continues(old, ROOTS[old], size, ROOTS[size], path)
    assert KIT.continues(old, ROOTS[old], size, ROOTS[size], path) == judged


@settings(deadline=None)
@given(st.binary(max_size=200) | st.builds(lambda text: f"{text}\n\n— a AAAABBBB\n".encode(), st.text(max_size=50)))
def test_it_reads_notes_as_the_agent_does(data: bytes) -> None:
    try:
        mine: Note | None = Note.parse(data)
    except NoteError:
        mine = None
    try:
        text, signatures = KIT.note_of(data)
    except ValueError:
        assert mine is None
    else:
        assert mine is not None
        assert (text, signatures) == (mine.text, [(one.name, one.key_id, one.data) for one in mine.signatures])


@pytest.mark.parametrize(("vkeys", "text"), EXAMPLES)
def test_the_published_notes_are_verified(vkeys: list[str], text: str) -> None:
    said = KIT.signers(KIT.note_of(text.encode()), [KIT.key_of(vkey) for vkey in vkeys])
    assert [name for name, _, _ in said] == [vkey.split("+")[0] for vkey in vkeys]


# A whole folder.


def check(folder: Path, *options: str | Path) -> tuple[int, str]:
    """Run it as a court would, with a Python that has none of our packages."""
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", SCRIPT, folder, *options],
        capture_output=True, check=False, timeout=60, env={"PATH": "/usr/bin", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.stderr == b""
    return done.returncode, done.stdout.decode()


def summed(folder: Path) -> None:
    """List every file anew, as whoever has the folder can."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def fingerprint(log: MadeLog) -> str:
    """As the station shows it (`capture-agent key show`), made by `cryptography`."""
    public = Ed25519PublicKey.from_public_bytes(log.signer.key.public)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def appended(folder: Path, line: str) -> None:
    path = folder / "SHA256SUMS"
    path.write_text(f"{path.read_text()}{line}\n")


LOG, WITNESS = made_log(40), witness()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording, its signed manifest, two log entries with proofs, an old and a new checkpoint."""
    folder = tmp_path / "案卷 1"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "视频 1.mp4").write_bytes(b"film" * 1000)
    (folder / "manifest.json").write_text('{"held":1}\n')
    (folder / "manifest.json.note").write_bytes(signed('{"held":1}\n', LOG.signer).encode())
    for index in (4, 17):
        (folder / f"event-{index}.json").write_bytes(LOG.leaves[index])
        note = LOG.note(40).plus(cosignature(LOG.note(40), WITNESS, AT))
        proof = replace(LOG.proof(index, 40), checkpoint=note, extra=b"x" if index == 4 else None)
        (folder / f"event-{index}.json.tlog-proof").write_bytes(proof.encode())
    (folder / "old.checkpoint").write_bytes(LOG.note(13).encode())
    (folder / "grown.consistency").write_bytes(LOG.growth(13, 40).encode())
    (folder / "keys.txt").write_text(f"{LOG.signer.key.vkey}\n{WITNESS.key.vkey}\n")
    summed(folder)
    return folder


def test_a_good_folder_is_all_right_and_the_fingerprints_are_shown(folder: Path) -> None:
    code, text = check(folder)
    assert code == 0, text
    assert "全部正确 ALL IS RIGHT (6 正确 right, 0 错误 wrong, 0 无法核验 unknown)" in text
    assert "10 个文件已核对 SHA-256" in text
    assert "至第 18 条（日志共 40 条） proved, to entry 18 of 40" in text
    assert "neighbour.example/w1 2026-11-23T04:00:00Z" in text
    assert fingerprint(LOG) in text


def test_without_a_folder_it_checks_the_one_it_lies_in_wherever_it_is_called(folder: Path, tmp_path: Path) -> None:
    shutil.copy(SCRIPT, folder / "verify.py")
    summed(folder)
    words = ["/usr/bin/python3", "-I", "-S", folder / "verify.py"]
    done = subprocess.run(words, capture_output=True, check=False, timeout=60, cwd=tmp_path.parent)
    assert done.returncode == 0, done.stdout.decode()
    assert "11 个文件已核对 SHA-256" in done.stdout.decode()


def test_sha256sum_takes_the_same_list(folder: Path) -> None:
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True, env={"LC_ALL": "C.UTF-8"})


def rewritten() -> MadeLog:
    """The whole log made anew, with one event changed, by somebody who has the key."""
    log = made_log(40)
    log.leaves[2] = b"rewritten"
    return log


ATTACKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte of an original": (
        lambda folder: (folder / "data/视频 1.mp4").write_bytes(b"film" * 999 + b"filn"),
        "视频 1.mp4: SHA-256 不符",
    ),
    "an original is gone": (lambda folder: (folder / "data/视频 1.mp4").unlink(), "视频 1.mp4: 缺失"),
    "a file is added": (lambda folder: (folder / "data/more.mp4").touch(), "data/more.mp4: 不在任何清单中"),
    "a link is added": (lambda folder: (folder / "link").symlink_to("/etc"), "link: 不在任何清单中"),
    "an original is a link": (
        lambda folder: (
            (folder / "data/视频 1.mp4").rename(folder.parent / "film")
            and (folder / "data/视频 1.mp4").symlink_to("../../film")
        ),
        "视频 1.mp4: 缺失，或不是普通文件",
    ),
    "the list leads out": (
        lambda folder: appended(folder, f"{hashlib.sha256(b'').hexdigest()}  ../../x"),
        "../../x: 缺失",
    ),
    "the list is bent": (lambda folder: appended(folder, "nonsense"), "不规范的行"),
}
RELISTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a manifest": (lambda folder: (folder / "manifest.json").write_text('{"held":2}\n'), "与所签内容不同"),
    "a signed text": (
        lambda folder: (folder / "manifest.json.note").write_bytes(
            (folder / "manifest.json.note").read_bytes().replace(b"1", b"2", 1)
        ),
        "与所签内容不同",
    ),
    "a signature": (
        lambda folder: (folder / "old.checkpoint").write_bytes(LOG.note(13).encode().replace(b"\n13\n", b"\n12\n")),
        "签名无效",
    ),
    "an event": (lambda folder: (folder / "event-4.json").write_bytes(b"event 5"), "不是日志中的这一条"),
    "two events are swapped": (
        lambda folder: (
            (folder / "event-4.json").write_bytes(LOG.leaves[17]),
            (folder / "event-17.json").write_bytes(LOG.leaves[4]),
        ),
        "不是日志中的这一条",
    ),
    "an event is gone": (lambda folder: (folder / "event-4.json").unlink(), "所证文件缺失"),
    "a proof is cut": (
        lambda folder: (folder / "event-4.json.tlog-proof").write_bytes(
            (folder / "event-4.json.tlog-proof").read_bytes()[:-5]
        ),
        "签名行不规范",
    ),
    "a rewritten log, by who has the key": (
        lambda folder: (
            [
                (folder / f"event-{index}.json.tlog-proof").write_bytes(rewritten().proof(index, 40).encode())
                for index in (4, 17)
            ]
            + [(folder / "grown.consistency").write_bytes(rewritten().growth(13, 40).encode())]
        ),
        "已被改写",
    ),
    "another root at the same size": (
        lambda folder: (folder / "other.checkpoint").write_bytes(rewritten().note(13).encode()),
        "两个根：日志被改写",
    ),
    "a cosignature of another time": (
        lambda folder: (folder / "event-4.json.tlog-proof").write_bytes(
            Proof(
                4,
                LOG.proof(4, 40).path,
                LOG.note(40).plus(
                    replace(cosignature(LOG.note(40), WITNESS, AT), data=bytes(7) + b"\1" + bytes(64)),
                ),
            ).encode()
        ),
        "签名无效",
    ),
    "a weak key": (
        lambda folder: (folder / "keys.txt").write_text(
            replace(LOG.signer.key, public=bytes.fromhex(WEAK[0])).vkey + "\n"
        ),
        "公钥无效",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_was_changed_behind_the_lists_is_named(folder: Path, attack: str) -> None:
    change, words = ATTACKS[attack]
    change(folder)
    code, text = check(folder)
    assert code == 1, text
    assert words in text


@pytest.mark.parametrize("attack", RELISTED)
def test_what_was_changed_with_new_lists_is_named_too(folder: Path, attack: str) -> None:
    change, words = RELISTED[attack]
    change(folder)
    summed(folder)
    code, text = check(folder)
    assert code == (2 if attack == "a weak key" else 1), text
    assert words in text


def test_a_folder_forged_with_another_key_does_not_stand_against_the_known_one(folder: Path, tmp_path: Path) -> None:
    """Its own keys.txt is not even read; the log's name with another key is nobody's signature."""
    forger = MadeLog(LOG.leaves, LOG.origin)
    forger.signer = replace(signer("forger"), name=LOG.origin)
    for path in folder.glob("*.tlog-proof"):
        path.write_bytes(forger.proof(4 if "-4" in path.name else 17, 40).encode())
    (folder / "keys.txt").write_text(f"{forger.signer.key.vkey}\n")
    summed(folder)
    known = tmp_path / "known.txt"
    known.write_text(f"{LOG.signer.key.vkey}\n")
    code, text = check(folder, "--keys", known)
    assert code == 2, text
    assert "没有已知密钥 by no key that is known" in text
    assert fingerprint(forger) not in text


def test_what_can_not_be_checked_is_not_called_right(folder: Path, tmp_path: Path) -> None:
    (folder / "keys.txt").unlink()
    summed(folder)
    assert check(folder)[0] == 2
    (tmp_path / "empty").mkdir()
    assert check(tmp_path / "empty")[0] == 2
    assert check(tmp_path / "missing")[0] == 2
    assert check(folder, "--keys", tmp_path / "missing")[0] == 2
    (folder / "old.checkpoint").unlink()
    summed(folder)
    keys = tmp_path / "keys"
    keys.write_text(f"{LOG.signer.key.vkey}\n")
    code, text = check(folder, "--keys", keys)
    assert (code, "没有长度为 13 的旧检查点" in text) == (2, True)


def test_a_bag_is_read_with_its_own_lists(folder: Path) -> None:
    """The lists of BagIt (RFC 8493), with a name that it must write otherwise."""
    odd = folder / "data" / "100%\nsure.txt"
    odd.write_text("sure")
    (folder / "SHA256SUMS").unlink()
    for name, files in (
        ("manifest-sha256.txt", [path for path in folder.rglob("data/*") if path.is_file()]),
        ("tagmanifest-sha256.txt", [path for path in folder.glob("*") if path.is_file()]),
    ):
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}" for path in files]
        escaped = [line.replace("%", "%25").replace("\n", "%0A") for line in lines]
        (folder / name).write_text("\n".join(escaped) + "\n")
    code, text = check(folder)
    assert code == 0, text
    odd.write_text("not so")
    assert check(folder)[0] == 1


def test_a_console_without_chinese_is_no_obstacle(folder: Path) -> None:
    env = {"PATH": "/usr/bin", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        ["/usr/bin/python3", "-S", SCRIPT, folder], capture_output=True, check=False, timeout=60, env=env
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"ALL IS RIGHT" in done.stdout


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["manifest.json.note", "old.checkpoint", "grown.consistency"]),
    place=st.integers(0, 5000),
    new=st.binary(max_size=3),
)
def test_no_changed_bytes_of_a_signed_file_are_called_right(
    signed_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, name: str, place: int, new: bytes
) -> None:
    """Whatever is replaced by whatever: never right, and never an error of the checker itself."""
    data = signed_files[name]
    place %= len(data)
    bent = data[:place] + new + data[place + 1 :]
    if bent == data:
        return
    folder = tmp_path_factory.mktemp("bent")
    for one, content in (signed_files | {name: bent}).items():
        (folder / one).write_bytes(content)
    summed(folder)
    assert KIT.Check(str(folder), [KIT.key_of(LOG.signer.key.vkey)]).run() in (1, 2)


@pytest.fixture(scope="module")
def signed_files() -> dict[str, bytes]:
    return {
        "manifest.json": b'{"held":1}\n',
        "manifest.json.note": signed('{"held":1}\n', LOG.signer).encode(),
        "old.checkpoint": LOG.note(13).encode(),
        "grown.consistency": LOG.growth(13, 40).encode(),
    }


def test_it_changes_nothing(folder: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}
    check(folder)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")} == before
    assert os.access(SCRIPT, os.X_OK)


def test_the_agent_and_the_checker_trust_the_same_keys() -> None:
    assert {one.key.vkey for one in trusts(LOG.signer, WITNESS)} == {LOG.signer.key.vkey, WITNESS.key.vkey}
    assert KIT.key_of(WITNESS.key.vkey) == (WITNESS.key.name, WITNESS.key.key_id, b"\4", WITNESS.key.public)
