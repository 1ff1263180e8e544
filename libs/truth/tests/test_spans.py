"""Spans of a text: what a crowd marks, taken together."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.columns import Floats
from cairn_truth.measured.score_spans import DEFAULT, METHODS, Value, judge, read
from cairn_truth.stretches import live_stretches
from cairn_truth.stretches.joining import Chosen, shared_f
from cairn_truth.stretches.marks import Marks
from cairn_truth.stretches.spans import LiveSpans, Span
from libs.truth.tests.live_contract import check_live_state

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))

Answer = tuple[Span, ...]
Answers = Mapping[str, Mapping[str, Answer]]


def span_crowd(
    items: int = 80, classes: int = 1, each: int = 5, miss: float = 0.35, seed: int = 0
) -> tuple[dict[str, dict[str, Answer]], dict[str, Answer]]:
    """Draw a crowd that overlooks spans, invents some, names some another class and slips at boundaries."""
    chance = np.random.default_rng(seed)
    care = np.clip(chance.normal(1.0 - miss, 0.15, 12), 0.2, 0.98)
    answers: dict[str, dict[str, Answer]] = {}
    truth: dict[str, Answer] = {}
    for item in range(items):
        slots = chance.permutation(12)
        n = int(chance.integers(0, 6))
        places = [(int(100 * slot + chance.integers(5, 20)), int(chance.integers(10, 60))) for slot in slots]
        true = [Span(at, at + size, int(chance.integers(classes))) for at, size in places[:n]]
        truth[f"i{item:03}"] = tuple(sorted(true, key=lambda span: span.start))
        answers[f"i{item:03}"] = {}
        for who in chance.choice(12, each, replace=False):
            said = [
                Span(
                    span.start + int(chance.integers(0, 4)) * bool(chance.random() < 0.2),
                    span.end + int(chance.integers(0, 4)) * bool(chance.random() < 0.2),
                    int(chance.integers(classes)) if chance.random() < 0.2 else span.class_id,
                )
                for span in true
                if chance.random() < care[who]
            ]
            said += [
                Span(at, at + size, int(chance.integers(classes)))
                for at, size in places[n:]
                if chance.random() < 0.05
            ]
            answers[f"i{item:03}"][f"w{who:02}"] = tuple(said)
    return answers, truth


def micro_f(values: Mapping[str, Answer], truth: Mapping[str, Answer]) -> float:
    """Return the F of all characters together, by class."""
    sides: list[dict[int, list[tuple[float, float]]]] = [{}, {}]
    for i, item in enumerate(truth):
        for side, answer in zip(sides, (values[item], truth[item]), strict=True):
            for span in answer:
                side.setdefault(span.class_id, []).append((1e6 * i + span.start, 1e6 * i + span.end))
    return shared_f(*sides)


def majority(answers: Answers) -> dict[str, Answer]:
    """Return the characters that more than half marked, class by class."""
    values = {}
    for item, votes in answers.items():
        size = max((span.end for answer in votes.values() for span in answer), default=0) + 1
        classes = 1 + max((span.class_id for answer in votes.values() for span in answer), default=0)
        count = np.zeros((classes, size))
        for answer in votes.values():
            marked = np.zeros((classes, size))
            for span in answer:
                marked[span.class_id, span.start : span.end] = 1
            count += marked
        values[item] = tuple(
            Span(int(a), int(b), class_id)
            for class_id in range(classes)
            for a, b in np.flatnonzero(np.diff(count[class_id] > len(votes) / 2, prepend=False)).reshape(
                -1, 2
            )
        )
    return values


def test_it_keeps_what_every_live_state_promises() -> None:
    answers, _ = span_crowd(items=12, classes=2)
    check_live_state(lambda: LiveSpans(2), answers, (Span(5, 5),))
    check_live_state(lambda: LiveSpans(2, overlap=False), answers, (Span(0, 5, 2),))


@pytest.mark.parametrize(("classes", "miss", "gain"), [(1, 0.15, 0.0), (1, 0.45, 0.15), (4, 0.3, 0.1)])
def test_a_crowd_that_overlooks_is_read_better_than_by_majority(
    classes: int, miss: float, gain: float
) -> None:
    answers, truth = span_crowd(classes=classes, miss=miss)
    live = LiveSpans(classes, overlap=False)
    joined = live.fit(answers)
    found = {item: one.value for item, one in joined.items()}
    assert micro_f(found, truth) >= micro_f(majority(answers), truth) + gain
    assert micro_f(found, truth) > 0.85


@pytest.mark.parametrize(("each", "miss", "most_too_shy"), [(7, 0.2, 0.05), (3, 0.3, 0.15)])
def test_confidence_is_the_f_that_is_reached_or_less(each: int, miss: float, most_too_shy: float) -> None:
    answers, truth = span_crowd(items=200, miss=miss, each=each)
    joined = LiveSpans(1).fit(answers)
    reached = np.array([micro_f({i: joined[i].value}, {i: truth[i]}) for i in joined])
    said = np.array([joined[i].confidence for i in joined])
    assert reached.mean() - most_too_shy <= said.mean() <= reached.mean() + 0.03
    assert np.corrcoef(said, reached)[0, 1] > 0.2


def test_each_spans_chance_is_the_share_of_it_that_is_true_or_less() -> None:
    answers, truth = span_crowd(items=150, miss=0.2, each=5)
    joined = LiveSpans(1).fit(answers)
    said, reached = [], []
    for item, one in joined.items():
        assert len(one.chances) == len(one.value)
        said += one.chances
        for span in one.value:
            inside = sum(max(0, min(t.end, span.end) - max(t.start, span.start)) for t in truth[item])
            reached.append(inside / (span.end - span.start))
    assert np.mean(reached) - 0.06 <= np.mean(said) <= np.mean(reached) + 0.02


def test_who_overlooks_and_who_invents_is_told_apart() -> None:
    chance = np.random.default_rng(3)
    live = LiveSpans(1)
    for item in range(60):
        true = [Span(100 * k, 100 * k + 40) for k in range(8) if chance.random() < 0.5]
        rest = [Span(100 * k, 100 * k + 40) for k in range(8) if Span(100 * k, 100 * k + 40) not in true]
        for who, (hit, alarm) in {
            "blind": (0.3, 0.0),
            "eager": (0.95, 0.4),
            "good": (0.95, 0.02),
            "fair": (0.8, 0.05),
            "sound": (0.85, 0.05),
        }.items():
            said = [s for s in true if chance.random() < hit] + [s for s in rest if chance.random() < alarm]
            live.add(f"i{item}", who, tuple(said))
    live.refit()
    known = {who: live.reliability(who) for who in live.labelers()}
    assert known["blind"].miss_rate == pytest.approx(0.7, abs=0.1)
    assert known["eager"].false_alarm_rate > 3 * known["good"].false_alarm_rate
    assert known["good"].accuracy > max(known["eager"].accuracy, known["blind"].accuracy)
    assert known["good"].low < known["good"].accuracy < known["good"].high
    assert known["good"].high - known["good"].low < 0.2
    stranger = live.reliability("stranger")
    assert known["blind"].accuracy < stranger.accuracy < known["good"].accuracy
    assert stranger.votes == 0


def test_who_marks_everything_and_who_marks_at_random_have_little_say() -> None:
    answers, truth = span_crowd(items=100, miss=0.2)
    chance = np.random.default_rng(5)
    alone = LiveSpans(1).fit(answers)
    for votes in answers.values():
        votes["all"] = (Span(0, 1200),)
        at = int(chance.integers(0, 1100))
        votes["random"] = (Span(at, at + 60),)
    live = LiveSpans(1)
    joined = live.fit(answers)
    assert micro_f({i: one.value for i, one in joined.items()}, truth) >= 0.9
    assert (
        micro_f({i: one.value for i, one in joined.items()}, truth)
        >= micro_f({i: one.value for i, one in alone.items()}, truth) - 0.02
    )
    for one in joined.values():
        weight = {part.labeler: part.weight for part in one.evidence}
        assert weight["all"] + weight["random"] < 0.2
        assert min(weight, key=weight.__getitem__) in {"all", "random"}


def test_boundaries_are_those_most_labelers_mean() -> None:
    live = LiveSpans(1)
    for who, span in {"a": (10, 30), "b": (10, 30), "c": (11, 32), "d": (9, 30), "e": (12, 29)}.items():
        live.add("i", who, (Span(*span),))
    assert live.posterior("i").value == (Span(10, 30),)


def test_stretches_that_touch_stay_two_where_most_see_two() -> None:
    two, one = (Span(0, 10), Span(10, 20)), (Span(0, 20),)
    live = LiveSpans(1)
    for who in "abc":
        live.add("i", who, two)
    live.add("i", "d", one)
    assert live.posterior("i").value == two
    for who in "efgh":
        live.add("i", who, one)
    assert live.posterior("i").value == one


def test_attributes_are_voted_on() -> None:
    live = LiveSpans(1)
    live.add("i", "a", (Span(0, 9, 0, (("negated", "yes"), ("sure", "no"))),))
    live.add("i", "b", (Span(0, 9, 0, (("negated", "yes"),)),))
    live.add("i", "c", (Span(0, 9, 0, (("negated", "no"),)),))
    assert live.posterior("i").value == (Span(0, 9, 0, (("negated", "yes"),)),)


def test_a_place_is_of_one_class_unless_classes_may_overlap() -> None:
    answers: Answers = {
        "i": {"a": (Span(0, 9, 0),), "b": (Span(0, 9, 0),), "c": (Span(0, 9, 1),), "d": (Span(0, 9, 1),)}
    }
    flat = LiveSpans(2, overlap=False)
    assert len(flat.fit(answers)["i"].value) == 1
    nested = LiveSpans(2)
    for item in range(20):
        for who in "abc":
            nested.add(f"n{item}", who, (Span(0, 30, 0), Span(10, 15, 1)))
    nested.refit()
    assert nested.posterior("n0").value == (Span(0, 30, 0), Span(10, 15, 1))


def test_that_nothing_is_there_is_an_answer() -> None:
    live = LiveSpans(1)
    for who in "abcd":
        alone = live.posterior("i").confidence
        live.add("i", who, ())
        assert live.posterior("i").value == ()
        assert live.posterior("i").confidence > alone
    live.refit()
    assert live.posterior("i").confidence > 0.5
    assert [part.agreement for part in live.posterior("i").evidence] == [1.0] * 4


def test_one_labeler_alone_is_believed_and_not_too_sure() -> None:
    live = LiveSpans(1)
    for item in range(40):
        live.add(f"i{item}", "only", (Span(10, 20 + item), Span(200, 260)))
    live.refit()
    said = live.posterior("i3")
    assert said.value == (Span(10, 23), Span(200, 260))
    assert 0.4 < said.confidence < 0.95


def test_a_known_truth_teaches() -> None:
    answers, truth = span_crowd(items=40, miss=0.3)
    item = max(truth, key=lambda i: len(truth[i]))
    live = LiveSpans(1)
    live.fit(answers, gold=truth)
    for who in live.labelers():
        mine = [i for i in answers if who in answers[i]]
        missed = micro_f({i: answers[i][who] for i in mine}, {i: truth[i] for i in mine})
        assert live.reliability(who).accuracy == pytest.approx(missed, abs=0.15)
    assert live.posterior(item).value == truth[item]
    assert live.posterior(item).chances == (1.0,) * len(truth[item])


def test_names_of_labelers_and_items_do_not_matter() -> None:
    answers, _ = span_crowd(items=30, miss=0.3)
    plain = LiveSpans(1).fit(answers)
    other = LiveSpans(1).fit(
        {i[::-1]: {w[::-1]: a for w, a in votes.items()} for i, votes in answers.items()}
    )
    for item in answers:
        assert other[item[::-1]].value == plain[item].value
        assert other[item[::-1]].confidence == pytest.approx(plain[item].confidence, abs=1e-6)
        weight = {part.labeler[::-1]: part.weight for part in other[item[::-1]].evidence}
        assert weight == pytest.approx({part.labeler: part.weight for part in plain[item].evidence}, abs=1e-6)


def test_an_answer_said_twice_is_said_once() -> None:
    once, twice = LiveSpans(1), LiveSpans(1)
    once.add("i", "a", (Span(3, 9), Span(20, 30)))
    twice.add("i", "a", (Span(20, 30), Span(3, 9), Span(3, 9), Span(22, 25)))
    assert once.posterior("i").value == twice.posterior("i").value == (Span(3, 9), Span(20, 30))


def test_what_is_likely_false_is_no_value() -> None:
    """Of one text with three answers, one marks something: nothing is there, most likely, and that is what is said."""
    joined = LiveSpans(1).fit({"i": {"a": (), "b": (), "c": (Span(1, 9),)}})["i"]
    assert joined.value == ()
    assert joined.confidence > 0.5


def test_of_a_value_and_of_nothing_the_one_stands_that_is_expected_to_do_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Most texts have nothing to mark, and labelers invent."""
    answers, truth = span_crowd(items=240, miss=0.3, each=3)
    for k, item in enumerate(sorted(truth)):
        if k % 4:
            truth[item] = ()
            answers[item] = dict.fromkeys(answers[item], ())
            answers[item][min(answers[item])] = (Span(40, 60),) if k % 4 == 1 else ()

    def reached() -> float:
        joined = LiveSpans(1).fit(answers)
        return float(np.mean([micro_f({i: joined[i].value}, {i: truth[i]}) for i in truth]))

    better = reached()
    monkeypatch.setattr(live_stretches, "best_expected", _whatever_is_chosen)
    assert better > reached() + 0.01


def _whatever_is_chosen(marks: Marks, posterior: Floats, inside: Chosen, overlooked: float) -> Any:
    return inside, 0.5


def test_an_answer_that_marks_a_place_twice_where_classes_may_not_overlap_is_heard_and_the_value_has_one() -> (
    None
):
    """It may have been given while that was allowed."""
    live = LiveSpans(2, overlap=False)
    for who in "abc":
        live.add("i", who, (Span(0, 9, 0), Span(3, 9, 1)))
    [found] = live.posterior("i").value
    assert (found.start, found.end, found.class_id) == (0, 9, 0)
    assert live.votes == 3


def test_what_is_answered_by_one_alone_teaches_nothing() -> None:
    cold = LiveSpans(1).update("new", "a", (Span(10, 30),)).confidence
    live = LiveSpans(1)
    live.fit({f"i{i}": {f"w{i % 4}": (Span(10, 30), Span(60, 90))} for i in range(60)})
    live.add("new", "a", (Span(10, 30),))
    assert live.posterior("new").confidence == pytest.approx(cold, abs=0.05)


@pytest.mark.parametrize("each", [1, 2, 3, 5])
@pytest.mark.parametrize(("hit", "invented"), [(0.8, 0.3), (0.6, 0.6)])
@pytest.mark.parametrize("hard", [0.0, 0.3])
def test_confidence_is_honest_of_crowds_of_any_sort(
    each: int, hit: float, invented: float, hard: float
) -> None:
    """Two classes, slips at boundaries, inventions anywhere; ``hard`` stretches are seen by a third as many.

    With few answers, votes do not tell how many overlook and how much is hard: then it is honest on average alone.
    """
    said, reached = zip(
        *(_said_and_reached(each, hit, invented, hard, seed) for seed in range(2)), strict=True
    )
    gap = float(np.mean(said) - np.mean(reached))
    assert -0.12 < gap < (0.26 if each == 1 else 0.12 if hard else 0.06)


def _said_and_reached(each: int, hit: float, invented: float, hard: float, seed: int) -> tuple[float, float]:
    chance = np.random.default_rng(seed)
    care = chance.beta(8 * hit, 8 * (1 - hit), 8)
    answers: dict[str, dict[str, Answer]] = {}
    truth: dict[str, Answer] = {}
    for item in range(60):
        starts = [30 * k + int(chance.integers(0, 8)) for k in range(chance.poisson(3))]
        true = [Span(at, at + int(chance.integers(3, 15)), int(chance.integers(2))) for at in starts]
        ease = np.where(chance.random(len(true)) < hard, 0.3, 1.0)
        truth[f"i{item}"] = tuple(true)
        answers[f"i{item}"] = {}
        for who in chance.choice(8, each, replace=False):
            marked = [
                Span(
                    max(0, span.start + int(chance.integers(-1, 2)) * bool(chance.random() < 0.3)),
                    span.end + int(chance.integers(-1, 2)) * bool(chance.random() < 0.3),
                    span.class_id if chance.random() < 0.9 else 1 - span.class_id,
                )
                for span, easy in zip(true, ease, strict=True)
                if chance.random() < care[who] * easy
            ]
            for at in chance.integers(0, 90, chance.poisson(invented)).tolist():
                marked.append(Span(at, at + int(chance.integers(3, 12)), int(chance.integers(2))))
            answers[f"i{item}"][f"w{who}"] = tuple(marked)
    joined = LiveSpans(2).fit(answers)
    reached = [micro_f({i: joined[i].value}, {i: truth[i]}) for i in truth]
    return float(np.mean([one.confidence for one in joined.values()])), float(np.mean(reached))


spans = st.builds(
    lambda start, size, class_id: Span(start, start + size, class_id),
    st.integers(0, 40) | st.integers(0, 10**9),
    st.integers(1, 12) | st.integers(1, 10**9),
    st.integers(0, 1),
)
crowds = st.dictionaries(
    st.sampled_from("pqrs"),
    st.dictionaries(st.sampled_from("abcde"), st.lists(spans, max_size=5).map(tuple), min_size=1),
    min_size=1,
)


@settings(max_examples=25, deadline=None)
@given(crowds, st.booleans())
def test_any_answers_give_sound_spans(answers: Answers, overlap: bool) -> None:
    for one in LiveSpans(2, overlap=overlap).fit(answers).values():
        assert 0.0 <= one.confidence <= 1.0
        assert all(0.0 <= chance <= 1.0 for chance in one.chances)
        assert all(0 <= span.start < span.end for span in one.value)
        lines: Sequence[list[Span]] = (
            [[s for s in one.value if s.class_id == c] for c in (0, 1)] if overlap else [list(one.value)]
        )
        assert all(a.end <= b.start for line in lines for a, b in pairwise(line))


@settings(max_examples=15, deadline=None)
@given(crowds)
def test_it_is_the_same_in_another_unit_and_for_other_classes(answers: Answers) -> None:
    def moved(answer: Answer) -> Answer:
        return tuple(Span(4 * s.start, 4 * s.end, 1 - s.class_id) for s in answer)

    plain = LiveSpans(2).fit(answers)
    other = LiveSpans(2).fit({i: {w: moved(a) for w, a in votes.items()} for i, votes in answers.items()})
    for item in answers:
        assert other[item].confidence == pytest.approx(plain[item].confidence, abs=1e-6)
        assert set(other[item].value) == set(moved(plain[item].value))


def test_cost_is_in_answers_and_not_in_characters() -> None:
    live = LiveSpans(1)
    for who in "abc":
        live.add("far", who, (Span(0, 10**15), Span(2 * 10**15, 2 * 10**15 + 1)))
    live.refit()
    assert live.posterior("far").value == (Span(0, 10**15), Span(2 * 10**15, 2 * 10**15 + 1))


def test_many_spans_of_many_labelers_are_soon_joined() -> None:
    chance = np.random.default_rng(0)
    live = LiveSpans(1)
    for who in range(10):
        starts = np.sort(chance.choice(100_000, 100, replace=False))
        live.add("long", f"w{who}", tuple(Span(int(s), int(s) + 40) for s in starts))
    live.refit()
    started = time.process_time()
    live.posterior("long")
    assert time.process_time() - started < 1.0


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs recorded real answers (CAIRN_DATA)")
def test_a_real_crowd_in_medical_abstracts_is_read_better_than_by_its_votes() -> None:
    def read(name: str) -> list[dict[str, str]]:
        with (DATA / "pico_spans" / name).open(encoding="utf-8-sig") as lines:
            return list(csv.DictReader(lines))

    answers: dict[str, dict[str, Answer]] = {}
    for row in read("answers.csv"):
        said = tuple(Span(*bounds) for bounds in json.loads(row["label"]))
        answers.setdefault(row["item"], {})[row["annotator"]] = said
    truth = {
        row["item"]: tuple(Span(*bounds) for bounds in json.loads(row["label"])) for row in read("truth.csv")
    }
    joined = LiveSpans(1).fit(answers)
    assert micro_f({item: joined[item].value for item in truth}, truth) >= 0.735
    assert micro_f(majority(answers), truth) == pytest.approx(0.691, abs=0.001)


def test_a_cell_is_read_and_what_is_no_span_is_named() -> None:
    assert read('[[5, 9, "drug"], [1, 3]]') == ((1, 3, ""), (5, 9, "drug"))
    assert read("[]") == ()
    with pytest.raises(ValueError, match="span 1 is"):
        read("[[1, 3], [4, 4]]")
    with pytest.raises(ValueError, match="no list of spans"):
        read("[[1, 3")
    with pytest.raises(ValueError, match="expected a list"):
        read("3")


def test_every_method_joins_classes_by_name() -> None:
    crowd, true = span_crowd(items=30, classes=2, miss=0.25)

    def named(answer: Answer) -> Value:
        return tuple((span.start, span.end, "ab"[span.class_id]) for span in answer)

    answers = {item: {who: named(said) for who, said in votes.items()} for item, votes in crowd.items()}
    truth = {item: named(said) for item, said in true.items()}
    reached = {name: judge(method(answers), truth) for name, method in METHODS.items()}
    assert next(iter(METHODS)) == DEFAULT
    assert all(reached[DEFAULT]["f1"] >= one["f1"] - 0.01 for one in reached.values())
    assert all(0.5 < one["f1"] <= 1.0 for name, one in reached.items() if name != "ExactVote")
    assert judge(truth, truth) == {"f1": 1.0, "f1_mean": 1.0, "span_exact": 1.0, "span_overlap": 1.0}
    assert judge({"i": ()}, {"i": ((0, 1, ""),)})["f1"] == 0.0
    for method in METHODS.values():
        assert method({}) == {}
        assert method({"i": {"a": ()}}) == {"i": ()}
