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


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"classes": 2.0}, "classes is 2.0; expected a whole number in 1..32767"),
        ({"classes": "2"}, "classes is '2'"),
        ({"classes": True}, "classes is True"),
        ({"classes": 0}, "classes is 0"),
        ({"classes": 2**15}, "classes is 32768"),
        ({"classes": 2, "items": 1.5}, "items is 1.5"),
        ({"classes": 2, "items": -1}, "items is -1; expected a whole number in 0..2147483647"),
        ({"classes": 2, "items": 2**40}, "items is 1099511627776"),
        ({"classes": 2, "labelers": "3"}, "labelers is '3'"),
    ],
)
def test_a_bad_size_is_named(sizes: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Votes.of([0], [0], [0], **sizes)


def test_a_masked_row_is_no_vote() -> None:
    with pytest.raises(ValueError, match="column choice has masked rows"):
        Votes.of([0, 1], [0, 0], np.ma.masked_array([0, 1], mask=[False, True]), classes=2)
    assert len(Votes.of([0, 1], [0, 0], np.ma.masked_array([0, 1]), classes=2)) == 2


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 0, 0), (0, 0, 0)],
        [(0, 1, 0), (0, 0, 0)],
        [(0, 0, 1), (0, 0, 0)],
        [(0, 1, 0), (1, 0, 1), (0, 2, 0)],
    ],
)
def test_votes_made_by_hand_must_be_in_order(rows: Any) -> None:
    def by_hand(rows: Any) -> Votes:
        item, labeler, choice = np.array(rows).T
        return Votes(item.astype(np.int32), labeler.astype(np.int32), choice.astype(np.int16), 2, 3, 2)

    with pytest.raises(ValueError, match="not sorted by item, labeler and choice; expected what Votes"):
        by_hand(rows)
    assert by_hand(sorted(rows)).incidence().nnz == len(rows)


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
