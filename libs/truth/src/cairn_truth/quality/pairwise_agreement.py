"""How often each two labelers agree, on how many items, and beyond chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from ..columns import Floats
from .answer_columns import read_columns


@dataclass(frozen=True, slots=True)
class PairwiseAgreement:
    """Each labeler with each other, all arrays ``(labelers, labelers)`` and symmetric.

    ``items``: on how many both answered. ``agreement``: on what share of them alike, nan where there is none. ``kappa``:
    Cohen's, nan also where both always gave one and the same class. The diagonal is a labeler with themself.
    """

    labelers: tuple[Any, ...]
    items: NDArray[np.int64]
    agreement: Floats
    kappa: Floats


def pairwise_agreement(item: ArrayLike, labeler: ArrayLike, value: ArrayLike) -> PairwiseAgreement:
    """Return how often each two labelers agree on the items that both answered.

    Cost: the pairs of answers on one item, and their classes times the pairs of labelers.
    """
    answers = read_columns(item, labeler, value, None, ordered=False)
    names = np.unique(np.asarray(labeler))
    count = names.size
    given = np.ones(answers.item.size)
    shape = (int(answers.item[-1]) + 1, count)
    who = sparse.csr_array((given, (answers.item, answers.labeler)), shape=shape)
    items = (who.T @ who).toarray()
    alike, chance = np.zeros((count, count)), np.zeros((count, count))
    for one in answers.domain:
        said = answers.x == one
        these = sparse.csr_array((given[said], (answers.item[said], answers.labeler[said])), shape=shape)
        alike += (these.T @ these).toarray()
        shared = (these.T @ who).toarray()
        chance += shared * shared.T
    with np.errstate(invalid="ignore", divide="ignore"):
        agreement, by_chance = alike / items, chance / items**2
        kappa = np.where(by_chance < 1.0, (agreement - by_chance) / (1.0 - by_chance), np.nan)
    return PairwiseAgreement(tuple(names.tolist()), np.rint(items).astype(np.int64), agreement, kappa)
