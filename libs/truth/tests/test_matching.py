"""Objects of several labelers are matched all at once, each labeler's at most once."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.shapes.boxes import iou
from cairn_truth.shapes.matching import assigned, matched, overlapping

LEAST = 0.35


def _clusters(edge: np.ndarray, owner: np.ndarray) -> np.ndarray:
    left, right = overlapping(edge, owner, np.zeros(owner.size, dtype=np.int64))
    return matched(owner, left, right, iou(edge[left], edge[right]), LEAST)


def _gain(edge: np.ndarray, owner: np.ndarray, cluster: np.ndarray) -> float:
    alike = iou(np.repeat(edge, len(edge), axis=0), np.tile(edge, (len(edge), 1))).reshape(len(edge), -1)
    together = np.triu(cluster[:, None] == cluster[None, :], 1)
    assert not (together & (owner[:, None] == owner[None, :])).any()
    return float((alike - LEAST)[together].sum())


boxes = st.lists(
    st.tuples(
        st.integers(0, 12), st.integers(0, 12), st.integers(3, 9), st.integers(3, 9), st.integers(0, 3)
    ),
    min_size=1,
    max_size=12,
)


def _columns(drawn: list[tuple[int, int, int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    given = np.array(sorted(drawn, key=lambda row: row[4]))
    edge = given[:, :4].astype(float)
    edge[:, 2:] += edge[:, :2]
    return edge, given[:, 4].astype(np.int64)


@given(boxes)
@settings(max_examples=60, deadline=None)
def test_overlapping_finds_just_the_pairs_that_meet(drawn: list[tuple[int, int, int, int, int]]) -> None:
    edge, owner = _columns(drawn)
    group = owner % 2
    found = set(zip(*(column.tolist() for column in overlapping(edge, owner, group)), strict=True))
    meets = {
        (i, j)
        for i, j in product(range(len(edge)), repeat=2)
        if i < j
        and owner[i] != owner[j]
        and group[i] == group[j]
        and (edge[i, :2] <= edge[j, 2:]).all()
        and (edge[j, :2] <= edge[i, 2:]).all()
    }
    assert found == meets


@given(boxes)
@settings(max_examples=60, deadline=None)
def test_a_labeler_has_one_object_in_a_cluster_and_no_move_of_one_object_gains(
    drawn: list[tuple[int, int, int, int, int]],
) -> None:
    edge, owner = _columns(drawn)
    cluster = _clusters(edge, owner)
    reached = _gain(edge, owner, cluster)
    for k, to in product(range(len(edge)), range(len(edge) + 1)):
        moved = cluster.copy()
        moved[k] = to
        if not any(moved[j] == to and owner[j] == owner[k] for j in range(len(edge)) if j != k):
            assert _gain(edge, owner, moved) <= reached + 1e-9


@given(boxes, st.permutations(range(4)))
@settings(max_examples=40, deadline=None)
def test_who_is_who_makes_no_difference_to_what_is_reached(
    drawn: list[tuple[int, int, int, int, int]], names: list[int]
) -> None:
    edge, owner = _columns(drawn)
    renamed = [(*row[:4], names[row[4]]) for row in drawn]
    other_edge, other_owner = _columns(renamed)
    here = _gain(edge, owner, _clusters(edge, owner))
    there = _gain(other_edge, other_owner, _clusters(other_edge, other_owner))
    assert there == pytest.approx(here, abs=0.05)  # local optima, hardly ever two of them


def test_a_greedy_first_choice_is_taken_back() -> None:
    # The nearest of b's two boxes to a's first is needed by a's second, which has no other.
    edge = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [1, 0, 11, 10], [-1.5, 0, 8.5, 10]], dtype=float)
    owner = np.array([0, 0, 1, 1])
    assert _clusters(edge, owner).tolist() == [0, 1, 1, 0]


def test_no_pair_is_made_that_loses() -> None:
    rows, columns = assigned(np.array([[0.9, 0.8], [0.7, 0.1]]), 0.3)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]
    rows, columns = assigned(np.array([[0.2, 0.1]]), 0.3)
    assert rows.size == columns.size == 0


def test_a_thousand_boxes_in_a_row_are_matched_in_moments() -> None:
    x = np.repeat(np.arange(1000.0) * 8.0, 3)
    edge = np.stack([x, np.zeros_like(x), x + 10.0, np.full_like(x, 10.0)], axis=1)
    owner = np.tile([0, 1, 2], 1000)
    order = np.lexsort((x, owner))
    cluster = _clusters(edge[order], owner[order])
    assert np.bincount(cluster).tolist() == [3] * 1000
