"""May a model answer alone? How often the promise is broken, and how much is let through, beside what others do.

A model is trained on ever more items, four times; a validation sample is drawn anew in every run from what it never saw,
and the rest is the pool. After each training a threshold is chosen; what it lets through stays labeled as it is. A run
breaks the promise when, at its end, more than alpha of all that was ever let through is wrong.

Those versions mostly err on the same, hard items. The worst for the promise are versions that err anew on all that waits,
each with luck of its own: they are simulated.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn_truth import HierarchicalDawidSkene, Votes
from cairn_truth.routing.thresholds import LetThrough, choose_threshold, model_errors
from tests.benchmarks.rows import Row, Rows, folder
from tests.benchmarks.truth.pools import POOLS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

DELTA = 0.1
RUNS = 200


@dataclass(frozen=True, slots=True)
class Trained:
    """What four versions of a model say of the items none of them was trained on.

    ``scores`` and ``answers`` ``(versions, n)``, ``truth`` ``(n,)``; ``rows`` ``(n,)`` are the items' places.
    """

    scores: Floats
    answers: Ints
    truth: Ints
    rows: Ints

    @property
    def wrong(self) -> Floats:
        """Whether each answer is wrong, ``(versions, n)``."""
        return np.asarray(self.answers != self.truth, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Setting:
    """A pool, the error allowed, the validation sample's size and the sizes of the training sets."""

    pool: str
    alpha: float
    sample: int
    trained_on: tuple[int, ...]


SETTINGS = (
    Setting("banking77", 0.05, 2000, (500, 1000, 1750, 3000)),
    Setting("banking77", 0.02, 2000, (500, 1000, 1750, 3000)),
    Setting("cifar10", 0.1, 2000, (500, 1000, 1750, 3000)),
    Setting("cifar10", 0.2, 2000, (500, 1000, 1750, 3000)),
    Setting("labelme", 0.05, 1000, (100, 200, 350, 500)),
    Setting("sentiment_text", 0.2, 1500, (300, 600, 1000, 1500)),
)


@dataclass(slots=True)
class Outcome:
    """How many runs broke the promise, and the mean share of the pool that was let through."""

    broken: float
    coverage: float


class Ours:
    """The wager: rounds share delta, and go on from what was let through before."""

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._earlier = LetThrough()

    def threshold(self, scores: Floats, error: Floats, prior: Floats | None) -> float:
        decision = choose_threshold(
            scores, error, alpha=self._alpha, delta=DELTA, prior_error=prior, earlier=self._earlier
        )
        self._earlier = decision.let_through
        return decision.threshold


class OnlyRound(Ours):
    """The wager for the one round that is ever held, which has all of delta."""

    def threshold(self, scores: Floats, error: Floats, prior: Floats | None) -> float:
        return choose_threshold(scores, error, alpha=self._alpha, delta=DELTA, prior_error=prior).threshold


class Forgetful(Ours):
    """The same, but every round takes a first round's share of delta, however many were held."""

    def threshold(self, scores: Floats, error: Floats, prior: Floats | None) -> float:
        threshold = super().threshold(scores, error, prior)
        self._earlier = replace(self._earlier, share=1.0, rounds=0)
        return threshold


class PlugIn:
    """The lowest threshold whose validation error, of all let through so far, is at most alpha."""

    def __init__(self, alpha: float) -> None:
        self._alpha, self._items, self._errors = alpha, 0, 0.0

    def threshold(self, scores: Floats, error: Floats, prior: Floats | None) -> float:
        order = np.argsort(-scores, kind="stable")
        rate = (self._errors + np.cumsum(error[order])) / (self._items + np.arange(1, scores.size + 1))
        good = np.flatnonzero(rate <= self._alpha)
        threshold = float(scores[order][good[-1]]) if good.size else np.inf
        self._items += int((scores >= threshold).sum())
        self._errors += float(error[scores >= threshold].sum())
        return threshold


Rule = Ours | PlugIn
Judged = Callable[[int, Ints], tuple[Floats, Floats | None]]
"""What people say of a version's answers to the sample: error probability, and prior error or None."""


def rows(data: Path) -> Rows:
    """Yield how often the promise is broken, and coverage against the oracle's."""
    broken, kept = [], {}
    for setting in SETTINGS:
        if setting.pool not in kept:
            kept[setting.pool] = train(data, setting)
        trained = kept[setting.pool]
        ours, plug_in, best = played(trained, setting)
        broken.append(ours.broken)
        name = f"auto-labeling, {setting.pool}, alpha {setting.alpha:g}, {setting.sample:,} validated"
        yield Row(f"{name}: runs that break it", "share", ours.broken, plug_in.broken, "plug-in", most=DELTA)
        goal = 0.9 if setting.sample >= 2000 else None
        share = ours.coverage / best if best else float("nan")
        yield Row(
            f"{name}: coverage of the oracle's {best:.2f}",
            "share",
            share,
            plug_in.coverage / best,
            "plug-in",
            least=goal,
        )
        yield from _only_round(trained, setting, best)
    yield Row("auto-labeling, all of these: runs that break it", "share", float(np.mean(broken)), most=DELTA)
    yield from noisy_rows(data, kept)
    yield from anew_rows()


def anew_rows() -> Rows:
    """Yield how often 30 versions break the promise that err anew on the items that wait."""
    for easy_error in (0.02, 0.045):
        ours, forgetful = (
            float(np.mean([_breaks_anew(rule(0.05), seed, easy_error) for seed in range(RUNS)]))
            for rule in (Ours, Forgetful)
        )
        name = (
            f"auto-labeling, 30 versions that err anew, on {easy_error:.1%} of the easy and 9 % of the hard"
        )
        yield Row(f"{name}: runs that break it", "share", ours, forgetful, "a first share each", most=DELTA)


def _breaks_anew(rule: Ours, seed: int, easy_error: float, versions: int = 30, sample: int = 1000) -> bool:
    """Whether more than 5 % is ever wrong of all let through of an endless pool, of which 40 % are easy."""
    chance = np.random.default_rng(seed)
    easy, waiting = chance.random(sample) < 0.4, np.ones(sample, dtype=bool)
    left_easy, left_hard = 0.4, 0.6
    for _ in range(versions):
        wrong = (chance.random(sample) < np.where(easy, easy_error, 0.09)).astype(np.float64)
        scores = easy + chance.random(sample)  # tell easy from hard, and nothing else
        threshold = rule.threshold(scores[waiting], wrong[waiting], None)
        waiting &= scores < threshold
        left_easy *= min(max(threshold - 1.0, 0.0), 1.0)
        left_hard *= min(threshold, 1.0)
        easy_gone, hard_gone = 0.4 - left_easy, 0.6 - left_hard
        if easy_error * easy_gone + 0.09 * hard_gone > 0.05 * (easy_gone + hard_gone) + 1e-12:
            return True
        if not waiting.any():
            break
    return False


def _only_round(trained: Trained, setting: Setting, best: float) -> Rows:
    """Yield the same for who waits for the last version and holds one round."""
    last = replace(trained, scores=trained.scores[-1:], answers=trained.answers[-1:])
    found = play(last, setting, OnlyRound, lambda _, rows: (last.wrong[0, rows], None))
    name = f"auto-labeling, {setting.pool}, alpha {setting.alpha:g}, one round of the last version"
    yield Row(f"{name}: runs that break it", "share", found.broken, most=DELTA)
    goal = 0.9 if setting.sample >= 2000 else None
    share = found.coverage / best if best else float("nan")
    yield Row(f"{name}: coverage of the oracle's of all {best:.2f}", "share", share, least=goal)


def noisy_rows(data: Path, kept: dict[str, Trained]) -> Rows:
    """Yield the same where validation truth is what people say: simulated at 10 % error, and the real crowd's."""
    setting = SETTINGS[0]
    trained = kept[setting.pool]
    chance = np.random.default_rng(0)
    classes = int(trained.truth.max()) + 1
    slip = (chance.random(trained.truth.size) < 0.1) * chance.integers(1, classes, trained.truth.size)
    vote = (trained.truth + slip) % classes
    posterior = np.full((vote.size, classes), 0.1 / (classes - 1))
    posterior[np.arange(vote.size), vote] = 0.9
    yield from _noisy(trained, setting, posterior, "people err on 10 %")
    setting = SETTINGS[-1]
    trained = kept[setting.pool]
    yield from _noisy(trained, setting, crowd_posterior(data)[trained.rows], "its crowd")


def _noisy(trained: Trained, setting: Setting, posterior: Floats, who: str) -> Rows:
    def judged(version: int, rows: Ints) -> tuple[Floats, Floats | None]:
        return model_errors(posterior[rows], trained.answers[version, rows])

    def at_worst(version: int, rows: Ints) -> tuple[Floats, Floats | None]:
        return judged(version, rows)[0], None

    ours, trusting = (play(trained, setting, Ours, by) for by in (at_worst, judged))
    name = f"auto-labeling, {setting.pool}, alpha {setting.alpha:g}, validated by {who}"
    peer = "if people and model erred independently"
    yield Row(f"{name}: runs that break it", "share", ours.broken, trusting.broken, peer, most=DELTA)
    yield Row(f"{name}: coverage", "share", ours.coverage, trusting.coverage, peer)


def train(data: Path, setting: Setting) -> Trained:
    """Train one model on ever more items; the last training set holds the others."""
    pool = POOLS[setting.pool](data)
    order = np.random.default_rng(0).permutation(len(pool.truth))
    rest = order[setting.trained_on[-1] :]
    said = [pool.probabilities(pool.head(order[:size]), rest) for size in setting.trained_on]
    return Trained(
        scores=np.array([table.max(axis=1) for table in said]),
        answers=np.array([table.argmax(axis=1) for table in said]),
        truth=pool.truth[rest],
        rows=rest,
    )


def played(trained: Trained, setting: Setting) -> tuple[Outcome, Outcome, float]:
    """Return ours, the plug-in rule's, and the coverage of the oracle: the plug-in rule on the pool's own truth."""

    def known(version: int, rows: Ints) -> tuple[Floats, Floats | None]:
        return trained.wrong[version, rows], None

    return (
        play(trained, setting, Ours, known),
        play(trained, setting, PlugIn, known),
        play(trained, setting, PlugIn, known, by_the_pool=True).coverage,
    )


def play(
    trained: Trained,
    setting: Setting,
    rule_of: Callable[[float], Rule],
    judged: Judged,
    *,
    by_the_pool: bool = False,
) -> Outcome:
    """Play all runs with one rule, seeing the sample, or what an oracle would: ``by_the_pool``."""
    broken, coverage = [], []
    for seed in range(RUNS):
        order = np.random.default_rng(seed).permutation(trained.truth.size)
        pool = order[setting.sample :]
        sample = pool if by_the_pool else order[: setting.sample]
        rule, errors = rule_of(setting.alpha), 0.0
        waiting, open_items = np.ones(sample.size, dtype=bool), np.ones(pool.size, dtype=bool)
        for version, scores in enumerate(trained.scores):
            error, prior = judged(version, sample)
            left = None if prior is None else prior[waiting]
            threshold = rule.threshold(scores[sample][waiting], error[waiting], left)
            through = waiting & (scores[sample] >= threshold)
            auto = open_items & (scores[pool] >= threshold)
            errors += trained.wrong[version, pool][auto].sum()
            waiting, open_items = waiting & ~through, open_items & ~auto
        labeled = int((~open_items).sum())
        broken.append(labeled > 0 and errors / labeled > setting.alpha)
        coverage.append(labeled / pool.size)
    return Outcome(float(np.mean(broken)), float(np.mean(coverage)))


def crowd_posterior(data: Path) -> Floats:
    """Return what the crowd of sentiment_text says of each item, ``(items, 2)``, in the order of items.csv."""
    home = folder(data, "sentiment_text")
    with (home / "items.csv").open(newline="", encoding="utf-8-sig") as lines:
        place = {row["item"]: at for at, row in enumerate(csv.DictReader(lines))}
    with (home / "answers.csv").open(newline="", encoding="utf-8-sig") as lines:
        answers = list(csv.DictReader(lines))
    labelers = sorted({row["annotator"] for row in answers})
    votes = Votes.of(
        [place[row["item"]] for row in answers],
        [labelers.index(row["annotator"]) for row in answers],
        [int(row["label"]) for row in answers],
        classes=2,
        items=len(place),
        labelers=len(labelers),
    )
    return np.asarray(HierarchicalDawidSkene().fit(votes).posterior)
