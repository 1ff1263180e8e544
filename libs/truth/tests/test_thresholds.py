"""A model answers alone only where its error is bounded, and the bound holds as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cairn_truth.routing.thresholds import (
    choose_threshold,
    choose_thresholds_per_class,
    clopper_pearson_lower,
    clopper_pearson_upper,
    model_errors,
    spend,
    upper_bound,
)


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.001, 0.5))
def test_clopper_pearson_is_what_others_compute(n: int, share: float, delta: float) -> None:
    errors = round(share * n)
    interval = stats.binomtest(errors, n).proportion_ci(1 - 2 * delta, method="exact")
    assert clopper_pearson_upper(errors, n, delta) == pytest.approx(interval.high, abs=1e-9)
    assert clopper_pearson_lower(errors, n, delta) == pytest.approx(interval.low, abs=1e-9)


def test_the_budget_of_all_rounds_is_delta() -> None:
    assert sum(spend(0.1, k) for k in range(1, 100_000)) == pytest.approx(0.1, abs=1e-5)
    with pytest.raises(ValueError, match="rounds count from 1"):
        spend(0.1, 0)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=200))
def test_certain_truth_gives_the_exact_bound(errors: list[float]) -> None:
    assert upper_bound(errors, 0.05) == pytest.approx(
        clopper_pearson_upper(int(sum(errors)), len(errors), 0.05)
    )


@given(st.lists(st.floats(0, 1), min_size=5, max_size=100), st.floats(0.01, 0.4))
def test_doubt_never_makes_the_bound_tighter(errors: list[float], doubt: float) -> None:
    certain = [float(e > 0.5) for e in errors]
    agreed = [min(max(e, doubt), 1.0) for e in certain]
    assert upper_bound(agreed, 0.05) >= upper_bound(certain, 0.05) - 1e-9


def test_items_that_nobody_looked_at_prove_nothing() -> None:
    assert upper_bound([0.3] * 500, 0.05, prior_error=[0.3] * 500) > 0.9


def _pool(seed: int, items: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    score = chance.beta(5, 1, items)
    return score, (chance.random(items) < 1 - score).astype(np.float64)


@pytest.mark.parametrize("people_err", [0.0, 0.02])
def test_the_error_of_what_was_let_through_exceeds_alpha_less_often_than_delta(people_err: float) -> None:
    alpha, delta, rounds = 0.1, 0.1, 200
    broken, covered = 0, 0.0
    for seed in range(rounds):
        score, wrong = _pool(seed)
        chance = np.random.default_rng(seed + 10_000)
        sample = chance.choice(score.size, 400, replace=False)
        seen = np.where(chance.random(400) < people_err, 1 - wrong[sample], wrong[sample])
        doubt = np.where(seen == 1, 1 - people_err, people_err)
        decision = choose_threshold(
            score[sample],
            doubt,
            alpha=alpha,
            delta=delta,
            prior_error=np.full(400, 0.5) if people_err else None,
        )
        through = score >= decision.threshold
        covered += through.mean()
        broken += bool(through.any() and wrong[through].mean() > alpha)
    assert broken / rounds <= delta
    assert covered / rounds > 0.15


def test_a_decision_tells_its_evidence() -> None:
    score, wrong = _pool(1)
    decision = choose_threshold(score, wrong, alpha=0.1, delta=0.05)
    assert decision.allows_any
    assert decision.selected == int((score >= decision.threshold).sum())
    assert decision.coverage == decision.selected / score.size
    assert 0 < decision.upper_bound <= 0.1
    assert any(not step.passed for step in decision.tested)


def test_equal_scores_are_never_parted() -> None:
    score = np.repeat([0.9, 0.5], 200)
    wrong = np.repeat([0.0, 1.0], 200)
    decision = choose_threshold(score, wrong, alpha=0.05, delta=0.05)
    assert (decision.threshold, decision.selected) == (0.9, 200)


@pytest.mark.parametrize("score", [[], [0.9], [0.9] * 10])
def test_too_little_lets_nothing_through(score: list[float]) -> None:
    decision = choose_threshold(score, [0.0] * len(score), alpha=0.05, delta=0.05)
    assert decision.threshold == math.inf
    assert not decision.allows_any


def test_each_class_has_its_own_threshold_where_volumes_allow() -> None:
    chance = np.random.default_rng(0)
    predicted = np.repeat([0, 1, 2], [600, 600, 40])
    score = chance.random(1240)
    wrong = np.where(predicted == 1, chance.random(1240) < 0.5, False).astype(np.float64)
    chosen = choose_thresholds_per_class(score, predicted, wrong, classes=3, alpha=0.1, delta=0.1)
    assert chosen.thresholds[0] < 0.05
    assert chosen.thresholds[1] == math.inf
    assert [group for group, _ in chosen.decisions] == [(0,), (1,), (2,)]
    assert not chosen.selects(score, predicted)[predicted == 1].any()


def test_people_who_agree_with_the_model_speak_for_it() -> None:
    posterior = np.array([[0.98, 0.02], [0.1, 0.9], [0.97, 0.03], [0.05, 0.95]])
    error, prior = model_errors(posterior, [0, 0, 0, 1])
    assert error == pytest.approx([0.02, 0.9, 0.03, 0.05])
    assert prior == pytest.approx([0.475, 0.475, 0.475, 0.525])
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        model_errors(posterior, [0, 0, 0, 2])


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ValueError, match=r"scores\[1\] is nan"):
        choose_threshold([0.5, float("nan")], [0, 0], alpha=0.1, delta=0.1)
    with pytest.raises(ValueError, match=r"error_probability\[0\] is 2"):
        choose_threshold([0.5], [2], alpha=0.1, delta=0.1)
