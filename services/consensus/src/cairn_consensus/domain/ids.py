"""The names that consensus counts by."""

from __future__ import annotations

from typing import NewType

ItemKey = NewType("ItemKey", str)
QuestionId = NewType("QuestionId", str)
LabelerName = NewType("LabelerName", str)

_MODEL_PREFIX = "projects/"
"""A model's labelers are named after it; people are `labelers/...`."""

_BIN_EDGES = (0.5, 0.7, 0.85, 0.95)
"""Where a model's confidence is cut. Each bin's confusion is learnt like a labeler's, so a model that overstates its
confidence is found out; more bins would leave each with too few votes to learn from."""


def is_model(labeler: str) -> bool:
    """Whether a labeler is a model's confidence bin."""
    return labeler.startswith(_MODEL_PREFIX)


def model_labeler(model_version: str, score: float) -> LabelerName:
    """The labeler for which a model's answer of this probability is a vote; versions of a model share it."""
    model = model_version.split("/versions/", 1)[0]
    return LabelerName(f"{model}#{sum(score >= edge for edge in _BIN_EDGES)}")
