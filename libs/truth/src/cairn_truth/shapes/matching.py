"""Which objects of several labelers are the same object: a matching of all labelers at once.

Objects are put into clusters, at most one object of a labeler in each, so that the sum over pairs in a cluster of
``similarity - least`` is as large as can be found: correlation clustering (Bansal, Blum & Chawla 2004) with one object
a labeler. One labeler after the other is taken out and put back in the best way there is, which is an assignment
problem solved exactly (Crouse 2016, by SciPy), until nothing moves; so a greedy first choice can be taken back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from ..columns import Floats

Ints = NDArray[np.int64]

_ROUNDS = 20
"""Rounds over all labelers at most; two or three are usual, and each may only gain."""

_CHUNK = 1 << 22
"""Pairs looked at at once, so that a wall of boxes does not fill the memory."""


def assigned(similarity: Floats, least: float) -> tuple[Ints, Ints]:
    """Return rows and columns of the best one-to-one pairing of two lists ``(rows, columns)``.

    Best is the largest sum of ``similarity - least``; pairs that do not add to it stay apart.
    """
    gain = np.maximum(similarity - least, 0.0)
    if not gain.any():
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    rows, columns = optimize.linear_sum_assignment(gain, maximize=True)
    kept = gain[rows, columns] > 0.0
    return rows[kept].astype(np.int64), columns[kept].astype(np.int64)


def overlapping(bounds: Floats, owner: Ints, group: Ints) -> tuple[Ints, Ints]:
    """Return the pairs of objects of one group and different owners whose bounds meet, as two columns.

    ``bounds (n, 4)`` x0, y0, x1, y1; ``owner``, ``group`` ``(n,)``, the item of each. A sweep over x; cost n log n
    plus the pairs that meet in x.
    """
    _, rank = np.unique(bounds[:, [0, 2]], return_inverse=True)
    begin, end = (group[:, None] * (2 * owner.size) + rank.reshape(-1, 2)).T
    order = np.argsort(begin, kind="stable")
    ends = np.searchsorted(begin[order], end[order], side="right")
    following = np.maximum(ends - np.arange(owner.size) - 1, 0)
    found: list[tuple[Ints, Ints]] = []
    start = 0
    total = np.cumsum(following)
    while start < owner.size:
        done = int(total[start - 1]) if start else 0
        stop = max(int(np.searchsorted(total, done + _CHUNK, side="right")), start + 1)
        count = following[start:stop]
        first = np.repeat(np.arange(start, stop), count)
        offset = np.arange(first.size) - np.repeat(np.cumsum(count) - count, count)
        one, other = order[first], order[first + 1 + offset]
        meet = (
            (owner[one] != owner[other])
            & (bounds[one, 1] <= bounds[other, 3])
            & (bounds[other, 1] <= bounds[one, 3])
        )
        found.append((one[meet], other[meet]))
        start = stop
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    one, other = (np.concatenate(column) for column in zip(*found, strict=True))
    low, high = np.minimum(one, other), np.maximum(one, other)
    by_place = np.lexsort((high, low))
    return low[by_place], high[by_place]


def matched(owner: Ints, left: Ints, right: Ints, similarity: Floats, least: float) -> Ints:
    """Return the cluster ``(n,)`` of each object, numbered from 0 by first member.

    ``owner (n,)`` is the labeler of each object; ``left``, ``right`` and ``similarity`` ``(pairs,)`` tell how alike
    two objects of different owners are (each pair once; 0 where it is not told), and ``least`` the similarity above
    which two are rather one object than two.
    """
    alike = np.flatnonzero(similarity > least)
    part = _connected(owner.size, left[alike], right[alike])
    cluster = part.copy()
    size, links = np.bincount(part), np.bincount(part[left[alike]], minlength=owner.size)
    # Where all are like all, no two are of one owner, and there is nothing to decide.
    open_parts = np.flatnonzero(links[: size.size] < size * (size - 1) // 2)
    if open_parts.size:
        inside = np.flatnonzero(part[left] == part[right])
        inside = inside[np.argsort(part[left[inside]], kind="stable")]
        begin, end = (np.searchsorted(part[left[inside]], open_parts, side=s) for s in ("left", "right"))
        by_part = np.argsort(part, kind="stable")
        low, high = (np.searchsorted(part[by_part], open_parts, side=s) for s in ("left", "right"))
        for k in range(open_parts.size):
            objects, pair = by_part[low[k] : high[k]], inside[begin[k] : end[k]]
            gain = np.full((objects.size, objects.size), -least)
            one, other = np.searchsorted(objects, left[pair]), np.searchsorted(objects, right[pair])
            gain[one, other] = gain[other, one] = similarity[pair] - least
            cluster[objects] = objects[_clustered(gain, owner[objects])]
    _renumber(cluster)  # named by first members, and so in their order
    return np.unique(cluster, return_inverse=True)[1]


def _connected(size: int, left: Ints, right: Ints) -> Ints:
    """Return the first object ``(size,)`` of the connected part that each is in."""
    links = sparse.coo_array((np.ones(left.size, dtype=np.int8), (left, right)), shape=(size, size))
    parts, part = sparse.csgraph.connected_components(links, directed=False)
    first = np.full(parts, size, dtype=np.int64)
    np.minimum.at(first, part, np.arange(size))
    return np.asarray(first[part], dtype=np.int64)


def _clustered(gain: Floats, owner: Ints) -> Ints:
    """Return the cluster of each of a few objects, by the number of one of its members; ``gain (m, m)`` of pairs."""
    lists = [np.flatnonzero(owner == who) for who in np.unique(owner)]
    agreeing = np.array([float(np.maximum(np.delete(gain[mine], mine, axis=1), 0.0).sum()) for mine in lists])
    cluster = np.full(owner.size, -1, dtype=np.int64)
    for place in np.argsort(-agreeing, kind="stable"):  # who agrees most with everybody lays the ground
        _put(lists[place], cluster, gain)
    for _ in range(_ROUNDS):
        before = cluster.copy()
        for mine in lists:
            _put(mine, cluster, gain)
        _merge(cluster, gain, owner)
        if np.array_equal(before, cluster):
            break
    return cluster


def _put(mine: Ints, cluster: Ints, gain: Floats) -> None:
    """Put one labeler's objects into the clusters of the others' in the best way; those left over are their own.

    They stay where they are unless another way is better.
    """
    was = cluster[mine].copy()
    cluster[mine] = -1
    inside = np.flatnonzero(cluster >= 0)
    names, first, place = np.unique(cluster[inside], return_index=True, return_inverse=True)
    heads = inside[first]  # a name that is nobody's of mine, so that mine may take their own
    cluster[inside] = heads[place]
    cluster[mine] = mine
    if heads.size == 0:
        return
    worth = gain[mine] @ (cluster[:, None] == heads[None, :]).astype(np.float64)
    rows, columns = assigned(worth, 0.0)
    kept = np.flatnonzero(np.isin(was, names))
    back = np.searchsorted(names, was[kept])
    if (was >= 0).all() and float(worth[kept, back].sum()) >= float(worth[rows, columns].sum()) - 1e-12:
        rows, columns = kept, back
    cluster[mine[rows]] = heads[columns]
    _renumber(cluster)


def _merge(cluster: Ints, gain: Floats, owner: Ints) -> None:
    """Merge the two clusters without a labeler in common that gain most by it, as long as any gain."""
    names, place = np.unique(cluster, return_inverse=True)
    member = (place[:, None] == np.arange(names.size)).astype(np.float64)
    has = member.T @ (owner[:, None] == np.unique(owner)[None, :])
    worth = member.T @ gain @ member
    worth[(has @ has.T) > 0.0] = -np.inf
    best = worth.max(axis=1)
    while True:
        one = int(best.argmax())
        if best[one] <= 1e-12:
            break
        other = int(worth[one].argmax())
        # What has a labeler in common with either has one with both: minus infinity stays.
        worth[one] += worth[other]
        worth[:, one] = worth[one]
        worth[other], worth[:, other] = -np.inf, -np.inf
        place[place == other] = one
        best = worth.max(axis=1)
    cluster[:] = place
    _renumber(cluster)


def _renumber(cluster: Ints) -> None:
    """Name each cluster by its first member, so that names never collide and equal partitions are equal arrays."""
    inside = np.flatnonzero(cluster >= 0)
    _, first, place = np.unique(cluster[inside], return_index=True, return_inverse=True)
    cluster[inside] = inside[first][place]
