"""The loop of the demonstration: dispatch chooses the items, the crowd answers, a model learns and joins in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cairn.annotation.v1.annotation_store_pb2 import (
    DISPUTE_POLICY_ACCEPT_BEST,
    QualityPolicy,
    RoutingPolicy,
    SubmitAnnotationRequest,
    SubmitAnnotationsRequest,
)
from cairn.audit.v1.audit_pb2 import Audit
from cairn.dispatch.v1.task_dispatch_pb2 import LeaseTasksRequest
from cairn.label.v1.label_value_pb2 import Answer
from cairn_client.aio import AsyncCairn
from cairn_client.demo.crowd import DIGITS, SimulatedLabeler
from cairn_client.demo.digits import Digits
from cairn_client.errors import CairnError
from cairn_client.names import item_key, labeler_name
from cairn_client.replay.outcome import FinalLabel
from cairn_client.replay.pipeline import Pipeline
from cairn_client.replay.question import asked_by
from cairn_client.replay.recording import RecordedAnswer
from cairn_client.replay.run import Screen, audit_by_truth, read_labels
from cairn_client.transport import new_request_id

PROJECT = "digits"
QUESTION = "digit"
ALPHA = 0.08
VALIDATION_SHARE = 0.15
"""Of 1,797 items: enough that a bound of 8% can be shown although the crowd itself errs now and then."""
AUDITED = 400
"""Of 1,797 labels: if 3.5% are wrong, the worst that was seen, so many drawn at random show a bound of 8% with
confidence 95% in about 99 audits of 100; 150 would in 6 of 10. (The strata's unequal shares take a little of it.)"""
_TASKS_A_LEASE = 12
_AT_ONCE = 4
_ROUND = 240
_EMPTY_ROUNDS = 3

QUALITY = QualityPolicy(
    min_answers=2, max_answers=7, target_confidence=0.95, on_dispute=DISPUTE_POLICY_ACCEPT_BEST
)


@dataclass
class Demonstrated:
    """What the demonstration came to."""

    answers: list[RecordedAnswer] = field(default_factory=list)
    labels: Mapping[str, FinalLabel] = field(default_factory=dict)
    """As they stood before the audit corrected any."""
    audit: Audit | None = None


async def demonstrate(
    client: AsyncCairn,
    digits: Digits,
    people: Sequence[SimulatedLabeler],
    screen: Screen,
    *,
    project: str = PROJECT,
    alpha: float,
    audited: int,
    seed: int,
) -> Demonstrated:
    """Run the loop to its end in a new project. The reviewer of the audit is the truth itself."""
    created = await client.projects.create(
        project,
        {"questions": [{"id": QUESTION, "title": "Which digit is this?", "choice": list(DIGITS)}]},
        quality=QUALITY,
        routing=RoutingPolicy(enabled=True, alpha=alpha, validation_share=VALIDATION_SHARE),
        display_name="Handwritten digits",
    )
    screen.stage("Importing 8x8 PNG images", len(digits.items))
    await client.import_items(project, digits.items, progress=screen.advance)
    pipeline = Pipeline(client, project, model=True)
    screen.stage("Routing them", len(digits.items))
    await pipeline.routed(len(digits.items), screen.advance)

    done = Demonstrated()
    screen.stage("The crowd answers, the model learns")
    await _Crowd(client, project, people, digits.truth, done, screen, seed).work(pipeline)
    screen.stage("Concluding")
    await client.projects.conclude(project)
    await client.projects.labels_stand(project)
    asked = asked_by(created.schema.questions[0], [])
    done.labels = await read_labels(client, project, asked)
    if audited:
        done.audit = await audit_by_truth(
            client, project, asked, digits.truth, screen, sample=audited, max_error=alpha, seed=seed
        )
        # A correction also teaches who errs, and may change other labels.
        await client.projects.labels_stand(project)
    return done


class _Crowd:
    """People who take what dispatch hands them, a few at a time."""

    def __init__(
        self,
        client: AsyncCairn,
        project: str,
        people: Sequence[SimulatedLabeler],
        truth: Mapping[str, str],
        done: Demonstrated,
        screen: Screen,
        seed: int,
    ) -> None:
        self._client = client
        self._parent = f"projects/{project}"
        self._people = people
        self._truth = truth
        self._done = done
        self._screen = screen
        self._turns = random.Random(seed)

    async def work(self, pipeline: Pipeline) -> None:
        """Rounds of answers; in between, people wait for the machines, as they would in life."""
        empty = 0
        while empty < _EMPTY_ROUNDS:
            before = len(self._done.answers)
            await self._round(before + _ROUND)
            queue = await pipeline.quiet()
            empty = empty + 1 if len(self._done.answers) == before else 0
            if empty and queue.open_slots == 0 and queue.filled_tasks == 0:
                return

    async def _round(self, until: int) -> None:
        order = list(self._people)
        self._turns.shuffle(order)

        async def some(mine: Sequence[SimulatedLabeler]) -> None:
            for labeler in mine:
                if len(self._done.answers) < until:
                    await self._turn(labeler)

        async with asyncio.TaskGroup() as group:
            for place in range(_AT_ONCE):
                group.create_task(some(order[place::_AT_ONCE]))

    async def _turn(self, labeler: SimulatedLabeler) -> None:
        transport = self._client.transport
        request = LeaseTasksRequest(
            parent=self._parent,
            labeler=labeler_name(labeler.name),
            max_tasks=_TASKS_A_LEASE,
            request_id=new_request_id(),
        )
        leases = (await transport.call(transport.dispatch.LeaseTasks, request)).leases
        if not leases:
            return
        said = [labeler.answer(key := item_key(one.item), self._truth[key]) for one in leases]
        kept = await transport.call(
            transport.store.SubmitAnnotations,
            SubmitAnnotationsRequest(
                requests=[
                    SubmitAnnotationRequest(
                        lease_token=lease.token, answers=[Answer(question=QUESTION, choice=digit)]
                    )
                    for lease, digit in zip(leases, said, strict=True)
                ]
            ),
        )
        for lease, digit, result in zip(leases, said, kept.results, strict=True):
            if result.WhichOneof("result") != "annotation":
                raise CairnError(f"An answer of the demo was refused: {result.error.message}")
            self._done.answers.append(RecordedAnswer(item_key(lease.item), labeler.name, digit))
        self._screen.advance(len(self._done.answers))
