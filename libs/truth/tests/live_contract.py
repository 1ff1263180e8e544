"""What every live state promises, whatever the kind of answer: checked alike for all."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
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
    _it_fits_to_what_there_was_whatever_comes_in_meanwhile(new, answers, whole)
    _restored_to_nothing_it_knows_nothing(new, answers)
    _a_state_of_another_kind_is_refused(new, answers)
    _an_answer_replaces_the_labelers_own(new, answers)
    _a_known_truth_stands(new, answers)
    _what_is_wrong_leaves_no_trace(new, answers, wrong)
    _what_is_no_mapping_leaves_no_trace(new, answers)
    what_is_no_name_is_refused(whole)
    it_counts_as_it_is_told(whole, new(), {item: votes for item, votes in answers.items() if len(votes) > 1})
    a_damaged_state_is_refused(new(), whole.save())
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


def _it_fits_to_what_there_was_whatever_comes_in_meanwhile(
    new: Callable[[], Any], answers: Answers, whole: Any
) -> None:
    first, *others = sorted(answers)
    if not others:
        return  # with one item there is nothing to fit to before it
    state, expected = new(), new()
    for item in others:
        for who, what in answers[item].items():
            state.add(item, who, what)
            expected.add(item, who, what)
    expected.refit()
    fitting = state.fitting()
    for who, what in answers[first].items():
        state.add(first, who, what)
        state.add(others[0], f"{who}, later", what)
        state.know(others[0], what)
        state.withdraw(others[-1], who)
    learnt = fitting()
    assert (state.refits, state.digest()) == (0, new().digest())
    state.adopt(learnt)
    assert (state.refits, state.refit_votes, state.digest()) == (1, expected.votes, expected.digest())
    assert state.posterior(first).confidence > 0.0


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


def _what_is_no_mapping_leaves_no_trace(new: Callable[[], Any], answers: Answers) -> None:
    state = new()
    item = min(answers)
    for wrong, told in (
        ([1], "answers is list; expected a mapping"),
        ({item: answers[item], "other": [1]}, "answers of item 'other' is list; expected a mapping"),
    ):
        with pytest.raises(ValueError, match=told):
            state.fit(wrong)
    with pytest.raises(ValueError, match="gold is list; expected a mapping"):
        state.fit({item: answers[item]}, gold=[1])
    assert (state.votes, list(state.items()), state.labelers()) == (0, [], [])


def it_counts_as_it_is_told(whole: Any, part: Any, answers: Answers) -> None:
    """Check that a state which holds the answers to one item, and is told how many there are, is as the whole there."""
    item, votes = next(iter(answers.items()))
    part.restore(whole.save())
    part.count_as(whole.counts())
    with part.uncounted():
        for who, what in votes.items():
            part.add(item, who, what)
    assert (part.votes, part.labelers(), part.counts()) == (whole.votes, whole.labelers(), whole.counts())
    assert repr(part.posterior(item)) == repr(whole.posterior(item))
    assert [repr(part.reliability(who)) for who in votes] == [repr(whole.reliability(who)) for who in votes]
    who = min(votes)
    assert part.count_of(who) == whole.counts()[who]
    part.withdraw(item, who)
    assert (part.votes, part.counts().get(who, 0)) == (whole.votes - 1, whole.counts()[who] - 1)
    for wrong in ([1], {1: 1}, {who: -1}, {who: True}, {who: 1.5}):
        with pytest.raises(ValueError, match="expected"):
            part.count_as(wrong)
    assert part.votes == whole.votes - 1
    part.count_as({who: 0})
    assert (part.votes, part.labelers()) == (0, [])


def what_is_no_name_is_refused(state: Any) -> None:
    """Check that whatever reads or takes back by name says of what is none which it is."""
    before = (state.votes, state.digest())
    for wrong in (1, None, [1], b"bytes", "half \ud800 a pair"):
        for read in (
            state.posterior,
            state.votes_on,
            lambda name: state.know(name, None),
            lambda name: state.withdraw(name, "labeler"),
        ):
            with pytest.raises(ValueError, match=r"item is .*expected"):
                read(wrong)
        for read in (state.reliability, lambda name: state.withdraw("item", name)):
            with pytest.raises(ValueError, match=r"labeler is .*expected"):
                read(wrong)
    assert (state.votes, state.digest()) == before


def a_damaged_state_is_refused(state: Any, saved: bytes) -> None:
    """Check that a saved state of which a part is missing, cut, of another type or of another value is not taken."""
    before = state.save()
    with np.load(io.BytesIO(saved)) as stored:
        held = {name: stored[name] for name in stored.files}
    for name, array in held.items():
        for damaged in (
            None,
            array[: len(array) // 2],
            array.astype(str),
            array[None],
            array[::-1] + array.dtype.type(1),
        ):
            if damaged is not None and np.array_equal(damaged, array) and damaged.shape == array.shape:
                continue  # of nobody there is nothing to lose
            buffer = io.BytesIO()
            parts = {part: values for part, values in held.items() if part != name}
            np.savez(buffer, **parts, **({} if damaged is None else {name: damaged}))
            with pytest.raises(ValueError, match="the saved state"):
                state.restore(buffer.getvalue())
    assert state.save() == before
