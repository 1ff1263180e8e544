"""Event type -> handler: projects before their items, items before their labels."""

from __future__ import annotations

from cairn.events.v1.annotation_store_events_pb2 import (
    ItemsImported,
    LabelFinalized,
    ProjectCreated,
    ProjectDeleted,
    ProjectUpdated,
)
from cairn.events.v1.audit_events_pb2 import AuditFailed
from cairn_inference.handlers import Handlers
from cairn_kit.database import ProjectDeletions
from cairn_kit.events import Subscription


def subscriptions(handlers: Handlers, deletions: ProjectDeletions) -> list[Subscription]:
    """What inference listens to. A correction by audit arrives as the LabelFinalized that follows from it."""
    return [
        Subscription(ProjectCreated, handlers.on_projects),
        Subscription(ProjectUpdated, handlers.on_projects),
        Subscription(ItemsImported, handlers.on_items_imported),
        Subscription(LabelFinalized, handlers.on_labels),
        Subscription(AuditFailed, handlers.on_audits_failed),
        Subscription(ProjectDeleted, deletions.on_projects_deleted),
    ]
