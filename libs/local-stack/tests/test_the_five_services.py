"""The real five services on a stack: ready, reachable with the stack's own key, and whole after the worst."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import nats
import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn_kit.auth import Signer
from cairn_kit.auth.keys import PrivateKey
from cairn_kit.events.topology import STREAM
from cairn_kit.testing import eventually
from cairn_stack import SERVICES, PrivateStack, api
from cairn_stack.environment import nats_of
from cairn_stack.home import Home
from cairn_stack.options import Options

CHOICE = schema_pb.Question(
    id="species",
    choice=schema_pb.ChoiceQuestion(classes=[schema_pb.LabelClass(id=c) for c in ("owl", "wren")]),
)
BIRDS = pb.CreateProjectRequest(
    project_id="birds", project=pb.Project(schema=schema_pb.LabelSchema(questions=[CHOICE]))
)


async def call(stack: PrivateStack, method: str, request: Any) -> Any:
    """A call as any client makes it: with addresses and key of the profile, and nothing else."""
    profile = stack.profile
    signer = Signer(PrivateKey.read(Path(profile["issuer_key_file"])), "local")
    token = signer.token(tenant=profile["tenant"], subject="ann", roles=["manager"])
    async with grpc.aio.insecure_channel(profile["services"]["annotation-store"]) as channel:
        answer = getattr(AnnotationStoreServiceStub(channel), method)
        return await answer(
            request, metadata=[("authorization", f"Bearer {token}")], wait_for_ready=True, timeout=30
        )


async def events_on_the_bus(stack: PrivateStack) -> int:
    server = nats_of(Home(stack.home), Options())
    connection = await nats.connect(server.url, token=server.token)
    try:
        info = await connection.jetstream().stream_info(STREAM)
        return info.state.messages
    except nats.js.errors.NotFoundError:
        return 0
    finally:
        await connection.close()


@pytest.mark.timeout(240)
async def test_the_whole_stack_survives_the_loss_of_everything_but_the_database(tmp_path: Path) -> None:
    async with PrivateStack(tmp_path, trace_ratio=1.0) as stack:
        up = stack.status
        assert up.ready
        assert set(up.addresses) == {spec.name for spec in SERVICES}
        created = await call(stack, "CreateProject", BIRDS)
        assert created.name == "projects/birds"
        await eventually(lambda: events_on_the_bus(stack))
        before = await events_on_the_bus(stack)

        await asyncio.to_thread(stack.wipe_jetstream)
        for name in ("annotation-store", "audit", "postgres"):
            await asyncio.to_thread(stack.kill, name)
        again = await asyncio.to_thread(stack.wait_until_ready, 120)
        assert all(
            again.pid(name) != up.pid(name) for name in ("annotation-store", "audit", "postgres", "nats")
        )
        assert (await call(stack, "GetProject", pb.GetProjectRequest(name=created.name))).name == created.name

        await asyncio.to_thread(stack.republish)

        async def all_again() -> bool:
            return await events_on_the_bus(stack) >= before

        await eventually(all_again, timeout=30)
        assert "CreateProject" in stack.spans("annotation-store").read_text()


def test_every_service_is_in_the_catalog_under_its_own_name() -> None:
    for spec in SERVICES:
        assert spec.installed
        assert spec.migrations() is not None, "the stack migrates from where the floor plan has migrations"
    assert api.status(Path("/nowhere")).addresses == {}
