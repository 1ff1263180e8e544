"""Event type -> handler."""

from __future__ import annotations

from cairn.events.v1.audit_events_pb2 import LabelCorrected
from cairn.events.v1.consensus_events_pb2 import ConsensusReached
from cairn.events.v1.inference_events_pb2 import ItemsRouted
from cairn_annotation_store.handlers.labeling import LabelHandlers
from cairn_kit.events import Subscription


def subscriptions(labels: LabelHandlers) -> list[Subscription]:
    """What the store listens to: whoever may say what an item's label is."""
    return [
        Subscription(ConsensusReached, labels.on_consensus_reached),
        Subscription(ItemsRouted, labels.on_items_routed),
        Subscription(LabelCorrected, labels.on_label_corrected),
    ]
