"""Model versions, and what each says of what it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cairn_inference.domain.calibration import Evaluation
from cairn_inference.records import AskedVersion, NewVersion, Project, Version, VersionState
from cairn_inference.store.rows import Reader
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_inference", "sql/versions.sql")

_FAR = datetime(9999, 1, 1, tzinfo=UTC)


class VersionStore:
    """Versions, at most one of a project serving."""

    async def insert_version(self, tx: Transaction, tenant: str, project: str, made: NewVersion) -> Version:
        """Add a version; the caller holds the project's lock, which numbers versions one after the other."""
        number = await tx.fetchval(SQL.next_version, tenant, project, made.model)
        judged = made.evaluation
        row = await tx.fetchrow(
            SQL.insert_version,
            tenant,
            project,
            made.model,
            number,
            made.sha256,
            made.features,
            list(made.class_ids),
            made.training_labels,
            judged.accuracy if judged else None,
            judged.log_loss if judged else None,
            judged.calibration_error if judged else None,
            judged.labels if judged else None,
            judged.temperature if judged else None,
            made.training_run,
        )
        return _version_of(row)

    async def insert_out_of_fold(
        self, tx: Transaction, version: Version, keys: Sequence[str], probabilities: Sequence[bytes]
    ) -> None:
        """Keep what a version says of the items it was trained on."""
        await tx.execute(
            SQL.insert_out_of_fold,
            version.tenant,
            version.project,
            version.made.model,
            version.number,
            list(keys),
            list(probabilities),
        )

    async def out_of_fold(self, reader: Reader, version: Version, keys: Sequence[str]) -> dict[str, bytes]:
        """What a version says of those of these items that it was trained on."""
        rows = await reader.fetch(
            SQL.out_of_fold, version.tenant, version.project, version.made.model, version.number, list(keys)
        )
        return {row["item"]: row["probabilities"] for row in rows}

    async def version(
        self, reader: Reader, tenant: str, project: str, model: str, number: int
    ) -> Version | None:
        """A model version."""
        row = await reader.fetchrow(SQL.version, tenant, project, model, number)
        return None if row is None else _version_of(row)

    async def serving(self, reader: Reader, project: Project) -> Version | None:
        """The version that serves."""
        if project.serving_model is None or project.serving_version is None:
            return None
        return await self.version(
            reader, project.tenant, project.id, project.serving_model, project.serving_version
        )

    async def versions_asked(
        self, reader: Reader, asked: Sequence[AskedVersion]
    ) -> dict[AskedVersion, Version | None]:
        """The versions asked for; None where there is none such, and nothing where there is no such project."""
        rows = await reader.fetch(
            SQL.versions_asked,
            [one.tenant for one in asked],
            [one.project for one in asked],
            [one.model for one in asked],
            [one.number for one in asked],
        )
        return {asked[row["place"] - 1]: None if row["version"] is None else _version_of(row) for row in rows}

    async def versions(
        self,
        reader: Reader,
        tenant: str,
        project: str,
        model: str,
        before: tuple[datetime, str, int] | None,
        limit: int,
    ) -> list[Version]:
        """Versions of a model, or of all (`-`), newest first."""
        moment, last_model, number = before or (_FAR, "", 0)
        rows = await reader.fetch(SQL.versions, tenant, project, model, moment, last_model, number, limit)
        return [_version_of(row) for row in rows]

    async def promote(self, tx: Transaction, version: Version) -> Version:
        """Make a version the one that serves, withdraw the threshold, and begin a scoring round."""
        await tx.fetch(SQL.retire_serving, version.tenant, version.project)
        row = await tx.fetchrow(
            SQL.make_serving, version.tenant, version.project, version.made.model, version.number
        )
        await tx.execute(
            SQL.begin_scoring_round, version.tenant, version.project, version.made.model, version.number
        )
        return _version_of(row)


def _version_of(row: Any) -> Version:
    evaluation = None
    if row["accuracy"] is not None:
        evaluation = Evaluation(
            row["accuracy"],
            row["log_loss"],
            row["calibration_error"],
            row["evaluated_labels"],
            row["temperature"],
        )
    made = NewVersion(
        model=row["model"],
        sha256=row["sha256"],
        features=row["features"],
        class_ids=tuple(row["class_ids"]),
        training_labels=row["training_labels"],
        evaluation=evaluation,
        training_run=row["training_run"],
    )
    return Version(
        row["tenant"], row["project"], row["version"], VersionState(row["state"]), made, row["created_at"]
    )
