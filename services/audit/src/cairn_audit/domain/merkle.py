"""The Merkle tree of RFC 6962, section 2.1, over nodes that are kept once and for ever.

Only complete subtrees are kept: the node (level, place) covers the leaves [place << level, (place + 1) << level).
It never changes once its last leaf has come, so a tree of any earlier size can be rebuilt from the same nodes:
its root and its proofs need O(log n) of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NewType

Hash = NewType("Hash", bytes)
"""SHA-256, 32 bytes."""

EMPTY_ROOT = Hash(hashlib.sha256(b"").digest())
"""The root of a tree without leaves (RFC 6962, 2.1)."""


class NodeId(NamedTuple):
    """A complete subtree: 2**level leaves, the place-th such from the left, from 0. Level 0 is a leaf."""

    level: int
    place: int


class LeafRange(NamedTuple):
    """The leaves [start, end) that a proof's hash stands for."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Growth:
    """What new leaves add to a tree."""

    nodes: tuple[tuple[NodeId, Hash], ...]
    """Inner nodes (level 1 and up) that are complete now, in the order in which they became so."""
    size: int
    frontier: tuple[Hash, ...]
    """Hashes of the new size's `frontier_ids`."""


def leaf_hash(record: bytes) -> Hash:
    """The hash of a leaf: SHA-256 of 0x00 and the record."""
    return Hash(hashlib.sha256(b"\x00" + record).digest())


def node_hash(left: Hash, right: Hash) -> Hash:
    """The hash of an inner node: SHA-256 of 0x01 and both children."""
    return Hash(hashlib.sha256(b"\x01" + left + right).digest())


def grow(size: int, frontier: Sequence[Hash], leaves: Iterable[Hash]) -> Growth:
    """Append leaf hashes to a tree of `size` leaves whose `frontier_ids` have the hashes `frontier`."""
    if len(frontier) != size.bit_count():
        raise ValueError(
            f"a tree of {size} leaves has {size.bit_count()} frontier nodes, not {len(frontier)}"
        )
    stack = list(frontier)
    nodes: list[tuple[NodeId, Hash]] = []
    for leaf in leaves:
        hashed, level, place = leaf, 0, size
        while place & 1:  # the last leaf of a subtree completes it
            hashed = node_hash(stack.pop(), hashed)
            level, place = level + 1, place >> 1
            nodes.append((NodeId(level, place), hashed))
        stack.append(hashed)
        size += 1
    return Growth(tuple(nodes), size, tuple(stack))


def frontier_ids(size: int) -> tuple[NodeId, ...]:
    """The complete subtrees that make up a tree of this size, from the left: one for each bit of `size`."""
    return range_ids(LeafRange(0, size))


def range_ids(leaves: LeafRange) -> tuple[NodeId, ...]:
    """The complete subtrees that make up a range, from the left.

    The range must be a subtree of some tree (its start a multiple of the power of two that covers its length),
    as all ranges of this module are.
    """
    ids, start = [], leaves.start
    remaining = leaves.end - leaves.start
    while remaining:
        level = remaining.bit_length() - 1
        ids.append(NodeId(level, start >> level))
        start += 1 << level
        remaining -= 1 << level
    return tuple(ids)


def fold(frontier: Sequence[Hash]) -> Hash:
    """The hash over subtrees given from the left, by decreasing size; the empty root when there are none."""
    if not frontier:
        return EMPTY_ROOT
    *others, hashed = frontier
    for left in reversed(others):
        hashed = node_hash(left, hashed)
    return hashed


def hash_of(leaves: LeafRange, nodes: Mapping[NodeId, Hash]) -> Hash:
    """The Merkle tree hash of a range from the kept nodes; KeyError names a node that is missing."""
    return fold([nodes[node] for node in range_ids(leaves)])


def inclusion_ranges(index: int, size: int) -> tuple[LeafRange, ...]:
    """What the audit path of a leaf in a tree of `size` is made of, from the leaf up (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    ranges, low, high = [], 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            ranges.append(LeafRange(middle, high))
            high = middle
        else:
            ranges.append(LeafRange(low, middle))
            low = middle
    return tuple(reversed(ranges))


def consistency_ranges(first: int, second: int) -> tuple[LeafRange, ...]:
    """What the proof that a tree of `first` leaves begins one of `second` is made of (RFC 6962, 2.1.2).

    Nothing needs to be proved of an empty tree, nor of a tree and itself: the proof is empty.
    """
    if not 0 <= first <= second:
        raise ValueError(f"a tree of {first} leaves cannot be the beginning of one of {second}")
    if first == 0:
        return ()
    ranges, low, high, whole = [], 0, second, True
    while first != high:
        middle = low + _split(high - low)
        if first <= middle:
            ranges.append(LeafRange(middle, high))
            high = middle
        else:
            ranges.append(LeafRange(low, middle))
            low, whole = middle, False
    if not whole:
        ranges.append(LeafRange(low, high))
    return tuple(reversed(ranges))


def _split(length: int) -> int:
    """The largest power of two below `length`, where the RFC splits a tree."""
    return 1 << ((length - 1).bit_length() - 1)
