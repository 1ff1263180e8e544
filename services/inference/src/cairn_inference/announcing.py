"""Changes that several rooms make, each with the event that tells of it."""

from __future__ import annotations

from google.protobuf.message import Message

from cairn.events.v1.inference_events_pb2 import (
    AutoLabelingResumed,
    AutoLabelingStopped,
    ModelPromoted,
    ModelVersionCreated,
    ThresholdSet,
    TrainingRunFinished,
)
from cairn_inference.domain.names import project_name, run_name
from cairn_inference.domain.routing import Stop
from cairn_inference.messages import run_message, threshold_message, version_message
from cairn_inference.records import NewThreshold, Project, Run, Threshold, Version
from cairn_inference.store import InferenceStore
from cairn_kit.database import Transaction
from cairn_kit.events import Event, Received, announce


def project_event(project: Project | tuple[str, str], message: Message, revision: int = 0) -> Event:
    """An event about a project as a whole."""
    tenant, id_ = project if isinstance(project, tuple) else (project.tenant, project.id)
    return Event(message, tenant=tenant, project=id_, resource=project_name(id_), revision=revision)


class Announcer:
    """Stores and announces in one step. Each caller holds the project's lock."""

    def __init__(self, store: InferenceStore) -> None:
        self._store = store

    def version_created(self, tx: Transaction, version: Version) -> None:
        """A version was added."""
        announce(tx, _version_event(version, ModelVersionCreated(model_version=version_message(version)), 1))

    async def promote(self, tx: Transaction, project: Project, version: Version) -> Version:
        """Put a version to work; a scoring round begins, and the threshold must be earned anew."""
        serving = await self._store.promote(tx, version)
        message = ModelPromoted(model_version=version_message(serving), replaced=project.serving)
        announce(tx, _version_event(serving, message, project.score_round + 1))
        return serving

    def run_ended(self, tx: Transaction, run: Run, cause: Received[Message] | None = None) -> None:
        """A training run ended, well or not."""
        event = Event(
            TrainingRunFinished(training_run=run_message(run)),
            tenant=run.tenant,
            project=run.project,
            resource=run_name(run.project, run.id),
            revision=1,
        )
        announce(tx, event, cause=cause)

    async def end_round(
        self, tx: Transaction, project: Project, found: NewThreshold, *, in_force: bool
    ) -> Threshold:
        """A validation round ended; one that passes ends a stop."""
        threshold = await self._store.end_round(tx, project, found, in_force=in_force)
        name = project_name(project.id)
        message = ThresholdSet(project=name, threshold=threshold_message(project.id, threshold))
        announce(tx, project_event(project, message, threshold.number))
        if in_force and project.stop is not Stop.NONE:
            announce(tx, project_event(project, AutoLabelingResumed(project=name), project.stop_revision + 1))
        return threshold

    async def stop(
        self,
        tx: Transaction,
        project: Project,
        stop: Stop,
        reason: str,
        cause: Received[Message] | None = None,
    ) -> None:
        """Nothing is labeled by a model alone from now on."""
        await self._store.set_stop(tx, project.tenant, project.id, stop, reason)
        message = AutoLabelingStopped(project=project_name(project.id), reason=reason)
        announce(tx, project_event(project, message, project.stop_revision + 1), cause=cause)


def _version_event(version: Version, message: Message, revision: int) -> Event:
    return Event(
        message, tenant=version.tenant, project=version.project, resource=version.name, revision=revision
    )
