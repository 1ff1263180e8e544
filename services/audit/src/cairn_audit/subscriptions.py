"""What audit hears, and what it does about it."""

from __future__ import annotations

from cairn.events.v1.annotation_store_events_pb2 import (
    AnnotationSubmitted,
    LabelFinalized,
    ProjectCreated,
    ProjectUpdated,
)
from cairn.events.v1.task_dispatch_events_pb2 import TasksClosed
from cairn_audit.handlers import Handlers
from cairn_audit.ledger import Ledger
from cairn_kit.events import Subscription


def subscriptions(handlers: Handlers, ledger: Ledger) -> list[Subscription]:
    """Everything goes into the ledger; then projects and labels before the reviews that judge them."""
    return [
        Subscription.everything(ledger.on_events),
        Subscription(ProjectCreated, handlers.on_projects_created),
        Subscription(ProjectUpdated, handlers.on_projects_updated),
        Subscription(LabelFinalized, handlers.on_labels),
        Subscription(AnnotationSubmitted, handlers.on_annotations),
        Subscription(TasksClosed, handlers.on_tasks_closed),
    ]
