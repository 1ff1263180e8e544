"""Boxes on the pages of a document, with a class, a text, or both."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..columns import Floats
from .attributes import Attributes
from .boxes import EDGES, check_corner_and_size, iou, width_and_height
from .vectors import LiveVectors

VERSION = "1"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "LeanCrowdsourcingRegions"

_LONGEST = 2000
"""Characters of a text that are compared where texts differ; the cost grows with the square."""


@dataclass(frozen=True, slots=True)
class Region:
    """A box on a page (from 1), in pixels of the page, with the class and the text that are there."""

    page: int
    x: float
    y: float
    width: float
    height: float
    class_id: str = ""
    text: str = ""
    attributes: Attributes = ()


class LiveRegions(LiveVectors[Region]):
    """Live state of a question answered with regions; likeness is IoU on one page, and 0 across pages.

    The text of a region is the one most of its labelers wrote, or else the one most like all others. A region counts
    as right by page, class and place; its text is not part of the confidence.
    """

    per_coordinate: ClassVar[float] = EDGES
    pixels: ClassVar[bool] = True

    def _checked_object(self, given: Region) -> Region:
        if isinstance(given.page, bool) or given.page != int(given.page) or given.page < 1:
            raise ValueError(f"page is {given.page}; expected a whole number from 1")
        if not isinstance(given.text, str):
            raise ValueError(f"text is {given.text!r}; expected a string")
        check_corner_and_size(given.x, given.y, given.width, given.height)
        return given

    def _bounds(self, objects: Sequence[Region]) -> Floats:
        bounds = self._vectors(objects)
        if bounds.size:
            # One page under the other, so that regions on different pages never meet.
            top, bottom = bounds[:, 1].min(), bounds[:, 3].max()
            bounds[:, [1, 3]] += np.array([[one.page] for one in objects]) * (2.0 * (bottom - top))
        return bounds

    def _similarity(self, left: Sequence[Region], right: Sequence[Region]) -> Floats:
        together = np.array([a.page == b.page for a, b in zip(left, right, strict=True)], dtype=bool)
        return np.where(together, iou(self._vectors(left), self._vectors(right)), 0.0)

    def _vectors(self, objects: Sequence[Region]) -> Floats:
        corner = np.array([(b.x, b.y, b.width, b.height) for b in objects], dtype=np.float64).reshape(-1, 4)
        corner[:, 2:] += corner[:, :2]
        return corner

    def _units(self, vectors: Floats) -> Floats:
        return width_and_height(vectors)

    def _places(
        self, groups: Sequence[Sequence[Region]], precision: Sequence[Floats], corpus: Mapping[str, Floats]
    ) -> Sequence[tuple[Region, Floats]]:
        placed = super()._places(groups, precision, corpus)
        return [
            (replace(shape, text=joined_text([one.text for one in group], share)), share)
            for (shape, share), group in zip(placed, groups, strict=True)
        ]

    def _shape(self, vector: Floats, like: Region) -> Region | None:
        x0, y0, x1, y1 = vector.tolist()
        if not (x1 > x0 and y1 > y0):
            return None
        return replace(like, x=x0, y=y0, width=x1 - x0, height=y1 - y0)


def joined_text(texts: Sequence[str], weight: Floats) -> str:
    """Return the text of more than half of the weight, or else the one most like all others; ties to the lower."""
    mass: dict[str, float] = {}
    for text, w in zip(texts, weight, strict=True):
        mass[text] = mass.get(text, 0.0) + float(w)
    if len(mass) == 1 or max(mass.values()) > sum(mass.values()) / 2.0:
        return min(mass, key=lambda text: (-mass[text], text))
    alike = {
        text: sum(
            w * difflib.SequenceMatcher(None, text[:_LONGEST], other[:_LONGEST], autojunk=False).ratio()
            for other, w in sorted(mass.items())
        )
        for text in sorted(mass)
    }
    return min(alike, key=lambda text: (-alike[text], text))
