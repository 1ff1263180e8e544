"""What follows from a model version: score what it has not seen, judge it on the validation sample, route.

Everything that is to be done is in the rows (an item's rounds against its project's), so that a process killed at
any point is followed by one that goes on. One process of the service does this at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import grpc
import numpy as np
from numpy.typing import NDArray

from cairn.consensus.v1.consensus_pb2 import BatchGetPosteriorsRequest, Posterior
from cairn.events.v1.inference_events_pb2 import ItemRoute, ItemScore
from cairn_inference.announcing import Announcer, project_event
from cairn_inference.domain.features import SPECS, unpack_dense
from cairn_inference.domain.names import item_key, item_name, project_name
from cairn_inference.domain.routing import (
    DRIFT_FEATURES,
    Evidence,
    Promise,
    Route,
    Seen,
    Stop,
    covered,
    drift_is_due,
    drifted,
    first_priority,
    goes_auto,
    hold_round,
    is_worth_holding,
    margin_priority,
    round_is_due,
    uniform,
)
from cairn_inference.messages import human_route, routed_events, scored_events, scored_route
from cairn_inference.records import (
    NewThreshold,
    Project,
    Routable,
    Routed,
    Score,
    Unscored,
    ValidationScore,
    Version,
)
from cairn_inference.scoring import MAX_BATCH, Scorer
from cairn_inference.store import InferenceStore
from cairn_kit.auth.caller import acting_for
from cairn_kit.database import Database, Transaction
from cairn_kit.database.pool import OUTAGES
from cairn_kit.events import announce
from cairn_kit.telemetry.logs import get_logger
from cairn_truth.routing.thresholds import ThresholdDecision

if TYPE_CHECKING:  # the stubs alone know of asynchronous clients
    from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceAsyncStub

_log = get_logger(__name__)
Floats = NDArray[np.float64]

_AWAY: tuple[type[BaseException], ...] = (grpc.aio.AioRpcError, *OUTAGES)
"""Consensus, the model files or the database do not answer, or not in time."""

_ROUTE_BATCH = 1000
_POSTERIOR_BATCH = 5000
_WORTH_TELLING = 0.05
"""A priority that moved less is not announced: every announcement is a write in every service."""

_REST = 4.0
"""How many times as long as it took to fail a project rests: it takes a fifth of the time from the others at most."""

_FIRST_PAUSE = 15.0
"""Seconds until the same sample is looked at again, for people may have become surer of it; doubled each time."""

_NOTHING_PASSES = 2.0
"""Stands for a threshold that no score reaches."""


class ScoringRounds:
    """Works off what the serving versions of all projects leave to do."""

    def __init__(
        self,
        database: Database,
        store: InferenceStore,
        scorer: Scorer,
        consensus: ConsensusServiceAsyncStub,
        sampling_key: bytes,
        route_patience: float,
    ) -> None:
        self._database = database
        self._store = store
        self._scorer = scorer
        self._consensus = consensus
        self._key = sampling_key
        self._patience = route_patience
        self._announcer = Announcer(store)
        self._considered: dict[tuple[str, str], _Considered] = {}
        """The last look at each project's sample: consensus is not asked again each second."""
        self._rests_until: dict[tuple[str, str], float] = {}
        """Of projects that failed: until when, on the loop's clock, they are passed over."""

    async def step(self) -> int:
        """One batch of work for each project that is not at rest; how many items were taken up.

        No project holds up the others: one that fails, with a damaged model file or by a statement that takes too
        long, rests so long that it has a small share of the time.
        """
        done = await self._release_overdue()
        clock = asyncio.get_running_loop().time
        for project in await self._store.projects_with_work(self._database):
            began, place = clock(), (project.tenant, project.id)
            if began < self._rests_until.get(place, 0.0):
                continue
            try:
                done += await self._advance(project)
            except _AWAY as error:
                _log.warning("round.postponed", tenant=project.tenant, project=project.id, error=repr(error))
            except Exception as error:
                _log.error("round.failed", tenant=project.tenant, project=project.id, exc_info=error)
            else:
                continue
            self._rests_until[place] = clock() + _REST * (clock() - began)
            # A lost database is no project's failure: it ends the step.
            await self._store.answers(self._database)
        return done

    async def _advance(self, project: Project) -> int:
        version = await self._store.serving(self._database, project)
        if version is None or version.made.features not in SPECS:
            return 0
        scored = await self._score(project, version)
        if scored:
            return scored  # a round is held, and items are routed, when all scores are in
        await self._judge(project, version)
        return await self._route(project)

    # --- scores

    async def _score(self, project: Project, version: Version) -> int:
        items = await self._store.items_to_score(self._database, project, version, MAX_BATCH)
        if not items:
            return 0
        dim = SPECS[version.made.features].dim
        features = await asyncio.to_thread(unpack_dense, [item.vector for item in items], dim)
        probabilities = await self._scorer.score_many(
            version.tenant, version.project, version.made.sha256, features
        )
        _put_out_of_fold(probabilities, items)
        scores = _scores(version, items, probabilities)
        messages = [
            ItemScore(
                item=item_name(project.id, item.key),
                probabilities=row.tolist(),
                out_of_fold=item.out_of_fold is not None,
            )
            for item, row in zip(items, probabilities, strict=True)
            if not item.validation
        ]
        async with self._database.transaction() as tx:
            current = await self._store.project_for_update(tx, project.tenant, project.id)
            if current is None or current.score_round != project.score_round:
                return len(items)  # another version was promoted meanwhile
            await self._store.keep_scores(tx, project, scores)
            if any(item.validation for item in items):
                await self._store.let_through(tx, project)
            for message in scored_events(project, version, messages):
                announce(tx, project_event(project, message, project.score_round))
        return len(items)

    # --- the validation round

    async def _judge(self, project: Project, version: Version) -> None:
        """Hold a validation round if one is worth its share of delta; then let routing begin where it is due."""
        sample = await self._store.validation_scores(self._database, project)
        if project.stop in {Stop.NONE, Stop.DRIFT} and self._round_is_due(project, sample):
            found = await self._hold(project, version, sample)
            self._note_look(project, sum(1 for item in sample if item.labeled))
            if found is not None:
                await self._end_round(project, *found)
                return
        if project.routed_scores < project.score_round:
            async with self._database.transaction() as tx:
                await self._store.pass_over_other_features(tx, project, version.made.features)
                await self._store.begin_routing_round(tx, project)

    def _round_is_due(self, project: Project, sample: Sequence[ValidationScore]) -> bool:
        labeled = sum(1 for item in sample if item.labeled)
        last, now = self._considered.get((project.tenant, project.id)), asyncio.get_running_loop().time()
        if last is not None and last.holds(_circumstances(project), labeled, now):
            return False  # a round was held, or found not worth its delta, on about this evidence
        return round_is_due(
            labeled,
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
        the others, and `_decide` keeps to them.
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
        async with self._database.transaction() as tx:
            current = await self._store.project_for_update(tx, project.tenant, project.id)
            if current is None or (current.score_round, current.validation_round, current.stop) != (
                project.score_round,
                project.validation_round,
                project.stop,
            ):
                return  # promoted, or stopped, meanwhile: this evidence is about something else
            coverage = await self._store.open_coverage(tx, project, found.score)
            kept = replace(found, coverage=coverage)
            await self._announcer.end_round(tx, current, kept, in_force=decision.allows_any)

    # --- routes

    async def _route(self, project: Project) -> int:
        tested = await self._drift_tested(project)
        async with self._database.transaction() as tx:
            current = await self._store.project_for_update(tx, project.tenant, project.id)
            if current is None or current.routed_scores != current.score_round:
                return 0
            items = await self._store.items_to_route(tx, current, _ROUTE_BATCH)
            if not items:
                return 0
            if tested is not None and current.threshold == project.threshold:
                await self._store.set_drift_items(tx, current, tested.items)
                if tested.reason:
                    await self._announcer.stop(tx, current, Stop.DRIFT, tested.reason)
                    return len(items)  # routed by the next step, to people
            self._announce_routes(tx, current, items, routes := self._decide(current, items))
            await self._store.keep_routes(tx, current, routes)
        return len(items)

    def _decide(self, project: Project, items: Sequence[Routable]) -> list[Routed]:
        """Where each item goes from now on; the revision grows where that is worth telling."""
        scores = np.array([np.nan if item.score is None else item.score for item in items])
        margins = np.array([1.0 if item.margin is None else item.margin for item in items])
        chance = np.array(
            [uniform(self._key, "share", project.tenant, project.id, item.key) for item in items]
        )
        sayable = np.array([item.predicted in project.policy.class_ids for item in items])
        auto = goes_auto(scores, project.threshold_score) & sayable
        priorities = margin_priority(margins, chance)
        routes = []
        for at, item in enumerate(items):
            if auto[at] and not item.gold:
                routes.append(Routed(item.key, Route.AUTO, 0.0, item.revision + 1))
                continue
            priority = float(priorities[at]) if item.score is not None else item.priority
            moved = item.route is not Route.HUMAN or abs(priority - item.priority) > _WORTH_TELLING
            routes.append(
                Routed(
                    item.key,
                    Route.HUMAN,
                    priority if moved else item.priority,
                    item.revision + 1 if moved else item.revision,
                )
            )
        return routes

    def _announce_routes(
        self, tx: Transaction, project: Project, items: Sequence[Routable], routes: Sequence[Routed]
    ) -> None:
        messages: list[ItemRoute] = [
            scored_route(
                project,
                item.key,
                routed.route,
                routed.priority,
                routed.revision,
                item.predicted,
                item.score or 0.0,
            )
            for item, routed in zip(items, routes, strict=True)
            if routed.revision > item.revision
        ]
        for message in routed_events(project.id, messages):
            announce(tx, project_event(project, message))

    async def _drift_tested(self, project: Project) -> _DriftTested | None:
        """Whether what came after the threshold still looks like the sample it was set on; None when it is not time.

        It takes a second or two, and so is found out before the project is locked.
        """
        set_at = project.threshold_at
        if set_at is None:
            return None
        scores = np.array(await self._store.scores_since(self._database, project, set_at), dtype=np.float64)
        if not drift_is_due(int(scores.size), project.drift_items):
            return None
        version = await self._store.serving(self._database, project)
        if version is None:
            return None
        dim = SPECS[version.made.features].dim
        sample = await self._store.validation_scores(self._database, project)
        before = np.array([item.score for item in sample if item.created_at <= set_at], dtype=np.float64)
        old, new = [
            await read(self._database, project, set_at, DRIFT_FEATURES)
            for read in (self._store.validation_features, self._store.features_since)
        ]

        def found() -> str:
            return drifted(Seen(before, unpack_dense(old, dim)), Seen(scores, unpack_dense(new, dim)))

        return _DriftTested(scores.size, await asyncio.to_thread(found))

    async def _release_overdue(self) -> int:
        """Send to people what has waited too long for its score."""
        async with self._database.transaction() as tx:
            overdue = await self._store.overdue_items(tx, self._patience, _ROUTE_BATCH)
            if not overdue:
                return 0
            released = [
                (
                    item.ref,
                    first_priority(
                        item.hint,
                        uniform(self._key, "order", item.ref.tenant, item.ref.project, item.ref.key),
                    ),
                    item.revision + 1,
                )
                for item in overdue
            ]
            await self._store.send_to_people(tx, released)
            for place in sorted({(ref.tenant, ref.project) for ref, _, _ in released}):
                routes = [
                    human_route(ref.project, ref.key, priority, revision)
                    for ref, priority, revision in released
                    if (ref.tenant, ref.project) == place
                ]
                for message in routed_events(place[1], routes):
                    announce(tx, project_event(place, message))
        return len(overdue)


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


@dataclass(frozen=True, slots=True)
class _DriftTested:
    """On how many new items drift was tested, and why they no longer look like the sample; empty when they do."""

    items: int
    reason: str


def _promise(project: Project, pool_items: int = 1) -> Promise:
    """What the project's next round tests."""
    policy = project.policy
    return Promise(policy.alpha, policy.delta, project.validation_round + 1, pool_items)


def _doubt(posterior: Floats, place: int | None) -> float:
    """How probably an answer is wrong: surely, where the question has no such class any more."""
    return 1.0 if place is None else float(np.clip(1.0 - posterior[place], 0.0, 1.0))


def _circumstances(project: Project) -> tuple[int, ...]:
    """What makes the same evidence worth another look when it changes."""
    return project.score_round, project.stop_revision, project.revision


def _put_out_of_fold(probabilities: NDArray[np.float32], items: Sequence[Unscored]) -> None:
    """Of an item that it was trained on, take what a model trained without the item says."""
    for row, item in enumerate(items):
        if item.out_of_fold is not None:
            probabilities[row] = np.frombuffer(item.out_of_fold, dtype="<f4")


def _scores(version: Version, items: Sequence[Unscored], probabilities: NDArray[np.float32]) -> list[Score]:
    best = probabilities.argmax(axis=1)
    top = np.sort(probabilities.astype(np.float64), axis=1)
    return [
        Score(
            item.key,
            version.made.class_ids[best[row]],
            min(float(top[row, -1]), 1.0),
            float(top[row, -1] - top[row, -2]),
        )
        for row, item in enumerate(items)
    ]


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
