"""Fixtures: a fresh world of real servers for each test, and models that mean no good."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cairn_kit.testing.fixtures import *  # noqa: F403


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
