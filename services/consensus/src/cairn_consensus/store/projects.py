"""Projects as last heard of."""

from __future__ import annotations

from collections.abc import Sequence

from cairn.annotation.v1.annotation_store_pb2 import Project
from cairn_consensus.store.rows import ProjectKey, Rows
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_consensus", "sql/projects.sql")


class ProjectStore:
    """Projects."""

    async def upsert_projects(
        self, tx: Transaction, projects: Sequence[tuple[ProjectKey, Project, int]]
    ) -> None:
        """Keep each project as it is at its newest revision, and the fewest answers that any asked for at first."""
        await tx.execute(
            SQL.upsert_projects,
            [key.tenant for key, _, _ in projects],
            [key.project for key, _, _ in projects],
            [project.revision for _, project, _ in projects],
            [project.SerializeToString() for _, project, _ in projects],
            [fewest for _, _, fewest in projects],
        )

    async def fewest_answers(self, tx: Transaction, key: ProjectKey) -> int | None:
        """The fewest answers that the project ever asked for at first, as far as that was noted."""
        fewest: int | None = await tx.fetchval(SQL.fewest_answers, *key.columns)
        return fewest

    async def project(self, rows: Rows, key: ProjectKey) -> Project | None:
        """The project as last heard of."""
        body = await rows.fetchval(SQL.project, *key.columns)
        return None if body is None else Project.FromString(body)

    async def known_projects(self, rows: Rows, keys: Sequence[ProjectKey]) -> dict[ProjectKey, Project]:
        """Those of the projects that have been heard of."""
        found = await rows.fetch(SQL.known_projects, [k.tenant for k in keys], [k.project for k in keys])
        return {ProjectKey(row["tenant"], row["project"]): Project.FromString(row["body"]) for row in found}

    async def deleted_among(self, rows: Rows, keys: Sequence[ProjectKey]) -> list[ProjectKey]:
        """Those of the projects that are deleted."""
        if not keys:
            return []
        found = await rows.fetch(SQL.deleted_projects, [k.tenant for k in keys], [k.project for k in keys])
        return [ProjectKey(row["tenant"], row["project"]) for row in found]
