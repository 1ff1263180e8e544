"""Lists of objects of many answers as columns: who marked which candidate of which item as what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from ..columns import Floats
from .detection import Sightings
from .joined import O
from .matching import Ints

TRUTH = -1
"""The labeler of an answer that is the known truth."""


@dataclass(frozen=True)
class Lists(Generic[O]):
    """Answers, one after the other: ``item`` and ``labeler`` (by row, or `TRUTH`) of each ``(answers,)``; the objects.

    ``answer (marks,)`` is the answer each object is from.
    """

    item: Ints
    labeler: Ints
    objects: Sequence[O]
    answer: Ints

    @classmethod
    def of(cls, answers: Sequence[Sequence[O]], item: Sequence[int], labeler: Sequence[int]) -> Lists[O]:
        """Return lists as columns."""
        return cls(
            item=np.array(item, dtype=np.int64),
            labeler=np.array(labeler, dtype=np.int64),
            objects=[one for answer in answers for one in answer],
            answer=np.repeat(np.arange(len(answers)), [len(answer) for answer in answers]),
        )


@dataclass(frozen=True)
class Candidates(Generic[O]):
    """Objects in the order of the clusters that they were matched to, a cluster being one candidate.

    ``objects (marks,)``, with the ``answer`` of each; ``first (clusters + 1,)`` is where each cluster begins.
    """

    lists: Lists[O]
    objects: Sequence[O]
    answer: Ints
    first: Ints

    @classmethod
    def of(cls, lists: Lists[O], cluster: Ints) -> Candidates[O]:
        """Return the objects sorted by ``cluster (marks,)``, each cluster in the order of answers."""
        order = np.argsort(cluster, kind="stable")
        first = np.concatenate([[0], np.cumsum(np.bincount(cluster))]).astype(np.int64)
        return cls(lists, [lists.objects[k] for k in order.tolist()], lists.answer[order], first)

    @property
    def cluster(self) -> Ints:
        """The cluster of each object."""
        return np.repeat(np.arange(self.first.size - 1), np.diff(self.first))

    @property
    def item(self) -> Ints:
        """The item of each cluster."""
        return self.lists.item[self.answer[self.first[:-1]]]

    @property
    def labeler(self) -> Ints:
        """The labeler's row of each object."""
        return self.lists.labeler[self.answer]

    def sightings(self, items: int, labelers: int, classes: int) -> Sightings:
        """Return who marked what as columns, each mark an object not of a truth, in the same order."""
        named = sorted({one.class_id for one in self.objects})
        number = {name: k for k, name in enumerate(named)}
        kind = np.array([number[one.class_id] for one in self.objects], dtype=np.int64)
        true, people = self.labeler == TRUTH, self.lists.labeler != TRUTH
        known = np.full(self.first.size - 1, np.nan)
        known[np.isin(self.item, self.lists.item[~people])] = 0.0
        known[self.cluster[true]] = 1.0
        known_kind = np.full(known.size, -1, dtype=np.int64)
        known_kind[self.cluster[true]] = kind[true]
        return Sightings(
            items=items,
            labelers=labelers,
            kinds=max(classes, len(named), 1),
            answer_item=self.lists.item[people],
            answer_labeler=self.lists.labeler[people],
            item=self.item,
            candidate=self.cluster[~true],
            labeler=self.labeler[~true],
            kind=kind[~true],
            known=known,
            known_kind=known_kind,
        )


@dataclass(frozen=True)
class Places(Generic[O]):
    """What teaches of places: candidates that two marked, or one whose true shape is known.

    ``groups``: the marks of each; ``truth``: its true shape or None; ``labeler (marks,)``, and ``weight (marks,)``,
    the chance that the candidate exists.
    """

    groups: Sequence[Sequence[O]]
    truth: Sequence[O | None]
    labeler: Ints
    weight: Floats

    @classmethod
    def of(cls, candidates: Candidates[O], exists: Floats) -> Places[O]:
        """Return those of the candidates that teach something; ``exists (clusters,)``."""
        groups: list[Sequence[O]] = []
        truths: list[O | None] = []
        kept = np.zeros(candidates.answer.size, dtype=bool)
        labeler = candidates.labeler
        people = labeler != TRUTH
        several = np.flatnonzero(np.diff(candidates.first) > 1)
        for low, high in zip(candidates.first[several], candidates.first[several + 1], strict=True):
            if people[low:high].any():
                kept[low:high] = people[low:high]
                marks = zip(candidates.objects[low:high], people[low:high], strict=True)
                groups.append([one for one, by_people in marks if by_people])
                true = np.flatnonzero(~people[low:high])
                truths.append(candidates.objects[low + int(true[0])] if true.size else None)
        return cls(groups, truths, labeler[kept], exists[candidates.cluster[kept]])
