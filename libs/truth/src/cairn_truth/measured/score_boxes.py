"""Boxes from recorded crowds, by our method and by simple ones, judged by true boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..columns import Floats, real_number
from ..shapes.boxes import Box, LiveBoxes, edges, iou
from ..shapes.fields import corner_and_size
from ..shapes.matching import assigned
from .tables import from_json

KIND = "boxes"
"""What a folder holds that is scored here: a cell is [[x1, y1, x2, y2], ...], or one box without the outer brackets."""

Answer = tuple[Box, ...]

Answers = Mapping[str, Mapping[str, Answer]]
"""Item to labeler to boxes."""

_SAME = 0.5
"""IoU from which on the simple methods take two boxes for one, and a box counts as found."""


def read(label: str) -> Answer:
    """Return the boxes of a csv cell; a fifth entry of a box, if any, is its class. Raises ValueError."""
    try:
        cell = from_json(label)
    except ValueError:
        raise ValueError(f"boxes are {label!r:.100}; expected [[x1, y1, x2, y2], ...] in JSON") from None
    if not isinstance(cell, list):
        raise ValueError(f"boxes are {label!r:.100}; expected [[x1, y1, x2, y2], ...]")
    rows = [cell] if cell and not isinstance(cell[0], list) else cell
    boxes = []
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) not in (4, 5):
            raise ValueError(f"box {number} is {row!r:.100}; expected [x1, y1, x2, y2]")
        x0, y0, x1, y1 = (real_number(f"box {number}[{at}]", v) for at, v in enumerate(row[:4]))
        corner = corner_and_size(x0, y0, x1 - x0, y1 - y0)
        boxes.append(Box(str(row[4]) if len(row) == 5 else "", *corner))
    return tuple(boxes)


def live_boxes(answers: Answers) -> dict[str, Answer]:
    """Return what `LiveBoxes` says."""
    return {item: joined.value for item, joined in LiveBoxes().fit(answers).items()}


def greedy_majority(answers: Answers) -> dict[str, Answer]:
    """Return the boxes that half of an item's labelers marked.

    A box joins the first cluster that is more like it than `_SAME`, labelers one after the other; a cluster is its
    coordinates' medians and its most frequent class. What most pipelines do.
    """
    return {item: _greedy(votes) for item, votes in answers.items()}


def _greedy(votes: Mapping[str, Answer]) -> Answer:
    clusters: list[list[Box]] = []
    for who in sorted(votes):
        taken: set[int] = set()
        for box in votes[who]:
            near = [
                k
                for k, cluster in enumerate(clusters)
                if k not in taken and iou(edges([box]), edges([_median(cluster)]))[0] > _SAME
            ]
            if near:
                clusters[near[0]].append(box)
                taken.add(near[0])
            else:
                taken.add(len(clusters))
                clusters.append([box])
    return tuple(_median(cluster) for cluster in clusters if 2 * len(cluster) >= len(votes))


def _median(boxes: Sequence[Box]) -> Box:
    x0, y0, x1, y1 = (float(v) for v in np.median(edges(boxes), axis=0))
    named = [box.class_id for box in boxes]
    return Box(min(named, key=lambda name: (-named.count(name), name)), x0, y0, x1 - x0, y1 - y0)


def median_box(answers: Answers) -> dict[str, Answer]:
    """Return the coordinates' medians of everybody's first box, for questions of one box an item."""
    first = {item: [votes[who][0] for who in sorted(votes) if votes[who]] for item, votes in answers.items()}
    return {item: (_median(boxes),) if boxes else () for item, boxes in first.items()}


def medoid_answer(answers: Answers) -> dict[str, Answer]:
    """Return the answer that is most like all others of its item, by `mean_iou`."""
    chosen = {}
    for item, votes in answers.items():
        given = [votes[who] for who in sorted(votes)]
        worth = [sum(mean_iou(one, other) for other in given) for one in given]
        chosen[item] = given[int(np.argmax(worth))] if given else ()
    return chosen


def first_answer(answers: Answers) -> dict[str, Answer]:
    """Return the answer of the first labeler by name."""
    return {item: votes[min(votes)] if votes else () for item, votes in answers.items()}


DEFAULT = "LiveBoxes"

METHODS: Mapping[str, Callable[[Answers], Mapping[str, Answer]]] = {
    DEFAULT: live_boxes,
    "GreedyMajority": greedy_majority,
    "MedianBox": median_box,
    "MedoidAnswer": medoid_answer,
    "FirstAnswer": first_answer,
}
"""Every method with its defaults. Ours first."""


def judge(values: Mapping[str, Answer], truths: Mapping[str, Answer]) -> dict[str, float]:
    """Return means over the items with a truth: ``iou`` as `mean_iou`, ``f1`` of boxes found at IoU .5 in the class."""
    items = sorted(set(values) & set(truths))
    if not items:
        return {"iou": 0.0, "f1": 0.0}
    return {
        "iou": float(np.mean([mean_iou(values[item], truths[item]) for item in items])),
        "f1": float(np.mean([object_f1(values[item], truths[item]) for item in items])),
    }


def mean_iou(value: Answer, truth: Answer) -> float:
    """Return the IoU of boxes in their best one-to-one pairing, over the longer list's length; 1 if both are empty."""
    if not value or not truth:
        return float(not value and not truth)
    alike = _pairwise(value, truth)
    rows, columns = assigned(alike, 0.0)
    return float(alike[rows, columns].sum() / max(len(value), len(truth)))


def object_f1(value: Answer, truth: Answer, tolerance: float = _SAME) -> float:
    """Return the F1 of boxes of the right class that have an IoU of ``tolerance``; 1 if both lists are empty."""
    if not value or not truth:
        return float(not value and not truth)
    same = np.array([[a.class_id == b.class_id for b in truth] for a in value])
    found = ((_pairwise(value, truth) >= tolerance) & same).astype(np.float64)
    return 2.0 * assigned(found, 0.0)[0].size / (len(value) + len(truth))


def _pairwise(value: Answer, truth: Answer) -> Floats:
    left = np.repeat(edges(value), len(truth), axis=0)
    return iou(left, np.tile(edges(truth), (len(value), 1))).reshape(len(value), len(truth))
