"""What the store holds of a project, in the order in which it can be deleted: what refers to something before it."""

from __future__ import annotations

from cairn_kit.database import Queries, Rows, Transaction

SQL = Queries.load("cairn_annotation_store", "sql/deleting.sql")

PARTS = (
    Rows("label", "item", "question"),
    Rows("annotation", "annotation uuid"),
    Rows("import_failure", "import", "offset bigint"),
    Rows("import", "import"),
    Rows("export_part", "export uuid"),
    Rows("export", "export uuid"),
    Rows("item", "item"),
    Rows("blob", "sha256"),
    Rows("schema_use", "question"),
)
LAST_PARTS = (Rows("progress", "shard bigint"), Rows("project", "project"))
"""The project itself, by which everybody sees that it is not gone yet, after all its files."""


class DeletingStore:
    """Ends what is under way in a project."""

    async def end_jobs(self, tx: Transaction, tenant: str, project: str) -> None:
        """Cancel the project's exports, and forget that items were to be recounted."""
        await tx.execute(SQL.cancel_exports, tenant, project)
        await tx.execute(SQL.forget_recount, tenant, project)
