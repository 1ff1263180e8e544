"""A labeler is set up field by field: what is not given stays as it is."""

from __future__ import annotations

import grpc
import pytest

from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn.dispatch.v1.task_dispatch_pb2_grpc import (
    TaskDispatchServiceServicer,
    add_TaskDispatchServiceServicer_to_server,
)
from cairn_client import AsyncCairn, Profile


class Dispatch(TaskDispatchServiceServicer):
    """Remembers what it was asked to change."""

    def __init__(self) -> None:
        self.asked: list[dispatch.UpdateLabelerRequest] = []

    async def UpdateLabeler(
        self, request: dispatch.UpdateLabelerRequest, context: grpc.aio.ServicerContext
    ) -> dispatch.Labeler:
        self.asked.append(request)
        return request.labeler


@pytest.mark.parametrize(
    ("given", "mask"),
    [
        ({"skills": ["birds"]}, ["skills"]),
        ({"skills": []}, ["skills"]),
        ({"suspended": False}, ["suspended"]),
        ({"skills": ["birds"], "suspended": True, "etag": "3"}, ["skills", "suspended"]),
        ({}, []),
    ],
)
async def test_only_what_is_given_is_changed(given: dict[str, object], mask: list[str]) -> None:
    service, server = Dispatch(), grpc.aio.server()
    add_TaskDispatchServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with AsyncCairn(profile=Profile.at(f"127.0.0.1:{port}"), token="secret") as client:
            await client.labelers.set_up("ann", **given)
    finally:
        await server.stop(None)
    [request] = service.asked
    assert request.labeler == dispatch.Labeler(name="labelers/ann", **given)
    assert list(request.update_mask.paths) == mask
    assert request.request_id
