"""Which label stands: precedence of sources, order of revisions, and when an item is complete. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.answers import is_asked
from cairn_annotation_store.domain.names import ItemKey, ProjectId, QuestionId, Tenant

NO_EVENT = UUID(int=0)
"""The event of a label that came with its item."""


class Source(IntEnum):
    """Where a label came from, in the order of precedence: a lower source never replaces a higher one.

    AUTO -> CONSENSUS -> GOLD -> CORRECTION     each may also be replaced by a later one of its own kind
    """

    AUTO = pb.LABEL_SOURCE_AUTO
    CONSENSUS = pb.LABEL_SOURCE_CONSENSUS
    GOLD = pb.LABEL_SOURCE_GOLD
    CORRECTION = pb.LABEL_SOURCE_CORRECTION


@dataclass(frozen=True, slots=True, order=True)
class LabelKey:
    """One question of one item."""

    tenant: Tenant
    project: ProjectId
    item: ItemKey
    question: QuestionId


@dataclass(frozen=True, slots=True)
class Rank:
    """What decides between two labels of one question: the source, then the source's own order, then the event.

    `order` is what the source counts by: consensus and routing count their decisions on the item; a correction
    names the revision it judged. Event ids are UUIDv7, so that of two equals the later announced one stands.
    """

    source: Source
    order: int
    event_id: UUID

    def replaces(self, standing: Rank | None) -> bool:
        """Whether a label of this rank takes the place of the one that stands."""
        if standing is None:
            return True
        if self.source != standing.source:
            return self.source > standing.source
        return (self.order, self.event_id) > (standing.order, standing.event_id)


@dataclass(frozen=True, slots=True)
class LabelRevision:
    """One revision of a label, as it is kept."""

    key: LabelKey
    revision: int
    rank: Rank
    answer: value_pb.Answer
    confidence: float
    provenance: pb.Provenance


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a source says the label should be."""

    key: LabelKey
    rank: Rank
    answer: value_pb.Answer
    confidence: float
    provenance: pb.Provenance


def next_revision(standing: LabelRevision | None, proposal: Proposal) -> LabelRevision | None:
    """The revision that the proposal makes, or None when the label that stands goes on standing."""
    if not proposal.rank.replaces(None if standing is None else standing.rank):
        return None
    return LabelRevision(
        key=proposal.key,
        revision=1 if standing is None else standing.revision + 1,
        rank=proposal.rank,
        answer=proposal.answer,
        confidence=proposal.confidence,
        provenance=proposal.provenance,
    )


def completeness(schema: schema_pb.LabelSchema, standing: Mapping[str, LabelRevision]) -> Source | None:
    """The lowest source among the labels an item needs, or None while one is missing.

    Needed is each required question whose condition holds under the labels that stand; when the schema requires
    nothing, any one label completes the item.
    """
    answers = {question: label.answer for question, label in standing.items()}
    needed = [q.id for q in schema.questions if q.required and is_asked(q, answers)]
    if not any(q.required for q in schema.questions):
        needed = list(standing)
    if not needed or any(question not in standing for question in needed):
        return None
    return min(standing[question].rank.source for question in needed)
