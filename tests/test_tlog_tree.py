"""The Merkle tree against the RFCs' own examples, published vectors, a naive tree, pymerkle, and forgers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pymerkle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tlog.tree import (
    EMPTY_ROOT,
    PROOF_LIMIT,
    SIZE_LIMIT,
    Frontier,
    consistency,
    continues,
    includes,
    inclusion,
    leaf_hash,
    node_hash,
    root,
    subtrees,
)

SIZES = 300
LEAVES = [f"leaf {number}".encode() for number in range(SIZES)]

# What the implementations of Certificate Transparency are tested with.
PUBLISHED_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
PUBLISHED_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PUBLISHED_CONSISTENCY_6_8 = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]


def naive(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 §2.1 defines it, without any thought of speed."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + naive(leaves[:split]) + naive(leaves[split:])).digest()


def nodes(leaves: list[bytes]) -> Callable[[int, int], bytes]:
    known: dict[tuple[int, int], bytes] = {}

    def node(height: int, index: int) -> bytes:
        assert (index + 1) << height <= len(leaves), "an incomplete subtree was asked for"
        if (height, index) not in known:
            below = height - 1
            known[height, index] = (
                node_hash(node(below, 2 * index), node(below, 2 * index + 1)) if height else leaf_hash(leaves[index])
            )
        return known[height, index]

    return node


NODE = nodes(LEAVES)
ROOTS = [naive(LEAVES[:size]) for size in range(SIZES + 1)]


@pytest.fixture(scope="module")
def oracle() -> pymerkle.InmemoryTree:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for leaf in LEAVES:
        tree.append_entry(leaf)
    return tree


def test_published_roots_and_proofs() -> None:
    node = nodes(PUBLISHED_LEAVES)
    assert [root(size, node).hex() for size in range(9)] == PUBLISHED_ROOTS
    assert [one.hex() for one in consistency(6, 8, node)] == PUBLISHED_CONSISTENCY_6_8


def test_the_examples_of_rfc_6962_section_2_1_3() -> None:
    a, b, c, d, e, f, j = map(leaf_hash, LEAVES[:7])
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k = node_hash(g, h)
    ell = node_hash(i, j)
    paths = {0: [b, h, ell], 3: [c, g, ell], 4: [f, j, k], 6: [i, k]}
    assert {index: inclusion(index, 7, NODE) for index in paths} == paths
    proofs = {3: [c, d, g, ell], 4: [ell], 6: [i, j, k]}
    assert {old: consistency(old, 7, NODE) for old in proofs} == proofs


def test_every_size_has_the_root_of_the_naive_tree_and_of_pymerkle(oracle: pymerkle.InmemoryTree) -> None:
    frontier = Frontier()
    for size in range(SIZES + 1):
        assert frontier.root() == root(size, NODE) == ROOTS[size]
        assert frontier.size == size
        assert len(frontier.peaks) == size.bit_count()
        if size:
            assert oracle.get_root(size) == ROOTS[size]
        if size < SIZES:
            frontier = frontier.plus(leaf_hash(LEAVES[size]))


def test_every_leaf_of_every_size_is_proved(oracle: pymerkle.InmemoryTree) -> None:
    for size in [*range(1, 70), 127, 128, 129, 255, 256, 257, SIZES]:
        for index in range(size):
            path = inclusion(index, size, NODE)
            assert includes(leaf_hash(LEAVES[index]), index, size, path, ROOTS[size])
            assert oracle.prove_inclusion(index + 1, size).path[1:] == path


def test_every_growth_is_proved(oracle: pymerkle.InmemoryTree) -> None:
    for size in [*range(1, 70), 128, 255, 256, 257, SIZES]:
        for old in range(size + 1):
            path = consistency(old, size, NODE)
            assert continues(old, ROOTS[old], size, ROOTS[size], path)
            if old:  # the paths of pymerkle have another shape: only what they lead to can be compared
                pymerkle.verify_consistency(ROOTS[old], ROOTS[size], oracle.prove_consistency(old, size))


def test_a_path_is_as_short_as_it_can_be() -> None:
    for size in range(1, SIZES + 1):
        longest = max(len(inclusion(index, size, NODE)) for index in {0, size // 2, size - 1})
        assert longest <= (size - 1).bit_length()
    zeros = inclusion(5, SIZE_LIMIT - 1, lambda _height, _index: bytes(32))
    assert len(zeros) == PROOF_LIMIT


@settings(deadline=None)
@given(st.integers(0, 1 << 40), st.integers(0, 1 << 20))
def test_subtrees_cover_a_range_without_gap_and_are_few(start: int, length: int) -> None:
    at = start
    parts = list(subtrees(start, start + length))
    for height, index in parts:
        assert index << height == at
        at = (index + 1) << height
    assert at == start + length
    assert len(parts) <= 2 * max(length, 1).bit_length()


@settings(deadline=None)
@given(st.integers(0, SIZES - 1), st.integers(0, 8))
def test_a_frontier_grows_by_whole_subtrees_too(size: int, height: int) -> None:
    size = size >> height << height
    if size + (1 << height) > SIZES:
        return
    before = Frontier(size, tuple(NODE(*part) for part in subtrees(0, size)))
    assert before.plus(NODE(height, size >> height), height).root() == ROOTS[size + (1 << height)]


@settings(deadline=None)
@given(st.integers(0, SIZES - 1))
def test_what_a_leaf_completes_is_told(size: int) -> None:
    before = Frontier(size, tuple(NODE(*part) for part in subtrees(0, size)))
    told = list(before.completed(leaf_hash(LEAVES[size])))
    expected = [(height, size >> height) for height in range(10) if (size + 1) % (1 << height) == 0]
    assert told == [(height, NODE(height, index)) for height, index in expected]


FORGERIES = ("flip", "drop", "double", "swap", "append", "prepend", "empty", "reverse")


def forged(path: list[bytes], how: str, chance: random.Random) -> list[bytes]:
    path = list(path)
    place = chance.randrange(len(path)) if path else 0
    match how:
        case "flip" if path:
            path[place] = bytes([path[place][0] ^ 1 << chance.randrange(8), *path[place][1:]])
        case "drop" if path:
            del path[place]
        case "double" if path:
            path.insert(place, path[place])
        case "swap" if len(path) > 1:
            place = place % (len(path) - 1)
            path[place], path[place + 1] = path[place + 1], path[place]
        case "append":
            path.append(chance.randbytes(32))
        case "prepend":
            path.insert(0, chance.randbytes(32))
        case "empty":
            path = []
        case "reverse":
            path.reverse()
    return path


@settings(max_examples=400, deadline=None)
@given(st.integers(1, SIZES), st.data(), st.sampled_from(FORGERIES), st.randoms(use_true_random=False))
def test_a_forged_path_proves_nothing(size: int, data: st.DataObject, how: str, chance: random.Random) -> None:
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    path = inclusion(index, size, NODE)
    if (bad := forged(path, how, chance)) != path:
        assert not includes(leaf_hash(LEAVES[index]), index, size, bad, ROOTS[size])
    path = consistency(old, size, NODE)
    if (bad := forged(path, how, chance)) != path:
        assert not continues(old, ROOTS[old], size, ROOTS[size], bad)


@settings(deadline=None)
@given(st.integers(2, SIZES), st.data())
def test_a_true_path_proves_only_its_own_leaf_place_and_root(size: int, data: st.DataObject) -> None:
    index, other = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True))
    path, leaf = inclusion(index, size, NODE), leaf_hash(LEAVES[index])
    assert not includes(leaf_hash(LEAVES[other]), index, size, path, ROOTS[size])
    assert not includes(leaf, other, size, path, ROOTS[size])
    assert not includes(leaf, index, size, path, ROOTS[size - 1])
    assert not includes(LEAVES[index], index, size, path, ROOTS[size])


@settings(deadline=None)
@given(st.integers(1, SIZES), st.data())
def test_a_rewritten_past_is_not_continued(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, old - 1))
    leaves = [*LEAVES[:changed], b"rewritten", *LEAVES[changed + 1 : size]]
    path = consistency(old, size, nodes(leaves))
    assert not continues(old, ROOTS[old], size, naive(leaves), path)


@pytest.mark.parametrize(
    ("index", "size"), [(-1, 3), (3, 3), (4, 3), (0, 0), (SIZE_LIMIT, SIZE_LIMIT + 1), (0, SIZE_LIMIT), (0, -1)]
)
def test_a_place_outside_the_tree_proves_nothing(index: int, size: int) -> None:
    assert not includes(leaf_hash(b""), index, size, [], leaf_hash(b""))


def test_the_edges_of_consistency() -> None:
    assert continues(0, EMPTY_ROOT, 5, ROOTS[5], [])
    assert continues(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    assert continues(5, ROOTS[5], 5, ROOTS[5], [])
    assert not continues(0, ROOTS[1], 5, ROOTS[5], [])
    assert not continues(0, EMPTY_ROOT, 0, ROOTS[1], [])
    assert not continues(0, EMPTY_ROOT, 5, ROOTS[5], [ROOTS[5]])
    assert not continues(5, ROOTS[5], 5, ROOTS[4], [])
    assert not continues(5, ROOTS[5], 5, ROOTS[5], [ROOTS[5]])
    assert not continues(4, ROOTS[4], 5, ROOTS[5], [])
    assert not continues(6, ROOTS[6], 5, ROOTS[5], [])
    assert not continues(-1, ROOTS[1], 5, ROOTS[5], [])
    assert not continues(1, ROOTS[1], SIZE_LIMIT, ROOTS[1], [])
