"""What the store hands out about projects, labels, audits and findings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cairn.annotation.v1.annotation_store_pb2 import LabelSource
from cairn.label.v1.label_value_pb2 import Answer
from cairn_audit.domain import names
from cairn_audit.domain.judging import Judgement
from cairn_audit.domain.names import AuditId, ItemKey, Tenant
from cairn_audit.domain.verdict import AuditPhase


@dataclass(frozen=True, slots=True)
class AuditKey:
    """Which audit."""

    tenant: Tenant
    project: names.Project
    audit: AuditId

    @property
    def name(self) -> str:
        """Its resource name."""
        return names.audit_name(self.project, self.audit)

    @property
    def columns(self) -> tuple[str, str, str]:
        """The key as every statement takes it."""
        return self.tenant, self.project, self.audit


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An audit, without its counts: those are always counted from its samples."""

    key: AuditKey
    phase: AuditPhase
    question: str
    source: LabelSource.ValueType
    max_error: float
    confidence: float
    seed: int
    create_time: datetime
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class StandingLabel:
    """The label that stands, as last heard; its answer is empty where no event could carry it."""

    tenant: Tenant
    project: names.Project
    question: str
    item: ItemKey
    revision: int
    source: LabelSource.ValueType
    class_id: str
    band: int
    confidence: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class OpenSample:
    """A drawn label that is not judged yet."""

    label_revision: int
    label_answer: Answer
    """Empty until it is read, where no event could carry it."""
    reviews_wanted: int
    """In all: one more than there are reviewers who could not tell."""


@dataclass(frozen=True, slots=True)
class FindingRow:
    """What one review said of a drawn label."""

    finding: str
    item: ItemKey
    judgement: Judgement
    review_answer: Answer
    reviewer: str
    annotation: str
    create_time: datetime
    label_revision: int
    label_answer: Answer


@dataclass(frozen=True, slots=True)
class UnreadLabel:
    """A drawn label whose answer no event could carry, and which is not read yet."""

    key: AuditKey
    item: ItemKey
    question: str
    revision: int

    @property
    def name(self) -> str:
        """The resource name of what was drawn."""
        return names.label_revision_name(self.key.project, self.item, self.question, self.revision)


@dataclass(frozen=True, slots=True)
class ReviewTask:
    """The task by which a drawn label is reviewed."""

    key: AuditKey
    item: ItemKey
    name: str


@dataclass(frozen=True, slots=True)
class ReviewWish:
    """A review to be asked for: so many answers in all on this item."""

    item: ItemKey
    reviews: int
