"""Votes on words: in each slot of an alignment every answer has a word or a gap, and one of them is right.

ROVER (Fiscus 1997), with the votes weighed by a model: where the truth has a word, an answer has it with chance
``right``, leaves it out with chance ``missed``, or has another; where the truth has none, it puts one in with chance
``added``. Whoever has another word has that of another who errs with chance ``alike``: what is heard wrong is heard
wrong alike. An answer's own rates lean on its labeler's, and theirs on the crowd's. All are learnt by
expectation-maximisation, as in Dawid & Skene (1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import Floats
from .alignment import GAP, Ints

_LABELER_STRENGTH = 20.0
"""Words, a sentence's worth, that the crowd counts for in what is known of a labeler."""

_ANSWER_STRENGTH = 60.0
"""Words, three sentences' worth, that its labeler counts for in what is known of an answer: most are alike."""

_GAP_PRIOR = 0.5
"""A text has as many gaps between its words as words."""

_CORRELATION = 0.2
_CORRELATION_STRENGTH = 100.0
"""Pairs of answers' words: what is believed of how much they err together before any is seen."""

_UNSEEN = 3.0
"""Errors that most answers share pass for the truth, and only the rest of what is correlated is seen. On recorded
transcriptions and translations three times what is seen makes the expected accuracy honest; where errors are
independent, three times nothing is nothing."""

_ROUNDS = 12
_BOUND = 2e-3
_UNKNOWN = (0.85, 0.06, 0.03)
"""Right, missed, added in a crowd nobody knows yet."""
_ALIKE = 0.3
_ALIKE_STRENGTH = 10.0
"""Pairs of errors: what is believed of how alike they are before any is seen."""


@dataclass(frozen=True, slots=True)
class WordRates:
    """What is known of labelers, each ``(labelers,)``, and of the crowd ``(3,)``: chances in the order of `rates`.

    ``rates`` ``(labelers, 3)`` are right, missed (of the words of the truth) and added (to its gaps); ``seen``
    ``(labelers,)`` is how many words they are learnt from.
    """

    rates: Floats
    seen: Floats
    crowd: Floats
    alike: float
    correlation: float

    @classmethod
    def unknown(cls) -> WordRates:
        """Return what is believed of a crowd before it has answered."""
        return cls(np.zeros((0, 3)), np.zeros(0), np.array(_UNKNOWN), _ALIKE, _CORRELATION)

    def of(self, rows: Sequence[int]) -> Floats:
        """Return the rates ``(rows, 3)`` of labelers by row, the crowd's for -1."""
        return np.asarray(np.vstack([self.rates, self.crowd])[np.array(rows, dtype=np.int64)])


class WordVotes:
    """The networks of many texts as columns of votes, and of the candidates ``(slot, token)`` they are for.

    Each slot has two candidates more than words: the gap, and a word that nobody has. ``known`` is a truth's token in
    each slot of a network whose truth is known.
    """

    def __init__(self, networks: Sequence[Ints], known: Sequence[Ints | None] | None = None) -> None:
        known = known or [None] * len(networks)
        # A truth may hold words that nobody wrote.
        told = [*networks, *(truth for truth in known if truth is not None)]
        width = 1 + max((int(tokens.max(initial=0)) for tokens in told), default=0)
        sizes = np.array([len(net) for net in networks], dtype=np.int64)
        answers = np.array([net.shape[1] for net in networks], dtype=np.int64)
        starts = np.cumsum(answers) - answers
        self.slots, self.answers, self.texts = int(sizes.sum()), int(answers.sum()), len(networks)
        self.text = np.repeat(np.arange(len(networks)), sizes)
        depth = answers[self.text]
        self.slot = np.repeat(np.arange(self.slots), depth)
        first = np.repeat(np.cumsum(depth) - depth, depth)
        self.answer = np.arange(self.slot.size) - first + starts[self.text][self.slot]
        token = _joined([net.ravel() for net in networks])
        self.gap = token == GAP
        truth = _joined(
            [np.full(len(net), -1) if t is None else t for net, t in zip(networks, known, strict=True)]
        )
        everywhere = np.arange(self.slots)
        keys = [self.slot * width + token, everywhere * width, (everywhere * width + truth)[truth >= 0]]
        candidates, place = np.unique(np.concatenate(keys), return_inverse=True)
        self.candidate_slot, self.token = candidates // width, candidates % width
        self.vote, self.gap_of, self.clamped = np.split(place, np.cumsum([len(key) for key in keys[:2]]))
        self.is_gap = self.token == GAP
        self.words = np.bincount(self.candidate_slot, minlength=self.slots) - 1
        self.depth = depth
        self.is_known = truth >= 0

    def chances(self, rates: Floats, alike: float, thin: Floats | None = None) -> Floats:
        """Return the probability of each candidate; what is missing to one in a slot is that it is none of them.

        ``rates`` ``(answers, 3)``; ``thin`` ``(slots,)`` is what share of a vote each counts for, else all of it.
        """
        right, missed, added = rates.T
        wrong = np.maximum(1.0 - right - missed, _BOUND) * alike
        share = 1.0 if thin is None else thin[self.slot]
        of = self.answer
        astray = np.where(self.gap, np.log(missed)[of], np.log(wrong)[of]) * share
        idle = np.where(self.gap, np.log1p(-added)[of], np.log(added * alike)[of]) * share
        gain = np.where(self.gap, 0.0, (np.log(right) - np.log(wrong))[of]) * share
        no_word = self._per_slot(astray)
        word = no_word[self.candidate_slot] + np.bincount(self.vote, gain, self.token.size)
        log_word = np.log((1.0 - _GAP_PRIOR) * alike)
        log = np.where(
            self.is_gap, (self._per_slot(idle) + np.log(_GAP_PRIOR))[self.candidate_slot], word + log_word
        )
        unsaid = no_word + log_word + np.log(np.maximum(1.0 / alike - self.words, 1.0))
        top = unsaid.copy()
        np.maximum.at(top, self.candidate_slot, log)
        mass = np.exp(log - top[self.candidate_slot])
        total = np.bincount(self.candidate_slot, mass, self.slots) + np.exp(unsaid - top)
        chance = mass / total[self.candidate_slot]
        chance[self.is_known[self.candidate_slot]] = 0.0
        chance[self.clamped] = 1.0
        return np.asarray(chance)

    def counts(self, chance: Floats) -> Floats:
        """Return ``(answers, 4)``: expected words right, missed and added, and words of the truth."""
        gap = chance[self.gap_of][self.slot]
        right = np.where(self.gap, 0.0, chance[self.vote])
        parts = (right, np.where(self.gap, 1.0 - gap, 0.0), np.where(self.gap, 0.0, gap), 1.0 - gap)
        return np.stack([np.bincount(self.answer, part, self.answers) for part in parts], axis=1)

    def pairs_of_errors(self, chance: Floats) -> tuple[float, float]:
        """Return how many pairs of wrong words in one slot are expected to be the same word, and how many there are."""
        votes = np.bincount(self.vote, np.where(self.gap, 0.0, 1.0), self.token.size)
        per_slot = np.bincount(self.candidate_slot, votes, self.slots)
        same = votes * (votes - 1.0)
        all_same = np.bincount(self.candidate_slot, same, self.slots)
        wrong = per_slot[self.candidate_slot] - votes
        truth_is_word = np.where(self.is_gap, 0.0, chance)
        alike = truth_is_word @ (all_same[self.candidate_slot] - same)
        return float(alike) / 2.0, float(truth_is_word @ (wrong * (wrong - 1.0))) / 2.0

    def correlation(self, rates: Floats, chance: Floats) -> float:
        """Return how much more often than their rates explain answers err in the same slots (intraclass, 0..1).

        Where the truth most probably has a word, over all pairs of answers, leaning on what is usual.
        """
        chance_of_error = 1.0 - rates[self.answer, 0]
        worded = (chance[self.gap_of] < 0.5)[self.slot]
        beyond = np.where(worded, 1.0 - chance[self.vote] - chance_of_error, 0.0)
        spread = np.where(worded, np.sqrt(chance_of_error * (1.0 - chance_of_error)), 0.0)
        together, apart = (
            (self._per_slot(x) ** 2 - self._per_slot(x * x)).sum() / 2.0 for x in (beyond, spread)
        )
        found = (together + _CORRELATION_STRENGTH * _CORRELATION) / (apart + _CORRELATION_STRENGTH)
        return float(np.clip(found, 0.0, 1.0))

    def best(self, chance: Floats) -> Ints:
        """Return the most probable token ``(slots,)`` of each slot; of equals the first, gaps before all."""
        order = np.lexsort((self.token, -chance, self.candidate_slot))
        slots = self.candidate_slot[order]
        return np.asarray(self.token[order[np.append(True, slots[1:] != slots[:-1])[: slots.size]]])

    def table(self, chance: Floats) -> Floats:
        """Return the chance of each token in each slot, ``(slots, tokens)``."""
        table = np.zeros((self.slots, int(self.token.max(initial=0)) + 1))
        table[self.candidate_slot, self.token] = chance
        return table

    def _per_slot(self, of_vote: Floats) -> Floats:
        return np.asarray(np.bincount(self.slot, of_vote, self.slots), dtype=np.float64)


def answer_rates(counts: Floats, expected: Floats) -> Floats:
    """Return the rates ``(answers, 3)`` of answers, leaning on what is ``expected`` of their labelers."""
    return _bounded((counts[:, :3] + _ANSWER_STRENGTH * expected) / (counts[:, 3:] + _ANSWER_STRENGTH))


def fit_rates(votes: WordVotes, labeler: Ints, labelers: int) -> WordRates:
    """Learn everybody's rates from all votes; ``labeler`` ``(answers,)`` is the row of each answer's author."""
    known = WordRates.unknown()
    rates, alike = np.tile(known.crowd, (votes.answers, 1)), known.alike
    total = np.zeros((labelers, 4))
    crowd = known.crowd
    for _ in range(_ROUNDS):
        chance = votes.chances(rates, alike)
        counts = votes.counts(chance)
        total = np.zeros((labelers, 4))
        np.add.at(total, labeler, counts)
        crowd = _leaning(total.sum(axis=0), known.crowd)
        expected = _leaning(total, crowd)[labeler]
        rates = answer_rates(counts, expected)
        same, pairs = votes.pairs_of_errors(chance)
        alike = (same + _ALIKE_STRENGTH * _ALIKE) / (pairs + _ALIKE_STRENGTH)
    return WordRates(
        _leaning(total, crowd),
        total[:, 3],
        crowd,
        float(alike),
        votes.correlation(rates, votes.chances(rates, alike)),
    )


def thinned(votes: WordVotes, correlation: float) -> Floats:
    """Return what share of a vote each counts for in a slot ``(slots,)``: the inverse of the design effect."""
    return np.asarray(1.0 / (1.0 + _UNSEEN * correlation * (votes.depth - 1.0)))


def _leaning(counts: Floats, towards: Floats) -> Floats:
    return _bounded((counts[..., :3] + _LABELER_STRENGTH * towards) / (counts[..., 3:] + _LABELER_STRENGTH))


def _bounded(rates: Floats) -> Floats:
    """Keep chances off 0 and 1, and let right and missed leave room for wrong."""
    rates = np.clip(rates, _BOUND, 1.0 - 2.0 * _BOUND)
    rates[..., 1] = np.minimum(rates[..., 1], 1.0 - _BOUND - rates[..., 0])
    return np.asarray(rates)


def _joined(parts: Sequence[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])
