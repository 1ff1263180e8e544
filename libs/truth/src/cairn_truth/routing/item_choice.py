"""Which item is worth an answer: what a model is unsure of, spread out, beside a share by chance.

`choose` takes what is known of a pool, the model's probabilities and embeddings, and returns the next batch. It is pure:
randomness comes from the generator it is given, and rows are told apart by their place alone. `answer_prices` puts a
further answer to an old item and a first one to a new item on one scale.
"""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import (
    as_array,
    check_generator,
    check_probability,
    numbers,
    real_number,
    shares,
    whole_number,
    whole_numbers,
)
from .clusters import distances, k_means, spread_out

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

RANDOM_SHARE = 0.1
"""A tenth of every batch is by chance: a model cannot talk itself out of a blind spot, and drift is seen there."""

_SHORTLIST = 5
"""Diversity chooses among so many times the batch, the least sure: with more, sure items come in for being different;
with fewer, nothing is left to choose."""

_LEAST_WEIGHT = 1e-6
"""Of an item that the model is certain of: where it is of all, clusters are as if nothing were known."""

_NEIGHBOURS = 20
"""Typicality is the inverse mean distance to so many neighbours (Hacohen et al. 2022)."""

_MOST_CLUSTERS = 500
"""Clusters of TypiClust; the published bound."""

_COMPARED = 1000
"""In a cluster larger than this, neighbours are looked for among so many of it, drawn at random."""

_COMPARED_ITEMS = 20_000
"""Of a larger pool so many open items, drawn at random, are compared with all others: enough for any batch that people
answer before the next is chosen, and seconds instead of minutes."""

_WARM = 2.0
"""Labels a class from which a model's doubts are worth more than what is typical."""


class Strategy(enum.Enum):
    """How a batch is chosen.

    ``RANDOM``: by chance. ``LEAST_CONFIDENCE``, ``MARGIN`` (Scheffer et al. 2001), ``ENTROPY``: the least sure, by the
    best class, by its lead over the second, by all. ``TYPICLUST`` (Hacohen, Dekel & Weinshall, ICML 2022): the most
    typical item of each cluster without a label. ``BADGE`` (Ash et al., ICLR 2020): k-means++ on the gradients that
    labels would give the last layer. ``CORESET`` (Sener & Savarese, ICLR 2018): greedily, what is farthest from all
    that is labeled. ``CLUSTER_MARGIN``: one of each cluster of the least sure, that of the least margin, where items
    draw the clusters to themselves by how unsure they are (after Zhdanov 2019 and Citovsky et al. 2021). ``DEFAULT``:
    `TYPICLUST` while there is no model, or less than 2 labels a class, then `CLUSTER_MARGIN`.
    """

    DEFAULT = "default"
    RANDOM = "random"
    LEAST_CONFIDENCE = "least_confidence"
    MARGIN = "margin"
    ENTROPY = "entropy"
    TYPICLUST = "typiclust"
    BADGE = "badge"
    CORESET = "coreset"
    CLUSTER_MARGIN = "cluster_margin"


_ASKS_MODEL = {
    Strategy.LEAST_CONFIDENCE,
    Strategy.MARGIN,
    Strategy.ENTROPY,
    Strategy.BADGE,
    Strategy.CLUSTER_MARGIN,
}
_COMPARES_ALL = {Strategy.TYPICLUST, Strategy.BADGE, Strategy.CORESET}
_ASKS_EMBEDDINGS = {Strategy.TYPICLUST, Strategy.BADGE, Strategy.CORESET, Strategy.CLUSTER_MARGIN}


def choose(
    strategy: Strategy | str,
    batch: int,
    rng: np.random.Generator,
    *,
    labeled: ArrayLike,
    probabilities: ArrayLike | None = None,
    embeddings: ArrayLike | None = None,
    random_share: float = RANDOM_SHARE,
) -> Ints:
    """Return the rows of the next ``batch`` items to ask about, each once, none of them labeled.

    ``labeled`` ``(n,)`` says which rows have, or are already asked for, an answer; ``probabilities`` ``(n, classes)``
    are a model's and ``embeddings`` ``(n, d)`` the items', of all rows. The last ``random_share`` of the batch, on average
    (of five items every other time one), is drawn by chance whatever the strategy; where fewer items are left than asked
    for, all of them are returned. The default does with what there is: without embeddings `MARGIN`, without a model
    `TYPICLUST`, without either chance.

    Raises ValueError for shapes that do not fit, what is not finite, and a strategy that lacks what it needs. Cost:
    ``n log n`` for one score an item; ``n d`` an item of the batch for `BADGE` and `CORESET`; ``k d`` an item of the pool
    for `TYPICLUST` with k clusters (of at most 20,000 open items, all three); ``k d`` an item of the shortlist for
    `CLUSTER_MARGIN`.
    """
    check_generator(rng)
    batch = whole_number("batch", batch)
    random_share = real_number("random_share", random_share, least=0.0, most=1.0)
    taken = _mask(labeled)
    chances, points = _chances(probabilities, taken.size), _points(embeddings, taken.size)
    strategy = _fitting(_named(strategy), chances, points, int(taken.sum()))
    free = np.flatnonzero(~taken)
    batch = min(batch, free.size)
    by_chance = batch if strategy is Strategy.RANDOM else _rounded(random_share * batch, rng)
    drawn = rng.choice(free, by_chance, replace=False)
    wanted = batch - by_chance
    if wanted == 0:
        return np.asarray(drawn)
    taken[drawn] = True
    return np.concatenate([_chosen(strategy, wanted, rng, taken, chances, points), drawn])


def _named(strategy: Strategy | str) -> Strategy:
    try:
        return Strategy(strategy)
    except ValueError:
        known = ", ".join(one.value for one in Strategy)
        raise ValueError(f"strategy is {strategy!r:.100}; expected one of {known}") from None


def _rounded(share: float, rng: np.random.Generator) -> int:
    """Return a share of a batch as a whole number, up or down by chance: a tenth of five is one every other time."""
    return int(np.floor(share + rng.random()))


def margins(probabilities: ArrayLike) -> Floats:
    """Return the lead ``(n,)`` of the best class over the second; with one class, its whole probability."""
    table = shares("probabilities", probabilities)
    if table.ndim != 2 or table.shape[1] == 0:
        raise ValueError(f"probabilities have shape {table.shape}; expected (n, classes)")
    if table.shape[1] == 1:
        return np.asarray(table[:, 0])
    top = np.partition(table, -2, axis=1)
    return np.asarray(top[:, -1] - top[:, -2])


def answer_prices(
    posteriors: ArrayLike,
    probabilities: ArrayLike,
    *,
    answers: ArrayLike,
    labeler_accuracy: float,
    model_accuracy: float,
    model_confidence: float | None = None,
) -> Floats:
    """Return what one more answer to each item is worth ``(n,)``: the expected fall of its label's error.

    One price list for first labels and for repeated ones, after the idea of ActiveLab (Goh & Mueller 2023), where an
    item's doubt is people's and the model's together. ``posteriors`` ``(n, classes)`` are by people's answers (ignored
    where there is none), ``answers`` ``(n,)`` how many each item has, ``probabilities`` ``(n, classes)`` the model's,
    out of sample. The belief in an item is the product of the two, the model's word counted by its accuracy like a
    labeler's: tempered to claim no more, on average, than it is known to reach. ``model_confidence`` is what it claims on
    average over its pool; by default over these items, so that prices of other calls are not of the same list. The
    price is the probability that one further answer, right with ``labeler_accuracy`` and else evenly
    wrong, turns the label, times what is gained when it does: what is settled is worth nothing, be it new or old.

    Raises ValueError for shapes that do not fit and accuracies outside (0, 1).
    """
    people, model = shares("posteriors", posteriors), shares("probabilities", probabilities)
    count = whole_numbers("answers", answers)
    if people.ndim != 2 or people.shape != model.shape or count.shape != people.shape[:1]:
        raise ValueError(
            f"posteriors have shape {people.shape}, probabilities {model.shape}, answers {count.shape}; "
            "expected (n, classes) twice, and (n,)"
        )
    check_probability("labeler_accuracy", labeler_accuracy)
    check_probability("model_accuracy", model_accuracy)
    if model_confidence is not None:
        real_number("model_confidence", model_confidence, above=0.0, most=1.0)
    classes = people.shape[1]
    if classes < 2 or not len(people):
        return np.zeros(len(people))
    claimed = float(model.max(axis=1).mean()) if model_confidence is None else model_confidence
    belief = _together(np.where(count[:, None] > 0, people, 1.0 / classes), model, model_accuracy, claimed)
    error_now = 1.0 - belief.max(axis=1)
    miss = (1.0 - labeler_accuracy) / (classes - 1)
    error_then = np.ones(len(people))
    best, second = np.partition(belief, (-2, -1), axis=1)[:, [-1, -2]].T
    at_best = belief.argmax(axis=1)
    # After an answer the label is right with probability max_c P(answer | c) belief[c].
    for answer in range(classes):
        mine = labeler_accuracy * belief[:, answer]
        rival = miss * np.where(at_best == answer, second, best)
        error_then -= np.maximum(mine, rival)
    return np.asarray(np.maximum(error_now - error_then, 0.0))


def _together(people: Floats, model: Floats, model_accuracy: float, claimed: float) -> Floats:
    """Return the belief by both: a model that claims so much is tempered to claim no more than it is known to reach."""
    chance = 1.0 / model.shape[1]
    trust = min(1.0, max(model_accuracy - chance, 0.0) / max(claimed - chance, 1e-9))
    log_belief = np.log(np.clip(people, 1e-12, 1.0)) + trust * np.log(np.clip(model, 1e-12, 1.0))
    belief = np.exp(log_belief - log_belief.max(axis=1, keepdims=True))
    return np.asarray(belief / belief.sum(axis=1, keepdims=True))


def _fitting(strategy: Strategy, chances: Floats | None, points: Embeddings | None, labels: int) -> Strategy:
    """Return the strategy that the default stands for; raises ValueError where one lacks what it needs."""
    if strategy is Strategy.DEFAULT:
        warm = chances is not None and labels >= _WARM * chances.shape[1]
        if points is not None:
            return Strategy.CLUSTER_MARGIN if warm else Strategy.TYPICLUST
        return Strategy.MARGIN if chances is not None else Strategy.RANDOM
    if strategy in _ASKS_MODEL and chances is None:
        raise ValueError(f"strategy {strategy.value} needs probabilities; expected (n, classes)")
    if strategy in _ASKS_EMBEDDINGS and points is None:
        raise ValueError(f"strategy {strategy.value} needs embeddings; expected (n, d)")
    return strategy


def _chosen(
    strategy: Strategy,
    batch: int,
    rng: np.random.Generator,
    taken: Mask,
    chances: Floats | None,
    points: Embeddings | None,
) -> Ints:
    """Return ``batch`` rows not ``taken``; there are as many."""
    free = rng.permutation(np.flatnonzero(~taken))  # ties are settled by chance: rows may come in some order
    if strategy in _COMPARES_ALL and points is not None:
        free = np.sort(free[: max(_COMPARED_ITEMS, batch)])
    if strategy is Strategy.TYPICLUST and points is not None:
        rows = np.concatenate([np.flatnonzero(taken), free])
        return np.asarray(rows[_typical(batch, rng, taken[rows], points[rows])])
    if strategy is Strategy.CORESET and points is not None:
        return np.asarray(free[_farthest(batch, rng, points[taken], points[free])])
    if chances is None:
        raise ValueError(f"strategy {strategy.value} needs probabilities; expected (n, classes)")
    if strategy is Strategy.BADGE and points is not None:
        return np.asarray(free[_gradients_apart(batch, rng, chances[free], points[free])])
    doubt = _doubt(strategy, chances[free])
    if strategy is Strategy.CLUSTER_MARGIN and points is not None:
        short = _largest(doubt, min(_SHORTLIST * batch, free.size))
        return np.asarray(free[short][_one_of_each(batch, rng, doubt[short], points[free[short]])])
    return np.asarray(free[_largest(doubt, batch)])


def _doubt(strategy: Strategy, chances: Floats) -> Floats:
    if strategy is Strategy.LEAST_CONFIDENCE:
        return np.asarray(-chances.max(axis=1))
    if strategy is Strategy.ENTROPY:
        return np.asarray(-(chances * np.log(np.clip(chances, 1e-300, None))).sum(axis=1))
    return -margins(chances)


def _largest(values: Floats, count: int) -> Ints:
    return np.argsort(-values, kind="stable")[:count]


def _one_of_each(batch: int, rng: np.random.Generator, doubt: Floats, points: Embeddings) -> Ints:
    """Return the most doubtful of each of ``batch`` clusters; empty ones leave their place to the next in doubt.

    Late, the shortlist is most of what is left, and most of that is sure: clusters of all alike would spend a batch on it.
    """
    if len(points) <= batch:
        return np.arange(len(points))
    weights = np.maximum(1.0 + doubt, _LEAST_WEIGHT).astype(np.float32)  # one less the margin
    cluster, _ = k_means(points, batch, rng, weights)
    by_doubt = np.argsort(-doubt, kind="stable")
    _, first = np.unique(cluster[by_doubt], return_index=True)
    picked = by_doubt[np.sort(first)]
    rest = by_doubt[~np.isin(by_doubt, picked)]
    return np.concatenate([picked, rest[: batch - picked.size]])


def _typical(batch: int, rng: np.random.Generator, taken: Mask, points: Embeddings) -> Ints:
    """Return the most typical free item of the clusters with the fewest labels, the larger first, in turns."""
    clusters = min(int(taken.sum()) + batch, _MOST_CLUSTERS)
    cluster, _ = k_means(points, clusters, rng)
    known = np.bincount(cluster[taken], minlength=clusters)
    size = np.bincount(cluster, minlength=clusters)
    queues: dict[int, list[int]] = {}
    for at in np.flatnonzero(size > known).tolist():
        members = np.flatnonzero(cluster == at)
        spread = _spread(points[members], rng)
        free = ~taken[members]
        queues[at] = members[free][np.argsort(spread[free], kind="stable")][::-1].tolist()
    picked: list[int] = []
    while len(picked) < batch:
        next_up = min(queues, key=lambda c: (known[c], -size[c], c))
        picked.append(queues[next_up].pop())
        known[next_up] += 1
        if not queues[next_up]:
            del queues[next_up]
    return np.array(picked, dtype=np.int64)


def _spread(points: Embeddings, rng: np.random.Generator) -> Embeddings:
    """Return the mean distance ``(m,)`` of each point to its nearest neighbours; the typical have a small one."""
    others = points
    if len(points) > _COMPARED:
        others = points[np.sort(rng.choice(len(points), _COMPARED, replace=False))]
    near = min(_NEIGHBOURS + 1, len(others))
    closest = np.partition(distances(points, others), near - 1, axis=1)[:, :near]
    return np.asarray(closest.mean(axis=1), dtype=np.float32)


def _farthest(batch: int, rng: np.random.Generator, known: Embeddings, points: Embeddings) -> Ints:
    """Return the greedy k-centre: again and again the point farthest from all that are known or picked."""
    gap = np.full(len(points), np.inf)
    for start in range(0, len(known), _COMPARED):
        gap = np.minimum(gap, distances(points, known[start : start + _COMPARED]).min(axis=1))
    picked: list[int] = []
    for _ in range(batch):
        row = int(gap.argmax()) if np.isfinite(gap).all() or picked else int(rng.integers(len(points)))
        picked.append(row)
        gap = np.minimum(gap, distances(points, points[row : row + 1])[:, 0])
        gap[picked] = -1.0
    return np.array(picked, dtype=np.int64)


def _gradients_apart(batch: int, rng: np.random.Generator, chances: Floats, points: Embeddings) -> Ints:
    """Return a k-means++ draw of gradient embeddings ``(p - e_best) (x) x``, which are never built.

    Their inner products are those of ``p - e_best`` times those of ``x``.
    """
    pull = chances.astype(np.float32)
    pull[np.arange(len(pull)), pull.argmax(axis=1)] -= 1.0
    return spread_out(batch, rng, pull, points)


def _mask(labeled: ArrayLike) -> Mask:
    mask = as_array("labeled", labeled)
    if mask.ndim != 1 or mask.dtype != np.bool_:
        raise ValueError(f"labeled has shape {mask.shape} and type {mask.dtype}; expected booleans (n,)")
    return mask.copy()


def _chances(probabilities: ArrayLike | None, items: int) -> Floats | None:
    if probabilities is None:
        return None
    table = shares("probabilities", probabilities)
    if table.ndim != 2 or table.shape[0] != items or table.shape[1] == 0:
        raise ValueError(f"probabilities have shape {table.shape}; expected ({items}, classes)")
    return table


def _points(embeddings: ArrayLike | None, items: int) -> Embeddings | None:
    if embeddings is None:
        return None
    held = as_array("embeddings", embeddings)
    # Most are float32 already, and too many to hold twice.
    held = held if held.dtype == np.float32 else numbers("embeddings", held)
    with np.errstate(over="ignore"):  # an infinity is told below
        table = np.asarray(held, dtype=np.float32)
    if table.ndim != 2 or table.shape[0] != items or table.shape[1] == 0:
        raise ValueError(f"embeddings have shape {table.shape}; expected ({items}, d)")
    _check_finite("embeddings", table)
    largest = float(np.abs(table).max(initial=0.0))
    # In float32 squares of these would not be numbers; only how distances compare is of weight.
    if largest > 1e15 or 0.0 < largest < 1e-15:
        return np.ldexp(table, -int(np.frexp(largest)[1]))
    return table


def _check_finite(name: str, table: NDArray[np.floating]) -> None:
    bad = np.argwhere(~np.isfinite(table))
    if bad.size:
        row, column = bad[0]
        raise ValueError(f"{name}[{row}, {column}] is {table[row, column]}; it must be finite")
