"""Masks: a class for each pixel."""

# ruff: noqa: D102 - QuestionState says what each method is for
from __future__ import annotations

import numpy as np

from cairn.label.v1 import label_value_pb2 as pb
from cairn.label.v1.label_schema_pb2 import Question
from cairn_consensus.domain.ids import ItemKey, LabelerName
from cairn_consensus.domain.kinds.joined import NEAR, JoinedState
from cairn_consensus.domain.kinds.question_state import Leading, Part
from cairn_consensus.domain.kinds.unjoined import SeparateAnswers
from cairn_truth.shapes import masks
from cairn_truth.shapes.masks import JoinedMask, LiveMasks
from cairn_truth.shapes.raster import Mask

_DIGITS = 12
"""Hexadecimal digits that tell a raster from all others of an item."""


class MasksState(JoinedState[Mask, JoinedMask]):
    """A class for each pixel. A raster that could not be read where it is kept cannot be joined, nor can its item."""

    algorithm = masks.ALGORITHM
    algorithm_version = masks.VERSION
    numbered = True
    unpacked = 8  # a run is two numbers of 8 bytes, and two bytes or more on the wire

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.near = question.quality.match_overlap or NEAR
        self._unseen = SeparateAnswers()

    def _empty(self) -> LiveMasks:
        return LiveMasks(len(self.classes))

    def _vote(self, item: ItemKey, labeler: LabelerName, answer: pb.Answer) -> None:
        if self._is_seen(answer.mask):
            self._unseen.drop(item, labeler)
            super()._vote(item, labeler, answer)
        else:
            self._live.withdraw(item, labeler)
            self._unseen.add(item, labeler, answer)

    def _know(self, item: ItemKey, truth: pb.Answer) -> None:
        if self._is_seen(truth.mask):
            super()._know(item, truth)
        else:
            self._live.know(item, None)
            self._truths[item] = truth

    def _is_seen(self, mask: pb.Mask) -> bool:
        """Whether the pixels are there, and of classes there are: of a raster the store looks at the header alone."""
        return mask.HasField("runs") and max(mask.runs.class_indices, default=0) <= len(self.classes)

    def joins(self, item: ItemKey) -> bool:
        return item not in self._unseen

    def leading(self, item: ItemKey) -> Leading | None:
        if self.joins(item):
            return super().leading(item)
        if item in self._truths:
            return Leading(self._truths[item], 1.0)
        alone = None if self._live.votes_on(item) else self._unseen.standing(item)
        # Pixels of no class of the question's are no label.
        return alone if alone is not None and alone.answer.mask.HasField("blob") else None

    def parts(self, item: ItemKey) -> list[Part]:
        truth = self._truths.get(item)
        if truth is not None and not self._is_seen(truth.mask):
            return []  # nothing can be held against it
        if self.joins(item):
            return super().parts(item)
        leading = self.leading(item)
        unseen = [
            Part(who, _raster(one.mask), 0.0, leading is not None)
            for who, one in self._unseen.of(item).items()
        ]
        return [
            *unseen,
            *(Part(LabelerName(w), self._said(m), 0.0, False) for w, m in self._live.votes_on(item)),
        ]

    def _read(self, answer: pb.Answer) -> Mask:
        runs = answer.mask.runs
        return Mask(answer.mask.width, answer.mask.height, runs.class_indices, runs.lengths)

    def _written(self, item: ItemKey, joined: JoinedMask) -> Leading:
        value = joined.value
        if value is None:
            raise ValueError(f"nobody has answered {self.id} of {item}; expected a mask")
        mask = pb.Mask(
            width=value.width,
            height=value.height,
            runs=pb.Runs(
                class_indices=np.asarray(value.class_indices).tolist(),
                lengths=np.asarray(value.lengths).tolist(),
            ),
        )
        return Leading(pb.Answer(question=self.id, mask=mask), joined.confidence)

    def _said(self, answer: Mask) -> str:
        pixels = np.bincount(answer.class_indices, weights=answer.lengths, minlength=len(self.classes) + 1)
        share = 100.0 * pixels / (answer.width * answer.height)
        named = [f"{one.id} {share[k]:.3g} %" for k, one in enumerate(self.classes, 1) if share[k] > 0.0]
        return ", ".join(named) or "none"


def _raster(mask: pb.Mask) -> str:
    return f"blob {mask.blob.sha256[:_DIGITS]}" if mask.HasField("blob") else "pixels of unknown classes"
