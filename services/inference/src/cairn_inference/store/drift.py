"""What came in since a threshold was set, beside the sample that it was set on."""

from __future__ import annotations

from datetime import datetime

from cairn_inference.domain.routing import sampling_odds
from cairn_inference.records import Project
from cairn_inference.store.rows import Reader
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_inference", "sql/drift.sql")


class DriftStore:
    """Scores and features of both, and on how much drift was tested."""

    async def items_since(self, reader: Reader, project: Project, since: datetime) -> int:
        """How many items with a score came later, outside the validation sample."""
        count: int = await reader.fetchval(
            SQL.items_since, project.tenant, project.id, project.score_round, since
        )
        return count

    async def scores_since(
        self, reader: Reader, project: Project, since: datetime, limit: int
    ) -> list[float]:
        """Scores of at most `limit` of these, a fixed choice."""
        rows = await reader.fetch(
            SQL.scores_since, project.tenant, project.id, project.score_round, since, limit
        )
        return [row["score"] for row in rows]

    async def validation_features(
        self, reader: Reader, project: Project, until: datetime, limit: int
    ) -> list[bytes]:
        """Packed features of at most `limit` validation items that judge and were there by then, a fixed choice."""
        rows = await reader.fetch(
            SQL.validation_features,
            project.tenant,
            project.id,
            project.score_round,
            until,
            limit,
            sampling_odds(project.smallest_share),
        )
        return [row["vector"] for row in rows]

    async def features_since(
        self, reader: Reader, project: Project, since: datetime, limit: int
    ) -> list[bytes]:
        """Packed features of at most `limit` items that came later, outside the validation sample, a fixed choice."""
        rows = await reader.fetch(
            SQL.features_since, project.tenant, project.id, project.score_round, since, limit
        )
        return [row["vector"] for row in rows]

    async def set_drift_items(self, tx: Transaction, project: Project, items: int) -> None:
        """Note on how many new items drift was last tested."""
        await tx.execute(SQL.set_drift_items, project.tenant, project.id, items)
