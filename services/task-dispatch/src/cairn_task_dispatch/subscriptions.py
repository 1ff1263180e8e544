"""Event type -> handler.

A batch is handled type by type in this order: projects before their items, items before their answers. The order
within a batch does not matter, for every fact has its revision.
"""

from __future__ import annotations

from cairn.events.v1.annotation_store_events_pb2 import (
    AnnotationSubmitted,
    ItemsImported,
    LabelFinalized,
    ProjectCreated,
    ProjectDeleted,
    ProjectUpdated,
)
from cairn.events.v1.consensus_events_pb2 import AnswersWanted, ConsensusDisputed, ConsensusReached
from cairn.events.v1.inference_events_pb2 import ItemsRouted
from cairn_kit.database import ProjectDeletions
from cairn_kit.events import Subscription
from cairn_task_dispatch.handlers.hearing import Hearings


def subscriptions(hearings: Hearings, deletions: ProjectDeletions) -> list[Subscription]:
    """What task-dispatch listens to."""
    return [
        Subscription(ProjectCreated, hearings.on_projects_created),
        Subscription(ProjectUpdated, hearings.on_projects_updated),
        Subscription(ItemsImported, hearings.on_items_imported),
        Subscription(ItemsRouted, hearings.on_items_routed),
        Subscription(AnswersWanted, hearings.on_answers_wanted),
        Subscription(ConsensusReached, hearings.on_consensus_reached),
        Subscription(ConsensusDisputed, hearings.on_consensus_disputed),
        Subscription(LabelFinalized, hearings.on_labels_finalized),
        Subscription(AnnotationSubmitted, hearings.on_annotations),
        Subscription(ProjectDeleted, deletions.on_projects_deleted),
    ]
