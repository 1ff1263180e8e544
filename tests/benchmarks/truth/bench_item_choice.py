"""Which item is worth an answer: answers that each strategy needs for what chance reaches with 1,000 and with 5,000.

A linear head is trained again after every batch, three tenths of what there is; answers are right. Accuracy is that on
items which are never asked about. It is averaged over all seeds, after the same numbers of answers, before it is asked
when what chance reaches is reached: between two batches accuracy is taken to grow evenly. Near the end it grows by half
a point in a thousand answers, as much as one seed differs from another: the first crossings of single seeds, which are
what ``spread`` tells, say little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from cairn_truth.routing.item_choice import Strategy, choose
from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.truth.pools import Pool, banking77, cifar10, labelme

SEEDS = 10
GROWTH = 1.3
GOAL = 0.6
"""Of what is goal for the larger budget."""

Curve = list[tuple[int, float]]
"""Answers and the accuracy reached with them."""


@dataclass(frozen=True, slots=True)
class Task:
    """A pool of which the first ``training`` may be asked about, and what chance is given: little, and much."""

    name: str
    pool: Pool
    training: int
    budgets: tuple[int, int]
    goal: float | None = None


def rows(data: Path) -> Rows:
    """Yield how good the photographs' features are, the answers needed as a share of chance's, and a choice's time."""
    text, training = banking77(data)
    photographs = _shuffled(cifar10(data))
    tasks = [
        Task("banking77", text, training, (1000, 5000), GOAL),
        Task("cifar10", photographs, 8000, (1000, 5000), GOAL),
        Task("labelme", _shuffled(labelme(data)), 1688, (200, 1000)),
    ]
    learnt = float(np.mean([_by_chance(tasks[1], 1500, seed) for seed in range(SEEDS)]))
    yield Row("cifar10's features: accuracy of a head on 1,500", "share", learnt, least=0.71)
    for task in tasks:
        yield from _needed(task)
    yield Row("item choice of 200 among 100,000 items of 256 dimensions", "s", _seconds(), most=10.0)


def _needed(task: Task) -> Rows:
    targets = [
        float(np.mean([_by_chance(task, budget, seed) for seed in range(SEEDS)])) for budget in task.budgets
    ]
    ours, margin = (_curves(task, strategy, max(targets)) for strategy in (Strategy.DEFAULT, Strategy.MARGIN))
    for budget, target in zip(task.budgets, targets, strict=True):
        single = [_crossing(curve, target) / budget for curve in ours]
        yield Row(
            f"item choice, {task.name}: answers for the {target:.3f} that chance reaches with {budget:,}",
            "share",
            _crossing(_mean(ours), target) / budget,
            _crossing(_mean(margin), target) / budget,
            "margin",
            most=task.goal if budget == max(task.budgets) else None,
            spread=max(single) - min(single),
        )


def _curves(task: Task, strategy: Strategy, target: float) -> list[Curve]:
    """Return each seed's curve, up to where all of them together have reached ``target``, or all is spent."""
    found: list[Curve] = [[] for _ in range(SEEDS)]
    for steps in zip(*(_asking(task, strategy, seed) for seed in range(SEEDS)), strict=True):
        for curve, step in zip(found, steps, strict=True):
            curve.append(step)
        if np.mean([accuracy for _, accuracy in steps]) >= target:
            break
    return found


def _mean(curves: list[Curve]) -> Curve:
    return [(steps[0][0], float(np.mean([a for _, a in steps]))) for steps in zip(*curves, strict=True)]


def _crossing(curve: Curve, target: float) -> float:
    """Return the answers at which ``target`` is reached; the last where it never is."""
    start, low = 0, 0.0
    for end, high in curve:
        if high >= target:
            return start + (end - start) * (target - low) / (high - low)
        start, low = end, high
    return float(start)


def _asking(task: Task, strategy: Strategy, seed: int) -> Iterator[tuple[int, float]]:
    """Yield the answers and the accuracy after each batch; every seed has batches of the same sizes."""
    pool, chance = task.pool, np.random.default_rng(seed)
    known = pool.features[: task.training]
    labeled = np.zeros(task.training, dtype=np.bool_)
    table = None
    while labeled.sum() < max(task.budgets):
        batch = max(2 * pool.classes if table is None else 0, round((GROWTH - 1.0) * labeled.sum()), 1)
        cold = Strategy.RANDOM if strategy is Strategy.MARGIN and table is None else strategy
        asked = choose(cold, batch, chance, labeled=labeled, probabilities=table, embeddings=known)
        labeled[asked] = True
        head = pool.head(np.flatnonzero(labeled))
        yield int(labeled.sum()), _accuracy(task, head)
        table = pool.probabilities(head, slice(task.training))


def _by_chance(task: Task, budget: int, seed: int) -> float:
    drawn = np.random.default_rng(seed).choice(task.training, budget, replace=False)
    return _accuracy(task, task.pool.head(np.sort(drawn)))


def _accuracy(task: Task, head: object) -> float:
    said = task.pool.probabilities(head, slice(task.training, None)).argmax(axis=1)
    return float((said == task.pool.truth[task.training :]).mean())


def _shuffled(pool: Pool) -> Pool:
    order = np.random.default_rng(0).permutation(len(pool.truth))
    return Pool(pool.features[order], pool.truth[order], pool.looseness)


def _seconds() -> float:
    """Return the longest that one of the strategies behind the default takes."""
    chance = np.random.default_rng(0)
    points = chance.normal(size=(100_000, 256)).astype(np.float32)
    table = chance.dirichlet(np.ones(20), len(points))
    labeled = np.arange(len(points)) < 400
    taken = []
    for strategy in (Strategy.TYPICLUST, Strategy.CLUSTER_MARGIN):
        started = perf_counter()
        choose(strategy, 200, chance, labeled=labeled, probabilities=table, embeddings=points)
        taken.append(perf_counter() - started)
    return max(taken)
