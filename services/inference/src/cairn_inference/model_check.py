"""What is let in as a model: an ONNX file of known operators, one input and one output of the declared shapes.

A model is a stranger's program. It is read as protobuf only, never unpickled; it may not reach for other files,
nor bring operators of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from cairn_inference.model_store import MAX_MODEL_BYTES
from cairn_inference.scoring import session_options

ALLOWED_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""The standard operators, and those of classical machine learning."""

_PROBE_ROWS = 2


class BadModel(ValueError):
    """The bytes are not a model that may serve; the message says what is wrong and what was expected."""


def check_model(data: bytes, *, dim: int, classes: int) -> None:
    """Check that `data` is a model from features ``(n, dim)`` float32 to probabilities ``(n, classes)`` float32.

    Raises BadModel.
    """
    if len(data) > MAX_MODEL_BYTES:
        raise BadModel(f"The file has {len(data)} bytes; {MAX_MODEL_BYTES} are allowed.")
    model = _parse(data)
    _check_closed(model)
    _check_input(model, dim)
    _check_output(model, classes)
    _check_it_runs(data, dim, classes)


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise BadModel("The file is not ONNX: it cannot be parsed.") from None
    if not model.ir_version or not model.opset_import or not model.graph.node:
        raise BadModel("The file is not ONNX: it has no version, no operator set or no graph.")
    return model


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its control flow."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_closed(model: onnx.ModelProto) -> None:
    """Refuse what reaches outside the file or brings code of its own."""
    if model.functions:
        raise BadModel(f"The model defines {len(model.functions)} functions of its own; none are allowed.")
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.domain not in ALLOWED_DOMAINS:
                raise BadModel(
                    f"The operator {node.op_type} is of the domain {node.domain!r}; allowed are ai.onnx and ai.onnx.ml."
                )
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise BadModel(
                    f"The tensor {tensor.name!r} keeps its data outside the file; that is not allowed."
                )


def _last_dim(value: onnx.ValueInfoProto) -> tuple[int, int]:
    """Rank and last dimension (0 when it is not fixed)."""
    shape = value.type.tensor_type.shape.dim
    return len(shape), shape[-1].dim_value if shape else 0


def _check_tensor(value: onnx.ValueInfoProto, role: str, width: int) -> None:
    if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise BadModel(f"The {role} {value.name!r} is not a float32 tensor.")
    rank, last = _last_dim(value)
    if rank != 2 or last not in {0, width}:
        raise BadModel(
            f"The {role} {value.name!r} has {rank} dimensions, the last of {last}; expected (rows, {width})."
        )


def _check_input(model: onnx.ModelProto, dim: int) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise BadModel(f"The model has {len(inputs)} inputs; expected one, of shape (rows, {dim}).")
    _check_tensor(inputs[0], "input", dim)


def _check_output(model: onnx.ModelProto, classes: int) -> None:
    outputs = list(model.graph.output)
    if len(outputs) != 1:
        raise BadModel(f"The model has {len(outputs)} outputs; expected one, of shape (rows, {classes}).")
    if not outputs[0].type.HasField("tensor_type"):
        raise BadModel(f"The output {outputs[0].name!r} is not a tensor (export it without a ZipMap).")
    _check_tensor(outputs[0], "output", classes)


def _check_it_runs(data: bytes, dim: int, classes: int) -> None:
    """Run it on a few rows: shapes may be left open in the file, and probabilities must be probabilities."""
    try:
        session = onnxruntime.InferenceSession(data, session_options(1), providers=["CPUExecutionProvider"])
        probe = np.zeros((_PROBE_ROWS, dim), dtype=np.float32)
        probe[1] = 0.1
        answer = np.asarray(session.run(None, {session.get_inputs()[0].name: probe})[0])
    except Exception as error:
        # onnxruntime raises classes of its own that share no ancestor; whatever it is, the model does not run.
        raise BadModel(f"The model does not run: {str(error).splitlines()[0][:500]}") from error
    if answer.shape != (_PROBE_ROWS, classes):
        raise BadModel(
            f"For {_PROBE_ROWS} rows the model answers {answer.shape}; expected {(_PROBE_ROWS, classes)}."
        )
    if (
        not np.isfinite(answer).all()
        or (answer < -1e-6).any()
        or np.abs(answer.sum(axis=1) - 1.0).max() > 1e-3
    ):
        raise BadModel("The model's outputs are not probabilities: each row must be 0 to 1 and sum to 1.")
