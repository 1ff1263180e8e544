"""What is said to be 80 % sure is right in 80 of 100 cases, once it has been held against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cairn_truth.routing.calibration import (
    IsotonicCalibration,
    IsotonicClasses,
    TemperatureScaling,
    expected_calibration_error,
    reliability_diagram,
)

Floats = NDArray[np.float64]


def _model(
    items: int, classes: int, exaggeration: float, seed: int
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return what a model says, the truth, and what it should have said."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(scale=1.5, size=(items, classes))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (chance.random(items)[:, None] > honest.cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
    said = np.exp(exaggeration * logits)
    return said / said.sum(axis=1, keepdims=True), truth, honest


def _error(probabilities: Floats, truth: NDArray[np.int64]) -> float:
    return expected_calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("exaggeration", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_an_exaggeration(classes: int, exaggeration: float) -> None:
    said, truth, _ = _model(4000, classes, exaggeration, 0)
    fit = TemperatureScaling.fit(said[:2000], truth[:2000])
    assert fit.temperature == pytest.approx(exaggeration, rel=0.12)
    later = fit.apply(said[2000:])
    assert _error(later, truth[2000:]) < 0.04
    assert (later.argmax(axis=1) == said[2000:].argmax(axis=1)).all()
    assert later.sum(axis=1) == pytest.approx(1.0)


def test_people_who_are_unsure_teach_a_temperature_too() -> None:
    said, _, honest = _model(2000, 3, 2.0, 1)
    assert TemperatureScaling.fit(said, honest).temperature == pytest.approx(2.0, rel=1e-3)


def test_nothing_to_learn_from_changes_nothing() -> None:
    said, _, _ = _model(10, 3, 1.0, 0)
    assert TemperatureScaling.fit(np.zeros((0, 3)), []).apply(said) == pytest.approx(said)
    assert IsotonicCalibration.fit([], []).apply([0.1, 0.9]).tolist() == [0.5, 0.5]


def test_a_lucky_few_make_nobody_certain() -> None:
    fit = TemperatureScaling.fit([[0.6, 0.4]] * 24, [0] * 24)
    assert 0.9 < fit.apply([[0.6, 0.4]])[0, 0] < 0.99
    chance = np.random.default_rng(0)
    for _ in range(100):
        said = chance.uniform(0.6, 0.95, 30)
        right = chance.random(30) < 0.97
        found = TemperatureScaling.fit(np.column_stack([said, 1.0 - said]), np.where(right, 0, 1))
        assert found.apply([[0.8, 0.2]])[0, 0] < 0.9999


def test_certainties_stay_numbers() -> None:
    fit = TemperatureScaling.fit([[1.0, 0.0], [0.0, 1.0]], [0, 0])
    assert np.isfinite(fit.apply([[1.0, 0.0], [0.0, 1.0]])).all()
    assert fit.temperature > 10  # one of two certainties was wrong


@pytest.mark.parametrize("classes", [2, 4])
def test_isotonic_classes_undo_what_no_temperature_can(classes: int) -> None:
    honest, truth, _ = _model(8000, classes, 1.0, 2)
    said = honest**3 * np.where(np.arange(classes) == 0, 4.0, 1.0)  # exaggerated, and fond of the first class
    said /= said.sum(axis=1, keepdims=True)
    fit = IsotonicClasses.fit(said[:6000], truth[:6000])
    later = fit.apply(said[6000:])
    assert later.sum(axis=1) == pytest.approx(1.0)
    assert _error(later, truth[6000:]) < 0.04
    often = (truth[6000:] == 0).mean()
    only_scaled = TemperatureScaling.fit(said[:6000], truth[:6000]).apply(said[6000:])
    assert abs(later[:, 0].mean() - often) < 0.02 < abs(only_scaled[:, 0].mean() - often)


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1, max_size=80), st.randoms())
def test_isotonic_keeps_order_stays_inside_and_forgets_the_order_of_items(
    seen: list[tuple[float, bool]], shuffler: object
) -> None:
    scores, right = np.array([s for s, _ in seen]), np.array([r for _, r in seen], dtype=float)
    fit = IsotonicCalibration.fit(scores, right)
    where = np.linspace(-6, 6, 200)
    said = fit.apply(where)
    assert (np.diff(said) >= -1e-12).all()
    assert ((said >= 0.0) & (said <= 1.0)).all()
    if 0.0 < right.mean() < 1.0:
        assert ((said > 0.0) & (said < 1.0)).all()
    order = np.random.default_rng(len(seen)).permutation(len(seen))
    assert IsotonicCalibration.fit(scores[order], right[order]).apply(where) == pytest.approx(said)


def test_isotonic_finds_the_truth_behind_any_score_that_keeps_its_order() -> None:
    chance = np.random.default_rng(0)
    honest = chance.random(5000)
    fit = IsotonicCalibration.fit(np.log(honest) * 7, chance.random(5000) < honest)
    assert fit.apply(np.log([0.2, 0.5, 0.8]) * 7) == pytest.approx([0.2, 0.5, 0.8], abs=0.06)


def test_the_gap_is_the_published_one() -> None:
    assert expected_calibration_error([0.95, 0.95, 0.15], [1, 0, 0]) == pytest.approx((0.9 + 0.15) / 3)
    assert expected_calibration_error([], []) == 0.0
    assert expected_calibration_error([1.0], [1]) == 0.0


def test_a_diagram_holds_what_was_said_and_what_came_true() -> None:
    diagram = reliability_diagram([0.05, 0.95, 0.91, 1.0], [0, 1, 0, 1], bins=10)
    assert diagram.items.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert diagram.confidence[9] == pytest.approx((0.95 + 0.91 + 1.0) / 3)
    assert diagram.accuracy[9] == pytest.approx(2 / 3)
    assert np.isnan(diagram.accuracy[4])
    assert (diagram.lower[4], diagram.upper[4]) == (0.0, 1.0)
    assert diagram.lower[9] < 2 / 3 < diagram.upper[9]
    assert diagram.edges[[0, 1, 10]] == pytest.approx([0.0, 0.1, 1.0])


def test_the_intervals_of_a_diagram_hold_an_honest_accuracy() -> None:
    chance = np.random.default_rng(0)
    stated = chance.random(20_000)
    diagram = reliability_diagram(stated, chance.random(20_000) < stated)
    assert ((diagram.lower <= diagram.confidence) & (diagram.confidence <= diagram.upper)).sum() >= 9


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ValueError, match=r"confidence\[1\] is 1.5"):
        expected_calibration_error([0.5, 1.5], [1, 0])
    with pytest.raises(ValueError, match="expected one length"):
        reliability_diagram([0.5], [1, 0])
    with pytest.raises(ValueError, match=r"truth\[1\] is 2; expected a class in 0\.\.1"):
        TemperatureScaling.fit([[0.5, 0.5], [0.5, 0.5]], [0, 2])
    with pytest.raises(ValueError, match=r"probabilities\[0, 1\] is nan"):
        TemperatureScaling(1.0).apply([[0.5, float("nan")]])
    with pytest.raises(ValueError, match="3 classes; expected 2"):
        IsotonicClasses.fit([[0.5, 0.5]], [0]).apply([[0.3, 0.3, 0.4]])


@pytest.mark.parametrize("bad", [[[0.0, 0.0]], [[0.7, 0.7]], [[1e308, 1e308]]])
def test_rows_that_are_no_distributions_are_named(bad: list[list[float]]) -> None:
    good = [[0.5, 0.5]]
    for call in (
        lambda: TemperatureScaling.fit(good + bad, [0, 0]),
        lambda: TemperatureScaling(2.0).apply(good + bad),
        lambda: IsotonicClasses.fit(good + bad, [0, 1]),
        lambda: IsotonicClasses.fit([[0.5, 0.5]] * 4, [0, 1, 0, 1]).apply(good + bad),
    ):
        with pytest.raises(ValueError, match=r"probabilities\[1\] sums to"):
            call()
    with pytest.raises(ValueError, match=r"truth\[0\] sums to 0.4"):
        TemperatureScaling.fit(good, [[0.2, 0.2]])


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature is"):
        TemperatureScaling(temperature)


@pytest.mark.parametrize("bins", [0, -1, 2.5])
def test_bins_are_counted(bins: int) -> None:
    for judge in (expected_calibration_error, reliability_diagram):
        with pytest.raises(ValueError, match="bins is"):
            judge([0.5], [1], bins=bins)


def test_a_diagram_counts_and_refuses_what_it_cannot_count() -> None:
    with pytest.raises(ValueError, match="level is 2"):
        reliability_diagram([0.5], [1], level=2)
    with pytest.raises(ValueError, match=r"right\[1\] is 0.4; expected 0 or 1"):
        reliability_diagram([0.5, 0.5], [1, 0.4])
    assert expected_calibration_error([0.5, 0.5], [0.6, 0.4]) == pytest.approx(0.0)
