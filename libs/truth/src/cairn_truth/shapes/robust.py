"""Where several who may slip put one point: the centre of Student distributions, for many points at once."""

from __future__ import annotations

import numpy as np

from ..columns import Floats

_FREEDOM = 4.0
"""Degrees of freedom: six spreads off weighs an eighth of a good answer."""

_ROUNDS = 10


def student_mean(given: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """Return the centres ``(..., d)`` of what ``(..., n, d)`` was given, and the shares ``(..., n, d)`` in them.

    Each coordinate is apart. ``precision``, which broadcasts to ``given``, is one over the squared scale of each, 0
    for what was not given. Weighted least squares from the weighted median, weights by distance (Lange, Little &
    Taylor 1989).
    """
    precision = np.broadcast_to(precision, given.shape)
    centre = weighted_median(given, precision)
    share = np.zeros_like(given)
    for _ in range(_ROUNDS):
        square = np.square(given - centre[..., None, :]) * precision
        weight = precision * (_FREEDOM + 1.0) / (_FREEDOM + square)
        share = weight / np.maximum(weight.sum(axis=-2, keepdims=True), np.finfo(float).tiny)
        centre = (share * given).sum(axis=-2)
    return centre, share


def weighted_median(given: Floats, weight: Floats) -> Floats:
    """Return the weighted median ``(..., d)`` of ``(..., n, d)``, half way between two where the weights are even."""
    order = np.argsort(given, axis=-2, kind="stable")
    ordered = np.take_along_axis(given, order, axis=-2)
    upto = np.cumsum(np.take_along_axis(weight, order, axis=-2), axis=-2)
    half = upto[..., -1:, :] / 2.0
    low = (upto < half * (1.0 - 1e-9)).sum(axis=-2, keepdims=True)
    high = (upto <= half * (1.0 + 1e-9)).sum(axis=-2, keepdims=True)
    pick = np.minimum(np.concatenate([low, high], axis=-2), given.shape[-2] - 1)
    return np.asarray(np.take_along_axis(ordered, pick, axis=-2).mean(axis=-2))
