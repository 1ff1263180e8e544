"""Models: versions, predictions, training, and how far a model is trusted."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cairn.inference.v1 import inference_pb2 as inference
from cairn_client.calls.room import Calls
from cairn_client.errors import CairnError, error_of_status
from cairn_client.names import item_name, project_name
from cairn_client.new_items import NewItem
from cairn_client.transport import new_request_id

_CHUNK = 512 * 1024
_VECTOR_BYTES = 2 << 20
"""Bytes of vectors a call; the service takes four times as many."""


class Scores(NamedTuple):
    """What a version of a model says of rows: the calibrated probability of each of its classes ``(rows, classes)``."""

    version: str
    probabilities: NDArray[np.float32]


class Models(Calls):
    """Calls about models. A version is named in full, as its message says."""

    async def versions(self, project: str, model: str = "-") -> AsyncIterator[inference.ModelVersion]:
        """A project's model versions, newest first."""
        request = inference.ListModelVersionsRequest(parent=f"{project_name(project)}/models/{model}")
        method = self._transport.inference.ListModelVersions
        async for page in self._transport.pages(method, request, lambda r: r.model_versions):
            for version in page:
                yield version

    async def version(self, name: str) -> inference.ModelVersion:
        """A model version."""
        request = inference.GetModelVersionRequest(name=name)
        return await self._transport.call(self._transport.inference.GetModelVersion, request)

    async def upload(
        self, project: str, model: str, file: Path | str, *, features: str, classes: Sequence[str]
    ) -> inference.ModelVersion:
        """Add a version from an ONNX file. Raises InvalidArgument (`MODEL_INVALID`) saying what is wrong
        with it."""
        data, _ = NewItem("", path=Path(file)).content()
        header = inference.ModelHeader(
            parent=f"{project_name(project)}/models/{model}",
            features=features,
            class_ids=classes,
            expected_sha256=hashlib.sha256(data).hexdigest(),
            request_id=new_request_id(),
        )

        async def messages() -> AsyncIterator[inference.UploadModelVersionRequest]:
            yield inference.UploadModelVersionRequest(header=header)
            for start in range(0, len(data), _CHUNK):
                yield inference.UploadModelVersionRequest(chunk=data[start : start + _CHUNK])

        return await self._transport.send(self._transport.inference.UploadModelVersion, messages)

    async def promote(self, name: str) -> inference.ModelVersion:
        """Make a version the one that serves."""
        request = inference.PromoteModelVersionRequest(name=name, request_id=new_request_id())
        return await self._transport.call(self._transport.inference.PromoteModelVersion, request)

    async def predict(
        self,
        project: str,
        inputs: Sequence[inference.PredictInput | str],
        *,
        of_items: bool = False,
        version: str = "",
    ) -> list[inference.Prediction | CairnError]:
        """What a model says of texts, or of items when `of_items` (keys); one result for each, in order."""
        wanted = [
            one
            if isinstance(one, inference.PredictInput)
            else inference.PredictInput(item=item_name(project, one))
            if of_items
            else inference.PredictInput(text=one)
            for one in inputs
        ]
        results: list[inference.Prediction | CairnError] = []
        for start in range(0, len(wanted), 1000):
            request = inference.PredictRequest(
                parent=project_name(project), inputs=wanted[start : start + 1000], model_version=version
            )
            answer = await self._transport.call(self._transport.inference.Predict, request)
            results += [
                r.prediction if r.WhichOneof("result") == "prediction" else error_of_status(r.error)
                for r in answer.results
            ]
        return results

    async def predict_features(
        self, project: str, vectors: NDArray[np.float32], *, features: str, version: str = ""
    ) -> Scores:
        """What a model says of vectors ``(rows, dim)`` that were taken by the extraction named `features`.

        Raises ValueError for what is no table of numbers, InvalidArgument (`FEATURES_DIFFER`, `VECTORS_INVALID`) for
        vectors that the model does not read.
        """
        table = np.ascontiguousarray(vectors, dtype="<f4")
        if table.ndim != 2 or not table.size:
            raise ValueError(
                f"vectors are of shape {table.shape}; expected (rows, dim), with at least one row"
            )
        rows = max(_VECTOR_BYTES // table[0].nbytes, 1)
        parts = []
        for start in range(0, len(table), rows):
            part = table[start : start + rows]
            request = inference.PredictFeaturesRequest(
                parent=project_name(project),
                model_version=version,
                features=features,
                vectors=part.tobytes(),
            )
            answer = await self._transport.call(self._transport.inference.PredictFeatures, request)
            version = (
                answer.model_version
            )  # one answers for all rows, even when another is promoted meanwhile
            parts.append(np.frombuffer(answer.probabilities, dtype="<f4").reshape(len(part), -1))
        return Scores(version, np.concatenate(parts))

    async def train(self, project: str) -> inference.TrainingRun:
        """Start training on the labels there are."""
        request = inference.StartTrainingRequest(parent=project_name(project), request_id=new_request_id())
        return await self._transport.call(self._transport.inference.StartTraining, request)

    async def training_runs(self, project: str) -> AsyncIterator[inference.TrainingRun]:
        """A project's training runs, newest first."""
        request = inference.ListTrainingRunsRequest(parent=project_name(project))
        method = self._transport.inference.ListTrainingRuns
        async for page in self._transport.pages(method, request, lambda r: r.training_runs):
            for run in page:
                yield run

    async def routing(self, project: str) -> inference.Routing:
        """How items are routed now, and on what evidence."""
        request = inference.GetRoutingRequest(project=project_name(project))
        return await self._transport.call(self._transport.inference.GetRouting, request)

    async def stop_auto_labeling(self, project: str, reason: str) -> inference.Routing:
        """Stop automatic labeling until it is resumed."""
        request = inference.StopAutoLabelingRequest(
            project=project_name(project), reason=reason, request_id=new_request_id()
        )
        return await self._transport.call(self._transport.inference.StopAutoLabeling, request)

    async def resume_auto_labeling(self, project: str) -> inference.Routing:
        """Let a fresh validation round decide again."""
        request = inference.ResumeAutoLabelingRequest(
            project=project_name(project), request_id=new_request_id()
        )
        return await self._transport.call(self._transport.inference.ResumeAutoLabeling, request)
