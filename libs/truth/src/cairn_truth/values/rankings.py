"""Rankings while answers come in: an item's candidates in order, with ties, from rankings that may leave some out.

Every ranking implies comparisons, which are judged by `bradley_terry`'s model: candidates of an item have strengths
(around the same candidate's in other items, where ids recur), pairs a lead of their own, labelers their habits. The
value is the ranking that agrees with most pairs, expectedly; its confidence is that share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import Floats, check_sequence, checked_name
from ..live_answers import Answered, Evidence, heaviest_first
from .bradley_terry import BradleyTerryFit, find_leads, right_outcome
from .comparisons import LEFT, RIGHT, Comparisons
from .live_comparisons import TRUTH_WEIGHT, LiveComparisons
from .ranked_pairs import Tiers, best_tiers, outcomes, pairs_of, places, worth
from .strengths import Leads

VERSION = "1"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "hierarchical Bradley-Terry-Davidson on the pairs of rankings"

_ROUNDS = 30
_SETTLED = 1e-3
"""Log-odds by which no lead moves any more; far below what an answer is worth."""

_MODE_STEPS = 2
"""Newton steps of a pair in a round: the next goes on from there."""


@dataclass(frozen=True, slots=True, eq=False)
class JoinedRanking:
    """Rankings of one item, joined.

    ``value``: tiers, best first. ``confidence``: the share of pairs it orders as is right, expectedly. ``better``
    ``(candidates, candidates)``: the probability that the row's candidate is better than the column's; neither has
    what is left of 1. ``strength`` and ``strength_sd`` ``(candidates,)`` in log-odds of an average labeler.
    """

    value: Tiers
    confidence: float
    evidence: tuple[Evidence, ...]
    candidates: tuple[str, ...]
    better: Floats
    strength: Floats
    strength_sd: Floats


class LiveRankings(LiveComparisons[Tiers, JoinedRanking]):
    """Live state of a question whose answer is tiers of candidates' ids, best first.

    A candidate that an answer leaves out was not judged; with ``top`` it was, as worse than all that are placed.
    Candidates of an item are those that answers name, and those that `present` does. Without ``ties`` no two share a
    place. Cost grows with the square of an item's candidates.
    """

    def __init__(self, ties: bool = True, top: bool = False) -> None:
        super().__init__(ties)
        self.top = top
        self._presented: dict[str, tuple[str, ...]] = {}

    def _settings(self) -> str:
        return f"{super()._settings()}, top={self.top}"

    def present(self, item: str, candidates: Sequence[str]) -> None:
        """Say what an item's candidates are. Raises ValueError if one is no id or twice there, or answers name another."""
        checked_name("item", item)
        check_sequence(f"candidates of item {item!r:.100}", candidates, "their ids, one after the other")
        named = self._checked(
            [[checked_name(f"candidate of item {item!r:.100}", candidate)] for candidate in candidates]
        )
        known = {candidate for (candidate,) in named}
        self._refuse_others(item, known, {c for _, answer in self._votes_on(item) for t in answer for c in t})
        self._presented[item] = tuple(sorted(known))
        self._last = None

    # --- what a kind of answer says

    def _checked(self, answer: Sequence[Sequence[str]]) -> Tiers:
        if not isinstance(answer, list | tuple) or not answer:
            raise ValueError(f"ranking is {answer!r}; expected tiers of candidates' ids, at least one")
        seen: set[str] = set()
        for i, tier in enumerate(answer):
            if not isinstance(tier, list | tuple) or not tier:
                raise ValueError(
                    f"tier {i} of the ranking is {tier!r}; expected candidates' ids, at least one"
                )
            if len(tier) > 1 and not self.ties:
                raise ValueError(
                    f"tier {i} of the ranking is {tier!r}; expected one id, for ties are not allowed"
                )
            for candidate in tier:
                if not isinstance(candidate, str) or not candidate or candidate in seen:
                    raise ValueError(
                        f"tier {i} of the ranking holds {candidate!r}; expected another id, not empty"
                    )
                seen.add(candidate)
        return tuple(tuple(sorted(tier)) for tier in answer)

    def _refuse_unsuited(self, item: str, labeler: str | None, answer: Tiers) -> None:
        if labeler is not None and item in self._presented:
            self._refuse_others(item, set(self._presented[item]), {c for tier in answer for c in tier})

    def _joined_with(
        self, item: str, votes: Sequence[tuple[str, Tiers]], truth: Tiers | None
    ) -> JoinedRanking:
        found = self._joined(item, votes)
        return found if truth is None else self._clamped(found, truth, votes)

    def _join(self, votes: Sequence[tuple[str, Tiers]]) -> JoinedRanking:
        return self._joined("", votes)

    def _known(self, truth: Tiers, votes: Sequence[tuple[str, Tiers]]) -> JoinedRanking:
        return self._clamped(self._join(votes), truth, votes)

    def _compared(self, answered: Sequence[Answered[Tiers]], labelers: tuple[str, ...]) -> Comparisons:
        row = {who: i for i, who in enumerate(labelers)}
        spoken = [
            [(row[who], answer, 1.0) for who, answer in votes]
            + ([(-1, truth, TRUTH_WEIGHT)] if truth is not None else [])
            for _, votes, truth in answered
        ]
        named = [self._candidates(*one) for one in answered]
        return self._columns([item for item, _, _ in answered], named, spoken, labelers)

    def _told(self, fit: BradleyTerryFit) -> Mapping[str, Floats]:
        return {"elsewhere": fit.strengths.elsewhere}

    # --- rankings as comparisons

    def _candidates(
        self, item: str, votes: Sequence[tuple[str, Tiers]], truth: Tiers | None
    ) -> tuple[str, ...]:
        """Return an item's candidates, by name."""
        answers = [*(answer for _, answer in votes), truth or ()]
        named = {candidate for answer in answers for tier in answer for candidate in tier}
        return tuple(sorted(named | set(self._presented.get(item, ()))))

    def _columns(
        self,
        items: Sequence[str],
        named: Sequence[tuple[str, ...]],
        spoken: Sequence[Sequence[tuple[int, Tiers, float]]],
        labelers: tuple[str, ...],
    ) -> Comparisons:
        """Return all pairs of all items, and each judgement: of a labeler's row, a ranking and what it counts."""
        pair, who, said, weight, left, right = ([] for _ in range(6))
        rows = pairs = 0
        for candidates, answers in zip(named, spoken, strict=True):
            first, second = pairs_of(len(candidates))
            for labeler, ranking, counts in answers:
                outcome = outcomes(places(ranking, candidates, self.top), first, second)
                judged = np.flatnonzero(outcome >= 0)
                placed = sum(map(len, ranking))
                each = counts * worth(placed, len(candidates) if self.top else placed)
                pair.append(pairs + judged)
                who.append(np.full(judged.size, labeler))
                said.append(outcome[judged])
                weight.append(np.full(judged.size, each))
            left.append(rows + first)
            right.append(rows + second)
            rows, pairs = rows + len(candidates), pairs + first.size
        everywhere = sorted({name for candidates in named for name in candidates})
        home = {name: row for row, name in enumerate(everywhere)}
        seats = [(item, name) for item, some in zip(items, named, strict=True) for name in some]
        return Comparisons(
            pair=_joined(pair, np.int64),
            labeler=_joined(who, np.int64),
            outcome=_joined(said, np.int64),
            placed=np.zeros(sum(part.size for part in pair)),
            weight=_joined(weight, np.float64),
            left=_joined(left, np.int64),
            right=_joined(right, np.int64),
            across=np.array([home[name] for _, name in seats], dtype=np.int64),
            pairs=tuple(range(pairs)),
            candidates=tuple(seats),
            everywhere=tuple(everywhere),
            labelers=labelers,
            ties=self.ties,
        )

    # --- one item

    def _joined(self, item: str, votes: Sequence[tuple[str, Tiers]]) -> JoinedRanking:
        candidates = self._candidates(item, votes, self._gold.get(item))
        rows = self._seats([who for who, _ in votes]).tolist()
        spoken = [(row, answer, 1.0) for row, (_, answer) in zip(rows, votes, strict=True)]
        columns = self._columns([item], [candidates], [spoken], self._labelers)
        prior = np.array([self._elsewhere(item, name) for name in candidates]).reshape(-1, 2)
        mean, covariance, leads = self._solve(columns, prior)
        better = _matrix(columns, right_outcome(leads, self._habits, self.ties), len(candidates))
        for array in (better, mean):
            array.setflags(write=False)
        value, confidence = best_tiers(better, mean, candidates)
        return JoinedRanking(
            value=value,
            confidence=confidence if votes else 0.0,
            evidence=self._evidence(votes, value, columns, self._learnt(prior, covariance)),
            candidates=candidates,
            better=better,
            strength=mean,
            strength_sd=np.sqrt(np.diagonal(covariance)),
        )

    def _elsewhere(self, item: str, name: str) -> tuple[float, float]:
        """Return mean and variance of a candidate's strength in an item by all that other items say of it."""
        row = self._strengths.candidates.get((item, name))
        if row is not None:
            return float(self._fitted["elsewhere"][row, 0]), float(self._fitted["elsewhere"][row, 1])
        return self._strengths.of(item, name)

    def _solve(self, columns: Comparisons, prior: Floats) -> tuple[Floats, Floats, Leads]:
        """Return strengths' mean and covariance and the pairs' leads, by Laplace propagation.

        As in the fit, but an item's candidates are few: their joint normal is solved instead of messages sent.
        """
        variances, left, right = self._strengths.variances, columns.left, columns.right
        base, pull = np.diag(1.0 / prior[:, 1]), prior[:, 0] / prior[:, 1]
        site, lift = np.zeros(left.size), np.zeros(left.size)
        at = np.zeros((left.size, 2))
        for _ in range(_ROUNDS):
            mean, covariance = _normal(base, pull, left, right, site, lift)
            spread = covariance[left, left] + covariance[right, right] - 2.0 * covariance[left, right]
            alone = 1.0 / np.maximum(1.0 / spread - site, 1e-9)
            centre = alone * ((mean[left] - mean[right]) / spread - lift)
            wide = alone + variances.pair
            leads = find_leads(columns, self._habits, centre, wide, variances.alike, at, _MODE_STEPS)
            known = leads.covariance[:, 0, 0]
            precision = np.maximum(1.0 / known - 1.0 / wide, 0.0)
            scale = 1.0 + precision * variances.pair
            site, lift = precision / scale, (leads.mean[:, 0] / known - centre / wide) / scale
            moved = float(np.abs(leads.mean - at).max(initial=0.0))
            at = leads.mean
            if moved < _SETTLED:
                break
        mean, covariance = _normal(base, pull, left, right, site, lift)
        return mean, covariance, leads

    def _learnt(self, prior: Floats, covariance: Floats) -> float:
        """Return the share of what is known of the strengths that the answers brought."""
        return float(1.0 - np.mean(np.diagonal(covariance) / prior[:, 1])) if prior.size else 0.0

    def _evidence(
        self, votes: Sequence[tuple[str, Tiers]], value: Tiers, columns: Comparisons, learnt: float
    ) -> tuple[Evidence, ...]:
        care = [self._habit(who)[0] ** 2 for who, _ in votes]
        size = [sum(map(len, answer)) for _, answer in votes]
        informs = [c * max(n - 1, 0) for c, n in zip(care, size, strict=True)]
        whole = max(sum(informs), 1e-300)
        parts = [
            Evidence(who, self._agreement(answer, value), max(learnt, 0.0) * part / whole)
            for (who, answer), part in zip(votes, informs, strict=True)
        ]
        return heaviest_first(parts)

    def _agreement(self, answer: Tiers, value: Tiers) -> float:
        """Return the share of the pairs an answer judged that the value orders alike; 1 if it judged none."""
        candidates = sorted({c for tier in (*answer, *value) for c in tier})
        first, second = pairs_of(len(candidates))
        said = outcomes(places(answer, candidates, self.top), first, second)
        stands = outcomes(places(value, candidates, self.top), first, second)
        both = (said >= 0) & (stands >= 0)
        return float(np.mean(said[both] == stands[both])) if both.any() else 1.0

    def _clamped(
        self, found: JoinedRanking, truth: Tiers, votes: Sequence[tuple[str, Tiers]]
    ) -> JoinedRanking:
        first, second = pairs_of(len(found.candidates))
        said = outcomes(places(truth, found.candidates, self.top), first, second)
        better = found.better.copy()
        known = said >= 0
        better[first[known], second[known]] = said[known] == LEFT
        better[second[known], first[known]] = said[known] == RIGHT
        parts = tuple(Evidence(who, self._agreement(answer, truth), 0.0) for who, answer in votes)
        return JoinedRanking(truth, 1.0, parts, found.candidates, better, found.strength, found.strength_sd)

    def _refuse_others(self, item: str, known: set[str], named: set[str]) -> None:
        if named - known:
            raise ValueError(
                f"item {item!r} is answered with {sorted(named - known)}; expected of {sorted(known)}"
            )


def _normal(
    base: Floats, pull: Floats, left: np.ndarray, right: np.ndarray, site: Floats, lift: Floats
) -> tuple[Floats, Floats]:
    """Return mean and covariance of strengths, given what is said of their differences (precision and pull)."""
    size = pull.size
    precision = base.copy()
    precision[left, right] -= site
    precision[right, left] -= site
    diagonal = np.bincount(left, site, size) + np.bincount(right, site, size)
    precision[np.arange(size), np.arange(size)] += diagonal
    covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
    drawn = pull + np.bincount(left, lift, size) - np.bincount(right, lift, size)
    return covariance @ drawn, covariance


def _matrix(columns: Comparisons, chance: Floats, candidates: int) -> Floats:
    better = np.zeros((candidates, candidates))
    better[columns.left, columns.right] = chance[:, LEFT]
    better[columns.right, columns.left] = chance[:, RIGHT]
    return better


def _joined(parts: Sequence[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(parts).astype(kind) if parts else np.zeros(0, dtype=kind)
