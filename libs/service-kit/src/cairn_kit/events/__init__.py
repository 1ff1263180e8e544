"""Events that are neither lost nor doubled: outbox and relay on one side, inbox and dead letters on the other."""

from cairn_kit.events.envelope import Event, EventTooLarge, Received
from cairn_kit.events.outbox import announce
from cairn_kit.events.subscription import NotYet, Subscription

__all__ = [
    "Event",
    "EventTooLarge",
    "NotYet",
    "Received",
    "Subscription",
    "announce",
]
