"""Offers recorded answers through the public API: claims the item for the labeler, submits what they
answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cairn.annotation.v1.annotation_store_pb2 import SubmitAnnotationRequest, SubmitAnnotationsRequest
from cairn.dispatch.v1.task_dispatch_pb2 import ClaimItemsRequest, ItemClaim, Lease, ReleaseLeaseRequest
from cairn.label.v1.label_value_pb2 import Answer
from cairn_client.aio import AsyncCairn
from cairn_client.errors import CairnError, error_of_status, reason_of_status
from cairn_client.names import item_name, labeler_name
from cairn_client.replay.pipeline import Pipeline
from cairn_client.replay.question import Asked
from cairn_client.replay.recording import Recording
from cairn_client.replay.schedule import AnswerIndex, Schedule
from cairn_client.transport import new_request_id, worth_repeating

_MOST_SWEEPS = 20
_LONGEST_PAUSE = 2.0
_NOT_YET = frozenset({"NO_TASK_YET", "NO_OPEN_SLOT", "ITEM_NOT_FOUND", "PROJECT_NOT_FOUND"})
"""Reasons for which an answer is offered again later. A project or item that dispatch has not heard of yet is
not found; one that never comes up ends the waiting."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How the recording is played.

    `batch` answers a call, `workers` calls at once; after every `round_size` answers the services catch up.
    `patience`: seconds without a single answer taken after which the rest is given up.
    """

    batch: int = 64
    workers: int = 4
    round_size: int = 500
    patience: float = 180.0


@dataclass
class Tally:
    """What became of the answers so far."""

    used: int = 0
    already_answered: int = 0
    refused: int = 0
    refusals: list[str] = field(default_factory=list)
    late: int = 0
    given_up: int = 0
    rounds: int = 0
    answered_items: set[str] = field(default_factory=set)


class Player:
    """Plays one recording into one project."""

    def __init__(
        self,
        client: AsyncCairn,
        project: str,
        recording: Recording,
        asked: Asked,
        pipeline: Pipeline,
        *,
        seed: int,
        pace: Pace,
        on_progress: Callable[[Tally], None] = lambda tally: None,
    ) -> None:
        self._client = client
        self._transport = client.transport
        self._parent = f"projects/{project}"
        self._keys = [one.item for one in recording.answers]
        self._pipeline = pipeline
        self._pace = pace
        self._on_progress = on_progress
        self.tally = Tally()
        index = {item.key: place for place, item in enumerate(recording.items)}
        self._schedule = Schedule([index[key] for key in self._keys], seed)
        items = {key: item_name(project, key) for key in index}
        labelers = {one.labeler: labeler_name(one.labeler) for one in recording.answers}
        # Built once: a message costs more to make than to send.
        self._claims = [
            ItemClaim(item=items[one.item], labeler=labelers[one.labeler]) for one in recording.answers
        ]
        known: dict[str, Answer] = {}
        self._answers: list[Answer] = []
        for one in recording.answers:
            if one.label not in known:
                known[one.label] = asked.answer(one.label)
            self._answers.append(known[one.label])

    async def play(self) -> Tally:
        """Offer every answer, until none is left that anybody wants."""
        sweeps = 0
        while True:
            await self._offer_all()
            queue = await self._pipeline.quiet()
            if queue.open_slots == 0 and sweeps > 0:
                break
            used = self.tally.used
            # A closed item opens again when a refit makes its label doubtful: offer it what was recorded
            # for it.
            if not self._schedule.reopen_closed():
                break
            sweeps += 1
            await self._offer_all()
            if self.tally.used == used or sweeps >= _MOST_SWEEPS:
                break
        return self.tally

    async def _offer_all(self) -> None:
        """Rounds, until nothing is ready and nothing waits."""
        last_taken, pause = time.monotonic(), 0.0
        while self._schedule.has_ready or self._schedule.waiting:
            before = self.tally.used
            await self._round()
            await self._pipeline.quiet()
            if self.tally.used > before:
                last_taken, pause = time.monotonic(), 0.0
            elif time.monotonic() - last_taken > self._pace.patience:
                self.tally.given_up += self._schedule.left_over("waiting")
                return
            elif not self._schedule.has_ready:
                pause = min(_LONGEST_PAUSE, pause * 2 or 0.1)
                await asyncio.sleep(pause)
            self._schedule.try_waiting()

    async def _round(self) -> None:
        self.tally.rounds += 1
        target = self.tally.used + self._pace.round_size
        async with asyncio.TaskGroup() as group:
            for _ in range(self._pace.workers):
                group.create_task(self._work(target))

    async def _work(self, target: int) -> None:
        while self.tally.used < target:
            batch = self._schedule.take(min(self._pace.batch, max(1, target - self.tally.used)))
            if not batch:
                return
            await self._offer(batch)
            self._on_progress(self.tally)

    async def _offer(self, batch: list[AnswerIndex]) -> None:
        request = ClaimItemsRequest(
            parent=self._parent,
            claims=[self._claims[answer] for answer in batch],
            request_id=new_request_id(),
        )
        claimed = await self._transport.call(self._transport.dispatch.ClaimItems, request)
        leased: list[tuple[AnswerIndex, Lease]] = []
        for answer, result in zip(batch, claimed.results, strict=True):
            if result.WhichOneof("result") == "lease":
                leased.append((answer, result.lease))
                continue
            reason = reason_of_status(result.error)
            if reason == "TASK_CLOSED":
                self._schedule.closed(answer)
            elif reason == "ALREADY_ANSWERED":
                self.tally.already_answered += 1
                self._schedule.given(answer)
            elif reason in _NOT_YET or worth_repeating(error_of_status(result.error)):
                self._schedule.no_slot(answer)
            else:
                self._refuse(answer, error_of_status(result.error))
        await self._submit(leased)

    async def _submit(self, leased: list[tuple[AnswerIndex, Lease]]) -> None:
        """Submit under leases. The lease makes each submission safe to repeat: it takes one answer."""
        tries = 0
        while leased:
            request = SubmitAnnotationsRequest(
                requests=[
                    SubmitAnnotationRequest(lease_token=lease.token, answers=[self._answers[answer]])
                    for answer, lease in leased
                ]
            )
            kept = await self._transport.call(self._transport.store.SubmitAnnotations, request)
            again: list[tuple[AnswerIndex, Lease]] = []
            for (answer, lease), result in zip(leased, kept.results, strict=True):
                if result.WhichOneof("result") == "annotation":
                    self.tally.used += 1
                    self.tally.late += result.annotation.late
                    self.tally.answered_items.add(self._keys[answer])
                    self._schedule.given(answer)
                    continue
                error = error_of_status(result.error)
                if worth_repeating(error) and tries < 50:
                    again.append((answer, lease))
                else:
                    self._refuse(answer, error)
                    await self._release(lease)
            leased, tries = again, tries + 1
            if leased:
                await asyncio.sleep(self._transport.patience.delay(tries, None))

    def _refuse(self, answer: AnswerIndex, error: CairnError) -> None:
        self.tally.refused += 1
        if len(self.tally.refusals) < 20:
            self.tally.refusals.append(f"{self._keys[answer]}: {error}")
        self._schedule.given(answer)

    async def _release(self, lease: Lease) -> None:
        request = ReleaseLeaseRequest(name=lease.name, request_id=new_request_id())
        try:
            await self._transport.call(self._transport.dispatch.ReleaseLease, request)
        except CairnError:
            return  # it runs out by itself
