"""Dirichlet distributions, as the variational methods use them: expected logarithms and divergences."""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, gammaln

from ..columns import Floats


def expected_log(concentration: Floats, *, axis: int = -1) -> Floats:
    """Return E[log p] for p ~ Dirichlet(``concentration``) along ``axis``, in the same shape."""
    return np.asarray(digamma(concentration) - digamma(concentration.sum(axis=axis, keepdims=True)))


def divergence(posterior: Floats, prior: Floats, *, axis: int = -1) -> float:
    """Return KL(Dirichlet(posterior) || Dirichlet(prior)) in nats, summed over all axes but ``axis``."""
    prior = np.broadcast_to(prior, posterior.shape)
    normalisers = gammaln(posterior.sum(axis=axis)) - gammaln(prior.sum(axis=axis))
    moved = (posterior - prior) * expected_log(posterior, axis=axis)
    return float(normalisers.sum() + (gammaln(prior) - gammaln(posterior) + moved).sum())
