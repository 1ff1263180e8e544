"""Answers that are sets of classes: what applies to an item, class by class, and how likely all of it is right.

Everybody who answered judged every class: what an answer leaves out, it denies. Each class has its prevalence, each
labeler hits and false alarms (`choice_learning`). As for single classes, posteriors are pooled with the majority's shares
on the log-odds scale (Genest & Zidek 1986), each answer counting by its labeler's F1, and a little is kept back for
mistakes that a crowd shares: where the model is wrong about a crowd it is usually surer than the majority, and wrong.

The confidence of a set is the product over its classes, as if they were independent. It is not measured on recorded
sets of classes, for none were at hand.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..columns import Floats, Ints, checked_name
from ..labeler_accuracy import credible_interval
from ..live_answers import Answered, Evidence, LiveAnswers, heaviest_first, packed, unpacked
from .choice_learning import MOST_OWN, Choosing, ChosenColumns, design_effect, fit_choosing
from .live_classes import LabelerReliability, Weighed

ALGORITHM = "AdditiveDawidSkene on sets"

VERSION = "1"
"""Changes whenever the same answers may give another set; it is written into every label's provenance."""

_MODEL_WEIGHT, _MAJORITY_WEIGHT = 0.6, 0.4
"""Exponents of the pool. Chosen on recorded answers of one class, some of them taken together to sets of questions."""

_HALF_AN_ANSWER = 0.5
"""Of the prevalence, where answers are counted: one answer alone is not yet certainty."""

_SHARED_MISTAKES = 0.01
"""How often a whole crowd is wrong together about a class, as a share of how often its members err."""

_BEHIND = 20.0
"""Classes judged behind a labeler's F1: what the learnt rates' prior comes to."""

_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class ChosenSet:
    """The classes more probable than not, by name, and the chance that all of it is right, nothing amiss.

    ``probabilities`` of classes, those never heard of and the many that hardly anybody names (beyond 128) left out where
    no answer to the item names them.
    """

    classes: tuple[str, ...]
    confidence: float
    probabilities: dict[str, float]
    evidence: tuple[Evidence, ...] = ()

    @property
    def value(self) -> tuple[str, ...]:
        """The classes, by the name that all kinds share."""
        return self.classes


class _Judged(NamedTuple):
    """What answers to one item say of its classes.

    ``applies`` (cells,): each class's chance, the last cell that of every class that nobody names; ``stands`` (cells,):
    classes in a cell; ``said`` (answers, cells): log-likelihood ratio of each answer.
    """

    names: Sequence[str]
    applies: Floats
    stands: Floats
    said: Floats

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """Which cells are in the set; what has no name never is."""
        chosen = self.applies > 0.5
        chosen[-1] = False
        return chosen


class LiveChoices(LiveAnswers[Collection[str], ChosenSet, LabelerReliability]):
    """Live posteriors of a question answered with sets of classes; items, labelers and classes by name.

    ``classes``: all there are. Without, those are known that an answer or a truth has named by the last refit or names
    on the item at hand, and that there is one more which nobody ever thought of is reckoned with. Raises ValueError for
    what is no collection of names.
    """

    def __init__(self, classes: Collection[str] | None = None) -> None:
        super().__init__()
        self._given = None if classes is None else _named("classes", classes)
        if self._given is not None and not self._given:
            raise ValueError(
                f"classes is {classes!r}; expected one class or more, or None for all that are named"
            )
        self._adopt((), {})

    def weigh(self, item: str) -> list[Weighed]:
        """Return the nats by which each answer speaks for the item's set, over all classes, heaviest first."""
        votes = self.votes_on(item)
        if not votes:
            return []
        judged = self._judge(votes)
        truth = self._gold.get(item)
        chosen = judged.chosen if truth is None else np.array([name in truth for name in (*judged.names, "")])
        parts = [
            Weighed(who, 0, float(nats))
            for (who, _), nats in zip(votes, _nats_for(judged, chosen), strict=True)
        ]
        return sorted(parts, key=lambda part: (-abs(part.weight), part.labeler))

    def reliability(self, labeler: str) -> LabelerReliability:
        """Return how well a labeler chooses: ``accuracy`` is the F1 to expect of what this labeler alone chooses.

        ``confusion`` is that of a class: does it apply (no, yes), was it chosen (no, yes). The crowd's for one never
        fitted.
        """
        row = self._rows.get(checked_name("labeler", labeler), -1)
        hit, alarm, f1 = (float(rate[0]) for rate in self._choosing.rates(np.array([row]), self._size))
        seen = float(self._choosing.seen[row]) + _BEHIND
        low, high = credible_interval(f1 * seen + 0.5, (1.0 - f1) * seen + 0.5)
        confusion = np.array([[1.0 - alarm, alarm], [1.0 - hit, hit]])
        return LabelerReliability(labeler, self._counts.get(labeler, 0), f1, low, high, confusion)

    def _settings(self) -> str:
        if self._given is None:
            return ""
        return f"{len(self._given)} classes {hashlib.sha256(packed(sorted(self._given)).tobytes()).hexdigest()[:8]}"

    def _checked(self, answer: Collection[str]) -> frozenset[str]:
        chosen = _named("answer", answer)
        if self._given is not None and not chosen <= self._given:
            raise ValueError(
                f"answer holds {min(chosen - self._given)!r}; expected some of the classes given"
            )
        return chosen

    def _join(self, votes: Sequence[tuple[str, Collection[str]]]) -> ChosenSet:
        if not votes:
            return ChosenSet((), 0.0, {})
        judged = self._judge(votes)
        chosen = judged.chosen
        right = np.where(chosen, judged.applies, 1.0 - judged.applies)
        value = tuple(sorted(name for name, held in zip(judged.names, chosen, strict=False) if held))
        nats = np.maximum(_nats_for(judged, chosen), _LEAST)
        weights = nats / nats.sum()
        return ChosenSet(
            value,
            float(np.exp(judged.stands @ np.log(right))),
            dict(zip(judged.names, judged.applies.tolist(), strict=False)),
            heaviest_first(
                Evidence(who, _alike(said, value), float(weight))
                for (who, said), weight in zip(votes, weights, strict=True)
            ),
        )

    def _known(self, truth: Collection[str], votes: Sequence[tuple[str, Collection[str]]]) -> ChosenSet:
        evidence = heaviest_first(Evidence(who, _alike(said, truth), 0.0) for who, said in votes)
        return ChosenSet(tuple(sorted(truth)), 1.0, dict.fromkeys(sorted(truth), 1.0), evidence)

    def _judge(self, votes: Sequence[tuple[str, Collection[str]]]) -> _Judged:
        """Return what answers, at least one, say of every class."""
        known, columns = self._choosing, len(self._own)
        others = sorted({name for _, said in votes for name in said if name not in self._own})
        names = [*self._own, *others]
        place = {name: cell for cell, name in enumerate(names)}
        named = np.zeros((len(votes), len(names) + 1))
        for row, (_, said) in enumerate(votes):
            named[row, [place[name] for name in said]] = 1.0
        # Classes that share their rates are judged in the last column, and what is left of them in the last cell.
        column = np.minimum(np.arange(len(names) + 1), columns)
        stands = np.append(np.ones(len(names)), max(self._size[-1] - len(others), 0.0))
        rows = np.array([self._rows.get(who, -1) for who, _ in votes])
        hits, alarms = known.log_odds(rows)
        unsaid = np.logaddexp(0.0, alarms) - np.logaddexp(0.0, hits)
        said = (unsaid[:, column] + named * (hits - alarms)[:, column]) / design_effect(np.array(len(votes)))
        prevalence = known.prevalence[column]
        doubt = _SHARED_MISTAKES * known.doubt
        model = special.expit(special.logit(prevalence) + said.sum(axis=0))
        believed = np.clip((1.0 - doubt) * model + doubt * prevalence, _LEAST, 1.0 - _LEAST)
        counting = self._f1[rows]
        share = (counting @ named + _HALF_AN_ANSWER * prevalence) / (counting.sum() + _HALF_AN_ANSWER)
        pooled = _MODEL_WEIGHT * special.logit(believed) + _MAJORITY_WEIGHT * special.logit(share)
        return _Judged(names, np.clip(special.expit(pooled), _LEAST, 1.0 - _LEAST), stands, said)

    def _learn(
        self, answered: Sequence[Answered[Collection[str]]], labelers: tuple[str, ...]
    ) -> Mapping[str, Floats]:
        if not answered:
            return {}
        own, shared = self._columns(answered)
        size = np.append(np.ones(len(own)), float(shared))
        arrays = fit_choosing(_as_columns(answered, labelers, own, size)).arrays()
        return arrays | {"classes": packed(own), "size": size}

    def _columns(self, answered: Sequence[Answered[Collection[str]]]) -> tuple[list[str], int]:
        """Return the classes that get rates of their own, and how many share theirs."""
        times = Counter(self._given or ())
        for _, votes, truth in answered:
            times.update(name for _, said in votes for name in said)
            times.update(truth or ())
        unheard = 0 if self._given is not None else 1
        if len(times) <= MOST_OWN:
            return sorted(times), unheard
        # Those chosen more often than the first that has no room: as often, and names would decide.
        least = sorted(times.values(), reverse=True)[MOST_OWN]
        own = sorted(name for name, often in times.items() if often > least)
        return own, len(times) - len(own) + unheard

    def _adopt(self, labelers: tuple[str, ...], fitted: Mapping[str, Floats]) -> None:
        super()._adopt(labelers, fitted)
        if fitted:
            own, self._size = unpacked(fitted["classes"]), fitted["size"]
            self._choosing = Choosing.of(fitted, len(own) + 1, len(labelers))
        else:
            given = self._given or frozenset()
            own = sorted(given) if len(given) <= MOST_OWN else []
            shared = 1 if self._given is None else len(given) - len(own)
            self._size = np.append(np.ones(len(own)), float(shared))
            self._choosing = Choosing.cold(self._size.size)
        self._own: dict[str, int] = {name: column for column, name in enumerate(own)}
        self._f1 = self._choosing.rates(np.arange(len(labelers) + 1), self._size)[2]


def _named(what: str, chosen: Collection[str]) -> frozenset[str]:
    """Return classes' names. Raises ValueError for a string, which is a collection of letters, and for no names."""
    if isinstance(chosen, str | bytes) or not isinstance(chosen, Collection):
        raise ValueError(f"{what} is {chosen!r:.100}; expected a collection of classes' names")
    for place, name in enumerate(chosen):
        if not checked_name(f"{what}, class {place}", name) or any(map(_is_control, name)):
            raise ValueError(
                f"{what}, class {place} is {name!r:.100}; expected a name, not empty, without control characters"
            )
    return frozenset(chosen)


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) == "Cc"


def _as_columns(
    answered: Sequence[Answered[Collection[str]]], labelers: tuple[str, ...], own: Sequence[str], size: Floats
) -> ChosenColumns:
    """Return all answers as the columns that are learnt from."""
    row, column = ({name: i for i, name in enumerate(names)} for names in (labelers, own))
    grid = len(answered) * size.size
    item: list[int] = []
    labeler: list[int] = []
    named: list[tuple[int, int]] = []
    extra: list[int] = []
    known: dict[int, float] = {}
    for i, (_, votes, truth) in enumerate(answered):
        heard = {name for _, said in votes for name in said} | set(truth or ())
        place = {name: i * size.size + column[name] for name in heard if name in column}
        for name in sorted(heard - set(place)):
            place[name] = grid + len(extra)
            extra.append(i)
        if truth is not None:
            known.update(dict.fromkeys(range(i * size.size, (i + 1) * size.size), 0.0))
            known.update({cell: float(name in truth) for name, cell in place.items()})
        for who, said in votes:
            named.extend((len(item), place[name]) for name in sorted(said))
            item.append(i)
            labeler.append(row[who])
    truths = np.full(grid + len(extra), np.nan)
    truths[list(known)] = list(known.values())
    return ChosenColumns(
        _whole(item),
        _whole(labeler),
        _whole(named).reshape(-1, 2),
        _whole(extra),
        size,
        truths,
        len(answered),
        len(labelers),
    )


def _whole(values: Sequence[int] | Sequence[tuple[int, int]]) -> Ints:
    return np.array(values, dtype=np.int64)


def _nats_for(judged: _Judged, chosen: NDArray[np.bool_]) -> Floats:
    """Return the nats by which each answer speaks for the set, ``(answers,)``."""
    return np.asarray(judged.said @ (np.where(chosen, 1.0, -1.0) * judged.stands))


def _alike(one: Collection[str], other: Collection[str]) -> float:
    """Return the F1 of two sets, that is Dice's coefficient; two empty ones are alike."""
    size = len(one) + len(other)
    return 2.0 * len(set(one) & set(other)) / size if size else 1.0
