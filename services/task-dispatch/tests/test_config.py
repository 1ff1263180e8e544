"""Settings that would break a promise are refused at the start."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from cairn_task_dispatch.config import DispatchSettings


def settings(**told: float) -> DispatchSettings:
    return DispatchSettings(postgres_dsn="postgresql://", jwks_file=Path("jwks.json"), **told)


def test_leases_are_asked_about_when_answers_in_time_can_be_seen():
    assert settings().expiry_grace > 10
    assert settings(expiry_grace=11).expiry_grace == 11
    with pytest.raises(ValidationError, match="expiry_grace"):
        settings(expiry_grace=10)
