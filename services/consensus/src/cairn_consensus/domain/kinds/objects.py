"""What all lists of shapes share: objects that exist or not, as many as the question allows, with their attributes."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic

import numpy as np

from cairn.consensus.v1.consensus_pb2 import Reliability
from cairn.label.v1.label_schema_pb2 import Question
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.kinds.attributes import Others, read_attributes, rules_of, written_attributes
from cairn_consensus.domain.kinds.joined import NEAR, ListState
from cairn_consensus.domain.kinds.question_state import Leading
from cairn_consensus.domain.kinds.shape_messages import Bounds, Facts, Ring, bounds_of
from cairn_truth.shapes.attributes import Attributes
from cairn_truth.shapes.joined import JoinedObject, JoinedObjects, O, expected_f1
from cairn_truth.shapes.objects import LiveObjects

_MOST_OBJECTS = 10_000
"""What the contract allows where the question says nothing."""

_MOST_ALIKE = 0.99
"""Nobody draws the very same shape twice: an overlap asked for above this is this."""


class Said(Generic[O]):
    """The answers to an item while its value is written: what all objects of the value need is gathered once."""

    def __init__(self, state: ObjectsState[O], answers: Sequence[tuple[O, ...]]) -> None:
        self._state = state
        self._answers = answers

    @cached_property
    def _others(self) -> Mapping[str, Others]:
        said: dict[str, list[Attributes]] = {}
        for answer in self._answers:
            for one in answer:
                said.setdefault(one.class_id, []).append(self._state.attributes_of(one))
        return {class_id: Others(theirs) for class_id, theirs in said.items()}

    def others(self, class_id: str) -> Others | None:
        """The attributes of the objects of a class."""
        return self._others.get(class_id)

    @cached_property
    def bounds(self) -> Bounds:
        """What everything that labelers drew lies within."""
        return bounds_of(
            ring for answer in self._answers for one in answer for ring in self._state.rings(one)
        )


class ObjectsState(ListState[O, JoinedObjects[O]], Generic[O]):
    """A list of shapes of one kind, joined object by object."""

    _live: LiveObjects[O]

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self._least = getattr(self.rules, "min_shapes", 0)
        most = getattr(self.rules, "max_shapes", 0) or getattr(self.rules, "max_skeletons", 0)
        self._most = most or _MOST_OBJECTS
        self._attributes = rules_of(self.classes)

    # --- what a kind of shape says

    @abstractmethod
    def _live_state(self, tolerance: float, classes: int) -> LiveObjects[O]:
        """Truth's live state, of a likeness from which on a place is right, and so many classes."""

    @abstractmethod
    def _shape(self, given: Any, attributes: Attributes) -> O:
        """The shape of a message."""

    @abstractmethod
    def _message(self, said: Said[O], joined: JoinedObject[O], attributes: Facts) -> Any:
        """The message of a joined object."""

    def rings(self, shape: O) -> Iterable[Ring]:
        """The points of a shape, for kinds whose joined shapes are kept within those that were drawn."""
        return ()

    def attributes_of(self, shape: O) -> Attributes:
        """What a labeler says of an object."""
        return shape.attributes

    # --- what all do alike

    def _empty(self) -> LiveObjects[O]:
        tolerance = min(self.question.quality.match_overlap or NEAR, _MOST_ALIKE)
        return self._live_state(tolerance, len(self.classes))

    def _element(self, given: Any) -> O | None:
        if given.class_id not in self._attributes and (self._attributes or given.class_id):
            return None
        return self._shape(given, read_attributes(given.attributes))

    def _name(self, element: O) -> str:
        return element.class_id or "object"

    def _written(self, item: ItemKey, joined: JoinedObjects[O]) -> Leading:
        taken, confidence = self._allowed(joined)
        said = Said(self, [answer for _, answer in self._live.votes_on(item)])
        answer = self._answer([self._message(said, one, self._facts(said, one)) for one in taken])
        return Leading(answer, confidence, tuple(one.confidence for one in taken))

    def _facts(self, said: Said[O], joined: JoinedObject[O]) -> Facts:
        """The attributes of a joined object."""
        class_id = joined.object.class_id
        rules = self._attributes.get(class_id, {})
        return written_attributes(joined.object.attributes, rules, said.others(class_id) if rules else None)

    def _allowed(self, joined: JoinedObjects[O]) -> tuple[Sequence[JoinedObject[O]], float]:
        """The likeliest objects that an answer may hold, as few or as many as the question says, and their quality."""
        size = min(max(len(joined.objects), self._least), self._most)
        if size == len(joined.objects):
            return joined.objects, joined.confidence
        candidates = [*joined.objects, *joined.doubtful]
        likeliest = sorted(range(len(candidates)), key=lambda k: (-candidates[k].exists, k))[:size]
        taken = [candidates[k] for k in sorted(likeliest)]
        exists = np.array([one.exists for one in candidates])
        return taken, expected_f1(taken, exists, _hidden(joined, exists))

    def _reliability(self, known: Any) -> Reliability:
        return Reliability(
            accuracy=known.class_accuracy,
            recall=known.recall,
            false_alarms=known.false_alarms,
            spread=known.spread,
        )


def _hidden(joined: JoinedObjects[Any], exists: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """How many objects that nobody marked a confidence reckons with: `expected_f1` solved for them."""
    if not joined.objects:
        none = float(np.prod(1.0 - exists))
        return max(math.log(none / joined.confidence), 0.0) if none > 0.0 < joined.confidence else 0.0
    hits = sum(one.confidence for one in joined.objects)
    there = 2.0 * hits / joined.confidence if joined.confidence > 0.0 else 0.0
    return max(there - len(joined.objects) - float(exists.sum()), 0.0)
