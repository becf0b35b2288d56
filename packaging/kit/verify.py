#!/usr/bin/env python3
"""核验 / Verify: checks a kit or folder of evidence with Python 3.8 or newer and nothing else; it changes nothing.

SHA256SUMS, manifest-sha256.txt, tagmanifest-sha256.txt: every file has its SHA-256, and no other file is there.
X.note, X.manifest: signed notes (c2sp.org/signed-note). X.checkpoint: signed by a log (c2sp.org/tlog-checkpoint).
X.tlog-proof, X.proofs: X, or each line of X, is an entry of a log (c2sp.org/tlog-proof@v1; docs/kit.md).
X.consistency: a log was only added to (c2sp.org/tlog-witness). In a kit every recording's file is one the log tells of.
Keys: lines "name+id+base64" of files --keys, or of keys.txt in the folder: compare fingerprints with those on paper.
Folder: that in which it lies, unless named. Ends with 0: all was checked and holds; 1: something is wrong; 2: unknown.
"""

import base64
import json
import re
import sys
import time
from hashlib import sha256, sha512
from pathlib import Path

LISTS = ("SHA256SUMS", "manifest-sha256.txt", "tagmanifest-sha256.txt")
FILE = re.compile(r"^data/\d+_([^/]+)/([a-z_]+)_([^/_.]+)\.\w+\Z")  # recording, role, asset
OURS = re.compile(r"data/(?!log/|reports/)(?!.*\.(event|tlog-proof)$)")
OK, WRONG, UNKNOWN = "正确 OK", "错误 WRONG", "无法核验 UNKNOWN"
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
GONE = "缺失，或不是普通文件，或是清单中不规范的行 missing, no plain file, or a malformed line of a list"
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)
SPKI = bytes.fromhex("302a300506032b6570032100")  # what stands before a public key in the form of RFC 8410
BASE = (4 * pow(5, P - 2, P) % P).to_bytes(32, "little")


def need(holds: object, why: str) -> None:
    if not holds:
        raise ValueError(why)


def point(data: bytes) -> tuple:
    """Return a point (RFC 8032, 5.1.3), extended; raises ValueError for none, and for one of small order."""
    number = int.from_bytes(data, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * v**3 * pow(u * v**7, (P - 5) // 8, P) % P
    x = x if (v * x * x - u) % P == 0 else x * SQRT_MINUS_1 % P
    x = x if x & 1 == sign else -x % P
    p = x, y, 1, x * y % P
    is_point = len(data) == 32 and y < P and (v * x * x - u) % P == 0 and x & 1 == sign
    need(is_point and times(8, p)[0], "公钥无效 the public key is none, or one that anybody can sign with")
    return p


def add(p: tuple, q: tuple) -> tuple:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * D * p[3] * q[3] % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(factor: int, p: tuple) -> tuple:
    rest = times(factor >> 1, add(p, p)) if factor else (0, 1, 1, 0)
    return add(rest, p) if factor & 1 else rest


def ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether the key signed the message (RFC 8032, 5.1.7), without cofactor, as OpenSSL does."""
    x, y, z, t = point(public)
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    h = int.from_bytes(sha512(r + public + message).digest(), "little") % ORDER
    x, y, z, t = add(times(s % ORDER, point(BASE)), times(h, (-x % P, y, z, -t % P)))
    x, y = x * pow(z, P - 2, P) % P, y * pow(z, P - 2, P) % P
    return len(signature) == 64 and s < ORDER and (y | (x & 1) << 255).to_bytes(32, "little") == r


def climbed(place: int, last: int, digest: bytes, path: list) -> tuple:
    """Return the hashes that a path leads to, of the tree that ends at `place` and of that which ends at `last`."""
    before = after = digest
    for sibling in path:
        if last == 0:
            return ()
        if place & 1 or place == last:
            before, after = (sha256(b"\1" + sibling + one).digest() for one in (before, after))
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = sha256(b"\1" + after + sibling).digest()
        place, last = place >> 1, last >> 1
    return () if last else (before, after)


def includes(leaf: bytes, index: int, size: int, path: list, root: bytes) -> bool:
    """Tell whether the tree of `size` leaves has this leaf at `index` (RFC 9162, 2.1.3.2)."""
    return 0 <= index < size and climbed(index, size - 1, sha256(b"\0" + leaf).digest(), path)[1:] == (root,)


def continues(old: int, old_root: bytes, size: int, root: bytes, path: list) -> bool:
    """Tell whether the tree of `size` leaves begins with that of `old` (RFC 9162, 2.1.4.2)."""
    if old in (0, size):
        empty = sha256(b"").digest()
        return not path and old_root == (root if old else empty) and (size > 0 or root == empty)
    if not 0 < old < size or not path:
        return False
    steps = path if old & (old - 1) else [old_root, *path]
    shift = (old & -old).bit_length() - 1
    return climbed((old - 1) >> shift, (size - 1) >> shift, steps[0], steps[1:]) == (old_root, root)


def unbase64(text: str) -> bytes:
    data = base64.b64decode(text.encode("ascii", "replace"), validate=True)
    need(base64.b64encode(data).decode() == text, "Base64 不规范 base64 in another form than the one")
    return data


def numbered(words: list) -> tuple:  # a number, and the hashes behind it
    is_number = re.fullmatch("0|[1-9][0-9]{0,18}", words[0]) and not int(words[0]) >> 63
    path = [unbase64(word) for word in words[1:]]
    is_path = len(path) <= 63 and {len(one) for one in path} <= {32}
    need(is_number and is_path, "数字或哈希值不规范 no number of a log, or no hashes of a proof")
    return int(words[0]), path


def key_of(vkey: str) -> tuple:  # name, id, type and public key of a line
    name, key_id, encoded = (*vkey.split("+", 2), "", "")[:3]
    material = unbase64(encoded)
    is_ours = key_id == sha256(f"{name}\n".encode() + material).hexdigest()[:8] and material[:1] in b"\1\4"
    need(is_ours, f"公钥不规范 no key of a kind that is known: {vkey[:80]!r}")
    point(material[1:])
    return name, bytes.fromhex(key_id), material[:1], material[1:]


def note_of(data: bytes) -> tuple:  # its text and its signatures (name, id, rest), unchecked
    text, separator, lines = data.decode("utf-8").rpartition("\n\n")
    is_text = len(data) <= 1 << 18 and not re.search(r"[\0-\x09\x0b-\x1f]", data.decode("utf-8"))
    need(is_text and separator, "不是签名文本 no signed note")
    found = [re.fullmatch(r"— ([^\s+]+) ([^\s]+)", line) for line in lines[:-1].split("\n")]
    is_whole = lines.endswith("\n") and all(found) and len(found) <= 64
    need(is_whole, "签名行不规范或被截断 signature lines are malformed or cut")
    return text + "\n", [(one[1], unbase64(one[2])[:4], unbase64(one[2])[4:]) for one in found if one]


def signers(note: tuple, keys: list) -> list:
    """Return (name, type, time) of the known keys that signed; raises ValueError if it says so of one that did not."""
    said = []
    for name, key_id, signature in note[1]:
        for _, _, kind, public in (key for key in keys if key[:2] == (name, key_id)):
            at = int.from_bytes(signature[:8], "big") if kind == b"\4" else 0
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) if 0 < at < 253402300800 else ""
            head, made = (b"cosignature/v1\ntime %d\n" % at, signature[8:]) if kind == b"\4" else (b"", signature)
            is_right = (kind == b"\1" or when) and ed25519(public, head + note[0].encode(), made)
            need(is_right, f"签名无效 the signature is false: {name}")
            said.append((name, kind, when))
    return said


class Check:
    """One run over a folder: what was found is printed and counted."""

    def __init__(self, folder: str, keys: list) -> None:
        self.keys, self.counts, self.heads = keys, {OK: 0, WRONG: 0, UNKNOWN: 0}, {}
        self.sums, self.known, self.manifests = {}, {}, {}
        paths = [path for path in Path(folder).rglob("*") if path.is_symlink() or not path.is_dir()]
        self.names = {path.relative_to(folder).as_posix(): path for path in paths}
        self.plain = {one for one, path in self.names.items() if path.is_file() and not path.is_symlink()}

    def tell(self, kind: str, what: str, why: str) -> None:
        self.counts[kind] += 1
        print(f"[{kind}] {ascii(what) if not what.isprintable() else what}: {why}")

    def digest(self, name: str) -> str:
        digest = sha256()
        with self.names[name].open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        return digest.hexdigest()

    def lists(self) -> None:
        texts = [self.names[one].read_text("utf-8") for one in LISTS if one in self.plain]
        lines = filter(None, "\n".join(texts).split("\n"))
        found = [(re.findall(r"^([0-9a-fA-F]{64}) [ *](.+)\Z", line) or [("", line)])[0] for line in lines]
        if LISTS[0] not in self.plain:  # BagIt, RFC 8493, section 2.1.3
            found = [(one, re.sub("%(0D|0A|25)", lambda code: chr(int(code[1], 16)), file)) for one, file in found]
        listed = {(file, digest.lower()) for digest, file in found}
        for file, digest in sorted(listed):
            self.sums[file] = self.digest(file) if file in self.plain else ""
            if self.sums[file] != digest or not digest:
                self.tell(WRONG, file, "SHA-256 不符：内容已改变 it was changed" if self.sums[file] else GONE)
        for name in sorted(self.names.keys() - {*self.sums, *LISTS}) if listed else ():
            self.tell(WRONG, name, "不在任何清单中 is in no list: it was added")
        what = (
            f"{len(listed)} 个文件已核对 SHA-256 of files compared" if listed else "没有清单 there is no list of files"
        )
        self.tell(OK if listed else UNKNOWN, "SHA-256", what)

    def checkpoint(self, data: bytes) -> tuple:  # origin, size, root, and who signed besides the log
        note = note_of(data)
        lines, said = note[0].split("\n"), signers(note, self.keys)
        need(len(lines) > 3 and all(lines[:-1]), "不是检查点 no checkpoint")
        origin, (size, (root,)) = lines[0], numbered(lines[1:3])
        is_signed = (origin, b"\1", "") in said
        is_one = not is_signed or self.heads.setdefault((origin, size), root) == root
        need(is_one, f"同一日志有两个根：日志被改写 two roots of one log at size {size}: it was rewritten")
        return origin, size, root, said if is_signed else []

    def signed(self, name: str) -> tuple:
        data, (beside, _, suffix) = self.names[name].read_bytes(), name.rpartition(".")
        if suffix in ("note", "manifest"):
            note, known = note_of(data), self.names[beside].read_bytes() if beside in self.plain else None
            need(known in (None, note[0].encode()), "与所签内容不同 the file beside it is not what was signed")
            said = signers(note, self.keys)
            self.manifests.update({name: note[0].split("\n")[:2]} if suffix == "manifest" and said else {})
            return said, "签名有效 is signed"
        if suffix == "checkpoint":
            return self.checkpoint(data)[3], "检查点签名有效 is a signed checkpoint"
        head, _, note = data.partition(b"\n\n")
        lines, (origin, size, root, who) = head.decode("utf-8").split("\n"), self.checkpoint(note)
        if suffix == "consistency":
            old, path = numbered([re.sub("^old ", "", lines[0]), *lines[1:]])
            if (origin, old) not in self.heads:
                return [], f"没有长度为 {old} 的旧检查点 the checkpoint of size {old} is not there"
            grown = continues(old, self.heads[origin, old], size, root, path)
            need(grown, "日志不是旧日志的延续：已被改写 the log doesn't continue the old one: it was rewritten")
            return who, f"日志只增未改 the log was only added to, from {old} to {size}"
        need(beside in self.plain, "所证文件缺失 the file that it is about is missing")
        content = self.names[beside].read_bytes()
        leaves = [content] if suffix == "tlog-proof" else content.split(b"\n")[:-1]
        return who, self.entries(leaves, lines, suffix, size, root)

    def entries(self, leaves: list, lines: list, suffix: str, size: int, root: bytes) -> str:
        if suffix == "tlog-proof":
            need(lines.pop(0) == "c2sp.org/tlog-proof@v1", "不是证明 no proof")
            lines = [re.sub("^index ", "", " ".join(lines[lines[0][:6] == "extra " if lines else 0 :]))]
        need(len(leaves) == len(lines), "记录与证明的行数不符 not as many entries as proofs")
        for leaf, line in zip(leaves, lines):
            index, path = numbered(line.split(" "))
            need(includes(leaf, index, size, path, root), f"不是日志中的这一条 is not entry {index + 1} of the log")
            if suffix == "proofs":
                self.learn(*json.loads(leaf.decode("utf-8"))[3:5])
        return f"已证 {len(lines)} 条，至第 {index + 1} 条（日志共 {size} 条） proved, to entry {index + 1} of {size}"

    def learn(self, subject: str, detail: dict) -> None:  # what an entry tells of a file: SHA-256, role, recordings
        event, asset = detail.get("event", {}), detail.get("asset", {})
        held = event.get("acquired", detail).get("held") or event.get("matched", asset)
        known = self.known.setdefault(subject, ["", "", ()])
        known[0] = held["digests"]["sha256"] if "digests" in held else known[0]
        if asset:  # a copy belongs to every recording of its content
            is_copy = "derivation" in detail.get("said", {})
            known[1:] = asset["role"], None if is_copy else {asset["recording_id"], *detail.get("recordings", ())}

    def kit(self) -> None:  # each file of a recording is the one that the log tells of, and manifests agree
        files = [one for one in sorted(self.plain) if OURS.match(one)]
        for name in files:
            recording, role, asset = (FILE.findall(name) or [("", "", "")])[0]
            *told, of = self.known.get(asset, ["", "", ()])
            if told != [self.sums.get(name), role] or not (of is None or recording in of):
                self.tell(WRONG, name, "与流转记录不符 is not what the log tells of, or it tells of no such file")
        self.tell(OK if files else UNKNOWN, "data", f"{len(files)} 个文件已与流转记录比对 were compared with the log")
        for name, (line, digest) in self.manifests.items():
            told = {one["asset_id"]: one["sha256"] for one in json.loads(line)["assets"]}
            wrong = [one for one, known in self.known.items() if told.get(one, known[0]) != known[0]]
            if wrong or digest != f"sha256 {sha256(line.encode()).hexdigest()}":
                self.tell(WRONG, name, f"清单与流转记录不符 the manifest says other than the log: {wrong}")
        print(f"核验包 Kit, 请核对 compare: {self.digest(LISTS[2]) if LISTS[2] in self.plain else ''}")

    def run(self) -> int:
        self.lists()
        suffixes = (".note", ".checkpoint", ".proofs", ".tlog-proof", ".consistency", ".manifest")
        for name in (one for suffix in suffixes for one in sorted(self.plain) if one.endswith(suffix)):
            try:
                who, what = self.signed(name)
                names = ", ".join(f"{one} {when}".strip() for one, _, when in sorted(set(who)))
                self.tell(OK if who else UNKNOWN, name, f"{what}: {names or '没有已知密钥 by no key that is known'}")
            except MALFORMED as error:  # noqa: PERF203  each file for itself
                self.tell(WRONG, name, str(error))
        if "bagit.txt" in self.plain:
            self.kit()
        for name, _, kind, public in self.keys:
            role = "签名 signs" if kind == b"\1" else "见证 witnesses"
            print(f"密钥 Key {name} ({role}), 请核对 compare: {sha256(SPKI + public).hexdigest()}")
        right, wrong, unknown = self.counts.values()
        word = "有错误 SOMETHING IS WRONG" if wrong else "不完整 INCOMPLETE" if unknown else "全部正确 ALL IS RIGHT"
        print(f"结论 Result: {word} ({right} 正确 right, {wrong} 错误 wrong, {unknown} 无法核验 unknown)")
        return 1 if wrong else 2 if unknown or not right else 0


def main() -> int:
    sys.stdout.reconfigure(errors="replace")  # a console that knows no Chinese
    folder, *files = [one for one in sys.argv[1:] if one != "--keys"] or [Path(__file__).parent]
    try:
        need(Path(folder).is_dir(), f"没有这个文件夹 there is no folder {folder!r}")
        texts = [Path(file).read_text("utf-8") for file in files or Path(folder).glob("keys.txt")]
        keys = [key_of(line) for line in dict.fromkeys("\n".join(texts).split("\n")) if line]
        return Check(folder, keys).run()
    except (OSError, ValueError) as error:
        print(f"{__doc__}\n[{UNKNOWN}] {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
