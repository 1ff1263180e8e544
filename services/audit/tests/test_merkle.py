"""The tree is RFC 6962's: known vectors, and for any size the recursive definitions of the RFC itself."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn_audit.domain import merkle
from cairn_audit.domain.merkle import Hash, NodeId
from cairn_client import ledger as offline

# The published test data of certificate-transparency implementations: leaf inputs, node and root hashes.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
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
INCLUSION = {
    (0, 1): [],
    (0, 2): ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}

trees = st.lists(st.binary(max_size=6), min_size=1, max_size=70)


class Kept:
    """What the service keeps of a tree: leaf hashes and complete nodes, grown in batches."""

    def __init__(self, records: list[bytes], batch: int = 7) -> None:
        self.nodes: dict[NodeId, Hash] = {}
        self.size = 0
        for start in range(0, len(records), batch):
            leaves = [merkle.leaf_hash(record) for record in records[start : start + batch]]
            frontier = [self.nodes[node] for node in merkle.frontier_ids(self.size)]
            growth = merkle.grow(self.size, frontier, leaves)
            self.nodes.update({NodeId(0, self.size + place): leaf for place, leaf in enumerate(leaves)})
            self.nodes.update(growth.nodes)
            self.size = growth.size
            assert list(growth.frontier) == [self.nodes[node] for node in merkle.frontier_ids(self.size)]

    def root(self, size: int) -> Hash:
        return merkle.fold([self.nodes[node] for node in merkle.frontier_ids(size)])

    def inclusion(self, index: int, size: int) -> list[Hash]:
        return [merkle.hash_of(leaves, self.nodes) for leaves in merkle.inclusion_ranges(index, size)]

    def consistency(self, first: int, second: int) -> list[Hash]:
        return [merkle.hash_of(leaves, self.nodes) for leaves in merkle.consistency_ranges(first, second)]


def mth(records: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, as it is defined there."""
    if not records:
        return hashlib.sha256(b"").digest()
    if len(records) == 1:
        return hashlib.sha256(b"\x00" + records[0]).digest()
    k = split(len(records))
    return hashlib.sha256(b"\x01" + mth(records[:k]) + mth(records[k:])).digest()


def path(m: int, records: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, 2.1.1."""
    if len(records) == 1:
        return []
    k = split(len(records))
    if m < k:
        return [*path(m, records[:k]), mth(records[k:])]
    return [*path(m - k, records[k:]), mth(records[:k])]


def subproof(m: int, records: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, 2.1.2."""
    if m == len(records):
        return [] if whole else [mth(records)]
    k = split(len(records))
    if m <= k:
        return [*subproof(m, records[:k], whole), mth(records[k:])]
    return [*subproof(m - k, records[k:], False), mth(records[:k])]


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    kept = Kept(LEAVES)
    assert kept.root(size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_the_published_ones(index: int, size: int) -> None:
    assert [h.hex() for h in Kept(LEAVES).inclusion(index, size)] == INCLUSION[index, size]


@pytest.mark.parametrize(("first", "second"), CONSISTENCY)
def test_consistency_proofs_are_the_published_ones(first: int, second: int) -> None:
    assert [h.hex() for h in Kept(LEAVES).consistency(first, second)] == CONSISTENCY[first, second]


@given(trees, st.integers(1, 9), st.data())
def test_every_root_and_proof_is_what_the_rfc_defines(
    records: list[bytes], batch: int, data: st.DataObject
) -> None:
    kept = Kept(records, batch)
    size = data.draw(st.integers(1, len(records)))
    index = data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(1, size))
    assert kept.root(size) == mth(records[:size])
    assert kept.inclusion(index, size) == path(index, records[:size])
    assert kept.consistency(first, size) == subproof(first, records[:size], True)


@given(trees, st.data())
def test_the_offline_verifier_accepts_every_proof_of_the_service(
    records: list[bytes], data: st.DataObject
) -> None:
    kept = Kept(records)
    size = data.draw(st.integers(1, len(records)))
    index = data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(0, size))
    offline.verify_inclusion(
        index, size, offline.leaf_hash(records[index]), kept.inclusion(index, size), kept.root(size)
    )
    offline.verify_consistency(first, size, kept.consistency(first, size), kept.root(first), kept.root(size))
    hasher = offline.TreeHasher()
    for record in records:
        hasher.add(offline.leaf_hash(record))
    assert hasher.root() == kept.root(len(records))


@given(trees, st.data())
def test_the_offline_verifier_refuses_a_proof_for_anything_else(
    records: list[bytes], data: st.DataObject
) -> None:
    records = [bytes([place]) + record for place, record in enumerate(records)]  # all different
    kept = Kept(records)
    size = len(records)
    index = data.draw(st.integers(0, size - 1))
    proof = kept.inclusion(index, size)
    with pytest.raises(offline.LedgerError):
        offline.verify_inclusion(index, size, offline.leaf_hash(b"other"), proof, kept.root(size))
    with pytest.raises(offline.LedgerError):
        offline.verify_inclusion(
            index, size, offline.leaf_hash(records[index]), [*proof, b"\x00" * 32], kept.root(size)
        )
    first = data.draw(st.integers(1, size))
    fork = Kept([b"forged", *records[1:]])
    with pytest.raises(offline.LedgerError):
        offline.verify_consistency(
            first, size, kept.consistency(first, size), fork.root(first), kept.root(size)
        )


def test_a_node_is_completed_once_and_only_when_its_last_leaf_comes() -> None:
    growth = merkle.grow(0, [], [merkle.leaf_hash(leaf) for leaf in LEAVES])
    assert [node for node, _ in growth.nodes] == [
        (1, 0), (1, 1), (2, 0), (1, 2), (1, 3), (2, 1), (3, 0),
    ]  # fmt: skip
