"""Votes by name: a table's own ids in, a table's own labels out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth import BlockDawidSkene, MajorityVote, NamedVotes, Votes

ITEMS = ["img b", "img b", "img a", "img a", "img a", "img b"]
WHO = ["ann", "bob", "ann", "bob", "cid", "cid"]
SAID = ["yes", "yes", "no", "no", "yes", "yes"]


def test_names_go_in_and_come_out() -> None:
    answers = NamedVotes.of(ITEMS, WHO, SAID)
    assert (answers.items, answers.labelers, answers.classes) == (
        ("img a", "img b"),
        ("ann", "bob", "cid"),
        ("no", "yes"),
    )
    fit = BlockDawidSkene().fit(answers.votes, gold=answers.gold({"img a": "no", "never seen": "yes"}))
    labels = answers.labels(fit.posterior)
    assert labels["img a"] == ("no", 1.0)
    assert labels["img b"].label == "yes"
    assert 0.5 < labels["img b"].confidence < 1.0
    known = answers.by_labeler(fit.reliability)
    assert known["ann"] > known["cid"]


def test_whole_numbers_are_names_as_they_stand() -> None:
    answers = NamedVotes.of(np.array([3_000_000, 5]), [23_549_581, 7], np.array([4, 9], dtype=np.int16))
    assert (answers.items, answers.labelers, answers.classes) == ((5, 3_000_000), (7, 23_549_581), (4, 9))
    assert answers.votes.items == 2


def test_classes_without_a_vote_are_there_if_they_are_named() -> None:
    answers = NamedVotes.of(["a"], ["x"], ["no"], classes=["yes", "no", "perhaps"])
    assert MajorityVote().fit(answers.votes).posterior.shape == (1, 3)
    assert NamedVotes.of([], [], [], classes=["no"]).votes.items == 0


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_names_change_nothing(rows: list[tuple[int, int, int]], chance: Any) -> None:
    chance.shuffle(rows)
    named = NamedVotes.of(*([f"{name:02}" for name in column] for column in zip(*rows, strict=True)))
    plain = [np.unique(column, return_inverse=True)[1] for column in zip(*rows, strict=True)]
    straight = Votes.of(*plain, classes=len(named.classes))
    assert np.array_equal(named.votes.item, straight.item)
    assert np.array_equal(named.votes.labeler, straight.labeler)
    assert np.array_equal(named.votes.choice, straight.choice)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": ["no", None]}, "label of row 1 is None; expected a name"),
        ({"label": ["no", float("nan")]}, "label of row 1 is nan; expected a name"),
        ({"label": [True, False]}, "label of row 0 is True"),
        ({"item": ["a", 1]}, "item holds both text and whole numbers"),
        ({"item": "ab"}, "item is 'ab'; expected a column of names"),
        ({"labeler": ["x"]}, "differ in length: item 2, labeler 1, label 2"),
        ({"classes": ["yes"]}, "label of row 0 is 'no'; expected one of"),
    ],
)
def test_what_is_no_name_is_told_with_its_row(change: dict[str, Any], message: str) -> None:
    columns: dict[str, Any] = {"item": ["a", "b"], "labeler": ["x", "y"], "label": ["no", "no"]}
    with pytest.raises(ValueError) as refused:
        NamedVotes.of(**{**columns, **change})
    assert message in str(refused.value)


def test_gold_and_tables_of_another_form_are_refused() -> None:
    answers = NamedVotes.of(ITEMS, WHO, SAID)
    with pytest.raises(ValueError, match="gold of 'img a' is 'nope'"):
        answers.gold({"img a": "nope"})
    with pytest.raises(ValueError, match=r"posterior has shape \(1, 2\); expected \(2, 2\)"):
        answers.labels([[0.5, 0.5]])
    with pytest.raises(ValueError, match=r"posterior\[0, 0\] is nan"):
        answers.labels(np.full((2, 2), np.nan))
    with pytest.raises(
        ValueError, match="no item of gold has a vote: 1, say; expected names such as 'img a'"
    ):
        answers.gold({1: "yes"})
    with pytest.raises(ValueError, match="no votes and no classes"):
        NamedVotes.of([], [], [])
