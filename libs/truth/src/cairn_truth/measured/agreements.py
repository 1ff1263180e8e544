"""How far the labelers of a recorded crowd agree, by the statistics that suit its kind of answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np

from ..quality.agreement import (
    Agreement,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac,
    krippendorff_alpha,
    raw_agreement,
    scott_pi,
)
from ..quality.agreement_intervals import interval_of_mean
from . import score_boxes, score_masks, score_numbers, score_pairs, score_spans, score_texts
from .kinds import CHOICES, CLASSES, RANKINGS, RATINGS, UnknownKindError
from .recorded import SCORINGS, Crowd, named_classes, outcome_in
from .tables import Cell, parsed

_MANY = 1 << 53
"""Trials without a bound: likeness is no count."""


def agreements(kind: str, cells: Sequence[Cell]) -> Iterator[Agreement | ValueError]:
    """Yield every statistic with its interval, or the error that says why it is not defined here.

    Classes, texts (compared without case and punctuation) and preferences (left, right or same, whatever the
    candidates are called): Krippendorff's alpha (nominal), Fleiss'
    kappa, Gwet's AC1, raw agreement, and of two labelers Cohen's kappa and Scott's pi. Numbers and ratings: alpha,
    interval and ordinal. Spans, boxes and polygons: the mean likeness of two answers to an item, by the kind's main
    measure.
    """
    if kind in {score_spans.KIND, score_boxes.KIND, score_masks.KIND}:
        yield _defined(partial(_likeness, kind, parsed(cells, SCORINGS[kind].read)))
        return
    item, labeler = [cell.item for cell in cells], [cell.labeler for cell in cells]
    if kind in {CHOICES, RANKINGS}:
        raise UnknownKindError(
            f"holds {kind}, of which nothing here tells the agreement; expected another kind"
        )
    if kind in {score_numbers.KIND, RATINGS}:
        numbers = [_number(cell) for cell in cells]
        for level in ("interval", "ordinal"):
            yield _defined(partial(krippendorff_alpha, item, labeler, numbers, level))
        return
    number = named_classes(cells).number if kind == CLASSES else {}
    value = [number[cell.label] if kind == CLASSES else _compared(kind, cell) for cell in cells]
    two = (cohen_kappa, scott_pi) if len(set(labeler)) == 2 else ()
    for statistic in (krippendorff_alpha, fleiss_kappa, gwet_ac, raw_agreement, *two):
        yield _defined(partial(statistic, item, labeler, value))


def _defined(statistic: Callable[[], Agreement]) -> Agreement | ValueError:
    try:
        return statistic()
    except ValueError as undefined:
        return undefined


def _number(cell: Cell) -> float:
    try:
        return score_numbers.read(cell.label)
    except ValueError as problem:
        raise cell.wrong(problem) from None


def _compared(kind: str, cell: Cell) -> str:
    if kind == score_pairs.KIND:
        # By name nobody would agree by chance: names differ from item to item, sides do not.
        return ("left", "right", "same")[outcome_in(cell)]
    return " ".join(score_texts.keys_of(cell.label))


def _likeness(kind: str, crowd: Crowd) -> Agreement:
    """Return how alike two answers to an item are on average, with an interval for items drawn from many.

    Raises ValueError where no item has two answers.
    """
    judge = SCORINGS[kind].judge
    each = [
        float(np.mean([_main(judge({item: one}, {item: other})) for one, other in combinations(said, 2)]))
        for item, said in ((item, list(votes.values())) for item, votes in crowd.items())
        if len(said) >= 2
    ]
    if not each:
        raise ValueError("no item has answers by two labelers; expected one or more")
    value = float(np.mean(each))
    # All alike to the bit vary as little as whole agreements would: likeness itself says how many trials it is worth.
    low, high = interval_of_mean(np.array(each), len(each) if np.ptp(each) == 0.0 else _MANY)
    labelers = len({who for votes in crowd.values() for who in votes})
    name = f"mean {next(iter(judge({}, {})))} of two answers"
    return Agreement(name, value, low, high, len(each), labelers, sum(len(votes) for votes in crowd.values()))


def _main(measures: Mapping[str, float]) -> float:
    return next(iter(measures.values()))
