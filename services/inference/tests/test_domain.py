"""The decisions of routing and learning, without any server."""

import numpy as np
import pytest

from cairn_inference.domain.learning import assess, is_due, labels_wanted
from cairn_inference.domain.names import item_key, item_name, version_name, version_of
from cairn_inference.domain.routing import (
    Evidence,
    drift_is_due,
    drifted,
    fewest_items,
    first_priority,
    goes_auto,
    hold_round,
    is_worth_holding,
    margin_priority,
    round_is_due,
    uniform,
)


def test_the_validation_sample_is_a_fixed_uniform_share() -> None:
    drawn = np.array([uniform(b"key", "validation", "acme", "birds", f"item-{i}") for i in range(5000)])
    again = np.array([uniform(b"key", "validation", "acme", "birds", f"item-{i}") for i in range(5000)])
    assert (drawn == again).all()
    assert abs((drawn < 0.1).mean() - 0.1) < 0.015
    other = np.array([uniform(b"other", "validation", "acme", "birds", f"item-{i}") for i in range(5000)])
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.05, "without the key nobody can tell who is of the sample"


def test_items_whose_names_run_together_are_told_apart() -> None:
    assert uniform(b"", "a", "bc") != uniform(b"", "ab", "c")


def test_people_are_asked_where_the_model_doubts_and_now_and_then_anywhere() -> None:
    priorities = margin_priority(np.array([0.02, 0.9, 0.9]), np.array([0.5, 0.5, 0.05]))
    assert priorities[0] > priorities[1]
    assert priorities[2] == pytest.approx(0.45), "of the random share: by chance, not by margin"
    assert (priorities <= 0.9).all(), "the validation sample comes first"


def test_the_importers_hint_counts_until_a_model_has_a_view() -> None:
    assert first_priority(0.8, 0.0) > first_priority(0.2, 0.999)
    assert 0.0 <= first_priority(0.0, 0.5) < first_priority(1.0, 1.0) <= 0.9


def test_only_scores_at_or_above_the_threshold_go_alone() -> None:
    scores = np.array([0.95, 0.9, 0.89, np.nan])
    assert goes_auto(scores, 0.9).tolist() == [True, True, False, False]
    assert not goes_auto(scores, None).any()


def due(items: int, **changes: object) -> bool:
    settings = {"alpha": 0.05, "delta": 0.1, "round_number": 1, "same_version": False, "evidence_before": 0}
    return round_is_due(items, **(settings | changes))  # type: ignore[arg-type]


def test_a_round_waits_for_evidence_that_could_pass() -> None:
    fewest = fewest_items(0.05, 0.06)
    assert not due(fewest - 5), "too few items can pass at no error"
    assert due(fewest + 5)
    assert not due(fewest + 5, round_number=10), "later rounds have less delta to spend"


def test_a_second_look_at_the_same_version_needs_fresh_evidence() -> None:
    assert not due(200, same_version=True, evidence_before=190)
    assert due(200, same_version=True, evidence_before=150)


def worth(score: float, certainty: float, coverage_now: float = 0.0) -> bool:
    posteriors = np.tile([[certainty, 1.0 - certainty], [1.0 - certainty, certainty]], (100, 1))
    evidence = Evidence(np.full(200, score), np.zeros(200, dtype=np.int64), posteriors)
    return is_worth_holding(evidence, alpha=0.05, delta=0.1, round_number=1, coverage_now=coverage_now)


def test_delta_is_not_spent_where_failure_is_foreseen() -> None:
    assert worth(0.99, 0.999)
    assert not worth(0.7, 0.999), "the model itself foresees 30 % error"
    assert not worth(0.99, 0.9), "people are too unsure to prove anything"
    assert not worth(0.99, 0.999, coverage_now=1.0), "nothing is to be gained"


def test_a_good_model_passes_and_a_bad_one_does_not() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 400)
    posteriors = np.where(truth[:, None] == np.arange(2), 0.98, 0.02)
    scores = 1.0 - 0.4 * generator.random(400) ** 6  # mostly sure, as a good model is
    good = hold_round(Evidence(scores, truth, posteriors), alpha=0.05, delta=0.1, round_number=1)
    assert good.allows_any
    assert good.upper_bound <= 0.05
    wrong = np.where(generator.random(400) < 0.2, 1 - truth, truth)
    bad = hold_round(Evidence(scores, wrong, posteriors), alpha=0.05, delta=0.1, round_number=1)
    assert not bad.allows_any


def test_later_rounds_must_be_surer() -> None:
    truth = np.arange(90) % 2
    evidence = Evidence(np.full(90, 0.99), truth, (truth[:, None] == np.arange(2)).astype(float))
    assert hold_round(evidence, alpha=0.05, delta=0.1, round_number=1).allows_any
    assert not hold_round(evidence, alpha=0.05, delta=0.1, round_number=9).allows_any


def test_drift_is_noticed_and_told_in_words() -> None:
    generator = np.random.default_rng(0)
    sample = generator.beta(8, 2, 300)
    assert drifted(sample, generator.beta(8, 2, 300)) == ""
    assert "Kolmogorov-Smirnov" in drifted(sample, generator.beta(4, 4, 300))
    assert not drift_is_due(49, 0)
    assert drift_is_due(50, 0)
    assert not drift_is_due(70, 50)


def test_training_waits_for_labels_enough() -> None:
    assert labels_wanted(2) == 50
    assert labels_wanted(10) == 100
    assert labels_wanted(500) == 1000
    assert "50 are needed" in assess([20, 20]).lacking
    assert "Only 1 class" in assess([100, 2]).lacking
    enough = assess([40, 40])
    assert not enough.lacking
    assert is_due(enough, 0, 1.5)
    assert not is_due(enough, 60, 1.5)


def test_names_are_read_as_they_are_written() -> None:
    assert version_of(version_name("birds", "trained", 12)) == ("birds", "trained", 12)
    assert item_key(item_name("birds", "a%20b")) == "a%20b"
    for bad in ("projects/birds/models/m/versions/x", "projects/birds/models/m/versions/", "x"):
        with pytest.raises(ValueError, match="versions"):
            version_of(bad)
