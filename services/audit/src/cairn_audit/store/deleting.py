"""What audit holds of a project beside the ledger, in the order in which it can be deleted: what refers to something
before it."""

from __future__ import annotations

from cairn_kit.database import Rows

PROJECT = Rows("project", "project")
"""Without it nobody draws from the project's labels any more: it goes when the deletion is heard of."""

PARTS = (
    Rows("finding", "audit", "finding"),
    Rows("sample", "audit", "item"),
    Rows("stratum", "audit", "stratum bigint"),
    Rows("audit", "audit"),
    Rows("label", "question", "item"),
)
