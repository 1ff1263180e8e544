"""What clients saw of a run, and whether it and what was exported keep the promises.

Nothing is read of a database or a service's inside: who was told what, and what the export says, is all there is.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease as its labeler saw it: asked for at ``asked``, there at ``seen``, good for ``seconds`` from in between."""

    item: str
    labeler: str
    asked: float
    seen: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was acknowledged: under which lease, and whether it was said to be late."""

    lease: str
    late: bool


@dataclass(slots=True)
class History:
    """What the clients of one project saw."""

    imported: set[str] = field(default_factory=set)
    granted: dict[str, Granted] = field(default_factory=dict)
    """By the lease's name."""
    tried: set[str] = field(default_factory=set)
    """Leases under which an answer was sent, acknowledged or not."""
    kept: dict[str, Kept] = field(default_factory=dict)
    """By the annotation's name."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An annotation of the export."""

    name: str
    item: str
    labeler: str
    late: bool


@dataclass(frozen=True, slots=True)
class Exported:
    """The items that have a label, one entry a label, and all annotations."""

    labeled: list[str]
    annotations: list[Answered]


def exported(lines: Iterable[bytes]) -> Exported:
    """Read an export of a project with one question, as JSON lines with annotations."""
    labeled, annotations = [], []
    for line in lines:
        label = json.loads(line)
        labeled.append(label["item"])
        annotations += [
            Answered(one["name"], label["item"], one["labeler"], one["late"]) for one in label["annotations"]
        ]
    return Exported(labeled, annotations)


def broken_promises(history: History, found: Exported, wanted: int) -> list[str]:
    """Every way in which the run broke P1, P2 or P3, in plain words; ``wanted`` answers an item were asked for."""
    return [
        *_lost(history, found),
        *_doubled(found),
        *_invented(history, found),
        *_over_asked(history, found, wanted),
        *_unlabeled(history, found),
    ]


def _lost(history: History, found: Exported) -> Iterator[str]:
    there = {one.name: one for one in found.annotations}
    for name, kept in history.kept.items():
        granted = history.granted[kept.lease]
        one = there.get(name)
        if one is None:
            yield f"{name} was acknowledged and is not exported"
        elif (one.item, one.labeler) != (granted.item, granted.labeler):
            yield f"{name} was given by {granted.labeler} to {granted.item}, and is exported otherwise"


def _doubled(found: Exported) -> Iterator[str]:
    for name, times in Counter(one.name for one in found.annotations).items():
        if times > 1:
            yield f"{name} is exported {times} times"
    for (item, labeler), times in Counter((one.item, one.labeler) for one in found.annotations).items():
        if times > 1:
            yield f"{labeler} answered {item} {times} times"


def _invented(history: History, found: Exported) -> Iterator[str]:
    tried = {(history.granted[lease].item, history.granted[lease].labeler) for lease in history.tried}
    for one in found.annotations:
        if one.name not in history.kept and (one.item, one.labeler) not in tried:
            yield f"{one.name} was sent by nobody"


def _over_asked(history: History, found: Exported, wanted: int) -> Iterator[str]:
    in_time = Counter(one.item for one in found.annotations if not one.late)
    for item, answers in in_time.items():
        if answers > wanted:
            yield f"{item} has {answers} answers in time, and {wanted} were wanted"
    for item, spans in _rights(history).items():
        most = _most_at_once(spans)
        if most > wanted:
            yield f"{item} was with {most} labelers at once, answers counted, and {wanted} were wanted"


def _rights(history: History) -> Mapping[str, list[tuple[float, float]]]:
    """From when to when each lease surely held one of its item's places: for ever, once it was answered in time."""
    answered = {kept.lease for kept in history.kept.values() if not kept.late}
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for lease, granted in history.granted.items():
        end = float("inf") if lease in answered else granted.asked + granted.seconds
        if end > granted.seen:
            spans[granted.item].append((granted.seen, end))
    return spans


def _most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    changes = sorted(change for begin, end in spans for change in ((begin, 1), (end, -1)))
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def _unlabeled(history: History, found: Exported) -> Iterator[str]:
    labeled = Counter(found.labeled)
    for item in sorted(history.imported - set(labeled)):
        yield f"{item} was imported and has no label"
    for item, times in labeled.items():
        if times > 1:
            yield f"{item} has {times} labels that stand"
        if item not in history.imported:
            yield f"{item} has a label and was never imported"
