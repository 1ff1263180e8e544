"""Methods for preferences on a recorded crowd: how often right, and how well calibrated.

An item is named ``group|left|right``, ``left|right``, or as one likes where its candidates occur nowhere else; a label
is the better candidate's id, or one of the words below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from ..classes.hierarchical import HierarchicalDawidSkene
from ..classes.votes import Votes
from ..columns import Floats
from ..routing.calibration import expected_calibration_error
from ..values.bradley_terry import HierarchicalBradleyTerry
from ..values.comparisons import LEFT, NEITHER, RIGHT, Comparisons
from ..values.davidson import Davidson, NoisyBradleyTerry, vote_counts

Answer: TypeAlias = str
"""A label as it was written."""

Value: TypeAlias = tuple[float, float, float]
"""The probabilities that left, right and neither is right."""

Crowd: TypeAlias = Mapping[str, Mapping[str, Answer]]
"""Item to labeler to answer."""

KIND = "preferences"
DEFAULT = HierarchicalBradleyTerry.__name__

_WORDS = {
    **dict.fromkeys(("a", "left", "l", "first", "model_a"), LEFT),
    **dict.fromkeys(("b", "right", "r", "second", "model_b"), RIGHT),
    **dict.fromkeys(("", "s", "tie", "same", "neither", "draw", "equal", "both"), NEITHER),
}

_LEAST = 1e-6
"""Probability below which a method that was certain and wrong is not punished further."""


def read(label: str) -> Answer:
    """Return the answer in a cell of a csv file."""
    return label.strip()


def outcome_of(item: str, answer: Answer) -> int:
    """Return 0 for left, 1 for right, 2 for neither. Raises ValueError for what is none of them."""
    _, left, right = candidates_of(item)
    if answer in (left, right):
        return LEFT if answer == left else RIGHT
    if answer.lower() not in _WORDS:
        raise ValueError(
            f"label of {item!r} is {answer!r}; expected {left!r}, {right!r}, or a, b or s (same)"
        )
    return _WORDS[answer.lower()]


def candidates_of(item: str) -> tuple[str, str, str]:
    """Return the group, the left and the right candidate that an item's name holds; its own where it holds none."""
    parts = item.rsplit("|", 2)
    if len(parts) < 2 or parts[-1] == parts[-2]:
        return "", f"{item}|a", f"{item}|b"
    return parts[0] if len(parts) == 3 else "", parts[-2], parts[-1]


def columns_of(crowd: Crowd) -> Comparisons:
    """Return a crowd's answers as comparisons, each item a pair of its own."""
    rows = [(item, who, outcome_of(item, answer)) for item in crowd for who, answer in crowd[item].items()]
    named = {item: candidates_of(item) for item in crowd}
    return Comparisons.of(
        left=[named[item][1] for item, _, _ in rows],
        right=[named[item][2] for item, _, _ in rows],
        labeler=[who for _, who, _ in rows],
        outcome=[outcome for _, _, outcome in rows],
        group=[named[item][0] for item, _, _ in rows],
        pair=[item for item, _, _ in rows],
        # Where nobody ever said neither, nobody could.
        ties=any(outcome == NEITHER for _, _, outcome in rows),
    )


def _method(chance: Callable[[Comparisons], Floats]) -> Callable[[Crowd], Mapping[str, Value]]:
    """Return a method that gives each item's chances, seen as the item is named, from those of sorted pairs."""

    def judged(crowd: Crowd) -> Mapping[str, Value]:
        columns = columns_of(crowd)
        values = {}
        for item, (first, second, neither) in zip(columns.pairs, chance(columns).tolist(), strict=True):
            _, left, right = candidates_of(item)
            values[item] = (second, first, neither) if right < left else (first, second, neither)
        return values

    return judged


def _dawid_skene(columns: Comparisons) -> Floats:
    votes = Votes.of(
        columns.pair,
        columns.labeler,
        columns.outcome,
        classes=3,
        items=len(columns.pairs),
        labelers=len(columns.labelers),
    )
    return HierarchicalDawidSkene().fit(votes).posterior


def _majority(columns: Comparisons) -> Floats:
    counts = vote_counts(columns)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


METHODS: Mapping[str, Callable[[Crowd], Mapping[str, Value]]] = {
    DEFAULT: _method(lambda columns: HierarchicalBradleyTerry().fit(columns).right()),
    "MajorityVote": _method(_majority),
    "HierarchicalDawidSkene": _method(_dawid_skene),
    "Davidson": _method(lambda columns: Davidson().fit(columns).chance),
    "NoisyBradleyTerry": _method(lambda columns: NoisyBradleyTerry().fit(columns).chance),
}
"""Every method with its defaults, by its paper's name: a crowd to each item's chances. Ours first."""


def judge(values: Mapping[str, Value], truths: Mapping[str, Answer]) -> dict[str, float]:
    """Return the measures, over items with both.

    ``accuracy`` of the likeliest outcome; ``side_accuracy``: of the likelier side where one is truly better, a draw
    counting half; ``log_loss`` in nats; ``ece``: expected calibration error of the likeliest outcome.
    """
    items = sorted(values.keys() & truths.keys())
    if not items:
        return dict.fromkeys(("accuracy", "side_accuracy", "log_loss", "ece"), float("nan"))
    chance = np.array([values[item] for item in items])
    truth = np.array([outcome_of(item, truths[item]) for item in items])
    right = chance.argmax(axis=1) == truth
    sided = truth != NEITHER
    lead = chance[sided, LEFT] - chance[sided, RIGHT]
    toward = np.where(truth[sided] == LEFT, lead, -lead)
    picked = np.maximum(chance[np.arange(truth.size), truth], _LEAST)
    return {
        "accuracy": float(right.mean()),
        "side_accuracy": float(np.mean((np.sign(toward) + 1.0) / 2.0)) if sided.any() else float("nan"),
        "log_loss": float(-np.log(picked).mean()),
        "ece": expected_calibration_error(chance.max(axis=1), right),
    }
