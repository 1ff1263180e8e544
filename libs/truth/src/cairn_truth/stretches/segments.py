"""Segments of a recording: from when to when, what it is, and what is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .checks import bounds, class_number, elements, shown
from .joining import Found, centre
from .live_stretches import LiveStretches

ALGORITHM = "LiveSegments"
VERSION = "2"
"""Changes whenever the same answers may give another value; it is written into every label's provenance."""


@dataclass(frozen=True, slots=True)
class Segment:
    """``[start_seconds, end_seconds)`` of a recording, of a class, with a text such as a transcription."""

    start_seconds: float
    end_seconds: float
    class_id: int = 0
    text: str = ""


class LiveSegments(LiveStretches[Segment]):
    """Live state of a question answered with segments. An answer is a tuple of `Segment`, empty where there is none.

    Nobody hits the same millisecond twice: a boundary is the robust mean of those proposed. A segment's text is
    the labelers' own that shares most words with all (the weighted medoid).
    """

    def _bounds(self, stretch: Segment) -> tuple[float, float]:
        return float(stretch.start_seconds), float(stretch.end_seconds)

    def _checked(self, answer: tuple[Segment, ...]) -> tuple[Segment, ...]:
        found = []
        for what, segment in elements(answer, Segment):
            start, end = bounds(what, segment.start_seconds, segment.end_seconds, whole=False)
            class_id = class_number(what, segment.class_id, self.classes)
            if not isinstance(segment.text, str):
                raise ValueError(f"{what} has text {shown(segment.text)}; expected a string")
            found.append(Segment(start, end, class_id, segment.text))
        return tuple(sorted(found, key=self._order))

    def _boundary(self, places: Sequence[float], weights: Sequence[float]) -> float:
        return centre(places, weights)

    def _made(self, found: Found, supporters: Sequence[tuple[Segment, float]]) -> Segment:
        texts = [(segment.text, weight) for segment, weight in supporters]
        return Segment(found.start, found.end, found.class_id, medoid_text(texts))


def medoid_text(texts: Sequence[tuple[str, float]]) -> str:
    """Return the text with the greatest weighted agreement with all: the F of shared words; "" where there is none.

    The weighted medoid, as in RASA (Li & Fukumoto 2019), with words counted instead of sentences embedded.
    """
    weights: dict[str, float] = {}
    for text, weight in texts:
        weights[text] = weights.get(text, 0.0) + weight
    words = {text: Counter(text.split()) for text in sorted(weights)}

    def agreement(text: str) -> float:
        return sum(
            weight * _shared_words(words[text], words[other]) for other, weight in sorted(weights.items())
        )

    return max(words, key=agreement, default="")


def _shared_words(a: Counter[str], b: Counter[str]) -> float:
    both = a.total() + b.total()
    return 2.0 * (a & b).total() / both if both else 1.0
