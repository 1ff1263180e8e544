"""Projects: what they want of a model, and where their model and their routing stand."""

from __future__ import annotations

from collections.abc import Iterable
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

    async def route_question(self, tx: Transaction, project: Project, question: str) -> None:
        """Take up the labels of another question; drop scores, and retire the serving version."""
        await tx.execute(SQL.route_question, project.tenant, project.id, project.routed_question, question)

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
        "labels_trained",
    )  # fmt: skip
    return Project(
        tenant=row["tenant"],
        id=row["project"],
        policy=policy,
        stop=Stop(row["stop"]),
        **{name: row[name] for name in same},
    )
