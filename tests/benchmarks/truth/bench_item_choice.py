"""Which item is worth an answer: answers that each strategy needs for what chance reaches with 5,000.

A linear head is trained again after every batch, three tenths of what there is; answers
are right. Accuracy is that on items which are never asked about, and between two batches it is taken to grow evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from cairn_truth.routing.item_choice import Strategy, choose
from tests.benchmarks.truth.pools import Pool, banking77, cifar10, labelme
from tests.benchmarks.truth.rows import Row, Rows

SEEDS = 5
GROWTH = 1.3


@dataclass(frozen=True, slots=True)
class Task:
    """A pool of which the first ``training`` may be asked about, and what chance is given."""

    name: str
    pool: Pool
    training: int
    budget: int


def rows(data: Path) -> Rows:
    """Yield the answers needed as a share of those that chance is given, and the time of a choice."""
    text, training = banking77(data)
    tasks = [
        Task("banking77", text, training, 5000),
        Task("cifar10 (patch features)", _shuffled(cifar10(data)), 8000, 5000),
        Task("labelme", _shuffled(labelme(data)), 1688, 1000),
    ]
    for task in tasks:
        goal = 0.6 if task.budget == 5000 else None
        target = float(np.mean([_by_chance(task, seed) for seed in range(SEEDS)]))
        ours, margin = (
            [_answers_needed(task, strategy, target, seed) / task.budget for seed in range(SEEDS)]
            for strategy in (Strategy.DEFAULT, Strategy.MARGIN)
        )
        yield Row(
            f"item choice, {task.name}: answers for the {target:.3f} that chance reaches with {task.budget:,}",
            "share",
            float(np.mean(ours)),
            float(np.mean(margin)),
            "margin",
            most=goal,
            spread=max(ours) - min(ours),
        )
    yield Row("item choice of 200 among 100,000 items of 256 dimensions", "s", _seconds(), most=10.0)


def _answers_needed(task: Task, strategy: Strategy, target: float, seed: int) -> float:
    """Return the answers at which ``target`` is reached; the whole budget where it never is."""
    pool, chance = task.pool, np.random.default_rng(seed)
    known = pool.features[: task.training]
    labeled = np.zeros(task.training, dtype=np.bool_)
    table = None
    before = (0, 0.0)
    while labeled.sum() < task.budget:
        batch = max(2 * pool.classes if table is None else 0, round((GROWTH - 1.0) * labeled.sum()), 1)
        cold = Strategy.RANDOM if strategy is Strategy.MARGIN and table is None else strategy
        asked = choose(cold, batch, chance, labeled=labeled, probabilities=table, embeddings=known)
        labeled[asked] = True
        head = pool.head(np.flatnonzero(labeled))
        now = (int(labeled.sum()), _accuracy(task, head))
        if now[1] >= target:
            (start, low), (end, high) = before, now
            return start + (end - start) * (target - low) / (high - low)
        before, table = now, pool.probabilities(head, slice(task.training))
    return float(task.budget)


def _by_chance(task: Task, seed: int) -> float:
    drawn = np.random.default_rng(seed).choice(task.training, task.budget, replace=False)
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
