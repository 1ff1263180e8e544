"""Columns are checked before anything is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn_truth import MajorityVote, Votes


@pytest.mark.parametrize(
    ("item", "labeler", "choice", "complaint"),
    [
        ([0, -1], [0, 0], [0, 0], "column item, row 1: -1"),
        ([0, 1], [0, 0.5], [0, 0], "column labeler, row 1: 0.5"),
        ([0, 1], [0, 0], [0, 2], "column choice, row 1: 2"),
        ([0, 1], [0, 0], [float("nan"), 0], "column choice, row 0: nan"),
        ([0, 1], [0], [0, 0], "differ in length: item 2, labeler 1, choice 2"),
        ([[0]], [0], [0], "column item must be one-dimensional"),
        (["a"], [0], [0], "column item holds <U1"),
        ([2**31], [0], [0], "column item, row 0"),
    ],
)
def test_a_bad_column_is_named_with_its_row(item: Any, labeler: Any, choice: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Votes.of(item, labeler, choice, classes=2)


def test_rows_are_put_into_one_order() -> None:
    forward = Votes.of([0, 0, 1], [0, 1, 0], [1, 0, 1], classes=2)
    backward = Votes.of([1, 0, 0], [0, 1, 0], [1, 0, 1], classes=2)
    for column in ("item", "labeler", "choice"):
        assert np.array_equal(getattr(forward, column), getattr(backward, column))
    kinds = [str(column.dtype) for column in (forward.item, forward.labeler, forward.choice)]
    assert kinds == ["int32", "int32", "int16"]


def test_no_votes_are_votes() -> None:
    votes = Votes.of([], [], [], classes=2, items=3)
    assert len(votes) == 0
    assert np.array_equal(MajorityVote().fit(votes).posterior, np.full((3, 2), 0.5))


def test_a_majority_is_the_share_of_votes() -> None:
    votes = Votes.of([0, 0, 0, 1], [0, 1, 2, 0], [1, 1, 0, 0], classes=2)
    assert MajorityVote().fit(votes).posterior.ravel() == pytest.approx([1 / 3, 2 / 3, 1.0, 0.0])


def test_each_vote_is_one_entry_of_the_incidence_though_it_was_cast_twice() -> None:
    votes = Votes.of([0, 0, 2, 0], [0, 0, 1, 1], [1, 1, 0, 0], classes=2, items=4)
    incidence = votes.incidence()
    assert incidence.nnz == 4
    assert incidence.toarray().tolist() == [[0, 0, 0, 0], [2, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert votes.tally().tolist() == [[1, 2], [0, 0], [1, 0], [0, 0]]
    assert votes.cell().tolist() == [1, 1, 0, 4]


def test_an_id_far_beyond_the_number_of_votes_is_no_trouble() -> None:
    votes = Votes.of([2**31 - 2, 7], [2**31 - 2, 2**31 - 3], [1, 0], classes=2)
    assert (votes.item.tolist(), votes.labeler.tolist()) == ([7, 2**31 - 2], [2**31 - 3, 2**31 - 2])
    assert votes.choice.tolist() == [0, 1]
    few = Votes.of([1, 0], [2**31 - 2, 2**31 - 3], [1, 0], classes=2**15 - 1)
    assert (few.labeler.tolist(), few.choice.tolist()) == ([2**31 - 3, 2**31 - 2], [0, 1])


@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 3)), max_size=40),
    silent=st.sampled_from([0, 10**4]),
    kind=st.sampled_from([np.int64, np.uint8, np.int16, np.float32]),
)
def test_rows_are_sorted_by_item_labeler_and_choice(rows: Any, silent: int, kind: Any) -> None:
    columns = np.array(rows, dtype=kind).reshape(-1, 3).T
    votes = Votes.of(*columns, classes=4, items=10 + silent)
    sorted_rows = list(zip(votes.item.tolist(), votes.labeler.tolist(), votes.choice.tolist(), strict=True))
    assert sorted_rows == sorted(rows)
    assert [column.dtype for column in (votes.item, votes.labeler, votes.choice)] == [
        "int32",
        "int32",
        "int16",
    ]
