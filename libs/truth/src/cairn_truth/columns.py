"""Columns and tables from outside, as numbers: what is none is named, with its place, before any work begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Name = str | int
"""What an item, a labeler or a class is called where it comes from."""

_MOST = 2.0**53
"""Up to here every whole number is a float64: beyond, what was counted is no longer what is held."""

_LARGEST = float(np.finfo(np.float64).max)

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


def whole_number(name: str, value: object, least: int = 0, most: int = int(_MOST)) -> int:
    """Return one number that counts something. Raises ValueError for what is not whole, or outside ``least`` to ``most``.

    ``5.0`` is whole; a truth value is no number.
    """
    if type(value) is int and least <= value <= most:
        return value
    held = _plain(value)
    if not (_is_real(held) and least <= held <= most and held == int(held)):
        bounds = f", at least {least}" if most == _MOST else f" in {least}..{most}"
        raise ValueError(f"{name} is {held!r:.100}; expected a whole number{bounds}")
    return int(held)


def real_number(
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """Return one number that measures something. Raises ValueError for what is not finite, below ``least`` or above
    ``most``, and for what is ``above`` or ``below`` themselves, or beyond.
    """
    if type(value) is float and least <= value <= most and above < value < below and abs(value) <= _LARGEST:
        return value
    held = _plain(value)
    if not (_is_real(held) and least <= held <= most and above < held < below and abs(held) <= _LARGEST):
        raise ValueError(f"{name} is {held!r:.100}; expected {_range(least, most, above, below)}")
    return float(held)


def check_probability(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` lies strictly between 0 and 1."""
    real_number(name, value, above=0.0, below=1.0)


def check_instance(name: str, value: object, kind: type | tuple[type, ...], expected: str) -> None:
    """Raise ValueError, which says what was ``expected``, unless ``value`` is of the kind."""
    if not isinstance(value, kind):
        told = repr(value) if value is None or isinstance(value, Real | str) else type(value).__name__
        raise ValueError(f"{name} is {told:.100}; expected {expected}")


def check_sequence(name: str, values: object, expected: str) -> None:
    """Raise ValueError unless ``values`` come one after the other: a list, a column; a set has no order, a text no parts."""
    one_by_one = isinstance(values, Sequence) or hasattr(values, "__array__")
    if isinstance(values, str | bytes) or not one_by_one or getattr(values, "ndim", 1) != 1:
        raise ValueError(f"{name} is {values!r:.100}; expected {expected}")


def check_generator(rng: object) -> None:
    """Raise ValueError unless ``rng`` is what draws: nothing here is by chance that nobody gave."""
    check_instance("rng", rng, np.random.Generator, "a numpy.random.Generator")


def checked_name(what: str, name: object) -> str:
    """Return the name of an item or a labeler. Raises ValueError for what is no text, or none that UTF-8 can write."""
    if not isinstance(name, str):
        raise ValueError(f"{what} is {name!r:.100}; expected its name, a string")
    if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
        raise ValueError(f"{what} is {name!r:.100}, with half a surrogate pair; expected Unicode text")
    return name


def checked_names(what: str, column: Sequence[Any] | NDArray[Any], *, unnamed: bool = False) -> list[Any]:
    """Return a column of names, all of them text or all whole numbers; with ``unnamed`` some may be None.

    Raises ValueError naming the first row that holds anything else, or what kinds are mixed; and for what has no rows
    in an order of their own.
    """
    check_sequence(what, column, "a column of names")
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
    """Return ``values`` as an array. Raises ValueError where rows differ in length, or some are masked."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked rows; expected a value in each")
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


def _plain(value: object) -> object:
    """Return a number of NumPy's as one of Python's, anything else as it is."""
    if (
        isinstance(value, np.generic | np.ndarray)
        and not value.ndim
        and value.dtype.kind in "iuf"
        and value is not np.ma.masked
    ):
        plain: object = value.item()
        return plain
    return value


def _is_real(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool | np.timedelta64)


def _range(least: float, most: float, above: float, below: float) -> str:
    if above > -math.inf and below < math.inf:
        return f"between {above:g} and {below:g}, without the ends"
    bounds = [f"above {above:g}"] * (above > -math.inf) + [f"at least {least:g}"] * (least > -math.inf)
    bounds += [f"at most {most:g}"] * (most < math.inf) + [f"below {below:g}"] * (below < math.inf)
    return f"a finite number{', ' * bool(bounds)}{' and '.join(bounds)}"


def _number(what: str, value: object) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, Real):
        raise ValueError(f"{what} is {value!r}; expected a number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{what} is beyond the largest float; expected a number") from error
