"""The validation round: may the serving version answer alone, and above which score?

People's posteriors come from consensus, once a round; what is decided is `domain/routing.py`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cairn.consensus.v1.consensus_pb2 import BatchGetPosteriorsRequest, Posterior
from cairn_inference.announcing import Announcer
from cairn_inference.domain.names import item_key, item_name, project_name
from cairn_inference.domain.routing import (
    Evidence,
    Promise,
    Stop,
    covered,
    hold_round,
    is_worth_holding,
    round_is_due,
)
from cairn_inference.records import NewThreshold, Project, ValidationScore, Version
from cairn_inference.store import InferenceStore
from cairn_kit.auth.caller import acting_for
from cairn_kit.database import Database
from cairn_truth.routing.thresholds import ThresholdDecision

if TYPE_CHECKING:  # the stubs alone know of asynchronous clients
    from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceAsyncStub

Floats = NDArray[np.float64]

_POSTERIOR_BATCH = 5000

_FIRST_PAUSE = 15.0
"""Seconds until the same sample is looked at again, for people may have become surer of it; doubled each time."""

_REST = 20.0
"""How many times as long as it took to count a sample it is not counted again: a twentieth of the database's time."""

_NOTHING_PASSES = 2.0
"""Stands for a threshold that no score reaches."""


class ValidationRounds:
    """Holds a validation round where one is worth its share of delta."""

    def __init__(
        self, database: Database, store: InferenceStore, consensus: ConsensusServiceAsyncStub
    ) -> None:
        self._database = database
        self._store = store
        self._consensus = consensus
        self._announcer = Announcer(store)
        self._considered: dict[tuple[str, str], _Considered] = {}
        """The last look at each project's sample: consensus is not asked again each second."""
        self._counted: dict[tuple[str, str], tuple[int, float]] = {}
        """For which scores each project's sample was counted, and until when, on the loop's clock, it is not again."""

    def forget_all_but(self, places: Set[tuple[str, str]]) -> None:
        """Remember of projects (tenant, project) other than these nothing."""
        for gone in self._considered.keys() - places:
            del self._considered[gone]
        for gone in self._counted.keys() - places:
            del self._counted[gone]

    async def judge(self, project: Project, version: Version) -> bool:
        """Whether a round was held: all scores are in, and enough of the sample is settled."""
        if project.stop not in {Stop.NONE, Stop.DRIFT} or not await self._round_is_due(project):
            return False
        sample = await self._store.validation_scores(self._database, project)
        found = await self._hold(project, version, sample)
        self._note_look(project, sum(1 for item in sample if item.labeled))
        if found is None:
            return False
        await self._end_round(project, *found)
        return True

    async def _round_is_due(self, project: Project) -> bool:
        clock, place = asyncio.get_running_loop().time, (project.tenant, project.id)
        last, now = self._considered.get(place), clock()
        counted, until = self._counted.get(place, (project.score_round, 0.0))
        if counted == project.score_round and now < until:
            return False
        settled = await self._store.settled_validation(self._database, project)
        self._counted[place] = project.score_round, clock() + _REST * (clock() - now)
        if last is not None and last.holds(_circumstances(project), settled, now):
            return False  # a round was held, or found not worth its delta, on about this evidence
        return round_is_due(
            settled,
            _promise(project),
            same_version=project.validation_scores == project.score_round,
            evidence_before=project.validation_items,
        )

    def _note_look(self, project: Project, settled: int) -> None:
        """The same evidence is looked at ever more seldom."""
        place, now = (project.tenant, project.id), asyncio.get_running_loop().time()
        last, circumstances = self._considered.get(place), _circumstances(project)
        pause = 2.0 * last.pause if last is not None and last.circumstances == circumstances else _FIRST_PAUSE
        self._considered[place] = _Considered(circumstances, settled, pause, now + pause)

    async def _hold(
        self, project: Project, version: Version, sample: Sequence[ValidationScore]
    ) -> tuple[ThresholdDecision, NewThreshold] | None:
        """The round's decision; None when one is not worth its share of delta yet."""
        promise = _promise(project, await self._store.pool_items(self._database, project))
        evidence = await self._evidence(project, version, sample)
        in_force = project.threshold_score
        now = 0.0 if in_force is None else covered(evidence, in_force)
        if not await asyncio.to_thread(is_worth_holding, evidence, promise, coverage_now=now):
            return None
        decision = await asyncio.to_thread(hold_round, evidence, promise)
        return decision, NewThreshold(
            score=decision.threshold if decision.allows_any else _NOTHING_PASSES,
            alpha=promise.alpha,
            delta=promise.delta,
            round=promise.round_number,
            round_delta=decision.delta,
            validation_items=evidence.scores.size,
            validation_errors=decision.expected_errors,
            error_upper_bound=decision.upper_bound,
            coverage=0.0,
            model=version.made.model,
            model_version=version.number,
        )

    async def _evidence(
        self, project: Project, version: Version, sample: Sequence[ValidationScore]
    ) -> Evidence:
        """The validation items that enough people have answered, with their posteriors by people alone.

        Where the version names a class that the question has no more, it could not answer alone: the bound is one on
        the others, and routing keeps to them.
        """
        went = await self._store.answers_let_through(self._database, project)
        known = await self._posteriors(project, sorted({item.key for item in sample} | went.keys()))
        place = {class_id: at for at, class_id in enumerate(project.policy.class_ids)}
        usable = [item for item in sample if item.predicted in place and item.key in known]
        return Evidence(
            scores=np.array([item.score for item in usable], dtype=np.float64),
            predicted=np.array([place[item.predicted] for item in usable], dtype=np.int64),
            posteriors=np.array([known[item.key] for item in usable], dtype=np.float64).reshape(
                len(usable), len(place)
            ),
            through=np.array([item.through for item in usable], dtype=np.bool_),
            earlier_errors=np.array(
                [_doubt(known[key], place.get(answer)) for key, answer in went.items() if key in known],
                dtype=np.float64,
            ),
        )

    async def _posteriors(self, project: Project, keys: Sequence[str]) -> dict[str, Floats]:
        """Of each item that enough people have answered, what they make of it ``(classes,)``."""
        place = {class_id: at for at, class_id in enumerate(project.policy.class_ids)}
        known: dict[str, Floats] = {}
        for start in range(0, len(keys), _POSTERIOR_BATCH):
            request = BatchGetPosteriorsRequest(
                parent=project_name(project.id),
                question=project.policy.question,
                items=[item_name(project.id, key) for key in keys[start : start + _POSTERIOR_BATCH]],
            )
            with acting_for(project.tenant):
                answer = await self._consensus.BatchGetPosteriors(request)
            known |= {
                item_key(posterior.item): _row(posterior, place)
                for posterior in answer.posteriors
                if posterior.votes >= project.policy.min_answers
            }
        return known

    async def _end_round(self, project: Project, decision: ThresholdDecision, found: NewThreshold) -> None:
        coverage = await self._store.open_coverage(self._database, project, found.score)
        async with self._database.transaction() as tx:
            current = await self._store.project_for_update(tx, project.tenant, project.id)
            if current is None or _judged(current) != _judged(project):
                return  # promoted, stopped or promised otherwise meanwhile: this evidence is about something else
            kept = replace(found, coverage=coverage)
            await self._announcer.end_round(tx, current, kept, in_force=decision.allows_any)


@dataclass(frozen=True, slots=True)
class _Considered:
    """A look at a sample: what was the case, how many validation items were settled, how long they rest, until when."""

    circumstances: tuple[int, ...]
    settled: int
    pause: float
    until: float

    def holds(self, circumstances: tuple[int, ...], settled: int, now: float) -> bool:
        """Whether another look would show about the same."""
        return circumstances == self.circumstances and settled < 1.1 * self.settled and now < self.until


def _promise(project: Project, pool_items: int = 1) -> Promise:
    """What the project's next round tests."""
    policy = project.policy
    return Promise(policy.alpha, policy.delta, project.validation_round + 1, pool_items)


def _judged(project: Project) -> tuple[Hashable, ...]:
    """What a round is about."""
    return (
        project.score_round,
        project.validation_round,
        project.stop,
        project.policy.promised,
        project.smallest_share,
    )


def _doubt(posterior: Floats, place: int | None) -> float:
    """How probably an answer is wrong: surely, where the question has no such class any more."""
    return 1.0 if place is None else float(np.clip(1.0 - posterior[place], 0.0, 1.0))


def _circumstances(project: Project) -> tuple[int, ...]:
    """What makes the same evidence worth another look when it changes."""
    return project.score_round, project.stop_revision, project.revision


def _row(posterior: Posterior, place: dict[str, int]) -> Floats:
    """A posterior over all classes ``(classes,)``; what was left out as too small is shared by those left out."""
    row = np.full(len(place), np.nan)
    for entry in posterior.classes:
        if entry.class_id in place:
            row[place[entry.class_id]] = entry.probability
    rest = np.isnan(row)
    if rest.any():
        row[rest] = max(1.0 - float(np.nansum(row)), 0.0) / int(rest.sum())
    return np.asarray(row / row.sum()) if row.sum() > 0 else np.full(len(place), 1.0 / len(place))
