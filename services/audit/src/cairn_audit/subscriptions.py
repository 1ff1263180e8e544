"""What audit hears, and what it does about it."""

from __future__ import annotations

from cairn.events.v1.annotation_store_events_pb2 import (
    AnnotationSubmitted,
    LabelFinalized,
    ProjectCreated,
    ProjectDeleted,
    ProjectUpdated,
)
from cairn.events.v1.task_dispatch_events_pb2 import TasksClosed
from cairn_audit.handlers import Handlers
from cairn_audit.ledger import Ledger
from cairn_audit.omitted_answers import OmittedAnswers
from cairn_kit.database import ProjectDeletions
from cairn_kit.events import Subscription


def subscriptions(
    handlers: Handlers, ledger: Ledger, answers: OmittedAnswers, deletions: ProjectDeletions
) -> list[Subscription]:
    """Everything goes into the ledger; then projects and labels before the reviews that judge them.

    What events came without is read first of all: the ledger is locked from its append to the commit, and nobody
    shall wait for it while we wait for a neighbour.
    """
    return [
        Subscription.everything(answers.on_events),
        Subscription.everything(ledger.on_events),
        Subscription(ProjectCreated, handlers.on_projects_created),
        Subscription(ProjectUpdated, handlers.on_projects_updated),
        Subscription(LabelFinalized, handlers.on_labels),
        Subscription(AnnotationSubmitted, handlers.on_annotations),
        Subscription(TasksClosed, handlers.on_tasks_closed),
        Subscription(ProjectDeleted, deletions.on_projects_deleted),
    ]
