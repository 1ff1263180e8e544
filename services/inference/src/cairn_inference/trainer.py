"""Training runs: asked for when labels have grown, done in a process of their own, one at a time.

A run is a row with a state. Whoever holds the trainer's lock begins the oldest run that has not ended; one that is
RUNNING then has lost its process, and is begun again, as one more attempt: whoever is at an earlier one, and did not hear
that the lock was lost, can neither finish nor fail the run. The training process dies with its parent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from cairn_inference.announcing import Announcer
from cairn_inference.domain.calibration import is_better
from cairn_inference.domain.features import SPECS, unpack_dense, unpack_sparse
from cairn_inference.domain.learning import assess, is_due
from cairn_inference.domain.names import TRAINED_MODEL
from cairn_inference.model_store import ModelStore
from cairn_inference.records import NewLabels, NewVersion, Project, Run, RunState, TrainingRows, Version
from cairn_inference.scoring import Scorer
from cairn_inference.store import InferenceStore
from cairn_inference.training.__main__ import UNTRAINABLE
from cairn_inference.training.exchange import (
    ERROR_FILE,
    TrainingOutcome,
    TrainingRequest,
    read_outcome,
    write_request,
)
from cairn_inference.training_folders import TrainingFolders
from cairn_inference.training_process import TrainingDied, TrainingProcess
from cairn_kit.database import Database
from cairn_kit.ids import uuid7
from cairn_kit.telemetry.logs import get_logger

_log = get_logger(__name__)
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SEED = 1
_MOST_ATTEMPTS = 3
_LOOK_EVERY = 0.25
_REST = 20.0
"""How many times as long as it took to count a project's labels they are not counted again."""

_LEAST_WEIGHT = 0.05
"""A label of no confidence still says which items there are; weight 0 would upset the folds."""

FAILED_PRECONDITION = int(grpc.StatusCode.FAILED_PRECONDITION.value[0])
INTERNAL = int(grpc.StatusCode.INTERNAL.value[0])
DEADLINE_EXCEEDED = int(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])


class RunFailed(Exception):
    """The run made no version: gRPC code, reason, and the sentence."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.error = (code, reason, message)


class RunCancelled(Exception):
    """The run was cancelled while it was under way, or is somebody else's by now."""


@dataclass(frozen=True, slots=True)
class TrainingLimits:
    """When to train, how long, and on how much; see InferenceSettings."""

    interval: float
    growth: float
    labels: int
    deadline: float
    margin: float


class Trainer:
    """Asks for trainings and does them."""

    def __init__(
        self,
        database: Database,
        store: InferenceStore,
        models: ModelStore,
        scorer: Scorer,
        process: TrainingProcess,
        folders: TrainingFolders,
        limits: TrainingLimits,
    ) -> None:
        self._database = database
        self._store = store
        self._models = models
        self._scorer = scorer
        self._process = process
        self._folders = folders
        self._limits = limits
        self._announcer = Announcer(store)
        self._counted_until: dict[tuple[str, str], float] = {}
        """Until when, on the loop's clock, each project's labels are not counted again."""
        self._swept = False

    def begin(self) -> None:
        """Look for what a process that was killed left behind, before the next step."""
        self._swept = False

    async def step(self) -> int:
        """Ask for what is due, and do one run; how many runs were done."""
        if not self._swept:
            await self._folders.sweep()
            self._swept = True
        clock = asyncio.get_running_loop().time
        self._counted_until = {
            place: until for place, until in self._counted_until.items() if until > clock()
        }
        for changed in await self._store.projects_to_train(self._database, self._limits.interval):
            began, place = clock(), (changed.tenant, changed.project)
            if place not in self._counted_until:
                await self._ask(changed)
                self._counted_until[place] = clock() + _REST * (clock() - began)
        async with self._database.transaction() as tx:
            run = await self._store.next_run(tx)
        if run is None:
            return 0
        await self._do(run)
        return 1

    async def _ask(self, changed: NewLabels) -> None:
        """Ask for a training if one is due. Labels are counted while others come in: there may be millions."""
        place = changed.tenant, changed.project
        found = (await self._store.projects(self._database, [place])).get(place)
        if found is None or found.moves:  # it may have begun since it was listed
            return
        counts = await self._store.label_counts(self._database, found)
        best: Counter[str] = max(counts.values(), key=lambda labels: labels.total(), default=Counter())
        need = assess([best.get(class_id, 0) for class_id in found.policy.class_ids])
        if not is_due(need, found.labels_trained, self._limits.growth):
            await self._store.labels_counted(self._database, changed)
            return
        async with self._database.transaction() as tx:
            project = await self._store.project_for_update(tx, *place)
            if project is not None and not project.moves and project.policy.promised == found.policy.promised:
                await self._store.insert_run(tx, project, str(uuid7()), need.labels)

    # --- one run

    async def _do(self, run: Run) -> None:
        try:
            if run.attempts > _MOST_ATTEMPTS:
                raise RunFailed(INTERNAL, "TRAINING_DIED", f"The training died {_MOST_ATTEMPTS} times.")
            async with self._folders.open(f"{run.id}-{run.attempts}") as folder:
                await self._train(run, folder)
        except RunCancelled:
            _log.info("training.cancelled", run=run.id)
        except RunFailed as failure:
            _log.warning("training.failed", run=run.id, reason=failure.error[1], why=str(failure))
            await self._fail(run, failure)

    async def _train(self, run: Run, folder: Path) -> None:
        from cairn_inference.model_check import BadModel, check_model  # onnx: start without it

        project = (await self._store.projects(self._database, [(run.tenant, run.project)]))[
            run.tenant, run.project
        ]
        counts = await self._store.label_counts(self._database, project)
        if not counts:
            raise RunFailed(
                FAILED_PRECONDITION, "TOO_FEW_LABELS", "There are no labels to train on any more."
            )
        spec = max(counts, key=lambda name: counts[name].total())
        rows = await self._store.training_rows(self._database, project, spec, self._limits.labels)
        request = await asyncio.to_thread(_request, project, spec, rows)
        outcome = await self._in_a_process(run, folder, request)
        try:
            await check_model(outcome.model, dim=SPECS[spec].dim, classes=len(request.class_ids))
        except BadModel as error:
            raise RunFailed(
                INTERNAL, "TRAINING_BROKEN", f"The training made no good model: {error}"
            ) from error
        better = await self._is_better(project, spec, rows, request, outcome)
        digest = await self._models.put(run.tenant, run.project, outcome.model)
        made = NewVersion(
            TRAINED_MODEL, digest, spec, request.class_ids, len(rows.keys), outcome.evaluation, run.id
        )
        await self._finish(run, made, rows, outcome, better)

    async def _in_a_process(self, run: Run, folder: Path, request: TrainingRequest) -> TrainingOutcome:
        request_file = folder / "request.npz"
        await asyncio.to_thread(write_request, request_file, request)
        answer = asyncio.create_task(self._process.train(request_file, folder))
        try:
            await self._watch(run, answer)
            code = await answer
        except TrainingDied as died:
            _log.error("training.died", run=run.id, why=str(died))
            raise RunFailed(INTERNAL, "TRAINING_DIED", "The training process ended unexpectedly.") from died
        finally:
            if not answer.done():  # called off: whatever it is doing is not wanted any more
                answer.cancel()
                await self._process.kill()
        if code == UNTRAINABLE:
            why = await asyncio.to_thread((folder / ERROR_FILE).read_text)
            raise RunFailed(FAILED_PRECONDITION, "TOO_FEW_LABELS", why)
        return await asyncio.to_thread(read_outcome, folder)

    async def _watch(self, run: Run, answer: asyncio.Task[int]) -> None:
        """Wait for the answer; raise when the run is cancelled or takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.deadline
        while not (await asyncio.wait({answer}, timeout=_LOOK_EVERY))[0]:
            if not _is_still(run, await self._store.run(self._database, run.tenant, run.project, run.id)):
                raise RunCancelled
            if loop.time() > deadline:
                raise RunFailed(
                    DEADLINE_EXCEEDED,
                    "TRAINING_TOO_LONG",
                    f"The training took more than {self._limits.deadline:.0f} s.",
                )

    async def _is_better(
        self,
        project: Project,
        spec: str,
        rows: TrainingRows,
        request: TrainingRequest,
        outcome: TrainingOutcome,
    ) -> bool:
        """Whether it beats the serving version on the same labels, neither having seen them."""
        serving = await self._store.serving(self._database, project)
        if serving is None or serving.made.features != spec:
            return True
        theirs = await self._unseen(serving, spec, rows, request.class_ids)
        return is_better(
            outcome.out_of_fold.astype(np.float64),
            theirs,
            request.labels,
            request.weights,
            margin=self._limits.margin,
        )

    async def _unseen(
        self, serving: Version, spec: str, rows: TrainingRows, class_ids: tuple[str, ...]
    ) -> Floats:
        """What the serving version says of the labels' items; of those it was trained on, out of fold."""
        features = await asyncio.to_thread(unpack_dense, rows.vectors, SPECS[spec].dim)
        theirs = await self._scorer.score_many(serving.tenant, serving.project, serving.made.sha256, features)
        kept = await self._store.out_of_fold(self._database, serving, rows.keys)
        for at, key in enumerate(rows.keys):
            if key in kept:
                theirs[at] = np.frombuffer(kept[key], dtype="<f4")
        aligned = np.zeros((len(rows.keys), len(class_ids)))
        for column, class_id in enumerate(serving.made.class_ids):
            if class_id in class_ids:
                aligned[:, class_ids.index(class_id)] = theirs[:, column]
        return aligned

    async def _finish(
        self, run: Run, made: NewVersion, rows: TrainingRows, outcome: TrainingOutcome, better: bool
    ) -> None:
        async with self._database.transaction() as tx:
            project = await self._store.project_for_update(tx, run.tenant, run.project)
            current = await self._store.run_for_update(tx, run.tenant, run.project, run.id)
            if project is None or not _is_still(run, current):
                raise RunCancelled
            version = await self._store.insert_version(tx, run.tenant, run.project, made)
            await self._store.insert_out_of_fold(
                tx, version, rows.keys, [row.astype("<f4").tobytes() for row in outcome.out_of_fold]
            )
            self._announcer.version_created(tx, version)
            ended = await self._store.end_run(tx, run, RunState.FINISHED, version=version)
            self._announcer.run_ended(tx, ended)
            if better and project.policy.automatic and project.policy.class_ids == made.class_ids:
                await self._announcer.promote(tx, project, version)

    async def _fail(self, run: Run, failure: RunFailed) -> None:
        async with self._database.transaction() as tx:
            current = await self._store.run_for_update(tx, run.tenant, run.project, run.id)
            if _is_still(run, current):
                ended = await self._store.end_run(tx, run, RunState.FAILED, error=failure.error)
                self._announcer.run_ended(tx, ended)


def _is_still(run: Run, current: Run | None) -> bool:
    """Whether the run is still under way, in the same attempt."""
    return current is not None and not current.state.ended and current.attempts == run.attempts


def _request(project: Project, spec: str, rows: TrainingRows) -> TrainingRequest:
    class_ids = project.policy.class_ids
    place = {class_id: at for at, class_id in enumerate(class_ids)}
    return TrainingRequest(
        features=unpack_sparse(rows.vectors, SPECS[spec].dim),
        labels=np.array([place[class_id] for class_id in rows.class_ids], dtype=np.int64),
        weights=np.clip(np.array(rows.confidences, dtype=np.float64), _LEAST_WEIGHT, 1.0),
        class_ids=class_ids,
        seed=_SEED,
    )
