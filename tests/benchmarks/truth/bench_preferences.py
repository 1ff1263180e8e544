"""Preferences and rankings: what is foretold of judgements held out, beside Crowd-Kit's Bradley-Terry models.

Five folds over the judgements of music_similarity_pairs, seeded. Crowd-Kit's models know no ties: each is given as half
a win of either (which does better there than leaving them out). Among left and right all are compared on the held-out
judgements that are no ties. For three outcomes the peers' chance of a tie is the labeler's share of ties, leaning on
the crowd's with four judgements. Chances of peers are kept within .01 and .99, which spares them infinite losses.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cairn_truth.measured.score_pairs import candidates_of, outcome_of
from cairn_truth.values.bradley_terry import HierarchicalBradleyTerry
from cairn_truth.values.comparisons import NEITHER, Comparisons
from cairn_truth.values.preferences import LivePreferences
from cairn_truth.values.rankings import LiveRankings
from tests.benchmarks.rows import Absent, Row, Rows, folder, seconds

Floats = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]
Foretold = Callable[[Columns, Columns], Floats]
"""From judgements known to the chances ``(n, 3)`` of others: of left, right and neither."""

_FOLDS = 5


def rows(data: Path) -> Rows:
    """Yield the rows on recorded preferences, then those on drawn rankings."""
    columns = _read(folder(data, "music_similarity_pairs") / "answers.csv")
    yield from _held_out(columns)
    yield from _seconds(columns)
    yield from _rankings()


def _held_out(columns: Columns) -> Rows:
    ours = _losses(columns, _hierarchical)
    said = columns["outcome"]
    for name, peer in _peers().items():
        theirs = _losses(columns, peer)
        for what, i in (("left or right", 1), ("left, right or neither", 0)):
            yield Row(
                what=f"preferences, held-out judgements, log-loss of {what}",
                unit="nats",
                value=ours[i],
                reference=theirs[i],
                peer=name,
                most=theirs[i],
            )
    chance = _foretold(columns, _hierarchical)
    confidence, right = chance.max(axis=1), chance.argmax(axis=1) == said
    yield Row("preferences, held-out judgements, calibration error", "", _gap(confidence, right), most=0.05)


def _seconds(columns: Columns) -> Rows:
    live = LivePreferences()
    for item, who, left, right, group, said in zip(*(columns[n].tolist() for n in _NAMES), strict=True):
        live.present(item, left, right, group)
        live.add(item, who, (left, right, "")[said])
    fit = seconds(live.refit, 3)
    yield Row("preferences, refit of 2805 judgements", "s", fit[1], spread=fit[-1] - fit[0])
    items = list(live.items())
    yield _posterior("preferences, posterior of ten answers", live.posterior, items, most=1.0)


def _rankings() -> Rows:
    answers, truths = _drawn(np.random.default_rng(0))
    live = LiveRankings(ties=False)
    joined = live.fit(answers)
    ours = float(np.mean([_agreement(joined[item].value, truth) for item, truth in truths.items()]))
    borda = float(np.mean([_agreement(_borda(answers[item]), truth) for item, truth in truths.items()]))
    yield Row(
        "rankings of 6, drawn, 1 labeler of 5 guesses: pairs right", "", ours, borda, "Borda", least=borda
    )
    plackett = _plackett_luce(answers, truths)
    yield Row("rankings of 6, drawn, pairs right", "", ours, plackett, "choix Plackett-Luce", least=plackett)
    sure = float(np.mean([found.confidence for found in joined.values()]))
    yield Row("rankings of 6, drawn, confidence less pairs right", "", sure - ours, most=0.03)
    yield _posterior("rankings, posterior of five answers", live.posterior, list(answers), most=10.0)


def _posterior(what: str, ask: Callable[[str], object], items: Sequence[str], most: float) -> Row:
    """Return the milliseconds an item takes, of processor time: a busy machine is no part of it."""
    taken = []
    for _ in range(5):
        started = process_time()
        for item in items:
            ask(item)
        taken.append((process_time() - started) * 1000.0 / len(items))
    return Row(what, "ms", float(np.median(taken)), most=most, spread=max(taken) - min(taken))


# --- judgements

_NAMES = ("item", "labeler", "left", "right", "group", "outcome")


def _read(file: Path) -> Columns:
    with file.open(encoding="utf-8", newline="") as lines:
        read = [(row["item"], row["annotator"], row["label"]) for row in csv.DictReader(lines)]
    named = [candidates_of(item) for item, _, _ in read]
    return {
        "item": np.array([item for item, _, _ in read]),
        "labeler": np.array([who for _, who, _ in read]),
        "left": np.array([left for _, left, _ in named]),
        "right": np.array([right for _, _, right in named]),
        "group": np.array([group for group, _, _ in named]),
        "outcome": np.array([outcome_of(item, label) for item, _, label in read]),
    }


def _foretold(columns: Columns, method: Foretold) -> Floats:
    votes = columns["outcome"].size
    fold = np.random.default_rng(0).permutation(votes) % _FOLDS
    chance = np.zeros((votes, 3))
    for held in range(_FOLDS):
        known = {name: column[fold != held] for name, column in columns.items()}
        chance[fold == held] = method(known, {name: column[fold == held] for name, column in columns.items()})
    return chance


def _losses(columns: Columns, method: Foretold) -> tuple[float, float]:
    """Return the mean log-loss of all three outcomes, and of left or right where it was one of them."""
    chance, said = _foretold(columns, method), columns["outcome"]
    sided = np.flatnonzero(said != NEITHER)
    one_of_two = chance[sided, :2] / chance[sided, :2].sum(axis=1, keepdims=True)
    three = -np.log(chance[np.arange(said.size), said]).mean()
    return float(three), float(-np.log(one_of_two[np.arange(sided.size), said[sided]]).mean())


def _hierarchical(known: Columns, asked: Columns) -> Floats:
    fit = HierarchicalBradleyTerry().fit(
        Comparisons.of(known["left"], known["right"], known["labeler"], known["outcome"], known["group"])
    )
    return fit.predict(*(asked[name].tolist() for name in ("left", "right", "labeler", "group")))


def _peers() -> Mapping[str, Foretold]:
    try:
        from crowdkit.aggregation import BradleyTerry, NoisyBradleyTerry
    except ImportError as missing:
        raise Absent("no crowd-kit") from missing

    def plain(known: Columns, asked: Columns) -> Floats:
        scores = BradleyTerry(n_iter=1000).fit(_as_wins(known)).scores_
        left, right = (
            scores.reindex(_seats(asked, side)).fillna(0.0).to_numpy() for side in ("left", "right")
        )
        return _with_ties((left + 1e-12) / (left + right + 2e-12), known, asked)

    def noisy(known: Columns, asked: Columns) -> Floats:
        fit = NoisyBradleyTerry(n_iter=100).fit(_as_wins(known))
        odds = special.logit(fit.scores_.clip(1e-9, 1.0 - 1e-9))
        left, right = (odds.reindex(_seats(asked, side)).fillna(0.0).to_numpy() for side in ("left", "right"))
        skill = fit.skills_.reindex(asked["labeler"]).fillna(fit.skills_.mean()).to_numpy()
        side = fit.biases_.reindex(asked["labeler"]).fillna(0.5).to_numpy()
        return _with_ties(skill * special.expit(left - right) + (1.0 - skill) * side, known, asked)

    return {
        "crowd-kit BradleyTerry": plain,
        "crowd-kit NoisyBradleyTerry": noisy,
        "votes on the item, leaning on all": _votes,
    }


def _votes(known: Columns, asked: Columns) -> Floats:
    """Return each item's shares of votes, leaning with four votes on all items'."""
    place = {name: row for row, name in enumerate(sorted({*known["item"], *asked["item"]}))}
    counts = np.zeros((len(place), 3))
    np.add.at(counts, (np.array([place[name] for name in known["item"]]), known["outcome"]), 1.0)
    counts += 4.0 * counts.sum(axis=0) / counts.sum()
    of_asked = counts[[place[name] for name in asked["item"]]]
    return np.asarray(of_asked / of_asked.sum(axis=1, keepdims=True))


def _seats(columns: Columns, side: str) -> list[str]:
    return [f"{group}|{name}" for group, name in zip(columns["group"], columns[side], strict=True)]


def _as_wins(known: Columns) -> Any:
    """Return each judgement as two wins: of the one preferred, or one of either."""
    import pandas as pd

    left, right = np.array(_seats(known, "left")), np.array(_seats(known, "right"))
    halves = [
        pd.DataFrame(
            {
                "worker": known["labeler"],
                "left": left,
                "right": right,
                "label": np.where(
                    known["outcome"] == NEITHER, tied, np.where(known["outcome"] == 0, left, right)
                ),
            }
        )
        for tied in (left, right)
    ]
    return pd.concat(halves, ignore_index=True)


def _with_ties(left: Floats, known: Columns, asked: Columns) -> Floats:
    left = np.clip(left, 0.01, 0.99)
    tied = known["outcome"] == NEITHER
    share = {
        who: (tied[known["labeler"] == who].sum() + 4.0 * tied.mean())
        / ((known["labeler"] == who).sum() + 4.0)
        for who in set(known["labeler"].tolist())
    }
    neither = np.array([share.get(who, tied.mean()) for who in asked["labeler"].tolist()])
    return np.stack([left * (1.0 - neither), (1.0 - left) * (1.0 - neither), neither], axis=1)


def _gap(confidence: Floats, right: NDArray[np.bool_]) -> float:
    cell = np.minimum((confidence * 10).astype(int), 9)
    gaps = [
        abs(confidence[cell == b].mean() - right[cell == b].mean()) * np.mean(cell == b)
        for b in np.unique(cell)
    ]
    return float(np.sum(gaps))


# --- rankings

Tiers = tuple[tuple[str, ...], ...]
Rankings = dict[str, dict[str, Tiers]]


def _drawn(chance: np.random.Generator) -> tuple[Rankings, dict[str, Tiers]]:
    """Return rankings by 25 labelers, 5 a item, of uneven noise; a fifth of them guesses."""
    noise, guesses = np.exp(chance.normal(0.0, 0.5, 25)), chance.random(25) < 0.2
    answers: Rankings = {}
    truths: dict[str, Tiers] = {}
    for item in (f"item-{i}" for i in range(100)):
        names, strength = [f"{item}-{j}" for j in range(6)], chance.normal(0.0, 1.5, 6)
        truths[item] = tuple((names[j],) for j in np.argsort(-strength))
        answers[item] = {}
        for who in chance.choice(25, 5, replace=False):
            seen = (0.0 if guesses[who] else strength) + chance.gumbel(0.0, noise[who], 6)
            answers[item][f"labeler-{who}"] = tuple((names[j],) for j in np.argsort(-seen))
    return answers, truths


def _borda(votes: Mapping[str, Tiers]) -> Tiers:
    place: dict[str, int] = {}
    for ranking in votes.values():
        for i, (name,) in enumerate(ranking):
            place[name] = place.get(name, 0) + i
    return tuple((name,) for name in sorted(place, key=lambda name: (place[name], name)))


def _plackett_luce(answers: Rankings, truths: Mapping[str, Tiers]) -> float:
    try:
        import choix
    except ImportError as missing:
        raise Absent("no choix") from missing
    agreements = []
    for item, votes in answers.items():
        names = sorted(name for (name,) in truths[item])
        ranked = [[names.index(name) for (name,) in ranking] for ranking in votes.values()]
        strength = choix.ilsr_rankings(len(names), ranked, alpha=0.01)
        found = tuple((names[j],) for j in np.argsort(-strength))
        agreements.append(_agreement(found, truths[item]))
    return float(np.mean(agreements))


def _agreement(one: Tiers, other: Tiers) -> float:
    """Return the share of pairs that both order alike."""
    place = {name: i for i, tier in enumerate(one) for name in tier}
    theirs = {name: i for i, tier in enumerate(other) for name in tier}
    names = sorted(place)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return float(np.mean([np.sign(place[a] - place[b]) == np.sign(theirs[a] - theirs[b]) for a, b in pairs]))
