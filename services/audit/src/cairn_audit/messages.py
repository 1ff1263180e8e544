"""Audit's resources as the API and the events show them."""

from __future__ import annotations

from cairn.audit.v1.audit_pb2 import (
    AUDIT_STATE_CANCELLED,
    AUDIT_STATE_FAILED,
    AUDIT_STATE_PASSED,
    AUDIT_STATE_REVIEWING,
    Audit,
    AuditPlan,
    Checkpoint,
    Finding,
    LedgerEntry,
    LedgerKey,
    Stratum,
)
from cairn_audit.domain import names
from cairn_audit.domain.checkpoint import LedgerPublicKey, SignedHead
from cairn_audit.domain.judging import Judgement
from cairn_audit.domain.records import Entry
from cairn_audit.domain.verdict import AuditPhase, StratumCount, error_of, in_words
from cairn_audit.store import AuditRow, FindingRow
from cairn_kit.times import timestamp

_STATES = {
    AuditPhase.REVIEWING: AUDIT_STATE_REVIEWING,
    AuditPhase.PASSED: AUDIT_STATE_PASSED,
    AuditPhase.FAILED: AUDIT_STATE_FAILED,
    AuditPhase.CANCELLED: AUDIT_STATE_CANCELLED,
}


def audit_message(audit: AuditRow, strata: list[StratumCount]) -> Audit:
    """An audit with its estimate as far as it has come."""
    error = error_of(strata, audit.confidence)
    message = Audit(
        name=audit.key.name,
        state=_STATES[audit.phase],
        plan=AuditPlan(
            question=audit.question,
            source=audit.source,
            sample_size=sum(stratum.sampled for stratum in strata),
            max_error=audit.max_error,
            confidence=audit.confidence,
            seed=audit.seed,
        ),
        strata=[_stratum(stratum) for stratum in strata],
        sampled=sum(stratum.sampled for stratum in strata),
        reviewed=sum(stratum.reviewed for stratum in strata),
        wrong=sum(stratum.wrong for stratum in strata),
        error_estimate=error.estimate,
        error_low=error.low,
        error_high=error.high,
        verdict=in_words(audit.phase, strata, error, audit.max_error, audit.confidence),
    )
    message.create_time.CopyFrom(timestamp(audit.create_time))
    if audit.end_time is not None:
        message.end_time.CopyFrom(timestamp(audit.end_time))
    return message


def finding_message(audit: AuditRow, row: FindingRow) -> Finding:
    """What one reviewer saw."""
    message = Finding(
        name=f"{audit.key.name}/findings/{row.finding}",
        label=names.label_revision_name(audit.key.project, row.item, audit.question, row.label_revision),
        label_answer=row.label_answer,
        review_answer=row.review_answer,
        wrong=row.judgement is Judgement.WRONG,
        reviewer=row.reviewer,
        annotation=row.annotation,
    )
    message.create_time.CopyFrom(timestamp(row.create_time))
    return message


def checkpoint_message(signed: SignedHead) -> Checkpoint:
    """A signed head of the ledger."""
    message = Checkpoint(
        origin=signed.head.origin, size=signed.head.size, root_hash=signed.head.root, note=signed.note
    )
    message.create_time.CopyFrom(timestamp(signed.create_time))
    return message


def entry_message(entry: Entry) -> LedgerEntry:
    """An entry of the ledger."""
    message = LedgerEntry(index=entry.index, record=entry.record, leaf_hash=entry.leaf_hash)
    if entry.erasure is not None:
        message.erasure.event_id = str(entry.erasure.event_id)
        message.erasure.time.CopyFrom(timestamp(entry.erasure.time))
    return message


def key_message(key: LedgerPublicKey, origin: str) -> LedgerKey:
    """A public key, as the verifier key of one ledger."""
    return LedgerKey(key_id=key.key_id, public_key=key.public_key, verifier_key=key.verifier_key(origin))


def _stratum(stratum: StratumCount) -> Stratum:
    return Stratum(
        source=stratum.source,
        class_id=stratum.class_id,
        confidence_low=stratum.confidence_low,
        confidence_high=stratum.confidence_high,
        population=stratum.population,
        sampled=stratum.sampled,
        reviewed=stratum.reviewed,
        wrong=stratum.wrong,
    )
