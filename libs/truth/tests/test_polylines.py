"""Polylines: open lines from everybody's, whichever end they were begun at and however many points they have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.shapes.polylines import (
    LivePolylines,
    Polyline,
    length_of,
    line_likeness,
    points_of,
    walk,
    warped,
)
from libs.truth.tests.live_contract import check_live_state

Crowd = dict[str, dict[str, tuple[Polyline, ...]]]


def flat(points: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in np.asarray(points).ravel())


def lane(y: float, bend: float = 20.0, points: int = 60) -> np.ndarray:
    x = np.linspace(0.0, 200.0, points)
    return np.stack([x, y + bend * np.sin(x / 40.0)], axis=1)


def drawn(line: np.ndarray, rng: np.random.Generator, sloppiness: float) -> tuple[float, ...]:
    """The line as a hand draws it: on some of its points, from either end, a bit off together and each on its own."""
    inner = np.sort(rng.choice(np.arange(1, len(line) - 1), size=rng.integers(9, 20), replace=False))
    points = line[[0, *inner, len(line) - 1]] + rng.normal(scale=sloppiness, size=2)
    points = points + rng.normal(scale=sloppiness / 2.0, size=points.shape)
    return flat(points[::-1] if rng.random() < 0.5 else points)


def crowd(
    seed: int = 0, items: int = 6, sloppiness: tuple[float, ...] = (1.5, 2.5, 2.5, 8.0), missed: float = 0.1
) -> tuple[Crowd, dict[str, list[np.ndarray]]]:
    rng = np.random.default_rng(seed)
    truth = {f"i{k}": [lane(y, rng.uniform(5, 25)) for y in (50.0, 130.0, 210.0)] for k in range(items)}
    answers = {
        item: {
            f"w{w}": tuple(Polyline("lane", drawn(line, rng, s)) for line in lines if rng.random() > missed)
            for w, s in enumerate(sloppiness)
        }
        for item, lines in truth.items()
    }
    return answers, truth


def distance(found: tuple[Polyline, ...], lines: list[np.ndarray]) -> float:
    """Mean over true lines of the mean distance to the nearest found one, at equal shares of their lengths."""
    total = 0.0
    for line in lines:
        true = walk(line, 50)
        gaps = [walk(points_of(one), 50) for one in found]
        total += min(
            (float(np.hypot(*(true - way).T).mean()) for gap in gaps for way in (gap, gap[::-1])),
            default=50.0,
        )
    return total / len(lines)


def test_it_is_a_live_state_like_all_others() -> None:
    answers, _ = crowd(items=3)
    check_live_state(LivePolylines, answers, (Polyline("lane", (0.0, 0.0, float("nan"), 1.0)),))


def test_one_answer_and_equal_answers_are_the_value_itself() -> None:
    line = Polyline("lane", (0, 0, 5, 5, 10, 0), (("solid", True),))
    live = LivePolylines()
    assert live.update("i", "a", (line,)).value == (line,)
    assert live.update("i", "b", (line,)).value == (line,)


def test_joined_lines_are_nearer_to_the_truth_than_any_labelers() -> None:
    answers, truth = crowd(items=8, missed=0.0)
    joined = LivePolylines().fit(answers)
    ours = np.mean([distance(joined[item].value, truth[item]) for item in truth])
    labelers = [np.mean([distance(answers[item][f"w{w}"], truth[item]) for item in truth]) for w in range(4)]
    assert ours < 0.9 * min(labelers)


def test_all_lines_that_most_drew_are_found_once() -> None:
    answers, truth = crowd(items=6)
    joined = LivePolylines().fit(answers)
    assert all(len(joined[item].value) == 3 for item in truth)


def test_the_end_at_which_a_line_was_begun_makes_no_difference() -> None:
    rng = np.random.default_rng(1)
    lines = [np.array(drawn(lane(50.0), rng, 1.0)).reshape(-1, 2) for _ in range(3)]
    lines = [line if line[0, 0] < line[-1, 0] else line[::-1] for line in lines]
    one, other = LivePolylines(), LivePolylines()
    for k, line in enumerate(lines):
        one.add("i", f"w{k}", (Polyline("lane", flat(line)),))
        other.add("i", f"w{k}", (Polyline("lane", flat(line[::-1] if k == 1 else line)),))
    (mine,), (theirs,) = one.posterior("i").value, other.posterior("i").value
    assert walk(points_of(mine), 50) == pytest.approx(walk(points_of(theirs), 50), abs=1e-3)


def test_a_closed_line_stays_closed_wherever_it_was_begun_and_whichever_way_it_runs() -> None:
    rng = np.random.default_rng(2)
    turn = np.linspace(0.0, 2.0 * np.pi, 41)[:-1]
    circle = 100.0 + 50.0 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    live = LivePolylines()
    for k, who in enumerate("abcd"):
        ring = np.roll(circle, 9 * k, axis=0)[:: -1 if k % 2 else 1] + rng.normal(
            scale=1.0, size=circle.shape
        )
        closing = ring[:1] if k < 3 else ring[:1] + 4.0  # one stops a little short
        live.add("i", who, (Polyline("lane", flat(np.concatenate([ring, closing]))),))
    (joined,) = live.posterior("i").value
    points = points_of(joined)
    assert points[0].tolist() == points[-1].tolist()
    away = np.hypot(*(walk(points, 100) - 100.0).T)
    assert away == pytest.approx(np.full(100, 50.0), abs=3.0)
    assert length_of(points) == pytest.approx(2.0 * np.pi * 50.0, rel=0.03)


def test_lines_that_most_left_open_stay_open() -> None:
    turn = np.linspace(0.0, 1.8 * np.pi, 40)
    arc = 50.0 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    live = LivePolylines()
    for who, line in (("a", arc), ("b", arc + 1.0), ("c", np.concatenate([arc, arc[:1]]))):
        live.add("i", who, (Polyline("lane", flat(line)),))
    (joined,) = live.posterior("i").value
    assert np.hypot(*(points_of(joined)[0] - points_of(joined)[-1])) > 15.0


def test_one_who_stopped_half_way_shortens_nothing() -> None:
    rng = np.random.default_rng(2)
    live = LivePolylines()
    for who in ("a", "b", "c"):
        live.add("i", who, (Polyline("lane", drawn(lane(50.0), rng, 1.0)),))
    live.add("i", "short", (Polyline("lane", flat(lane(50.0)[:40])),))
    (joined,) = live.posterior("i").value
    assert length_of(points_of(joined)) > 0.95 * length_of(lane(50.0))
    assert distance((joined,), [lane(50.0)]) < 3.0


def test_a_sloppy_labeler_has_the_larger_spread_and_the_smaller_weight() -> None:
    answers, _ = crowd(items=8, missed=0.0)
    live = LivePolylines()
    joined = live.fit(answers)
    assert live.reliability("w3").spread > 1.5 * live.reliability("w0").spread
    mean = [
        np.mean([{p.labeler: p.weight for p in f.evidence}[w] for f in joined.values()]) for w in ("w0", "w3")
    ]
    assert mean[0] > 1.5 * mean[1]


def test_straight_lines_beside_each_other_are_alike_though_their_bounds_do_not_meet() -> None:
    live = LivePolylines()
    live.add("i", "a", (Polyline("lane", (0, 0, 100, 0)),))
    live.add("i", "b", (Polyline("lane", (0, 2, 100, 2)),))
    live.add("i", "c", (Polyline("lane", (0, 4, 100, 4)),))
    (joined,) = live.posterior("i").value
    assert joined.line == pytest.approx((0, 2, 100, 2), abs=1e-6)


def test_lines_that_cross_stay_two() -> None:
    rng = np.random.default_rng(3)
    cross = [np.array([[0.0, 0], [100, 100]]), np.array([[0.0, 100], [100, 0]])]
    live = LivePolylines()
    for who in ("a", "b", "c"):
        lines = (walk(line, 12) + rng.normal(size=(12, 2)) for line in cross)
        live.add("i", who, tuple(Polyline("lane", flat(line)) for line in lines))
    joined = live.posterior("i").value
    assert len(joined) == 2
    assert distance(joined, cross) < 3.0


def test_likeness_falls_with_distance_and_knows_no_direction() -> None:
    line = Polyline("a", (0, 0, 100, 0))
    assert line_likeness(line, line) == 1.0
    assert line_likeness(line, Polyline("a", (100, 0, 50, 0, 0, 0))) == pytest.approx(1.0)
    assert line_likeness(line, Polyline("a", (0, 10, 100, 10))) == pytest.approx(np.exp(-0.5), abs=1e-6)
    assert line_likeness(line, Polyline("a", (0, 50, 100, 50))) < 1e-4


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 12))
def test_warping_is_the_cheapest_monotone_pairing(seed: int, rows: int, columns: int) -> None:
    cost = np.random.default_rng(seed).random((rows, columns))
    row, column = np.nonzero(warped(np.stack([cost, cost[::-1]]))[0])
    assert (row[0], column[0], row[-1], column[-1]) == (0, 0, rows - 1, columns - 1)
    steps = np.stack([np.diff(row), np.diff(column)])
    assert steps.min(initial=0) >= 0
    assert steps.max(initial=1) <= 1
    total = np.full((rows, columns), np.inf)
    for i in range(rows):
        for j in range(columns):
            before = [total[i - 1, j] if i else np.inf, total[i, j - 1] if j else np.inf]
            before.append(total[i - 1, j - 1] if i and j else (0.0 if i == j == 0 else np.inf))
            total[i, j] = cost[i, j] + min(before)
    assert cost[row, column].sum() == pytest.approx(total[-1, -1])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=9), st.integers(0, 99)
)
def test_any_lines_can_be_joined(points: list[tuple[int, int]], seed: int) -> None:
    line = np.array(points, dtype=float)
    if not np.ptp(line, axis=0).any():
        return
    rng = np.random.default_rng(seed)
    live = LivePolylines()
    for who in ("a", "b", "c"):
        live.add("i", who, (Polyline("x", flat(line + rng.normal(scale=0.2, size=line.shape))),))
    for one in live.posterior("i").value:
        assert np.isfinite(one.line).all()
        assert len(one.line) >= 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ((0.0, 0.0), "the line is 2 numbers"),
        ((0.0, 0.0, 1.0), "the line is 3 numbers"),
        ((0.0, 0.0, 1.0, float("nan")), "the line has nan at point 1"),
        ((1.0, 2.0, 1.0, 2.0), "all points of the line are the same"),
    ],
)
def test_what_is_wrong_with_a_line_is_told(line: tuple[float, ...], said: str) -> None:
    with pytest.raises(ValueError, match=f"object 0: .*{said}"):
        LivePolylines().add("i", "w", (Polyline("a", line),))
