"""The worst labels come first, whatever is known of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cairn_truth import HierarchicalDawidSkene, Votes
from cairn_truth.__main__ import read_folder
from cairn_truth.quality.answer_times import AnswerTimes
from cairn_truth.quality.suspicion import confident_joint, label_errors, suspicion, tempered

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))


def _model(
    truth: NDArray[np.int64], classes: int, accuracy: float, sure: float, seed: int = 0
) -> NDArray[np.float64]:
    """Predictions by features that say more or less of an item; ``sure`` of 1 is calibrated where classes are even."""
    chance = np.random.default_rng(seed)
    strength = chance.uniform(0.2, 1.8, truth.size) * 2.0 * accuracy
    seen = strength[:, None] * np.eye(classes)[truth] + chance.normal(size=(truth.size, classes))
    logits = seen * strength[:, None] * sure
    odds = np.exp(logits)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _found_among_first(order: NDArray[np.int64], wrong: NDArray[np.bool_]) -> float:
    return float(wrong[order[: int(wrong.sum())]].mean())


def test_each_source_ranks_wrong_labels_first_and_together_they_do_it_best(crowd: Any) -> None:
    fit = HierarchicalDawidSkene().fit(crowd.votes)
    label = fit.posterior.argmax(axis=1)
    wrong = label != crowd.truth
    predicted = _model(crowd.truth, 3, 0.85, 1.0)
    by_people = suspicion(label, posterior=fit.posterior, votes=crowd.votes)
    by_model = suspicion(label, predicted=predicted)
    by_both = suspicion(label, posterior=fit.posterior, votes=crowd.votes, predicted=predicted)
    people, model, both = (_found_among_first(s.order, wrong) for s in (by_people, by_model, by_both))
    assert min(people, model) > 2 * wrong.mean()
    assert both > max(people, model)
    assert set(by_both.signals) == {"posterior", "disagreement", "model"}


def test_a_model_that_knows_nothing_moves_nothing(crowd: Any) -> None:
    fit = HierarchicalDawidSkene().fit(crowd.votes)
    label = fit.posterior.argmax(axis=1)
    noise = np.random.default_rng(1).dirichlet(np.ones(3) * 0.3, label.size)
    signal = suspicion(label, posterior=fit.posterior, predicted=noise).signals["model"]
    assert np.ptp(signal) < 0.7


@pytest.mark.parametrize("sure", [0.3, 1.0, 3.0])
def test_the_temperature_undoes_too_much_and_too_little_confidence(sure: float) -> None:
    truth = np.random.default_rng(2).integers(0, 4, 4000)
    calm = tempered(truth, _model(truth, 4, 0.8, sure))
    assert calm.max(axis=1).mean() == pytest.approx((calm.argmax(axis=1) == truth).mean(), abs=0.03)


def test_the_confident_joint_counts_the_errors_of_each_class() -> None:
    chance, truth = np.random.default_rng(3), np.random.default_rng(4).integers(0, 3, 6000)
    label = np.where((truth == 0) & (chance.random(truth.size) < 0.3), 1, truth)
    predicted = _model(truth, 3, 2.0, 1.0)
    joint = confident_joint(label, predicted)
    np.testing.assert_allclose(joint.sum(axis=1), np.bincount(label))
    assert joint[1, 0] == pytest.approx((label != truth).sum(), rel=0.25)
    found = label_errors(label, predicted)
    assert (label[found] != truth[found]).mean() > 0.75
    assert np.isin(np.flatnonzero(label != truth), found).mean() > 0.75


def test_slow_answers_are_suspicious_where_slowness_goes_with_disagreement(crowd: Any) -> None:
    votes = crowd.votes
    label = votes.tally().argmax(axis=1)
    alone = votes.tally().max(axis=1)[votes.item] < 4

    def timed(seconds: NDArray[np.float64]) -> AnswerTimes:
        return AnswerTimes(votes.item, votes.labeler, seconds)

    slow = suspicion(label, votes=votes, times=timed(np.where(alone, 60.0, 10.0)))
    hard = votes.tally().max(axis=1) < 4
    assert slow.signals["time"][hard].mean() > slow.signals["time"][~hard].mean() + 0.3
    by_chance = suspicion(
        label, votes=votes, times=timed(np.random.default_rng(5).lognormal(3, 1, len(votes)))
    )
    assert np.abs(by_chance.signals["time"]).mean() < 0.15
    unknown = suspicion(label, votes=votes, times=timed(np.full(len(votes), np.nan)))
    assert not unknown.signals["time"].any()


def test_times_are_of_the_answers_they_came_with_in_whatever_order_the_table_is(crowd: Any) -> None:
    votes, chance = crowd.votes, np.random.default_rng(0)
    label, seconds = votes.tally().argmax(axis=1), chance.lognormal(3, 1, len(votes))
    there = suspicion(label, votes=votes, times=AnswerTimes(votes.item, votes.labeler, seconds))
    order = chance.permutation(len(votes))
    columns = (votes.item[order], votes.labeler[order], votes.choice[order])
    here = suspicion(
        label, votes=Votes.of(*columns, classes=3), times=AnswerTimes(*columns[:2], seconds[order])
    )
    np.testing.assert_allclose(here.score, there.score)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_items_in_another_order_and_classes_by_other_names_rank_alike(seed: int) -> None:
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, 3, 60)
    predicted, posterior = _model(truth, 3, 0.7, 1.0, seed), _model(truth, 3, 0.8, 1.0, seed + 1)
    label = posterior.argmax(axis=1)
    score = suspicion(label, posterior=posterior, predicted=predicted).score
    order, names = chance.permutation(60), chance.permutation(3)
    back = np.argsort(names)
    other = suspicion(
        names[label][order], posterior=posterior[:, back][order], predicted=predicted[:, back][order]
    ).score
    np.testing.assert_allclose(other, score[order], atol=1e-4)


def test_what_cannot_be_is_named() -> None:
    votes = Votes.of([0, 1], [0, 0], [0, 1], classes=2)
    with pytest.raises(ValueError, match="item 1: 2 is not a class"):
        suspicion([0, 2], votes=votes)
    with pytest.raises(ValueError, match="posterior, item 1"):
        suspicion([0, 1], posterior=[[0.5, 0.5], [0.9, 0.9]])
    with pytest.raises(ValueError, match="seconds, row 0: -1"):
        suspicion([0, 1], votes=votes, times=AnswerTimes([0, 1], [0, 0], [-1.0, 3.0]))
    with pytest.raises(ValueError, match="row 1: 7 is not an item"):
        suspicion([0, 1], votes=votes, times=AnswerTimes([0, 7], [0, 0], [1.0, 3.0]))
    with pytest.raises(ValueError, match="one class or more"):
        label_errors([], np.zeros((0, 0)))
    with pytest.raises(ValueError, match="label alone"):
        suspicion([0, 1])
    with pytest.raises(ValueError, match="without the votes"):
        suspicion([0, 1], posterior=[[0.5, 0.5], [0.9, 0.1]], times=AnswerTimes([0], [0], [1.0]))
    assert not suspicion([], votes=Votes.of([], [], [], classes=2)).order.size
    assert not label_errors(np.zeros(0), np.zeros((0, 2))).size


def test_one_class_and_one_item_are_no_trouble() -> None:
    assert suspicion([0], posterior=[[1.0]], predicted=[[1.0]]).order.tolist() == [0]
    assert confident_joint([0, 0], [[1.0], [1.0]]).tolist() == [[2.0]]
    assert label_errors([0], [[0.4, 0.6]]).tolist() == []


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "lift"), [("music_genre", 2.0), ("rte", 4.0), ("web", 2.3), ("d_possent", 6.0)]
)
def test_of_the_labels_ranked_first_many_are_wrong(folder: str, lift: float) -> None:
    if not (DATA / folder).is_dir():
        pytest.skip(f"no recorded answers in {DATA / folder}")
    recorded = read_folder(DATA / folder)
    fit = HierarchicalDawidSkene().fit(recorded.votes)
    label = fit.posterior.argmax(axis=1)
    judged = recorded.truth >= 0
    wrong = judged & (label != recorded.truth)
    order = suspicion(label, posterior=fit.posterior, votes=recorded.votes).order
    first = order[judged[order]][: int(wrong.sum())]
    assert wrong[first].mean() > lift * wrong[judged].mean()
