"""Settings of methods, checked where they are given: a number of no sense is refused by its name, not fitted with."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def check_whole(method: Any, *names: str, least: int = 1) -> None:
    """Check settings that count something. Raises ValueError naming the first that is not whole, or below ``least``."""
    for name in names:
        value: object = getattr(method, name)
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} is {value!r}; expected a whole number, at least {least}")


def check_finite(
    method: Any, *names: str, least: float = -math.inf, most: float = math.inf, above: float = -math.inf
) -> None:
    """Check settings that measure something: finite, from ``least`` to ``most``, and more than ``above``.

    Raises ValueError naming the first that is not.
    """
    for name in names:
        value: object = getattr(method, name)
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
        if not math.isfinite(number) or not (least <= number <= most and number > above):
            bounds = [f"above {above:g}"] * (above > -math.inf) + [f"at least {least:g}"] * (
                least > -math.inf
            )
            bounds += [f"at most {most:g}"] * (most < math.inf)
            raise ValueError(f"{name} is {value!r}; expected a finite number{_among(bounds)}")


def check_rounds(method: Any, least: int = 1) -> None:
    """Check when a method ends: after ``iterations``, or where it moved by less than ``tolerance``.

    Iterations are at least ``least``; a tolerance of minus infinity never ends it. Raises ValueError naming the one that
    is of no sense.
    """
    check_whole(method, "iterations", least=least)
    if method.tolerance != -math.inf:
        check_finite(method, "tolerance")


def _among(bounds: list[str]) -> str:
    return f", {' and '.join(bounds)}" if bounds else ""
