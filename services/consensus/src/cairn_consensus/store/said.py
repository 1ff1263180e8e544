"""What was said of items, by people, models, and who knows the truth."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from cairn.annotation.v1.annotation_store_pb2 import ANNOTATION_KIND_LABEL, Annotation
from cairn_consensus.domain.ids import ItemKey, LabelerName, QuestionId
from cairn_consensus.domain.items import Score, Sized, Truth, Vote
from cairn_consensus.store.rows import ProjectKey, answer_of
from cairn_kit.database import Queries, Transaction
from cairn_kit.database.transaction import Record

SQL = Queries.load("cairn_consensus", "sql/said.sql")


class TruthRank(IntEnum):
    """Whose word a known truth is; a higher one replaces a lower."""

    GOLD = 1
    REVIEWED = 2


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of items, by people, models, and who knows the truth."""

    votes: list[Vote] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    truths: list[Truth] = field(default_factory=list)


class SaidStore:
    """Annotations heard of, votes, scores and truths."""

    async def insert_annotations(
        self, tx: Transaction, key: ProjectKey, annotations: Sequence[Annotation]
    ) -> int:
        """Keep that these were heard of; returns how many of kind LABEL had not been."""
        rows = await tx.fetch(
            SQL.insert_annotations,
            *key.columns,
            [annotation.name for annotation in annotations],
            [annotation.kind for annotation in annotations],
        )
        return sum(row["kind"] == ANNOTATION_KIND_LABEL for row in rows)

    async def insert_votes(
        self, tx: Transaction, key: ProjectKey, votes: Sequence[Vote]
    ) -> set[tuple[ItemKey, QuestionId, LabelerName]]:
        """Keep votes; returns those that were not there yet."""
        rows = await tx.fetch(
            SQL.insert_votes,
            *key.columns,
            [vote.item for vote in votes],
            [vote.question for vote in votes],
            [vote.labeler for vote in votes],
            [vote.annotation for vote in votes],
            [vote.answer.SerializeToString(deterministic=True) for vote in votes],
        )
        return {(row["item"], row["question"], row["labeler"]) for row in rows}

    async def upsert_scores(
        self, tx: Transaction, key: ProjectKey, revision: int, scores: Sequence[Score]
    ) -> set[ItemKey]:
        """Keep scores of one question by one model in one round; returns the items whose score is newer now."""
        first = scores[0]
        rows = await tx.fetch(
            SQL.upsert_scores,
            *key.columns,
            first.question,
            first.model,
            revision,
            [score.item for score in scores],
            [p for score in scores for p in score.probabilities],
            len(first.class_ids),
            list(first.class_ids),
        )
        return {row["item"] for row in rows}

    async def upsert_truths(
        self, tx: Transaction, key: ProjectKey, truths: Sequence[tuple[Truth, TruthRank, datetime]]
    ) -> set[tuple[ItemKey, QuestionId]]:
        """Keep what is known to be true; returns what changed."""
        rows = await tx.fetch(
            SQL.upsert_truths,
            *key.columns,
            [truth.item for truth, _, _ in truths],
            [truth.question for truth, _, _ in truths],
            [truth.answer.SerializeToString(deterministic=True) for truth, _, _ in truths],
            [int(rank) for _, rank, _ in truths],
            [time for _, _, time in truths],
        )
        return {(row["item"], row["question"]) for row in rows}

    async def answer_bytes(self, tx: Transaction, key: ProjectKey) -> int:
        """How many bytes all answers in a project have."""
        size: int = await tx.fetchval(SQL.answer_bytes, *key.columns)
        return size

    async def answered_items(self, tx: Transaction, key: ProjectKey, after: str, limit: int) -> list[Sized]:
        """The items that somebody has answered, in order, from the one after `after` on."""
        return [Sized(*row) for row in await tx.fetch(SQL.answered_items, *key.columns, after, limit)]

    async def answered_among(self, tx: Transaction, key: ProjectKey, items: Sequence[ItemKey]) -> list[Sized]:
        """Those of the items that somebody has answered, in order."""
        return [Sized(*row) for row in await tx.fetch(SQL.answered_among, *key.columns, items)]

    async def items_with_truth(self, tx: Transaction, key: ProjectKey, after: str, limit: int) -> list[Sized]:
        """The items of which something is known to be true, in order, from the one after `after` on."""
        return [Sized(*row) for row in await tx.fetch(SQL.items_with_truth, *key.columns, after, limit)]

    async def said_of(self, tx: Transaction, key: ProjectKey, items: Sequence[ItemKey]) -> Said:
        """All that was said of some items, in an order that does not depend on when it came."""
        of = (*key.columns, items)
        return Said(
            [_vote(row) for row in await tx.fetch(SQL.votes_on, *of)],
            [_score(row) for row in await tx.fetch(SQL.scores_of, *of)],
            [_truth(row) for row in await tx.fetch(SQL.truths_of, *of)],
        )

    async def all_said(self, tx: Transaction, key: ProjectKey) -> AsyncIterator[Said]:
        """All that was said in a project, part by part, item by item.

        It is read a thousand rows at a time: none is a long statement, and between two others have their turn.
        """
        async for rows in _parts(tx.cursor(SQL.all_votes, *key.columns)):
            yield Said(votes=list(map(_vote, rows)))
        async for rows in _parts(tx.cursor(SQL.all_scores, *key.columns)):
            yield Said(scores=list(map(_score, rows)))
        async for rows in _parts(tx.cursor(SQL.all_truths, *key.columns)):
            yield Said(truths=list(map(_truth, rows)))


async def _parts(rows: AsyncIterator[Record], size: int = 1000) -> AsyncIterator[list[Record]]:
    part: list[Record] = []
    async for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _vote(row: Record) -> Vote:
    item, question, labeler, annotation, answer = row
    return Vote(item, question, LabelerName(sys.intern(labeler)), annotation, answer_of(answer))


def _score(row: Record) -> Score:
    item, question, model, probabilities, class_ids = row
    return Score(item, question, model, tuple(probabilities), tuple(class_ids))


def _truth(row: Record) -> Truth:
    item, question, answer = row
    return Truth(item, question, answer_of(answer))
