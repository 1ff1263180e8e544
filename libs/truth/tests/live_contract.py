"""What every live state promises, whatever the kind of answer: checked alike for all."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cairn_truth import LiveNumbers, LiveTexts
from cairn_truth.live_answers import LiveAnswers

Answers = Mapping[str, Mapping[str, Any]]
"""Item to labeler to answer."""


def check_live_state(new: Callable[[], LiveAnswers[Any, Any, Any]], answers: Answers, wrong: Any) -> None:
    """Check a kind of answer on a recorded crowd of several items and labelers; ``wrong`` is an answer of no sense."""
    whole = new()
    joined = whole.fit(answers)
    _in_another_order_it_is_the_same(new, answers, whole)
    _restored_it_goes_on_alike(new, answers, whole)
    _restored_to_nothing_it_knows_nothing(new, answers)
    _a_state_of_another_kind_is_refused(new, answers)
    _an_answer_replaces_the_labelers_own(new, answers)
    _a_known_truth_stands(new, answers)
    _what_is_wrong_leaves_no_trace(new, answers, wrong)
    for item, found in joined.items():
        assert 0.0 <= found.confidence <= 1.0
        assert {part.labeler for part in found.evidence} == set(answers[item])
        assert all(0.0 <= part.agreement <= 1.0 and 0.0 <= part.weight <= 1.0 for part in found.evidence)
        assert sum(part.weight for part in found.evidence) <= 1.0 + 1e-9
    assert new().posterior("nobody answered").confidence == 0.0
    new().refit()  # with nothing to learn from


def _in_another_order_it_is_the_same(new: Callable[[], Any], answers: Answers, whole: Any) -> None:
    arrived = [(item, who, what) for item, votes in answers.items() for who, what in votes.items()]
    random.Random(1).shuffle(arrived)
    other = new()
    for item, who, what in arrived:
        other.update(item, who, what)
    other.refit()
    assert other.digest() == whole.digest()
    assert {i: repr(other.posterior(i)) for i in answers} == {i: repr(whole.posterior(i)) for i in answers}


def _restored_it_goes_on_alike(new: Callable[[], Any], answers: Answers, whole: Any) -> None:
    again = new()
    again.restore(whole.save())
    for item, votes in answers.items():
        for who, what in votes.items():
            again.add(item, who, what)
    assert again.digest() == whole.digest()
    assert again.save() == whole.save()
    assert (again.refits, again.refit_votes, again.votes) == (whole.refits, whole.refit_votes, whole.votes)
    assert {i: repr(again.posterior(i)) for i in answers} == {i: repr(whole.posterior(i)) for i in answers}


def _restored_to_nothing_it_knows_nothing(new: Callable[[], Any], answers: Answers) -> None:
    state, fresh = new(), new()
    state.fit(answers)
    state.restore(fresh.save())
    for item, votes in answers.items():
        for who, what in votes.items():
            fresh.add(item, who, what)
    assert state.digest() == fresh.digest()
    assert {i: repr(state.posterior(i)) for i in answers} == {i: repr(fresh.posterior(i)) for i in answers}


def _a_state_of_another_kind_is_refused(new: Callable[[], Any], answers: Answers) -> None:
    state = new()
    state.fit(answers)
    before = state.save()
    other = LiveNumbers() if isinstance(state, LiveTexts) else LiveTexts()
    other.refit()
    with pytest.raises(ValueError, match="the saved state is of Live"):
        state.restore(other.save())
    assert state.save() == before


def _an_answer_replaces_the_labelers_own(new: Callable[[], Any], answers: Answers) -> None:
    item = min(i for i, votes in answers.items() if len(votes) > 1)
    first, second = sorted(answers[item])[:2]
    state, straight = new(), new()
    state.update(item, first, answers[item][second])
    state.update(item, first, answers[item][first])
    straight.update(item, first, answers[item][first])
    assert (state.votes, state.labelers()) == (1, [first])
    assert repr(state.posterior(item)) == repr(straight.posterior(item))
    state.update(item, second, answers[item][second])
    state.withdraw(item, second)
    state.withdraw(item, second)
    assert (state.votes, state.labelers()) == (1, [first])
    assert repr(state.posterior(item)) == repr(straight.posterior(item))
    state.withdraw(item, first)
    assert (state.votes, state.labelers(), list(state.items())) == (0, [], [])


def _a_known_truth_stands(new: Callable[[], Any], answers: Answers) -> None:
    item = min(i for i, votes in answers.items() if len(votes) > 1)
    first, second = sorted(answers[item])[:2]
    state = new()
    state.add(item, first, answers[item][first])
    before = repr(state.posterior(item))
    state.know(item, answers[item][second])
    known = state.posterior(item)
    assert known.confidence == 1.0
    assert [part.labeler for part in known.evidence] == [first]
    state.refit()
    state.know(item, None)
    state.restore(new().save())
    assert repr(state.posterior(item)) == before


def _what_is_wrong_leaves_no_trace(new: Callable[[], Any], answers: Answers, wrong: Any) -> None:
    state = new()
    with pytest.raises(ValueError):
        state.add("item", "labeler", wrong)
    item = min(i for i, votes in answers.items() if len(votes) > 1)
    first, second = sorted(answers[item])[:2]
    with pytest.raises(ValueError):
        state.fit({item: {first: answers[item][first], second: wrong}})
    for where, who in ((None, first), (item, None), (item, b"bytes"), (item, "half \ud800 a pair")):
        with pytest.raises(ValueError, match="expected"):
            state.add(where, who, answers[item][first])
    assert (state.votes, list(state.items()), state.labelers()) == (0, [], [])
    with pytest.raises(ValueError):
        state.restore(b"not a saved state")
