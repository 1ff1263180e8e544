"""protobuf <-> domain, nothing else. Errors are raised; the chassis puts them on the wire."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, BinaryIO

from cairn.inference.v1 import inference_pb2 as api
from cairn.inference.v1.inference_pb2_grpc import InferenceServiceServicer
from cairn_inference.domain.names import model_of, project_id, run_of, version_of
from cairn_inference.handlers import Handlers
from cairn_inference.messages import predict_response, routing_message, run_message, version_message
from cairn_inference.model_store import MAX_MODEL_BYTES
from cairn_inference.predicting import Predictor
from cairn_inference.records import Project
from cairn_inference.store import InferenceStore, Reader
from cairn_inference.uploads import Uploads, in_time
from cairn_kit.auth import caller
from cairn_kit.database import Database
from cairn_kit.errors import InvalidArgument, NotFound, Violation, project_not_found
from cairn_kit.rpc import once, page_size, read_page_token, write_page_token


class _NotAnswered(Exception):
    """The request is new."""


class InferenceRpc(InferenceServiceServicer):
    """cairn.inference.v1.InferenceService."""

    def __init__(
        self,
        database: Database,
        store: InferenceStore,
        handlers: Handlers,
        predictor: Predictor,
        uploads: Uploads,
    ) -> None:
        self._database = database
        self._store = store
        self._handlers = handlers
        self._predictor = predictor
        self._uploads = uploads

    async def UploadModelVersion(
        self, request: AsyncIterator[api.UploadModelVersionRequest], context: Any
    ) -> api.ModelVersion:
        """Collect the file, then check and keep it."""
        tenant = caller().tenant
        async with self._uploads.place(tenant) as file:
            header = await _collect(request, file)
            parts = header.parent.split("/")
            answered = await self._answered(tenant, header)
            if answered is not None:
                return answered
            made = await self._handlers.keep_model(
                tenant, parts[1], parts[3], header.features, list(header.class_ids), file
            )

        async def effect() -> api.ModelVersion:
            return version_message(await self._handlers.add_version(tx, tenant, parts[1], made))

        async with self._database.transaction() as tx:
            return await once(tx, tenant, header, api.ModelVersion, effect)

    async def _answered(self, tenant: str, header: api.ModelHeader) -> api.ModelVersion | None:
        """The answer that an earlier try of this upload got: its model is not tried out again, nor refused for what
        has changed since."""

        async def effect() -> api.ModelVersion:
            raise _NotAnswered

        try:
            async with self._database.transaction() as tx:
                return await once(tx, tenant, header, api.ModelVersion, effect)
        except _NotAnswered:
            return None

    async def GetModelVersion(self, request: api.GetModelVersionRequest, context: Any) -> api.ModelVersion:
        """One version."""
        project, model, number = _version_of(request.name)
        version = await self._store.version(self._database, caller().tenant, project, model, number)
        if version is None:
            raise _no_version(request.name)
        await self._project(self._database, project)
        return version_message(version)

    async def ListModelVersions(
        self, request: api.ListModelVersionsRequest, context: Any
    ) -> api.ListModelVersionsResponse:
        """Newest first."""
        size, keys = page_size(request.page_size, default=50), read_page_token(request)
        before = (datetime.fromisoformat(keys[0]), str(keys[1]), int(keys[2])) if keys else None
        project, model = project_id(request.parent), model_of(request.parent)
        await self._project(self._database, project)
        found = await self._store.versions(self._database, caller().tenant, project, model, before, size + 1)
        response = api.ListModelVersionsResponse(model_versions=[version_message(v) for v in found[:size]])
        if len(found) > size:
            last = found[size - 1]
            response.next_page_token = write_page_token(
                request, last.created_at.isoformat(), last.made.model, last.number
            )
        return response

    async def PromoteModelVersion(
        self, request: api.PromoteModelVersionRequest, context: Any
    ) -> api.ModelVersion:
        """Put a version to work."""
        tenant = caller().tenant
        project, model, number = _version_of(request.name)

        async def effect() -> api.ModelVersion:
            return version_message(await self._handlers.promote(tx, tenant, project, model, number))

        async with self._database.transaction() as tx:
            return await once(tx, tenant, request, api.ModelVersion, effect)

    async def Predict(self, request: api.PredictRequest, context: Any) -> api.PredictResponse:
        """One result for each input."""
        version, results = await self._predictor.predict(
            caller().tenant, project_id(request.parent), request.model_version, list(request.inputs)
        )
        return predict_response(version, results)

    async def PredictFeatures(
        self, request: api.PredictFeaturesRequest, context: Any
    ) -> api.PredictFeaturesResponse:
        """All rows at once."""
        version, probabilities = await self._predictor.predict_features(
            caller().tenant,
            project_id(request.parent),
            request.model_version,
            request.features,
            request.vectors,
        )
        return api.PredictFeaturesResponse(
            model_version=version.name, probabilities=probabilities.astype("<f4", copy=False).tobytes()
        )

    async def StartTraining(self, request: api.StartTrainingRequest, context: Any) -> api.TrainingRun:
        """Ask for a training."""
        tenant = caller().tenant

        async def effect() -> api.TrainingRun:
            return run_message(await self._handlers.start_training(tx, tenant, project_id(request.parent)))

        async with self._database.transaction() as tx:
            return await once(tx, tenant, request, api.TrainingRun, effect)

    async def GetTrainingRun(self, request: api.GetTrainingRunRequest, context: Any) -> api.TrainingRun:
        """One run."""
        project, run_id = run_of(request.name)
        run = await self._store.run(self._database, caller().tenant, project, run_id)
        if run is None:
            raise NotFound("TRAINING_RUN_NOT_FOUND", f"There is no {request.name}.", resource=request.name)
        await self._project(self._database, project)
        return run_message(run)

    async def ListTrainingRuns(
        self, request: api.ListTrainingRunsRequest, context: Any
    ) -> api.ListTrainingRunsResponse:
        """Newest first."""
        size, keys = page_size(request.page_size, default=50), read_page_token(request)
        project = project_id(request.parent)
        await self._project(self._database, project)
        found = await self._store.runs(
            self._database, caller().tenant, project, str(keys[0]) if keys else None, size + 1
        )
        response = api.ListTrainingRunsResponse(training_runs=[run_message(run) for run in found[:size]])
        if len(found) > size:
            response.next_page_token = write_page_token(request, found[size - 1].id)
        return response

    async def CancelTrainingRun(self, request: api.CancelTrainingRunRequest, context: Any) -> api.TrainingRun:
        """Stop a run."""
        tenant = caller().tenant
        project, run_id = run_of(request.name)

        async def effect() -> api.TrainingRun:
            return run_message(await self._handlers.cancel_run(tx, tenant, project, run_id))

        async with self._database.transaction() as tx:
            return await once(tx, tenant, request, api.TrainingRun, effect)

    async def GetRouting(self, request: api.GetRoutingRequest, context: Any) -> api.Routing:
        """How items are routed now."""
        project = await self._project(self._database, project_id(request.project))
        return await self._routing(self._database, project)

    async def StopAutoLabeling(self, request: api.StopAutoLabelingRequest, context: Any) -> api.Routing:
        """Stop by hand."""
        tenant = caller().tenant

        async def effect() -> api.Routing:
            project = await self._handlers.stop(tx, tenant, project_id(request.project), request.reason)
            return await self._routing(tx, project)

        async with self._database.transaction() as tx:
            return await once(tx, tenant, request, api.Routing, effect)

    async def ResumeAutoLabeling(self, request: api.ResumeAutoLabelingRequest, context: Any) -> api.Routing:
        """Let a fresh round decide."""
        tenant = caller().tenant

        async def effect() -> api.Routing:
            project = await self._handlers.resume(tx, tenant, project_id(request.project))
            return await self._routing(tx, project)

        async with self._database.transaction() as tx:
            return await once(tx, tenant, request, api.Routing, effect)

    async def _project(self, reader: Reader, project: str) -> Project:
        tenant = caller().tenant
        found = (await self._store.projects(reader, [(tenant, project)])).get((tenant, project))
        if found is None:
            raise project_not_found(project)
        return found

    async def _routing(self, reader: Reader, project: Project) -> api.Routing:
        threshold = await self._store.threshold(reader, project)
        counts = await self._store.item_counts(reader, project.tenant, project.id)
        return routing_message(project, threshold, counts)


def _version_of(name: str) -> tuple[str, str, int]:
    try:
        return version_of(name)
    except ValueError:
        raise _no_version(name) from None  # a version is a number: any other name is of none


def _no_version(name: str) -> NotFound:
    return NotFound("MODEL_VERSION_NOT_FOUND", f"There is no {name}.", resource=name)


async def _collect(request: AsyncIterator[api.UploadModelVersionRequest], file: BinaryIO) -> api.ModelHeader:
    """The header, which says the file's SHA-256 in any case; the bytes after it are written to `file`.

    Raises InvalidArgument for another order, or too many bytes, and DeadlineExceeded when they come too slowly.
    """
    header: api.ModelHeader | None = None
    hashed, size = hashlib.sha256(), 0
    async for message in in_time(request):
        first = header is None
        if first != (message.WhichOneof("part") == "header"):
            problem = "The first message is a header, every further one a chunk."
            raise InvalidArgument("STREAM_ORDER", problem, violations=[Violation("part", problem)])
        if first:
            header = message.header
            continue
        size += len(message.chunk)
        if size > MAX_MODEL_BYTES:
            problem = f"The file has more than {MAX_MODEL_BYTES} bytes."
            raise InvalidArgument("MODEL_INVALID", problem, violations=[Violation("chunk", problem)])
        hashed.update(message.chunk)
        await asyncio.to_thread(file.write, message.chunk)
    if header is None:
        raise InvalidArgument("STREAM_ORDER", "The stream ended before its header.")
    digest = hashed.hexdigest()
    if header.expected_sha256 and header.expected_sha256 != digest:
        problem = "The file has another SHA-256 than expected."
        raise InvalidArgument(
            "MODEL_INVALID", problem, violations=[Violation("header.expected_sha256", problem)]
        )
    header.expected_sha256 = digest  # a repeated request is known by its header and its file
    return header
