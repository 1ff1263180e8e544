"""New items that are not what the model was judged on stop it, and so does an audit that speaks against it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cairn_truth.routing.drift import embedding_drift, judge_audit, score_drift
from cairn_truth.routing.thresholds import clopper_pearson_lower, clopper_pearson_upper


def test_drift_of_scores_is_found_when_there_is_some_and_seldom_when_not() -> None:
    chance = np.random.default_rng(0)
    assert score_drift(chance.random(500), chance.random(500) ** 1.5).drifted
    quiet = [score_drift(chance.random(200), chance.random(300)).drifted for _ in range(200)]
    assert sum(quiet) <= 2
    assert not score_drift([0.1] * 10, [0.9] * 10).drifted


def test_the_gap_of_scores_is_what_others_compute() -> None:
    chance = np.random.default_rng(1)
    old, new = chance.random(300), chance.beta(1.2, 1, 200)
    theirs = stats.ks_2samp(old, new, method="asymp")
    ours = score_drift(old, new)
    assert ours.statistic == pytest.approx(theirs.statistic)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.01)  # SciPy corrects for small samples


def _cloud(chance: np.random.Generator, items: int, shift: float = 0.0, spread: float = 1.0) -> np.ndarray:
    points = spread * chance.normal(size=(items, 16))
    points[:, 0] += shift
    return points


@pytest.mark.parametrize(("shift", "spread"), [(0.8, 1.0), (0.0, 1.4)])
def test_drift_of_embeddings_is_found_in_place_and_in_spread(shift: float, spread: float) -> None:
    chance = np.random.default_rng(2)
    found = embedding_drift(_cloud(chance, 300), _cloud(chance, 300, shift, spread), chance)
    assert found.drifted
    assert 0.0 < found.statistic < 1.0


def test_embeddings_of_one_distribution_are_called_drifted_as_often_as_promised() -> None:
    chance = np.random.default_rng(3)
    found = [
        embedding_drift(
            _cloud(chance, 60), _cloud(chance, 80), chance, significance=0.05, permutations=199
        ).p_value
        for _ in range(100)
    ]
    assert np.mean(np.array(found) <= 0.05) <= 0.1
    assert np.mean(found) == pytest.approx(0.5, abs=0.1)


def test_the_energy_distance_is_the_published_one() -> None:
    old, new = np.array([[0.0], [1.0]]), np.array([[3.0], [5.0]])
    found = embedding_drift(old, new, np.random.default_rng(0), significance=0.5, min_items=1)
    across, within = (3 + 5 + 2 + 4) / 4, (1 / 2, 2 / 2)
    assert found.statistic == pytest.approx((2 * across - sum(within)) / (2 * across))


def test_a_large_offset_of_all_embeddings_changes_nothing() -> None:
    points = np.random.default_rng(4).normal(size=(200, 4))
    near = embedding_drift(points[:100], points[100:], np.random.default_rng(0))
    far = embedding_drift(points[:100] + 1e6, points[100:] + 1e6, np.random.default_rng(0))
    assert far.p_value == near.p_value
    assert far.statistic == pytest.approx(near.statistic, rel=1e-4)


def test_equal_embeddings_have_not_drifted() -> None:
    same = np.ones((60, 3))
    assert embedding_drift(same, same, np.random.default_rng(0)).p_value == 1.0


def test_large_samples_are_drawn_from_by_the_given_generator() -> None:
    chance = np.random.default_rng(5)
    old, new = _cloud(chance, 3000), _cloud(chance, 3000, 0.5)
    first = embedding_drift(old, new, np.random.default_rng(0))
    assert first == embedding_drift(old, new, np.random.default_rng(0))
    assert first.drifted


def test_few_embeddings_say_nothing() -> None:
    few = np.random.default_rng(0).normal(size=(10, 3))
    assert embedding_drift(few, few + 9, np.random.default_rng(0)) == score_drift([0.1] * 9, [0.2] * 9)


def test_what_cannot_be_compared_is_named() -> None:
    fine, chance = np.zeros((60, 3)), np.random.default_rng(0)
    broken = fine.copy()
    broken[7, 1] = np.nan
    with pytest.raises(ValueError, match="3 dimensions but new_embeddings 2"):
        embedding_drift(fine, np.zeros((60, 2)), chance)
    with pytest.raises(ValueError, match=r"new_embeddings\[7, 1\] is nan"):
        embedding_drift(fine, broken, chance)
    with pytest.raises(ValueError, match="expected at least 999"):
        embedding_drift(fine, fine, chance, permutations=99)


@pytest.mark.parametrize(
    "bad",
    [{"significance": 5.0}, {"significance": 0.0}, {"min_items": 0}, {"sample": 0}, {"permutations": 0}],
)
def test_numbers_of_no_sense_are_named(bad: dict[str, float]) -> None:
    name, chance = next(iter(bad)), np.random.default_rng(0)
    with pytest.raises(ValueError, match=f"{name} is"):
        embedding_drift(np.zeros((60, 3)), np.zeros((60, 3)), chance, **bad)  # type: ignore[arg-type]
    if name in {"significance", "min_items"}:
        with pytest.raises(ValueError, match=f"{name} is"):
            score_drift([], [], **bad)  # type: ignore[arg-type]


@settings(max_examples=50)
@given(st.integers(0, 300), st.data())
def test_an_audit_stops_what_its_bound_no_longer_covers(items: int, data: st.DataObject) -> None:
    errors = data.draw(st.integers(0, items))
    verdict = judge_audit(errors, items, alpha=0.05, delta=0.1)
    assert verdict.upper == clopper_pearson_upper(errors, items, 0.1)
    assert verdict.lower == clopper_pearson_lower(errors, items, 0.1)
    assert verdict.stops or not verdict.proven
    if items >= 45:  # the least size that proves 5 % without an error
        assert verdict.stops == (verdict.upper > 0.05)


def test_an_audit_too_small_to_prove_anything_stops_nothing_unless_it_is_damning() -> None:
    assert not judge_audit(0, 10, alpha=0.05, delta=0.1).stops
    assert judge_audit(5, 10, alpha=0.05, delta=0.1).proven
