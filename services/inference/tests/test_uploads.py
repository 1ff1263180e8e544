"""Whoever uploads models takes a bounded part of the service: few places, little memory, one trial at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from cairn.inference.v1 import inference_pb2 as api
from cairn.inference.v1.inference_pb2_grpc import InferenceServiceStub
from cairn_inference import model_check, uploads
from cairn_inference.domain.features import TEXT_SPEC
from cairn_inference.uploads import Uploads, in_time
from cairn_kit.errors import DeadlineExceeded, ResourceExhausted, from_rpc_error
from cairn_kit.testing import eventually
from services.inference.tests.stage import CLASSES, PROJECT, Stage, created, head, upload


async def test_a_tenant_has_few_places_and_leaves_some_to_others(tmp_path: Path) -> None:
    places = Uploads(tmp_path / "uploads")
    async with AsyncExitStack() as stack:
        for tenant in ("acme", "acme", "globex", "globex", "initech", "initech", "hooli"):
            await stack.enter_async_context(places.place(tenant))
        with pytest.raises(ResourceExhausted, match="2 models of yours"):
            await stack.enter_async_context(places.place("acme"))
        await stack.enter_async_context(places.place("hooli"))
        with pytest.raises(ResourceExhausted, match="0 models of yours are being uploaded"):
            await stack.enter_async_context(places.place("umbrella"))
    async with places.place("acme"), places.place("acme"):
        assert list((tmp_path / "uploads").iterdir()) == [], "a file without a name goes with the process"


@pytest.mark.parametrize("limit", ["_STALLS", "_LASTS"])
async def test_a_stream_that_comes_to_no_end_is_given_up(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, limit, 0.05)

    async def messages() -> AsyncIterator[int]:
        while limit == "_LASTS":
            yield 1
            await asyncio.sleep(0)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlineExceeded, match="must come"):
        async for _ in in_time(messages()):
            pass


async def test_streams_that_wait_keep_no_more_than_their_places(stage: Stage) -> None:
    await stage.world.publish(created())
    await eventually(lambda: stage.service.database.fetchval("SELECT count(*) FROM project"), 1)
    go_on, begun = asyncio.Event(), asyncio.Queue[None]()
    data = head()

    async def slowly() -> AsyncIterator[api.UploadModelVersionRequest]:
        fields = {"parent": f"{PROJECT}/models/mine", "features": TEXT_SPEC.name, "class_ids": CLASSES}
        yield api.UploadModelVersionRequest(header=api.ModelHeader(**fields))
        yield api.UploadModelVersionRequest(chunk=data[:1000])
        await begun.put(None)
        await go_on.wait()
        yield api.UploadModelVersionRequest(chunk=data[1000:])

    waiting = [asyncio.ensure_future(stage.api.UploadModelVersion(slowly())) for _ in range(2)]
    for _ in waiting:
        await begun.get()

    async def refused() -> str:
        try:
            await upload(stage, data)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error).reason
        return ""

    await eventually(refused, "UPLOADS_BUSY")
    go_on.set()
    assert all(version.name for version in await asyncio.gather(*waiting))
    assert await refused() == ""


async def test_models_are_tried_one_after_the_other(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for tenant in ("acme", "globex"):
        await stage.world.publish(created(tenant=tenant))
    await eventually(lambda: stage.service.database.fetchval("SELECT count(*) FROM project"), 2)
    check, now, most = model_check.check_model, 0, 0

    async def counting(*told: Any, **named: Any) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await check(*told, **named)
        finally:
            now -= 1

    monkeypatch.setattr(model_check, "check_model", counting)
    other = Stage(stage.world, stage.service, stage.crowd, stage.blobs)
    other.api = stage.service.stub(InferenceServiceStub, tenant="globex")
    data = head()
    made = await asyncio.gather(*(upload(one, data) for one in (stage, other, stage, other)))
    assert [version.state for version in made] == [api.MODEL_VERSION_STATE_CANDIDATE] * 4
    assert most == 1
