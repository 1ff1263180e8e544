"""Models are uploaded once, however often the line is cut."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from cairn.inference.v1 import inference_pb2 as inference
from cairn.inference.v1.inference_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)
from cairn_client import AsyncCairn, Patience, Profile

WIDE = 1 << 17
"""Values of a vector, so that four fill a call."""


class Inference(InferenceServiceServicer):
    """Takes the first upload whole, and cannot say so any more; knows a model of two classes."""

    def __init__(self) -> None:
        self.uploads: list[tuple[inference.ModelHeader, bytes]] = []
        self.predicted: list[inference.PredictFeaturesRequest] = []

    async def UploadModelVersion(
        self,
        requests: AsyncIterator[inference.UploadModelVersionRequest],
        context: grpc.aio.ServicerContext,
    ) -> inference.ModelVersion:
        header, data = inference.ModelHeader(), b""
        async for request in requests:
            if request.WhichOneof("part") == "header":
                header = request.header
            data += request.chunk
        self.uploads.append((header, data))
        if len(self.uploads) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "The line is cut.")
        return inference.ModelVersion(name=f"{header.parent}/versions/1")

    async def PredictFeatures(
        self, request: inference.PredictFeaturesRequest, context: grpc.aio.ServicerContext
    ) -> inference.PredictFeaturesResponse:
        """Two classes: by the first value of a row, and by what is left of one."""
        self.predicted.append(request)
        first = np.frombuffer(request.vectors, dtype="<f4").reshape(-1, WIDE)[:, 0]
        said = np.stack([first, 1 - first], axis=1).astype("<f4")
        version = request.model_version or "projects/birds/models/mine/versions/7"
        return inference.PredictFeaturesResponse(model_version=version, probabilities=said.tobytes())


@asynccontextmanager
async def asking(servicer: Inference) -> AsyncIterator[AsyncCairn]:
    server = grpc.aio.server()
    add_InferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    patience = Patience(call=5.0, first_delay=0.01, longest_delay=0.02)
    async with AsyncCairn(
        profile=Profile.at(f"127.0.0.1:{port}"), token="secret", patience=patience
    ) as cairn:
        yield cairn
    await server.stop(0)


async def test_a_repeated_upload_is_known_as_the_same(tmp_path: Path) -> None:
    servicer = Inference()
    file = tmp_path / "mine.onnx"
    file.write_bytes(b"a model")
    async with asking(servicer) as cairn:
        for _ in range(2):
            await cairn.models.upload("birds", "mine", file, features="text", classes=["a", "b"])

    first, again, other = servicer.uploads
    assert first == again, "the header, its request_id and the file"
    assert first[0].request_id
    assert other[0].request_id != first[0].request_id, "another call is another request"


async def test_many_vectors_are_asked_about_part_by_part_and_answered_by_one_version() -> None:
    servicer = Inference()
    vectors = np.zeros((9, WIDE))
    vectors[:, 0] = np.arange(9) / 16
    async with asking(servicer) as cairn:
        scores = await cairn.models.predict_features("birds", vectors, features="text")
        for wrong in (np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0))):
            with pytest.raises(ValueError, match="expected \\(rows, dim\\)"):
                await cairn.models.predict_features("birds", wrong, features="text")
    assert scores.version == "projects/birds/models/mine/versions/7"
    assert scores.probabilities.tolist() == [[n / 16, 1 - n / 16] for n in range(9)]
    assert [len(asked.vectors) // (4 * WIDE) for asked in servicer.predicted] == [4, 4, 1]
    assert [asked.model_version for asked in servicer.predicted] == ["", *[scores.version] * 2]
