"""All that was said in a project, to be fitted, or counted, and dropped: nothing is kept of where its items stand."""

from __future__ import annotations

from cairn.annotation.v1.annotation_store_pb2 import Project
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.items import Score, Truth, Vote
from cairn_consensus.domain.project_state import Counts, Fit
from cairn_consensus.domain.questions import Questions


class Whole:
    """What all votes say of labelers. They are heard item by item; models and truths in any order."""

    def __init__(self, project: Project) -> None:
        self._schema_version = project.schema_version
        self._questions = Questions(project.schema.questions)
        self._votes = 0
        self._labelers: set[str] = set()
        self._item: ItemKey | None = None
        self._annotations: set[str] = set()
        """Those of the item that was heard of last."""

    def vote(self, vote: Vote) -> None:
        """Add one answer."""
        if vote.question not in self._questions:
            return  # asked by an earlier schema, and no longer
        if vote.item != self._item:
            self._item = vote.item
            self._annotations.clear()
        if vote.annotation not in self._annotations:
            self._annotations.add(vote.annotation)
            self._votes += 1
        self._labelers.add(vote.labeler)
        self._questions.vote(vote)

    def score(self, score: Score) -> None:
        """Hear what a model says of an item."""
        self._questions.score(score)

    def know(self, truth: Truth) -> None:
        """Hear the truth: of gold, or from a reviewer."""
        self._questions.know(truth)

    def fit(self, after: int) -> Fit:
        """What all of it teaches of labelers, after so many refits: the same whatever the order in which it came.

        It can be asked once, for what was heard is let go of first: it takes as much memory as to learn from it.
        """
        fits = [(name, question.fitting()) for name, question in self._questions.items()]
        self._questions.clear()
        learnt = {name: learn() for name, learn in fits}
        return Fit(self._schema_version, after, self._votes, len(self._labelers), learnt)

    def counts(self, label_annotations: int) -> Counts:
        """How much was said."""
        return Counts(self._votes, label_annotations, self._questions.answers_given())
