"""The states of tasks, slots and leases, each drawn once. The schema's CHECKs hold the same names."""

from __future__ import annotations

from enum import Enum


class TaskKind(Enum):
    """What a task asks."""

    LABEL = "LABEL"
    GOLD = "GOLD"
    REVIEW = "REVIEW"


class TaskState(Enum):
    """Where a task stands.

    ::

        OPEN ----all slots answered----> FILLED
          ^ |                              | |
          | |        more wanted           | |
          | |<-----------------------------+ |
          | |                                |
          | +--label decided, auto-labeled,--+--> CLOSED
          |    disputed, or cancelled               |
          +-------------more wanted-----------------+
    """

    OPEN = "OPEN"
    FILLED = "FILLED"
    CLOSED = "CLOSED"


class SlotState(Enum):
    """Where a slot stands. A slot is never deleted: what was wanted once stays told.

    ::

        OPEN ---leased---> LEASED ---answered in time---> ANSWERED (final)
         ^ ^                 |
         | +--lease ended----+----task was closed meanwhile---> WITHDRAWN
         |                                                       ^  |
         +----task closed----------------------------------------+  |
         ^                                                          |
         +----------------------task opened again-------------------+
    """

    OPEN = "OPEN"
    LEASED = "LEASED"
    ANSWERED = "ANSWERED"
    WITHDRAWN = "WITHDRAWN"


class LeaseState(Enum):
    """Where a lease stands.

    ::

        LIVE --answer in time----------------> ANSWERED (final)
          | |--given back--------------------> RELEASED --+
          | |--given back for good-----------> SKIPPED  --+--an answer came all the same--> ANSWERED_LATE (final)
          | +--time over, and the store-------> EXPIRED --+                                   ^
          |    knows of no answer                                                             |
          +----answer after its time----------------------------------------------------------+

    An answer under a lease that has ended never takes a slot, which may be somebody else's by now, but it is recorded:
    that labeler has answered the item.
    """

    LIVE = "LIVE"
    ANSWERED = "ANSWERED"
    RELEASED = "RELEASED"
    SKIPPED = "SKIPPED"
    EXPIRED = "EXPIRED"
    ANSWERED_LATE = "ANSWERED_LATE"


class Route(Enum):
    """Where inference sends an item."""

    NONE = "NONE"
    AUTO = "AUTO"
    HUMAN = "HUMAN"


class Decision(Enum):
    """What consensus said last about an item."""

    NONE = "NONE"
    WANTED = "WANTED"
    REACHED = "REACHED"
    DISPUTED = "DISPUTED"
    """The answers do not agree; one of them may be accepted as the best."""
    UNDECIDABLE = "UNDECIDABLE"
    """Disputed too, but there is no best: no value was given, or values of this kind are never joined."""


def after_answer(state: LeaseState, *, late: bool) -> LeaseState:
    """The state of a lease under which an annotation was kept; `late` is the store's word on its time."""
    match state:
        case LeaseState.LIVE:
            return LeaseState.ANSWERED_LATE if late else LeaseState.ANSWERED
        case LeaseState.ANSWERED | LeaseState.ANSWERED_LATE:
            return state
        case _:
            return LeaseState.ANSWERED_LATE
