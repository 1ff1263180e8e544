"""What inference holds of a project, deleted in the background (`cairn_kit.database.deleting`)."""

from __future__ import annotations

from cairn_inference.model_store import ModelStore
from cairn_inference.store import InferenceStore
from cairn_kit.database import Database, Deleted, DeletedProject, ProjectDeletions, Rows, Transaction

ROWS = (
    Rows("let_through", "question", "item"),
    Rows("other_label", "question", "item"),
    Rows("out_of_fold", "model", "version bigint", "item"),
    Rows("feature", "item"),
    Rows("model_version", "model", "version bigint"),
    Rows("training_run", "run"),
    Rows("threshold", "threshold bigint"),
    Rows("item", "item"),
    Rows("project", "project"),
)
"""In the order in which they can be deleted: what refers to something before it."""


class Work:
    """What is under way: the project routes and trains nothing from when its deletion is heard of."""

    def __init__(self, store: InferenceStore) -> None:
        self._store = store

    async def delete(self, tx: Transaction, which: DeletedProject, after: str, most: int) -> Deleted:
        """End it."""
        await self._store.close_project(tx, which.tenant, which.project)
        return Deleted(0, None)


class ModelFiles:
    """The files of the project's model versions, with or without a row."""

    def __init__(self, models: ModelStore) -> None:
        self._models = models

    async def delete(self, tx: Transaction, which: DeletedProject, after: str, most: int) -> Deleted:
        """Delete the next files."""
        count = await self._models.delete_of(which.tenant, which.project, most)
        return Deleted(count, "more" if count else None)


def deletions_of(database: Database, store: InferenceStore, models: ModelStore) -> ProjectDeletions:
    """Deletes all that is held of a project."""
    files = ModelFiles(models)
    return ProjectDeletions(database, [*ROWS, files], at_once=Work(store), files=files)
