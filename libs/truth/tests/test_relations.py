"""Relations: links of different labelers, told by the text that they join."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.stretches.relations import LiveRelations, Relation, relation_f
from cairn_truth.stretches.spans import Span
from libs.truth.tests.live_contract import check_live_state

Answer = tuple[Relation, ...]

DRUG, PAIN, FEVER = Span(0, 7), Span(20, 24), Span(40, 45)


def relation_crowd(
    items: int = 60, each: int = 5, classes: int = 2, seed: int = 0
) -> tuple[dict[str, dict[str, Answer]], dict[str, Answer]]:
    """Draw a crowd that links three pairs of spans of each text, misses some, errs in class and at boundaries."""
    chance = np.random.default_rng(seed)
    answers: dict[str, dict[str, Answer]] = {}
    truth: dict[str, Answer] = {}

    def near(span: Span) -> Span:
        return Span(span.start + int(chance.integers(0, 3)) * bool(chance.random() < 0.3), span.end)

    for item in range(items):
        spans = [Span(20 * k, 20 * k + 10) for k in range(6)]
        pairs = [
            (spans[a], spans[b])
            for a, b in chance.permutation([(a, b) for a in range(6) for b in range(6) if a != b])
        ]
        truth[f"i{item}"] = tuple(Relation(*pair, int(chance.integers(classes))) for pair in pairs[:3])
        answers[f"i{item}"] = {}
        for who in chance.choice(10, each, replace=False):
            care = 0.55 + 0.04 * who
            said = [
                Relation(
                    near(r.source), near(r.target), r.class_id if chance.random() < 0.9 else 1 - r.class_id
                )
                for r in truth[f"i{item}"]
                if chance.random() < care
            ]
            said += [Relation(*pair, 0) for pair in pairs[3:] if chance.random() < 0.06 * (1.5 - care)]
            answers[f"i{item}"][f"w{who}"] = tuple(said)
    return answers, truth


def test_it_keeps_what_every_live_state_promises() -> None:
    answers, _ = relation_crowd(items=10)
    check_live_state(lambda: LiveRelations(2), answers, (Relation(DRUG, PAIN, 2),))
    check_live_state(lambda: LiveRelations(2, several=True), answers, (Relation(DRUG, Span(4, 4), 0),))


def test_a_crowd_is_read_better_than_its_labelers() -> None:
    answers, truth = relation_crowd()
    live = LiveRelations(2)
    joined = live.fit(answers)
    found = np.mean([relation_f(joined[i].value, truth[i]) for i in truth])
    alone = np.mean([relation_f(said, truth[i]) for i in truth for said in answers[i].values()])
    assert found > alone + 0.1
    assert found > 0.88
    assert np.mean([one.confidence for one in joined.values()]) == pytest.approx(found, abs=0.08)
    assert live.reliability("w9").miss_rate < live.reliability("w0").miss_rate


def test_links_are_matched_by_what_they_join() -> None:
    live = LiveRelations(1)
    live.add("i", "a", (Relation(DRUG, PAIN),))
    live.add("i", "b", (Relation(Span(0, 6), PAIN),))
    live.add("i", "c", (Relation(DRUG, Span(18, 24)),))
    assert live.posterior("i").value == (Relation(DRUG, PAIN),)


def test_the_way_back_is_another_link() -> None:
    live = LiveRelations(1)
    for who in "abc":
        live.add("i", who, (Relation(DRUG, PAIN),))
    live.add("i", "d", (Relation(PAIN, DRUG),))
    assert live.posterior("i").value == (Relation(DRUG, PAIN),)
    assert relation_f((Relation(DRUG, PAIN),), (Relation(PAIN, DRUG),)) == 0.0


def test_two_spans_are_linked_in_one_way_unless_several_are_allowed() -> None:
    both = (Relation(DRUG, PAIN, 0), Relation(DRUG, PAIN, 1))
    one, several = LiveRelations(2), LiveRelations(2, several=True)
    for who in "abc":
        one.add("i", who, both)
        several.add("i", who, both)
    assert several.posterior("i").value == both
    assert one.posterior("i").value == both[:1]  # of equals the first class
    for who in "def":
        one.add("i", who, both[1:])
    assert one.posterior("i").value == both[1:]


def test_one_labelers_links_are_never_each_others_match() -> None:
    live = LiveRelations(1)
    said = (Relation(Span(0, 10), PAIN), Relation(Span(1, 11), PAIN))
    for who in "abc":
        live.add("i", who, said)
    assert live.posterior("i").value == said


def test_that_nothing_is_linked_is_an_answer() -> None:
    live = LiveRelations(1)
    for who in "abcd":
        live.add("i", who, ())
    assert live.posterior("i").value == ()
    assert live.posterior("i").confidence > 0.5


def test_chances_follow_the_votes() -> None:
    live = LiveRelations(1)
    for who in "abcd":
        live.add("i", who, (Relation(DRUG, PAIN),) + ((Relation(DRUG, FEVER),) if who < "c" else ()))
    joined = live.posterior("i")
    assert joined.value == (Relation(DRUG, PAIN), Relation(DRUG, FEVER))
    assert joined.chances[0] > joined.chances[1]


def test_agreement_is_shared_relations_over_those_of_both() -> None:
    left = (Relation(DRUG, PAIN), Relation(DRUG, FEVER))
    assert relation_f(left, left) == 1.0
    assert relation_f(left, left[:1]) == pytest.approx(2 / 3)
    assert relation_f(left, (Relation(DRUG, PAIN, 1),)) == 0.0
    assert relation_f((), ()) == 1.0
    assert relation_f(left, ()) == 0.0


@pytest.mark.parametrize(
    "wrong", [Relation(Span(3, 3), PAIN), Relation(PAIN, Span(-1, 3)), Relation(DRUG, PAIN, 1)]
)
def test_what_is_no_relation_is_refused_by_its_number(wrong: Relation) -> None:
    with pytest.raises(ValueError, match=r"relation 1.* expected"):
        LiveRelations(1).add("i", "a", (Relation(DRUG, PAIN), wrong))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Relation(DRUG, "pain"), r"relation 1, target is 'pain'; expected a Span"),
        (Relation(None, PAIN), r"relation 1, source is None; expected a Span"),
        (Relation(Span("0", 3), PAIN), r"start of relation 1, source is '0'; expected a number"),
        (Relation(DRUG, PAIN, "treats"), r"relation 1 is of class 'treats'; expected the class's number"),
        ("ab", r"relation 1 is 'ab'; expected a Relation"),
    ],
)
def test_what_is_of_another_type_is_refused_by_its_number(wrong: Relation, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiveRelations(1).add("i", "a", (Relation(DRUG, PAIN), wrong))


def test_what_is_answered_by_one_alone_teaches_nothing() -> None:
    cold = LiveRelations(1).update("new", "a", (Relation(DRUG, PAIN),)).confidence
    live = LiveRelations(1)
    live.fit({f"i{i}": {f"w{i % 4}": (Relation(DRUG, PAIN), Relation(DRUG, FEVER))} for i in range(60)})
    live.add("new", "a", (Relation(DRUG, PAIN),))
    assert live.posterior("new").confidence == pytest.approx(cold, abs=0.05)


@pytest.mark.parametrize("each", [1, 2, 3, 5])
@pytest.mark.parametrize("hard", [0.0, 0.3])
def test_confidence_is_honest_of_crowds_of_any_sort(each: int, hard: float) -> None:
    """Careful and careless crowds together; ``hard`` links are drawn by a third as many."""
    crowds = [(0.8, 0.3), (0.6, 0.6)]
    both = np.array([_said_and_reached(each, *kind, hard, seed) for kind in crowds for seed in range(2)])
    gap = float(both[:, 0].mean() - both[:, 1].mean())
    assert -0.1 < gap < (0.2 if each == 1 else 0.12 if hard else 0.06)


def _said_and_reached(each: int, hit: float, invented: float, hard: float, seed: int) -> tuple[float, float]:
    chance = np.random.default_rng(seed)
    care = chance.beta(8 * hit, 8 * (1 - hit), 8)
    spans = [Span(10 * k, 10 * k + 6) for k in range(8)]
    pairs = [(a, b) for a in spans for b in spans if a != b]
    answers: dict[str, dict[str, Answer]] = {}
    truth: dict[str, Answer] = {}
    for item in range(60):
        drawn = chance.permutation(len(pairs))[: chance.poisson(3)]
        true = [Relation(*pairs[k], int(chance.integers(2))) for k in drawn]
        ease = np.where(chance.random(len(true)) < hard, 0.3, 1.0)
        truth[f"i{item}"] = tuple(true)
        answers[f"i{item}"] = {}
        for who in chance.choice(8, each, replace=False):
            said = {
                Relation(r.source, r.target, r.class_id if chance.random() < 0.9 else 1 - r.class_id)
                for r, easy in zip(true, ease, strict=True)
                if chance.random() < care[who] * easy
            }
            for k in chance.integers(0, len(pairs), chance.poisson(invented)):
                said.add(Relation(*pairs[k], int(chance.integers(2))))
            answers[f"i{item}"][f"w{who}"] = tuple(said)
    joined = LiveRelations(2).fit(answers)
    reached = [relation_f(joined[i].value, truth[i]) for i in truth]
    return float(np.mean([one.confidence for one in joined.values()])), float(np.mean(reached))


def test_a_second_answer_makes_a_crowd_better() -> None:
    reached = [
        np.mean([_said_and_reached(each, 0.6, 0.6, 0.0, seed)[1] for seed in range(3)]) for each in (1, 2, 3)
    ]
    assert reached == sorted(reached)


def test_many_links_are_soon_matched() -> None:
    live = LiveRelations(1)
    said = tuple(Relation(Span(20 * k, 20 * k + 9), Span(20 * k + 10, 20 * k + 19)) for k in range(800))
    for who in "abcde":
        live.add("long", who, said)
    tracemalloc.start()
    started = time.process_time()
    assert live.posterior("long").value == said
    assert time.process_time() - started < 4.0
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


spans = st.builds(lambda start, size: Span(start, start + size), st.integers(0, 20), st.integers(1, 10))
relations = st.builds(Relation, spans, spans, st.integers(0, 1))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(relations, max_size=5).map(tuple), min_size=1, max_size=5), st.booleans())
def test_any_answers_give_sound_relations(said: Sequence[Answer], several: bool) -> None:
    live = LiveRelations(2, several=several)
    joined = live.fit({"i": {f"w{who}": answer for who, answer in enumerate(said)}})["i"]
    assert 0.0 <= joined.confidence <= 1.0
    assert all(0.0 <= chance <= 1.0 for chance in joined.chances)
    assert all(r.source.start < r.source.end and r.target.start < r.target.end for r in joined.value)
