"""Crowds that draw boxes: they miss some, invent some, draw some twice and some two as one, each in their own measure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cairn_truth.shapes.boxes import Box, edges

CLASSES = "abcde"

Answer = tuple[Box, ...]


@dataclass(frozen=True)
class BoxCrowd:
    """Item to labeler to boxes, with the true boxes and what each labeler was drawn with, by number in the name."""

    answers: dict[str, dict[str, Answer]]
    truth: dict[str, Answer]
    recall: np.ndarray
    false_alarms: np.ndarray
    accuracy: np.ndarray


def box_crowd(
    *,
    items: int = 100,
    labelers: int = 10,
    each: int = 4,
    objects: float = 4.0,
    span: float = 600.0,
    miss: float = 0.15,
    false: float = 0.4,
    edge: float = 0.05,
    accuracy: float = 0.9,
    twice: float = 0.0,
    merged: float = 0.0,
    shared_false: float = 0.0,
    seed: int = 0,
) -> BoxCrowd:
    """Draw a crowd; rates are the crowd's means, and labelers differ widely.

    ``shared_false``: distractors an item, each of which fools a labeler with the chance .2.
    """
    chance = np.random.default_rng(seed)
    recall = chance.beta(6.0 * (1.0 - miss), 6.0 * miss, labelers)
    alarms = chance.gamma(1.0, false, labelers) if false else np.zeros(labelers)
    right = chance.beta(6.0 * accuracy, 6.0 * (1.0 - accuracy), labelers)
    spread = edge * np.exp(chance.normal(0.0, 0.5, labelers))
    truth: dict[str, Answer] = {}
    answers: dict[str, dict[str, Answer]] = {}
    for number in range(items):
        item = f"i{number:04d}"
        truth[item] = tuple(_box(chance, span) for _ in range(chance.poisson(objects)))
        fooling = [_box(chance, span) for _ in range(chance.poisson(shared_false))]
        answers[item] = {}
        for k in chance.choice(labelers, each, replace=False):
            drawn = [
                _drawn(chance, box, spread[k], right[k]) for box in truth[item] if chance.random() < recall[k]
            ]
            drawn += [_drawn(chance, box, spread[k], right[k]) for box in drawn if chance.random() < twice]
            drawn += [_drawn(chance, box, spread[k], right[k]) for box in fooling if chance.random() < 0.2]
            drawn += [_box(chance, span) for _ in range(chance.poisson(alarms[k]))]
            if len(drawn) > 1 and chance.random() < merged:
                drawn = [_around(drawn[0], drawn[1]), *drawn[2:]]
            answers[item][f"w{k:02d}"] = tuple(drawn)
    return BoxCrowd(answers, truth, recall, alarms, right)


def _box(chance: np.random.Generator, span: float) -> Box:
    width, height = np.exp(chance.normal(4.3, 0.5, 2))
    x, y = chance.uniform(0.0, span, 2)
    return Box(CLASSES[chance.integers(5)], float(x), float(y), float(width), float(height))


def _drawn(chance: np.random.Generator, box: Box, spread: float, accuracy: float) -> Box:
    size = np.array([box.width, box.height, box.width, box.height])
    x0, y0, x1, y1 = edges([box])[0] + chance.standard_t(4.0, 4) * spread * size
    named = box.class_id if chance.random() < accuracy else CLASSES[chance.integers(5)]
    return Box(named, float(x0), float(y0), float(max(x1 - x0, 2.0)), float(max(y1 - y0, 2.0)))


def _around(one: Box, other: Box) -> Box:
    both = edges([one, other])
    x0, y0, x1, y1 = *both[:, :2].min(axis=0), *both[:, 2:].max(axis=0)
    return Box(one.class_id, float(x0), float(y0), float(x1 - x0), float(y1 - y0))
