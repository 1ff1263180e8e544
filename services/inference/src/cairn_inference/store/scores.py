"""What the serving version says of items, a scoring round after the other."""

from __future__ import annotations

from collections.abc import Sequence

from cairn_inference.records import Project, Score, Unscored, Version
from cairn_inference.store.rows import Reader
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_inference", "sql/scores.sql")


class ScoreStore:
    """Items that the serving version has not looked at in this round, and what it says of them."""

    async def items_to_score(
        self, reader: Reader, project: Project, version: Version, limit: int
    ) -> list[Unscored]:
        """Items that the serving version has not looked at in this round, those that wait longest."""
        rows = await reader.fetch(
            SQL.items_to_score,
            project.tenant,
            project.id,
            project.score_round,
            version.made.features,
            version.made.model,
            version.number,
            limit,
        )
        return [Unscored(row["item"], row["validation"], row["vector"], row["out_of_fold"]) for row in rows]

    async def keep_scores(self, tx: Transaction, project: Project, scores: Sequence[Score]) -> None:
        """Write what the serving version says."""
        await tx.execute(
            SQL.keep_scores,
            project.tenant,
            project.id,
            project.score_round,
            [score.key for score in scores],
            [score.predicted for score in scores],
            [score.score for score in scores],
            [score.margin for score in scores],
        )

    async def pass_over(self, tx: Transaction, project: Project, keys: Sequence[str]) -> None:
        """Items that the serving version cannot read count as looked at, without a score."""
        if keys:
            await tx.execute(SQL.pass_over, project.tenant, project.id, project.score_round, list(keys))
