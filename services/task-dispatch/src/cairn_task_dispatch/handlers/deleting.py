"""What task-dispatch holds of a project, deleted in the background (`cairn_kit.database.deleting`)."""

from __future__ import annotations

from cairn_kit.database import Database, ProjectDeletions, Rows

PROJECT = Rows("project", "project")
"""Without it nobody leases, and no task is opened: it goes when the deletion is heard of."""

PARTS = (
    Rows("lease", "lease uuid", where="created_at > '-infinity'"),
    Rows("slot", "task uuid", "number bigint"),
    Rows("task", "task uuid"),
    Rows("item", "item"),
)
"""In the order in which it can be deleted: what refers to something before it. Labelers are the tenant's."""


def deletions_of(database: Database) -> ProjectDeletions:
    """Deletes all that is held of a project."""
    return ProjectDeletions(database, PARTS, at_once=PROJECT)
