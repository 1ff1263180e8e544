"""Event type -> handler."""

from __future__ import annotations

from cairn.events.v1.annotation_store_events_pb2 import (
    AnnotationSubmitted,
    ItemsImported,
    ProjectCreated,
    ProjectDeleted,
    ProjectUpdated,
)
from cairn.events.v1.audit_events_pb2 import LabelCorrected
from cairn.events.v1.inference_events_pb2 import ItemsRouted, ItemsScored
from cairn_consensus.handlers import Handlers
from cairn_kit.database import ProjectDeletions
from cairn_kit.events import Subscription


def subscriptions(handlers: Handlers, deletions: ProjectDeletions) -> list[Subscription]:
    """What consensus hears."""
    return [
        Subscription(ProjectCreated, handlers.on_projects),
        Subscription(ProjectUpdated, handlers.on_projects),
        Subscription(ItemsImported, handlers.on_items_imported),
        Subscription(AnnotationSubmitted, handlers.on_annotations),
        Subscription(ItemsScored, handlers.on_items_scored),
        Subscription(ItemsRouted, handlers.on_items_routed),
        Subscription(LabelCorrected, handlers.on_labels_corrected),
        Subscription(ProjectDeleted, deletions.on_projects_deleted),
    ]
