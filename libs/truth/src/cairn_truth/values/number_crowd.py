"""What is known of those who answer with numbers: each labeler, and what they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..columns import Floats

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labelers:
    """What is known of labelers, each array ``(labelers,)``; biases and spreads in the answers' unit.

    ``bias_var``, ``slope_var`` and ``covariance`` are of the posterior of bias and slope.
    """

    bias: Floats
    slope: Floats
    spread: Floats
    bias_var: Floats
    slope_var: Floats
    covariance: Floats

    def take(self, rows: Rows) -> Labelers:
        """Return those of some rows."""
        return Labelers(*(array[rows] for array in self.as_arrays().values()))

    def in_units(self, unit: float) -> Labelers:
        """Return the same in another unit, so many of the present one."""
        return Labelers(
            self.bias / unit,
            self.slope,
            self.spread / unit,
            self.bias_var / unit**2,
            self.slope_var,
            self.covariance / unit,
        )

    def beside(self, others: Labelers) -> Labelers:
        """Return these and then others."""
        pairs = zip(self.as_arrays().values(), others.as_arrays().values(), strict=True)
        return Labelers(*(np.concatenate(pair) for pair in pairs))

    def as_arrays(self) -> dict[str, Floats]:
        """Return the arrays by name."""
        return {name.name: getattr(self, name.name) for name in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Floats]) -> Labelers:
        """Return what `as_arrays` gave, others ignored. Raises KeyError naming what is missing."""
        return cls(*(arrays[name.name] for name in fields(cls)))


@dataclass(frozen=True, slots=True)
class Population:
    """What items and labelers have in common, in the answers' unit but for the shares ``slips``, ``apart`` and
    ``reliability``.

    ``mean`` and ``sd`` of ordinary items' values; ``apart``, the share of items that are not; ``growth``, by
    how many usual squares the square of their errors grows with that of their value; ``usual``, how far from
    the median a value usually is, as a normal's sd, whatever the size of up to a tenth of them; ``noise``, the crowd's
    spread; ``bias_sd`` and ``slope_sd`` of labelers; ``slips``, the share of answers; ``reliability``, the share of a
    posterior mean's variance in that of values, averaged over items; ``labelers``, as many as if all had answered
    equally often; ``gold``, the number of known items; ``truth``, the labeler who is never wrong but on a scale of their
    own: their spread is what the crowd errs alike.
    """

    mean: float
    sd: float
    noise: float
    bias_sd: float
    slope_sd: float
    slips: float
    apart: float
    growth: float
    usual: float
    reliability: float
    labelers: float
    gold: float
    truth: Labelers

    def as_array(self) -> Floats:
        """Return all of it as one array."""
        own = [getattr(self, name.name) for name in fields(self)[:-1]]
        return np.concatenate([own, *self.truth.as_arrays().values()])

    @classmethod
    def of_array(cls, array: Floats) -> Population:
        """Return what `as_array` gave. Raises ValueError for an array of another length."""
        own, truth = len(fields(cls)) - 1, len(fields(Labelers))
        if array.shape != (own + truth,):
            raise ValueError(f"the array has shape {array.shape}; expected ({own + truth},)")
        rest = Labelers(*(array[own + i : own + i + 1] for i in range(truth)))
        return cls(
            **{name.name: float(v) for name, v in zip(fields(cls), array[:own], strict=False)}, truth=rest
        )

    def stranger(self) -> Labelers:
        """Return a labeler of whom nothing is known."""
        one, none = np.ones(1), np.zeros(1)
        return Labelers(
            none, one, one * self.noise, one * self.bias_sd**2, one * self.slope_sd**2, none.copy()
        )
