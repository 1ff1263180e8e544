"""The only callers of SQL: rows in, rows out, as records. What concerns many items is one statement over arrays.

Each part has its statements in the file of its name in sql/. Whoever changes a project, or what is numbered within it, holds
its row (`project_for_update`, `lock_projects`).
"""

from __future__ import annotations

from cairn_inference.store.drift import DriftStore
from cairn_inference.store.features import FeatureStore
from cairn_inference.store.items import ItemStore
from cairn_inference.store.projects import ProjectStore
from cairn_inference.store.routes import RouteStore
from cairn_inference.store.rows import Reader
from cairn_inference.store.scores import ScoreStore
from cairn_inference.store.training import TrainingStore
from cairn_inference.store.validation import ValidationStore
from cairn_inference.store.versions import VersionStore


class InferenceStore(
    ProjectStore,
    ItemStore,
    FeatureStore,
    ScoreStore,
    ValidationStore,
    DriftStore,
    RouteStore,
    TrainingStore,
    VersionStore,
):
    """All of it, of all tenants: a step of the service's work touches several parts in one transaction."""

    async def answers(self, reader: Reader) -> None:
        """Raise one of OUTAGES unless the database answers."""
        await reader.fetchval("SELECT 1")


__all__ = ["InferenceStore", "Reader"]
