"""How much was said: what no look at some items can tell."""

from __future__ import annotations

from collections.abc import Sequence

from cairn.annotation.v1.annotation_store_pb2 import ANNOTATION_KIND_LABEL
from cairn_consensus.domain.ids import LabelerName, QuestionId
from cairn_consensus.domain.project_state import Counts
from cairn_consensus.store.rows import ProjectKey
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_consensus", "sql/counts.sql")


class CountStore:
    """Counts of projects, and of each labeler's answers."""

    async def counted(self, tx: Transaction, key: ProjectKey) -> Counts | None:
        """How much was said in a project; None where it has not been counted yet."""
        row = await tx.fetchrow(SQL.counted, *key.columns)
        if row is None:
            return None
        answers: dict[QuestionId, dict[str, int]] = {}
        for question, labeler, count in await tx.fetch(SQL.answers_given, *key.columns):
            answers.setdefault(question, {})[labeler] = count
        return Counts(row["votes"], row["label_annotations"], answers)

    async def save_counted(
        self,
        tx: Transaction,
        key: ProjectKey,
        votes: int,
        label_annotations: int,
        answers: Sequence[tuple[QuestionId, LabelerName, int]],
    ) -> None:
        """Write how much was said; of the answers, those of labelers who said more."""
        await tx.execute(SQL.save_counted, *key.columns, votes, label_annotations)
        if answers:
            await tx.execute(SQL.save_answers_given, *key.columns, *map(list, zip(*answers, strict=True)))

    async def count_label_annotations(self, tx: Transaction, key: ProjectKey) -> int:
        """How many annotations of kind LABEL were heard of."""
        count: int = await tx.fetchval(SQL.count_label_annotations, *key.columns, ANNOTATION_KIND_LABEL)
        return count
