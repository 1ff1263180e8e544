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


def k_means(points: Embeddings, clusters: int, rng: np.random.Generator) -> tuple[Ints, Embeddings]:
    """Return the cluster of each point ``(n,)`` and the centres ``(clusters or fewer, d)`` (Lloyd 1982).

    Starts from k-means++ (Arthur & Vassilvitskii 2007), on a sample of the points. Fewer clusters than asked for come
    of fewer distinct points. Cost: ``n clusters d``.
    """
    points = points - points.mean(
        axis=0
    )  # distances are taken from squares: a large offset would eat their digits
    fitted = min(len(points), max(_FITTED_ON * clusters, _LEAST_FITTED_ON))
    sample = points[np.sort(rng.choice(len(points), fitted, replace=False))]
    seeds = spread_out(min(clusters, fitted), rng, np.ones((fitted, 1), dtype=np.float32), sample)
    centres = np.unique(sample[seeds], axis=0)
    for _ in range(_ROUNDS):
        nearest = _nearest(sample, centres)
        order = np.argsort(nearest, kind="stable")
        present, starts, sizes = np.unique(nearest[order], return_index=True, return_counts=True)
        centres[present] = np.add.reduceat(sample[order], starts, axis=0) / sizes[:, None].astype(np.float32)
    return _nearest(points, centres), centres


def spread_out(count: int, rng: np.random.Generator, pull: Embeddings, points: Embeddings) -> Ints:
    """Return ``count`` distinct rows by k-means++ over the products ``pull (x) points``, ``(n, c)`` and ``(n, d)``.

    The first is the longest product (the first point at random if all are of one length), each further one is drawn with
    probability proportional to its squared distance from the nearest drawn. Rows that equal drawn ones come last, in
    random order. The products are never built; cost ``n (c + d)`` a row drawn.
    """
    length = _squares(pull) * _squares(points)
    first = int(length.argmax()) if np.ptp(pull) > 0 else int(rng.integers(len(points)))
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
        weight = np.cumsum(np.where(gap > 1e-6 * length.max(), gap, 0.0), dtype=np.float64)
        if weight[-1] <= 0.0:
            rest = rng.permutation(np.flatnonzero(left))[: count - len(picked)]
            return np.array([*picked, *rest.tolist()], dtype=np.int64)
        draw = rng.random() * weight[-1]
        picked.append(int(np.searchsorted(weight[:-1], draw, side="right")))
    return np.array(picked, dtype=np.int64)


def _nearest(points: Embeddings, centres: Embeddings) -> Ints:
    half = _squares(centres) / 2.0
    found = [
        (points[start : start + _BLOCK] @ centres.T - half).argmax(axis=1)
        for start in range(0, len(points), _BLOCK)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _squares(points: Embeddings) -> Embeddings:
    return np.asarray(np.einsum("nd,nd->n", points, points))
