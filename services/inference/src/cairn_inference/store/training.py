"""Training runs, and the labels that they learn from."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cairn_inference.records import NewLabels, Project, Run, RunState, TrainingRows, Version
from cairn_inference.store.rows import Reader
from cairn_kit.database import Database, Queries, Transaction

SQL = Queries.load("cairn_inference", "sql/training.sql")


class TrainingStore:
    """Runs, at most one of a project under way, and their labels."""

    async def projects_to_train(self, reader: Reader, min_interval: float) -> list[NewLabels]:
        """Projects with new labels, no run under way, and none asked for within so many seconds."""
        return [NewLabels(**row) for row in await reader.fetch(SQL.projects_to_train, min_interval)]

    async def label_counts(self, reader: Reader, project: Project) -> dict[str, Counter[str]]:
        """Labels of each class that may be trained on, by feature extraction."""
        counts: dict[str, Counter[str]] = {}
        rows = await reader.fetch(
            SQL.label_counts, project.tenant, project.id, list(project.policy.class_ids)
        )
        for row in rows:
            counts.setdefault(row["spec"], Counter())[row["label"]] = row["labels"]
        return counts

    async def labels_counted(self, database: Database, counted: NewLabels) -> None:
        """Note that all labels were counted, unless something has changed since these were found."""
        await database.execute(SQL.labels_counted, counted.tenant, counted.project, counted.seen)

    async def training_rows(self, reader: Reader, project: Project, spec: str, limit: int) -> TrainingRows:
        """Finished labels by people with features, never of the validation sample; a fixed choice when too many."""
        rows = await reader.fetch(
            SQL.training_rows, project.tenant, project.id, spec, list(project.policy.class_ids), limit
        )
        return TrainingRows(
            [row["item"] for row in rows],
            [row["label"] for row in rows],
            [row["label_confidence"] for row in rows],
            [row["vector"] for row in rows],
        )

    async def insert_run(self, tx: Transaction, project: Project, run: str, labels: int) -> Run | None:
        """Ask for a training; None when one is under way."""
        row = await tx.fetchrow(SQL.insert_run, project.tenant, project.id, run, labels)
        if row is None:
            return None
        await tx.execute(SQL.note_run, project.tenant, project.id, labels)
        return _run_of(row)

    async def next_run(self, tx: Transaction) -> Run | None:
        """The oldest run that has not ended, now RUNNING. Only for the holder of the trainer's lock."""
        row = await tx.fetchrow(SQL.next_run)
        return None if row is None else _run_of(row)

    async def run(self, reader: Reader, tenant: str, project: str, run: str) -> Run | None:
        """A training run."""
        row = await reader.fetchrow(SQL.run, tenant, project, run)
        return None if row is None else _run_of(row)

    async def run_for_update(self, tx: Transaction, tenant: str, project: str, run: str) -> Run | None:
        """A training run, locked."""
        row = await tx.fetchrow(SQL.run_for_update, tenant, project, run)
        return None if row is None else _run_of(row)

    async def active_run(self, tx: Transaction, tenant: str, project: str) -> Run | None:
        """A project's run that has not ended, locked."""
        row = await tx.fetchrow(SQL.active_run, tenant, project)
        return None if row is None else _run_of(row)

    async def runs(
        self, reader: Reader, tenant: str, project: str, before: str | None, limit: int
    ) -> list[Run]:
        """A project's runs, newest first; ids are ordered by time."""
        rows = await reader.fetch(SQL.runs, tenant, project, before or "\uffff", limit)
        return [_run_of(row) for row in rows]

    async def end_run(
        self,
        tx: Transaction,
        run: Run,
        state: RunState,
        *,
        version: Version | None = None,
        error: tuple[int, str, str] = (0, "", ""),
    ) -> Run:
        """End a run, with the version it made or with why it made none (code, reason, message).

        A finished one tells the labels that it learned from: more may have come in since it was asked for.
        """
        row = await tx.fetchrow(
            SQL.end_run,
            run.tenant,
            run.project,
            run.id,
            int(state),
            version.made.model if version else None,
            version.number if version else None,
            *error,
            version.made.training_labels if version else None,
        )
        return _run_of(row)


def _run_of(row: Any) -> Run:
    return Run(
        row["tenant"],
        row["project"],
        row["run"],
        RunState(row["state"]),
        row["attempts"],
        row["labels"],
        row["model"],
        row["version"],
        row["error_code"],
        row["error_reason"],
        row["error_message"],
        row["created_at"],
        row["ended_at"],
    )
