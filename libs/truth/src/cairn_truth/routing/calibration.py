"""Does a confidence mean what it says?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def expected_calibration_error(confidence: ArrayLike, right: ArrayLike, *, bins: int = 10) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins (Naeini et al., AAAI 2015).

    ``confidence`` ``(n,)`` in 0..1, ``right`` ``(n,)`` whether the answer was. Nothing to judge gives 0.
    """
    stated = np.asarray(confidence, dtype=np.float64)
    correct = np.asarray(right, dtype=np.float64)
    if stated.shape != correct.shape or stated.ndim != 1:
        raise ValueError(
            f"confidence has shape {stated.shape} and right {correct.shape}; expected one length"
        )
    if stated.size == 0:
        return 0.0
    place = np.minimum((stated * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=stated - correct, minlength=bins)
    return float(np.abs(gap).sum() / stated.size)
