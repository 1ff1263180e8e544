"""What joined lists of objects are, and how good they can be expected to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from ..columns import Floats
from ..live_answers import Evidence
from .attributes import Attributes


class AnObject(Protocol):
    """What all shapes have (frozen dataclasses all): a class, empty where there are none, and attributes."""

    @property
    def class_id(self) -> str:
        """The id of the class."""

    @property
    def attributes(self) -> Attributes:
        """Further facts."""


O = TypeVar("O", bound=AnObject)  # noqa: E741 - an object
"""A shape."""


@dataclass(frozen=True, slots=True)
class JoinedObject(Generic[O]):
    """One object as joined, and the chances that make up its confidence.

    ``exists``: that there is such an object; ``class_right``: that it has this class, if it exists; ``place_right``:
    that it is as alike to the true one as the question's tolerance asks, if it exists. ``distance``: how far from the
    true place it can be expected to be (root mean square), in the unit of `LabelerDetection.spread`. ``labelers``: who
    marked it.
    """

    object: O
    exists: float
    class_right: float
    place_right: float
    distance: float
    labelers: tuple[str, ...]

    @property
    def confidence(self) -> float:
        """The chance that all is right: there is such an object, of this class, here."""
        return self.exists * self.class_right * self.place_right


@dataclass(frozen=True, slots=True)
class JoinedObjects(Generic[O]):
    """One item's objects joined.

    ``value``: the objects more likely there than not, from the top to the bottom. ``confidence``: their expected F1
    (an object counts if it exists, has this class, and lies within the tolerance); where there are none, the chance
    that there is nothing. ``objects`` has the chances of each of ``value``; ``doubtful`` the candidates left out.
    """

    value: tuple[O, ...]
    confidence: float
    evidence: tuple[Evidence, ...]
    objects: tuple[JoinedObject[O], ...]
    doubtful: tuple[JoinedObject[O], ...]


@dataclass(frozen=True, slots=True)
class LabelerDetection:
    """A labeler of objects, over ``votes`` answers.

    ``recall``: chance to mark an object that is there; ``false_alarms``: objects an item marked that are not;
    ``class_accuracy``: chance of the right class; ``spread``: usual distance from the true shape (root mean square),
    in the kind's unit (for most kinds one less the likeness, such as 1 - IoU).
    """

    labeler: str
    votes: int
    recall: float
    false_alarms: float
    class_accuracy: float
    spread: float


def expected_f1(taken: Sequence[JoinedObject[O]], exists: Floats, hidden: float) -> float:
    """Return the expected F1: twice the expected hits over what is given and what is expected to be there.

    ``exists`` of all candidates, ``hidden`` how many objects nobody marked; where nothing is given, F1 is one if
    nothing is there and zero else.
    """
    if not taken:
        return float(np.prod(1.0 - exists) * np.exp(-hidden))
    hits = sum(one.confidence for one in taken)
    return float(min(2.0 * hits / (len(taken) + float(exists.sum()) + hidden), 1.0))


def soft_f1(alike: Floats, given: Sequence[int], joined: int) -> list[float]:
    """Return each answer's likeness, summed over its objects, as an F1 against so many; 1 where both have none."""
    return [
        float(min(2.0 * a / (n + joined), 1.0)) if n + joined else 1.0
        for a, n in zip(alike, given, strict=True)
    ]
