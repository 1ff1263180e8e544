"""Columns and tables from outside, as numbers: what is none is named, with its place, before any work begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Name = str | int
"""What an item, a labeler or a class is called where it comes from."""

_MOST = 2.0**53
"""Up to here every whole number is a float64: beyond, what was counted is no longer what is held."""

_ROUNDING = 1e-6
"""By so much a share that somebody summed in float32 may lie outside 0..1."""


def numbers(name: str, values: ArrayLike) -> Floats:
    """Return ``values`` of any shape as float64; None is nan, which the caller may refuse, booleans are 0 and 1.

    Raises ValueError naming the first element that is no real number; text is none, even of digits.
    """
    array = as_array(name, values)
    if array.dtype.kind in "fiub":
        return np.asarray(array, dtype=np.float64)
    if array.dtype.kind != "O":
        raise ValueError(f"{name} holds {array.dtype}; expected numbers")
    held = np.empty(array.size)
    for at, value in enumerate(array.flat):
        held[at] = _number(f"{name}{place(array, at)}", value)
    return held.reshape(array.shape)


def whole_numbers(name: str, values: ArrayLike, least: int = 0) -> Ints:
    """Return ``values`` of any shape as int64. Raises ValueError naming the first that is not whole, or below ``least``.

    Booleans are no numbers here: a mask in the place of ids or classes is a slip.
    """
    array = as_array(name, values)
    if array.dtype.kind == "b":
        raise ValueError(f"{name} holds {array.dtype}; expected whole numbers")
    held: NDArray[Any] = array if array.dtype.kind in "iu" else numbers(name, array)
    bad = np.flatnonzero(~((held >= least) & (held <= _MOST) & (held == np.floor(held))))
    if bad.size:
        at = int(bad[0])
        raise ValueError(
            f"{name}{place(array, at)} is {array.flat[at]}; expected a whole number, at least {least}"
        )
    return held.astype(np.int64)


def shares(name: str, values: ArrayLike) -> Floats:
    """Return ``values`` of any shape as float64 in 0..1. Raises ValueError naming the first that is not."""
    held = numbers(name, values)
    bad = np.flatnonzero(~((held >= -_ROUNDING) & (held <= 1.0 + _ROUNDING)))
    if bad.size:
        at = int(bad[0])
        raise ValueError(f"{name}{place(held, at)} is {held.flat[at]}; it must be between 0 and 1")
    return np.clip(held, 0.0, 1.0)


def checked_name(what: str, name: object) -> str:
    """Return the name of an item or a labeler. Raises ValueError for what is no text, or none that UTF-8 can write."""
    if not isinstance(name, str):
        raise ValueError(f"{what} is {name!r:.100}; expected its name, a string")
    if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
        raise ValueError(f"{what} is {name!r:.100}, with half a surrogate pair; expected Unicode text")
    return name


def checked_names(what: str, column: Sequence[Any] | NDArray[Any], *, unnamed: bool = False) -> list[Any]:
    """Return a column of names, all of them text or all whole numbers; with ``unnamed`` some may be None.

    Raises ValueError naming the first row that holds anything else, or what kinds are mixed.
    """
    if isinstance(column, str | bytes):
        raise ValueError(f"{what} is {column!r:.100}; expected a column of names")
    values = column.tolist() if isinstance(column, np.ndarray) else list(column)
    found = {_kind_of_name(value) for value in values}
    for kind in found - ({str, int, type(None)} if unnamed else {str, int}):
        row = next(i for i, value in enumerate(values) if _kind_of_name(value) is kind)
        raise ValueError(
            f"{what} of row {row} is {values[row]!r:.100}; expected a name: text or a whole number"
        )
    if {str, int} <= found:
        raise ValueError(f"{what} holds both text and whole numbers; expected names of one kind")
    return values


def as_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """Return ``values`` as an array. Raises ValueError where rows differ in length."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} has rows of several lengths; expected one length") from error


def place(array: NDArray[Any], at: int) -> str:
    """Return how element ``at``, counted flat, is called: ``[3, 1]``; nothing where there is but one."""
    where = np.unravel_index(at, array.shape)
    return f"[{', '.join(str(int(i)) for i in where)}]" if where else ""


def _kind_of_name(value: object) -> type:
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int
    return str if isinstance(value, str) else type(value)


def _number(what: str, value: object) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, Real):
        raise ValueError(f"{what} is {value!r}; expected a number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{what} is beyond the largest float; expected a number") from error
