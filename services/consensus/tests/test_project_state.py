"""A project's state as a pure thing: votes in, words out."""

from __future__ import annotations

import random
from dataclasses import replace
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.annotation.v1.annotation_store_pb2 import Project, QualityPolicy
from cairn.label.v1.label_schema_pb2 import (
    ChoiceQuestion,
    ChoicesQuestion,
    LabelClass,
    LabelSchema,
    NumberQuestion,
    Question,
)
from cairn.label.v1.label_value_pb2 import Answer, Choices
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId
from cairn_consensus.domain.items import Reached, State, Vote, Wanted
from cairn_consensus.domain.project_state import ProjectState
from cairn_truth.values import numbers
from services.consensus.tests.kind_contract import refit

SPECIES = QuestionId("species")
CLASSES = ("robin", "wren", "tit")


def choice(value: str) -> Answer:
    return Answer(question=SPECIES, choice=value)


CALL = QuestionId("call")
CALL_QUESTION = Question(
    id=CALL, required=True, choice=ChoiceQuestion(classes=[LabelClass(id=one) for one in ("trill", "chirp")])
)


def project(*more: Question) -> Project:
    classes = [LabelClass(id=one) for one in CLASSES]
    question = Question(id=SPECIES, required=True, choice=ChoiceQuestion(classes=classes))
    return Project(
        name="projects/birds",
        schema=LabelSchema(questions=[question, *more]),
        quality=QualityPolicy(target_confidence=0.85),
        revision=1,
    )


def vote(item: str, labeler: str, said: str) -> Vote:
    return Vote(ItemKey(item), SPECIES, LabelerName(f"labelers/{labeler}"), f"{item}-{labeler}", choice(said))


votes = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 5), st.sampled_from(CLASSES)),
    min_size=1,
    max_size=40,
    unique_by=lambda v: v[:2],
).map(lambda rows: [vote(f"i{i}", f"l{who}", said) for i, who, said in rows])


@given(votes, st.randoms())
@settings(max_examples=30)
def test_the_same_votes_in_any_order_are_fitted_to_the_same_bits(
    rows: list[Vote], chance: random.Random
) -> None:
    states = []
    for order in (rows, chance.sample(rows, len(rows))):
        state = ProjectState(project())
        for one in order:
            state.vote(one)
        refit(state)
        posteriors = [
            found.SerializeToString(deterministic=True)
            for key in sorted(state.items)
            if (found := state.posterior(key, SPECIES)) is not None
        ]
        states.append((state.questions.digest(), state.questions.save(), posteriors))
    assert states[0] == states[1]


@given(votes, votes)
@settings(max_examples=20)
def test_a_state_restored_from_its_fit_and_votes_says_the_same(
    earlier: list[Vote], later: list[Vote]
) -> None:
    before = {(one.item, one.labeler) for one in earlier}
    fresh = [one for one in later if (one.item, one.labeler) not in before]
    state = ProjectState(project())
    for one in earlier:
        state.vote(one)
    refit(state)
    kept = state.questions.save()
    for one in fresh:
        state.vote(one)

    restored = ProjectState(project())
    for one in sorted([*earlier, *fresh], key=lambda v: (v.item, v.labeler)):
        restored.vote(one)
    restored.restore(state.refits, state.votes_at_refit, kept)

    assert restored.questions.digest() == state.questions.digest()
    for key in state.items:
        assert restored.posterior(key, SPECIES) == state.posterior(key, SPECIES)


def test_what_was_learnt_of_other_classes_is_named_by_no_decision_and_learnt_anew() -> None:
    # given a fitted project, one of whose two questions gets another class
    said = [vote(f"i{i}", f"l{who}", CLASSES[i % 3]) for i in range(30) for who in range(3)]
    calls = [replace(one, question=CALL, answer=Answer(question=CALL, choice="trill")) for one in said]
    before = ProjectState(project(CALL_QUESTION))
    for one in (*said, *calls):
        before.vote(one)
    refit(before)

    grown = project(CALL_QUESTION)
    grown.schema.questions[0].choice.classes.add(id="owl")
    state = ProjectState(grown)
    for one in (*said, *calls):
        state.vote(one)

    # when it goes on from the fit of before
    state.restore(before.refits, before.votes_at_refit, before.questions.save())
    assert state.is_due(growth=1e9, at_least=90)
    assert not state.is_due(growth=1e9, at_least=91), "so few votes say nothing of anybody"
    assert _refits_named(state, "i0") == {SPECIES: 0, CALL: 1}

    # then another fit makes it good
    refit(state)
    assert not state.is_due(growth=1e9, at_least=1)
    assert _refits_named(state, "i1") == {SPECIES: 2, CALL: 2}


def test_a_question_that_is_new_rests_on_no_fit_and_waits_for_its_votes() -> None:
    before = ProjectState(project())
    for i in range(30):
        before.vote(vote(f"i{i}", "ann", CLASSES[i % 3]))
    refit(before)
    state = ProjectState(project(CALL_QUESTION))
    state.count_as(before.counts())
    state.restore(before.refits, before.votes_at_refit, before.questions.save())
    for question, said in ((SPECIES, "wren"), (CALL, "trill")):
        state.vote(
            replace(vote("new", "ann", ""), question=question, answer=Answer(question=question, choice=said))
        )
    assert not state.is_due(growth=0.2, at_least=1)
    assert _refits_named(state, "new") == {SPECIES: 1, CALL: 0}


def _refits_named(state: ProjectState, item: str) -> dict[str, int]:
    reached = state.conclude(ItemKey(item))
    assert isinstance(reached, Reached)
    return {one.answer.question: one.provenance.refit for one in reached.decisions}


def _doubtful_state() -> ProjectState:
    """An item decided on the word of two; then they turn out to guess, and everybody else agrees."""
    chance = random.Random(3)
    state = ProjectState(project())
    for who in ("ann", "bob"):
        state.vote(vote("early", who, "wren"))
    assert isinstance(state.judge(ItemKey("early")), Reached)
    for i in range(150):
        truth = CLASSES[i % 3]
        for who in ("ann", "bob"):
            state.vote(vote(f"x{i}", who, chance.choice(CLASSES)))
        for who in ("cid", "dan", "eve"):
            state.vote(vote(f"x{i}", who, truth))
    return state


def test_a_refit_opens_again_what_was_decided_on_the_word_of_guessers() -> None:
    state = _doubtful_state()
    refit(state)
    said = state.judge_again(ItemKey("early"))
    assert said == Wanted(ItemKey("early"), 3)
    assert state.items[ItemKey("early")].state is State.COLLECTING
    for who in ("cid", "dan"):
        state.vote(vote("early", who, "tit"))
    reached = state.judge(ItemKey("early"))
    assert isinstance(reached, Reached)
    assert reached.decisions[0].answer == choice("tit")
    assert state.items[ItemKey("early")].revision == 3


def test_what_was_concluded_is_not_opened_again() -> None:
    state = _doubtful_state()
    state.conclude(ItemKey("early"))
    refit(state)
    assert not isinstance(state.judge_again(ItemKey("early")), Wanted)
    assert state.items[ItemKey("early")].state is State.DECIDED


def test_evidence_leaves_an_answer_its_room_in_an_event() -> None:
    """Many people who each chose many classes: what each of them said is told in short."""
    long = [f"{'class':_<55}-{n:03d}" for n in range(60)]
    many = ChoicesQuestion(classes=[LabelClass(id=one) for one in long])
    body = project()
    body.schema.questions[0].choices.CopyFrom(many)
    state = ProjectState(body)
    answer = Answer(question=SPECIES, choices=Choices(class_ids=long))
    for n in range(20):
        who = LabelerName(f"labelers/l{n}")
        state.vote(Vote(ItemKey("a"), SPECIES, who, f"a-{n}", answer))
    reached = state.conclude(ItemKey("a"))
    assert isinstance(reached, Reached)
    [decision] = reached.decisions
    assert len(decision.provenance.votes) == 20
    assert decision.provenance.ByteSize() < 5_000


def test_a_number_is_told_with_the_version_of_the_algorithm_that_found_it() -> None:
    body = project()
    body.schema.questions[0].number.CopyFrom(NumberQuestion(minimum=0, maximum=9))
    state = ProjectState(body)
    said = Answer(question=SPECIES, number=7)
    state.vote(Vote(ItemKey("a"), SPECIES, LabelerName("labelers/ann"), "a-ann", said))
    reached = state.conclude(ItemKey("a"))
    assert isinstance(reached, Reached)
    why = reached.decisions[0].provenance
    assert (why.algorithm, why.algorithm_version) == (numbers.ALGORITHM, numbers.VERSION)


def choices_state(**bounds: int) -> ProjectState:
    body = project()
    classes = [LabelClass(id=one) for one in "abcd"]
    body.schema.questions[0].choices.CopyFrom(ChoicesQuestion(classes=classes, **bounds))
    return ProjectState(body)


@pytest.mark.parametrize(
    ("bounds", "answers", "expected"),
    [
        ({}, ("ab", "bc", "ac"), "abc"),
        ({"max_choices": 2}, ("ab", "bc", "ac"), "ab"),
        ({}, ("ab", "ac", "ad"), "a"),
        ({"min_choices": 2}, ("ab", "ac", "ad"), "ab"),
    ],
)
def test_a_set_is_announced_only_within_what_the_question_allows(
    bounds: dict[str, int], answers: tuple[str, ...], expected: str
) -> None:
    """Each class is judged by itself: all may be likely where two are allowed, or one where two are asked for."""
    state = choices_state(**bounds)
    for n, chosen in enumerate(answers):
        said = Answer(question=SPECIES, choices=Choices(class_ids=chosen))
        state.vote(Vote(ItemKey("a"), SPECIES, LabelerName(f"labelers/l{n}"), f"a-{n}", said))

    reached = state.conclude(ItemKey("a"))

    assert isinstance(reached, Reached)
    [decision] = reached.decisions
    assert "".join(decision.answer.choices.class_ids) == expected
    posterior = state.posterior(ItemKey("a"), SPECIES)
    assert posterior is not None
    sure = prod(c.probability if c.class_id in expected else 1 - c.probability for c in posterior.classes)
    assert decision.confidence == pytest.approx(sure)
    assert decision.provenance.agreement == sum(chosen == expected for chosen in answers) / len(answers)
