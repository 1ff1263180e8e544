"""How labelers mark: what each misses and marks in vain, how much of a line is in, how alike labelers err.

A slot (a cell seen as a class) is in or out. A labeler marks it with a chance that depends on that alone,

    P(mark | in or out, labeler, class),   mark in {nothing, another class, this class},

the confusion of Dawid & Skene (1979) for the two states of each class. A labeler's rates lean on the crowd's for that
class, moved by how the labeler differs from the crowd over all classes. Counts are in stretches: a cell counts by its
length over the mean length of what anybody marked, so the prior strengths mean the same in characters and in seconds.

Three things are learnt that votes alone do not tell. *How much is in*: crowds overlook more than they invent, so half
of the votes is too much to ask. *How alike labelers err*: the evidence of n answers is divided by 1 + rho (n - 1), the
design effect of cluster samples (Kish 1965), with rho the one by which the marks of each labeler are best foretold from
those of the others. *The threshold*: the expected F of what is chosen is greatest when it is half of that F (Lipton,
Elkan & Naryanaswamy 2014, "Optimal thresholding of classifiers to maximize F1 measure").

Cells are not chained, as HMM-crowd (Nguyen et al. 2017) and BSC (Simpson & Gurevych 2019) chain tokens: cells are cut
where labelers change their minds, so a chain over them counts their agreement twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from ..classes.votes import Floats
from .marks import MARKS, NONE, OWN, Ints, Marks

OUT, IN = 0, 1
"""A slot's two states."""

_STRANGERS = np.array([[0.90, 0.05, 0.05], [0.30, 0.05, 0.65]])
"""What is believed of a crowd before anybody answered: ``(out or in, mark)``."""

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

_CORRELATIONS = np.linspace(0.0, 1.0, 21)
_THRESHOLD = 0.4
_ROUNDS = 50
_SETTLED = 1e-4
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
    def cold(cls, classes: int) -> Marking:
        """Return what is believed before the first answer."""
        crowd = _crowd(np.zeros((classes, 2, MARKS)))
        share = np.full(classes, _SHARE / classes)
        return cls(np.zeros((0, classes, 2, MARKS)), crowd, share, np.zeros(0), _CORRELATION, _THRESHOLD, 1.0)

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
        """Return what `arrays` gave."""
        correlation, threshold, per_item = (float(number) for number in arrays["numbers"])
        likelihood, crowd, share, seen = (arrays[name] for name in ("likelihood", "crowd", "share", "seen"))
        return cls(likelihood, crowd, share, seen, correlation, threshold, per_item)

    def rates(self, rows: Ints) -> Floats:
        """Return the likelihood of each labeler's marks by row, -1 for one never seen."""
        return np.concatenate([self.likelihood, self.crowd[None]])[rows]

    def posterior(self, marks: Marks, likelihood: Floats, *, overlap: bool) -> Floats:
        """Return each slot's chance to be in ``(slots,)``; ``likelihood`` (labelers of the marks, ...)."""
        effect = 1.0 + self.correlation * (marks.voters - 1)
        return _in(marks, _evidence(marks, likelihood) / effect, self.share, overlap)


def fit(marks: Marks, labelers: int, classes: int, *, overlap: bool) -> Marking:
    """Fit by expectation-maximisation from the share of votes. Cost: rounds times entries.

    ``overlap``: may a place be of two classes? If not, at most one is in, and what speaks for one speaks against others.
    """
    weight = marks.length / marks.unit
    known = ~np.isnan(marks.known)
    # Alone on an item, a labeler agrees with the outcome whatever it is: that teaches nothing.
    teaches = weight * ((marks.voters > 1) | known)
    posterior = (marks.own() + 0.25) / (marks.voters + 0.5)
    posterior = np.where(known, marks.known, posterior)
    counts = np.zeros((labelers, classes, 2, MARKS))
    crowd, likelihood, share = _crowd(counts.sum(axis=0)), counts, np.full(classes, _SHARE / classes)
    for _ in range(_ROUNDS):
        counts = _counts(marks, posterior, teaches, labelers, classes)
        crowd = _crowd(counts.sum(axis=0))
        likelihood = _own(counts, crowd)
        share = _share(marks, posterior, weight, classes)
        fresh = _in(marks, _evidence(marks, likelihood), share, overlap)
        moved = float(np.abs(fresh - posterior).max(initial=0.0))
        posterior = fresh
        if moved < _SETTLED:
            break
    correlation = _correlation(marks, likelihood, share)
    per_item = (float(posterior @ np.nan_to_num(weight)) + 1.0) / (marks.items + 1.0)
    seen = counts[:, :, IN].sum(axis=(1, 2))
    learnt = Marking(likelihood, crowd, share, seen, correlation, _THRESHOLD, per_item)
    tempered = learnt.posterior(marks, likelihood, overlap=overlap)[~known]
    best = _best_expected_f(tempered, marks.length[~known])
    return Marking(likelihood, crowd, share, seen, correlation, best / 2.0 if best else _THRESHOLD, per_item)


def _counts(marks: Marks, posterior: Floats, weight: Floats, labelers: int, classes: int) -> Floats:
    """Return the expected marks ``(labelers, classes, out or in, mark)``, in stretches."""
    at = (marks.labeler * classes + marks.class_id[marks.slot]) * MARKS + marks.mark
    size = labelers * classes * MARKS
    inside = np.bincount(at, (weight * posterior)[marks.slot], minlength=size)
    outside = np.bincount(at, (weight * (1.0 - posterior))[marks.slot], minlength=size)
    return np.asarray(
        np.stack([outside, inside]).reshape(2, labelers, classes, MARKS).transpose(1, 2, 0, 3), np.float64
    )


def _crowd(counts: Floats) -> Floats:
    """Return a crowd's rates ``(classes, out or in, mark)``: each class leans on all classes, those on a belief."""
    belief = _STRANGERS.copy()
    if counts.shape[0] == 1:  # There is no other class to mark.
        belief[:, NONE] += belief[:, 1]
        belief[:, 1] = 0.0
    whole = _leaning(counts.sum(axis=0), belief, _CROWD_STRENGTH)
    return _with_slips(_leaning(counts, whole, _CROWD_STRENGTH))


def _own(counts: Floats, crowd: Floats) -> Floats:
    """Return each labeler's rates: the crowd's for the class, moved by the labeler's departure over all classes."""
    met = counts.sum(axis=3, keepdims=True)
    expected = (met * crowd).sum(axis=1)
    typical = np.where(expected.sum(axis=2, keepdims=True) > 0.0, expected, crowd.mean(axis=0))
    typical = typical / typical.sum(axis=2, keepdims=True)
    departure = _leaning(counts.sum(axis=1), typical, _LABELER_STRENGTH) / typical
    centre = crowd * departure[:, None]
    centre = centre / centre.sum(axis=3, keepdims=True)
    return _with_slips(_leaning(counts, centre, _LABELER_STRENGTH))


def _leaning(counts: Floats, centre: Floats, strength: float) -> Floats:
    return np.asarray((counts + strength * centre) / (counts.sum(axis=-1, keepdims=True) + strength))


def _with_slips(rates: Floats) -> Floats:
    return np.asarray((1.0 - _SLIP) * rates + _SLIP / MARKS)


def _share(marks: Marks, posterior: Floats, weight: Floats, classes: int) -> Floats:
    inside = np.bincount(marks.class_id, weight * posterior, minlength=classes)
    whole = np.bincount(marks.class_id, weight, minlength=classes)
    return np.asarray((inside + _SHARE_STRENGTH * _SHARE / classes) / (whole + _SHARE_STRENGTH))


def _spoken(marks: Marks, likelihood: Floats) -> Floats:
    """Return the log-likelihood ratio of in to out of each entry."""
    ratio = np.log(likelihood[:, :, IN] / likelihood[:, :, OUT])
    return np.asarray(ratio[marks.labeler, marks.class_id[marks.slot], marks.mark])


def _evidence(marks: Marks, likelihood: Floats) -> Floats:
    return np.asarray(np.bincount(marks.slot, _spoken(marks, likelihood), minlength=marks.slots), np.float64)


def _in(marks: Marks, evidence: Floats, share: Floats, overlap: bool) -> Floats:
    """Return each slot's chance to be in, from the evidence: alone, or as one at most of its cell's classes."""
    odds = np.clip(special.logit(share)[marks.class_id] + evidence, -_CERTAIN, _CERTAIN)
    if overlap:
        posterior = special.expit(odds)
    else:
        ratio = np.exp(odds)
        posterior = ratio / (1.0 + np.bincount(marks.cell, ratio, minlength=marks.start.size))[marks.cell]
    return np.where(np.isnan(marks.known), posterior, marks.known)


def _correlation(marks: Marks, likelihood: Floats, share: Floats) -> float:
    """Return the rho by which each labeler's marks are best foretold from the marks of the others on the item."""
    told = (marks.voters > 1)[marks.slot] & np.isnan(marks.known)[marks.slot]
    slot, labeler, mark = marks.slot[told], marks.labeler[told], marks.mark[told]
    spoken = _spoken(marks, likelihood)
    others = (np.bincount(marks.slot, spoken, minlength=marks.slots)[marks.slot] - spoken)[told]
    if not others.size:
        return _CORRELATION
    class_id = marks.class_id[slot]
    prior, beyond = special.logit(share)[class_id], marks.voters[slot] - 2
    outside, inside = (likelihood[labeler, class_id, state, mark] for state in (OUT, IN))
    belief = -0.5 * ((_CORRELATIONS - _CORRELATION) / _CORRELATION) ** 2
    for i, rho in enumerate(_CORRELATIONS):
        chance = special.expit(prior + others / (1.0 + rho * beyond))
        belief[i] += float(
            np.log(outside + chance * (inside - outside)) @ (np.minimum(marks.length[slot] / marks.unit, 1.0))
        )
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
