"""Ratings: every step of a scale with its probability, and labelers who lean or have a favourite step seen through."""

from __future__ import annotations

import csv
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cairn_truth import expected_calibration_error
from cairn_truth.classes.hierarchical import HierarchicalDawidSkene
from cairn_truth.values.ordinals import LiveRatings
from libs.truth.tests.live_contract import check_live_state

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))

Answers = dict[str, dict[str, int]]


def crowd(seed: int = 0, items: int = 300) -> tuple[Answers, dict[str, int]]:
    """Steps 1..5; six labelers: three who miss by little, two who lean a step up, one who always says 3."""
    chance = np.random.default_rng(seed)
    truth = {f"i{i}": int(chance.integers(1, 6)) for i in range(items)}
    answers: Answers = {}
    for item, step in truth.items():
        for who in range(6):
            lean = 1 if who in (3, 4) else 0
            said = round(step + lean + 0.5 * float(chance.normal()))
            answers.setdefault(item, {})[f"l{who}"] = 3 if who == 5 else min(max(said, 1), 5)
    return answers, truth


def test_it_keeps_the_promises_of_all_live_states() -> None:
    check_live_state(lambda: LiveRatings(1, 5), crowd(items=30)[0], 6)


def test_who_leans_or_always_says_the_same_is_seen_through() -> None:
    answers, truth = crowd()
    live = LiveRatings(1, 5)
    found = live.fit(answers)
    right = np.mean([found[item].value == step for item, step in truth.items()])
    rounded = np.mean([round(np.mean(list(answers[i].values()))) == step for i, step in truth.items()])
    assert right > 0.9
    assert right > rounded + 0.2
    assert live.reliability("l0").accuracy > live.reliability("l3").accuracy
    near = np.sqrt(np.mean([(found[i].expected - step) ** 2 for i, step in truth.items()]))
    plain = np.sqrt(np.mean([(np.mean(list(answers[i].values())) - step) ** 2 for i, step in truth.items()]))
    assert near < 0.6 * plain


@pytest.mark.parametrize("steps", [5, 7])
def test_steps_named_at_random_are_seldom_called_sure(steps: int) -> None:
    chance = np.random.default_rng(0)
    answers = {
        f"i{item}": {
            f"l{who}": int(chance.integers(1, steps + 1)) for who in chance.choice(20, 5, replace=False)
        }
        for item in range(60)
    }
    sure = [one.confidence for one in LiveRatings(1, steps).fit(answers).values()]
    assert np.mean(sure) < 0.9
    assert np.mean(np.array(sure) > 0.9) < 0.45


def test_the_steps_have_all_the_probability_there_is() -> None:
    found = LiveRatings(-1, 1).fit({"a": {"x": 1, "y": 1, "z": 0}})["a"]
    assert sum(found.probabilities) == pytest.approx(1.0)
    assert found.value == 1
    assert found.confidence == max(found.probabilities)
    assert found.probabilities[0] < found.probabilities[1] < found.probabilities[2]
    assert -1.0 <= found.expected <= 1.0
    assert found.sd > 0.0


def test_agreement_falls_with_the_distance_on_the_scale() -> None:
    found = LiveRatings(1, 5).fit({"a": {"x": 5, "y": 5, "z": 4, "w": 1}})["a"]
    agreement = {part.labeler: part.agreement for part in found.evidence}
    assert agreement == {"x": 1.0, "y": 1.0, "z": 0.75, "w": 0.0}


def test_what_is_no_step_is_refused() -> None:
    for wrong in (0, 6, 2.5, float("nan"), float("inf"), True, "3"):
        with pytest.raises(ValueError, match=rf"step is {wrong!r}; expected a whole number in 1..5"):
            LiveRatings(1, 5).update("a", "x", wrong)  # type: ignore[arg-type]
    assert LiveRatings(1, 5).update("a", "x", np.float64(2.0)).value == 2  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="low is 2 and high is 2"):
        LiveRatings(2, 2)
    for ends in ((np.int8(-100), np.int8(100)), (np.uint8(1), np.uint8(5))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert LiveRatings(*ends).low == ends[0]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="model is 1; expected a HierarchicalDawidSkene"):
        LiveRatings(1, 5, model=1)  # type: ignore[arg-type]
    other = LiveRatings(1, 4)
    other.fit({"a": {"x": 1, "y": 2}})
    for low, high in ((1, 5), (0, 3)):
        with pytest.raises(
            ValueError, match=r"is of LiveRatings\(low=1, high=4\); expected one of LiveRatings"
        ):
            LiveRatings(low, high).restore(other.save())
    with pytest.raises(ValueError, match=r"expected one of LiveRatings\(low=1, high=4, model="):
        LiveRatings(1, 4, HierarchicalDawidSkene(correlation=0.0)).restore(other.save())


@pytest.mark.parametrize(
    ("low", "high", "complaint"),
    [
        (2, 2, "low is 2 and high is 2; expected low below high"),
        (1.5, 5, "low is 1.5; expected a whole number"),
        (1, float("nan"), "high is nan; expected a whole number"),
        (False, 5, "low is False; expected a whole number"),
        (0, 10**6, "0 to 1000000 are 1000001 steps; expected at most 1000"),
    ],
)
def test_a_scale_has_whole_ends_and_not_too_many_steps(low: Any, high: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        LiveRatings(low, high)


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs recorded real answers (CAIRN_DATA)")
def test_on_a_recorded_scale_it_beats_the_rounded_mean_and_knows_how_sure_it_is() -> None:
    answers: Answers = {}
    with (DATA / "web" / "answers.csv").open(newline="", encoding="utf-8-sig") as opened:
        for row in csv.DictReader(opened):
            answers.setdefault(row["item"], {})[row["annotator"]] = int(row["label"])
    with (DATA / "web" / "truth.csv").open(newline="", encoding="utf-8-sig") as opened:
        truth = {r["item"]: int(r["label"]) for r in csv.DictReader(opened) if r["item"] in answers}
    found = LiveRatings(0, 4).fit(answers)
    right = [found[item].value == step for item, step in truth.items()]
    assert np.mean(right) > 0.81
    assert expected_calibration_error([found[item].confidence for item in truth], right) < 0.03
