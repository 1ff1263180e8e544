"""What audit may be told from outside."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cairn_kit.settings import ChassisSettings


class AuditSettings(ChassisSettings):
    """Settings of audit; every field is CAIRN_<FIELD> in the environment."""

    service_name: str = "audit"

    ledger_key_file: Path
    """Ed25519 private key (PKCS#8 PEM, mode 0600) that signs checkpoints. Never a token key."""

    checkpoint_seconds: float = Field(default=5.0, gt=0)
    """How often a checkpoint is signed when entries have come."""

    audit_seconds: float = Field(default=1.0, gt=0)
    """How often unfinished audits are looked at: reviews not asked for yet are asked for then."""
