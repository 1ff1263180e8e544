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

_LONGEST_DIGEST = 12
"""Digits of a digest that tell a raster from all others of an item."""


class MasksState(JoinedState[Mask, JoinedMask]):
    """A class for each pixel. A raster that is only in blob storage cannot be seen here, and its item not be joined."""

    algorithm = masks.ALGORITHM
    algorithm_version = masks.VERSION
    numbered = True

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.near = question.quality.match_overlap or NEAR
        self._answers = SeparateAnswers()
        self._unseen: set[ItemKey] = set()

    def _empty(self) -> LiveMasks:
        return LiveMasks(len(self.classes))

    def vote(self, item: ItemKey, labeler: LabelerName, answer: pb.Answer) -> None:
        if answer.mask.HasField("runs"):
            super().vote(item, labeler, answer)
        elif answer.mask.HasField("blob"):
            self._unseen.add(item)
        else:
            return
        self._answers.add(item, labeler, answer)

    def know(self, item: ItemKey, truth: pb.Answer) -> None:
        if truth.mask.HasField("runs"):
            super().know(item, truth)
        elif truth.mask.HasField("blob"):
            self._truths[item] = truth

    def joins(self, item: ItemKey) -> bool:
        return item not in self._unseen

    def leading(self, item: ItemKey) -> Leading | None:
        if self.joins(item):
            return super().leading(item)
        if item in self._truths:
            return Leading(self._truths[item], 1.0)
        return self._answers.standing(item)

    def parts(self, item: ItemKey) -> list[Part]:
        if self.joins(item):
            return super().parts(item)
        leading = self.leading(item)
        return [
            Part(who, _raster(one.mask), 0.0, leading is not None and one.mask == leading.answer.mask)
            for who, one in self._answers.of(item).items()
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
    return f"blob {mask.blob.sha256[:_LONGEST_DIGEST]}" if mask.HasField("blob") else "runs"
