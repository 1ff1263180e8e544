"""Spans of a text: where each starts and ends in code points, and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .checks import bounds, class_number, elements, shown
from .joining import Found, most_named
from .live_stretches import LiveStretches

ALGORITHM = "LiveSpans"
VERSION = "2"
"""Changes whenever the same answers may give another value; it is written into every label's provenance."""


@dataclass(frozen=True, slots=True)
class Span:
    """``[start, end)`` in Unicode code points of the item's text, of a class, with ``(name, value)`` of attributes."""

    start: int
    end: int
    class_id: int = 0
    attributes: tuple[tuple[str, str], ...] = ()


class LiveSpans(LiveStretches[Span]):
    """Live state of a question answered with spans. An answer is a tuple of `Span`, empty where there is none."""

    def _bounds(self, stretch: Span) -> tuple[float, float]:
        return float(stretch.start), float(stretch.end)

    def _checked(self, answer: tuple[Span, ...]) -> tuple[Span, ...]:
        found = []
        for what, span in elements(answer, Span):
            start, end = bounds(what, span.start, span.end, whole=True)
            class_id = class_number(what, span.class_id, self.classes)
            found.append(Span(int(start), int(end), class_id, _pairs(what, span.attributes)))
        return tuple(sorted(found, key=self._order))

    def _boundary(self, places: Sequence[float], weights: Sequence[float]) -> float:
        return most_named(places, weights)

    def _made(self, found: Found, supporters: Sequence[tuple[Span, float]]) -> Span:
        return Span(int(found.start), int(found.end), found.class_id, _attributes(supporters))


def _pairs(what: str, attributes: object) -> tuple[tuple[str, str], ...]:
    """Return attributes. Raises ValueError for what is no tuple of names with their values, all strings."""
    sound = isinstance(attributes, (tuple, list)) and all(
        isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        for pair in attributes
    )
    if not sound:
        raise ValueError(
            f"{what} has attributes {shown(attributes)}; expected (name, value) of each, both strings"
        )
    return tuple((name, value) for name, value in attributes)  # type: ignore[attr-defined]


def _attributes(supporters: Sequence[tuple[Span, float]]) -> tuple[tuple[str, str], ...]:
    """Return of each attribute the value with the most weight, where that outweighs leaving the attribute out."""
    whole = sum(weight for _, weight in supporters)
    votes: dict[str, dict[str, float]] = {}
    for span, weight in supporters:
        for name, value in span.attributes:
            tally = votes.setdefault(name, {})
            tally[value] = tally.get(value, 0.0) + weight
    chosen = []
    for name in sorted(votes):
        value = max(sorted(votes[name]), key=votes[name].__getitem__)
        if votes[name][value] >= whole - sum(votes[name].values()):
            chosen.append((name, value))
    return tuple(chosen)
