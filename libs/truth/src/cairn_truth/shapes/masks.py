"""Masks: a class for each pixel, from everybody's rasters, chosen so that the expected overlap is the largest.

Each pixel's posterior is STAPLE's (`staple`). The value is not each pixel's likeliest class: what is asked for is
overlap, so a pixel joins a class where that makes the expected intersection over union larger, which for one class
means a chance above ``IoU / (1 + IoU)`` (Nowozin, "Optimal decisions from probabilistic models: the
intersection-over-union case", CVPR 2014, with the expectation of the ratio taken as the ratio of expectations).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import Floats, check_instance, checked_name
from ..live_answers import Answered, Evidence, LabelerAccuracy, LiveAnswers, heaviest_first
from . import staple
from .fields import whole
from .raster import Ints, Mask, checked_mask, merged_runs

VERSION = "3"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "HierarchicalSTAPLE"

_ROUNDS = 10
"""Rounds of choosing classes and expected overlaps; two or three are usual."""

_EVEN = 1e-3
"""Log-odds of a labeler no better than chance: some share in the value all who answered have."""


@dataclass(frozen=True)
class JoinedMask:
    """One item's masks joined.

    ``confidence``: the expected mean IoU with the truth over the classes of either (over the background where there
    is none), times the chance that the masks heard are of the item's size; a lone answer's, or where all called one
    class all over, is no more than the labelers' chance to be right. ``iou`` has each class's own, by class index,
    before either. ``certainty (runs,)`` beside ``certainty_lengths`` is the chance that a pixel's class is right,
    row-major. ``value`` is None where nobody answered.
    """

    value: Mask | None
    confidence: float
    evidence: tuple[Evidence, ...]
    iou: tuple[tuple[int, float], ...] = ()
    certainty: tuple[float, ...] = ()
    certainty_lengths: tuple[int, ...] = ()


class LiveMasks(LiveAnswers[Mask, JoinedMask, LabelerAccuracy]):
    """Live state of a question answered with a class for each pixel, of so many ``classes`` beside none (0).

    All masks of an item should be of its size; one of another size than most has no say.
    """

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.classes = whole("classes", classes, least=1)

    def _settings(self) -> str:
        return f"classes={self.classes}"

    def _checked(self, answer: Mask) -> Mask:
        check_instance("answer", answer, Mask, "a Mask")
        return checked_mask(answer, self.classes)

    def _join(self, votes: Sequence[tuple[str, Mask]]) -> JoinedMask:
        if not votes:
            return JoinedMask(None, 0.0, ())
        heard = _of_one_size([mask for _, mask in votes])
        cells = staple.Cells.of([votes[k][1] for k in heard])
        confusion = np.stack([self._confusion(votes[k][0]) for k in heard])
        crowd = self._crowd()
        sorts, shares = staple.posterior(cells, confusion, crowd)
        chance = cells.spread(sorts.reshape(len(sorts), 2, -1).sum(axis=1))
        kind, overlap = best_overlap(chance, cells.pixels)
        if not kind.any():
            kind, overlap = _rather_something(chance, cells, overlap)
        size = votes[heard[0]][1]
        value = Mask(size.width, size.height, *merged_runs(kind[cells.cell], cells.length))
        iou = tuple((int(c), float(overlap[c])) for c in np.unique(kind) if c or not kind.any())
        certainty, lengths = _merged(chance[np.arange(kind.size), kind][cells.cell], cells.length)
        return JoinedMask(
            value=value,
            confidence=min(_expected_mean(iou, cells.votes), self._most(votes, heard, cells))
            * self._chance_of_size(votes, heard),
            evidence=self._evidence(votes, heard, cells, kind, confusion, shares),
            iou=iou,
            certainty=certainty,
            certainty_lengths=lengths,
        )

    def _known(self, truth: Mask, votes: Sequence[tuple[str, Mask]]) -> JoinedMask:
        evidence = tuple(Evidence(who, mean_iou(mask, truth), 0.0) for who, mask in votes)
        kinds = [int(c) for c in np.unique(truth.class_indices)]
        iou = tuple((c, 1.0) for c in kinds if c or len(kinds) == 1)
        return JoinedMask(truth, 1.0, evidence, iou, (1.0,), (truth.width * truth.height,))

    def _most(self, votes: Sequence[tuple[str, Mask]], heard: Sequence[int], cells: staple.Cells) -> float:
        """Return how sure an item can be that one labeler answered, or that all called one class all over; else 1.

        Such an item has nothing in dispute that would tell how hard it is, so its posterior takes the answer for the
        truth: it is as likely right as those who gave it are, from even odds.
        """
        if len(heard) > 1 and len(cells.votes) > 1:
            return 1.0
        odds = sum(self._log_odds(votes[k][0]) for k in heard)
        return float(1.0 / (1.0 + np.exp(-odds)))

    def _chance_of_size(self, votes: Sequence[tuple[str, Mask]], heard: Sequence[int]) -> float:
        """Return the chance that the masks heard are those of the item's size: a half where two differ in it."""
        if len(heard) == len(votes):
            return 1.0
        odds: dict[tuple[int, int], float] = {}
        for who, mask in votes:
            odds[_size(mask)] = odds.get(_size(mask), 0.0) + max(self._log_odds(who), _EVEN)
        chosen = odds[_size(votes[heard[0]][1])]
        against = np.logaddexp.reduce([other - chosen for other in odds.values()])
        return float(np.exp(-against))

    def _log_odds(self, labeler: str) -> float:
        """Return the log-odds of a labeler to be right on a pixel."""
        accuracy = min(max(self._overall(labeler), staple.FLOOR), 1.0 - staple.FLOOR)
        return float(np.log(accuracy / (1.0 - accuracy)))

    def _overall(self, labeler: str) -> float:
        right = np.diagonal(self._confusion(labeler).reshape(2, self.classes + 1, -1), axis1=1, axis2=2)
        return min(float(right.ravel() @ self._crowd().shares), 1.0)

    def _evidence(
        self,
        votes: Sequence[tuple[str, Mask]],
        heard: Sequence[int],
        cells: staple.Cells,
        kind: Ints,
        confusion: Floats,
        shares: Floats,
    ) -> tuple[Evidence, ...]:
        """Weigh each labeler by the log-odds of being right on an average pixel of the item."""
        right = np.diagonal(confusion.reshape(len(heard), 2, self.classes + 1, -1), axis1=2, axis2=3)
        accuracy = np.clip(right.reshape(len(heard), -1) @ shares, 0.0, 1.0 - 1e-9)
        odds = np.maximum(np.log(np.maximum(accuracy, 1e-9) / (1.0 - accuracy)), _EVEN)
        weight, agreement = np.zeros(len(votes)), np.zeros(len(votes))
        weight[list(heard)] = odds / odds.sum()
        for column, k in enumerate(heard):
            agreement[k] = _mean_iou(cells.votes[:, column], kind, cells.pixels)
        parts = [
            Evidence(who, float(a), float(w)) for (who, _), a, w in zip(votes, agreement, weight, strict=True)
        ]
        return heaviest_first(parts)

    def _learn(self, answered: Sequence[Answered[Mask]], labelers: tuple[str, ...]) -> Mapping[str, Floats]:
        rows = {who: row for row, who in enumerate(labelers)}
        items: list[staple.Cells] = []
        who: list[Ints] = []
        known: list[Ints | None] = []
        for item in answered:
            masks = [mask for _, mask in item.votes]
            heard = _of_one_size(masks)
            truth = item.truth
            if truth is None and len(heard) < 2:
                continue  # it agrees with itself, and teaches nothing
            if truth is not None and _size(truth) == _size(masks[heard[0]]):
                cells = staple.Cells.of([*(masks[k] for k in heard), truth])
                known.append(cells.votes[:, -1])
                items.append(
                    staple.Cells(cells.votes[:, :-1], cells.pixels, cells.cell, cells.length, cells.weight)
                )
            else:
                items.append(staple.Cells.of([masks[k] for k in heard]))
                known.append(None)
            who.append(np.array([rows[item.votes[k][0]] for k in heard], dtype=np.int64))
        confusion, crowd = staple.fit(items, who, len(labelers), self.classes + 1, known)
        return {"confusion": confusion, "crowd": crowd.confusion, "shares": crowd.shares}

    def reliability(self, labeler: str) -> LabelerAccuracy:
        """Return the chance to be right on a pixel of what the crowd marks and as much around it."""
        votes = self._counts.get(checked_name("labeler", labeler), 0)
        return self._accuracy(labeler, self._overall(labeler), votes + staple.LABELER_STRENGTH)

    def confusion(self, labeler: str) -> Floats:
        """Return ``(classes + 1, classes + 1)`` chances of an answer (column) given a pixel's true class (row)."""
        both = self._confusion(checked_name("labeler", labeler)).reshape(2, self.classes + 1, -1)
        shares = self._crowd().shares.reshape(2, -1)
        return np.asarray(np.einsum("stc,st->tc", both, shares / shares.sum(axis=0)))

    def _confusion(self, labeler: str) -> Floats:
        row = self._rows.get(labeler)
        return self._crowd().confusion if row is None else self._fitted["confusion"][row]

    def _crowd(self) -> staple.Crowd:
        if "crowd" not in self._fitted:
            return staple.stranger(self.classes + 1)
        return staple.Crowd(self._fitted["crowd"], self._fitted["shares"])


def best_overlap(chance: Floats, pixels: Floats) -> tuple[Ints, Floats]:
    """Return the class of each cell ``(cells,)`` with the largest expected mean IoU, and each class's IoU.

    ``chance (cells, classes)`` sums to one; class 0 is the background, what is left when no other gains. Starts from
    the likeliest classes, and only their set is considered: a class that is nowhere likeliest is not invented.
    """
    kind = chance.argmax(axis=1)
    overlap = expected_iou(chance, pixels, kind)
    if not kind.any():
        return kind, overlap
    taken = np.unique(kind[kind > 0])
    best, most = kind, float(overlap[taken].mean())
    for _ in range(_ROUNDS):
        union = np.array([_union(chance[:, c], pixels, kind == c) for c in taken])
        gain = (chance[:, taken] * (1.0 + overlap[taken]) - overlap[taken]) / union
        kind = np.where(gain.max(axis=1) > 0.0, taken[gain.argmax(axis=1)], 0)
        overlap = expected_iou(chance, pixels, kind)
        now = float(overlap[taken].mean())
        if now <= most + 1e-12:
            break
        best, most = kind, now
    return best, expected_iou(chance, pixels, best)


def expected_iou(chance: Floats, pixels: Floats, kind: Ints) -> Floats:
    """Return each class's expected IoU ``(classes,)``; 0 for one that neither the value nor the truth may have."""
    classes = chance.shape[1]
    shared = np.bincount(kind, weights=pixels * chance[np.arange(kind.size), kind], minlength=classes)
    union = np.bincount(kind, weights=pixels, minlength=classes) + pixels @ chance - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(classes), where=union > 0.0))


def _union(chance: Floats, pixels: Floats, inside: Floats) -> float:
    return float(pixels @ np.where(inside, 1.0, chance))


def _expected_mean(iou: Sequence[tuple[int, float]], votes: Ints) -> float:
    """Return the expected mean IoU over the classes of the value and those that only the truth has.

    ``votes (cells, answers)``. A class that some answers name and the value has not is in the truth with the share of
    answers that name it: small things are drawn by all who see them, each a little elsewhere. A value of background
    alone is as right as it is certain that nothing is there.
    """
    named = _named(votes)
    kept = {c for c, _ in iou}
    if kept == {0}:
        return float(iou[0][1] * np.prod([1.0 - share for share in named.values()]))
    hidden = sum(share for c, share in named.items() if c not in kept)
    return float(min(sum(share for _, share in iou) / (len(iou) + hidden), 1.0))


def _named(votes: Ints) -> dict[int, float]:
    """Return the share of answers that name each class but the background; ``votes (cells, answers)``."""
    return {int(c): float((votes == c).any(axis=0).mean()) for c in np.unique(votes) if c}


def _rather_something(chance: Floats, cells: staple.Cells, overlap: Floats) -> tuple[Ints, Floats]:
    """Return the one class that overlaps the truth better than background alone can be expected to, and where; else
    background alone. Two who saw it in two places agree that it is there."""
    best, most = (
        np.zeros(len(chance), dtype=np.int64),
        float(np.prod([1.0 - s for s in _named(cells.votes).values()])),
    )
    for c in _named(cells.votes):
        order = np.argsort(-chance[:, c], kind="stable")
        shared = np.cumsum((cells.pixels * chance[:, c])[order])
        iou = shared / (np.cumsum(cells.pixels[order]) + shared[-1] - shared)
        upto = int(iou.argmax())
        if iou[upto] > most:
            best, most = np.zeros_like(best), float(iou[upto])
            best[order[: upto + 1]] = c
    return best, expected_iou(chance, cells.pixels, best) if best.any() else overlap


def mean_iou(one: Mask, other: Mask) -> float:
    """Return the mean IoU over the classes that either mask has (the background where there is none); 0 if the
    sizes differ."""
    if _size(one) != _size(other):
        return 0.0
    cells = staple.Cells.of([one, other])
    return _mean_iou(cells.votes[:, 0], cells.votes[:, 1], cells.pixels)


def _mean_iou(one: Ints, other: Ints, pixels: Floats) -> float:
    kinds = [c for c in np.union1d(one, other) if c] or [0]
    return float(
        np.mean(
            [pixels @ ((one == c) & (other == c)) / (pixels @ ((one == c) | (other == c))) for c in kinds]
        )
    )


def _size(mask: Mask) -> tuple[int, int]:
    return mask.width, mask.height


def _of_one_size(masks: Sequence[Mask]) -> Sequence[int]:
    """Return which masks have the size that most have; of two as frequent, the larger."""
    count = Counter(_size(mask) for mask in masks)
    size = max(count, key=lambda s: (count[s], s[0] * s[1], s[0]))
    return [k for k, mask in enumerate(masks) if _size(mask) == size]


def _merged(chance: Floats, length: Ints) -> tuple[tuple[float, ...], tuple[int, ...]]:
    starts = np.flatnonzero(np.diff(chance, prepend=-1.0))
    return tuple(chance[starts].tolist()), tuple(np.add.reduceat(length, starts).tolist())
