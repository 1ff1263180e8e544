"""The validation sample, the thresholds that it bears out, and what they let through of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cairn_inference.domain.routing import sampling_odds
from cairn_inference.records import NewThreshold, Project, Threshold, ValidationScore
from cairn_inference.store.rows import Reader
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_inference", "sql/validation.sql")


class ValidationStore:
    """The evidence for a validation round, and how each round ended."""

    async def validation_scores(self, reader: Reader, project: Project) -> list[ValidationScore]:
        """The validation items that judge, as far as they are scored in this round, by item."""
        rows = await reader.fetch(
            SQL.validation_scores,
            project.tenant,
            project.id,
            project.score_round,
            project.policy.question,
            sampling_odds(project.smallest_share),
        )
        return [
            ValidationScore(
                row["item"],
                row["predicted"],
                row["score"],
                row["labeled"],
                row["through"],
                row["created_at"],
            )
            for row in rows
        ]

    async def settled_validation(self, reader: Reader, project: Project) -> int:
        """How many of the validation items that judge are scored in this round, and settled by people."""
        count: int = await reader.fetchval(
            SQL.settled_validation,
            project.tenant,
            project.id,
            project.score_round,
            sampling_odds(project.smallest_share),
        )
        return count

    async def doubtful_validation(
        self, reader: Reader, project: Project, confidence: float, limit: int
    ) -> list[str]:
        """Validation items that judge, settled by people with less confidence, that they were not asked about again."""
        rows = await reader.fetch(
            SQL.doubtful_validation,
            project.tenant,
            project.id,
            sampling_odds(project.smallest_share),
            confidence,
            limit,
        )
        return [row["item"] for row in rows]

    async def answers_wished(self, tx: Transaction, project: Project, keys: Sequence[str]) -> None:
        """Note that people were asked for all the answers that these items may get."""
        await tx.execute(SQL.answers_wished, project.tenant, project.id, list(keys))

    async def let_through(self, tx: Transaction, project: Project) -> None:
        """Note which validation items the threshold in force lets through, if there is one."""
        await tx.execute(SQL.let_through, project.tenant, project.id)

    async def let_through_of(self, tx: Transaction, project: Project, keys: Sequence[str]) -> None:
        """The same of some items alone."""
        await tx.execute(SQL.let_through_of, project.tenant, project.id, list(keys))

    async def answers_let_through(self, reader: Reader, project: Project) -> dict[str, str]:
        """The validation items that judge and were let through so far, with the answer each went with."""
        rows = await reader.fetch(
            SQL.answers_let_through,
            project.tenant,
            project.id,
            project.policy.question,
            sampling_odds(project.smallest_share),
        )
        return {row["item"]: row["answer"] for row in rows}

    async def pool_items(self, reader: Reader, project: Project) -> int:
        """How many items there are from which the validation sample was drawn, without it."""
        count: int = await reader.fetchval(SQL.pool_items, project.tenant, project.id)
        return count

    async def open_coverage(self, reader: Reader, project: Project, threshold: float) -> float:
        """Share of the open items that reach a threshold."""
        share: float = await reader.fetchval(
            SQL.open_coverage, project.tenant, project.id, project.score_round, threshold
        )
        return share

    async def end_round(
        self, tx: Transaction, project: Project, found: NewThreshold, *, in_force: bool
    ) -> Threshold:
        """Write a round's threshold, put it in force or leave none, and begin a routing round."""
        number = project.thresholds + 1
        row = await tx.fetchrow(
            SQL.insert_threshold,
            project.tenant,
            project.id,
            number,
            found.score,
            found.alpha,
            found.delta,
            found.round,
            found.round_delta,
            found.validation_items,
            found.validation_errors,
            found.error_upper_bound,
            found.coverage,
            found.model,
            found.model_version,
        )
        await tx.execute(
            SQL.end_round, project.tenant, project.id, number if in_force else None, found.validation_items
        )
        await self.let_through(tx, project)
        return _threshold_of(row)

    async def threshold(self, reader: Reader, project: Project) -> Threshold | None:
        """The threshold in force."""
        if project.threshold is None:
            return None
        row = await reader.fetchrow(SQL.threshold, project.tenant, project.id, project.threshold)
        return None if row is None else _threshold_of(row)

    async def withdraw_threshold(self, tx: Transaction, tenant: str, project: str) -> None:
        """No threshold is in force until a round passes."""
        await tx.execute(SQL.withdraw_threshold, tenant, project)


def _threshold_of(row: Any) -> Threshold:
    found = NewThreshold(
        score=row["score"],
        alpha=row["alpha"],
        delta=row["delta"],
        round=row["round"],
        round_delta=row["round_delta"],
        validation_items=row["validation_items"],
        validation_errors=row["validation_errors"],
        error_upper_bound=row["error_upper_bound"],
        coverage=row["coverage"],
        model=row["model"],
        model_version=row["version"],
    )
    return Threshold(row["threshold"], found, row["created_at"])
