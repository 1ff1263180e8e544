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
from scipy.sparse import csgraph

from ..classes.votes import Floats

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
    alike = similarity > least
    links = sparse.coo_matrix(
        (np.ones(int(alike.sum())), (left[alike], right[alike])), (owner.size, owner.size)
    )
    parts, part = csgraph.connected_components(links, directed=False)
    cluster = np.arange(owner.size)
    size = np.bincount(part, minlength=parts)
    if int(size.max(initial=0)) > 1:
        members = np.split(np.argsort(part, kind="stable"), np.cumsum(size)[:-1])
        told = np.argsort(part[left], kind="stable")
        inside = told[(part[left] == part[right])[told]]
        count = np.bincount(part[left[inside]], minlength=parts)
        pairs = np.split(inside, np.cumsum(count)[:-1])
        for objects, pair in zip(members, pairs, strict=True):
            if objects.size > 1:
                gain = np.full((objects.size, objects.size), -least)
                one, other = np.searchsorted(objects, left[pair]), np.searchsorted(objects, right[pair])
                gain[one, other] = gain[other, one] = similarity[pair] - least
                cluster[objects] = objects[_clustered(gain, owner[objects])]
    first, numbered = np.unique(cluster, return_inverse=True)
    lowest = np.full(first.size, owner.size)
    np.minimum.at(lowest, numbered, np.arange(owner.size))
    return np.argsort(np.argsort(lowest))[numbered]


def _clustered(gain: Floats, owner: Ints) -> Ints:
    """Return the cluster of each of a few objects, by the number of one of its members; ``gain (m, m)`` of pairs."""
    owners, count = np.unique(owner, return_counts=True)
    apart = gain + np.where(owner[:, None] == owner[None, :], np.inf, 0.0)
    if count.max() == 1 and float(apart.min()) > 0.0:
        return np.zeros(owner.size, dtype=np.int64)
    lists = [np.flatnonzero(owner == who) for who in owners]
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
    while True:
        names = np.unique(cluster)
        member = (cluster[:, None] == names[None, :]).astype(np.float64)
        by_owner = (owner[:, None] == np.unique(owner)[None, :]).astype(np.float64)
        has = member.T @ by_owner
        worth = member.T @ gain @ member
        worth[(has @ has.T) > 0.0] = -np.inf
        one, other = np.unravel_index(int(worth.argmax()), worth.shape)
        if worth[one, other] <= 1e-12:
            return
        cluster[cluster == names[other]] = names[one]
        _renumber(cluster)


def _renumber(cluster: Ints) -> None:
    """Name each cluster by its first member, so that names never collide and equal partitions are equal arrays."""
    inside = np.flatnonzero(cluster >= 0)
    _, first, place = np.unique(cluster[inside], return_index=True, return_inverse=True)
    cluster[inside] = inside[first][place]
