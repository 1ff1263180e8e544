"""Settings of methods, checked where they are given: a number of no sense is refused by its name, not fitted with."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

from ..columns import check_generator, real_number


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
        real_number(name, getattr(method, name), least=least, most=most, above=above)


def check_rounds(method: Any, least: int = 1) -> None:
    """Check when a method ends: after ``iterations``, or where it moved by less than ``tolerance``.

    Iterations are at least ``least``; a tolerance of minus infinity never ends it. Raises ValueError naming the one that
    is of no sense.
    """
    check_whole(method, "iterations", least=least)
    if method.tolerance != -math.inf:
        check_finite(method, "tolerance")


def check_restarts(method: Any, rng: object) -> None:
    """Check what draws further starts. Raises ValueError for no generator where one is needed, and for what is none."""
    if method.restarts > 1 and rng is None:
        raise ValueError(f"restarts is {method.restarts} but rng is None; expected a numpy.random.Generator")
    if rng is not None:
        check_generator(rng)
