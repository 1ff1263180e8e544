"""When to stop asking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn_truth import StopPolicy, StopReason, Verdict
from cairn_truth.routing.stop_rule import decide, expected_gain


def say(confidence: float, answers: int, **policy: object) -> tuple[Verdict, int, StopReason | None]:
    posterior = np.array([confidence, 1.0 - confidence])
    said = decide(posterior, answers, StopPolicy(**policy), correlation=0.15)  # type: ignore[arg-type]
    return said.verdict, said.answers_wanted, said.reason


def test_below_the_floor_more_is_asked_however_sure() -> None:
    assert say(0.999, 1) == (Verdict.ASK, 2, None)


def test_at_the_target_asking_stops() -> None:
    assert say(0.96, 2) == (Verdict.DONE, 2, StopReason.TARGET_REACHED)


def test_in_doubt_one_more_is_asked() -> None:
    assert say(0.7, 3) == (Verdict.ASK, 4, None)


def test_at_the_cap_it_is_disputed_unless_the_target_is_reached() -> None:
    assert say(0.7, 10) == (Verdict.DISPUTED, 10, StopReason.CAP_REACHED)
    assert say(0.96, 10)[0] is Verdict.DONE


def test_what_is_not_worth_its_cost_is_not_asked() -> None:
    assert say(0.93, 8, answer_cost=0.05) == (Verdict.DONE, 8, StopReason.NOT_WORTH_ASKING)


def test_a_fixed_number_is_asked_for_whatever_the_answers() -> None:
    assert say(0.999, 3, fixed=True, max_answers=5) == (Verdict.ASK, 5, None)
    assert say(0.51, 5, fixed=True, max_answers=5) == (Verdict.DONE, 5, StopReason.ALL_ANSWERS_IN)


@given(st.floats(0.5, 0.999), st.integers(1, 50))
def test_a_gain_is_never_negative_nor_more_than_the_doubt(confidence: float, answers: int) -> None:
    gain = expected_gain([confidence], answers, correlation=0.15)
    assert 0.0 <= gain <= 1.0 - confidence + 1e-12


def test_the_more_was_answered_the_less_is_gained() -> None:
    gains = [expected_gain([0.7], n, correlation=0.15) for n in (1, 3, 10, 30)]
    assert gains == sorted(gains, reverse=True)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6).filter(lambda c: sum(c) > 0.1))
def test_answers_that_tell_nothing_are_worth_nothing(chances: list[float]) -> None:
    posterior = chances if len(chances) == 1 else np.array(chances) / sum(chances)
    assert expected_gain(posterior, 5, correlation=0.0, information=0.0) == pytest.approx(0.0, abs=1e-12)
    assert expected_gain(posterior, 5, correlation=1.0) == pytest.approx(0.0, abs=1e-8)


def test_a_leader_below_one_half_is_measured_by_its_rival() -> None:
    """Two in a tie, and a third: an answer may part them, and the third costs what it takes of the probability."""
    tied = expected_gain([0.5, 0.5], 3, correlation=0.1)
    assert expected_gain([0.45, 0.45, 0.1], 3, correlation=0.1) == pytest.approx(0.9 * tied)
    assert expected_gain([0.45, 0.3, 0.25], 3, correlation=0.1) < tied
    nothing_new = decide([0.49, 0.48, 0.03], 5, StopPolicy(), correlation=1.0)
    assert nothing_new.reason is StopReason.NOT_WORTH_ASKING


def test_one_number_is_a_confidence_whose_rivals_are_not_told() -> None:
    assert expected_gain([0.8], 3, correlation=0.1) == expected_gain([0.8, 0.2], 3, correlation=0.1)
    assert expected_gain([0.0], 3, correlation=0.1) == expected_gain([0.5, 0.5], 3, correlation=0.1)
    assert decide([0.0], 3, StopPolicy(), correlation=0.0).verdict is Verdict.ASK


@pytest.mark.parametrize(
    "posterior", [[1.0, 1.0, 1.0], [0.0, 0.0], [0.2, 0.2], [0.6, 0.402], [[0.5, 0.5]], []]
)
def test_what_is_no_posterior_is_refused(posterior: list[float]) -> None:
    with pytest.raises(ValueError, match="posterior"):
        decide(posterior, 3, StopPolicy(), correlation=0.1)
    with pytest.raises(ValueError, match="posterior"):
        expected_gain(posterior, 3, correlation=0.1)


@pytest.mark.parametrize("answers", [-3, 1.5, float("nan")])
def test_answers_are_counted(answers: float) -> None:
    with pytest.raises(ValueError, match="answers is"):
        decide([0.7, 0.3], answers, StopPolicy(), correlation=0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="answers is"):
        expected_gain([0.7, 0.3], answers, correlation=0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("correlation", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("policy", [StopPolicy(), StopPolicy(fixed=True)])
def test_a_correlation_of_no_sense_is_refused_even_where_it_does_not_matter(
    correlation: float, policy: StopPolicy
) -> None:
    with pytest.raises(ValueError, match="correlation is"):
        decide([0.99, 0.01], 1, policy, correlation=correlation)


@pytest.mark.parametrize(
    "bad",
    [
        {"target_confidence": 1.0},
        {"min_answers": 0},
        {"min_answers": 5, "max_answers": 4},
        {"min_answers": 1.5},
        {"max_answers": 2.5},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        StopPolicy(**bad)  # type: ignore[arg-type]
