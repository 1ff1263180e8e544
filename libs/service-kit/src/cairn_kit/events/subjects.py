"""The names of things on the bus: `cairn.v1.<tenant>.<project>.<aggregate>.<event>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

PREFIX = "cairn.v1"
EVERYTHING = f"{PREFIX}.>"
NO_PROJECT = "_"
"""Stands where the project would for an event that belongs to none."""

AGGREGATES: Mapping[str, str] = {
    # annotation-store
    "ProjectCreated": "project",
    "ProjectUpdated": "project",
    "ProjectDeleted": "project",
    "ItemsImported": "import",
    "ImportFinished": "import",
    "ImportCancelled": "import",
    "AnnotationSubmitted": "annotation",
    "LabelFinalized": "label",
    "ExportFinished": "export",
    # task-dispatch
    "TasksOpened": "task",
    "TasksClosed": "task",
    "LeasesGranted": "lease",
    "LeasesEnded": "lease",
    # consensus
    "ConsensusReached": "consensus",
    "AnswersWanted": "consensus",
    "ConsensusDisputed": "consensus",
    "ReliabilitiesRefitted": "reliability",
    # inference
    "ItemsRouted": "route",
    "ItemsScored": "score",
    "ModelVersionCreated": "model",
    "ModelPromoted": "model",
    "TrainingRunFinished": "training",
    "ThresholdSet": "threshold",
    "AutoLabelingStopped": "routing",
    "AutoLabelingResumed": "routing",
    # audit
    "AuditStarted": "audit",
    "LabelCorrected": "correction",
    "AuditPassed": "audit",
    "AuditFailed": "audit",
    "AuditCancelled": "audit",
    "CheckpointSigned": "checkpoint",
}
"""What each event happened to. A name once used is part of the API: outside teams subscribe to it."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\Z")


def kebab(name: str) -> str:
    """`AnnotationSubmitted` -> `annotation-submitted`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def aggregate_of(event_name: str) -> str:
    """What an event happened to; an event outside the table (a test's own) is its own aggregate."""
    return AGGREGATES.get(event_name, kebab(event_name))


@lru_cache(maxsize=10_000)
def subject_of(event_name: str, tenant: str, project: str) -> str:
    """Where an event is published. Raises ValueError for ids that would change the subject's shape."""
    project = project or NO_PROJECT
    for token in (tenant, project):
        if not _TOKEN.match(token):
            raise ValueError(f"{token!r} cannot be part of an event's subject.")
    return f"{PREFIX}.{tenant}.{project}.{aggregate_of(event_name)}.{kebab(event_name)}"


def filter_of(event_name: str) -> str:
    """The subjects of one type of event, of every tenant and project."""
    return f"{PREFIX}.*.*.{aggregate_of(event_name)}.{kebab(event_name)}"
