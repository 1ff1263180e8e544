"""Which labels are drawn for review: strata by source, class and confidence, and how many of each.

Labels of one stratum are expected to err alike, so that a sample of few tells much. Strata too small to tell
anything are merged: first neighbouring bands of confidence, then the rare classes of a source into one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cairn.annotation.v1.annotation_store_pb2 import LabelSource
from cairn_truth.quality.audit_statistics import Stratum as Lot
from cairn_truth.quality.audit_statistics import StratumFindings, acceptance_plan, allocate, estimate_error

BAND_EDGES = (0.0, 0.5, 0.8, 0.9, 0.97, 1.0)
"""Bands of confidence: [0, 0.5), ..., [0.97, 1]. Narrow where most labels are."""

LARGEST_AUTOMATIC_SAMPLE = 500
"""The most labels that are drawn when the plan does not say how many (AuditPlan.sample_size)."""

_SMALLEST_STRATUM = 20
_LABELS_PER_STRATUM = 10
_MOST_STRATA = 500
"""A sample is spread over at most a tenth as many strata as it has labels, and over no more than an event can tell of: each
takes up to a hundred bytes there, and a third of a millisecond whenever the error is estimated."""


EVERY_HASH = b"\xff" * 33
"""Above every SHA-256."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """The finest part of the population: one source, one class, one band of confidence."""

    source: LabelSource.ValueType
    class_id: str
    band: int


@dataclass(frozen=True, slots=True)
class CellCount:
    """How many labels a cell has, and the sum of their confidences."""

    cell: Cell
    labels: int
    confidence_sum: float


@dataclass(frozen=True, slots=True)
class Stratum:
    """Cells that are drawn from together."""

    source: LabelSource.ValueType
    class_id: str
    """Empty where the stratum holds labels of several classes, or of none."""
    cells: tuple[Cell, ...]
    population: int
    expected_error: float
    """One minus the mean confidence: a guess that steers the draw, never the estimate."""

    @property
    def confidence_low(self) -> float:
        """The lower end of its confidence."""
        return BAND_EDGES[min(cell.band for cell in self.cells)]

    @property
    def confidence_high(self) -> float:
        """The upper end of its confidence."""
        return BAND_EDGES[max(cell.band for cell in self.cells) + 1]


@dataclass(frozen=True, slots=True)
class Design:
    """The strata, and how many labels are drawn from each."""

    strata: tuple[Stratum, ...]
    drawn: tuple[int, ...]

    @property
    def sampled(self) -> int:
        """Labels drawn in all."""
        return sum(self.drawn)


def band_of(confidence: float) -> int:
    """The band in `BAND_EDGES` that a confidence falls into, from 0."""
    inner = BAND_EDGES[1:-1]
    return sum(confidence >= edge for edge in inner)


def design(counts: Sequence[CellCount], sample_size: int, max_error: float, confidence: float) -> Design:
    """Choose the strata and the draw; `sample_size` 0 means as many as `max_error` needs.

    Takes seconds where classes are many: 1.4 for 200,000 cells.
    """
    population = sum(count.labels for count in counts)
    if population == 0:
        raise ValueError("there are no labels to draw from")
    most = min(sample_size or LARGEST_AUTOMATIC_SAMPLE, population)
    strata = stratify(counts, max(1, min(most // _LABELS_PER_STRATUM, _MOST_STRATA)))
    size = min(sample_size or needed_sample(strata, max_error, confidence), population)
    # No stratum stays unseen, and no minimum may swell the sample beyond what was asked for.
    least = max(1, min(5, size // len(strata)))
    drawn = allocate(_lots(strata), size, min_per_stratum=least)
    return Design(tuple(strata), tuple(drawn[str(place)] for place in range(len(strata))))


def hash_bound(drawn: int, population: int) -> bytes:
    """A bound below which the SHA-256 of at least ``drawn`` of so many labels lie, but for once in 10^12 times.

    Where ``expected`` of them are to be below it, fewer than ``drawn`` are there with a probability of at most
    exp(-(expected - drawn)^2 / (2 expected)) (Chernoff).
    """
    expected = drawn + 8.0 * math.sqrt(drawn) + 60.0
    if expected >= population:
        return EVERY_HASH
    return int(expected / population * 2.0**64).to_bytes(8, "big")


def stratify(counts: Iterable[CellCount], most_strata: int) -> list[Stratum]:
    """Merge cells into at most `most_strata` strata (or one a source), none needlessly small.

    The same counts give the same strata. Sources are never merged: what a model labeled alone is always looked at by itself.
    """
    by_source: dict[LabelSource.ValueType, list[CellCount]] = defaultdict(list)
    for count in sorted(counts, key=lambda counted: counted.cell):
        if count.labels:
            by_source[count.cell.source].append(count)
    smallest = _SMALLEST_STRATUM
    while True:
        strata = [s for source in sorted(by_source) for s in _strata_of(by_source[source], smallest)]
        if len(strata) <= max(most_strata, len(by_source)):
            return strata
        smallest *= 2


def needed_sample(strata: Sequence[Stratum], max_error: float, confidence: float) -> int:
    """How many labels must be drawn for an audit to pass if the labels are as good as their confidence says.

    Found by trying: with so many drawn and as many errors among them as are expected, and a little bad luck
    (one standard deviation), the upper bound must be at most `max_error`. At most `LARGEST_AUTOMATIC_SAMPLE`.
    """
    population = sum(stratum.population for stratum in strata)
    most = min(LARGEST_AUTOMATIC_SAMPLE, population)
    if not 0.0 < max_error < 1.0:
        return most
    one_sided = 1.0 - (1.0 - confidence) / 2.0
    size = min(most, acceptance_plan(population, alpha=max_error, confidence=one_sided).sample_size)
    while size < most and not _would_pass(strata, size, max_error, confidence):
        size = min(most, math.ceil(size * 1.2))
    return size


def _would_pass(strata: Sequence[Stratum], size: int, max_error: float, confidence: float) -> bool:
    drawn = allocate(_lots(strata), size)
    expected = [drawn[str(place)] * stratum.expected_error for place, stratum in enumerate(strata)]
    mean = sum(expected)
    unlucky = 1.0 + 1.0 / math.sqrt(mean) if mean > 0 else 0.0
    findings = _with_errors(strata, drawn, [errors * unlucky for errors in expected])
    return estimate_error(findings, confidence=confidence).upper <= max_error


def _with_errors(
    strata: Sequence[Stratum], drawn: Mapping[str, int], expected: Sequence[float]
) -> list[StratumFindings]:
    """Whole numbers of errors whose running sum follows that of the expected ones."""
    findings, owed = [], 0.5
    for place, (stratum, errors) in enumerate(zip(strata, expected, strict=True)):
        sampled = drawn[str(place)]
        owed += errors
        whole = min(int(owed), sampled)
        owed -= whole
        findings.append(StratumFindings(str(place), stratum.population, sampled, whole))
    return findings


def _lots(strata: Sequence[Stratum]) -> list[Lot]:
    return [Lot(str(place), s.population, s.expected_error) for place, s in enumerate(strata)]


def _strata_of(counts: Sequence[CellCount], smallest: int) -> list[Stratum]:
    """The strata of one source."""
    by_class: dict[str, list[CellCount]] = defaultdict(list)
    for count in counts:
        by_class[count.cell.class_id].append(count)
    rare = [name for name, cells in by_class.items() if _labels(cells) < smallest]
    rest = [count for name in rare for count in by_class[name]]
    groups: list[list[CellCount]] = []
    for name in sorted(by_class.keys() - set(rare)):
        groups.extend(_merge_bands(by_class[name], smallest))
    if rest:
        if groups and _labels(rest) < smallest:
            groups.sort(key=lambda group: (_labels(group), group[0].cell))
            groups[0] = groups[0] + rest
        else:
            groups.append(rest)
    return sorted((_stratum(group) for group in groups), key=lambda stratum: stratum.cells)


def _merge_bands(cells: Sequence[CellCount], smallest: int) -> list[list[CellCount]]:
    """Join neighbouring bands of one class, the smallest pair first, until none is too small."""
    groups = [[count] for count in sorted(cells, key=lambda counted: counted.cell.band)]
    while len(groups) > 1 and min(map(_labels, groups)) < smallest:
        small = min(range(len(groups)), key=lambda place: (_labels(groups[place]), place))
        pairs = [place for place, _ in enumerate(pairwise(groups)) if small in (place, place + 1)]
        left = min(pairs, key=lambda place: _labels(groups[place]) + _labels(groups[place + 1]))
        groups[left : left + 2] = [groups[left] + groups[left + 1]]
    return groups


def _stratum(group: Sequence[CellCount]) -> Stratum:
    cells = tuple(sorted(count.cell for count in group))
    classes = {cell.class_id for cell in cells}
    labels = _labels(group)
    mean = sum(count.confidence_sum for count in group) / labels
    return Stratum(
        source=cells[0].source,
        class_id=classes.pop() if len(classes) == 1 else "",
        cells=cells,
        population=labels,
        expected_error=min(max(1.0 - mean, 0.0), 1.0),
    )


def _labels(counts: Iterable[CellCount]) -> int:
    return sum(count.labels for count in counts)
