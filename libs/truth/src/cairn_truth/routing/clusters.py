"""What lies together and what lies apart among many embeddings: k-means and k-means++ in float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]
Ints = NDArray[np.int64]

_FITTED_ON = 20
"""Centres are fitted on so many points a cluster, drawn at random: more move them by less than their own noise."""

_LEAST_FITTED_ON = 5_000
_ROUNDS = 8
"""Lloyd's algorithm: the last rounds of a full run change few assignments, and a choice of items needs none of them."""

_BLOCK = 16_384
"""Points compared with all centres at a time, to bound memory."""


def distances(points: Embeddings, others: Embeddings) -> Embeddings:
    """Return the Euclidean distances ``(n, m)`` of points ``(n, d)`` and ``(m, d)``."""
    squared = _squares(points)[:, None] + _squares(others)[None, :] - 2.0 * points @ others.T
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def k_means(
    points: Embeddings, clusters: int, rng: np.random.Generator, weights: Embeddings | None = None
) -> tuple[Ints, Embeddings]:
    """Return the cluster of each point ``(n,)`` and the centres ``(clusters or fewer, d)`` (Lloyd 1982).

    Starts from k-means++ (Arthur & Vassilvitskii 2007), on a sample of the points. Of ``weights`` ``(n,)``, above 0, a
    point of 2 counts like two points. Fewer clusters than asked for come of fewer distinct points. Cost: ``n clusters d``.
    """
    points = points - points.mean(
        axis=0
    )  # distances are taken from squares: a large offset would eat their digits
    fitted = min(len(points), max(_FITTED_ON * clusters, _LEAST_FITTED_ON))
    drawn = np.sort(rng.choice(len(points), fitted, replace=False))
    sample, same = points[drawn], np.ones((fitted, 1), dtype=np.float32)
    weight = same[:, 0] if weights is None else weights[drawn].astype(np.float32)
    seeds = spread_out(min(clusters, fitted), rng, same, sample, None if weights is None else weight)
    centres = np.unique(sample[seeds], axis=0)
    for _ in range(_ROUNDS):
        nearest = _nearest(sample, centres)
        order = np.argsort(nearest, kind="stable")
        present, starts = np.unique(nearest[order], return_index=True)
        total = np.add.reduceat(weight[order], starts)
        summed = np.add.reduceat(sample[order] * weight[order, None], starts, axis=0)
        centres[present] = summed / total[:, None]
    return _nearest(points, centres), centres


def spread_out(
    count: int,
    rng: np.random.Generator,
    pull: Embeddings,
    points: Embeddings,
    weights: Embeddings | None = None,
) -> Ints:
    """Return ``count`` distinct rows by k-means++ over the products ``pull (x) points``, ``(n, c)`` and ``(n, d)``.

    The first is the longest product (if all of ``pull`` is alike, a point at random), each further one is drawn with
    probability proportional to its squared distance from the nearest drawn, times its weight of ``weights`` ``(n,)``.
    Rows that equal drawn ones come last, in random order. The products are never built; cost ``n (c + d)`` a row drawn.
    """
    length = _squares(pull) * _squares(points)
    first = int(length.argmax()) if np.ptp(pull) > 0 else _drawn(np.ones(len(points)), rng, weights)
    picked = [first]
    gap = np.full(len(points), np.inf)
    left = np.ones(len(points), dtype=np.bool_)
    for _ in range(count - 1):
        at = picked[-1]
        left[at] = False
        inner = (pull @ pull[at]) * (points @ points[at])
        gap = np.minimum(gap, np.maximum(length + length[at] - 2.0 * inner, 0.0))
        gap[~left] = 0.0
        # Below the rounding of float32 a distance is none.
        apart = np.where(gap > 1e-6 * length.max(), gap, 0.0)
        if not apart.any():
            rest = rng.permutation(np.flatnonzero(left))[: count - len(picked)]
            return np.array([*picked, *rest.tolist()], dtype=np.int64)
        picked.append(_drawn(apart, rng, weights))
    return np.array(picked, dtype=np.int64)


def _drawn(shares: NDArray[np.floating], rng: np.random.Generator, weights: Embeddings | None) -> int:
    """Return a row, drawn with probability proportional to its share times its weight."""
    upto = np.cumsum(shares if weights is None else shares * weights, dtype=np.float64)
    return int(np.searchsorted(upto[:-1], rng.random() * upto[-1], side="right"))


def _nearest(points: Embeddings, centres: Embeddings) -> Ints:
    half = _squares(centres) / 2.0
    found = [
        (points[start : start + _BLOCK] @ centres.T - half).argmax(axis=1)
        for start in range(0, len(points), _BLOCK)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _squares(points: Embeddings) -> Embeddings:
    return np.asarray(np.einsum("nd,nd->n", points, points))
