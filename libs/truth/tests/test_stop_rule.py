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
    gain = expected_gain(confidence, answers, correlation=0.15)
    assert 0.0 <= gain <= 1.0 - confidence + 1e-12


def test_the_more_was_answered_the_less_is_gained() -> None:
    gains = [expected_gain(0.7, n, correlation=0.15) for n in (1, 3, 10, 30)]
    assert gains == sorted(gains, reverse=True)


@pytest.mark.parametrize(
    "bad", [{"target_confidence": 1.0}, {"min_answers": 0}, {"min_answers": 5, "max_answers": 4}]
)
def test_a_policy_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        StopPolicy(**bad)  # type: ignore[arg-type]
