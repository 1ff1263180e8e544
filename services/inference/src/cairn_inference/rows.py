"""What the database's rows are in records."""

from __future__ import annotations

from typing import Any

from cairn_inference.domain.calibration import Evaluation
from cairn_inference.domain.routing import Stop
from cairn_inference.records import (
    NewThreshold,
    NewVersion,
    Policy,
    Project,
    Run,
    RunState,
    Threshold,
    Version,
    VersionState,
)


def project_of(row: Any) -> Project:
    """Return a project."""
    policy = Policy(
        question=row["question"],
        unroutable=row["unroutable"],
        class_ids=tuple(row["class_ids"]),
        alpha=row["alpha"],
        delta=row["delta"],
        validation_share=row["validation_share"],
        min_answers=row["min_answers"],
        max_answers=row["max_answers"],
        automatic=row["automatic"],
    )
    same = (
        "revision", "routed_question", "serving_model", "serving_version", "score_round", "route_round",
        "routed_scores", "threshold", "threshold_score", "threshold_at", "threshold_coverage", "thresholds",
        "validation_round", "validation_items", "validation_scores", "stop_reason", "stop_revision", "drift_items",
        "labels_trained",
    )  # fmt: skip
    return Project(
        tenant=row["tenant"],
        id=row["project"],
        policy=policy,
        stop=Stop(row["stop"]),
        **{name: row[name] for name in same},
    )


def version_of(row: Any) -> Version:
    """Return a model version."""
    evaluation = None
    if row["accuracy"] is not None:
        evaluation = Evaluation(
            row["accuracy"],
            row["log_loss"],
            row["calibration_error"],
            row["evaluated_labels"],
            row["temperature"],
        )
    made = NewVersion(
        model=row["model"],
        sha256=row["sha256"],
        features=row["features"],
        class_ids=tuple(row["class_ids"]),
        training_labels=row["training_labels"],
        evaluation=evaluation,
        training_run=row["training_run"],
    )
    return Version(
        row["tenant"], row["project"], row["version"], VersionState(row["state"]), made, row["created_at"]
    )


def run_of(row: Any) -> Run:
    """Return a training run."""
    return Run(
        row["tenant"],
        row["project"],
        row["run"],
        RunState(row["state"]),
        row["attempts"],
        row["labels"],
        row["model"],
        row["version"],
        row["error_code"],
        row["error_reason"],
        row["error_message"],
        row["created_at"],
        row["ended_at"],
    )


def threshold_of(row: Any) -> Threshold:
    """Return a threshold."""
    found = NewThreshold(
        score=row["score"],
        alpha=row["alpha"],
        delta=row["delta"],
        round=row["round"],
        round_delta=row["round_delta"],
        validation_items=row["validation_items"],
        validation_errors=row["validation_errors"],
        error_upper_bound=row["error_upper_bound"],
        coverage=row["coverage"],
        model=row["model"],
        model_version=row["version"],
    )
    return Threshold(row["threshold"], found, row["created_at"])
