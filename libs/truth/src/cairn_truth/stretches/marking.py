"""How labelers mark: what each misses and marks in vain, how much of a line is in, how alike labelers err.

A slot (a cell seen as a class) is in or out, and a labeler marks it with a chance that depends on that alone: the
confusion of Dawid & Skene (1979), kept as rates per labeler and class,

    hit, other class, miss   where the slot is in;        false alarm   where it is out.

Where classes may overlap, each is a two-state model of its own. Where they may not, a cell is of one class or of none,
a mark of another class is weighed against a false alarm of that class, and slots of a cell compete. A labeler's rates
lean on the crowd's for that class, moved by how the labeler differs from the crowd over all classes. Counts are in
stretches: a cell counts by its length over the mean length of what anybody marked, so the strengths of priors mean the
same in characters and in seconds.

Three things are learnt that votes alone do not tell. *How much is in*: crowds overlook more than they invent, so half
of the votes is too much to ask. *How alike labelers err*: the evidence of n answers is divided by 1 + rho (n - 1), the
design effect of cluster samples (Kish 1965), with rho the one by which the marks of each labeler are best foretold from
those of the others. *The threshold*: the expected F of what is chosen is greatest when it is half of that F (Lipton,
Elkan & Naryanaswamy 2014, "Optimal thresholding of classifiers to maximize F1 measure").

It is a few rounds of expectation-maximisation from the share of votes, and no more: the first bring nearly all there is
to gain (Zhang, Chen, Zhou & Jordan 2014, "Spectral methods meet EM"; one round suffices there), and later ones follow
what the model leaves out. Where two or three answer an item, votes hardly tell those who overlook from those who
invent, and stretches that are hard for all look, to a model of labelers alone, like labelers who invent the rest: run
to its end it believed ever less of what one labeler marked, and was the surer of what was left.

Cells are not chained, as HMM-crowd (Nguyen et al. 2017) and BSC (Simpson & Gurevych 2019) chain tokens: chained as in
the former (`HMMCrowd` in `measured.score_spans`) they gave fewer of the true characters of the recorded crowd, except
where an item has one answer. The likely reason, not shown: cells are cut where labelers change their minds, so a chain
counts their agreement twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import special

from ..columns import Floats
from .marks import MARKS, NONE, OTHER, OWN, Ints, Marks

OUT, IN = 0, 1
"""A slot's two states."""

_STRANGER = np.array([0.30, 0.05, 0.65])
"""What a labeler does with what is in, before anybody answered: nothing, another class, this class."""

_STRANGERS_ALARM = 0.06
"""The share of what is out that a labeler marks, before anybody answered."""

_MOST_ALARM = 0.9
"""Nobody marks more of what is out: some of every line is left alone."""

_CROWD_STRENGTH = 5.0
"""Stretches behind that belief."""

_LABELER_STRENGTH = 2.0
"""Stretches after which a labeler's own record weighs as much as the crowd's."""

_SHARE = 0.15
_SHARE_STRENGTH = 2.0
"""What is believed of the share of a line that is in, and the stretches behind it."""

_SLIP = 1e-3
"""Once in a thousand times anybody marks anything: no mark rules anything out."""

_CORRELATION = 0.3
"""Where the marks do not tell (few labelers), and the standard deviation of that belief."""

_TELLING = 4
"""Answers of an item from which on they tell how alike labelers err."""

_CORRELATIONS = np.linspace(0.0, 1.0, 21)
_THRESHOLD = 0.4

_ROUNDS = 5
"""Few on purpose: see above."""

_CERTAIN = 40.0
"""Log-odds beyond which nothing changes in a double."""


@dataclass(frozen=True)
class Marking:
    """What a fit learnt. ``likelihood`` (labelers, classes, out or in, mark); ``crowd`` (classes, out or in, mark), the
    rates of one never seen; ``share`` (classes,) of a line that is in; ``seen`` (labelers,) true stretches met.

    ``correlation`` is rho, ``threshold`` the posterior from which a slot is in the value; ``per_item`` true stretches.
    """

    likelihood: Floats
    crowd: Floats
    share: Floats
    seen: Floats
    correlation: float
    threshold: float
    per_item: float

    @classmethod
    def cold(cls, classes: int, *, overlap: bool) -> Marking:
        """Return what is believed before the first answer."""
        nothing = _Counts(np.zeros((0, classes, MARKS)), np.zeros((0, classes)), np.zeros((0, classes)))
        likelihood, crowd = _rates(nothing, overlap)
        share = np.full(classes, _SHARE / classes)
        return cls(likelihood, crowd, share, np.zeros(0), _CORRELATION, _THRESHOLD, 1.0)

    def arrays(self) -> Mapping[str, Floats]:
        """Return all of it as arrays by name; `of` is the way back."""
        numbers = np.array([self.correlation, self.threshold, self.per_item])
        return {
            "likelihood": self.likelihood,
            "crowd": self.crowd,
            "share": self.share,
            "seen": self.seen,
            "numbers": numbers,
        }

    @classmethod
    def of(cls, arrays: Mapping[str, Floats]) -> Marking:
        """Return what `arrays` gave. Raises ValueError if it is something else."""
        names = ("likelihood", "crowd", "share", "seen", "numbers")
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(f"the saved state has no {missing[0]}; expected one of how labelers mark")
        likelihood, crowd, share, seen, numbers = (arrays[name] for name in names)
        correlation, threshold, per_item = (float(number) for number in numbers)
        return cls(likelihood, crowd, share, seen, correlation, threshold, per_item)

    def rates(self, rows: Ints) -> Floats:
        """Return the likelihood of each labeler's marks by row, -1 for one never seen."""
        return np.concatenate([self.likelihood, self.crowd[None]])[rows]

    def posterior(self, marks: Marks, likelihood: Floats, *, overlap: bool) -> Floats:
        """Return each slot's chance to be in ``(slots,)``; ``likelihood`` (labelers of the marks, ...)."""
        effect = 1.0 + self.correlation * (marks.voters - 1)
        return _in(marks, _evidence(marks, likelihood) / effect, self.share, overlap)


def fit(marks: Marks, labelers: int, classes: int, *, overlap: bool) -> Marking:
    """Fit by expectation-maximisation from the share of votes. Cost: five rounds over the entries.

    ``overlap``: may a place be of two classes?
    """
    known = ~np.isnan(marks.known)
    posterior = np.where(known, marks.known, (marks.own() + 0.25) / (marks.voters + 0.5))
    for _ in range(_ROUNDS):
        counts = _count(marks, posterior, labelers, classes, overlap)
        likelihood, crowd = _rates(counts, overlap)
        share = _share(marks, posterior, classes)
        posterior = _in(marks, _evidence(marks, likelihood), share, overlap)
    correlation = _correlation(marks, posterior, likelihood, share)
    per_item = (float(posterior @ _told(marks)[marks.cell]) + 1.0) / (float(marks.teaches.sum()) + 1.0)
    seen = counts.inside.sum(axis=(1, 2))
    learnt = Marking(likelihood, crowd, share, seen, correlation, _THRESHOLD, per_item)
    tempered = learnt.posterior(marks, likelihood, overlap=overlap)[~known]
    best = _best_expected_f(tempered, marks.length[~known])
    return replace(learnt, threshold=best / 2.0) if best else learnt


class _Counts(NamedTuple):
    """Expected marks in stretches: ``inside`` (labelers, classes, mark) where the class is in; where it is out,
    ``alarms`` (labelers, classes) marked as the class, of ``outside`` (labelers, classes)."""

    inside: Floats
    alarms: Floats
    outside: Floats


def _count(marks: Marks, posterior: Floats, labelers: int, classes: int, overlap: bool) -> _Counts:
    weight = _told(marks)
    within = (weight[marks.cell] * posterior)[marks.slot]
    pair = marks.labeler * classes + marks.class_id[marks.slot]
    size = labelers * classes
    inside = _sums(pair * MARKS + marks.mark, within, size * MARKS).reshape(labelers, classes, MARKS)
    out = 1.0 - posterior if overlap else _nothing(marks, posterior)[marks.cell]
    alarm = (weight[marks.cell] * out)[marks.slot] * (marks.mark == OWN)
    alarms = _sums(pair, alarm, size).reshape(labelers, classes)
    # Everybody who answers an item meets all of its cells, in whatever class.
    cells = weight if overlap else weight * _nothing(marks, posterior)
    by_item = _sums(marks.item, cells, marks.items)
    met = _sums(marks.voter, by_item[marks.voter_item], labelers)[:, None]
    outside = np.maximum(met - (inside.sum(axis=2) if overlap else 0.0), 0.0) + np.zeros((labelers, classes))
    return _Counts(inside, alarms, outside)


def _told(marks: Marks) -> Floats:
    """Return the weight of each cell in what is learnt: alone on an item, a labeler agrees with the outcome whatever it
    is, which teaches nothing."""
    return np.asarray(marks.weight * marks.teaches[marks.item])


def _rates(counts: _Counts, overlap: bool) -> tuple[Floats, Floats]:
    """Return each labeler's likelihood of marks ``(labelers, classes, out or in, mark)`` and the crowd's."""
    classes = counts.alarms.shape[1]
    belief = _STRANGER.copy()
    if classes == 1 or overlap:  # A mark of another class is no mark.
        belief[[NONE, OTHER]] = belief[NONE] + belief[OTHER], 0.0
    every = _leaning(counts.inside.sum(axis=(0, 1)), belief, _CROWD_STRENGTH)
    crowd = _leaning(counts.inside.sum(axis=0), every, _CROWD_STRENGTH)
    own = _leaning(counts.inside, _moved(counts.inside, crowd), _LABELER_STRENGTH)

    alarms, outside = counts.alarms.sum(axis=0), counts.outside.sum(axis=0)
    wide = classes if overlap else 1
    met = outside.sum() / classes
    any_alarm = (alarms.sum() + _CROWD_STRENGTH * _STRANGERS_ALARM) / (met + _CROWD_STRENGTH) / classes
    crowd_alarm = (alarms + _CROWD_STRENGTH * any_alarm) / (outside + _CROWD_STRENGTH)
    typical = (counts.outside * crowd_alarm).sum(axis=1) + _LABELER_STRENGTH * crowd_alarm.sum() / wide
    departure = (counts.alarms.sum(axis=1) + _LABELER_STRENGTH * crowd_alarm.sum() / wide) / typical
    centre = crowd_alarm * departure[:, None]
    own_alarm = (counts.alarms + _LABELER_STRENGTH * centre) / (counts.outside + _LABELER_STRENGTH)
    return _tables(own, own_alarm, overlap), _tables(crowd[None], crowd_alarm[None], overlap)[0]


def _moved(counts: Floats, crowd: Floats) -> Floats:
    """Return the crowd's rates for each class, moved by each labeler's departure from them over all classes."""
    met = counts.sum(axis=2, keepdims=True)
    expected = (met * crowd).sum(axis=1) + _LABELER_STRENGTH * crowd.mean(axis=0)
    typical = expected / expected.sum(axis=1, keepdims=True)
    departure = _leaning(counts.sum(axis=1), typical, _LABELER_STRENGTH) / np.maximum(typical, _SLIP)
    centre = crowd * departure[:, None]
    return np.asarray(centre / centre.sum(axis=2, keepdims=True))


def _tables(inside: Floats, alarm: Floats, overlap: bool) -> Floats:
    """Return ``(labelers, classes, out or in, mark)`` of rates where a class is in, and of false alarms."""
    whole = alarm.sum(axis=1, keepdims=True)
    if overlap:
        alarm = np.minimum(alarm, _MOST_ALARM)
        others = np.zeros_like(alarm)
    else:
        alarm = alarm * np.minimum(1.0, _MOST_ALARM / whole)
        others = np.minimum(whole, _MOST_ALARM) - alarm
    outside = np.stack([1.0 - alarm - others, others, alarm], axis=2)
    tables = np.stack([outside, inside], axis=2)
    return np.asarray((1.0 - _SLIP) * tables + _SLIP / MARKS)


def _sums(group: Ints, values: Floats, groups: int) -> Floats:
    return np.bincount(group, values, minlength=groups).astype(np.float64)


def _leaning(counts: Floats, centre: Floats, strength: float) -> Floats:
    return np.asarray((counts + strength * centre) / (counts.sum(axis=-1, keepdims=True) + strength))


def _share(marks: Marks, posterior: Floats, classes: int) -> Floats:
    weight = _told(marks)
    inside = _sums(marks.class_id, weight[marks.cell] * posterior, classes)
    whole = float(weight.sum())
    return np.asarray((inside + _SHARE_STRENGTH * _SHARE / classes) / (whole + _SHARE_STRENGTH))


def _nothing(marks: Marks, posterior: Floats) -> Floats:
    """Return the chance of each cell to be of no class, where it is of one at most."""
    return np.asarray(np.maximum(1.0 - _sums(marks.cell, posterior, marks.start.size), 0.0))


def _spoken(marks: Marks, likelihood: Floats) -> Floats:
    """Return the log-likelihood ratio of in to out of each entry."""
    ratio = np.log(likelihood[:, :, IN] / likelihood[:, :, OUT])
    return np.asarray(ratio[marks.labeler, marks.class_id[marks.slot], marks.mark])


def _evidence(marks: Marks, likelihood: Floats) -> Floats:
    return _sums(marks.slot, _spoken(marks, likelihood), marks.slots)


def _in(marks: Marks, evidence: Floats, share: Floats, overlap: bool) -> Floats:
    """Return each slot's chance to be in, from the evidence: alone, or as one at most of its cell's classes."""
    out = 1.0 - share if overlap else max(1.0 - float(share.sum()), _SLIP)
    odds = np.clip(np.log(share / out)[marks.class_id] + evidence, -_CERTAIN, _CERTAIN)
    if overlap:
        posterior = special.expit(odds)
    else:
        ratio = np.exp(odds)
        posterior = ratio / (1.0 + _sums(marks.cell, ratio, marks.start.size))[marks.cell]
    return np.where(np.isnan(marks.known), posterior, marks.known)


def _correlation(marks: Marks, posterior: Floats, likelihood: Floats, share: Floats) -> float:
    """Return the rho by which each labeler's marks are best foretold from the marks of the others on the item.

    Three answers tell as many frequencies as there are rates and shares, and nothing beyond them (Goodman 1974).

    Each cell is foretold once, as its likeliest class, and counts by its length, as one stretch at most.
    """
    most = np.zeros(marks.start.size)
    np.maximum.at(most, marks.cell, posterior)
    asked = (marks.voters >= _TELLING) & np.isnan(marks.known) & (posterior >= most[marks.cell])
    told = asked[marks.slot]
    slot, labeler, mark = marks.slot[told], marks.labeler[told], marks.mark[told]
    spoken = _spoken(marks, likelihood)
    others = (_evidence(marks, likelihood)[marks.slot] - spoken)[told]
    if not others.size:
        return _CORRELATION
    class_id = marks.class_id[slot]
    prior, beyond = special.logit(share)[class_id], marks.voters[slot] - 2
    outside, inside = (likelihood[labeler, class_id, state, mark] for state in (OUT, IN))
    weight = np.minimum(marks.weight[marks.cell[slot]], 1.0)
    belief = -0.5 * ((_CORRELATIONS - _CORRELATION) / _CORRELATION) ** 2
    for i, rho in enumerate(_CORRELATIONS):
        chance = special.expit(prior + others / (1.0 + rho * beyond))
        belief[i] += float(np.log(outside + chance * (inside - outside)) @ weight)
    return float(_CORRELATIONS[belief.argmax()])


def _best_expected_f(posterior: Floats, length: Floats) -> float:
    """Return the greatest F to expect of any threshold, over all slots: ratio of expectations; 0 without a slot."""
    order = np.argsort(-posterior, kind="stable")
    found = np.cumsum((posterior * length)[order])
    if not found.size or found[-1] <= 0.0:
        return 0.0
    return float((2.0 * found / (np.cumsum(length[order]) + found[-1])).max())


def discernment(rates: Floats) -> Floats:
    """Return how far each labeler's mark moves the log-odds, marking against not marking ``(labelers, classes)``."""
    ratio = np.log(rates[..., IN, :] / rates[..., OUT, :])
    return np.asarray(np.maximum(ratio[..., OWN] - ratio[..., NONE], 0.0))
