"""The only caller of SQL."""

from cairn_audit.store.audits import AuditStore
from cairn_audit.store.ledger import LedgerSize, LedgerStore, Rows
from cairn_audit.store.rows import (
    AuditKey,
    AuditRow,
    FindingRow,
    OpenSample,
    ReviewTask,
    ReviewWish,
    StandingLabel,
    UnreadLabel,
)

__all__ = [
    "AuditKey",
    "AuditRow",
    "AuditStore",
    "FindingRow",
    "LedgerSize",
    "LedgerStore",
    "OpenSample",
    "ReviewTask",
    "ReviewWish",
    "Rows",
    "StandingLabel",
    "UnreadLabel",
]
