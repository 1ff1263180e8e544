"""Text by exact match: the candidates are the distinct answers, and a labeler is right as often as learnt.

One coin a labeler (Dawid-Skene with a single accuracy): whoever is wrong writes one of very many wrong strings, so two
who agree are very probably right. That none of the candidates is right is one more candidate.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from ..classes.live_classes import Weighed

_ACCURACY, _STRENGTH = 0.7, 10.0
"""A crowd nobody knows yet, in answers."""

_SAME_MISTAKE = 0.05
"""Chance that two who are wrong wrote the same: a wrong answer is one of twenty equally likely ones."""

_ROUNDS = 50
_SETTLED = 1e-6
_BOUND = 1e-3


@dataclass(frozen=True, slots=True)
class ChosenText:
    """The most probable answer as it was most often written, and the chance that it is right."""

    text: str
    confidence: float
    candidates: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class LabelerAccuracy:
    """A labeler's chance to be right with its 95 % credible interval, over ``votes`` answers."""

    labeler: str
    votes: int
    accuracy: float
    low: float
    high: float


def normalise(text: str, *, fold_case_and_space: bool = True) -> str:
    """Return the form in which answers are compared: NFC, trimmed; case and runs of space folded if asked."""
    composed = unicodedata.normalize("NFC", text).strip()
    return " ".join(composed.casefold().split()) if fold_case_and_space else composed


class LiveTexts:
    """Live posteriors of a question answered with text; items and labelers by name."""

    def __init__(self, *, fold_case_and_space: bool = True) -> None:
        self.refits = 0
        self.refit_votes = 0
        self._fold = fold_case_and_space
        self._answers: dict[str, dict[str, str]] = {}
        self._gold: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._right: dict[str, tuple[float, float]] = {}
        self._crowd = _ACCURACY

    @property
    def votes(self) -> int:
        """Answers held."""
        return sum(self._counts.values())

    def update(self, item: str, labeler: str, text: str) -> ChosenText:
        """Add an answer, or replace this labeler's earlier one, and return what the item's text now is."""
        answers = self._answers.setdefault(item, {})
        if labeler not in answers:
            self._counts[labeler] = self._counts.get(labeler, 0) + 1
        answers[labeler] = text
        return self.posterior(item)

    def know(self, item: str, truth: str | None) -> None:
        """Clamp an item to a known text, or free it again with None."""
        if truth is None:
            self._gold.pop(item, None)
        else:
            self._gold[item] = truth

    def posterior(self, item: str) -> ChosenText:
        """Return the most probable text; empty with confidence 0 where nobody has answered."""
        if item in self._gold:
            return ChosenText(self._gold[item], 1.0, ((self._gold[item], 1.0),))
        chances = self._chances(item)
        if not chances:
            return ChosenText("", 0.0, ())
        best = max(chances, key=lambda key: chances[key])
        ranked = sorted(chances.items(), key=lambda pair: (-pair[1], pair[0]))
        return ChosenText(self._as_written(item, best), chances[best], tuple(ranked))

    def votes_on(self, item: str) -> Sequence[tuple[str, str]]:
        """Return ``(labeler, text)`` of each answer on an item, by labeler."""
        answers = self._answers.get(item, {})
        return [(who, answers[who]) for who in sorted(answers)]

    def weigh(self, item: str) -> list[Weighed]:
        """Return each answer's log-likelihood ratio for the leading text, heaviest first."""
        chances = self._chances(item)
        if not chances:
            return []
        best = max(chances, key=lambda key: chances[key])
        parts = []
        for who, text in self.votes_on(item):
            p = self._accuracy(who)
            weight = float(np.log(p / ((1.0 - p) * _SAME_MISTAKE)))
            parts.append(Weighed(who, 0, weight if self._key(text) == best else -weight))
        return sorted(parts, key=lambda part: (-abs(part.weight), part.labeler))

    def reliability(self, labeler: str) -> LabelerAccuracy:
        """Return how often a labeler is right; the crowd's accuracy for one never fitted."""
        p = self._accuracy(labeler)
        seen = self._right.get(labeler, (0.0, 0.0))[1] + _STRENGTH
        low, high = special.betaincinv(p * seen + 0.5, (1.0 - p) * seen + 0.5, [0.025, 0.975])
        return LabelerAccuracy(labeler, self._counts.get(labeler, 0), p, float(low), float(high))

    def labelers(self) -> list[str]:
        """Return the labelers who answered, by name."""
        return sorted(self._counts)

    def items(self) -> Sequence[str]:
        """Return the items that have an answer."""
        return list(self._answers)

    def refit(self) -> None:
        """Fit accuracies to all answers; independent of the order they came in."""
        self._right, self._crowd = {}, _ACCURACY
        names = sorted(self._answers)
        before: dict[str, float] = {}
        for _ in range(_ROUNDS):
            right = dict.fromkeys(sorted(self._counts), 0.0)
            for name in names:
                chances = self._chances(name)
                for who, text in self.votes_on(name):
                    right[who] += chances.get(self._key(text), 0.0)
            total = sum(right.values())
            self._crowd = (total + _STRENGTH * _ACCURACY) / (self.votes + _STRENGTH)
            self._right = {who: (r, float(self._counts[who])) for who, r in right.items()}
            if all(abs(r - before.get(who, -1.0)) < _SETTLED for who, r in right.items()):
                break
            before = right
        self.refits += 1
        self.refit_votes = self.votes

    def save(self) -> bytes:
        """Return the fitted state as bytes (NumPy .npz, no pickle)."""
        buffer, names = io.BytesIO(), sorted(self._right)
        np.savez(
            buffer,
            labelers=np.array(names, dtype=np.str_),
            right=np.array([self._right[n] for n in names]).reshape(-1, 2),
            crowd=np.array([self._crowd]),
            refits=np.array([self.refits, self.refit_votes], dtype=np.int64),
        )
        return buffer.getvalue()

    def restore(self, saved: bytes) -> None:
        """Adopt a saved fit; the answers are added by `update` as ever."""
        with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
            pairs = zip(arrays["labelers"], arrays["right"], strict=True)
            self._right = {str(name): (float(r[0]), float(r[1])) for name, r in pairs}
            self._crowd = float(arrays["crowd"][0])
            self.refits, self.refit_votes = (int(n) for n in arrays["refits"])

    def digest(self) -> bytes:
        """Return the SHA-256 of the fitted state."""
        names = sorted(self._right)
        sha = hashlib.sha256("\n".join(names).encode())
        sha.update(np.array([[*self._right[n]] for n in names], dtype="<f8").tobytes())
        sha.update(np.array([self._crowd], dtype="<f8").tobytes())
        return sha.digest()

    def _key(self, text: str) -> str:
        return normalise(text, fold_case_and_space=self._fold)

    def _accuracy(self, labeler: str) -> float:
        right, seen = self._right.get(labeler, (0.0, 0.0))
        p = (right + _STRENGTH * self._crowd) / (seen + _STRENGTH)
        return min(max(p, _BOUND), 1.0 - _BOUND)

    def _chances(self, item: str) -> dict[str, float]:
        """Return each candidate's probability; what is missing to one is that none of them is right."""
        if item in self._gold:
            return {self._key(self._gold[item]): 1.0}
        votes = [(who, self._key(text)) for who, text in self.votes_on(item)]
        keys = sorted({key for _, key in votes})
        if not keys:
            return {}
        hits = np.array([np.log(self._accuracy(who)) for who, _ in votes])
        misses = np.array([np.log((1.0 - self._accuracy(who)) * _SAME_MISTAKE) for who, _ in votes])
        logs = [float(np.where([key == said for _, said in votes], hits, misses).sum()) for key in keys]
        # None of them: one of all the strings that nobody wrote, so that one answer alone is as sure as its labeler.
        unsaid = max(1.0 + 1.0 / _SAME_MISTAKE - len(keys), 1.0)
        logs.append(float(misses.sum() + np.log(unsaid)))
        top = max(logs)
        mass = np.exp(np.array(logs) - top)
        mass = mass / mass.sum()
        return {key: float(p) for key, p in zip(keys, mass, strict=False)}

    def _as_written(self, item: str, key: str) -> str:
        forms = Counter(text for _, text in self.votes_on(item) if self._key(text) == key)
        return min(forms, key=lambda form: (-forms[form], form)) if forms else key
