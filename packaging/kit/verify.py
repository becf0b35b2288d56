#!/usr/bin/env python3
"""核验 / Verify: checks a folder of evidence with Python 3.8 or newer and nothing else; it changes nothing.

It checks what is there, in the folder and below:
  SHA256SUMS, manifest-sha256.txt, tagmanifest-sha256.txt: every file has its SHA-256, and no other file is there
  X.note           signed note (c2sp.org/signed-note); beside a file X its text is exactly that file
  X.checkpoint     signed checkpoint of a log (c2sp.org/tlog-checkpoint), with cosignatures of witnesses
  X.tlog-proof     proof that the file X beside it is an entry of a log (c2sp.org/tlog-proof@v1)
  X.consistency    proof that a log was only added to since a checkpoint (body of c2sp.org/tlog-witness)
Keys are lines "name+id+base64" of the files --keys, or if none is given of keys.txt in the folder. A key that only the
folder has is as good as the folder: compare its fingerprint with that on paper.
It ends with 0: all was checked and holds; 1: something is wrong; 2: something can't be checked.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import sys
import time

LISTS = ("SHA256SUMS", "manifest-sha256.txt", "tagmanifest-sha256.txt")
OK, WRONG, UNKNOWN = "正确 OK", "错误 WRONG", "无法核验 UNKNOWN"
NOTE_LIMIT, READ_LIMIT, SIGNATURE_LIMIT, PROOF_LIMIT = 1 << 18, 1 << 30, 64, 63
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)
SPKI = bytes.fromhex("302a300506032b6570032100")  # what stands before a public key in the form of RFC 8410
BASE = (4 * pow(5, P - 2, P) % P).to_bytes(32, "little")


def point(data: bytes) -> tuple:
    """Return a point (RFC 8032, 5.1.3), extended; raises ValueError for none, and for one of small order."""
    number = int.from_bytes(data, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * v**3 * pow(u * v**7, (P - 5) // 8, P) % P
    x = x if (v * x * x - u) % P == 0 else x * SQRT_MINUS_1 % P
    x = x if x & 1 == sign else -x % P
    p = x, y, 1, x * y % P
    if len(data) != 32 or y >= P or (v * x * x - u) % P or x & 1 != sign or times(8, p)[0] == 0:
        raise ValueError("公钥无效 the public key is none, or one that anybody can sign with")
    return p


def add(p: tuple, q: tuple) -> tuple:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * D * p[3] * q[3] % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(factor: int, p: tuple) -> tuple:
    """Return a multiple of a point."""
    rest = times(factor >> 1, add(p, p)) if factor else (0, 1, 1, 0)
    return add(rest, p) if factor & 1 else rest


def ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether the key signed the message (RFC 8032, 5.1.7), without cofactor, as OpenSSL does."""
    x, y, z, t = point(public)
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    h = int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % ORDER
    x, y, z, t = add(times(s % ORDER, point(BASE)), times(h, (-x % P, y, z, -t % P)))
    x, y = x * pow(z, P - 2, P) % P, y * pow(z, P - 2, P) % P
    return len(signature) == 64 and s < ORDER and (y | (x & 1) << 255).to_bytes(32, "little") == r


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def climbed(place: int, last: int, digest: bytes, path: list) -> tuple:
    """Return the hashes that a path leads to, of the tree that ends at `place` and of that which ends at `last`."""
    before = after = digest
    for sibling in path:
        if last == 0:
            return ()
        if place & 1 or place == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        place, last = place >> 1, last >> 1
    return () if last else (before, after)


def includes(leaf: bytes, index: int, size: int, path: list, root: bytes) -> bool:
    """Tell whether the tree of `size` leaves has this leaf at `index` (RFC 9162, 2.1.3.2)."""
    digest = hashlib.sha256(b"\0" + leaf).digest()
    return 0 <= index < size and climbed(index, size - 1, digest, path)[1:] == (root,)


def continues(old: int, old_root: bytes, size: int, root: bytes, path: list) -> bool:
    """Tell whether the tree of `size` leaves begins with that of `old` (RFC 9162, 2.1.4.2)."""
    if old in (0, size):
        empty = hashlib.sha256().digest()
        return not path and old_root == (root if old else empty) and (size > 0 or root == empty)
    if not 0 < old < size or not path:
        return False
    steps = path if old & (old - 1) else [old_root, *path]
    shift = (old & -old).bit_length() - 1
    return climbed((old - 1) >> shift, (size - 1) >> shift, steps[0], steps[1:]) == (old_root, root)


def unbase64(text: str) -> bytes:
    data = base64.b64decode(text.encode("ascii", "replace"), validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("Base64 不规范 base64 in another form than the one")
    return data


def number(text: str) -> int:
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text) or int(text) >> 63:
        raise ValueError("数字不规范 no number of a log")
    return int(text)


def hashes(lines: list) -> list:
    path = [unbase64(line) for line in lines]
    if len(path) > PROOF_LIMIT or any(len(digest) != 32 for digest in path):
        raise ValueError("哈希值不规范 no hashes of a proof")
    return path


def key_of(vkey: str) -> tuple:
    """Return (name, id, type, public key) of a line; raises ValueError."""
    name, key_id, encoded = (*vkey.split("+", 2), "", "")[:3]
    material = unbase64(encoded)
    expected = hashlib.sha256(f"{name}\n".encode() + material).hexdigest()[:8]
    if key_id != expected or material[:1] not in (b"\1", b"\4"):
        raise ValueError(f"公钥不规范 no key of a kind that is known: {vkey[:80]!r}")
    point(material[1:])
    return name, bytes.fromhex(key_id), material[:1], material[1:]


def note_of(data: bytes) -> tuple:
    """Return the text of a signed note and its signatures (name, id, rest), unchecked."""
    text, separator, lines = data.decode("utf-8").rpartition("\n\n")
    if len(data) > NOTE_LIMIT or re.search(r"[\0-\x09\x0b-\x1f]", data.decode("utf-8")) or not separator:
        raise ValueError("不是签名文本 no signed note")
    found = [re.fullmatch(r"— ([^\s+]+) ([^\s]+)", line) for line in lines[:-1].split("\n")]
    if not lines.endswith("\n") or not all(found) or len(found) > SIGNATURE_LIMIT:
        raise ValueError("签名行不规范或被截断 signature lines are malformed or cut")
    return text + "\n", [(one[1], unbase64(one[2])[:4], unbase64(one[2])[4:]) for one in found if one]


def signers(note: tuple, keys: list) -> list:
    """Return (name, type, time) of the known keys that signed; raises ValueError if it says so of one that did not."""
    said = []
    for name, key_id, signature in note[1]:
        for _, _, kind, public in (key for key in keys if key[:2] == (name, key_id)):
            made, message, when = signature, note[0].encode(), ""
            if kind == b"\4":
                at, made = int.from_bytes(signature[:8], "big"), signature[8:]
                message = b"cosignature/v1\ntime %d\n" % at + message
                when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) if 0 < at < 253402300800 else ""
            if not ed25519(public, message, made) or (kind == b"\4" and not when):
                raise ValueError(f"签名无效 the signature is false: {name}")
            said.append((name, kind, when))
    return said


class Check:
    """One run over a folder: what was found is printed and counted."""

    def __init__(self, folder: str, keys: list) -> None:
        self.keys, self.counts, self.heads = keys, {OK: 0, WRONG: 0, UNKNOWN: 0}, {}
        paths = [os.path.join(parent, one) for parent, below, files in os.walk(folder) for one in files + below]
        paths = [path for path in paths if os.path.islink(path) or not os.path.isdir(path)]
        self.names = {os.path.relpath(path, folder).replace(os.sep, "/"): path for path in paths}
        self.plain = {one for one, path in self.names.items() if os.path.isfile(path) and not os.path.islink(path)}

    def tell(self, kind: str, what: str, why: str) -> None:
        self.counts[kind] += 1
        print(f"[{kind}] {ascii(what) if not what.isprintable() else what}: {why}")

    def read(self, name: str) -> bytes:
        with open(self.names[name], "rb") as file:
            return file.read(READ_LIMIT)

    def sums(self) -> None:
        """Check the lists of SHA-256, and that they name every file."""
        listed = set(LISTS)
        for name in (one for one in LISTS if one in self.plain):
            right = 0
            for line in filter(None, self.read(name).decode("utf-8").split("\n")):
                match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line)
                file = match[2] if match else line
                if name != LISTS[0]:  # BagIt, RFC 8493, section 2.1.3
                    file = file.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
                listed.add(file)
                why = self.changed(match[1].lower(), file) if match else "清单中不规范的行 a malformed line of the list"
                right += not why
                if why:
                    self.tell(WRONG, file, why)
            self.tell(OK if right else UNKNOWN, name, f"{right} 个文件的 SHA-256 相符 files have their SHA-256")
        if len(listed) == len(LISTS):
            self.tell(UNKNOWN, LISTS[0], "没有清单 there is no list of files")
        for name in sorted(self.names.keys() - listed) if len(listed) > len(LISTS) else ():
            self.tell(WRONG, name, "不在任何清单中 is in no list: it was added")

    def changed(self, expected: str, name: str) -> str:
        if name not in self.plain:
            return "缺失，或不是普通文件 missing, or no plain file in the folder"
        digest = hashlib.sha256()
        with open(self.names[name], "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        return "" if digest.hexdigest() == expected else "SHA-256 不符：内容已改变 the content was changed"

    def checkpoint(self, data: bytes) -> tuple:
        """Return origin, size, root and who signed; the log itself must have, or nobody counts."""
        note = note_of(data)
        lines, said = note[0].split("\n"), signers(note, self.keys)
        if len(lines) < 4 or not all(lines[:-1]):
            raise ValueError("不是检查点 no checkpoint")
        origin, size, (root,) = lines[0], number(lines[1]), hashes(lines[2:3])
        is_signed = (origin, b"\1", "") in said
        if is_signed and self.heads.setdefault((origin, size), root) != root:
            raise ValueError(f"同一日志有两个根：日志被改写 two roots of one log at size {size}: it was rewritten")
        return origin, size, root, said if is_signed else []

    def signed(self, name: str) -> tuple:
        """Check one file by its suffix; returns who signed it, and what that means."""
        data, (beside, suffix) = self.read(name), os.path.splitext(name)
        if suffix == ".note":
            note = note_of(data)
            if beside in self.plain and self.read(beside) != note[0].encode():
                raise ValueError("与所签内容不同 the file beside it is not what was signed")
            return signers(note, self.keys), "签名有效 is signed"
        if suffix == ".checkpoint":
            return self.checkpoint(data)[3], "检查点签名有效 is a signed checkpoint"
        head, _, note = data.partition(b"\n\n")
        lines, (origin, size, root, who) = head.decode("utf-8").split("\n"), self.checkpoint(note)
        if suffix == ".consistency":
            old = number(lines[0][4:] if lines[0].startswith("old ") else "")
            if (origin, old) not in self.heads:
                return [], f"没有长度为 {old} 的旧检查点 the checkpoint of size {old} is not there"
            if not continues(old, self.heads[origin, old], size, root, hashes(lines[1:])):
                raise ValueError(
                    "日志不是旧日志的延续：已被改写 the log doesn't continue the old one: it was rewritten"
                )
            return who, f"日志只增未改 the log was only added to, from {old} to {size}"
        if lines.pop(0) != "c2sp.org/tlog-proof@v1" or beside not in self.plain:
            raise ValueError("不是证明，或所证文件缺失 no proof, or the file that it is about is missing")
        lines = lines[1:] if lines and lines[0].startswith("extra ") else lines
        index = number(lines[0][6:] if lines and lines[0].startswith("index ") else "")
        if not includes(self.read(beside), index, size, hashes(lines[1:]), root):
            raise ValueError("文件不是日志中的这一条 the file is not this entry of the log")
        return who, f"是日志第 {index + 1} 条（共 {size} 条） is entry {index + 1} of the {size} of the log"

    def run(self) -> int:
        """Check everything; returns the exit code."""
        self.sums()
        suffixes = (".note", ".checkpoint", ".tlog-proof", ".consistency")
        for name in (one for suffix in suffixes for one in sorted(self.plain) if one.endswith(suffix)):
            try:
                who, what = self.signed(name)
                names = ", ".join(f"{one} {when}".strip() for one, _, when in sorted(set(who)))
                self.tell(OK if who else UNKNOWN, name, f"{what}: {names or '没有已知密钥 by no key that is known'}")
            except ValueError as error:  # noqa: PERF203  each file for itself
                self.tell(WRONG, name, str(error))
        for name, _, kind, public in self.keys:
            role = "签名 signs" if kind == b"\1" else "见证 witnesses"
            print(f"密钥 Key {name} ({role}), 请核对 compare: {hashlib.sha256(SPKI + public).hexdigest()}")
        right, wrong, unknown = self.counts.values()
        word = "有错误 SOMETHING IS WRONG" if wrong else "不完整 INCOMPLETE" if unknown else "全部正确 ALL IS RIGHT"
        print(f"结论 Result: {word} ({right} 正确 right, {wrong} 错误 wrong, {unknown} 无法核验 unknown)")
        return 1 if wrong else 2 if unknown or not right else 0


def main() -> int:
    """Read the command line and the keys, and check the folder."""
    sys.stdout.reconfigure(errors="replace")  # a console that knows no Chinese
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--keys", action="append", default=[], help="a file of keys that are trusted")
    options = parser.parse_args()
    lines, inside = [], [os.path.join(options.folder, "keys.txt")]
    try:
        for file in options.keys or filter(os.path.isfile, inside):
            with open(file, encoding="utf-8") as opened:
                lines += opened.read().split("\n")
        keys = [key_of(line) for line in dict.fromkeys(lines) if line]
        os.listdir(options.folder)
        return Check(options.folder, keys).run()
    except (OSError, ValueError) as error:
        print(f"[{UNKNOWN}] {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
