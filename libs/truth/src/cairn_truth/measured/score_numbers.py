"""Numbers on recorded crowds: the default beside the plain mean, the median and two published methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..columns import Floats
from ..values.number_readings import item_medians
from ..values.numbers import ALGORITHM, LiveNumbers

KIND = "numbers"
DEFAULT = ALGORITHM

Answers = Mapping[str, Mapping[str, float]]
"""Item to labeler to answer."""

_ROUNDS = 50
_LEAST_VARIANCE = 1e-6
"""In units of the crowd's: a labeler who is always at the estimate would else be all that is heard."""

_CATD_LEVEL = 0.05


def read(label: str) -> float:
    """Return the number that a cell of a table holds. Raises ValueError naming the cell."""
    try:
        value = float(label)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ValueError(f"label is {label!r}; expected a finite number")
    return value


def congeneric(answers: Answers) -> dict[str, float]:
    """Return values by the default."""
    return {item: found.value for item, found in LiveNumbers().fit(answers).items()}


def mean(answers: Answers) -> dict[str, float]:
    """Return plain means."""
    return {item: float(np.mean(list(votes.values()))) for item, votes in answers.items()}


def median(answers: Answers) -> dict[str, float]:
    """Return medians."""
    return {item: float(np.median(list(votes.values()))) for item, votes in answers.items()}


def lfc_n(answers: Answers) -> dict[str, float]:
    """Return precision-weighted means, each labeler's precision by maximum likelihood (Raykar et al. 2010, 5.1)."""

    def weights(square: Floats, count: Floats) -> Floats:
        least = _LEAST_VARIANCE * float(square.sum() / count.sum())
        return 1.0 / np.maximum(square / count, least or 1.0)

    return _weighted(answers, weights)


def catd(answers: Answers) -> dict[str, float]:
    """Return means weighted by the upper bound of each labeler's precision (CATD, Li et al. 2014, eq. 5)."""

    def weights(square: Floats, count: Floats) -> Floats:
        least = _LEAST_VARIANCE * float(square.sum() / count.sum())
        bound = special.chdtri(count, 1.0 - _CATD_LEVEL / 2.0)
        return np.asarray(bound / np.maximum(square, (least or 1.0) * count))

    return _weighted(answers, weights, start=item_medians)


METHODS: Mapping[str, Callable[[Answers], Mapping[str, float]]] = {
    DEFAULT: congeneric,
    "Mean": mean,
    "Median": median,
    "LFC-N": lfc_n,
    "CATD": catd,
}
"""Every method by its paper's name: items' answers to items' values. Ours first."""


def judge(values: Mapping[str, float], truths: Mapping[str, float]) -> dict[str, float]:
    """Return how far values are from the truth: ``rmse``, ``mae``, ``correlation`` (0 where either is constant).

    Over items that have both. Raises ValueError where there are none.
    """
    both = sorted(values.keys() & truths.keys())
    if not both:
        raise ValueError("no item has a value and a truth; expected one or more")
    value, truth = (np.array([found[item] for item in both]) for found in (values, truths))
    error = value - truth
    alike = float(np.corrcoef(value, truth)[0, 1]) if value.std() > 0.0 and truth.std() > 0.0 else 0.0
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "correlation": alike,
    }


def _means(item: NDArray[np.int64], answer: Floats, items: int) -> Floats:
    return np.asarray(np.bincount(item, weights=answer, minlength=items) / np.bincount(item, minlength=items))


def _weighted(
    answers: Answers,
    weights: Callable[[Floats, Floats], Floats],
    start: Callable[[NDArray[np.int64], Floats, int], Floats] = _means,
) -> dict[str, float]:
    """Return means in which a labeler weighs what ``weights`` makes of their squared errors' sum and their count."""
    names = sorted(answers)
    place = {who: row for row, who in enumerate(sorted({who for votes in answers.values() for who in votes}))}
    rows = [
        (i, place[who], answers[name][who]) for i, name in enumerate(names) for who in sorted(answers[name])
    ]
    item, labeler = (np.array([row[part] for row in rows], dtype=np.int64) for part in (0, 1))
    answer = np.array([row[2] for row in rows])
    count = np.bincount(labeler).astype(np.float64)
    value = start(item, answer, len(names))
    for _ in range(_ROUNDS):
        square = np.asarray(np.bincount(labeler, weights=(answer - value[item]) ** 2), dtype=np.float64)
        weight = weights(square, count)[labeler]
        value = np.bincount(item, weights=weight * answer) / np.bincount(item, weights=weight)
    return dict(zip(names, value.tolist(), strict=True))
