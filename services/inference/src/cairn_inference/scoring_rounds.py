"""What follows from a model version: score what it has not seen, judge it on the validation sample, route.

Everything that is to be done is in the rows (an item's rounds against its project's), so that a process killed at
any point is followed by one that goes on. One process of the service does this at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import numpy as np
from numpy.typing import NDArray

from cairn.events.v1.inference_events_pb2 import ItemRoute, ItemScore
from cairn_inference.announcing import Announcer, project_event
from cairn_inference.domain.features import SPECS, unpack_dense
from cairn_inference.domain.names import item_name
from cairn_inference.domain.routing import (
    DRIFT_FEATURES,
    DRIFT_SCORES,
    Route,
    Seen,
    Stop,
    drift_is_due,
    drifted,
    first_priority,
    goes_auto,
    margin_priority,
    uniform,
)
from cairn_inference.loaded_model import MAX_BATCH
from cairn_inference.messages import human_route, routed_events, scored_events, scored_route
from cairn_inference.records import (
    Project,
    Routable,
    Routed,
    Score,
    Unscored,
    Version,
)
from cairn_inference.scoring import Scorer
from cairn_inference.store import InferenceStore
from cairn_inference.validation_rounds import ValidationRounds
from cairn_kit.database import Database, Transaction
from cairn_kit.database.pool import OUTAGES
from cairn_kit.events import announce
from cairn_kit.telemetry.logs import get_logger

if TYPE_CHECKING:  # the stubs alone know of asynchronous clients
    from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceAsyncStub

_log = get_logger(__name__)
Floats = NDArray[np.float64]

_AWAY: tuple[type[BaseException], ...] = (grpc.aio.AioRpcError, *OUTAGES)
"""Consensus, the model files or the database do not answer, or not in time."""

_ROUTE_BATCH = 1000
_WORTH_TELLING = 0.05
"""A priority that moved less is not announced: every announcement is a write in every service."""

_REST = 4.0
"""How many times as long as it took to fail a project rests: it takes a fifth of the time from the others at most."""


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
        self._key = sampling_key
        self._patience = route_patience
        self._announcer = Announcer(store)
        self._validation = ValidationRounds(database, store, consensus)
        self._rests_until: dict[tuple[str, str], float] = {}
        """Of projects that failed: until when, on the loop's clock, they are passed over."""
        self._newcomers: dict[tuple[str, str], _Newcomers] = {}
        """Of projects with a threshold: what may have come since, so as not to count it for each batch."""

    def begin(self) -> None:
        """Count anew what came: another process may have scored."""
        self._newcomers.clear()

    async def step(self) -> int:
        """One batch of work for each project that is not at rest; how many items were taken up.

        No project holds up the others: one that fails, with a damaged model file or by a statement that takes too
        long, rests so long that it has a small share of the time.
        """
        done = await self._release_overdue()
        clock = asyncio.get_running_loop().time
        projects = await self._store.projects_with_work(self._database)
        self._forget_all_but({(project.tenant, project.id) for project in projects})
        for project in projects:
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

    def _forget_all_but(self, places: Set[tuple[str, str]]) -> None:
        """What is remembered of a project goes with it, and with its routing."""
        for gone in self._rests_until.keys() - places:
            del self._rests_until[gone]
        for gone in self._newcomers.keys() - places:
            del self._newcomers[gone]
        self._validation.forget_all_but(places)

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
        waiting = await self._store.items_to_score(self._database, project, version, MAX_BATCH)
        if not waiting:
            return 0
        items = [item for item in waiting if item.vector is not None]
        unread = [item.key for item in waiting if item.vector is None]
        probabilities = await self._probabilities(version, items)
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
                return len(waiting)  # another version was promoted meanwhile
            await self._store.keep_scores(tx, project, scores)
            await self._store.pass_over(tx, project, unread)
            if any(item.validation for item in items):
                await self._store.let_through_of(tx, project, [item.key for item in items])
            for message in scored_events(project, version, messages):
                announce(tx, project_event(project, message, project.score_round))
        if (newcomers := self._newcomers.get((project.tenant, project.id))) is not None:
            newcomers.at_most += len(items)
        return len(waiting)

    async def _probabilities(self, version: Version, items: Sequence[Unscored]) -> NDArray[np.float32]:
        """What the version says of items that it reads ``(items, classes)``; of those it learned from, out of fold."""
        if not items:
            return np.zeros((0, len(version.made.class_ids)), dtype=np.float32)
        dim = SPECS[version.made.features].dim
        packed = [item.vector for item in items if item.vector is not None]
        features = await asyncio.to_thread(unpack_dense, packed, dim)
        probabilities = await self._scorer.score_many(
            version.tenant, version.project, version.made.sha256, features
        )
        _put_out_of_fold(probabilities, items)
        return probabilities

    # --- the validation round

    async def _judge(self, project: Project, version: Version) -> None:
        """Hold a validation round if one is worth its share of delta; then let routing begin where it is due."""
        if await self._validation.judge(project, version):
            return
        if project.routed_scores < project.score_round:
            async with self._database.transaction() as tx:
                await self._store.begin_routing_round(tx, project)

    # --- routes

    async def _route(self, project: Project) -> int:
        if not await self._store.any_to_route(self._database, project):
            return 0
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
        set_at, place = project.threshold_at, (project.tenant, project.id)
        if set_at is None:
            self._newcomers.pop(place, None)
            return None
        about, known = (project.threshold, project.drift_items), self._newcomers.get(place)
        if known is None or known.about != about or drift_is_due(known.at_most, project.drift_items):
            there = await self._store.items_since(self._database, project, set_at)
            known = self._newcomers[place] = _Newcomers(about, there)
        if not drift_is_due(known.at_most, project.drift_items):
            return None
        scores = np.array(
            await self._store.scores_since(self._database, project, set_at, DRIFT_SCORES), dtype=np.float64
        )
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

        return _DriftTested(known.at_most, await asyncio.to_thread(found))

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
class _DriftTested:
    """On how many new items drift was tested, and why they no longer look like the sample; empty when they do."""

    items: int
    reason: str


@dataclass(slots=True)
class _Newcomers:
    """How many items may have come since a threshold was set, and the threshold and drift test that this is about."""

    about: tuple[int | None, int]
    at_most: int


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
