"""Preferences while answers come in: which of an item's two candidates is better, if either is.

The model is `bradley_terry`'s: strengths of candidates that recur, a lead of every item's own, labelers with
discrimination and leanings. Right is what most of an endless crowd without a leaning would say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..columns import Floats, checked_name
from ..live_answers import Answered, Evidence, heaviest_first, packed, unpacked
from .bradley_terry import BradleyTerryFit, find_lead, predicted, right_outcome
from .comparisons import LEFT, NEITHER, RIGHT, Comparisons
from .live_comparisons import TRUTH_WEIGHT, LiveComparisons
from .strengths import Leads

VERSION = "1"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "hierarchical Bradley-Terry-Davidson"

_MODE_STEPS = 20
"""Newton steps to an item's mode from what others foretell: it settles in four or five, far out in some more."""

_UNNAMED = "\0"
"""What the name of a candidate that nobody has named begins with; it is before all others in order."""


@dataclass(frozen=True, slots=True)
class JoinedPreference:
    """Answers to one comparison, joined.

    ``value``: id of the better candidate, "" for neither. ``probabilities``: of each candidate known by name, and of
    "" (neither), to be right; they sum to less than one only where a candidate was never named. ``lead`` and
    ``lead_sd``: by how many log-odds an average labeler prefers the first of ``candidates``, and how surely.
    """

    value: str
    confidence: float
    evidence: tuple[Evidence, ...]
    candidates: tuple[str, ...]
    probabilities: Mapping[str, float]
    lead: float
    lead_sd: float


class _Scene(NamedTuple):
    """An item's two candidates in order of names, and where the first was seen: 1 left, -1 right, 0 nobody knows."""

    first: str
    second: str
    group: str
    placed: float


class LivePreferences(LiveComparisons[str, JoinedPreference]):
    """Live state of a question whose answer is the id of the better of an item's two candidates, "" for neither.

    `present` says what an item's candidates are, which was at the left, and the group (say, the query) within which
    candidates compete; without it they are those that answers name, nobody knows what was at the left, and an id means
    the same candidate everywhere. Without ``ties`` "" is no answer. Of an item without an answer a posterior says with
    confidence 0 what strengths alone foretell.
    """

    def __init__(self, ties: bool = True) -> None:
        super().__init__(ties)
        self._presented: dict[str, _Scene] = {}

    # --- what came in

    def present(self, item: str, left: str, right: str, group: str = "") -> None:
        """Say what an item's two candidates are. Raises ValueError if they are not two, or answers name another."""
        checked_name("item", item)
        checked_name(f"group of item {item!r:.100}", group)
        for candidate in (left, right):
            named = checked_name(f"candidate of item {item!r:.100}", candidate)
            if not named or named.startswith(_UNNAMED):
                raise ValueError(f"item {item!r} has candidate {candidate!r}; expected an id, not empty")
        if left == right:
            raise ValueError(f"item {item!r} has {left!r} at both sides; expected two candidates")
        for answer in self._named_on(item):
            if answer not in (left, right):
                raise ValueError(f"item {item!r} was answered {answer!r}; expected {left!r} or {right!r}")
        first, second = sorted((left, right))
        self._presented[item] = _Scene(first, second, group, 1.0 if first == left else -1.0)
        self._last = None

    # --- what it says

    def foretell(self, item: str, labeler: str) -> Mapping[str, float]:
        """Return the probability of each answer (a candidate's id, or "") that a labeler would give to an item."""
        scene = self._scene(checked_name("item", item))
        leads, _ = self._lead(item, scene, self._votes_on(item))
        habits = self._habits.of(self._seats([checked_name("labeler", labeler)]))
        return _by_name(scene, predicted(leads, habits, np.array([scene.placed]), self.ties)[0])

    # --- what a kind of answer says

    def _checked(self, answer: str) -> str:
        if not isinstance(answer, str) or answer.startswith(_UNNAMED):
            raise ValueError(f"answer is {answer!r}; expected a candidate's id, or '' for neither")
        if not answer and not self.ties:
            raise ValueError("answer is ''; expected a candidate's id, for ties are not allowed")
        return answer

    def _joined_with(
        self, item: str, votes: Sequence[tuple[str, str]], truth: str | None
    ) -> JoinedPreference:
        found = self._joined(item, votes)
        return found if truth is None else _clamped(found, truth, votes)

    def _join(self, votes: Sequence[tuple[str, str]]) -> JoinedPreference:
        return self._joined("", votes)

    def _known(self, truth: str, votes: Sequence[tuple[str, str]]) -> JoinedPreference:
        return _clamped(self._join(votes), truth, votes)

    def _compared(self, answered: Sequence[Answered[str]], labelers: tuple[str, ...]) -> Comparisons:
        rows: list[tuple[str, _Scene, str | None, str, float]] = []
        for item, votes, truth in answered:
            scene = self._scene(item)
            rows += [(item, scene, who, answer, 1.0) for who, answer in votes]
            rows += [(item, scene, None, truth, TRUTH_WEIGHT)] if truth is not None else []
        return Comparisons.of(
            left=[scene.first for _, scene, _, _, _ in rows],
            right=[scene.second for _, scene, _, _, _ in rows],
            labeler=[who for _, _, who, _, _ in rows],
            outcome=[_outcome(scene, answer) for _, scene, _, answer, _ in rows],
            group=[scene.group for _, scene, _, _, _ in rows],
            pair=[item for item, _, _, _, _ in rows],
            # A truth leans to no side.
            placed=[0.0 if who is None else scene.placed for _, scene, who, _, _ in rows],
            weight=[weight for _, _, _, _, weight in rows],
            labelers=labelers,
            ties=self.ties,
        )

    def _told(self, fit: BradleyTerryFit) -> Mapping[str, Floats]:
        columns, strengths = fit.comparisons, fit.strengths
        return {
            "items": packed(columns.pairs),
            "compared": np.stack([columns.left, columns.right], axis=1).astype(np.float64),
            "told": np.stack([strengths.prior_mean, strengths.prior_variance], axis=1),
        }

    def _adopt(self, labelers: tuple[str, ...], fitted: Mapping[str, Floats]) -> None:
        super()._adopt(labelers, fitted)
        self._items = {item: row for row, item in enumerate(unpacked(fitted["items"]))} if fitted else {}

    # --- one item

    def _named_on(self, item: str) -> set[str]:
        """Return the candidates that an item's truth and answers name."""
        return ({answer for _, answer in self._votes_on(item)} | {self._gold.get(item, "")}) - {""}

    def _refuse_unsuited(self, item: str, labeler: str | None, answer: str) -> None:
        """Refuse what names a third candidate; of those that are known, one is not that only the replaced answer named."""
        if item in self._presented:
            known = set(self._presented[item][:2])
        else:
            others = {said for who, said in self._votes_on(item) if who != labeler}
            known = (others | {self._gold.get(item, "") if labeler is not None else ""}) - {""}
        if answer and len(known) == 2 and answer not in known:
            raise ValueError(f"answer to {item!r} is {answer!r}; expected one of {sorted(known)}, or ''")

    def _scene(self, item: str) -> _Scene:
        if item in self._presented:
            return self._presented[item]
        named = sorted(self._named_on(item))
        unnamed = [f"{_UNNAMED}{side}{item}" for side in range(2 - len(named))]
        return _Scene(*unnamed, *named, "", 0.0)  # type: ignore[call-arg, arg-type]

    def _joined(self, item: str, votes: Sequence[tuple[str, str]]) -> JoinedPreference:
        scene = self._scene(item)
        leads, shares = self._lead(item, scene, votes)
        probabilities = _by_name(scene, right_outcome(leads, self._habits, self.ties)[0])
        value = max(sorted(probabilities), key=lambda name: probabilities[name], default="")
        parts = [
            Evidence(who, float(answer == value), share)
            for (who, answer), share in zip(votes, shares, strict=True)
        ]
        return JoinedPreference(
            value=value,
            confidence=probabilities.get(value, 0.0) if votes else 0.0,
            evidence=heaviest_first(parts),
            candidates=tuple(name for name in scene[:2] if not name.startswith(_UNNAMED)),
            probabilities=probabilities,
            lead=float(leads.mean[0, 0]),
            lead_sd=float(np.sqrt(leads.covariance[0, 0, 0])),
        )

    def _lead(self, item: str, scene: _Scene, votes: Sequence[tuple[str, str]]) -> tuple[Leads, list[float]]:
        """Return the item's lead and each answer's share in what is known of it."""
        mean, variance = self._foretold(item, scene)
        habits = [self._habit(who) for who, _ in votes]
        judged = [
            (care, scene.placed * lean, neither, _outcome(scene, answer))
            for (care, lean, neither), (_, answer) in zip(habits, votes, strict=True)
        ]
        alike = self._strengths.variances.alike
        leads = find_lead(judged, (mean, variance), alike, self.ties, _MODE_STEPS)
        # At the mode every answer informs by the square of its labeler's care; the prior has what is left.
        learnt = max(1.0 - float(leads.covariance[0, 0, 0]) / variance, 0.0)
        whole = max(sum(care**2 for care, _, _ in habits), 1e-300)
        return leads, [learnt * care**2 / whole for care, _, _ in habits]

    def _foretold(self, item: str, scene: _Scene) -> tuple[float, float]:
        """Return mean and variance of an item's lead by all that other items say of its candidates."""
        row = self._items.get(item)
        if row is not None:
            seats = [self._strengths.candidates.get((scene.group, name), -1) for name in scene[:2]]
            if self._fitted["compared"][row].tolist() == seats:
                return float(self._fitted["told"][row, 0]), float(self._fitted["told"][row, 1])
        return self._strengths.lead(scene.group, scene.first, scene.second)


def _outcome(scene: _Scene, answer: str) -> int:
    return NEITHER if not answer else LEFT if answer == scene.first else RIGHT


def _by_name(scene: _Scene, chance: Floats) -> Mapping[str, float]:
    named = {scene.first: chance[LEFT], scene.second: chance[RIGHT], "": chance[NEITHER]}
    return {name: float(p) for name, p in named.items() if not name.startswith(_UNNAMED)}


def _clamped(found: JoinedPreference, truth: str, votes: Sequence[tuple[str, str]]) -> JoinedPreference:
    names = {*found.candidates, "", truth}
    return JoinedPreference(
        value=truth,
        confidence=1.0,
        evidence=tuple(Evidence(who, float(answer == truth), 0.0) for who, answer in votes),
        candidates=found.candidates,
        probabilities={name: float(name == truth) for name in sorted(names)},
        lead=found.lead,
        lead_sd=found.lead_sd,
    )
