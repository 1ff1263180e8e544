"""Boxes on the pages of a document, with a class, a text, or both."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..columns import Floats
from .attributes import Attributes
from .boxes import LiveUpright, edges
from .fields import corner_and_size, whole
from .matching import Ints

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


class LiveRegions(LiveUpright[Region]):
    """Live state of a question answered with regions; likeness is IoU on one page, and 0 across pages.

    The text of a region is the one most of its labelers wrote, or else the one most like all others. A region counts
    as right by page, class and place; its text is not part of the confidence.
    """

    drawn = Region

    def _checked_object(self, given: Region) -> Region:
        page = whole("page", given.page, least=1)
        if not isinstance(given.text, str):
            raise ValueError(f"text is {given.text!r:.100}; expected a string")
        corner = corner_and_size(given.x, given.y, given.width, given.height)
        return Region(page, *corner, given.class_id, given.text, given.attributes)

    def _bounds(self, objects: Sequence[Region]) -> Floats:
        bounds = edges(objects)
        if bounds.size:
            # One page under the other, so that regions on different pages never meet.
            page = np.unique([one.page for one in objects], return_inverse=True)[1]
            bounds[:, [1, 3]] += page[:, None] * (2.0 * (bounds[:, 3].max() - bounds[:, 1].min()))
        return bounds

    def _similarity(self, left: Sequence[Region], right: Sequence[Region]) -> Floats:
        together = np.array([a.page == b.page for a, b in zip(left, right, strict=True)], dtype=bool)
        return np.where(together, super()._similarity(left, right), 0.0)

    def _pairwise(self, objects: Sequence[Region], left: Ints, right: Ints) -> Floats:
        page = np.array([one.page for one in objects], dtype=np.int64)
        return np.where(page[left] == page[right], super()._pairwise(objects, left, right), 0.0)

    def _described(self, place: Region, objects: Sequence[Region], share: Floats) -> Region:
        return replace(place, text=joined_text([one.text for one in objects], share))


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
