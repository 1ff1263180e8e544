"""Answers that are looked at and not joined: one alone may stand, several that differ are for a reviewer."""

from __future__ import annotations

from cairn.label.v1.label_value_pb2 import Answer
from cairn_consensus.domain.ids import ItemKey, LabelerName
from cairn_consensus.domain.kinds.question_state import Leading

_ALONE = 0.5
"""Of an answer that nothing can be said of: as likely right as not."""


class SeparateAnswers:
    """Whole answers, by item and labeler."""

    def __init__(self) -> None:
        self._answers: dict[ItemKey, dict[LabelerName, Answer]] = {}

    def __contains__(self, item: ItemKey) -> bool:
        return item in self._answers

    def add(self, item: ItemKey, labeler: LabelerName, answer: Answer) -> None:
        """Keep an answer."""
        self._answers.setdefault(item, {})[labeler] = answer

    def drop(self, item: ItemKey, labeler: LabelerName) -> None:
        """Forget a labeler's answer, if there is one."""
        answers = self._answers.get(item, {})
        answers.pop(labeler, None)
        if not answers:
            self._answers.pop(item, None)

    def of(self, item: ItemKey) -> dict[LabelerName, Answer]:
        """The answers to an item, by labeler."""
        answers = self._answers.get(item, {})
        return {who: answers[who] for who in sorted(answers)}

    def standing(self, item: ItemKey) -> Leading | None:
        """The answer, if there is but one, or all are the same."""
        distinct = {one.SerializeToString(deterministic=True): one for one in self.of(item).values()}
        return Leading(next(iter(distinct.values())), _ALONE) if len(distinct) == 1 else None
