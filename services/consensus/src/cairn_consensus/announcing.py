"""What consensus tells the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cairn.events.v1.consensus_events_pb2 import AnswersWanted, ConsensusDisputed, ConsensusReached
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.project_state import Announcement, ProjectState, Reached, Wanted
from cairn_consensus.store import ProjectKey
from cairn_kit.database import Transaction
from cairn_kit.events import Event, Received, announce


def announce_all(
    tx: Transaction,
    key: ProjectKey,
    state: ProjectState,
    said: Iterable[Announcement],
    causes: Mapping[ItemKey, Received[Any]],
) -> None:
    """Announce what was decided, each as an effect of the annotation that brought it about."""
    for one in said:
        name, revision = f"projects/{key.project}/items/{one.item}", state.items[one.item].revision
        message: ConsensusReached | AnswersWanted | ConsensusDisputed
        if isinstance(one, Reached):
            message = ConsensusReached(
                item=name,
                decisions=one.decisions,
                revision=revision,
                schema_version=state.project.schema_version,
            )
        elif isinstance(one, Wanted):
            message = AnswersWanted(item=name, answers_wanted=one.answers, revision=revision)
        else:
            message = ConsensusDisputed(item=name, reason=one.reason, leading=one.leading, revision=revision)
        announce(tx, Event(message, key.tenant, key.project, name, revision), cause=causes.get(one.item))
