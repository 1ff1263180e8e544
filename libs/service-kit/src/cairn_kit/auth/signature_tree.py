"""One signature for many messages: it is made over the root of their Merkle tree, and each carries its way there.

A batch signature in the sense of Aguilar-Melchor et al., "Batch Signatures, Revisited" (CT-RSA 2024). Leaves and nodes
are hashed apart, as in RFC 6962, so that neither passes for the other. The two below a node are hashed in the order of
their values: then a way needs no turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

_LEAF, _NODE = b"\0", b"\1"
_DIGEST_BYTES = 32
MOST_LEAVES = 64
"""Of one tree: beyond, what is added to every message costs more than the signatures that it saves."""

_LONGEST_WAY = _DIGEST_BYTES * (MOST_LEAVES - 1).bit_length()


def tree_of(messages: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """The root of the tree of one to `MOST_LEAVES` messages, 32 bytes, and each message's way there."""
    levels = [[sha256(_LEAF + message).digest() for message in messages]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        above = [_node(one, other) for one, other in zip(below[::2], below[1::2], strict=False)]
        levels.append(above + below[2 * len(above) :])  # of an odd number the last goes up as it is
    [root] = levels[-1]
    ways = (
        [level[beside] for height, level in enumerate(levels) if (beside := leaf >> height ^ 1) < len(level)]
        for leaf in range(len(messages))
    )
    return root, [b"".join(way) for way in ways]


def root_of(message: bytes, way: bytes) -> bytes:
    """Where a message's way leads. Raises ValueError for what is none."""
    if len(way) % _DIGEST_BYTES or len(way) > _LONGEST_WAY:
        raise ValueError(f"{len(way)} bytes are no way to the root of a tree")
    root = sha256(_LEAF + message).digest()
    for start in range(0, len(way), _DIGEST_BYTES):
        root = _node(root, way[start : start + _DIGEST_BYTES])
    return root


def _node(one: bytes, other: bytes) -> bytes:
    low, high = (one, other) if one < other else (other, one)
    return sha256(_NODE + low + high).digest()
