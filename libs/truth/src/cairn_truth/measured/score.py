"""Every method for classes on a recorded crowd: how often right, how well calibrated, how fast, with how much memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..classes.blocks import BlockDawidSkene
from ..classes.bwa import BWA
from ..classes.dawid_skene import DawidSkene, MajorityVote
from ..classes.ebcc import EBCC
from ..classes.glad import GLAD
from ..classes.hierarchical import HierarchicalDawidSkene
from ..classes.ibcc import IBCC
from ..classes.mace import MACE
from ..classes.one_coin import OneCoinDawidSkene
from ..classes.votes import Votes
from ..classes.weighted_votes import Wawa, ZeroBasedSkill
from ..columns import Floats
from ..routing.calibration import expected_calibration_error
from .kinds import CLASSES
from .replay import Recorded

T = TypeVar("T")

DEFAULT = BlockDawidSkene.__name__

METHODS: Mapping[str, Callable[[Votes], Floats]] = {
    DEFAULT: lambda votes: BlockDawidSkene().fit(votes).posterior,
    "HierarchicalDawidSkene": lambda votes: HierarchicalDawidSkene().fit(votes).posterior,
    "MajorityVote": lambda votes: MajorityVote().fit(votes).posterior,
    "Wawa": lambda votes: Wawa().fit(votes).posterior,
    "ZeroBasedSkill": lambda votes: ZeroBasedSkill().fit(votes).posterior,
    "DawidSkene": lambda votes: DawidSkene().fit(votes).posterior,
    "OneCoinDawidSkene": lambda votes: OneCoinDawidSkene().fit(votes).posterior,
    "IBCC": lambda votes: IBCC().fit(votes).posterior,
    "GLAD": lambda votes: GLAD().fit(votes).posterior,
    "MACE": lambda votes: MACE().fit(votes).posterior,
    "EBCC": lambda votes: EBCC().fit(votes).posterior,
    "BWA": lambda votes: BWA().fit(votes).posterior,
}
"""Every method with its defaults, by its paper's name: votes to posterior. Ours first."""


@dataclass(frozen=True, slots=True)
class Score:
    """How a method did on a crowd.

    ``measures`` by name, the main one first; ``seconds`` of the fit; ``peak_mb`` (10^6 bytes) the fit held at most
    beyond the answers, None where nobody asked.
    """

    kind: str
    method: str
    default: bool
    measures: Mapping[str, float]
    seconds: float
    peak_mb: float | None = None


def score(recorded: Recorded, *, memory: bool = False) -> Iterator[Score]:
    """Fit every method to a recorded crowd of classes and judge it by the truth, the default first.

    ``accuracy``, ``macro_f1`` and ``ece`` (expected calibration error) are over items with votes and a truth; a tie is
    the lower class's. With ``memory`` each fit is done again under `tracemalloc`, after the one that is timed.
    """
    for method, posterior_of in METHODS.items():
        fit = partial(posterior_of, recorded.votes)
        fitted = timed(fit)
        judged = np.flatnonzero((recorded.truth >= 0) & (recorded.votes.per_item() > 0))
        truth, label = recorded.truth[judged], fitted.found[judged].argmax(axis=1)
        # A posterior may be above 1 by a rounding.
        sure = np.minimum(fitted.found[judged].max(axis=1), 1.0)
        measures = {
            "accuracy": float((label == truth).mean()) if judged.size else 0.0,
            "macro_f1": macro_f1(label, truth),
            "ece": expected_calibration_error(sure, label == truth),
        }
        yield Score(
            CLASSES, method, method == DEFAULT, measures, fitted.seconds, peak_mb(fit) if memory else None
        )


def macro_f1(label: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean over classes of the harmonic mean of precision and recall.

    ``label`` and ``truth`` ``(n,)``; the classes are those found in either. Nothing to judge gives 0.
    """
    given: NDArray[np.int64] = np.asarray(label, dtype=np.int64)
    right: NDArray[np.int64] = np.asarray(truth, dtype=np.int64)
    classes = np.union1d(given, right)
    f1 = [
        2.0 * ((given == c) & (right == c)).sum() / ((given == c).sum() + (right == c).sum()) for c in classes
    ]
    return float(np.mean(f1)) if f1 else 0.0


@dataclass(frozen=True, slots=True)
class Fitted(Generic[T]):
    """What a fit found, and the ``seconds`` it took."""

    found: T
    seconds: float


def timed(fit: Callable[[], T]) -> Fitted[T]:
    """Run a fit by the clock."""
    started = time.perf_counter()
    found = fit()
    return Fitted(found, time.perf_counter() - started)


def peak_mb(fit: Callable[[], object]) -> float:
    """Run a fit under `tracemalloc`, which slows what is no array sum several times; return the most it held, in 10^6
    bytes.
    """
    started_here = not tracemalloc.is_tracing()
    if started_here:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        fit()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        if started_here:
            tracemalloc.stop()
    return (peak - before) / 1e6
