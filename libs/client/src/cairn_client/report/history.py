"""A project's life, read from the ledger: what people were asked, what labels stood when, what models came and went."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field

from cairn.annotation.v1.annotation_store_pb2 import AnnotationKind, Label, LabelSource
from cairn.audit.v1.audit_pb2 import LedgerEntry, LedgerRecord
from cairn.events.v1.annotation_store_events_pb2 import AnnotationSubmitted, LabelFinalized
from cairn.events.v1.inference_events_pb2 import (
    AutoLabelingResumed,
    AutoLabelingStopped,
    ModelPromoted,
    ModelVersionCreated,
    ThresholdSet,
)
from cairn.inference.v1.inference_pb2 import ModelVersion, Threshold
from cairn_client.names import item_key

_MOST_POINTS = 400
_EVENTS = "cairn.events.v1."


@dataclass(frozen=True, slots=True)
class Point:
    """How a project stood after so many answers by people.

    `right` counts right labels among `judged`, those whose truth is known; `confidence` is the labels' mean.
    """

    answers: int
    labeled: int
    auto: int
    right: int
    judged: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to a model or to routing, after so many answers."""

    answers: int
    what: str
    detail: str = ""


@dataclass
class History:
    """What the ledger tells of one question of one project."""

    points: list[Point] = field(default_factory=list)
    versions: list[tuple[int, ModelVersion]] = field(default_factory=list)
    promoted: set[str] = field(default_factory=set)
    thresholds: list[tuple[int, Threshold]] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    answers_per_item: Counter[str] = field(default_factory=Counter)
    answers: int = 0
    gold_answers: int = 0
    reviews: int = 0
    late: int = 0
    entries: int = 0


class Historian:
    """Reads ledger entries in order and keeps count."""

    def __init__(self, project: str, question: str, is_right: Callable[[str, Label], bool | None]) -> None:
        """`is_right(item key, label)` says whether a label is right, or None where the truth is not known."""
        self.history = History()
        self._project = project
        self._question = question
        self._is_right = is_right
        self._labels: dict[str, tuple[LabelSource.ValueType, bool | None, float]] = {}
        self._auto = self._right = self._judged = 0
        self._confidence = 0.0
        self._points: list[Point] = []
        self._every = 1

    async def read(self, entries: AsyncIterable[LedgerEntry]) -> History:
        """Read all entries."""
        async for entry in entries:
            self.add(LedgerRecord.FromString(entry.record))
        self._mark(force=True)
        self.history.points = self._points
        return self.history

    def add(self, record: LedgerRecord) -> None:
        """Take note of one event; those of other projects are passed over."""
        if record.project != self._project:
            return
        self.history.entries += 1
        handle = _HANDLERS.get(record.event_type.removeprefix(_EVENTS))
        if handle is not None:
            handle(self, record.data)

    def _annotation(self, data: bytes) -> None:
        event = AnnotationSubmitted.FromString(data)
        kind = event.annotation.kind
        self.history.late += event.annotation.late
        if kind == AnnotationKind.ANNOTATION_KIND_REVIEW:
            self.history.reviews += 1
            return
        if kind == AnnotationKind.ANNOTATION_KIND_GOLD:
            self.history.gold_answers += 1
        self.history.answers += 1
        self.history.answers_per_item[item_key(event.item)] += 1
        self._mark()

    def _label(self, data: bytes) -> None:
        event = LabelFinalized.FromString(data)
        if event.question != self._question:
            return
        self._count(self._labels.pop(event.item, None), -1)
        now = (event.label.source, self._is_right(item_key(event.item), event.label), event.label.confidence)
        self._labels[event.item] = now
        self._count(now, +1)
        self._mark()

    def _count(self, label: tuple[LabelSource.ValueType, bool | None, float] | None, by: int) -> None:
        if label is None:
            return
        source, right, confidence = label
        self._auto += by * (source == LabelSource.LABEL_SOURCE_AUTO)
        self._judged += by * (right is not None)
        self._right += by * bool(right)
        self._confidence += by * confidence

    def _mark(self, *, force: bool = False) -> None:
        """A point on the curve; when there are too many, every other one is dropped and the steps double."""
        answers = self.history.answers
        if self._points and self._points[-1].answers + self._every > answers and not force:
            return
        labeled = len(self._labels)
        self._points.append(
            Point(
                answers,
                labeled,
                self._auto,
                self._right,
                self._judged,
                self._confidence / labeled if labeled else 0.0,
            )
        )
        if len(self._points) > 2 * _MOST_POINTS:
            self._points = self._points[::2]
            self._every *= 2

    def _version(self, data: bytes) -> None:
        version = ModelVersionCreated.FromString(data).model_version
        self.history.versions.append((self.history.answers, version))

    def _promoted(self, data: bytes) -> None:
        name = ModelPromoted.FromString(data).model_version.name
        self.history.promoted.add(name)
        self.history.moments.append(Moment(self.history.answers, "promoted", name))

    def _threshold(self, data: bytes) -> None:
        threshold = ThresholdSet.FromString(data).threshold
        self.history.thresholds.append((self.history.answers, threshold))

    def _stopped(self, data: bytes) -> None:
        reason = AutoLabelingStopped.FromString(data).reason
        self.history.moments.append(Moment(self.history.answers, "stopped", reason))

    def _resumed(self, data: bytes) -> None:
        AutoLabelingResumed.FromString(data)
        self.history.moments.append(Moment(self.history.answers, "resumed"))


_HANDLERS: Mapping[str, Callable[[Historian, bytes], None]] = {
    "AnnotationSubmitted": Historian._annotation,
    "LabelFinalized": Historian._label,
    "ModelVersionCreated": Historian._version,
    "ModelPromoted": Historian._promoted,
    "ThresholdSet": Historian._threshold,
    "AutoLabelingStopped": Historian._stopped,
    "AutoLabelingResumed": Historian._resumed,
}
