"""What an answer holds is looked at as it comes in: what is wrong is named, with its place and what it should be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any, TypeVar

from .marks import FURTHEST

E = TypeVar("E")

_LONGEST = 100
"""Characters of what is wrong that a message repeats."""


def elements(answer: Iterable[E], kind: type[E]) -> Iterator[tuple[str, E]]:
    """Yield each element of an answer with what a message calls it. Raises ValueError for one of another ``kind``."""
    name = kind.__name__.lower()
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        raise ValueError(f"answer is {shown(answer)}; expected a tuple of {kind.__name__}")
    for i, element in enumerate(answer):
        if not isinstance(element, kind):
            raise ValueError(f"{name} {i} is {shown(element)}; expected a {kind.__name__}")
        yield f"{name} {i}", element


def number(what: str, value: Any) -> float:
    """Return a real number as a float; nan where it is beyond one. Raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{what} is {shown(value)}; expected a number")
    try:
        return float(value)
    except OverflowError:
        return math.nan


def bounds(what: str, start: Any, end: Any, *, whole: bool) -> tuple[float, float]:
    """Return where a stretch starts and ends. Raises ValueError unless 0 <= start < end <= 2^53, both whole if asked."""
    first, last = number(f"start of {what}", start), number(f"end of {what}", end)
    sound = 0.0 <= first < last <= FURTHEST
    if not sound or (whole and (first % 1 or last % 1)):
        kind = "whole code points" if whole else "seconds"
        raise ValueError(
            f"{what} is [{shown(start)}, {shown(end)}); expected 0 <= start < end <= 2^53 in {kind}"
        )
    return first, last


def class_number(what: str, value: Any, classes: int | None = None) -> int:
    """Return a class. Raises ValueError for what is no whole number below ``classes``, of 0 and up."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or value % 1 or not 0 <= value < (FURTHEST if classes is None else classes):
        expected = "0" if classes == 1 else f"0..{classes - 1}" if classes else "at least 0"
        raise ValueError(f"{what} is of class {shown(value)}; expected the class's number, {expected}")
    return int(value)


def shown(value: Any) -> str:
    """Return what is wrong as a message shows it."""
    return f"{value!r:.{_LONGEST}}"
