"""What an audit's findings say about the error of all the labels it was drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from cairn.annotation.v1.annotation_store_pb2 import LABEL_SOURCE_AUTO, LabelSource
from cairn_truth.quality.audit_statistics import StratumFindings, estimate_error


class AuditPhase(Enum):
    """Where an audit stands; the values are what the schema keeps (and enforces).

    REVIEWING --every sampled label is judged--> PASSED or FAILED
    REVIEWING --CancelAudit--> CANCELLED
    """

    REVIEWING = "reviewing"
    PASSED = "passed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class StratumCount:
    """A stratum with what was drawn and found in it."""

    source: LabelSource.ValueType
    class_id: str
    confidence_low: float
    confidence_high: float
    population: int
    sampled: int
    reviewed: int
    wrong: int
    excluded: int
    """Drawn, but nobody could tell: left out of the estimate."""


@dataclass(frozen=True, slots=True)
class ErrorInterval:
    """The estimated share of wrong labels, with its interval."""

    estimate: float
    low: float
    high: float


UNKNOWN = ErrorInterval(0.0, 0.0, 1.0)
"""Before anything was judged the error may be anything."""


def error_of(strata: Sequence[StratumCount], confidence: float) -> ErrorInterval:
    """The error of the population by what has been judged so far; strata not seen may be all wrong."""
    if not any(stratum.reviewed for stratum in strata):
        return UNKNOWN
    findings = [
        StratumFindings(str(place), stratum.population, stratum.reviewed, stratum.wrong)
        for place, stratum in enumerate(strata)
    ]
    seen = estimate_error(findings, confidence=confidence)
    return ErrorInterval(seen.estimate, seen.lower, seen.upper)


def phase_after(error: ErrorInterval, max_error: float) -> AuditPhase:
    """The verdict of a finished audit: passed when the upper end of the interval is at most `max_error`."""
    return AuditPhase.PASSED if error.high <= max_error else AuditPhase.FAILED


def covers_auto(strata: Sequence[StratumCount]) -> bool:
    """Whether labels that a model gave alone were among those audited."""
    return any(stratum.source == LABEL_SOURCE_AUTO and stratum.population for stratum in strata)


def in_words(
    phase: AuditPhase,
    strata: Sequence[StratumCount],
    error: ErrorInterval,
    max_error: float,
    confidence: float,
) -> str:
    """The verdict as a sentence or two."""
    reviewed = sum(stratum.reviewed for stratum in strata)
    sampled = sum(stratum.sampled for stratum in strata)
    if phase is AuditPhase.CANCELLED:
        return f"Cancelled after {reviewed} of {sampled} reviews."
    if phase is AuditPhase.REVIEWING:
        return f"{reviewed} of {sampled} labels are judged."
    wrong = sum(stratum.wrong for stratum in strata)
    text = (
        f"{wrong} of {reviewed} judged labels are wrong: an error of {error.estimate:.2%}, "
        f"{error.low:.2%} to {error.high:.2%} with confidence {confidence:.0%}; "
    )
    if phase is AuditPhase.PASSED:
        text += f"at most {max_error:.2%} was shown."
    elif error.low > max_error:
        text += f"above the {max_error:.2%} that is allowed."
    else:
        text += f"at most {max_error:.2%} was not shown."
    excluded = sum(stratum.excluded for stratum in strata)
    if excluded:
        text += f" {excluded} could not be judged and are left out."
    return text
