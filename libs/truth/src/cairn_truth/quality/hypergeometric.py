"""How many wrong labels a sample drawn without replacement holds: the law that plans and intervals rest on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..columns import Floats

Ints = NDArray[np.int64]

MOST_LABELS = 10**9
"""Of a lot: of a larger one the law, which is made of differences of logarithms, has fewer than five right digits."""

_BLOCK = 1 << 20
"""So many terms are summed at once: lots of every quality times all that may be found may not fit in memory."""


def exactly(seen: ArrayLike, lot: ArrayLike, wrong: ArrayLike, sample: int) -> Floats:
    """Return P(a sample of a lot with so many ``wrong`` ones holds ``seen`` of them); arguments broadcast."""
    found, size, bad = (np.asarray(a, dtype=np.int64) for a in (seen, lot, wrong))
    able = (found >= 0) & (found <= np.minimum(bad, sample)) & (sample - found <= size - bad)
    inside = np.where(able, bad, 0)
    ways = _log_ways(inside, np.where(able, found, 0))
    ways = ways + _log_ways(size - inside, np.where(able, sample - found, 0))
    return np.where(able, np.exp(ways - _log_ways(size, np.asarray(sample))), 0.0)


def at_most(errors: int, lot: int, wrong: ArrayLike, sample: int) -> Floats:
    """Return P(a sample holds at most so many of the ``wrong`` ones), of ``wrong``'s shape."""
    bad = np.asarray(wrong, dtype=np.int64)
    if not bad.ndim:
        return _sum_at_most(errors, lot, int(bad), sample)
    flat = bad.reshape(-1)
    total = np.zeros(flat.size)
    step = max(_BLOCK // max(flat.size, 1), 1)
    for start in range(0, min(errors, sample) + 1, step):
        seen = np.arange(start, min(start + step, errors + 1, sample + 1))
        total += exactly(seen[:, None], lot, flat, sample).sum(axis=0)
    return np.asarray(np.minimum(total, 1.0).reshape(bad.shape))


def _sum_at_most(errors: int, lot: int, bad: int, sample: int) -> Floats:
    """Do the same for one lot without a look at what cannot be: searches ask for it hundreds of times."""
    seen = np.arange(max(0, sample - (lot - bad)), min(errors, bad, sample) + 1)
    ways = _log_ways(bad, seen) + _log_ways(lot - bad, sample - seen)
    return np.asarray(min(float(np.exp(ways - _log_ways(lot, np.asarray(sample))).sum()), 1.0))


def smallest_sample(lot: int, wrong: int, errors: int, risk: float, least: int = 1) -> int:
    """Return the smallest sample, ``least`` or more, with at most ``risk`` of so few of the ``wrong`` ones.

    The whole lot where nothing smaller does.
    """
    low, high = min(max(errors + 1, least), lot), lot
    while low < high:
        middle = (low + high) // 2
        if float(at_most(errors, lot, wrong, middle)) <= risk:
            high = middle
        else:
            low = middle + 1
    return high


def _log_ways(n: Ints | int, k: Ints) -> Floats:
    return np.asarray(special.gammaln(n + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0))
