"""Crowds at the edges, with truth known: the default stays with majority vote where nothing can be learnt, and is quick.

Where ties are, each of the tied classes counts for its share.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from cairn_truth import BlockDawidSkene, MajorityVote, Votes

SEEDS = 6
CROWDS: dict[str, dict[str, Any]] = {
    "rich": {},
    "sparse": {"labelers": 200, "each": 3},
    "long tail": {"labelers": 100, "zipf": 1.5},
    "spammers, a third": {"spam": 0.3},
    "spammers, most": {"labelers": 40, "spam": 0.6},
    "four colluders of thirty": {"colluders": 4},
    "adversaries, a fifth": {"adversaries": 0.2},
    "adversaries, two classes": {"adversaries": 0.2, "classes": 2, "low": 0.7},
    "two classes": {"classes": 2},
    "ten classes": {"classes": 10},
    "as many classes as have confusions": {"classes": 64, "items": 150},
    "one class too many for confusions": {"classes": 65, "items": 150},
    "a thousand classes": {"classes": 1000, "items": 150},
    "one answer an item": {"each": 1},
    "one labeler": {"labelers": 1, "each": 1},
    "one item": {"items": 1, "labelers": 20, "each": 20},
    "one class": {"classes": 1},
}


def draw(
    seed: int,
    *,
    items: int = 300,
    classes: int = 3,
    labelers: int = 30,
    each: int = 5,
    low: float = 0.55,
    zipf: float = 0.0,
    spam: float = 0.0,
    adversaries: float = 0.0,
    colluders: int = 0,
) -> tuple[Votes, Any]:
    """Return votes and truth ``(items,)``: labelers right ``low`` to 95 % of the time, but for those who do not try.

    ``zipf``: the k-th labeler comes k to the minus this as often as the first. Spammers press one key, or any;
    adversaries say what is wrong nine times of ten; colluders say what their first says, right 60 % of the time.
    """
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, classes, items)
    often = chance.permutation(np.arange(1, labelers + 1.0) ** -zipf)
    drawn = np.log(often) + chance.gumbel(size=(items, labelers))
    labeler = np.argsort(-drawn, axis=1)[:, :each].ravel()
    item = np.repeat(np.arange(items), min(each, labelers))
    shift = chance.integers(1, max(classes, 2), item.size)
    wrong = (truth[item] + shift) % classes
    right = chance.random(item.size) < chance.uniform(low, 0.95, labelers)[labeler]
    said = np.where(right, truth[item], wrong)
    key = np.where(labeler % 2 == 0, labeler % classes, chance.integers(0, classes, item.size))
    said = np.where(labeler < round(spam * labelers), key, said)
    hostile = labeler >= labelers - round(adversaries * labelers)
    said = np.where(hostile & (chance.random(item.size) < 0.9), wrong, said)
    lead = np.where(chance.random(items) < 0.6, truth, (truth + 1) % classes)
    said = np.where(labeler < colluders, lead[item], said)
    return Votes.of(item, labeler, said, classes=classes, items=items, labelers=labelers), truth


def accuracy(posterior: Any, truth: Any) -> float:
    tied = posterior >= posterior.max(axis=1, keepdims=True) - 1e-9
    return float((tied[np.arange(truth.size), truth] / tied.sum(axis=1)).mean())


@pytest.mark.parametrize("kind", CROWDS)
def test_the_default_is_not_below_majority_by_more_than_half_a_point_and_takes_no_time(kind: str) -> None:
    gained, seconds = [], []
    for seed in range(SEEDS):
        votes, truth = draw(seed, **CROWDS[kind])
        start = time.process_time()
        posterior = BlockDawidSkene().fit(votes).posterior
        seconds.append(time.process_time() - start)
        assert posterior.sum(axis=1) == pytest.approx(1.0)
        gained.append(accuracy(posterior, truth) - accuracy(MajorityVote().fit(votes).posterior, truth))
    assert np.mean(gained) >= -0.005
    assert np.median(seconds) < 2.0


@pytest.mark.parametrize("kind", ["spammers, a third", "adversaries, a fifth", "spammers, most"])
def test_it_gains_several_points_where_some_do_not_try(kind: str) -> None:
    gained = []
    for seed in range(SEEDS):
        votes, truth = draw(seed, **CROWDS[kind])
        one, other = (model.fit(votes).posterior for model in (BlockDawidSkene(), MajorityVote()))
        gained.append(accuracy(one, truth) - accuracy(other, truth))
    assert np.mean(gained) > 0.04
