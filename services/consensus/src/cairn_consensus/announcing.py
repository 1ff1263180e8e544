"""What consensus tells the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cairn.events.v1.consensus_events_pb2 import (
    AnswersWanted,
    ConsensusDisputed,
    ConsensusReached,
    Decision,
    ReliabilitiesRefitted,
)
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.items import Announcement, Reached, Wanted
from cairn_consensus.domain.project_state import ProjectState
from cairn_consensus.store import Fitted, ProjectKey
from cairn_kit.database import Transaction
from cairn_kit.events import Event, Received, announce
from cairn_kit.events.envelope import LARGEST_BODY

Message = ConsensusReached | AnswersWanted | ConsensusDisputed

_ROOM = LARGEST_BODY - 1024
"""Bytes of decisions in one event, beside the names and numbers around them."""


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
        for message in _messages(one, name, revision, state.project.schema_version):
            announce(tx, Event(message, key.tenant, key.project, name, revision), cause=causes.get(one.item))


def announce_refit(tx: Transaction, key: ProjectKey, fitted: Fitted) -> None:
    """Announce a refit, by which all items are judged."""
    name = f"projects/{key.project}"
    refitted = ReliabilitiesRefitted(
        project=name,
        refit=fitted.refit,
        votes=fitted.votes,
        labelers=fitted.labelers,
        changed_items=fitted.changed_items,
        state_sha256=fitted.state_sha256,
    )
    announce(tx, Event(refitted, key.tenant, key.project, name, fitted.refit))


def _messages(said: Announcement, name: str, revision: int, schema_version: int) -> Iterator[Message]:
    """One event; several of the same revision where the decisions on an item's questions do not fit into one."""
    if isinstance(said, Reached):
        for decisions in _parts(said.decisions):
            yield ConsensusReached(
                item=name, decisions=decisions, revision=revision, schema_version=schema_version
            )
    elif isinstance(said, Wanted):
        yield AnswersWanted(item=name, answers_wanted=said.answers, revision=revision)
    else:
        # What leads is a help to the expert, who can do without the part that does not fit.
        leading = next(_parts([one for one in said.leading if _size(one) <= _ROOM]), [])
        yield ConsensusDisputed(item=name, reason=said.reason, leading=leading, revision=revision)


def _parts(decisions: Sequence[Decision]) -> Iterator[list[Decision]]:
    part: list[Decision] = []
    room = _ROOM
    for decision in decisions:
        if part and _size(decision) > room:
            yield part
            part, room = [], _ROOM
        part.append(decision)
        room -= _size(decision)
    if part:
        yield part


def _size(decision: Decision) -> int:
    """Its bytes in an event, with the tag and the length before it."""
    return decision.ByteSize() + 8
