"""Projects: what they want of a model, and where their model and their routing stand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cairn_inference.domain.routing import Stop
from cairn_inference.records import Policy, Project
from cairn_inference.store.rows import Reader
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_inference", "sql/projects.sql")


class ProjectStore:
    """Policies, and locks: whoever changes what belongs to a project as a whole holds its lock."""

    async def keep_project(
        self, tx: Transaction, tenant: str, project: str, revision: int, policy: Policy
    ) -> bool:
        """Write a project's policy unless a newer one is known; whether it was written."""
        tag = await tx.execute(
            SQL.upsert_project,
            tenant,
            project,
            revision,
            policy.question,
            policy.unroutable,
            list(policy.class_ids),
            policy.alpha,
            policy.delta,
            policy.validation_share,
            policy.min_answers,
            policy.max_answers,
            policy.automatic,
        )
        return tag.endswith(" 1")

    async def projects(self, tx: Reader, refs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Project]:
        """The known ones among projects (tenant, project)."""
        wanted = sorted(set(refs))
        rows = await tx.fetch(
            SQL.projects, [tenant for tenant, _ in wanted], [project for _, project in wanted]
        )
        return {(row["tenant"], row["project"]): _project_of(row) for row in rows}

    async def projects_with_work(self, reader: Reader) -> list[Project]:
        """Every project with a serving version."""
        return [_project_of(row) for row in await reader.fetch(SQL.projects_with_work)]

    async def project_for_update(self, tx: Transaction, tenant: str, project: str) -> Project | None:
        """A project, locked until the transaction ends."""
        row = await tx.fetchrow(SQL.project_for_update, tenant, project)
        return None if row is None else _project_of(row)

    async def lock_projects(self, tx: Transaction, refs: Iterable[tuple[str, str]]) -> None:
        """Let nobody else change these projects (tenant, project) until the transaction ends."""
        wanted = sorted(set(refs))
        await tx.execute(
            SQL.lock_projects, [tenant for tenant, _ in wanted], [project for _, project in wanted]
        )

    async def begin_move(self, tx: Transaction, project: Project, question: str) -> None:
        """Route another question: retire the serving version; the items have still to follow."""
        await tx.execute(SQL.begin_move, project.tenant, project.id, question)

    async def projects_moving(self, reader: Reader) -> list[tuple[str, str]]:
        """Projects (tenant, project) whose items have still to follow to another question."""
        return [(row["tenant"], row["project"]) for row in await reader.fetch(SQL.projects_moving)]

    async def see_move(self, tx: Transaction, project: Project) -> None:
        """Note when the move was seen: transactions that begin later see it, too."""
        await tx.execute(SQL.see_move, project.tenant, project.id)

    async def older_runs(self, tx: Transaction, since: datetime) -> bool:
        """Whether a transaction of ours runs that began by then."""
        found: bool = await tx.fetchval(SQL.older_runs, since)
        return found

    async def move_items(self, tx: Transaction, project: Project, most: int) -> int:
        """Let the next items follow: take up their labels of the routed question, drop scores. How many they were."""
        row = await tx.fetchrow(
            SQL.move_items,
            project.tenant,
            project.id,
            project.moving_from,
            project.routed_question,
            project.moved_until,
            most,
        )
        if row is None or row["last"] is None:
            return 0
        await tx.execute(SQL.note_moved, project.tenant, project.id, row["last"])
        count: int = row["items"]
        return count

    async def end_move(self, tx: Transaction, project: Project) -> None:
        """All items have followed."""
        await tx.execute(SQL.end_move, project.tenant, project.id)

    async def close_project(self, tx: Transaction, tenant: str, project: str) -> None:
        """End all work in a project that is to be deleted."""
        await tx.execute(SQL.close_project, tenant, project)


def _project_of(row: Any) -> Project:
    policy = Policy(
        question=row["question"],
        unroutable=row["unroutable"],
        class_ids=tuple(row["class_ids"]),
        alpha=row["alpha"],
        delta=row["delta"],
        validation_share=row["validation_share"],
        min_answers=row["min_answers"],
        max_answers=row["max_answers"],
        automatic=row["automatic"],
    )
    same = (
        "revision", "routed_question", "smallest_share", "serving_model", "serving_version", "score_round", "route_round",
        "routed_scores", "threshold", "threshold_score", "threshold_at", "threshold_coverage", "thresholds",
        "validation_round", "validation_items", "validation_scores", "stop_reason", "stop_revision", "drift_items",
        "labels_trained", "moving_from", "moved_until", "moving_since",
    )  # fmt: skip
    return Project(
        tenant=row["tenant"],
        id=row["project"],
        policy=policy,
        stop=Stop(row["stop"]),
        **{name: row[name] for name in same},
    )
