"""Only ONNX of known operators and the declared shapes is let in; each refusal says why."""

import asyncio
import pickle
import signal
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cairn_inference import model_check
from cairn_inference.model_check import BadModel, check_model


def softmax_model(
    dim: int = 4,
    classes: int = 3,
    *,
    op: str = "Softmax",
    domain: str = "",
    kind: int = TensorProto.FLOAT,
    extra_output: bool = False,
    extra_input: bool = False,
) -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.ones((dim, classes), dtype=np.float32), "weights")
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["logits"]),
        helper.make_node(op, ["logits"], ["p"], domain=domain),
    ]
    inputs = [helper.make_tensor_value_info("x", kind, ["n", dim])]
    outputs = [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", classes])]
    if extra_output:
        outputs.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes]))
    if extra_input:
        inputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", dim]))
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weights])
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


async def refused(model: onnx.ModelProto | bytes, words: str) -> None:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(BadModel, match=words):
        await check_model(data, dim=4, classes=3)


async def test_a_good_model_is_let_in() -> None:
    await check_model(softmax_model().SerializeToString(), dim=4, classes=3)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 a zip", pickle.dumps({"a": 1}), b"\x00" * 100, b"hello" * 50]
)
async def test_what_is_not_onnx_is_refused(data: bytes) -> None:
    await refused(data, "not ONNX")


async def test_another_shape_is_refused() -> None:
    await refused(softmax_model(dim=5), r"expected \(rows, 4\)")
    await refused(softmax_model(classes=2), r"expected \(rows, 3\)")
    await refused(softmax_model(kind=TensorProto.DOUBLE), "not a float32 tensor")
    await refused(softmax_model(extra_output=True), "2 outputs")
    await refused(softmax_model(extra_input=True), "2 inputs")


async def test_shapes_left_open_are_tried_out() -> None:
    model = softmax_model(classes=2)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "whatever"
    await refused(model, r"answers \(512, 2\); expected \(512, 3\)")


async def test_operators_of_other_domains_are_refused() -> None:
    await refused(softmax_model(op="Evil", domain="com.example"), "com.example")


async def test_an_operator_inside_control_flow_is_found() -> None:
    inner = helper.make_graph(
        [helper.make_node("Evil", ["logits"], ["z"], domain="com.example")],
        "inner", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 3])],
    )  # fmt: skip
    model = softmax_model()
    model.graph.node.append(helper.make_node("If", ["c"], ["q"], then_branch=inner, else_branch=inner))
    await refused(model, "com.example")


async def test_functions_are_refused() -> None:
    model = softmax_model()
    function = model.functions.add()
    function.name, function.domain = "f", "local"
    await refused(model, "functions of its own")


async def test_data_outside_the_file_is_refused() -> None:
    model = softmax_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    await refused(model, "outside the file")


async def test_what_are_no_probabilities_is_refused() -> None:
    await refused(softmax_model(op="Relu"), "not probabilities")


async def test_a_model_that_does_not_run_is_refused() -> None:
    await refused(softmax_model(op="NoSuchOperator"), "does not run")


async def test_a_model_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_check, "MAX_MODEL_BYTES", 100)
    await refused(softmax_model(), "are allowed")


async def test_a_model_that_never_ends_is_stopped_and_refused(
    endless: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_check, "_TRIAL_SECONDS", 1)
    await refused(endless, "may take 1 s")


async def test_a_model_that_wants_all_memory_is_refused(insatiable: bytes) -> None:
    await refused(insatiable, "does not run: .*allocate memory|may take")


async def test_a_trial_ends_when_nobody_waits_for_it_any_more(
    endless: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = asyncio.create_subprocess_exec, asyncio.Queue[asyncio.subprocess.Process]()

    async def noting(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*arguments, **options)
        await started.put(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noting)
    checking = asyncio.create_task(check_model(endless, dim=4, classes=3))
    trial = await started.get()
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert trial.returncode == -signal.SIGKILL
