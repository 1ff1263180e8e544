"""Models are uploaded once, however often the line is cut."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from cairn.inference.v1 import inference_pb2 as inference
from cairn.inference.v1.inference_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)
from cairn_client import AsyncCairn, Patience, Profile


class Inference(InferenceServiceServicer):
    """Takes the first upload whole, and cannot say so any more."""

    def __init__(self) -> None:
        self.uploads: list[tuple[inference.ModelHeader, bytes]] = []

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


async def test_a_repeated_upload_is_known_as_the_same(tmp_path: Path) -> None:
    servicer, server = Inference(), grpc.aio.server()
    add_InferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    file = tmp_path / "mine.onnx"
    file.write_bytes(b"a model")
    patience = Patience(call=5.0, first_delay=0.01, longest_delay=0.02)
    async with AsyncCairn(
        profile=Profile.at(f"127.0.0.1:{port}"), token="secret", patience=patience
    ) as cairn:
        for _ in range(2):
            await cairn.models.upload("birds", "mine", file, features="text", classes=["a", "b"])
    await server.stop(0)

    first, again, other = servicer.uploads
    assert first == again, "the header, its request_id and the file"
    assert first[0].request_id
    assert other[0].request_id != first[0].request_id, "another call is another request"
