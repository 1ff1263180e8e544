"""The whole of a replay: project, import, the crowd's answers, conclusion, an audit if wanted, and the
result."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cairn.annotation.v1.annotation_store_pb2 import (
    DISPUTE_POLICY_ACCEPT_BEST,
    STOP_RULE_ADAPTIVE,
    STOP_RULE_FIXED,
    QualityPolicy,
    RoutingPolicy,
)
from cairn.audit.v1.audit_pb2 import AUDIT_STATE_REVIEWING, Audit
from cairn.label.v1.label_schema_pb2 import LabelSchema
from cairn_client.aio import AsyncCairn
from cairn_client.errors import AlreadyExists, InputError
from cairn_client.frames import SOURCES
from cairn_client.names import item_key, question_of
from cairn_client.replay.outcome import FinalLabel, Outcome, score
from cairn_client.replay.pipeline import Pipeline
from cairn_client.replay.player import Pace, Player, Tally
from cairn_client.replay.question import Asked, Kind, asked_by, asked_of, unanswered_classes
from cairn_client.replay.recording import Recording
from cairn_client.schema import ProjectSpec, load_spec
from cairn_client.waiting import until
from cairn_client.words import counted, first_of, quoted

_ROUNDS = 40
_SMALLEST_ROUND = 64
_REVIEWER = "truth"
_AUDIT_PATIENCE = 30.0


class Screen(Protocol):
    """Where a run tells what it is doing."""

    def stage(self, text: str, total: int | None = None) -> None:
        """A new stage begins, of `total` steps where that is known."""

    def advance(self, done: int, note: str = "") -> None:
        """So many steps of the stage are done."""

    def say(self, text: str) -> None:
        """A remark that stays on the screen."""


class Silent:
    """A screen that nobody looks at."""

    def stage(self, text: str, total: int | None = None) -> None:
        """Nothing."""

    def advance(self, done: int, note: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How a recording is played; zeros and None mean the defaults (of the project's policies, or of the
    replay)."""

    seed: int = 0
    alpha: float = 0.05
    target: float = 0.0
    min_answers: int = 0
    max_answers: int = 0
    fixed: bool = False
    model: bool = True
    audit: int = 0
    project: str | None = None
    schema: Path | None = None
    kind: Kind | None = None
    pace: Pace | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """A finished replay: its result, and where its labels are."""

    outcome: Outcome
    project: str
    question: str
    tally: Tally
    labels: Mapping[str, FinalLabel]
    audit: Audit | None = None
    truth_ids: Mapping[str, str] = field(default_factory=dict)
    """The truth in the question's own terms (class ids), for the report."""


def question_for(recording: Recording, options: ReplayOptions) -> Asked:
    """The question a recording answers: of the schema, if there is one, else as its labels suggest."""
    labels = [one.label for one in recording.answers]
    if options.schema is None:
        return asked_of(labels, recording.truth.values(), options.kind)
    schema = load_spec(options.schema).schema
    if len(schema.questions) != 1:
        raise InputError(f"{options.schema} must ask exactly one question to be replayed.")
    return asked_by(schema.questions[0], [*labels, *recording.truth.values()])


def policies(
    recording: Recording, asked: Asked, options: ReplayOptions
) -> tuple[QualityPolicy, RoutingPolicy]:
    """The project's policies. The recorded crowd is all there is, so a dispute ends with the best answer, and
    unless told otherwise as many answers may be asked for as the best-covered item has."""
    counts: dict[str, int] = {}
    for one in recording.answers:
        counts[one.item] = counts.get(one.item, 0) + 1
    most = max(counts.values())
    least = options.min_answers or min(2, most)
    quality = QualityPolicy(
        min_answers=least,
        max_answers=max(least, options.max_answers or most),
        stop_rule=STOP_RULE_FIXED if options.fixed else STOP_RULE_ADAPTIVE,
        target_confidence=options.target,
        on_dispute=DISPUTE_POLICY_ACCEPT_BEST,
    )
    # A model needs something to look at, and routes choices only.
    routed = options.model and recording.has_content and asked.kind is Kind.CHOICE
    if not routed:
        return quality, RoutingPolicy()
    return quality, RoutingPolicy(enabled=True, question=asked.question.id, alpha=options.alpha)


async def replay(
    client: AsyncCairn, recording: Recording, options: ReplayOptions, screen: Screen | None = None
) -> Replayed:
    """Play a recording through the public API and measure what came of it.

    Raises CairnError when a service stays away for longer than the client's patience.
    """
    view = screen or Silent()
    began = time.monotonic()
    asked = question_for(recording, options)
    quality, routing = policies(recording, asked, options)
    project = options.project or project_id(recording.name, options.seed)
    spec = ProjectSpec(
        LabelSchema(questions=[asked.question]), quality, routing, f"Replay of {recording.name}"[:200]
    )
    await _create(client, project, spec, given=options.project is not None)
    view.say(f"Project {project}: {asked.kind.value} question, {_policy_text(quality, routing)}.")
    notes = [*recording.notes, *truth_notes(recording, asked, options)]
    notes += await _import(client, project, recording, view)

    pipeline = Pipeline(client, project, model=routing.enabled)
    view.stage("Routing the items", len(recording.items))
    if not await pipeline.routed(len(recording.items), view.advance):
        notes.append("Not every item was routed in time; the replay went on without waiting.")

    view.stage("Playing the crowd's answers", len(recording.answers))
    pace = options.pace or Pace(round_size=max(_SMALLEST_ROUND, len(recording.answers) // _ROUNDS))
    player = Player(
        client,
        project,
        recording,
        asked,
        pipeline,
        seed=options.seed,
        pace=pace,
        on_progress=lambda tally: view.advance(tally.used, counted(len(tally.answered_items), "item")),
    )
    tally = await player.play()

    view.stage("Concluding")
    concluded = await client.projects.conclude(project)
    if concluded.undecided:
        notes.append(f"{counted(len(concluded.undecided), 'item')} with votes could not be decided.")
    if not await client.projects.labels_stand(project):
        notes.append("Some labels were still on their way when they were read.")

    audit = None
    if options.audit:
        audit = await audit_by_truth(
            client,
            project,
            asked,
            recording.truth,
            view,
            sample=options.audit,
            max_error=options.alpha,
            seed=options.seed,
        )
    view.stage("Reading the labels")
    labels = await read_labels(client, project, asked)
    if tally.refusals:
        notes.append(f"{counted(tally.refused, 'answer')} refused, such as {tally.refusals[0]}")
    outcome = Outcome(
        **score(
            kind=asked.kind,
            items=len(recording.items),
            answers=recording.answers,
            truth=recording.truth,
            labels=labels,
            seed=options.seed,
        ),
        answers_used=tally.used,
        answers_recorded=recording.recorded,
        alpha=options.alpha,
        seconds=round(time.monotonic() - began, 2),
        seed=options.seed,
        duplicates=recording.duplicates + tally.already_answered,
        refused=tally.refused,
        given_up=tally.given_up,
        kind=asked.kind.value,
        project=project,
        notes=tuple(notes),
    )
    truth_ids = {key: asked.classes.get(value, value) for key, value in recording.truth.items()}
    return Replayed(outcome, project, asked.question.id, tally, labels, audit, truth_ids)


def project_id(name: str, seed: int) -> str:
    """A fresh project's id that says what it replays."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30] or "answers"
    return f"replay-{stem}-{seed}-{uuid.uuid4().hex[:6]}"


def _policy_text(quality: QualityPolicy, routing: RoutingPolicy) -> str:
    answers = (
        f"{quality.max_answers} answers an item"
        if quality.stop_rule == STOP_RULE_FIXED
        else f"{quality.min_answers} to {quality.max_answers} answers an item"
    )
    model = f"a model may answer alone within alpha {routing.alpha:g}" if routing.enabled else "no model"
    return f"{answers}, {model}"


def truth_notes(recording: Recording, asked: Asked, options: ReplayOptions) -> list[str]:
    """What is odd about the truth; a class that a schema lists may well be one that nobody chose."""
    if options.schema is not None:
        return []
    labels = (one.label for one in recording.answers)
    odd = unanswered_classes(asked, labels, recording.truth.values())
    if not odd:
        return []
    items = sum(label in odd for label in recording.truth.values())
    return [
        f"{counted(len(odd), 'label')} of the truth never answered by anybody ({counted(items, 'item')}):"
        f" {first_of(odd)}. Is it spelt as in the answers?"
    ]


async def _create(client: AsyncCairn, project: str, spec: ProjectSpec, *, given: bool) -> None:
    """Create the project; one that the caller named may be there already, from a replay that was broken off."""
    try:
        await client.projects.create(project, spec)
    except AlreadyExists:
        if not given:
            raise
        found = await client.projects.get(project)
        if found.schema.questions[0].id != spec.schema.questions[0].id:
            raise InputError(f"The project {project} asks other questions; give another --project.") from None


async def _import(client: AsyncCairn, project: str, recording: Recording, view: Screen) -> list[str]:
    view.stage("Importing the items", len(recording.items))
    result = await client.import_items(project, recording.items, progress=view.advance)
    if not result.failed:
        return []
    first = result.failures[0] if result.failures else None
    why = f", such as {quoted(first.key)}: {first.problem}" if first else ""
    note = f"{counted(result.failed, 'item')} refused{why}"
    view.say(note)
    return [note]


async def read_labels(client: AsyncCairn, project: str, asked: Asked) -> dict[str, FinalLabel]:
    """The labels that stand for the replayed question, by item key."""
    found = {}
    async for label in client.labels(project):
        if question_of(label.name) == asked.question.id:
            found[item_key(label.name)] = FinalLabel(
                asked.label(label.answer), SOURCES[label.source], label.confidence
            )
    return found


async def audit_by_truth(
    client: AsyncCairn,
    project: str,
    asked: Asked,
    truth: Mapping[str, str],
    view: Screen,
    *,
    sample: int,
    max_error: float,
    seed: int,
) -> Audit:
    """A sampling audit whose reviewer is the known truth: an oracle, and said to be one."""
    view.say(f"Audit of {counted(sample, 'label')} by the known truth, which stands in for an expert.")
    audit = await client.audits.create(
        project, sample, question=asked.question.id, max_error=max_error, seed=seed + 1
    )
    view.stage("Auditing", audit.sampled)

    async def judge() -> int:
        for job in await client.lease(project, 200, labeler=_REVIEWER, reviews=True):
            right = truth.get(job.key)
            if right is None:
                await client.skip(job, "The known truth does not cover this item.")
            else:
                await client.submit(job, [asked.answer(right)])
        nonlocal audit
        audit = await client.audits.get(audit.name)
        view.advance(audit.reviewed)
        return audit.reviewed if audit.state == AUDIT_STATE_REVIEWING else -1

    if not await until(judge, lambda reviewed: reviewed < 0, _AUDIT_PATIENCE):
        view.say(
            f"The audit could not be finished: {audit.reviewed} of {counted(audit.sampled, 'label')} judged."
        )
        return await client.audits.cancel(audit.name)

    async def corrected() -> int:
        return (await client.projects.progress(project)).corrected_items

    await until(corrected, lambda found: found >= audit.wrong, 10.0)
    view.say(audit.verdict)
    return audit
