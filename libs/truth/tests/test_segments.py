"""Segments of a recording: times that nobody hits twice, and what is said."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from cairn_truth.stretches.joining import centre
from cairn_truth.stretches.segments import LiveSegments, Segment, medoid_text
from libs.truth.tests.live_contract import check_live_state

Answer = tuple[Segment, ...]


def segment_crowd(
    items: int = 40, each: int = 5, seed: int = 0
) -> tuple[dict[str, dict[str, Answer]], dict[str, Answer]]:
    """Draw a crowd that hears turns of two speakers, a tenth of a second off, and overlooks one in four."""
    chance = np.random.default_rng(seed)
    answers: dict[str, dict[str, Answer]] = {}
    truth: dict[str, Answer] = {}
    for item in range(items):
        cuts = np.cumsum(chance.uniform(1.0, 5.0, 9))
        truth[f"i{item}"] = tuple(
            Segment(cuts[k], cuts[k + 1], k // 2 % 2, f"turn {k} of {item}") for k in range(0, 8, 2)
        )
        answers[f"i{item}"] = {
            f"w{who}": tuple(
                Segment(
                    turn.start_seconds + 0.1 * chance.normal(),
                    turn.end_seconds + 0.1 * chance.normal(),
                    turn.class_id,
                    turn.text if chance.random() < 0.85 else "turn",
                )
                for turn in truth[f"i{item}"]
                if chance.random() > 0.25
            )
            for who in chance.choice(9, each, replace=False)
        }
    return answers, truth


def test_it_keeps_what_every_live_state_promises() -> None:
    answers, _ = segment_crowd(items=8)
    check_live_state(lambda: LiveSegments(2), answers, (Segment(0.0, float("nan")),))


def test_boundaries_are_nearer_than_one_labelers_own() -> None:
    answers, truth = segment_crowd()
    joined = LiveSegments(2).fit(answers)
    off, found, right = [], 0, 0
    for item, turns in truth.items():
        for turn in turns:
            for said in joined[item].value:
                if abs(said.start_seconds - turn.start_seconds) < 0.5 and said.class_id == turn.class_id:
                    found += 1
                    right += said.text == turn.text
                    off.append(abs(said.start_seconds - turn.start_seconds))
    assert found >= 0.95 * sum(len(turns) for turns in truth.values())
    assert found >= 0.97 * sum(len(one.value) for one in joined.values())
    assert right >= 0.9 * found
    assert np.mean(off) < 0.075  # the mean of one labeler's is 0.08


def test_turns_that_touch_stay_two() -> None:
    live = LiveSegments(1)
    for who, cut in {"a": 5.0, "b": 5.02, "c": 4.97}.items():
        live.add("i", who, (Segment(0.0, cut), Segment(cut, 9.0)))
    first, second = live.posterior("i").value
    assert (first.start_seconds, second.end_seconds) == (0.0, 9.0)
    assert first.end_seconds == second.start_seconds == pytest.approx(5.0, abs=0.005)


@pytest.mark.parametrize(("each", "most"), [(1, 0.32), (2, 0.24), (4, 0.17)])
def test_a_boundary_is_as_near_as_the_mean_of_those_given(each: int, most: float) -> None:
    """Of errors with a standard deviation of .3, the mean of n leaves .3 / sqrt(n)."""
    chance = np.random.default_rng(0)
    answers = {
        f"i{i}": {
            f"w{who}": (Segment(10.0 + 0.3 * chance.normal(), 20.0 + 0.3 * chance.normal()),)
            for who in range(each)
        }
        for i in range(200)
    }
    found = [one.value[0] for one in LiveSegments(1).fit(answers).values()]
    off = np.array([(one.start_seconds - 10.0, one.end_seconds - 20.0) for one in found])
    assert len(off) == 200
    assert np.sqrt(np.mean(off**2)) < most


def test_a_boundary_is_not_drawn_away_by_a_slip() -> None:
    places, weights = [5.0, 5.1, 4.9, 5.05, 8.0], [0.2] * 5
    assert centre(places, weights) == pytest.approx(5.0, abs=0.06)
    assert centre([3.0, 3.0, 9.0], [0.3, 0.3, 0.4]) == 3.0  # what most name to the letter
    assert centre([3.0, 4.0], [0.5, 0.5]) == pytest.approx(3.5)
    assert centre([3.0, 4.0], [0.75, 0.25]) < 3.5
    assert centre([7.0], [0.1]) == 7.0


def test_the_text_is_somebodys_that_shares_most_words_with_all() -> None:
    assert medoid_text([("a cat sat", 1.0), ("the cat sat", 1.0), ("the cat sang", 1.0)]) == "the cat sat"
    assert medoid_text([("a", 1.0), ("b", 3.0)]) == "b"
    assert medoid_text([("", 1.0)]) == ""
    assert medoid_text([]) == ""


def test_it_is_the_same_in_milliseconds() -> None:
    answers, _ = segment_crowd(items=10)

    def moved(votes: Mapping[str, Answer]) -> Mapping[str, Answer]:
        return {
            who: tuple(Segment(1024 * s.start_seconds, 1024 * s.end_seconds, s.class_id) for s in said)
            for who, said in votes.items()
        }

    seconds = LiveSegments(2).fit(answers)
    other = LiveSegments(2).fit({item: moved(votes) for item, votes in answers.items()})
    for item in answers:
        assert other[item].confidence == pytest.approx(seconds[item].confidence, abs=1e-9)
        assert [s.start_seconds for s in other[item].value] == pytest.approx(
            [1024 * s.start_seconds for s in seconds[item].value]
        )


@pytest.mark.parametrize(
    "wrong", [Segment(-0.1, 1.0), Segment(1.0, 1.0), Segment(0.0, float("inf")), Segment(0.0, 1e300)]
)
def test_what_is_no_segment_is_refused_by_its_number(wrong: Segment) -> None:
    with pytest.raises(ValueError, match=r"segment 1 is .*expected 0 <= start < end"):
        LiveSegments(1).add("i", "a", (Segment(0.0, 1.0), wrong))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((Segment(0.0, 1.0), Segment(2.0, 3.0, 0, None)), r"segment 1 has text None; expected a string"),
        ((Segment(0.0, 1.0, 0, 5),), r"segment 0 has text 5; expected a string"),
        ((Segment("0", 1.0),), r"start of segment 0 is '0'; expected a number"),
        ((Segment(0.0, True),), r"end of segment 0 is True; expected a number"),
        ((Segment(0.0, 1.0, "speech"),), r"segment 0 is of class 'speech'; expected the class's number"),
        ((Segment(0.0, 1.0, 1),), r"segment 0 is of class 1; expected the class's number, 0"),
        (((0.0, 1.0),), r"segment 0 is \(0.0, 1.0\); expected a Segment"),
    ],
)
def test_what_is_of_another_type_is_refused_by_its_number(wrong: Answer, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiveSegments(1).add("i", "a", wrong)
