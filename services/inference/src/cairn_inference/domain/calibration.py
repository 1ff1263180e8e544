"""Making a model's probabilities honest, and saying how honest they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_COLDEST, _HOTTEST = 0.05, 20.0
_SMALLEST = 1e-7


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a model did on labels it had not seen; `log_loss` in nats, `calibration_error` over ten bins."""

    accuracy: float
    log_loss: float
    calibration_error: float
    labels: int
    temperature: float


def fit_temperature(logits: Floats, truth: Ints, weights: Floats) -> float:
    """The temperature ``T`` that makes ``softmax(logits / T)`` most probable (Guo et al., ICML 2017).

    ``logits`` ``(n, classes)``, ``truth`` ``(n,)`` class indices, ``weights`` ``(n,)``. One number, so that
    fitting it on the very predictions it is then used on overstates nothing measurable.
    """

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature))
        return float(-(weights * scaled[np.arange(truth.size), truth]).sum() / weights.sum())

    return float(np.exp(_lowest(loss, math.log(_COLDEST), math.log(_HOTTEST))))


def _lowest(loss: Callable[[float], float], low: float, high: float, within: float = 1e-4) -> float:
    """Where a function of one valley is lowest, by golden-section search (Kiefer 1953)."""
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > within:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = loss(right)
    return (low + high) / 2.0


def log_softmax(logits: Floats) -> Floats:
    """Logarithms of the softmax over the last axis, without overflow."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def evaluate(probabilities: Floats, truth: Ints, weights: Floats, temperature: float = 1.0) -> Evaluation:
    """Judge ``probabilities`` ``(n, classes)`` against ``truth`` ``(n,)``, each label by its weight."""
    share = weights / weights.sum()
    rows = np.arange(truth.size)
    right = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    given = np.clip(probabilities[rows, truth], _SMALLEST, 1.0)
    return Evaluation(
        accuracy=float((share * right).sum()),
        log_loss=float(-(share * np.log(given)).sum()),
        calibration_error=_calibration_error(probabilities.max(axis=1), right, share),
        labels=int(truth.size),
        temperature=temperature,
    )


def _calibration_error(confidence: Floats, right: Floats, share: Floats, bins: int = 10) -> float:
    """Expected gap between confidence and accuracy over equal-width bins (Naeini et al., AAAI 2015)."""
    bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(bin_of, weights=share * (confidence - right), minlength=bins)
    return float(np.abs(gap).sum())


def is_better(candidate: Floats, serving: Floats, truth: Ints, weights: Floats, *, margin: float) -> bool:
    """Whether the candidate's log loss is below the serving model's by at least a share `margin` of it.

    Both have judged the same items, unseen: ``(n, classes)`` each. Every promotion costs a validation round,
    and so a part of delta; a difference smaller than the margin is not worth it.
    """
    new, old = evaluate(candidate, truth, weights), evaluate(serving, truth, weights)
    return new.log_loss < (1.0 - margin) * old.log_loss
