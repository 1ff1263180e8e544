"""What every kind of question promises: votes in, a label out that the store takes, whatever the order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from cairn.annotation.v1.annotation_store_pb2 import Project, QualityPolicy
from cairn.label.v1.label_schema_pb2 import LabelSchema, Question
from cairn.label.v1.label_value_pb2 import Answer
from cairn_annotation_store.domain.answer_parts import ItemFacts
from cairn_annotation_store.domain.answers import check_answers
from cairn_annotation_store.domain.schema import SchemaRules
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId
from cairn_consensus.domain.items import Reached, Truth, Vote
from cairn_consensus.domain.kinds import Leading
from cairn_consensus.domain.project_state import Fit, ProjectState

Answers = Mapping[str, Mapping[str, Sequence[Answer]]]
"""Item to labeler to what they answered to each question."""

PICTURE = ItemFacts(has_text=False, has_blob=True, width=640, height=480)
TEXT = ItemFacts(has_text=True, has_blob=False, text_length=1000)


def labeler(name: str) -> LabelerName:
    return LabelerName(f"labelers/{name}")


def project(*questions: Question) -> Project:
    return Project(
        name="projects/kinds",
        schema=LabelSchema(questions=questions),
        quality=QualityPolicy(target_confidence=0.9),
        revision=1,
    )


def votes_of(answers: Answers) -> list[Vote]:
    return [
        Vote(ItemKey(item), QuestionId(one.question), labeler(who), f"{item}-{who}", one)
        for item, votes in answers.items()
        for who, said in votes.items()
        for one in said
    ]


def voted(questions: Sequence[Question], answers: Answers, seed: int | None = None) -> ProjectState:
    """A state that has heard all answers, in the order given or in one of chance, and is fitted to them."""
    state = ProjectState(project(*questions))
    votes = votes_of(answers)
    if seed is not None:
        random.Random(seed).shuffle(votes)
    for vote in votes:
        state.vote(vote)
    refit(state)
    return state


def refit(state: ProjectState) -> None:
    """Fit a state that has all items at hand, as `Whole` does."""
    learnt = {name: question.fitting()() for name, question in state.questions.items()}
    state.adopt_fit(Fit(state.project.schema_version, state.refits, state.votes, len(state.items), learnt))


def leading(state: ProjectState, item: str, question: str = "q") -> Leading:
    found = state.questions[QuestionId(question)].leading(ItemKey(item))
    assert found is not None
    return found


def check_kind(questions: Sequence[Question], answers: Answers, facts: ItemFacts) -> ProjectState:
    """Check the last question's kind on a crowd of several items and labelers; returns the fitted state."""
    state = voted(questions, answers)
    name = QuestionId(questions[-1].id)
    _labels_fit_the_schema(state, questions, answers, facts)
    _votes_in_another_order_say_the_same(state, questions, answers)
    _a_restored_state_goes_on_alike(state, questions, answers)
    _an_item_brought_again_is_what_it_was(state, questions, answers)
    _everybody_who_answered_is_accounted_for(state, answers, name)
    _a_decision_says_how_it_came_about(state, answers, name)
    _a_known_truth_stands_as_it_was_given(questions, answers, name)
    return state


def _labels_fit_the_schema(
    state: ProjectState, questions: Sequence[Question], answers: Answers, facts: ItemFacts
) -> None:
    rules = SchemaRules(LabelSchema(questions=questions))
    for item in answers:
        found = [leading(state, item, question.id) for question in questions]
        assert check_answers([one.answer for one in found], rules, facts) is None
        assert all(0.0 <= one.confidence <= 1.0 for one in found)
        assert all(0.0 <= chance <= 1.0 for one in found for chance in one.parts)


def _said(state: ProjectState, answers: Answers) -> list[bytes]:
    return [
        posterior.SerializeToString(deterministic=True)
        for item in answers
        for question in state.questions
        if (posterior := state.posterior(ItemKey(item), question)) is not None
    ]


def _votes_in_another_order_say_the_same(
    state: ProjectState, questions: Sequence[Question], answers: Answers
) -> None:
    other = voted(questions, answers, seed=1)
    assert other.questions.digest() == state.questions.digest()
    assert _said(other, answers) == _said(state, answers)


def _a_restored_state_goes_on_alike(
    state: ProjectState, questions: Sequence[Question], answers: Answers
) -> None:
    kept = state.questions.save()
    again = ProjectState(project(*questions))
    for vote in votes_of(answers):
        again.vote(vote)
    again.restore(state.refits, state.votes_at_refit, kept)
    assert again.questions.digest() == state.questions.digest()
    assert _said(again, answers) == _said(state, answers)
    for question in again.questions.values():
        for kept_otherwise in (b"", b"a fit of another kind", question.save()[:-9], question.save()[9:]):
            with pytest.raises(ValueError):
                question.restore(kept_otherwise)
    assert again.questions.digest() == state.questions.digest()


def _an_item_brought_again_is_what_it_was(
    state: ProjectState, questions: Sequence[Question], answers: Answers
) -> None:
    kept = state.questions.save()
    for item in sorted(answers)[:3]:
        alone = ProjectState(project(*questions))
        alone.count_as(state.counts())
        alone.restore(state.refits, state.votes_at_refit, kept)
        with alone.uncounted():
            for vote in votes_of({item: answers[item]}):
                alone.vote(vote)
        assert alone.counts() == state.counts()
        assert _said(alone, {item: answers[item]}) == _said(state, {item: answers[item]})
        for name in state.questions:
            assert alone.reliabilities(name, Counter()) == state.reliabilities(name, Counter())


def _everybody_who_answered_is_accounted_for(state: ProjectState, answers: Answers, name: QuestionId) -> None:
    counts: dict[str, int] = {}
    for votes in answers.values():
        for who, said in votes.items():
            counts[labeler(who)] = counts.get(labeler(who), 0) + any(one.question == name for one in said)
    known = state.reliabilities(name, Counter())
    assert {one.labeler: one.votes for one in known} == counts
    assert all(one.question == name for one in known)


def _a_decision_says_how_it_came_about(state: ProjectState, answers: Answers, name: QuestionId) -> None:
    item = min(answers)
    reached = state.conclude(ItemKey(item))
    assert isinstance(reached, Reached)
    [decision] = [one for one in reached.decisions if one.answer.question == name]
    why = decision.provenance
    question = state.questions[name]
    assert (why.algorithm, why.algorithm_version) == (question.algorithm, question.algorithm_version)
    assert {vote.labeler for vote in why.votes} == {labeler(who) for who in answers[item]}
    assert all(vote.answer and vote.annotation for vote in why.votes)
    assert 0.0 <= why.agreement <= 1.0


def _a_known_truth_stands_as_it_was_given(
    questions: Sequence[Question], answers: Answers, name: QuestionId
) -> None:
    item = min(answers)
    state = voted(questions, answers)
    truths = answers[item][max(answers[item])]
    for truth in truths:
        state.know(Truth(ItemKey(item), QuestionId(truth.question), truth))
    refit(state)
    [truth] = [one for one in truths if one.question == name]
    assert leading(state, item, name) == Leading(truth, 1.0)
    tests = Counter(state.tested(name, state.items))
    gold = {one.labeler: (one.gold_votes, one.gold_correct) for one in state.reliabilities(name, tests)}
    assert gold[labeler(max(answers[item]))] == (1, 1)
