"""Text by exact match: the candidates are the distinct answers, and a labeler is right as often as learnt.

One coin a labeler (Dawid-Skene with a single accuracy): whoever is wrong writes one of very many wrong strings, so two
who agree are very probably right. That none of the candidates is right is one more candidate.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..classes.live_classes import Weighed
from ..columns import Floats, checked_name
from ..live_answers import Answered, Evidence, LabelerAccuracy, LiveAnswers, heaviest_first

VERSION = "2"
"""Changes whenever the same answers may give another text; it is written into every label's provenance."""

ALGORITHM = "OneCoinDawidSkene on exact text"

UNKNOWN_ACCURACY, _STRENGTH = 0.7, 10.0
"""A crowd nobody knows yet, in answers."""

_SAME_MISTAKE = 0.05
"""Chance that two who are wrong wrote the same: a wrong answer is one of twenty equally likely ones."""

_ROUNDS = 50
_SETTLED = 1e-6
_BOUND = 1e-3


@dataclass(frozen=True, slots=True)
class ChosenText:
    """The most probable answer as it was most often written, and the chance that it is right.

    ``candidates`` are the distinct answers, each as it was most often written, with their chances, the most probable
    first.
    """

    text: str
    confidence: float
    candidates: tuple[tuple[str, float], ...]
    evidence: tuple[Evidence, ...] = ()

    @property
    def value(self) -> str:
        """The text, by the name that all kinds share."""
        return self.text


def normalise(text: str, *, fold_case_and_space: bool = True) -> str:
    """Return the form in which answers are compared: NFC, trimmed; case and runs of space folded if asked."""
    composed = unicodedata.normalize("NFC", text).strip()
    return " ".join(composed.casefold().split()) if fold_case_and_space else composed


def as_text(answer: object) -> str:
    """Return an answer that is a string UTF-8 can write; raises ValueError for any other."""
    if not isinstance(answer, str):
        raise ValueError(f"the answer is {type(answer).__name__} {answer!r:.40}; expected a string")
    for place, letter in enumerate(answer):
        if "\ud800" <= letter <= "\udfff":
            raise ValueError(
                f"character {place} of the answer is half a surrogate pair; expected Unicode text"
            )
    return answer


class LiveTexts(LiveAnswers[str, ChosenText, LabelerAccuracy]):
    """Live posteriors of a question answered with text that is right or wrong as a whole: identifiers, short words.

    ``fold_case_and_space`` takes answers that differ only in case, or in how long runs of space are, for the same.
    """

    def __init__(self, *, fold_case_and_space: bool = True) -> None:
        super().__init__()
        self._fold = fold_case_and_space

    def _settings(self) -> str:
        return f"fold_case_and_space={self._fold}"

    def weigh(self, item: str) -> list[Weighed]:
        """Return each answer's log-likelihood ratio for the leading text, heaviest first."""
        votes = self.votes_on(item)
        if not votes:
            return []
        best = self._key(self.posterior(item).text)
        parts = []
        for who, text in votes:
            weight = evidence_of(self._right(who))
            parts.append(Weighed(who, 0, weight if self._key(text) == best else -weight))
        return sorted(parts, key=lambda part: (-abs(part.weight), part.labeler))

    def reliability(self, labeler: str) -> LabelerAccuracy:
        """Return how often a labeler is right; the crowd's accuracy for one never fitted."""
        seen = self._of(checked_name("labeler", labeler), "seen", 0.0) + _STRENGTH
        return self._accuracy(labeler, self._right(labeler), seen)

    def _checked(self, answer: str) -> str:
        return as_text(answer)

    def _join(self, votes: Sequence[tuple[str, str]]) -> ChosenText:
        keyed = [(self._key(text), text) for _, text in votes]
        return chosen(votes, keyed, np.array([self._right(who) for who, _ in votes]))

    def _known(self, truth: str, votes: Sequence[tuple[str, str]]) -> ChosenText:
        key = self._key(truth)
        evidence = tuple(Evidence(who, float(self._key(text) == key), 0.0) for who, text in votes)
        return ChosenText(truth, 1.0, ((truth, 1.0),), evidence)

    def _learn(self, answered: Sequence[Answered[str]], labelers: tuple[str, ...]) -> Mapping[str, Floats]:
        keyed = [
            ([(who, self._key(text)) for who, text in votes], None if truth is None else self._key(truth))
            for _, votes, truth in answered
        ]
        return fit_accuracies(keyed, labelers)

    def _key(self, text: str) -> str:
        return normalise(text, fold_case_and_space=self._fold)

    def _right(self, labeler: str) -> float:
        crowd = float(self._fitted["crowd"][0]) if self._fitted else UNKNOWN_ACCURACY
        return self._of(labeler, "accuracy", crowd)


def evidence_of(accuracy: float) -> float:
    """Return the nats by which one answer speaks for what it says."""
    return float(np.log(accuracy / ((1.0 - accuracy) * _SAME_MISTAKE)))


def chances(keys: Sequence[str], accuracy: Floats) -> dict[str, float]:
    """Return each distinct key's probability; what is missing to one is that none of them is right.

    ``accuracy`` ``(answers,)`` is that of whoever gave each key.
    """
    distinct = sorted(set(keys))
    if not distinct:
        return {}
    place = {key: i for i, key in enumerate(distinct)}
    hits, misses = np.log(accuracy), np.log((1.0 - accuracy) * _SAME_MISTAKE)
    gains = np.bincount([place[key] for key in keys], weights=hits - misses, minlength=len(distinct))
    logs = np.append(gains, np.log(_unsaid(np.array([len(distinct)]))))
    mass = np.exp(logs - logs.max())
    return dict(zip(distinct, (mass / mass.sum()).tolist(), strict=False))


def chosen(
    votes: Sequence[tuple[str, str]], keyed: Sequence[tuple[str, str]], accuracy: Floats
) -> ChosenText:
    """Return the most probable of the answers; empty with confidence 0 where nobody has answered.

    ``keyed`` holds each answer as compared and as written, ``accuracy`` ``(answers,)`` its labeler's.
    """
    ranked = sorted(
        chances([key for key, _ in keyed], accuracy).items(), key=lambda pair: (-pair[1], pair[0])
    )
    if not ranked:
        return ChosenText("", 0.0, ())
    best, chance = ranked[0]
    nats = [
        max(evidence_of(p), 0.0) if key == best else 0.0 for (key, _), p in zip(keyed, accuracy, strict=True)
    ]
    total = sum(nats) or 1.0
    evidence = heaviest_first(
        Evidence(who, float(key == best), w / total)
        for (who, _), (key, _), w in zip(votes, keyed, nats, strict=True)
    )
    form = _usual_forms(keyed)
    return ChosenText(form[best], chance, tuple((form[key], p) for key, p in ranked), evidence)


def _usual_forms(keyed: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return how each key was most often written, but for space around it; the first in order of those as often."""
    forms: dict[str, Counter[str]] = {}
    for key, text in keyed:
        forms.setdefault(key, Counter())[text.strip()] += 1
    return {key: min(some, key=lambda form: (-some[form], form)) for key, some in forms.items()}


def fit_accuracies(
    keyed: Sequence[tuple[Sequence[tuple[str, str]], str | None]], labelers: tuple[str, ...]
) -> Mapping[str, Floats]:
    """Learn how often each labeler is right, from each item's ``(labeler, key)`` and the truth's key if known.

    Returns ``accuracy`` and ``seen`` (answers), both ``(labelers,)``, and the ``crowd``'s accuracy ``(1,)``.
    """
    row = {who: i for i, who in enumerate(labelers)}
    who = np.array([row[name] for votes, _ in keyed for name, _ in votes], dtype=np.int64)
    candidates: dict[tuple[int, str], int] = {}
    said = np.array(
        [
            candidates.setdefault((i, key), len(candidates))
            for i, (votes, _) in enumerate(keyed)
            for _, key in votes
        ],
        dtype=np.int64,
    )
    item = np.array([i for i, _ in candidates], dtype=np.int64)
    clamped = np.array([keyed[i][1] is not None for i, _ in candidates], dtype=np.bool_)
    true = np.array([keyed[i][1] == key for i, key in candidates], dtype=np.bool_)
    seen = np.bincount(who, minlength=len(labelers)).astype(np.float64)
    unsaid = np.log(_unsaid(np.bincount(item, minlength=len(keyed))))
    accuracy, crowd = np.full(len(labelers), UNKNOWN_ACCURACY), UNKNOWN_ACCURACY
    for _ in range(_ROUNDS):
        speaks = np.log(accuracy) - np.log((1.0 - accuracy) * _SAME_MISTAKE)
        logs = np.bincount(said, weights=speaks[who], minlength=item.size)
        top = unsaid.copy()
        np.maximum.at(top, item, logs)
        mass = np.exp(logs - top[item])
        total = np.bincount(item, weights=mass, minlength=len(keyed)) + np.exp(unsaid - top)
        chance = np.where(clamped, true, mass / total[item])
        right = np.bincount(who, weights=chance[said], minlength=len(labelers))
        crowd = float((right.sum() + _STRENGTH * UNKNOWN_ACCURACY) / (seen.sum() + _STRENGTH))
        before = accuracy
        accuracy = np.clip((right + _STRENGTH * crowd) / (seen + _STRENGTH), _BOUND, 1.0 - _BOUND)
        if np.abs(accuracy - before).max(initial=0.0) < _SETTLED:
            break
    return {"accuracy": accuracy, "seen": seen, "crowd": np.array([crowd])}


def _unsaid(distinct: NDArray[np.int64]) -> Floats:
    """Return how many texts nobody wrote, for so many that were: that none is right must be as likely for one answer
    alone as its labeler errs."""
    return np.asarray(np.maximum(1.0 + 1.0 / _SAME_MISTAKE - distinct, 1.0))
