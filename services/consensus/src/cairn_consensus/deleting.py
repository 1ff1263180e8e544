"""What consensus holds of a project, deleted in the background (`cairn_kit.database.deleting`)."""

from __future__ import annotations

from cairn_kit.database import Database, ProjectDeletions, Rows

PROJECT = Rows("project", "project")
"""Without it nobody asks, refits or concludes any more: it goes when the deletion is heard of."""

ROWS = (
    Rows("vote", "item", "question"),
    Rows("score", "item", "question"),
    Rows("truth", "item", "question"),
    Rows("item", "item"),
    Rows("decision", "item", "question"),
    Rows("annotation", "annotation"),
    Rows("counted", "project"),
    Rows("answers_given", "question", "labeler"),
    Rows("refit", "project"),
    Rows("refitting", "project"),
    Rows("undecided_item", "number bigint", "item"),
    Rows("asked_refit", "number bigint"),
)


def deletions_of(database: Database) -> ProjectDeletions:
    """Deletes all rows of a project; each replica forgets its state by itself (`Handlers.forget_deleted`)."""
    return ProjectDeletions(database, ROWS, at_once=PROJECT)
