"""Further facts about objects: checked, and joined by weighted vote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..columns import Floats, check_sequence, real_number

AttributeValue = str | float | bool
"""An option or a text, a number, or true or false."""

Attributes = tuple[tuple[str, AttributeValue], ...]
"""Further facts about an object: names and values, each name once."""


def checked_attributes(given: Sequence[tuple[str, AttributeValue]]) -> Attributes:
    """Return attributes by name. Raises ValueError for a name given twice or a value that is none."""
    check_sequence("attributes", given, "a name and a value of each")
    kept: dict[str, AttributeValue] = {}
    for pair in given:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError(f"attribute is {pair!r}; expected a name and a value")
        name, value = pair
        if name in kept:
            raise ValueError(f"attribute {name} is given twice; expected each once")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = real_number(f"attribute {name}", value)
        elif not isinstance(value, (str, bool)):
            raise ValueError(f"attribute {name} is {value!r}; expected a string, a number, or true or false")
        kept[name] = value
    return tuple((name, kept[name]) for name in sorted(kept))


def joined_attributes(given: Sequence[Attributes], weight: Floats) -> Attributes:
    """Return one set of attributes: a weighted vote on each, the weighted median where all are numbers.

    ``weight (n,)`` above 0. An attribute that less than half of the weight states is left out; ties go to the lower.
    """
    stated: dict[str, list[tuple[AttributeValue, float]]] = {}
    for attributes, w in zip(given, weight, strict=True):
        for name, value in attributes:
            stated.setdefault(name, []).append((value, float(w)))
    half = float(weight.sum()) / 2.0 * (1.0 - 1e-12)
    return tuple(
        (name, _joined(stated[name])) for name in sorted(stated) if sum(w for _, w in stated[name]) >= half
    )


def _joined(stated: Sequence[tuple[AttributeValue, float]]) -> AttributeValue:
    if all(isinstance(value, float) for value, _ in stated):
        ordered = sorted((float(value), w) for value, w in stated)
        weights = np.cumsum([w for _, w in ordered])
        return ordered[int(np.searchsorted(weights, weights[-1] / 2.0 * (1.0 - 1e-12)))][0]
    votes: dict[tuple[str, AttributeValue], float] = {}
    for value, w in stated:
        key = (type(value).__name__, value)
        votes[key] = votes.get(key, 0.0) + w
    return min(votes, key=lambda key: (-votes[key], key[0], str(key[1])))[1]
