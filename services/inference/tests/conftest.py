"""Fixtures: a fresh world of real servers for each test, and models that mean no good."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cairn.annotation.v1.annotation_store_pb2_grpc import add_AnnotationStoreServiceServicer_to_server
from cairn.consensus.v1.consensus_pb2_grpc import add_ConsensusServiceServicer_to_server
from cairn.dispatch.v1.task_dispatch_pb2_grpc import add_TaskDispatchServiceServicer_to_server
from cairn_inference import validation_answers
from cairn_inference.__main__ import SERVICE
from cairn_kit.testing import World
from cairn_kit.testing.fixtures import *  # noqa: F403
from services.inference.tests.stage import Blobs, Crowd, Dispatch, Stage


@pytest.fixture
def endless() -> bytes:
    """A model of the right shapes, (rows, 4) to (rows, 3), that never comes to an answer."""
    return _looping(helper.make_node("Identity", ["rows"], ["more"]))


@pytest.fixture
def insatiable() -> bytes:
    """One that doubles its rows until no memory is left."""
    return _looping(helper.make_node("Concat", ["rows", "rows"], ["more"], axis=0))


def _looping(step: onnx.NodeProto) -> bytes:
    """`while True: rows = step(rows)`, and a softmax that is never reached."""
    again = helper.make_node("Identity", ["go_on"], ["go_on_still"])
    body = helper.make_graph(
        [again, step],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on_still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body),
            helper.make_node("MatMul", ["y", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["p"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["m", 3])],
        [
            numpy_helper.from_array(np.ones((4, 3), dtype=np.float32), "weights"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inference")


@pytest.fixture
async def crowd(world: World) -> Crowd:
    servicer = Crowd()
    await world.fake_peer("consensus", servicer, add_ConsensusServiceServicer_to_server)
    return servicer


@pytest.fixture
async def dispatch(world: World, monkeypatch: pytest.MonkeyPatch) -> Dispatch:
    monkeypatch.setattr(validation_answers, "_REST", 0.1)
    servicer = Dispatch()
    await world.fake_peer("task-dispatch", servicer, add_TaskDispatchServiceServicer_to_server)
    return servicer


@pytest.fixture
async def blobs(world: World) -> Blobs:
    servicer = Blobs()
    await world.fake_peer("annotation-store", servicer, add_AnnotationStoreServiceServicer_to_server)
    return servicer


@pytest.fixture
def settings(world: World, embeddings: Path, dispatch: Dispatch) -> dict[str, Any]:
    return {
        "blob_url": f"file://{world.folder}/blobs",
        "work_dir": embeddings,
        "threads": 1,
        "training_interval": 0.1,
        "sampling_key": "a secret of this test",
    }


@pytest.fixture
async def stage(world: World, crowd: Crowd, blobs: Blobs, settings: dict[str, Any]) -> AsyncIterator[Stage]:
    async with world.run(SERVICE, **settings) as service:
        yield Stage(world, service, crowd, blobs)
