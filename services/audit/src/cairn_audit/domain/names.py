"""Resource names, read and written in one place."""

from __future__ import annotations

from typing import NewType

Tenant = NewType("Tenant", str)
Project = NewType("Project", str)
"""The bare id: `birds`, of `projects/birds`."""
AuditId = NewType("AuditId", str)
ItemKey = NewType("ItemKey", str)
"""The bare key, of `projects/{project}/items/{item}`."""


def project_of(name: str) -> Project:
    """The project of any resource name below `projects/`."""
    return Project(name.split("/", 2)[1])


def last_part(name: str) -> str:
    """The id at the end of a resource name."""
    return name.rsplit("/", 1)[1]


def project_name(project: Project) -> str:
    """`projects/{project}`."""
    return f"projects/{project}"


def item_name(project: Project, item: ItemKey) -> str:
    """`projects/{project}/items/{item}`."""
    return f"projects/{project}/items/{item}"


def label_revision_name(project: Project, item: ItemKey, question: str, revision: int) -> str:
    """`projects/{project}/items/{item}/labels/{question}@{revision}`."""
    return f"{item_name(project, item)}/labels/{question}@{revision}"


def audit_name(project: Project, audit: AuditId) -> str:
    """`projects/{project}/audits/{audit}`."""
    return f"projects/{project}/audits/{audit}"
