"""What inference keeps, as it is read back: one frozen value a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from cairn_inference.domain.calibration import Evaluation
from cairn_inference.domain.features import Content
from cairn_inference.domain.names import version_name
from cairn_inference.domain.routing import Route, Stop


@dataclass(frozen=True, slots=True)
class Policy:
    """What a project wants of its model, with the defaults filled in.

    `question` is empty when nothing can be routed; `unroutable` says why.
    """

    question: str
    unroutable: str
    class_ids: tuple[str, ...]
    alpha: float
    delta: float
    validation_share: float
    min_answers: int
    max_answers: int
    automatic: bool

    @property
    def promised(self) -> tuple[float, float, str, frozenset[str]]:
        """What a bound is about: one that was set for another error, risk, question or set of classes no longer holds."""
        return self.alpha, self.delta, self.question, frozenset(self.class_ids)


@dataclass(frozen=True, slots=True)
class Project:
    """A project, its policy, and where its model and its routing stand.

    `routed_question` is the one that labels and scores are of: the policy's, or, while routing is off, the last. While a
    project moves, those of items after `moved_until` are still of the question `moving_from` ('' when it is the first).
    `smallest_share` is the smallest validation share ever in force.
    """

    tenant: str
    id: str
    revision: int
    policy: Policy
    routed_question: str
    smallest_share: float
    serving_model: str | None
    serving_version: int | None
    score_round: int
    route_round: int
    routed_scores: int
    threshold: int | None
    threshold_score: float | None
    threshold_at: datetime | None
    threshold_coverage: float | None
    thresholds: int
    validation_round: int
    validation_items: int
    validation_scores: int
    stop: Stop
    stop_reason: str
    stop_revision: int
    drift_items: int
    labels_trained: int
    moving_from: str | None
    moved_until: str | None
    moving_since: datetime | None

    @property
    def moves(self) -> bool:
        """Whether items have still to follow to another question."""
        return self.moving_from is not None

    @property
    def serving(self) -> str:
        """The resource name of the version that serves; empty when there is none."""
        if self.serving_model is None or self.serving_version is None:
            return ""
        return version_name(self.id, self.serving_model, self.serving_version)


class ItemRef(NamedTuple):
    """An item of any tenant."""

    tenant: str
    project: str
    key: str


class NewItem(NamedTuple):
    """An item as it is first written; one of the validation sample keeps its lot (`domain.routing.lot`).

    A tuple, for imports: a frozen dataclass takes five times as long to make.
    """

    tenant: str
    project: str
    key: str
    validation: bool
    lot: float | None
    gold: bool
    hint: float
    content: Content
    body: str | None
    blob: str | None
    feature_error: str
    route: Route
    priority: float
    gold_class: str | None

    @property
    def ref(self) -> ItemRef:
        """Which item it is."""
        return ItemRef(self.tenant, self.project, self.key)


@dataclass(frozen=True, slots=True)
class HeardLabel:
    """The label that stands for a choice question of an item; `class_id` is None for an abstention."""

    tenant: str
    project: str
    key: str
    question: str
    class_id: str | None
    source: int
    confidence: float
    revision: int


@dataclass(frozen=True, slots=True)
class Unfeatured:
    """An item whose features are wanted."""

    ref: ItemRef
    content: Content
    body: str | None
    blob: str | None
    tries: int


@dataclass(frozen=True, slots=True)
class Featured:
    """Features of an item, if there are any: extraction and packed vector, or why there are none (yet)."""

    spec: str | None
    vector: bytes | None
    error: str


@dataclass(frozen=True, slots=True)
class Unscored:
    """An item that the serving version has not looked at.

    There is no vector where it does not read such features; `out_of_fold` is packed float32, for a training item.
    """

    key: str
    validation: bool
    vector: bytes | None
    out_of_fold: bytes | None


@dataclass(frozen=True, slots=True)
class Score:
    """What the serving version says of an item."""

    key: str
    predicted: str
    score: float
    margin: float


@dataclass(frozen=True, slots=True)
class ValidationScore:
    """The serving version's score of a validation item, whether people have settled its label, and whether a threshold
    has let it through, with this version's answer or an earlier one's."""

    key: str
    predicted: str
    score: float
    labeled: bool
    through: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Routable:
    """An open item to be sent somewhere; score, margin and class are None when the model does not read it."""

    key: str
    score: float | None
    margin: float | None
    predicted: str | None
    gold: bool
    route: Route
    priority: float
    revision: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """An item that waited for a score that does not come."""

    ref: ItemRef
    hint: float
    revision: int


@dataclass(frozen=True, slots=True)
class Routed:
    """Where an item goes from now on, as the `revision`-th announcement."""

    key: str
    route: Route
    priority: float
    revision: int


class VersionState(IntEnum):
    """As in cairn.inference.v1.ModelVersionState."""

    CANDIDATE = 1
    SERVING = 2
    RETIRED = 3


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A model version to be added; the file with this digest is in the model store."""

    model: str
    sha256: str
    features: str
    class_ids: tuple[str, ...]
    training_labels: int
    evaluation: Evaluation | None
    training_run: str | None


@dataclass(frozen=True, slots=True)
class Version:
    """A model version."""

    tenant: str
    project: str
    number: int
    state: VersionState
    made: NewVersion
    created_at: datetime

    @property
    def name(self) -> str:
        """Its resource name."""
        return version_name(self.project, self.made.model, self.number)


@dataclass(frozen=True, slots=True)
class AskedVersion:
    """A version that somebody wants an answer from; without model and number, the serving one."""

    tenant: str
    project: str
    model: str | None
    number: int | None


class RunState(IntEnum):
    """As in cairn.inference.v1.TrainingRunState.

    PENDING --> RUNNING --> FINISHED, FAILED; PENDING and RUNNING --> CANCELLED. A crash leaves RUNNING, which is
    begun again.
    """

    PENDING = 1
    RUNNING = 2
    FINISHED = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self not in {RunState.PENDING, RunState.RUNNING}


@dataclass(frozen=True, slots=True)
class Run:
    """A training run."""

    tenant: str
    project: str
    id: str
    state: RunState
    attempts: int
    labels: int
    model: str | None
    version: int | None
    error_code: int
    error_reason: str
    error_message: str
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewLabels:
    """A project whose labels have changed since they were counted; `seen` tells its row from any later one."""

    tenant: str
    project: str
    seen: str


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What a head is trained on, row by row: items, class ids, confidences and packed features."""

    keys: Sequence[str]
    class_ids: Sequence[str]
    confidences: Sequence[float]
    vectors: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class NewThreshold:
    """What a validation round found; `score` is above 1 when nothing passes."""

    score: float
    alpha: float
    delta: float
    round: int
    round_delta: float
    validation_items: int
    validation_errors: float
    error_upper_bound: float
    coverage: float
    model: str
    model_version: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold, numbered in its project."""

    number: int
    found: NewThreshold
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ItemCounts:
    """Items labeled automatically, and items of the validation sample."""

    auto: int
    validation: int
