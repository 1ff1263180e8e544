"""Spammers and colluders planted among real labelers, and who of the real ones is accused where nobody was planted.

Planted labelers answer as many items as real ones of at least `LEAST` answers. Spammers answer at random, by the prior or
always the same, and are a tenth of the crowd. Colluders are groups of 2, 3, 5 and 8 in one crowd: a source who answers
with the confusion of a real labeler of the set, and copiers with 10 to 20 % answers of their own. Precision counts real
labelers whom the truth clears (`clean`); those it shows to be spammers are no false alarm.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from cairn_truth import HierarchicalDawidSkene, Votes
from cairn_truth.__main__ import read_folder
from cairn_truth.measured.replay import Recorded
from cairn_truth.quality.forensics import find_colluders, find_spammers, investigate, names_of
from cairn_truth.quality.spammers import attention
from tests.benchmarks.rows import Absent, Row, Rows

SETS = (
    "d_possent",
    "dog",
    "labelme",
    "music_genre",
    "rte",
    "sentiment_text",
    "snow_temp",
    "web",
    "zencrowd_us",
    "s_rel",
)
MISTAKEN = "zencrowd_us"
"""Here the crowd is often wrong together, and experts who disagree with it together look like colluders."""

GROUPS = (2, 3, 5, 8)
LEAST = 50
Ints = NDArray[np.int64]


def rows(data: Path) -> Rows:
    present = [name for name in SETS if (data / name).is_dir()]
    if not present:
        raise Absent(f"none of {', '.join(SETS)} in {data}")
    spam, groups = np.zeros(3), np.zeros(3)
    by_size = np.zeros((len(GROUPS), 2))
    for name in present:
        recorded = read_folder(data / name)
        fine, judged = clean(recorded)
        started = perf_counter()
        accused = sorted(names_of(investigate(recorded.votes)))
        took = perf_counter() - started
        people = recorded.votes.labelers
        wrongly = sum(bool(fine[who] and judged[who]) for who in accused)
        unknown = sum(not judged[who] for who in accused)
        yield Row(
            f"forensics, {name}: real labelers accused whom the truth clears",
            "% of all",
            100.0 * wrongly / people,
            most=2.0,
        )
        yield Row(f"forensics, {name}: accused whom it cannot judge", "% of all", 100.0 * unknown / people)
        yield Row(f"forensics, {name}: real labelers accused", "% of all", 100.0 * len(accused) / people)
        yield Row(f"forensics, {name}: time", "s", took)
        for seed in range(1 if name == "s_rel" else 3):
            spam += _spammers_found(recorded, fine, seed)
            if name != MISTAKEN:
                found, sizes = _colluders_found(recorded, fine, seed)
                groups += found
                by_size += sizes
    yield Row("planted spammers: recall", "share", spam[0] / spam[1], least=0.9)
    yield Row("planted spammers: precision", "share", spam[0] / max(spam[0] + spam[2], 1.0), least=0.9)
    yield Row("planted colluders: recall", "share", groups[0] / groups[1], least=0.9)
    yield Row("planted colluders: precision", "share", groups[0] / max(groups[0] + groups[2], 1.0), least=0.9)
    for size, (found, planted) in zip(GROUPS, by_size, strict=True):
        yield Row(f"planted colluders in groups of {size}: recall", "share", found / planted)


def clean(recorded: Recorded) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return who is no spammer by the truth, and of whom it can tell (20 answers with a known truth, and more).

    Not clean is who agrees with the truth "slightly" beyond chance: kappa at most .2 (Landis & Koch 1977). Whoever cannot be
    judged counts as clean, so that naming them costs precision.
    """
    votes, truth = recorded.votes, recorded.truth[recorded.votes.item]
    fine, judged = np.ones(votes.labelers, dtype=np.bool_), np.zeros(votes.labelers, dtype=np.bool_)
    for who in range(votes.labelers):
        own = (votes.labeler == who) & (truth >= 0)
        said, right = votes.choice[own], truth[own]
        if said.size >= 20:
            chance = np.bincount(said, minlength=votes.classes) @ np.bincount(right, minlength=votes.classes)
            by_chance = float(chance) / said.size**2
            judged[who] = True
            fine[who] = (said == right).mean() - by_chance > 0.2 * (1.0 - by_chance)
    return fine, judged


def _spammers_found(recorded: Recorded, fine: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
    """Return how many planted spammers are named, how many there are, and how many real labelers are named wrongly."""
    votes, chance = recorded.votes, np.random.default_rng(seed)
    usual = _usual(votes)
    prior = np.bincount(votes.choice, minlength=votes.classes) / len(votes)
    planted = []
    for place in range(max(3, votes.labelers // 10)):
        items = chance.choice(votes.items, min(int(chance.choice(usual)), votes.items), replace=False)
        said = (
            chance.integers(0, votes.classes, items.size),
            chance.choice(votes.classes, items.size, p=prior),
            np.full(items.size, chance.integers(votes.classes)),
        )
        planted.append((items, said[place % 3]))
    crowd = _joined(votes, planted)
    named = names_of(find_spammers(crowd, HierarchicalDawidSkene().fit(crowd)))
    found = sum(who >= votes.labelers for who in named)
    wrongly = sum(bool(fine[who]) for who in named if who < votes.labelers)
    return np.array([found, len(planted), wrongly], dtype=np.float64)


def _colluders_found(
    recorded: Recorded, fine: NDArray[np.bool_], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the same of colluders, and by size of group how many are named and how many there are."""
    votes, chance = recorded.votes, np.random.default_rng(seed)
    fit = HierarchicalDawidSkene().fit(votes)
    truth = np.where(recorded.truth >= 0, recorded.truth, fit.posterior.argmax(axis=1))
    able = np.flatnonzero((attention(votes, fit).share >= 0.5) & (votes.per_labeler() >= 20))
    own = chance.uniform(0.1, 0.2)
    usual = _usual(votes)

    def answer(items: Ints) -> Ints:
        limits = fit.confusion[chance.choice(able)][truth[items]].T.cumsum(axis=0)
        return np.asarray((chance.random(items.size) * limits[-1] > limits).sum(axis=0), dtype=np.int64)

    planted = []
    for size in GROUPS:
        items = chance.choice(votes.items, min(int(chance.choice(usual)), votes.items), replace=False)
        source = answer(items)
        for copier in range(size):
            said = np.where(chance.random(items.size) < own, answer(items), source) if copier else source
            seen = chance.random(items.size) < 0.9
            planted.append((items[seen], said[seen]))
    named = names_of(find_colluders(_joined(votes, planted)))
    ends = votes.labelers + np.cumsum((0, *GROUPS))
    sizes = [(sum(low <= who < high for who in named), high - low) for low, high in pairwise(ends.tolist())]
    found = sum(who >= votes.labelers for who in named)
    wrongly = sum(bool(fine[who]) for who in named if who < votes.labelers)
    return np.array([found, len(planted), wrongly], dtype=np.float64), np.array(sizes, dtype=np.float64)


def _usual(votes: Votes) -> Ints:
    """Return the numbers of answers of those who gave many."""
    cast = votes.per_labeler()
    return cast[cast >= LEAST]


def _joined(votes: Votes, planted: list[tuple[Ints, Ints]]) -> Votes:
    labeler = [np.full(items.size, votes.labelers + i) for i, (items, _) in enumerate(planted)]
    return Votes.of(
        np.concatenate([votes.item, *(items for items, _ in planted)]),
        np.concatenate([votes.labeler, *labeler]),
        np.concatenate([votes.choice, *(choices for _, choices in planted)]),
        classes=votes.classes,
        items=votes.items,
        labelers=votes.labelers + len(planted),
    )
