"""Crowds whose truth and reliabilities are known, because we made them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from cairn_truth import Votes


@dataclass(frozen=True)
class Crowd:
    """Simulated votes with what they were drawn from: ``confusion`` (labelers, truth, answer)."""

    votes: Votes
    truth: NDArray[np.int64]
    confusion: NDArray[np.float64]


def make_crowd(
    *,
    items: int = 600,
    labelers: int = 30,
    classes: int = 3,
    each: int = 5,
    low: float = 0.55,
    high: float = 0.95,
    seed: int = 0,
) -> Crowd:
    """Draw a crowd that does what the model says: independent answers given the truth."""
    chance = np.random.default_rng(seed)
    truth = chance.choice(classes, size=items, p=_prior(classes))
    accuracy = np.linspace(low, high, labelers)
    confusion = np.repeat(((1 - accuracy) / max(classes - 1, 1))[:, None, None], classes, axis=1)
    confusion = np.repeat(confusion, classes, axis=2)
    confusion[:, np.arange(classes), np.arange(classes)] = accuracy[:, None]
    item = np.repeat(np.arange(items), each)
    labeler = np.concatenate([chance.choice(labelers, each, replace=False) for _ in range(items)])
    limits = confusion[labeler, truth[item]].cumsum(axis=1)
    choice = (chance.random(item.size)[:, None] > limits).sum(axis=1).clip(0, classes - 1)
    votes = Votes.of(item, labeler, choice, classes=classes, items=items, labelers=labelers)
    return Crowd(votes, truth, confusion)


@pytest.fixture(scope="session")
def crowd() -> Crowd:
    return make_crowd()


@pytest.fixture(scope="session")
def sparse_crowd() -> Crowd:
    """Each labeler answers a handful of items: where plain Dawid-Skene falls below majority vote."""
    return make_crowd(items=300, labelers=250, classes=10, each=3, low=0.6, high=0.9, seed=4)


def _prior(classes: int) -> NDArray[np.float64]:
    weight = np.arange(1, classes + 1, dtype=np.float64)
    return np.asarray(weight / weight.sum())
